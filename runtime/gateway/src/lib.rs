//! The ready-made gateway: a [`Manager`] with a login, a chat page, an operator API and a configuration.
//!
//! | path | what |
//! | --- | --- |
//! | `/` | the chat page, and the modules that it loads |
//! | `/ws`, `/websocket` | the socket |
//! | `/ws/ticket`, `/websocket/ticket`, `/auth/*` | tickets, and the built-in login ([`login`]) |
//! | `/ws/health`, `/ws/config`, `/ws/stats` | the state and the limits, as clients of the earlier system ask for them |
//! | `/agui` | runs for front ends that speak AG-UI ([`agui`]) |
//! | `/threads`, `/threads/turns` | a user's conversations ([`threads`]) |
//! | `/markdown` | an answer's Markdown, parsed for the page ([`markdown`]) |
//! | `/healthz`, `/readyz`, `/metrics` | for monitoring |
//! | `/operator/*` | the operator API, under a token of its own ([`operator`]) |
//!
//! Functions that build routes return an [`axum::Router`], which an axum service merges into its own. Listeners are
//! tokio's, because the gateway runs on tokio and another process may hand its socket over.

use core::fmt;
use core::future::Future;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use lockstep::Manager;
use lockstep::agent::Agent;
use lockstep::internal::gateways::Shared;
use lockstep::log::{KeptLog, Log, MemoryLog};
use lockstep::manager::Phase;
use lockstep::trace::Trace;
use lockstep::verify::Verifier;
use lockstep_model::Mode;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;

pub mod accounts;
pub mod agui;
mod answer;
mod assembly;
mod bearer;
pub mod cluster;
pub mod config;
pub mod directory;
mod error;
pub mod handover;
pub mod login;
pub mod markdown;
pub mod operator;
mod page;
pub mod serve;
pub mod signals;
mod status;
mod succession;
pub mod supervisor;
pub mod telemetry;
pub mod terminal;
pub mod threads;

use self::config::{Config, LogKind};
use self::directory::DataDir;
pub use self::error::StartError;
use self::handover::{Offer, Predecessor};
use self::serve::{Certificates, Serving, files};
use self::signals::{Asked, Signals};
use self::status::Announced;
use self::succession::{Files, Handover, Inherited, Outcome, Requests};
use self::supervisor::Supervisor;

/// What the routes share.
#[derive(Clone)]
struct Parts {
    manager: Manager,
    metrics: PrometheusHandle,
    /// The data directory, if the log is on disk.
    kept: Option<Arc<Path>>,
    /// The effect of a failover of the log's engine, if it has one.
    promise: Option<&'static str>,
}

/// Every route of the gateway. `kept` is the data directory, if the log is on disk; `limits` are those that clients may
/// know.
pub(crate) fn routes(
    manager: &Manager,
    metrics: PrometheusHandle,
    operator: Router,
    login: Option<Router>,
    kept: Option<Arc<Path>>,
    limits: Announced,
) -> Router {
    let parts = Parts { manager: manager.clone(), metrics, kept, promise: limits.promise };
    let router = Router::new()
        .route("/ws", get(socket))
        .route("/websocket", get(socket))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_page))
        .with_state(parts)
        .merge(page::routes())
        .merge(status::routes(manager, limits))
        .nest("/operator", operator);
    match login {
        Some(login) => router.merge(login),
        None => router,
    }
}

async fn socket(State(parts): State<Parts>, request: Request) -> Response {
    parts.manager.upgrade(request).map(Body::from)
}

/// 200 while new connections are admitted, else 503, so that a load balancer sends them elsewhere.
async fn ready(State(parts): State<Parts>) -> Response {
    let (mode, troubles) = (parts.manager.health().mode, parts.manager.troubles());
    let status = if parts.manager.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let why: String = troubles.iter().map(|trouble| format!("{trouble}\n")).collect();
    let promise = parts.promise.map_or_else(String::new, |promise| format!("{promise}\n"));
    (status, format!("{}\n{promise}{why}", mode_name(mode))).into_response()
}

/// A mode's name on the wire.
fn mode_name(mode: Mode) -> impl fmt::Display {
    fmt::from_fn(move |f| mode.serialize(f))
}

async fn metrics_page(State(parts): State<Parts>) -> Response {
    telemetry::observe(&parts.manager, parts.kept.as_deref());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], parts.metrics.render()).into_response()
}

/// An open log.
struct OpenLog {
    log: Arc<dyn Log>,
    /// The state that gateways share in its engine, if it has one.
    shared: Option<Shared>,
}

/// Opens the log that the configuration names.
async fn log(config: &Config) -> Result<OpenLog, StartError> {
    let alone = |log| OpenLog { log, shared: None };
    match config.log.kind {
        LogKind::Memory => return Ok(alone(Arc::new(MemoryLog::new()))),
        LogKind::Postgres => {
            let log = cluster::log(config).await?;
            let shared = Some(Shared::of(&log));
            return Ok(OpenLog { log, shared });
        }
        LogKind::Disk => {}
    }
    let earlier = config.data_dir.join("log.redb");
    if earlier.exists() {
        return Err(StartError::new(format!(
            "the log {} was written by an earlier version, which this one cannot read; move it away to start with an \
             empty log, or keep using the earlier version",
            earlier.display()
        )));
    }
    Ok(alone(Arc::new(KeptLog::open(&config.data_dir.join("log"), &config.log.options())?)))
}

/// Starts the trace that the configuration asks for.
fn trace(config: &Config) -> Result<Option<Trace>, StartError> {
    let Some(settings) = config.trace.settings() else { return Ok(None) };
    let fail = |error: std::io::Error| {
        StartError::because(format!("cannot start a trace in {}: {error}", settings.directory.display()), error)
    };
    Trace::start(&settings, &(&config.bounds).into()).map(Some).map_err(fail)
}

/// Builds the manager that the configuration describes.
///
/// # Errors
///
/// [`StartError`].
pub fn manager(
    config: &Config,
    log: Arc<dyn Log>,
    verifier: Arc<dyn Verifier>,
    agent: Arc<dyn Agent>,
    redeem: Option<Arc<dyn lockstep::verify::Redeem>>,
) -> Result<Manager, StartError> {
    let builder = Manager::builder()
        .verifier(verifier)
        .agent(agent)
        .log(log)
        .bounds((&config.bounds).into())
        .limits(config.limits.socket())
        .origins(config.origins.clone())
        .codec(config.codec.into())
        .agent_name(&config.agent.name);
    let builder = match trace(config)? {
        Some(trace) => builder.trace(trace),
        None => builder,
    };
    let builder = match config.log.kind {
        LogKind::Postgres => builder.cluster(cluster::member(&config.cluster)?),
        LogKind::Disk | LogKind::Memory => builder,
    };
    let builder = match config.log.retention() {
        Some((retention, every)) => builder.retention(retention, every),
        None => builder,
    };
    let builder = match redeem {
        Some(redeem) => builder.tickets(redeem),
        None => builder,
    };
    Ok(builder.build()?)
}

/// How a gateway acquires its data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Startup {
    /// It is the directory's only process.
    Alone,
    /// It takes over from the process that serves the directory, if there is one.
    TakeOver,
}

/// Runs the gateway until a signal stops it or another process has taken over. The first signal drains, and a second
/// one ends the process at once. During startup, the first signal ends it. `say` receives the lines that the operator
/// should read.
///
/// # Errors
///
/// [`StartError`].
pub async fn run(
    config: &Config,
    startup: Startup,
    signals: &mut Signals,
    say: &dyn Fn(&str),
) -> Result<(), StartError> {
    let metrics = telemetry::install()?;
    let mut inherited = match startup {
        Startup::Alone => Inherited::default(),
        Startup::TakeOver => tokio::select! {
            inherited = succession::take_over(config, say) => inherited?,
            () = signals.end() => return Ok(()),
        },
    };
    loop {
        match serve_once(config, &metrics, inherited, signals, say).await? {
            Some(again) => inherited = again,
            None => return Ok(()),
        }
    }
}

/// Opens the directory and serves it to the end. Returns the state to start again with, if a successor has failed.
async fn serve_once(
    config: &Config,
    metrics: &PrometheusHandle,
    inherited: Inherited,
    signals: &mut Signals,
    say: &dyn Fn(&str),
) -> Result<Option<Inherited>, StartError> {
    // On a task of its own, because startup may block and a signal must not wait for it.
    let mut opening = tokio::spawn(open(config.clone(), metrics.clone(), inherited));
    let opened = tokio::select! {
        opened = &mut opening => opened.map_err(|error| format!("cannot start: {error}"))??,
        () = signals.end() => {
            // Close the log that is being opened, unless that takes long.
            if let Ok(Ok(Ok(Open { manager, .. }))) = tokio::time::timeout(succession::REST, opening).await {
                succession::close_log(&manager).await;
            }
            return Ok(None);
        }
    };
    let Open { directory, files, predecessor, manager, listener, router, serving, welcome, watch, members } = opened;
    let address = listener.local_addr()?;
    let scheme = if serving.certificates.is_some() { "https" } else { "http" };
    let path = serving.base_path.prefix();
    let handover = Handover::new(&manager, &listener, directory.lock(), &files)?;
    let offer = Offer::open(directory.path()).inspect_err(|error| {
        tracing::warn!(%error, "no other process can take over: no socket can be opened in the data directory");
    });
    if let Some(predecessor) = predecessor {
        predecessor.serving().await;
    }
    say(&format!("{welcome}Lockstep listens on {scheme}://{address}{path}"));
    let supervisor = Supervisor::of_environment();
    supervisor.tell(&format!("READY=1\nSTATUS=listening on {scheme}://{address}{path}"));
    let certificates = serving.certificates.clone();
    let serving_members = tokio::spawn(cluster::accept(members, manager.clone()));
    let outcome = tokio::select! {
        () = until_leaving(&manager, serve::accept(listener, router, serving)) => Outcome::Over,
        () = telemetry::upkeep(metrics) => Outcome::Over,
        () = until_leaving(&manager, watch) => Outcome::Over,
        () = supervisor.watch() => Outcome::Over,
        outcome = end(handover, offer.ok(), signals, certificates.as_ref(), &supervisor, say) => outcome,
    };
    serving_members.abort();
    manager.close_trace();
    Ok(match outcome {
        Outcome::Kept | Outcome::Over => None,
        Outcome::Again(inherited) => Some(inherited),
    })
}

/// Runs `work` until the node leaves, and then stays pending. Later connections are for the next process: the socket is
/// closed or belongs to that process too.
async fn until_leaving(manager: &Manager, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = manager.reached(Phase::Leaving) => {}
    }
    core::future::pending::<()>().await;
}

/// The parts of a serving gateway.
struct Open {
    directory: DataDir,
    files: Files,
    predecessor: Option<Predecessor>,
    manager: Manager,
    listener: tokio::net::TcpListener,
    router: Router,
    serving: Serving,
    welcome: String,
    watch: lockstep::BoxFuture<'static, ()>,
    /// For the other gateways of the cluster.
    members: Option<tokio::net::TcpListener>,
}

async fn open(mut config: Config, metrics: PrometheusHandle, inherited: Inherited) -> Result<Open, StartError> {
    let Inherited { listener, lock, predecessor } = inherited;
    let directory = succession::directory(&config.data_dir, lock, predecessor.as_ref()).await?;
    if let Err(warning) = files::fit(&mut config.limits, files::raise()) {
        tracing::warn!("{warning}");
    }
    let operator = operator::Token::open(&config.data_dir.join("operator.token"))?;
    let certificates = config.tls.as_ref().map(Certificates::open).transpose()?;
    let listener = match listener {
        Some(listener) => serve::inherit(listener)?,
        None => serve::bind(config.listen).await?,
    };
    let OpenLog { log, shared } = log(&config).await?;
    let assembly = assembly::open(&config, shared).await?;
    let members = cluster::bind(&config).await?;
    let agent = assembly::agent(&config)?;
    let manager = manager(&config, log, Arc::clone(&assembly.verifier), agent, assembly.redeem)?;
    let threads = threads::thread_routes(&manager, Arc::clone(&assembly.verifier));
    let agui = config.agui.then(|| agui::agui_routes(&manager, assembly.verifier, config.origins.clone()));
    let login = assembly.login.map(|login| login(&manager));
    let kept = (config.log.kind == LogKind::Disk).then(|| Arc::from(config.data_dir.as_path()));
    let operator = operator::routes(manager.clone(), assembly.subjects, operator);
    let router = routes(&manager, metrics, operator, login, kept, Announced::of(&config)).merge(threads);
    let router = router.merge(agui.unwrap_or_default());
    let requests = Requests::default();
    let while_open = middleware::from_fn_with_state(requests.clone(), succession::while_open);
    let router = router.layer(while_open);
    let serving = Serving { certificates, ..Serving::new(&config, manager.draining()) };
    let (welcome, watch) = (assembly.welcome, assembly.watch);
    let files = Files { logins: assembly.revocations, requests };
    Ok(Open { directory, files, predecessor, manager, listener, router, serving, welcome, watch, members })
}

/// Returns when the node has stopped, a second signal has come, or another process has taken over.
async fn end(
    handover: Handover<'_>,
    mut offer: Option<Offer>,
    signals: &mut Signals,
    certificates: Option<&Certificates>,
    supervisor: &Supervisor,
    say: &dyn Fn(&str),
) -> Outcome {
    let manager = handover.manager;
    loop {
        let asked = tokio::select! {
            // An operator may drain too.
            () = manager.reached(Phase::Leaving) => break,
            successor = succession::next(offer.as_ref()) => {
                match handover.hand_over(&mut offer, successor, signals, say).await {
                    Outcome::Kept => continue,
                    outcome @ (Outcome::Over | Outcome::Again(_)) => {
                        supervisor.tell("STOPPING=1");
                        return outcome;
                    }
                }
            }
            asked = signals.next() => asked,
        };
        match asked {
            Asked::End => break,
            Asked::Reload => match certificates.map(Certificates::reload) {
                Some(Ok(())) => tracing::info!("the certificates were reloaded"),
                Some(Err(error)) => {
                    tracing::warn!(%error, "the certificates could not be reloaded; the previous ones stay in use");
                }
                None => tracing::info!("there are no certificates to reload"),
            },
        }
    }
    // No other process has the socket: it closes with its last descriptor.
    drop(handover);
    supervisor.tell("STOPPING=1\nSTATUS=draining");
    succession::drain(manager, signals, say).await;
    Outcome::Over
}
