//! Assembles the verifier, the login and the agent that the configuration describes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lockstep::BoxFuture;
use lockstep::Manager;
use lockstep::agent::builtin::Builtin;
use lockstep::agent::tools::Tools;
use lockstep::agent::{Agent, agui, openai};
use lockstep::internal::gateways::Shared;
use lockstep::pool::Pool;
use lockstep::verify::Redeem;
use lockstep::verify::clock::Clock;
use lockstep::verify::jwks::KeyUrl;
use lockstep::verify::jwt::{JwtConfig, JwtVerifier};
use lockstep::verify::keys::Keys;
use lockstep::verify::revoked::Revocations;
use lockstep::verify::{Revocation, Verifier};
use serde_json::Number;

use super::StartError;
use super::accounts::{AccountError, AccountStore, Accounts, SharedAccounts};
use super::config::{self, AgentKind, Config, Issuer};
use super::login::{Login, LoginConfig, RevokeError, Revoker, TicketService, routes, ticket_routes};
use super::markdown::{Renderer, markdown_routes};
use super::operator::SubjectSource;

/// Builds the login's routes.
pub(super) type Routes = Box<dyn FnOnce(&Manager) -> Router + Send>;

/// The assembled verification and login.
pub(super) struct Assembly {
    pub(super) verifier: Arc<dyn Verifier>,
    pub(super) redeem: Option<Arc<dyn Redeem>>,
    /// The file of revocations and logins.
    pub(super) revocations: Arc<Revocations>,
    /// Resolves an operator's input to subjects.
    pub(super) subjects: SubjectSource,
    /// The login's routes, built once there is a manager that can revoke.
    pub(super) login: Option<Routes>,
    /// A task that must run as long as the gateway serves; it never ends.
    pub(super) watch: BoxFuture<'static, ()>,
    /// A message for the operator at startup.
    pub(super) welcome: String,
}

/// The interval between two checks of the accounts.
const LOOK: Duration = Duration::from_secs(1);

/// `shared` is the state that the gateways of a cluster share.
pub(super) async fn open(config: &Config, shared: Option<Shared>) -> Result<Assembly, StartError> {
    match config.auth.issuer {
        Issuer::Jwt => Ok(foreign(config, shared)?),
        Issuer::Accounts => own(config, shared).await,
    }
}

/// Validates the settings that do not need the data directory.
pub(super) fn check(config: &Config) -> Result<(), String> {
    agent(config)?;
    match config.auth.issuer {
        Issuer::Jwt => {
            let jwt = foreign_tokens(config)?;
            let revocations = Arc::new(Revocations::in_memory(jwt.retention(), Clock::system()));
            judge_of(jwt, revocations).map(drop)
        }
        Issuer::Accounts => Ok(()),
    }
}

/// Verification of another issuer's tokens.
fn foreign(config: &Config, shared: Option<Shared>) -> Result<Assembly, String> {
    let jwt = foreign_tokens(config)?;
    let revocations = revocations(&config.data_dir, jwt.retention())?;
    let verifier: Arc<dyn Verifier> = Arc::new(judge_of(jwt, Arc::clone(&revocations))?);
    let (service, redeem) = tickets(&verifier, config, shared);
    let markdown = markdown_routes(Arc::new(Renderer::new(Arc::clone(&verifier), Clock::monotonic())));
    let routes = move |_: &Manager| ticket_routes(service).merge(markdown);
    let watch = Box::pin(core::future::pending());
    let (redeem, login, welcome) = (Some(redeem), Some(Box::new(routes) as Routes), String::new());
    Ok(Assembly { verifier, redeem, revocations, subjects: SubjectSource::OfTheIssuer, login, watch, welcome })
}

fn judge_of(jwt: JwtConfig, revocations: Arc<Revocations>) -> Result<JwtVerifier, String> {
    let verifier = JwtVerifier::new(jwt, revocations, Clock::system());
    verifier.map_err(|error| format!("cannot use the keys of `auth`: {error}"))
}

/// The settings for another issuer's tokens.
fn foreign_tokens(config: &Config) -> Result<JwtConfig, String> {
    let auth = &config.auth;
    let keys = match (&auth.key_file, &auth.jwks_url) {
        (Some(path), _) => Keys::File(path.clone()),
        (None, Some(url)) => {
            let mut url = KeyUrl::new(url);
            url.max_age = Duration::from_secs(auth.jwks_max_age_seconds);
            url.grace = Duration::from_secs(auth.jwks_grace_seconds);
            url.min_interval = Duration::from_secs(auth.jwks_min_interval_seconds);
            url.timeout = Duration::from_millis(auth.jwks_timeout_ms);
            Keys::Url(url)
        }
        (None, None) => return Err("`auth` needs either `key_file` or `jwks_url`".to_owned()),
    };
    let mut jwt = JwtConfig::new(keys);
    if !auth.algorithms.is_empty() {
        let parse = |name: &String| {
            name.parse()
                .map_err(|_| format!("`auth.algorithms` contains {name:?}, which is not an algorithm of RFC 7518"))
        };
        jwt.algorithms = auth.algorithms.iter().map(parse).collect::<Result<_, String>>()?;
    }
    jwt.audience = (!auth.audience.is_empty()).then(|| auth.audience.clone());
    jwt.issuer = (!auth.issued_by.is_empty()).then(|| auth.issued_by.clone());
    jwt.leeway = Duration::from_secs(auth.leeway_seconds);
    jwt.max_lifetime = Duration::from_secs(auth.longest_token_seconds);
    Ok(jwt)
}

/// The service that exchanges credentials for tickets.
fn tickets(
    verifier: &Arc<dyn Verifier>,
    config: &Config,
    shared: Option<Shared>,
) -> (Arc<TicketService>, Arc<dyn Redeem>) {
    let service = TicketService::new(Arc::clone(verifier), Clock::monotonic()).rate(config.login.tickets());
    let service = Arc::new(match shared {
        Some(shared) => service.shared(shared),
        None => service,
    });
    let redeem: Arc<dyn Redeem> = Arc::clone(&service) as _;
    (service, redeem)
}

fn revocations(directory: &Path, retention: Duration) -> Result<Arc<Revocations>, String> {
    let revocations = Revocations::open(directory, retention, Clock::system());
    Ok(Arc::new(revocations.map_err(|error| error.to_string())?))
}

/// How long revocations from the time before the built-in login are remembered. Our own tokens end with their login.
const REMEMBERED: Duration = Duration::from_hours(31 * 24);

/// The built-in login, with the accounts of the data directory, or of a cluster.
async fn own(config: &Config, shared: Option<Shared>) -> Result<Assembly, StartError> {
    let directory = &config.data_dir;
    let settings = LoginConfig {
        access_lifetime: Duration::from_secs(config.auth.token_seconds),
        secure: config.tls.is_some() || config.auth.secure_cookies,
        allowed_origins: config.origins.clone(),
        path: format!("{}/auth", config.base_path.prefix()),
        ..config.login.settings()
    };
    let store = match &shared {
        None => AccountStore::Directory(Arc::new(Accounts::open(directory)?)),
        Some(shared) => AccountStore::Cluster(Arc::new(SharedAccounts::new(shared.clone()))),
    };
    let welcome = first_account(&store).await?;
    let (revocations, clock) = (revocations(directory, REMEMBERED)?, Clock::system());
    let known = Arc::clone(&revocations);
    let login = match (store, &shared) {
        (AccountStore::Cluster(accounts), Some(shared)) => {
            Login::shared(settings, shared.clone(), accounts, known, clock).await?
        }
        (AccountStore::Directory(accounts), _) => Login::open(Some(directory), settings, accounts, known, clock)?,
        (AccountStore::Cluster(_), None) => return Err(StartError::new("a cluster's accounts need its engine")),
    };
    let login = Arc::new(login);
    let verifier = login.judge();
    let (service, redeem) = tickets(&verifier, config, shared);
    let markdown = markdown_routes(Arc::new(Renderer::new(Arc::clone(&verifier), Clock::monotonic())));
    let watch = Box::pin(Arc::clone(&login).watch(LOOK));
    let subjects = SubjectSource::Accounts(Arc::clone(&login));
    let routes = move |manager: &Manager| {
        login.revoke_through(Arc::new(Through(manager.clone())));
        routes(login).merge(ticket_routes(service)).merge(markdown)
    };
    let (redeem, login) = (Some(redeem), Some(Box::new(routes) as Routes));
    Ok(Assembly { verifier, redeem, revocations, subjects, login, watch, welcome })
}

/// Creates an account if there is none, with a password that is shown once and not stored.
async fn first_account(accounts: &AccountStore) -> Result<String, StartError> {
    if !accounts.list().await?.is_empty() {
        return Ok(String::new());
    }
    let (name, password) =
        ("user", URL_SAFE_NO_PAD.encode(lockstep::internal::random_bytes::<12>().map_err(|error| error.to_string())?));
    match accounts.add(name, &password).await {
        Ok(()) => {}
        // Another gateway of the cluster has just done so.
        Err(AccountError::Exists) => return Ok(String::new()),
        Err(error) => return Err(error.into()),
    }
    Ok(format!(
        "There was no account, so one was created. Its password is shown only now:\n\n    user      {name}\n    \
         password  {password}\n\nAdd accounts with `lockstep user add NAME`; change this password with \
         `lockstep user passwd {name}`.\n"
    ))
}

/// Closes connections through the manager.
struct Through(Manager);

impl Revoker for Through {
    fn revoke(&self, revocation: Revocation) -> BoxFuture<'_, Result<(), RevokeError>> {
        Box::pin(async move { self.0.revoke(&revocation).await.map_err(fail) })
    }

    fn erase(&self, subject: Arc<str>) -> BoxFuture<'_, Result<(), RevokeError>> {
        Box::pin(async move {
            let log = self.0.log();
            let user = log.user(&subject).await.map_err(fail)?;
            log.erase(user).await.map_err(fail)
        })
    }
}

fn fail(error: impl core::error::Error + Send + Sync + 'static) -> RevokeError {
    RevokeError::because(error.to_string(), error)
}

/// The environment variable with the key of an OpenAI-compatible endpoint, used unless a file is configured.
const API_KEY: &str = "OPENAI_API_KEY";

/// The environment variable with the token of an AG-UI endpoint, used unless a file is configured.
const TOKEN: &str = "AGUI_API_KEY";

/// The agent behind an AG-UI endpoint.
fn remote(agent: config::Agent) -> Result<agui::AgUi, String> {
    let url = agent.url.ok_or("`agent` with `kind = \"agui\"` needs `url`")?;
    let seconds = Duration::from_secs;
    let mut settings = agui::Config::new(&url);
    settings.headers = agent.headers.into_iter().collect();
    settings.token_header = agent.api_key_header;
    settings.pass_on = agent.pass_on;
    settings.connect_timeout = seconds(agent.connect_seconds);
    settings.first_byte_timeout = seconds(agent.first_byte_seconds);
    settings.idle_timeout = seconds(agent.idle_seconds);
    settings.tool_timeout = seconds(agent.tool_seconds);
    settings.max_event_bytes = agent.max_event_bytes;
    settings.max_answer_bytes = agent.max_answer_bytes;
    settings.retries = agent.retries;
    settings.backoff = Duration::from_millis(agent.backoff_ms);
    settings.backoff_most = Duration::from_millis(agent.backoff_most_ms);
    settings.proxy = agent.proxy;
    settings.max_turns = agent.max_turns;
    settings.max_history_bytes = agent.max_history_bytes;
    settings.token = match agent.api_key_file {
        Some(path) => Some(
            agui::Token::from_file(&path)
                .map_err(|error| format!("cannot use `agent.api_key_file` {}: {error}", path.display()))?,
        ),
        None => agui::Token::from_env(TOKEN).map_err(|error| error.to_string())?,
    };
    agui::AgUi::new(settings).map_err(|error| error.to_string())
}

/// The agent that the configuration names.
pub(super) fn agent(config: &Config) -> Result<Arc<dyn Agent>, String> {
    let pool = match config.agent.tool_threads {
        0 => Pool::of_half_the_processors(),
        threads => Pool::new(threads),
    };
    let tools = Tools::standard_on(&config.data_dir, pool);
    Ok(match config.agent.kind {
        AgentKind::Builtin => Arc::new(Builtin::with(tools).pace(Duration::from_millis(config.agent.pace_ms))),
        AgentKind::Agui => Arc::new(remote(config.agent.clone())?),
        AgentKind::Openai => {
            let (Some(base_url), Some(model)) = (&config.agent.base_url, &config.agent.model) else {
                return Err("`agent` with `kind = \"openai\"` needs `base_url` and `model`".to_owned());
            };
            let seconds = Duration::from_secs;
            let agent = config.agent.clone();
            let mut settings = openai::Config::new(base_url, model);
            settings.system = agent.system;
            settings.temperature = agent.temperature.as_ref().and_then(Number::as_f64);
            settings.max_tokens = agent.max_tokens;
            settings.max_tokens_field = agent.max_tokens_field;
            settings.usage = agent.usage;
            settings.omit = agent.omit;
            settings.extra_body = agent.extra_body;
            settings.headers = agent.headers.into_iter().collect();
            settings.api_key_header = agent.api_key_header;
            settings.connect_timeout = seconds(agent.connect_seconds);
            settings.first_byte_timeout = seconds(agent.first_byte_seconds);
            settings.idle_timeout = seconds(agent.idle_seconds);
            settings.tool_timeout = seconds(agent.tool_seconds);
            settings.retries = agent.retries;
            settings.backoff = Duration::from_millis(agent.backoff_ms);
            settings.backoff_most = Duration::from_millis(agent.backoff_most_ms);
            settings.proxy = agent.proxy;
            settings.backoff = Duration::from_millis(agent.backoff_ms);
            settings.backoff_most = Duration::from_millis(agent.backoff_most_ms);
            settings.proxy = agent.proxy;
            settings.max_rounds = agent.max_rounds;
            settings.max_turns = agent.max_turns;
            settings.max_history_bytes = agent.max_history_bytes;
            settings.api_key = match &config.agent.api_key_file {
                Some(path) => Some(
                    openai::ApiKey::from_file(path)
                        .map_err(|error| format!("cannot use `agent.api_key_file` {}: {error}", path.display()))?,
                ),
                None => openai::ApiKey::from_env(API_KEY).map_err(|error| error.to_string())?,
            };
            Arc::new(openai::OpenAi::new(settings, tools).map_err(|error| error.to_string())?)
        }
    })
}
