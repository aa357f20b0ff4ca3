//! The built-in login, for a gateway that has no issuer of its own: accounts, access tokens, refresh cookies, tickets.
//!
//! | route | body, header | answer |
//! | --- | --- | --- |
//! | `POST /auth/login` | `{username, password}` | 200 `{token, expires_in, user}` and the cookie |
//! | `POST /auth/refresh` | the cookie | the same |
//! | `POST /auth/logout` | the cookie, `{everywhere?}` | 204, and the cookie is gone |
//! | `POST /ws/ticket` ([`ticket`]) | `Authorization: Bearer` | 200 `{ticket, expires_in}` |
//!
//! The access token is short-lived and kept by the page; the cookie (`sessions.rs`) is seen by these routes alone. One
//! login is one credential: its tokens share the claim `sid`, and revoking that ends them all. A login ends with its
//! account, with a change of its password, and with a revocation of its user or itself, whoever orders that. What the
//! command line does to accounts is noticed by [`Login::watch`].
//!
//! | lock | under it may be taken |
//! | --- | --- |
//! | the sessions' (async) | the accounts', the revocations' |
//!
//! A token is issued under the sessions' lock, after the login was found good. So of a refresh and a logout that race,
//! either the refresh finds no login, or its token is older than the revocation that follows.

use core::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::post;
use serde::{Deserialize, Serialize};

use self::limit::Limiter;
use self::sessions::{Lasting, Presented, Seal, SessionId, Sessions, Turned};
use super::accounts::{Accounts, is_name};
use super::answer::{Problem, body, nothing, ok};
use super::config::counted as network;
use crate::payload::Token;
use crate::upgrade::origin_allowed;
use crate::verify::clock::{Clock, millis};
use crate::verify::jwt::JwtVerifier;
use crate::verify::revoked::Revocations;
use crate::verify::{BoxFuture, Revocation, Verifier, credential_id};

mod issuer;
mod limit;
mod sessions;
pub mod ticket;
mod watch;

pub use issuer::{Issuer, KEY_FILE};
pub use limit::Rate;
pub use ticket::{TicketDesk, ticket_routes};

/// Accounts and addresses of which it is known how often they tried.
const MAX_TRIERS: usize = 16_384;

/// How the login behaves.
#[derive(Clone, Debug)]
pub struct LoginConfig {
    /// For how long an access token is good.
    pub access_lifetime: Duration,
    /// For how long a login lasts that is not used.
    pub idle: Duration,
    /// For how long a login lasts that is used. Revocations must be remembered for as long.
    pub longest: Duration,
    /// For how long the cookie before the present one is still taken for a second tab, or for an answer that was lost.
    pub grace: Duration,
    /// Whether browsers come by TLS, here or at a proxy: cookies are then sent that way only.
    pub secure: bool,
    /// The path of the cookie, below which the routes are as browsers see it.
    pub path: String,
    /// Origins of other hosts that may log in, as `https://chat.example.org`.
    pub allowed_origins: Vec<String>,
    /// How often an account may be tried with a wrong password.
    pub per_account: Rate,
    /// How often an address may try with a wrong password. 64 bits of an IPv6 address are one address.
    pub per_address: Rate,
    /// How often one login may be refreshed.
    pub per_login: Rate,
}

impl Default for LoginConfig {
    fn default() -> Self {
        Self {
            access_lifetime: Duration::from_mins(15),
            idle: Duration::from_hours(24),
            longest: Duration::from_hours(30 * 24),
            grace: Duration::from_secs(10),
            secure: false,
            path: "/auth".to_owned(),
            allowed_origins: Vec::new(),
            per_account: Rate { burst: 10, refill: Duration::from_secs(30) },
            per_address: Rate { burst: 20, refill: Duration::from_secs(5) },
            per_login: Rate { burst: 60, refill: Duration::from_secs(2) },
        }
    }
}

/// The address of a request's client, as an extension of the request, for a server that knows it better than
/// [`ConnectInfo`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// Who carries out the revocations of a logout: writes them down, and closes the connections.
pub trait Revoker: Send + Sync + 'static {
    /// When this returns, what is revoked is good for nothing, and nothing is connected with it.
    fn revoke(&self, revocation: Revocation) -> BoxFuture<'_, Result<(), String>>;
}

/// The built-in login.
pub struct Login {
    config: LoginConfig,
    accounts: Arc<Accounts>,
    issuer: Issuer,
    verifier: Arc<JwtVerifier>,
    revocations: Arc<Revocations>,
    revoker: OnceLock<Arc<dyn Revoker>>,
    sessions: Arc<tokio::sync::Mutex<Sessions>>,
    seal: Seal,
    by_account: Limiter<String>,
    by_address: Limiter<IpAddr>,
    by_login: Limiter<SessionId>,
    clock: Clock,
}

#[derive(Deserialize)]
struct Credentials {
    username: String,
    password: String,
}

#[derive(Default, Deserialize)]
struct Logout {
    #[serde(default)]
    everywhere: bool,
}

#[derive(Serialize)]
struct LoggedIn<'a> {
    token: &'a str,
    expires_in: u64,
    user: &'a str,
}

/// What a login or a refresh yields.
struct Entry {
    user: Arc<str>,
    token: Token,
    cookie: String,
}

fn wrong_credentials() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "wrong_credentials", "no such user, or another password")
}

fn no_session() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "no_session", "log in first")
}

/// Does it all, also if nobody waits for the answer any more: half a logout would leave tokens that are still good.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(Problem::unavailable(&format!("the login: {error}"))))
}

impl Login {
    /// The login whose key and sessions are in that directory; without one, they end with the process.
    ///
    /// # Errors
    ///
    /// A sentence for the operator: a file that cannot be used, revocations that are forgotten before a login ends.
    pub fn open(
        directory: Option<&Path>,
        config: LoginConfig,
        accounts: Arc<Accounts>,
        revocations: Arc<Revocations>,
        clock: Clock,
    ) -> Result<Self, String> {
        if config.longest > revocations.retention() {
            return Err("logins last longer than their revocations are remembered".into());
        }
        let issuer = Issuer::open(directory, config.access_lifetime, Arc::clone(&revocations), clock.clone())?;
        let verifier = Arc::new(issuer.verifier()?);
        let lasting = Lasting { idle: config.idle, longest: config.longest, grace: config.grace };
        let sessions = Sessions::open(directory, lasting, clock.now())?;
        Ok(Self {
            seal: Seal::new(issuer.secret()),
            sessions: Arc::new(tokio::sync::Mutex::new(sessions)),
            by_account: Limiter::new(config.per_account, MAX_TRIERS, clock.clone()),
            by_address: Limiter::new(config.per_address, MAX_TRIERS, clock.clone()),
            by_login: Limiter::new(config.per_login, MAX_TRIERS, clock.clone()),
            revoker: OnceLock::new(),
            config,
            accounts,
            issuer,
            verifier,
            revocations,
            clock,
        })
    }

    /// The verifier of the tokens that are issued here.
    #[must_use]
    pub fn verifier(&self) -> Arc<JwtVerifier> {
        Arc::clone(&self.verifier)
    }

    /// The issuer of the tokens.
    #[must_use]
    pub const fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Logs out through this from now on. Without it, tokens are revoked but connections stay until theirs expires. Only
    /// the first call counts.
    pub fn revoke_through(&self, revoker: Arc<dyn Revoker>) {
        let _ = self.revoker.set(revoker);
    }

    async fn log_in(self: &Arc<Self>, request: Request) -> Result<Response, Problem> {
        self.check_origin(request.headers())?;
        let address = address(&request);
        let Credentials { username, password } = body(request, None).await?;
        self.by_address.take(&address).map_err(Problem::too_often)?;
        // No account is called what is not a name, so that it needs no bucket.
        if is_name(&username) {
            self.by_account.take(&username).map_err(Problem::too_often)?;
        }
        let account = self
            .accounts
            .verify(&username, &password)
            .await
            .map_err(|error| Problem::unavailable(&error.to_string()))?;
        let account = account.ok_or_else(wrong_credentials)?;
        self.by_account.give_back(&username);
        self.by_address.give_back(&address);
        let entry = self.with_sessions(move |login, sessions| {
            // It may have changed while the password was hashed, and have been looked at.
            if !login.accounts.look().map_err(|error| error.to_string())?.has(&account) {
                return Ok(None);
            }
            let user = Arc::clone(&account.name);
            let (id, turn) = sessions.begin(account, login.revocations.latest(), login.clock.now())?;
            login.entry(user, &id, turn).map(Some)
        });
        let entry = entry.await.map_err(|reason| Problem::unavailable(&reason))?.ok_or_else(wrong_credentials)?;
        tracing::info!(user = %entry.user, "logged in");
        Ok(self.welcome(&entry))
    }

    async fn refresh(self: &Arc<Self>, headers: &HeaderMap) -> Result<Response, Problem> {
        self.check_origin(headers)?;
        let presented = self.presented(headers).ok_or_else(no_session)?;
        self.by_login.take(&presented.id).map_err(Problem::too_often)?;
        let entry = to_the_end(Arc::clone(self).turn(presented)).await?;
        Ok(self.welcome(&entry))
    }

    /// The next token and cookie of a login that is good; one that is not has ended.
    async fn turn(self: Arc<Self>, presented: Presented) -> Result<Entry, Problem> {
        let id = presented.id.clone();
        let turned = self.with_sessions(move |login, sessions| {
            // Looked at first: a login that is not good does not get a turn.
            if let Some((session, _)) = sessions.look(&presented, login.clock.now())
                && !login.is_good(&presented.id, &session)?
            {
                sessions.end(&presented.id)?;
                return Ok((Turned::Closed(session), None));
            }
            let turned = sessions.turn(&presented, login.clock.now())?;
            let entry = match &turned {
                Turned::Good(session, turn) => Some(login.entry(Arc::clone(&session.user), &presented.id, *turn)?),
                Turned::Unknown | Turned::Closed(_) | Turned::Reused(_) => None,
            };
            Ok((turned, entry))
        });
        let ended = match turned.await.map_err(|reason| Problem::unavailable(&reason))? {
            (Turned::Good(..), Some(entry)) => return Ok(entry),
            (Turned::Reused(session), _) => {
                tracing::warn!(user = %session.user, "a refresh cookie was used twice: the login has ended");
                session
            }
            (Turned::Closed(session), _) => session,
            (Turned::Good(..) | Turned::Unknown, _) => return Err(no_session()),
        };
        let revoked = self.revoke(Revocation::Credential(ended.user, credential_id(&id))).await;
        revoked.map_err(|reason| Problem::unavailable(&reason))?;
        Err(no_session())
    }

    async fn log_out(self: &Arc<Self>, request: Request) -> Result<Response, Problem> {
        self.check_origin(request.headers())?;
        let presented = self.presented(request.headers());
        let Logout { everywhere } = body(request, Some(Logout::default())).await?;
        if let Some(presented) = presented {
            to_the_end(Arc::clone(self).end(presented, everywhere)).await?;
        }
        let mut response = nothing();
        self.set_cookie(&mut response, "", 0);
        Ok(response)
    }

    /// Ends a login, or all of its user's, and revokes what was issued for it.
    async fn end(self: Arc<Self>, presented: Presented, everywhere: bool) -> Result<(), Problem> {
        let ended = self.with_sessions(move |login, sessions| {
            let Some((session, good)) = sessions.look(&presented, login.clock.now()) else { return Ok(None) };
            // A cookie that was replaced long ago speaks for its own login only.
            let written = if everywhere && good {
                sessions.end_all(&session.user)
            } else {
                sessions.end(&presented.id).map(drop)
            };
            let revocation = if everywhere && good {
                Revocation::Subject(session.user)
            } else {
                Revocation::Credential(session.user, credential_id(&presented.id))
            };
            Ok(Some((revocation, written)))
        });
        if let Some((revocation, written)) = ended.await.map_err(|reason| Problem::unavailable(&reason))? {
            self.revoke(revocation).await.map_err(|reason| Problem::unavailable(&reason))?;
            written.map_err(|reason| Problem::unavailable(&reason))?;
        }
        Ok(())
    }

    /// Whether the account of a login is as it was, and nothing of it was revoked.
    fn is_good(&self, id: &str, session: &sessions::Session) -> Result<bool, String> {
        let revoked = self.revocations.credential(&session.user, credential_id(id))
            || self.revocations.subject(&session.user).is_some_and(|instant| session.r#gen < instant);
        let accounts = self.accounts.look().map_err(|error| error.to_string())?;
        Ok(accounts.has(&session.account()) && !revoked)
    }

    fn entry(&self, user: Arc<str>, id: &str, turn: u64) -> Result<Entry, String> {
        let token = self.issuer.issue(&user, id)?;
        Ok(Entry { user, token, cookie: self.seal.cookie(id, turn) })
    }

    async fn revoke(&self, revocation: Revocation) -> Result<(), String> {
        match self.revoker.get() {
            Some(revoker) => revoker.revoke(revocation).await,
            None => self.verifier.revoke(&revocation).await,
        }
    }

    /// Does something with the sessions, and their file, away from the tasks. What was begun comes to its end.
    async fn with_sessions<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, &mut Sessions) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let login = Arc::clone(self);
        let mut sessions = Arc::clone(&self.sessions).lock_owned().await;
        let task = tokio::task::spawn_blocking(move || work(&login, &mut sessions));
        task.await.unwrap_or_else(|error| Err(format!("the sessions: {error}")))
    }

    fn welcome(&self, entry: &Entry) -> Response {
        let expires_in = self.config.access_lifetime.as_secs();
        let mut response = ok(&LoggedIn { token: entry.token.expose(), expires_in, user: &entry.user });
        self.set_cookie(&mut response, &entry.cookie, millis(self.config.idle) / 1000);
        response
    }

    fn set_cookie(&self, response: &mut Response, value: &str, seconds: u64) {
        let (name, secure) = (self.cookie_name(), if self.config.secure { "; Secure" } else { "" });
        let path = &self.config.path;
        let cookie = format!("{name}={value}; Path={path}; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
        let mut cookie = HeaderValue::from_str(&cookie).expect("base64url and digits are a header's value");
        cookie.set_sensitive(true);
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }

    fn presented(&self, headers: &HeaderMap) -> Option<Presented> {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, value) = pairs.find(|(name, _)| *name == self.cookie_name())?;
        self.seal.open(value)
    }

    /// Browsers take a cookie of the first name by TLS only, whoever sends it.
    const fn cookie_name(&self) -> &'static str {
        if self.config.secure { "__Secure-lockstep_refresh" } else { "lockstep_refresh" }
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let allowed = match (origins.next(), origins.next()) {
            (None, _) => true,
            (Some(origin), None) => {
                origin.to_str().is_ok_and(|origin| origin_allowed(Some(origin), host, &self.config.allowed_origins))
            }
            (Some(_), Some(_)) => false,
        };
        let problem = Problem::new(StatusCode::FORBIDDEN, "forbidden_origin", "not from a page of this origin");
        if allowed { Ok(()) } else { Err(problem) }
    }
}

/// The routes of the login.
pub fn routes<S>(login: Arc<Login>) -> Router<S> {
    async fn log_in(State(login): State<Arc<Login>>, request: Request) -> Result<Response, Problem> {
        counted("login", login.log_in(request).await)
    }
    async fn refresh(State(login): State<Arc<Login>>, headers: HeaderMap) -> Result<Response, Problem> {
        counted("refresh", login.refresh(&headers).await)
    }
    async fn log_out(State(login): State<Arc<Login>>, request: Request) -> Result<Response, Problem> {
        counted("logout", login.log_out(request).await)
    }
    Router::new()
        .route("/auth/login", post(log_in))
        .route("/auth/refresh", post(refresh))
        .route("/auth/logout", post(log_out))
        .with_state(login)
}

/// Counts how a request to a route ended.
fn counted(route: &'static str, answer: Result<Response, Problem>) -> Result<Response, Problem> {
    let outcome = answer.as_ref().map_or_else(Problem::code, |_| "done");
    metrics::counter!("lockstep_logins_total", "route" => route, "outcome" => outcome).increment(1);
    answer
}

/// Who asks, as far as rates go. Everybody is one where nobody is known.
fn address(request: &Request) -> IpAddr {
    let extensions = request.extensions();
    let peer = extensions.get::<Peer>().map(|peer| peer.0);
    let socket = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    peer.or(socket).map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), network)
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("config", &self.config).finish_non_exhaustive()
    }
}
