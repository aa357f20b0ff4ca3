//! The gateway's configuration: flags before environment before file before defaults.
//!
//! The file is TOML. Environment variables are `LOCKSTEP_` and the field's path, with `__` between a table and its field:
//! `LOCKSTEP_LISTEN`, `LOCKSTEP_AGENT__MODEL`. Secrets are never in it: they are named by the file that holds them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use lockstep_model::Bounds;
use serde::{Deserialize, Serialize};

use crate::{trace, transport};

mod error;

pub use error::ConfigError;
use error::{Broken, environment, explain};

/// Everything that can be configured. `lockstep config` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where accounts, keys, revocations, documents and the log are kept.
    pub data_dir: PathBuf,
    /// Origins whose pages may connect beside the gateway's own: `https://chat.example.org`.
    pub origins: Vec<String>,
    /// Certificates; without them the gateway speaks plain HTTP, for a proxy that speaks TLS.
    pub tls: Option<Tls>,
    /// Who may connect.
    pub auth: Auth,
    /// Who answers.
    pub agent: Agent,
    /// Where streams are kept.
    pub log: Log,
    /// What a peer may make the gateway hold.
    pub limits: Limits,
    /// Whether each step is written down, for `prove replay`.
    pub trace: Trace,
    /// Bounds and deadlines of the machines.
    pub bounds: MachineBounds,
}

/// Certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate chain, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
}

/// Who may connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Whose tokens are good.
    pub issuer: Issuer,
    /// For how long a token of the built-in login is good, in seconds.
    pub token_seconds: u64,
    /// Whether the login's cookie is for TLS alone, also when a proxy speaks TLS and the gateway does not.
    pub secure_cookies: bool,
    /// For `issuer = "jwt"`: the longest life of a token, in seconds. Revocations are remembered for as long, and a token
    /// that lives longer is rejected.
    pub longest_token_seconds: u64,
    /// For `issuer = "jwt"`: a PEM public key, a JSON Web Key Set, or a secret for HS256, HS384, HS512.
    pub key_file: Option<PathBuf>,
    /// For `issuer = "jwt"`: the URL of a JSON Web Key Set.
    pub jwks_url: Option<String>,
    /// For `issuer = "jwt"`: a token must be for one of these.
    pub audience: Vec<String>,
    /// For `issuer = "jwt"`: a token must be from one of these.
    pub issued_by: Vec<String>,
    /// For `issuer = "jwt"`: the algorithms that are allowed, such as `["RS256"]`. Empty: all that the keys can do.
    pub algorithms: Vec<String>,
    /// By how many seconds the issuer's clock may differ.
    pub leeway_seconds: u64,
}

/// Whose tokens are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Issuer {
    /// The built-in login with the accounts of the data directory.
    Accounts,
    /// Somebody else, who signs JSON Web Tokens.
    Jwt,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// Which.
    pub kind: AgentKind,
    /// For `kind = "openai"`: the endpoint up to and with `/v1`.
    pub base_url: Option<String>,
    /// For `kind = "openai"`: the model's name.
    pub model: Option<String>,
    /// For `kind = "openai"`: the file that holds the key.
    pub api_key_file: Option<PathBuf>,
    /// For `kind = "openai"`: what the model is told before everything else.
    pub system: Option<String>,
    /// For `kind = "builtin"`: milliseconds between two pieces of an answer.
    pub pace_ms: u64,
}

/// Which agent answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentKind {
    /// A few rules and real tools; no model.
    Builtin,
    /// Any OpenAI-compatible endpoint.
    Openai,
}

/// Where streams are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Which.
    pub kind: LogKind,
    /// For `kind = "disk"`: whether an event is delivered only once it is on the disk, not just with the operating
    /// system. Without, a power cut may lose what was delivered; a crash of the process does not.
    pub sync: bool,
}

/// Where streams are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// In a file of the data directory.
    Disk,
    /// In memory: chats end with the process.
    Memory,
}

/// Whether each step of each machine is written down, and where. See [`crate::trace`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trace {
    /// The directory; without one there is no trace.
    pub directory: Option<PathBuf>,
    /// After so many bytes a file is closed and the next one begun; later where checkpoints are more than half of it.
    pub file_bytes: u64,
    /// So many files are kept.
    pub files: usize,
}

/// What a peer may make the gateway hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one message.
    pub message_bytes: usize,
    /// Bytes of one WebSocket frame.
    pub frame_bytes: usize,
    /// Bytes of a socket's read buffer.
    pub read_buffer_bytes: usize,
    /// Bytes of a socket's write buffer.
    pub write_buffer_bytes: usize,
    /// Bytes of a request's header.
    pub header_bytes: usize,
    /// Milliseconds from a TCP connection, and from the end of a response, to the end of a request's header.
    pub header_ms: u64,
    /// Milliseconds from the end of a request's header to its response, the reading of its body included; and from when
    /// the peer lets the response wait until it has taken it.
    pub request_ms: u64,
    /// TCP connections of one address.
    pub per_address: u32,
    /// TCP connections in all.
    pub sockets: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data_dir: PathBuf::from("lockstep-data"),
            origins: Vec::new(),
            tls: None,
            auth: Auth::default(),
            agent: Agent::default(),
            log: Log::default(),
            limits: Limits::default(),
            trace: Trace::default(),
            bounds: MachineBounds::default(),
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            issuer: Issuer::Accounts,
            token_seconds: 15 * 60,
            secure_cookies: false,
            longest_token_seconds: 24 * 60 * 60,
            key_file: None,
            jwks_url: None,
            audience: Vec::new(),
            issued_by: Vec::new(),
            algorithms: Vec::new(),
            leeway_seconds: 30,
        }
    }
}

impl Default for Agent {
    fn default() -> Self {
        Self { kind: AgentKind::Builtin, base_url: None, model: None, api_key_file: None, system: None, pace_ms: 40 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { kind: LogKind::Disk, sync: true }
    }
}

impl Default for Trace {
    fn default() -> Self {
        let trace::Settings { file_bytes, files, .. } = trace::Settings::new(Path::new(""));
        Self { directory: None, file_bytes, files }
    }
}

impl Trace {
    /// What a trace is begun with, if there is to be one.
    #[must_use]
    pub fn settings(&self) -> Option<trace::Settings> {
        let settings = trace::Settings::new(self.directory.as_deref()?);
        Some(trace::Settings { file_bytes: self.file_bytes, files: self.files, ..settings })
    }
}

impl Default for Limits {
    fn default() -> Self {
        let socket = transport::Limits::DEFAULT;
        Self {
            message_bytes: socket.message,
            frame_bytes: socket.frame,
            read_buffer_bytes: socket.read_buffer,
            write_buffer_bytes: socket.write_buffer,
            header_bytes: 16 * 1024,
            header_ms: 5_000,
            request_ms: 30_000,
            per_address: 2_048,
            sockets: 18_000,
        }
    }
}

impl Limits {
    /// Those of the sockets.
    #[must_use]
    pub const fn socket(&self) -> transport::Limits {
        transport::Limits {
            message: self.message_bytes,
            frame: self.frame_bytes,
            read_buffer: self.read_buffer_bytes,
            write_buffer: self.write_buffer_bytes,
        }
    }
}

macro_rules! machine_bounds {
    (counts { $($count:ident: $type:ty,)* } durations { $($duration:ident => $ms:ident,)* }) => {
        /// [`Bounds`] as a file holds them: durations are milliseconds.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[allow(missing_docs, reason = "each field is documented at the field of Bounds that it sets")]
        pub struct MachineBounds {
            $(pub $count: $type,)*
            $(pub $ms: u64,)*
        }

        impl Default for MachineBounds {
            fn default() -> Self {
                let bounds = Bounds::DEFAULT;
                Self {
                    $($count: bounds.$count,)*
                    $($ms: u64::try_from(bounds.$duration.as_millis()).unwrap_or(u64::MAX),)*
                }
            }
        }

        impl MachineBounds {
            /// The name of the field here that sets the field of that name of [`Bounds`].
            fn field(of_bounds: &str) -> Option<&'static str> {
                let fields = [
                    $((stringify!($count), stringify!($count)),)*
                    $((stringify!($duration), stringify!($ms)),)*
                ];
                fields.into_iter().find(|(name, _)| *name == of_bounds).map(|(_, field)| field)
            }
        }

        impl From<&MachineBounds> for Bounds {
            fn from(config: &MachineBounds) -> Self {
                Self {
                    $($count: config.$count,)*
                    $($duration: Duration::from_millis(config.$ms),)*
                }
            }
        }
    };
}

machine_bounds! {
    counts {
        connections: usize,
        runs: usize,
        tools: usize,
        events: u32,
        early: usize,
        outbox: usize,
        requests: u16,
        attempts: u8,
        retained: usize,
        pending: usize,
        failures: u8,
        revoked: usize,
        node_connections: u32,
        strikes: u8,
        recovery: u8,
    } durations {
        handshake => handshake_ms,
        idle => idle_ms,
        allowance => allowance_ms,
        grace => grace_ms,
        close => close_ms,
        verification => verification_ms,
        silence => silence_ms,
        linger => linger_ms,
        restore => restore_ms,
        fence => fence_ms,
        breaker => breaker_ms,
        retry => retry_ms,
        probe => probe_ms,
        drain => drain_ms,
        backoff => backoff_ms,
        backoff_most => backoff_most_ms,
        connect => connect_ms,
        heartbeat => heartbeat_ms,
    }
}

/// What flags set; they come before everything else.
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
}

/// What `--trace` sets.
#[derive(Clone, Debug, Serialize)]
pub struct TraceFlag {
    /// The directory.
    pub directory: PathBuf,
}

impl Config {
    /// The configuration of flags, environment and file, checked as a whole.
    ///
    /// # Errors
    ///
    /// What is wrong, and where: file, line and field, the environment variable, or the rule that is broken.
    pub fn load(file: Option<&Path>, flags: &Flags) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError(format!("cannot read the configuration {}: {error}", path.display())))?;
            // The parser itself says line and column; merged values have none.
            toml::from_str::<Self>(&text)
                .map_err(|error| ConfigError(format!("{}: {}", path.display(), error.to_string().trim_end())))?;
            figment = figment.merge(Toml::string(&text));
        }
        let environment = environment();
        figment = figment.merge(environment.clone());
        figment = figment.merge(Serialized::defaults(flags));
        let config: Self = figment.extract().map_err(|error| explain(&error, &environment))?;
        config.validate().map_err(|broken| broken.explain(&environment))?;
        Ok(config)
    }

    /// The rules between fields.
    fn validate(&self) -> Result<(), Broken> {
        let wrong = |field: &str, rule: &str| Err(Broken::new(field, rule));
        Bounds::from(&self.bounds).validate().map_err(Broken::of_bounds)?;
        match self.auth.issuer {
            Issuer::Accounts => {
                if self.auth.token_seconds < 10 {
                    return wrong("auth.token_seconds", "must be at least 10: a token must outlive a refresh");
                }
            }
            Issuer::Jwt => {
                if self.auth.key_file.is_some() == self.auth.jwks_url.is_some() {
                    return wrong("auth", "with `issuer = \"jwt\"` needs either `key_file` or `jwks_url`");
                }
            }
        }
        if self.agent.kind == AgentKind::Openai && (self.agent.base_url.is_none() || self.agent.model.is_none()) {
            return wrong("agent", "with `kind = \"openai\"` needs `base_url` and `model`");
        }
        if let Some(origin) = self.origins.iter().find(|origin| !origin.contains("://") || origin.ends_with('/')) {
            return wrong(
                "origins",
                &format!("holds {origin:?}: an origin is like https://chat.example.org, without a path"),
            );
        }
        let limits = &self.limits;
        for (field, value, least) in [
            ("limits.message_bytes", limits.message_bytes, 1_024),
            ("limits.frame_bytes", limits.frame_bytes, 1_024),
            ("limits.read_buffer_bytes", limits.read_buffer_bytes, 512),
            ("limits.header_bytes", limits.header_bytes, 8_192),
        ] {
            if value < least {
                return wrong(field, &format!("must be at least {least}"));
            }
        }
        for (field, value, least) in [
            ("limits.header_ms", limits.header_ms, 100),
            ("limits.request_ms", limits.request_ms, 1_000),
            ("limits.per_address", limits.per_address.into(), 1),
            ("limits.sockets", limits.sockets.into(), 1),
            ("trace.file_bytes", self.trace.file_bytes, 65_536),
            ("trace.files", self.trace.files as u64, 1),
        ] {
            if value < least {
                return wrong(field, &format!("must be at least {least}"));
            }
        }
        Ok(())
    }
}
