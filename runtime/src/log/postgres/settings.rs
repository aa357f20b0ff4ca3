//! The address of the engine, and the effect of a failover.

use core::fmt;
use core::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio_postgres::Config;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::NotConnected;

/// The effect of a failover of the engine on acknowledged appends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failover {
    /// A failover loses nothing that was acknowledged, because each commit waits for a synchronous standby. Refused
    /// unless the engine has `synchronous_standby_names`, and `synchronous_commit` is `on` or `remote_apply`.
    Keeps,
    /// A failover may lose the end of a stream. Each stream begins a new epoch when it is next acquired, so clients
    /// learn that entries that they saw may be gone. Earlier owners are fenced at once.
    #[default]
    NewEpoch,
}

/// How a [`PostgresLog`](super::PostgresLog) reaches its engine.
#[derive(Clone)]
#[non_exhaustive]
pub struct Settings {
    /// `postgres://user:password@host:port/database`, with the parameters of `libpq` that `tokio-postgres` knows.
    /// Several hosts may be given: the one that can be written is used.
    pub url: String,
    /// The number of connections that append, two by default. The log opens as many again for everything else.
    pub connections: NonZeroUsize,
    /// How long a statement may take. After that its connection is dropped, and the call is unavailable.
    pub timeout: Duration,
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// What a failover does.
    pub failover: Failover,
    /// A file with the certificates (PEM) that sign the engine's. Without it the system's are used.
    pub authority: Option<PathBuf>,
}

impl Settings {
    /// The default settings for the engine at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            connections: const { NonZeroUsize::new(2).expect("two are some") },
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            failover: Failover::default(),
            authority: None,
        }
    }

    /// Sets what a failover does.
    #[must_use]
    pub const fn failover(mut self, failover: Failover) -> Self {
        self.failover = failover;
        self
    }

    /// Sets how long a statement may take.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the number of connections that append.
    #[must_use]
    pub const fn connections(mut self, connections: NonZeroUsize) -> Self {
        self.connections = connections;
        self
    }

    /// Sets the file with the certificates that sign the engine's.
    #[must_use]
    pub fn authority(mut self, authority: impl Into<PathBuf>) -> Self {
        self.authority = Some(authority.into());
        self
    }

    /// The parsed URL. Its error does not repeat any of it, because any part may be a password.
    pub(super) fn config(&self) -> Result<Config, NotConnected> {
        let mut config = Config::from_str(&self.url).map_err(|_| {
            "the URL of the log in PostgreSQL cannot be read: write postgres://USER:PASSWORD@HOST:PORT/DATABASE, with \
             special characters of the password percent-encoded"
        })?;
        config.target_session_attrs(TargetSessionAttrs::ReadWrite).connect_timeout(self.connect_timeout);
        if config.get_application_name().is_none() {
            config.application_name("lockstep");
        }
        Ok(config)
    }

    /// Where the engine is, for errors: hosts, ports and the database, but no password.
    pub(super) fn place(&self) -> String {
        let Ok(config) = self.config() else { return "an unknown place".to_owned() };
        let ports = config.get_ports();
        let host = |(index, host): (usize, &tokio_postgres::config::Host)| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5_432);
            match host {
                tokio_postgres::config::Host::Tcp(name) => format!("{name}:{port}"),
                #[cfg(unix)]
                tokio_postgres::config::Host::Unix(path) => format!("{}/.s.PGSQL.{port}", path.display()),
            }
        };
        let hosts: Vec<String> = config.get_hosts().iter().enumerate().map(host).collect();
        let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
        format!("{}, database {database}", hosts.join(" or "))
    }

    pub(super) fn tls(&self) -> Result<MakeRustlsConnect, NotConnected> {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let failed =
            |error: rustls::Error| NotConnected::because(format!("TLS to PostgreSQL cannot be set up: {error}"), error);
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(failed)?;
        let config = match &self.authority {
            Some(path) => builder.with_root_certificates(roots(path)?).with_no_client_auth(),
            None => builder.with_platform_verifier().map_err(failed)?.with_no_client_auth(),
        };
        Ok(MakeRustlsConnect::new(config))
    }
}

/// The certificates of a file.
fn roots(path: &std::path::Path) -> Result<RootCertStore, NotConnected> {
    let unreadable = |error: &dyn fmt::Display| {
        let path = path.display();
        NotConnected::from(format!(
            "the certificates in {path} cannot be read: {error}; give a file with PEM certificates"
        ))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        roots.add(certificate).map_err(|error| unreadable(&error))?;
    }
    if roots.is_empty() {
        return Err(unreadable(&"it has no certificate"));
    }
    Ok(roots)
}

impl fmt::Debug for Settings {
    /// Omits the URL, which may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("place", &self.place())
            .field("connections", &self.connections)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("failover", &self.failover)
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}
