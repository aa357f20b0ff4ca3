//! The built-in login, for a gateway without an issuer of its own: accounts, access tokens, refresh cookies, tickets.
//!
//! | route | body, header | answer |
//! | --- | --- | --- |
//! | `POST /auth/login` | `{username, password}` | 200 `{token, expires_in, user}` and the cookie |
//! | `POST /auth/refresh` | the cookie | the same |
//! | `POST /auth/logout` | the cookie, `{everywhere?}` | 204, and the cookie is removed |
//! | `POST /ws/ticket` ([`ticket`]) | `Authorization: Bearer` | 200 `{ticket, expires_in}` |
//!
//! The access token is short-lived and kept by the page; only these routes see the cookie. One login is one credential:
//! its tokens share the claim `sid`, and are valid as long as the login is. [`lockstep_model::login`] decides about
//! logins and when a request is answered; this module is the HTTP around it. [`Login::watch`] notices changes that the
//! command line makes to accounts.
//!
//! Every request is answered within a deadline: if the disk does not answer, the response is 503.
//!
//! In a cluster, accounts, logins, tickets and the key are in the engine of its log, and each gateway serves each login.

use core::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::post;
use lockstep::BoxFuture;
use lockstep::internal::gateways::Shared;
use lockstep::internal::millis;
use lockstep::payload::Token;
use lockstep::upgrade::origin_allowed;
use lockstep::verify::clock::Clock;
use lockstep::verify::jwt::JwtVerifier;
use lockstep::verify::revoked::{DEADLINE, Revocations};
use lockstep::verify::{Revocation, Verifier, credential_id};
use lockstep_model::CredentialId;
use lockstep_model::login::attempts::Tries;
use lockstep_model::login::{Answer, Input, Reach, Why};
use serde::{Deserialize, Serialize};

use self::audit::Audit;
use self::closes::Closes;
use self::cookie::{Presented, Seal};
use self::keeper::{Directory, Keeper};
use self::limit::{Limiter, PasswordAttempts};
use self::shared::{SharedLogins, SharedVerifier};
use super::accounts::{AccountError, Accounts, SharedAccounts, is_name};
use super::answer::{Problem, body, nothing, ok};
use super::config::counted as network;

pub(super) mod audit;
mod closes;
mod cookie;
mod issuer;
mod keeper;
pub(super) mod limit;
mod settings;
mod shared;
pub mod ticket;
mod watch;

pub use issuer::{Issuer, KEY_FILE};
pub use limit::Rate;
pub use lockstep::upgrade::ClientAddress;
pub use settings::LoginConfig;
pub use ticket::{TicketService, ticket_routes};

/// The most accounts, and the most addresses, whose attempts are counted.
const MAX_TRIERS: usize = 16_384;

lockstep::internal::sentence! {
    /// Why the built-in login cannot be used: a sentence for the operator.
    LoginError
}

lockstep::internal::sentence! {
    /// Why connections are not closed, or data is not erased. The login repeats the request.
    RevokeError
}

/// Closes the connections of logins that have ended.
pub trait Revoker: Send + Sync + 'static {
    /// Closes everything that is connected with a revoked credential before it returns. The revocation is already
    /// recorded.
    fn revoke(&self, revocation: Revocation) -> BoxFuture<'_, Result<(), RevokeError>>;

    /// Erases all data of a removed account's subject before it returns.
    fn erase(&self, subject: Arc<str>) -> BoxFuture<'_, Result<(), RevokeError>> {
        let _ = subject;
        Box::pin(core::future::ready(Err(RevokeError::new("erasing a user is not supported here"))))
    }
}

/// The built-in login.
pub struct Login {
    config: LoginConfig,
    keeper: Keeper,
    issuer: Issuer,
    verifier: Arc<JwtVerifier>,
    closes: Arc<Closes>,
    seal: Seal,
    attempts: PasswordAttempts,
    by_login: Limiter<CredentialId>,
    audit: Arc<Audit>,
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
struct LoggedInBody<'a> {
    token: &'a str,
    expires_in: u64,
    user: &'a str,
}

/// The result of a login or a refresh.
struct LoggedIn {
    user: Arc<str>,
    token: Token,
    cookie: String,
}

/// Why a login was refused.
enum NotLoggedIn {
    Wrong,
    TooOften(Duration),
    Busy,
    Unavailable(String),
}

/// The log's reason for the end of a login, unless its user has ended it or never received it.
const fn reason(why: Why) -> Option<&'static str> {
    match why {
        Why::LoggedOut | Why::GivenUp => None,
        Why::Revoked => Some("revoked"),
        Why::AccountChanged => Some("account_changed"),
        Why::Reused => Some("cookie_reused"),
        Why::Over => Some("over"),
        Why::TooMany => Some("too_many"),
    }
}

fn wrong_credentials() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "wrong_credentials", "the user name or the password is wrong")
}

fn no_session() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "no_session", "log in first")
}

impl Login {
    /// Opens the login with the key in that directory, or without a directory with a key of this process. `revocations`
    /// keeps the logins.
    ///
    /// # Errors
    ///
    /// [`LoginError`]: a file that cannot be used.
    pub fn open(
        directory: Option<&Path>,
        config: LoginConfig,
        accounts: Arc<Accounts>,
        revocations: Arc<Revocations>,
        clock: Clock,
    ) -> Result<Self, LoginError> {
        let issuer = Issuer::open(directory, config.access_lifetime, Arc::clone(&revocations), clock.clone())?;
        let verifier = Arc::new(issuer.verifier()?);
        revocations.serve(config.idle, config.longest);
        let known = accounts.look().map_err(|error| LoginError::because(error.to_string(), error))?;
        let (audit, closes) = (Arc::new(Audit::new(clock.clone())), Arc::new(Closes::default()));
        let (lines, closing, most) = (Arc::clone(&audit), Arc::clone(&closes), config.access_lifetime);
        revocations.on_end(Box::new(move |subject, login, why| {
            if let Some(why) = reason(why) {
                lines.ended(why, &subject);
            }
            closing.begin(subject, login, most);
        }));
        revocations.looked(known.versions());
        let last = Arc::new(Mutex::new(known.clone()));
        let known = Arc::new(tokio::sync::Mutex::new(Some(known)));
        let keeper = Keeper::Directory(Directory { accounts, known, last, revocations });
        Ok(Self::of(config, keeper, issuer, verifier, (audit, closes), clock))
    }

    /// Opens the login of a cluster: accounts, logins and the key are in the engine of its log. `revocations` are those
    /// that were applied here.
    ///
    /// # Errors
    ///
    /// [`LoginError`], if the engine does not answer.
    pub async fn shared(
        config: LoginConfig,
        engine: Shared,
        accounts: Arc<SharedAccounts>,
        revocations: Arc<Revocations>,
        clock: Clock,
    ) -> Result<Self, LoginError> {
        let key = engine.key(KEY_FILE, &issuer::new_key()?).await;
        let key = key.map_err(|error| LoginError::because(error.to_string(), error))?;
        let key = key.try_into().map_err(|_| LoginError::new("the signing key in lockstep.secret is not one"))?;
        let issuer = Issuer::with_key(&key, config.access_lifetime, Arc::clone(&revocations), clock.clone());
        let verifier = Arc::new(issuer.shared_verifier()?);
        let audit = Arc::new(Audit::new(clock.clone()));
        let lifetimes = (config.idle, config.longest);
        let logins = SharedLogins::new(engine, accounts, revocations, lifetimes, Arc::clone(&audit));
        let keeper = Keeper::Cluster(Arc::new(logins));
        Ok(Self::of(config, keeper, issuer, verifier, (audit, Arc::default()), clock))
    }

    fn of(
        config: LoginConfig,
        keeper: Keeper,
        issuer: Issuer,
        verifier: Arc<JwtVerifier>,
        (audit, closes): (Arc<Audit>, Arc<Closes>),
        clock: Clock,
    ) -> Self {
        let tries = Tries { per_network: config.per_address, per_account: config.per_account, keys: MAX_TRIERS };
        Self {
            seal: Seal::new(issuer.secret()),
            attempts: PasswordAttempts::new(tries, clock.clone()),
            by_login: Limiter::new(config.per_login, MAX_TRIERS, clock),
            closes,
            config,
            keeper,
            issuer,
            verifier,
            audit,
        }
    }

    /// The verifier of the gateway: its revocations end the logins too.
    #[must_use]
    pub fn judge(&self) -> Arc<dyn Verifier> {
        let tokens = self.verifier();
        match &self.keeper {
            Keeper::Directory(_) => tokens,
            Keeper::Cluster(logins) => Arc::new(SharedVerifier { tokens, logins: Arc::clone(logins) }),
        }
    }

    /// The verifier of the tokens that this login issues.
    #[must_use]
    pub fn verifier(&self) -> Arc<JwtVerifier> {
        Arc::clone(&self.verifier)
    }

    /// The issuer of the tokens.
    #[must_use]
    pub const fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Closes the connections of logins that end through this login from now on. Otherwise they stay until their token
    /// expires. Only the first call has an effect.
    pub fn revoke_through(&self, revoker: Arc<dyn Revoker>) {
        self.closes.revoke_through(revoker);
    }

    async fn log_in(self: &Arc<Self>, request: Request) -> Result<Response, Problem> {
        self.check_origin(request.headers())?;
        let address = address(&request);
        let Credentials { username, password } = body(request, None).await?;
        let logged_in = self.check_password(&username, &password, address).await;
        let result = match &logged_in {
            Ok(_) => "good",
            Err(NotLoggedIn::Wrong) => "wrong",
            Err(NotLoggedIn::TooOften(_)) => "too_often",
            Err(NotLoggedIn::Busy) => "busy",
            Err(NotLoggedIn::Unavailable(_)) => "unavailable",
        };
        self.audit.login(result, self.keeper.knows(&username).then_some(&*username), address);
        match logged_in {
            Ok(logged_in) => Ok(self.welcome(&logged_in)),
            Err(NotLoggedIn::Wrong) => Err(wrong_credentials()),
            Err(NotLoggedIn::TooOften(wait)) => Err(Problem::too_often(wait)),
            Err(NotLoggedIn::Busy) => Err(Problem::unavailable(&AccountError::Busy.to_string())),
            Err(NotLoggedIn::Unavailable(reason)) => Err(Problem::unavailable(&reason)),
        }
    }

    async fn check_password(
        self: &Arc<Self>,
        username: &str,
        password: &str,
        address: IpAddr,
    ) -> Result<LoggedIn, NotLoggedIn> {
        // An invalid name has no account, so it counts against its network alone.
        let name = is_name(username).then(|| username.to_owned());
        let attempt = self.attempts.begin(network(address), name).map_err(NotLoggedIn::TooOften)?;
        let account = self.keeper.verify(username, password).await;
        // Only a wrong password counts.
        match account {
            Ok(None) => drop(attempt),
            Ok(Some(_)) | Err(_) => attempt.uncount(),
        }
        let account = match account {
            Ok(account) => account.ok_or(NotLoggedIn::Wrong)?,
            Err(AccountError::Busy) => return Err(NotLoggedIn::Busy),
            Err(error) => return Err(NotLoggedIn::Unavailable(error.to_string())),
        };
        // The account may have changed while the password was hashed, and the machine must know that.
        self.look().await.map_err(NotLoggedIn::Unavailable)?;
        let id = Seal::name().map_err(NotLoggedIn::Unavailable)?;
        let (login, version) = (credential_id(&id), account.changed);
        let begun = self.keeper.ask(|ask, now| Input::LogIn {
            ask,
            login,
            subject: Arc::clone(&account.subject),
            version,
            now,
        });
        match begun.await {
            Answer::Admitted { subject, turn } => self.logged_in(subject, &id, turn).map_err(NotLoggedIn::Unavailable),
            Answer::Ended | Answer::Refused => Err(NotLoggedIn::Wrong),
            Answer::Unavailable => Err(NotLoggedIn::Unavailable(self.keeper.failure())),
        }
    }

    async fn refresh(self: &Arc<Self>, headers: &HeaderMap) -> Result<Response, Problem> {
        self.check_origin(headers)?;
        let Presented { id, turn } = self.presented(headers).ok_or_else(no_session)?;
        let login = credential_id(&id);
        self.by_login.take(&login).map_err(Problem::too_often)?;
        // Accounts that cannot be read end nothing: the last read counts.
        let _ = self.look().await;
        match self.keeper.ask(|ask, now| Input::Refresh { ask, login, turn, now }).await {
            Answer::Admitted { subject, turn } => {
                let logged_in = self.logged_in(subject, &id, turn).map_err(|reason| Problem::unavailable(&reason))?;
                Ok(self.welcome(&logged_in))
            }
            Answer::Ended => {
                self.wait_for_closes(Some(login)).await?;
                Err(no_session())
            }
            Answer::Refused => Err(no_session()),
            Answer::Unavailable => Err(Problem::unavailable(&self.keeper.failure())),
        }
    }

    async fn log_out(self: &Arc<Self>, request: Request) -> Result<Response, Problem> {
        self.check_origin(request.headers())?;
        let presented = self.presented(request.headers());
        let Logout { everywhere } = body(request, Some(Logout::default())).await?;
        if let Some(Presented { id, turn }) = presented {
            let (login, reach) = (credential_id(&id), if everywhere { Reach::Everywhere } else { Reach::This });
            match self.keeper.ask(|ask, _| Input::LogOut { ask, login, turn, reach }).await {
                Answer::Ended => {}
                Answer::Admitted { .. } | Answer::Refused | Answer::Unavailable => {
                    return Err(Problem::unavailable(&self.keeper.failure()));
                }
            }
            self.wait_for_closes(Some(login).filter(|_| !everywhere)).await?;
        }
        let mut response = nothing();
        self.set_cookie(&mut response, "", 0);
        Ok(response)
    }

    async fn wait_for_closes(&self, login: Option<CredentialId>) -> Result<(), Problem> {
        let closed = tokio::time::timeout(DEADLINE, self.closes.closed(login)).await;
        closed.map_err(|_| Problem::unavailable("the connections of an ended login are not closed yet"))
    }

    fn logged_in(&self, user: Arc<str>, id: &str, turn: u64) -> Result<LoggedIn, String> {
        let token = self.issuer.issue(&user, id).map_err(|error| error.to_string())?;
        Ok(LoggedIn { user, token, cookie: self.seal.cookie(id, turn) })
    }

    fn welcome(&self, logged_in: &LoggedIn) -> Response {
        let expires_in = self.config.access_lifetime.as_secs();
        let mut response = ok(&LoggedInBody { token: logged_in.token.expose(), expires_in, user: &logged_in.user });
        self.set_cookie(&mut response, &logged_in.cookie, millis(self.config.idle) / 1000);
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
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        // A browser may have several cookies of one name, such as one from another host of its domain. Only ours has a
        // valid MAC.
        pairs.filter(|(name, _)| *name == self.cookie_name()).find_map(|(_, value)| self.seal.open(value))
    }

    /// Browsers accept a cookie with the first name only over TLS, from any server.
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
        let problem =
            Problem::new(StatusCode::FORBIDDEN, "forbidden_origin", "the request comes from a page of another origin");
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

/// Counts a request to a route by its outcome.
fn counted(route: &'static str, answer: Result<Response, Problem>) -> Result<Response, Problem> {
    let outcome = answer.as_ref().map_or_else(Problem::code, |_| "done");
    metrics::counter!("lockstep_logins_total", "route" => route, "outcome" => outcome).increment(1);
    answer
}

/// The address of a request's client; one shared address if it is unknown.
pub(super) fn address(request: &Request) -> IpAddr {
    let extensions = request.extensions();
    let peer = extensions.get::<ClientAddress>().map(|peer| peer.0);
    let socket = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    peer.or(socket).map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |address| address.to_canonical())
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("config", &self.config).finish_non_exhaustive()
    }
}
