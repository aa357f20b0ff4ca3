//! The adapter's configuration.

use core::fmt;
use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName};
use serde_json::{Map, Value};

use crate::agent::http::{self, NotASecret, Secret};

/// How to reach a model, and what to request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The address of the API, with its version: `https://api.openai.com/v1`. `/chat/completions` is appended.
    pub base_url: String,
    /// Sent as `Authorization: Bearer`. A local model may need none.
    pub api_key: Option<ApiKey>,
    /// The model's name at that server.
    pub model: String,
    /// The system prompt of every conversation.
    pub system: Option<String>,
    /// The sampling temperature; the server's default if `None`.
    pub temperature: Option<f64>,
    /// The most tokens of one reply; the server's default if `None`.
    pub max_tokens: Option<u32>,
    /// The field that carries it: `max_tokens`, or `max_completion_tokens` for servers that require that one.
    pub max_tokens_field: String,
    /// Asks for token usage (`stream_options`). If a server refuses this, later requests go without it.
    pub usage: bool,
    /// Fields of a request, and of its messages, that are left out because the server refuses them, such as `tools`,
    /// `temperature` or `reasoning_content`.
    pub omit: Vec<String>,
    /// Fields that are added to each request, any JSON; they replace the adapter's own.
    pub extra_body: Map<String, Value>,
    /// Headers that are added to each request.
    pub headers: Vec<(String, String)>,
    /// The header that carries the bare key. `None`: `Authorization`, after `Bearer`.
    pub api_key_header: Option<String>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// The longest time from the request to the first bytes of the answer.
    pub first_byte_timeout: Duration,
    /// The longest silence of the stream. Comments and empty events end a silence.
    pub idle_timeout: Duration,
    /// How long one tool may take.
    pub tool_timeout: Duration,
    /// How often a request is repeated that got no answer: no connection, 429, or 5xx.
    pub retries: u32,
    /// The pause before the first repetition, unless the server names one. It doubles each time, and a random part of
    /// up to half of it is left out.
    pub backoff: Duration,
    /// The longest pause. If the server asks for a longer one (`Retry-After`), the run fails at once.
    pub backoff_most: Duration,
    /// How often the model may call tools before it must answer.
    pub max_rounds: u32,
    /// The most earlier messages of the thread that the model is sent, each with its run: tools and their results, and
    /// the text until the run failed or was stopped.
    pub max_turns: usize,
    /// The most bytes of these messages, as they are sent.
    pub max_history_bytes: usize,
    /// Whether `HTTP_PROXY` and similar environment variables apply.
    pub proxy: bool,
}

impl Config {
    /// A configuration for this model, with everything else at its default.
    #[must_use]
    pub fn new(base_url: &str, model: &str) -> Self {
        Self {
            base_url: base_url.to_owned(),
            api_key: None,
            model: model.to_owned(),
            system: None,
            temperature: None,
            max_tokens: None,
            max_tokens_field: "max_tokens".to_owned(),
            usage: true,
            omit: Vec::new(),
            extra_body: Map::new(),
            headers: Vec::new(),
            api_key_header: None,
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_mins(5),
            idle_timeout: Duration::from_mins(5),
            tool_timeout: Duration::from_mins(10),
            retries: 3,
            backoff: Duration::from_millis(500),
            backoff_most: Duration::from_secs(20),
            max_rounds: 8,
            max_turns: 20,
            max_history_bytes: 64 << 10,
            proxy: true,
        }
    }

    /// Where requests go.
    pub(super) fn endpoint(&self) -> Result<Url, ConfigError> {
        let base = self.base_url.trim_end_matches('/');
        let url = http::endpoint(&format!("{base}/chat/completions")).ok_or(ConfigError::Url)?;
        if self.model.trim().is_empty() {
            return Err(ConfigError::Model);
        }
        Ok(url)
    }

    /// The headers of each request.
    pub(super) fn request_headers(&self) -> Result<HeaderMap, ConfigError> {
        let mut headers = http::headers(&self.headers).ok_or(ConfigError::Header)?;
        if let Some(key) = &self.api_key {
            let (header, scheme) = match &self.api_key_header {
                Some(header) => (HeaderName::try_from(header).map_err(|_| ConfigError::Header)?, ""),
                None => (AUTHORIZATION, "Bearer "),
            };
            headers.insert(header, key.0.value(scheme).ok_or(ConfigError::Key)?);
        }
        Ok(headers)
    }
}

/// An API key. It is shown only to the server that it is for.
#[derive(Clone)]
pub struct ApiKey(Secret);

impl ApiKey {
    /// Creates a key. Surrounding white space is ignored.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Key`] if it is empty or is not valid in a header.
    pub fn new(key: &str) -> Result<Self, ConfigError> {
        Ok(Self(Secret::new(key)?))
    }

    /// Reads the key from an environment variable. `None` if the variable is not set.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Key`].
    pub fn from_env(variable: &str) -> Result<Option<Self>, ConfigError> {
        Ok(Secret::from_env(variable)?.map(Self))
    }

    /// Reads the key from a file that contains nothing else.
    ///
    /// # Errors
    ///
    /// [`ConfigError::KeyFile`] or [`ConfigError::Key`].
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        Ok(Self(Secret::from_file(path)?))
    }

    /// The text with this key replaced by `[key]`.
    pub(super) fn redact(&self, text: &str) -> String {
        self.0.redact(text)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// Why a configuration is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The address is not an `http://` or `https://` URL, or it contains credentials or a query.
    Url,
    /// The model has no name.
    Model,
    /// The key is empty or is not valid in a header.
    Key,
    /// The key's file cannot be read.
    KeyFile(std::io::ErrorKind),
    /// A header's name or value is not valid.
    Header,
    /// The HTTP client cannot be built: this system has no certificates to trust.
    Client,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str("the model's base URL must be http:// or https://, without credentials or query"),
            Self::Model => f.write_str("the model's name is empty"),
            Self::Key => {
                f.write_str("the model's API key is empty, or contains characters that a header cannot contain")
            }
            Self::KeyFile(kind) => write!(f, "the file with the model's API key cannot be read: {kind}"),
            Self::Header => f.write_str("a header for the model's server has an invalid name or value"),
            Self::Client => f.write_str("cannot create an HTTPS client: the system has no trusted certificates"),
        }
    }
}

impl core::error::Error for ConfigError {}

impl From<NotASecret> for ConfigError {
    fn from(error: NotASecret) -> Self {
        match error {
            NotASecret::Invalid => Self::Key,
            NotASecret::File(kind) => Self::KeyFile(kind),
        }
    }
}
