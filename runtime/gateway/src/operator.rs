//! The operator API: inspect sessions, revoke, drain, pin a mode. It has a token of its own, never a user's.
//!
//! Each action is logged, and so is each request without the token, up to a rate. An address that guesses is soon
//! answered
//! 429. The right token is still accepted from there. It has at least 20 characters, so it cannot be guessed at any
//!      rate, and a stranger behind the same proxy must not lock the operator out.
//!
//! | request | what |
//! | --- | --- |
//! | `GET /operator/health` | counts and mode |
//! | `GET /operator/sessions` | the sessions, a line for each |
//! | `GET /operator/sessions/{subject}` | the state of one session's machines |
//! | `POST /operator/close` | `{"subject", "connection", "code"?}`: close one connection; 4000 is the code of its close |
//! | `POST /operator/revoke` | `{"subject", "credential"?}`: one credential (16 hex digits), or all |
//! | `POST /operator/notice` | `{"subject"?, "thread"?, "id"?, "data"}`: tell one user, or all that have a session |
//! | `POST /operator/mode` | `{"mode": "ready" \| "degraded" \| "emergency" \| null}`: pin it, or let health decide |
//! | `POST /operator/drain` | begin to drain; answers at once |
//!
//! In a cluster, each gateway answers for all gateways, except `health`, `mode` and `drain`, which concern the called
//! gateway alone. If another gateway is needed and does not answer, the response is 503 with its address.
//!
//! With another issuer's tokens, a subject is that issuer's name for its user. With the built-in login it is an
//! account's name, and a new account that reuses the name is another subject ([`accounts`](super::accounts)). A name
//! alone means the current account. A revocation also applies to earlier accounts of that name as long as they may have
//! connections, and a lookup finds their sessions if the current account has none. `ada#2` means only the second
//! account of that name, and `ada#1` the first. An unknown name is answered 404, because a typo must not look like a
//! revocation.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, Path as UrlPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use lockstep::Manager;
use lockstep::internal::private;
use lockstep::manager::{Broadcast, NotAnswered, NotRecorded, NotSent, Sent};
use lockstep::upgrade::bearer;
use lockstep::verify::Revocation;
use lockstep::verify::clock::Clock;
use lockstep::wire::Hex;
use lockstep_model::node::Mode;
use lockstep_model::{Cause, ConnectionId, CredentialId, RunId};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::accounts::Subjects;
use super::answer::Problem;
use super::config::counted as network;
use super::login::audit::Audit;
use super::login::limit::Limiter;
use super::login::{Login, Rate, address};
use super::mode_name;

lockstep::internal::sentence! {
    /// Why there is no operator's token: a sentence that names the file.
    TokenError
}

/// The operator's token. Only its digest is kept, so that the comparison takes the same time for any input.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl core::fmt::Debug for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// Reads the token from a file, or creates a 256-bit one in a file that only its owner can read.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        let fail = |what: &str, error: &dyn core::fmt::Display| {
            format!("cannot {what} the operator's token in {}: {error}", path.display())
        };
        let token = match std::fs::read_to_string(path) {
            Ok(token) => token.trim().to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let bytes = lockstep::internal::random_bytes::<32>()
                    .map_err(|error| TokenError::because(fail("make", &error), error))?;
                let token = URL_SAFE_NO_PAD.encode(bytes);
                private::write(path, format!("{token}\n").as_bytes())
                    .map_err(|error| TokenError::because(fail("write", &error), error))?;
                token
            }
            Err(error) => return Err(TokenError::because(fail("read", &error), error)),
        };
        if token.len() < 20 {
            return Err(fail("use", &"it must have at least 20 characters").into());
        }
        Ok(Self(Sha256::digest(token.as_bytes()).into()))
    }

    fn admits(&self, presented: &str) -> bool {
        // Digests of different tokens differ everywhere, so the position of the first difference reveals nothing.
        let digest: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
        digest == self.0
    }
}

/// The rate of wrong tokens from one address.
const GUESSES: Rate = Rate { burst: 20, refill: Duration::from_secs(5) };
/// The most addresses whose guesses are counted.
const MAX_GUESSERS: usize = 4096;
/// The most characters of a path that are logged.
const MAX_PATH: usize = 64;

/// Checks the operator's token.
struct Guard {
    token: Token,
    guesses: Limiter<IpAddr>,
    audit: Audit,
}

/// The meaning of a subject.
#[derive(Clone)]
pub(super) enum SubjectSource {
    /// A subject is a user of another issuer.
    OfTheIssuer,
    /// A subject is an account of the built-in login.
    Accounts(Arc<Login>),
}

impl SubjectSource {
    async fn meant(&self, text: &str) -> Result<Subjects, Problem> {
        let meant = match self {
            Self::OfTheIssuer => return Ok(Subjects::one(text)),
            Self::Accounts(login) => login.meant(text).await,
        };
        meant.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "unknown_subject", "there is no such account"))
    }
}

/// What the routes share.
#[derive(Clone)]
struct Parts {
    manager: Manager,
    subjects: SubjectSource,
}

impl FromRef<Parts> for Manager {
    fn from_ref(parts: &Parts) -> Self {
        parts.manager.clone()
    }
}

/// The target of an action, for the log.
#[derive(Clone)]
struct About(String);

pub(super) fn routes(manager: Manager, subjects: SubjectSource, token: Token) -> Router {
    let clock = Clock::monotonic();
    let guesses = Limiter::new(GUESSES, MAX_GUESSERS, clock.clone());
    let guarding = Arc::new(Guard { token, guesses, audit: Audit::new(clock) });
    Router::new()
        .route("/health", get(health))
        .route("/sessions", get(sessions))
        .route("/sessions/{subject}", get(session))
        .route("/close", post(close))
        .route("/revoke", post(revoke))
        .route("/notice", post(notice))
        .route("/mode", post(mode))
        .route("/drain", post(drain))
        .with_state(Parts { manager, subjects })
        .layer(middleware::from_fn_with_state(guarding, guard))
}

async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Result<Response, Problem> {
    let address = address(&request);
    let Guard { token, guesses, audit } = &*guard;
    let Some(presented) = bearer(request.headers()) else {
        let missing = "send the operator's token, from the file operator.token of the data directory, as \
                       `Authorization: Bearer …`";
        audit.operator_refused("no_token", path(&request), address);
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", missing));
    };
    if !token.admits(presented) {
        audit.operator_refused("wrong_token", path(&request), address);
        guesses.take(&network(address)).map_err(Problem::too_often)?;
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "this is not the operator's token"));
    }
    let action = match (request.method(), path(&request)) {
        (&Method::POST, "/close") => Some("close"),
        (&Method::POST, "/revoke") => Some("revoke"),
        (&Method::POST, "/notice") => Some("notice"),
        (&Method::POST, "/mode") => Some("mode"),
        (&Method::POST, "/drain") => Some("drain"),
        (&Method::GET, path) if path.starts_with("/sessions") => Some("look"),
        _ => None,
    };
    let response = next.run(request).await;
    if let Some(action) = action {
        let about = response.extensions().get::<About>().map_or("", |about| &*about.0);
        audit.operator(action, about, response.status().as_u16(), address);
    }
    Ok(response)
}

fn path(request: &Request) -> &str {
    let path = request.uri().path();
    path.char_indices().nth(MAX_PATH).map_or(path, |(end, _)| &path[..end])
}

async fn health(State(manager): State<Manager>) -> Json<Value> {
    let health = manager.health();
    Json(json!({
        "mode": health.mode,
        "stopped": health.stopped,
        "connections": health.connections,
        "sessions": health.sessions,
        "runs": health.runs,
        "timers": health.timers,
    }))
}

async fn sessions(State(manager): State<Manager>) -> Result<Json<Value>, Problem> {
    let (sessions, missing) = manager.describe_sessions().await.map_err(|why| not_answered(&why))?;
    let mut list = json!({ "sessions": sessions });
    if !missing.is_empty() {
        list["not_answered"] = missing.iter().map(ToString::to_string).collect();
    }
    Ok(Json(list))
}

async fn session(State(parts): State<Parts>, UrlPath(subject): UrlPath<String>) -> Result<Json<Value>, Problem> {
    for subject in parts.subjects.meant(&subject).await?.all() {
        if let Some(state) = parts.manager.user(subject).describe().await.map_err(|why| not_answered(&why))? {
            return Ok(Json(state));
        }
    }
    Err(Problem::new(StatusCode::NOT_FOUND, "no_session", "this user has no session"))
}

/// 503 with the address of the gateway that does not answer.
fn not_answered(why: &NotAnswered) -> Problem {
    let code = match why {
        NotAnswered::Member { .. } => "gateway_unreachable",
        NotAnswered::Unavailable(_) | _ => "log_unavailable",
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, why.to_string())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseOne {
    subject: String,
    connection: String,
    code: Option<u16>,
}

async fn close(
    State(parts): State<Parts>,
    Json(asked): Json<CloseOne>,
) -> Result<(Extension<About>, StatusCode), Problem> {
    let wrong = |message: &'static str| Problem::new(StatusCode::BAD_REQUEST, "invalid_field", message);
    let id = asked.connection.parse::<Hex>().map(ConnectionId::from);
    let id =
        id.map_err(|_| wrong("`connection` must be 16 hex digits, as GET /operator/sessions/{subject} shows it"))?;
    let code = asked.code.unwrap_or(Cause::GoingAway.code());
    let cause = Cause::ALL.iter().find(|cause| cause.code() == code && code >= 4000);
    let cause = *cause.ok_or_else(|| wrong("`code` must be a close code of the protocol from 4000 on"))?;
    for subject in parts.subjects.meant(&asked.subject).await?.all() {
        if parts.manager.user(subject).close(id, cause).await.map_err(|why| not_answered(&why))? {
            let about = About(format!("{} {}", asked.subject, asked.connection));
            return Ok((Extension(about), StatusCode::NO_CONTENT));
        }
    }
    Err(Problem::new(StatusCode::NOT_FOUND, "no_connection", "this user has no connection of this id"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    subject: String,
    credential: Option<String>,
}

async fn revoke(
    State(parts): State<Parts>,
    Json(asked): Json<Revoke>,
) -> Result<(Extension<About>, StatusCode), Problem> {
    let about =
        About(asked.credential.as_ref().map_or_else(|| asked.subject.clone(), |id| format!("{} {id}", asked.subject)));
    let wrong = |_| Problem::new(StatusCode::BAD_REQUEST, "invalid_field", "`credential` must be 16 hex digits");
    let id = asked.credential.map(|id| u64::from_str_radix(&id, 16)).transpose().map_err(wrong)?.map(CredentialId);
    let meant = parts.subjects.meant(&asked.subject).await?;
    let revoked = meant.all().map(|subject| {
        let (manager, subject) = (&parts.manager, Arc::clone(subject));
        let revocation = match id {
            None => Revocation::Subject(subject),
            Some(id) => Revocation::Credential(subject, id),
        };
        async move { manager.revoke(&revocation).await }
    });
    // Each revocation takes effect before it is on disk, and one that cannot be recorded delays no other.
    let revoked: Result<(), NotRecorded> = join_all(revoked).await.into_iter().collect();
    revoked.map_err(|why| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_recorded", why.to_string()))?;
    Ok((Extension(about), StatusCode::NO_CONTENT))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Say {
    subject: Option<String>,
    thread: Option<String>,
    /// The id of a notice to all: repeated, it is sent once.
    id: Option<String>,
    data: Value,
}

async fn notice(
    State(Parts { manager, subjects }): State<Parts>,
    Json(asked): Json<Say>,
) -> Result<(Extension<About>, Json<Value>), Problem> {
    let Say { subject, thread, id, data } = asked;
    let wrong = |message: &'static str| Problem::new(StatusCode::BAD_REQUEST, "invalid_field", message);
    let id = id.map(|id| id.parse::<Hex>()).transpose().map_err(|_| wrong("`id` must be 16 lower-case hex digits"))?;
    if (subject.is_some() || thread.is_some()) && id.is_some() {
        return Err(wrong("an `id` is for a notice to all users"));
    }
    let about = About(subject.clone().unwrap_or_else(|| "all users".to_owned()));
    let subject = match subject {
        Some(text) => {
            // A notice for the current account is not for an earlier one of that name.
            let gone = || Problem::new(StatusCode::NOT_FOUND, "unknown_subject", "this account no longer exists");
            Some(subjects.meant(&text).await?.now.ok_or_else(gone)?)
        }
        None => None,
    };
    let told = match (subject, thread) {
        (Some(subject), Some(thread)) => one(manager.user(&subject).send_to_thread(&thread, &data).await),
        (Some(subject), None) => one(manager.user(&subject).send(&data).await),
        (None, None) => all(match id {
            Some(id) => manager.broadcast_as(RunId::from(id), &data).await,
            None => manager.broadcast(&data).await,
        }),
        (None, Some(_)) => return Err(wrong("a `thread` belongs to one user: name the `subject` too")),
    };
    match told {
        Ok((sent, failed)) => Ok((Extension(about), Json(json!({ "sent": sent, "failed": failed })))),
        Err(NotSent::NotJson) => Err(wrong("`data` must be a JSON object")),
        Err(NotSent::NotShared) => Err(wrong("an `id` needs a cluster: one gateway does not keep which ids were sent")),
        Err(why @ (NotSent::Unavailable(_) | NotSent::Draining | NotSent::Lost | _)) => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_sent", why.to_string()))
        }
    }
}

/// How many users were told, and for how many it failed.
fn one(sent: Result<Sent, NotSent>) -> Result<(usize, usize), NotSent> {
    sent.map(|_| (1, 0))
}

fn all(told: Result<Broadcast, NotSent>) -> Result<(usize, usize), NotSent> {
    told.map(|told| (told.sent, told.failed))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    mode: Option<Mode>,
}

async fn mode(
    State(manager): State<Manager>,
    Json(asked): Json<Pin>,
) -> Result<(Extension<About>, Json<Value>), Problem> {
    let elsewhere = match asked.mode {
        Some(Mode::Draining) => Some("draining cannot be pinned: use POST /operator/drain"),
        Some(Mode::HandingOver) => Some("handing over cannot be pinned: start `lockstep serve --take-over`"),
        Some(Mode::Ready | Mode::Degraded | Mode::Emergency) | None => None,
    };
    if let Some(message) = elsewhere {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_field", message));
    }
    manager.pin(asked.mode);
    let about = About(asked.mode.map_or_else(|| "by health".to_owned(), |mode| mode_name(mode).to_string()));
    Ok((Extension(about), health(State(manager)).await))
}

async fn drain(State(manager): State<Manager>) -> StatusCode {
    tokio::spawn(async move { manager.drain().await });
    StatusCode::ACCEPTED
}
