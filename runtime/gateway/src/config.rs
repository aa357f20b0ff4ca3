//! The gateway's configuration: flags before environment before file before defaults.
//!
//! The file is TOML. Environment variables are `LOCKSTEP_` and the field's path, with `__` between a table and its
//! field: `LOCKSTEP_LISTEN`, `LOCKSTEP_AGENT__MODEL`. Secrets are never in it: it names the files that contain them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use lockstep::wire::Codec;
use lockstep_model::Bounds;
use serde::{Deserialize, Serialize};

mod agent;
mod auth;
mod bounds;
mod cluster;
mod error;
mod limits;
mod log;
mod login;
mod print;
mod proxies;
mod table;
mod units;

pub use agent::{Agent, AgentKind};
pub use auth::{Auth, Issuer};
pub use bounds::MachineBounds;
pub use cluster::Cluster;
pub use error::ConfigError;
use error::{Broken, environment, explain};
pub use limits::Limits;
pub use log::{FailoverKind, Log, LogFlag, LogKind, SyncLevel, Trace};
pub use login::Login;
pub use proxies::{BasePath, InvalidSetting, Network, Proxies, ProxyHeader, counted};
use table::table;

table! {
    /// Everything that can be configured. `lockstep config` prints it.
    pub struct Config {
        /// The address to listen on.
        pub listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080)),
        /// The directory for accounts, keys, revocations, documents and the log.
        pub data_dir: PathBuf = PathBuf::from("lockstep-data"),
        /// Origins whose pages may connect, besides the gateway's own: `https://chat.example.org`.
        pub origins: Vec<String> = Vec::new(),
        /// The frames of clients that offer no subprotocol, such as those with only a header or a `?ticket=`: `v1`, or
        /// `legacy` for clients of the earlier system.
        pub codec: DefaultCodec = DefaultCodec::V1,
        /// Whether front ends that speak AG-UI are served, at `POST /agui`.
        pub agui: bool = true,
        /// The path that everything is served under, as browsers see it: `/chat/`. A proxy may pass it on, or strip it.
        pub base_path: BasePath = BasePath::default(),
        /// Seconds for which browsers use only TLS (Strict-Transport-Security). Sent to clients that connected over
        /// TLS, here or at a trusted proxy; 0 sends nothing.
        pub hsts_seconds: u64 ["units::seconds"] = 365 * 24 * 60 * 60,
        /// The TLS certificate; without one the gateway speaks plain HTTP, for a proxy that terminates TLS.
        pub tls: Option<Tls> = None,
        /// Proxies in front of the gateway.
        pub proxies: Proxies = Proxies::default(),
        /// Who may connect.
        pub auth: Auth = Auth::default(),
        /// The built-in login.
        pub login: Login = Login::default(),
        /// The agent that answers.
        pub agent: Agent = Agent::default(),
        /// Where streams are kept.
        pub log: Log = Log::default(),
        /// The other gateways that share the log.
        pub cluster: Cluster = Cluster::default(),
        /// Limits on what a peer may use.
        pub limits: Limits = Limits::default(),
        /// The trace of steps, for `prove replay`.
        pub trace: Trace = Trace::default(),
        /// Bounds and deadlines of the machines.
        pub bounds: MachineBounds = MachineBounds::default(),
    }
}

table! {
    /// The TLS certificate; without one the gateway speaks plain HTTP, for a proxy that terminates TLS.
    pub struct Tls {
        /// The certificate chain, as PEM.
        pub certificate: PathBuf,
        /// Its private key, as PEM.
        pub key: PathBuf,
    }
}

/// The codec of clients that offer no subprotocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultCodec {
    /// `lockstep.v1`.
    V1,
    /// The earlier system's envelope.
    Legacy,
}

impl From<DefaultCodec> for Codec {
    fn from(codec: DefaultCodec) -> Self {
        match codec {
            DefaultCodec::V1 => Self::V1,
            DefaultCodec::Legacy => Self::Legacy,
        }
    }
}

/// What flags set; they take precedence over everything else.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Flags {
    /// `--listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// `--data-dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// `--trace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceFlag>,
    /// `--log`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogFlag>,
}

/// What `--trace` sets.
#[derive(Clone, Debug, Serialize)]
pub struct TraceFlag {
    /// The directory.
    pub directory: PathBuf,
}

impl Config {
    /// Parses this text alone, and validates the result.
    ///
    /// # Errors
    ///
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self =
            toml::from_str(text).map_err(|error| ConfigError(error.to_string().trim_end().to_owned()))?;
        config.validate().map_err(|broken| broken.explain(&environment()))?;
        Ok(config)
    }

    /// Merges flags, environment and file, and validates the result.
    ///
    /// # Errors
    ///
    /// What is wrong, and where: file, line and field, the environment variable, or the violated rule.
    pub fn load(file: Option<&Path>, flags: &Flags) -> Result<Self, ConfigError> {
        let config = Self::merged(file, flags)?;
        config.validate().map_err(|broken| broken.explain(&environment()))?;
        Ok(config)
    }

    /// Merges flags, environment and file, and validates only what a log needs, for the tools of a log.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn load_for_log(file: Option<&Path>, flags: &Flags) -> Result<Self, ConfigError> {
        let config = Self::merged(file, flags)?;
        config.log.validate().map_err(|broken| broken.explain(&environment()))?;
        Ok(config)
    }

    fn merged(file: Option<&Path>, flags: &Flags) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError(format!("cannot read the configuration {}: {error}", path.display())))?;
            // The parser's own errors have line and column; merged values have none.
            toml::from_str::<Self>(&text)
                .map_err(|error| ConfigError(format!("{}: {}", path.display(), error.to_string().trim_end())))?;
            figment = figment.merge(Toml::string(&text));
        }
        let environment = environment();
        figment = figment.merge(environment.clone());
        figment = figment.merge(Serialized::defaults(flags));
        figment.extract().map_err(|error| explain(&error, &environment))
    }

    /// Checks the rules between fields.
    fn validate(&self) -> Result<(), Broken> {
        Bounds::from(&self.bounds).validate().map_err(Broken::of_bounds)?;
        self.proxies.validate()?;
        self.auth.validate()?;
        self.login.validate()?;
        self.agent.validate()?;
        if let Some(origin) = self.origins.iter().find(|origin| !origin.contains("://") || origin.ends_with('/')) {
            return Err(Broken::new(
                "origins",
                &format!("contains {origin:?}, which is not an origin: write https://chat.example.org, without a path"),
            ));
        }
        self.limits.validate()?;
        self.log.validate()?;
        self.cluster.validate(&self.log)?;
        self.trace.validate()
    }
}
