//! This gateway as one of several that share a log: the engine, the cluster's key, and the listener for the others.

use core::convert::Infallible;
use core::num::NonZeroUsize;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use lockstep::Manager;
use lockstep::cluster::Cluster;
use lockstep::internal::gateways::Shared;
use lockstep::log::PostgresLog;
use lockstep::log::postgres::{Failover, Settings, migrate};
use tokio::net::TcpListener;

use super::StartError;
use super::accounts::{AccountStore, Accounts, SharedAccounts};
use super::config::{self, Config, FailoverKind, LogKind};
use super::{directory, serve};

/// How long another gateway may take to send a request.
const HEAD: Duration = Duration::from_secs(5);

/// How the configuration reaches the engine. The password of a file is added to the URL.
///
/// # Errors
///
/// [`StartError`], which names the field or the file.
pub fn engine(config: &Config) -> Result<Settings, StartError> {
    let log = &config.log;
    let url = log.url.as_deref().ok_or_else(|| StartError::new("`log.kind = \"postgres\"` needs `log.url`"))?;
    let url = match &log.password_file {
        Some(path) => with_password(url, read("log.password_file", path)?.trim_end_matches(['\r', '\n']))?,
        None => url.to_owned(),
    };
    let mut settings = Settings::new(url).failover(match log.failover {
        FailoverKind::Keeps => Failover::Keeps,
        FailoverKind::NewEpoch => Failover::NewEpoch,
    });
    settings.authority.clone_from(&log.authority_file);
    settings.connections = NonZeroUsize::new(log.connections).unwrap_or(NonZeroUsize::MIN);
    settings.timeout = Duration::from_millis(log.statement_ms);
    settings.connect_timeout = Duration::from_millis(log.connect_ms);
    Ok(settings)
}

/// Adds the password to `postgres://user@host/…`.
fn with_password(url: &str, password: &str) -> Result<String, StartError> {
    let placed = url.split_once("://").and_then(|(scheme, rest)| {
        let (user, rest) = rest.split_once('@')?;
        Some((scheme, user, rest))
    });
    let Some((scheme, user, rest)) = placed else {
        return Err(StartError::new(
            "`log.password_file` needs a user in `log.url`: write postgres://USER@HOST:PORT/DATABASE",
        ));
    };
    let password: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
    Ok(format!("{scheme}://{user}:{password}@{rest}"))
}

fn read(field: &str, path: &Path) -> Result<String, StartError> {
    fs::read_to_string(path)
        .map_err(|error| StartError::because(format!("cannot read `{field}` {}: {error}", path.display()), error))
}

/// Connects to the engine.
pub(super) async fn log(config: &Config) -> Result<Arc<PostgresLog>, StartError> {
    PostgresLog::connect(engine(config)?).await.map(Arc::new).map_err(failed)
}

/// The accounts that the configuration means: those of the data directory, or of the cluster.
///
/// # Errors
///
/// [`StartError`].
pub async fn accounts(config: &Config) -> Result<AccountStore, StartError> {
    if config.log.kind != LogKind::Postgres {
        directory::prepare(&config.data_dir)?;
        return Ok(AccountStore::Directory(Arc::new(Accounts::open(&config.data_dir)?)));
    }
    let shared = Shared::connect(engine(config)?).await.map_err(failed)?;
    Ok(AccountStore::Cluster(Arc::new(SharedAccounts::new(shared))))
}

/// Creates the tables of the log, or migrates those of an earlier version. Returns the version before and after.
///
/// # Errors
///
/// [`StartError`].
pub async fn prepare(config: &Config) -> Result<(i32, i32), StartError> {
    migrate(engine(config)?).await.map_err(failed)
}

fn failed(error: lockstep::log::postgres::NotConnected) -> StartError {
    StartError::because(error.to_string(), error)
}

/// This gateway's part in its cluster.
pub(super) fn member(settings: &config::Cluster) -> Result<Cluster, StartError> {
    let (Some(listen), Some(path)) = (settings.listen, &settings.key_file) else {
        return Err(StartError::new("`log.kind = \"postgres\"` needs `cluster.listen` and `cluster.key_file`"));
    };
    let address = settings.address.clone().unwrap_or_else(|| listen.to_string());
    let key = read("cluster.key_file", path)?;
    let cluster = Cluster::new(&address, key.trim_end().as_bytes())
        .map_err(|error| StartError::because(format!("`cluster.key_file` {}: {error}", path.display()), error))?;
    Ok(cluster.lease(settings.limits()))
}

/// Binds the address for the other gateways.
pub(super) async fn bind(config: &Config) -> Result<Option<TcpListener>, StartError> {
    match config.cluster.listen {
        Some(address) => Ok(Some(serve::bind(address).await?)),
        None => Ok(None),
    }
}

/// Serves the other gateways, forever.
pub(super) async fn accept(listener: Option<TcpListener>, manager: Manager) {
    let Some(listener) = listener else { return };
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "connections of other gateways cannot be accepted");
                tokio::time::sleep(serve::REST).await;
                continue;
            }
        };
        let manager = manager.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let manager = manager.clone();
            async move { Ok::<_, Infallible>(manager.serve_member(request).await) }
        });
        tokio::spawn(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    }
}
