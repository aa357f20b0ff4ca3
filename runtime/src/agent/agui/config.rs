//! The agent's configuration.

use core::fmt;
use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName};

use crate::agent::http::{self, NotASecret, Secret};

/// The events that are passed on unless [`Config::pass_on`] says otherwise: all with new content. `RAW` and
/// `MESSAGES_SNAPSHOT` repeat other events, and some servers send one with every piece of text.
pub const PASSED_ON: [&str; 10] = [
    "STATE_SNAPSHOT",
    "STATE_DELTA",
    "ACTIVITY_SNAPSHOT",
    "ACTIVITY_DELTA",
    "STEP_STARTED",
    "STEP_FINISHED",
    "SUBAGENT_STARTED",
    "SUBAGENT_FINISHED",
    "SUBAGENT_ERROR",
    "CUSTOM",
];

/// How to reach an agent's server, and what to send.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The address that runs are posted to, such as `http://127.0.0.1:8000/`.
    pub url: String,
    /// Sent as `Authorization: Bearer`. A local server may need none.
    pub token: Option<Token>,
    /// The header that carries the bare token. `None`: `Authorization`, after `Bearer`.
    pub token_header: Option<String>,
    /// Headers that are added to each request.
    pub headers: Vec<(String, String)>,
    /// The types of the events that are passed on as `agent_thinking` with `{"agui": event}`.
    pub pass_on: Vec<String>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// The longest time from the request to the first bytes of the answer.
    pub first_byte_timeout: Duration,
    /// The longest silence of the stream while no tool runs. Comments end a silence.
    pub idle_timeout: Duration,
    /// The longest silence of the stream while a tool runs.
    pub tool_timeout: Duration,
    /// The most bytes of one event, or of one line.
    pub max_event_bytes: usize,
    /// The most bytes of all events of a run.
    pub max_answer_bytes: usize,
    /// How often a request is repeated that did not reach the server, or that it refused with 429 or 503.
    pub retries: u32,
    /// The pause before the first repetition, unless the server names one. It doubles each time, and a random part of
    /// up to half of it is left out.
    pub backoff: Duration,
    /// The longest pause. If the server asks for a longer one (`Retry-After`), the run fails at once.
    pub backoff_most: Duration,
    /// The most earlier messages of the thread that the agent is sent, each with its run.
    pub max_turns: usize,
    /// The most bytes of these messages. The newest ones that fit are sent.
    pub max_history_bytes: usize,
    /// Whether `HTTP_PROXY` and similar environment variables apply.
    pub proxy: bool,
}

impl Config {
    /// A configuration for the agent at this address, with everything else at its default.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            token: None,
            token_header: None,
            headers: Vec::new(),
            pass_on: PASSED_ON.map(str::to_owned).to_vec(),
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_mins(5),
            idle_timeout: Duration::from_mins(5),
            tool_timeout: Duration::from_mins(10),
            max_event_bytes: crate::agent::sse::MAX_EVENT,
            max_answer_bytes: 16 << 20,
            retries: 3,
            backoff: Duration::from_millis(500),
            backoff_most: Duration::from_secs(20),
            max_turns: 20,
            max_history_bytes: 64 << 10,
            proxy: true,
        }
    }

    /// Where requests go.
    pub(super) fn endpoint(&self) -> Result<Url, ConfigError> {
        http::endpoint(&self.url).ok_or(ConfigError::Url)
    }

    /// The headers of each request.
    pub(super) fn request_headers(&self) -> Result<HeaderMap, ConfigError> {
        let mut headers = http::headers(&self.headers).ok_or(ConfigError::Header)?;
        if let Some(Token(token)) = &self.token {
            let (header, scheme) = match &self.token_header {
                Some(header) => (HeaderName::try_from(header).map_err(|_| ConfigError::Header)?, ""),
                None => (AUTHORIZATION, "Bearer "),
            };
            headers.insert(header, token.value(scheme).ok_or(ConfigError::Token)?);
        }
        Ok(headers)
    }
}

/// The gateway's token at the agent's server. It is shown only to that server.
#[derive(Clone)]
pub struct Token(pub(super) Secret);

impl Token {
    /// Creates a token. Surrounding white space is ignored.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Token`] if it is empty or is not valid in a header.
    pub fn new(token: &str) -> Result<Self, ConfigError> {
        Ok(Self(Secret::new(token)?))
    }

    /// Reads the token from an environment variable. `None` if the variable is not set.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Token`].
    pub fn from_env(variable: &str) -> Result<Option<Self>, ConfigError> {
        Ok(Secret::from_env(variable)?.map(Self))
    }

    /// Reads the token from a file that contains nothing else.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TokenFile`] or [`ConfigError::Token`].
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        Ok(Self(Secret::from_file(path)?))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Why a configuration is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The address is not an `http://` or `https://` URL, or it contains credentials or a query.
    Url,
    /// The token is empty or is not valid in a header.
    Token,
    /// The token's file cannot be read.
    TokenFile(std::io::ErrorKind),
    /// A header's name or value is not valid.
    Header,
    /// The HTTP client cannot be built: this system has no certificates to trust.
    Client,
}

impl From<NotASecret> for ConfigError {
    fn from(error: NotASecret) -> Self {
        match error {
            NotASecret::Invalid => Self::Token,
            NotASecret::File(kind) => Self::TokenFile(kind),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str("the agent's URL must be http:// or https://, without credentials or query"),
            Self::Token => {
                f.write_str("the agent's token is empty, or contains characters that a header cannot contain")
            }
            Self::TokenFile(kind) => write!(f, "the file with the agent's token cannot be read: {kind}"),
            Self::Header => f.write_str("a header for the agent's server has an invalid name or value"),
            Self::Client => f.write_str("cannot create an HTTPS client: the system has no trusted certificates"),
        }
    }
}

impl core::error::Error for ConfigError {}
