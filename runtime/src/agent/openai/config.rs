//! What the adapter is told.

use core::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

/// How to reach a model, and what to ask of it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address of the API, with its version: `https://api.openai.com/v1`. `/chat/completions` is appended.
    pub base_url: String,
    /// Sent as `Authorization: Bearer`. A model on one's own machine may need none.
    pub api_key: Option<ApiKey>,
    /// The model's name at that server.
    pub model: String,
    /// What the model is told before every conversation.
    pub system: Option<String>,
    /// How freely it chooses its words; the server's default if none.
    pub temperature: Option<f64>,
    /// The most tokens of one reply; the server's default if none.
    pub max_tokens: Option<u32>,
    /// The field that says so: `max_tokens`, or `max_completion_tokens` for servers that want that one.
    pub max_tokens_field: String,
    /// Asks for the usage of tokens (`stream_options`). A server that refuses it is asked without from then on.
    pub usage: bool,
    /// Fields of a request, and of the messages in it, that are left out because the server refuses them: `tools`,
    /// `temperature`, `reasoning_content`.
    pub omit: Vec<String>,
    /// Fields that are added to each request, or take the place of the adapter's own.
    pub extra_body: Map<String, Value>,
    /// Headers that are added to each request.
    pub headers: Vec<(String, String)>,
    /// The header that the key goes into as it is. `None`: `Authorization`, after `Bearer`.
    pub api_key_header: Option<String>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long the answer's first bytes may take, from the request.
    pub first_byte_timeout: Duration,
    /// How long the stream may be silent. Comments and empty events are no silence.
    pub idle_timeout: Duration,
    /// How long one tool may take.
    pub tool_timeout: Duration,
    /// How often a request is repeated that did not begin to be answered: no connection, 429, or 5xx.
    pub retries: u32,
    /// The pause before the first repetition, unless the server names one. It doubles each time, and a random part of up
    /// to half of it is left out.
    pub backoff: Duration,
    /// The longest pause. If the server asks for a longer one (`Retry-After`), the run fails at once.
    pub backoff_most: Duration,
    /// How often the model may call tools before it must have answered.
    pub max_rounds: u32,
    /// How many earlier messages of the thread it is told, with what came of each: tools and their results, and what was
    /// said until a run failed or was stopped.
    pub max_turns: usize,
    /// Bytes of these, of the messages as they are sent.
    pub max_history_bytes: usize,
    /// Whether `HTTP_PROXY` and its like in the environment count.
    pub proxy: bool,
}

impl Config {
    /// A model with everything else at its default.
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
        let url = Url::parse(&format!("{base}/chat/completions")).map_err(|_| ConfigError::Url)?;
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !plain {
            return Err(ConfigError::Url);
        }
        if self.model.trim().is_empty() {
            return Err(ConfigError::Model);
        }
        Ok(url)
    }

    /// What each request says beside its body.
    pub(super) fn request_headers(&self) -> Result<HeaderMap, ConfigError> {
        let name = |name: &String| HeaderName::try_from(name).map_err(|_| ConfigError::Header);
        let mut headers = HeaderMap::new();
        for (header, value) in &self.headers {
            headers.insert(name(header)?, HeaderValue::try_from(value).map_err(|_| ConfigError::Header)?);
        }
        if let Some(key) = &self.api_key {
            match &self.api_key_header {
                Some(header) => headers.insert(name(header)?, key.value("")?),
                None => headers.insert(AUTHORIZATION, key.value("Bearer ")?),
            };
        }
        Ok(headers)
    }
}

/// A key that shows itself to nobody but the server it is for.
#[derive(Clone)]
pub struct ApiKey(Arc<str>);

impl ApiKey {
    /// A key; white space around it does not count.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Key`] if it is empty or cannot stand in a header.
    pub fn new(key: &str) -> Result<Self, ConfigError> {
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::Key);
        }
        Ok(Self(Arc::from(key)))
    }

    /// The key in an environment variable. `None` if there is no such variable.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Key`].
    pub fn from_env(variable: &str) -> Result<Option<Self>, ConfigError> {
        match std::env::var_os(variable) {
            Some(key) => Self::new(key.to_str().ok_or(ConfigError::Key)?).map(Some),
            None => Ok(None),
        }
    }

    /// The key in a file that has nothing else in it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::KeyFile`] or [`ConfigError::Key`].
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let key = std::fs::read_to_string(path).map_err(|error| ConfigError::KeyFile(error.kind()))?;
        Self::new(&key)
    }

    /// The value of its header, marked so that no layer below shows it either.
    fn value(&self, scheme: &str) -> Result<HeaderValue, ConfigError> {
        let mut value = HeaderValue::try_from(format!("{scheme}{}", self.0)).map_err(|_| ConfigError::Key)?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// A text in which this key does not occur.
    pub(super) fn redact(&self, text: &str) -> String {
        text.replace(&*self.0, "[key]")
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// What is wrong with a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The address is no `http://` or `https://` URL, or it has credentials or a query in it.
    Url,
    /// The model has no name.
    Model,
    /// The key is empty or cannot stand in a header.
    Key,
    /// The key's file cannot be read.
    KeyFile(std::io::ErrorKind),
    /// A header's name or value cannot stand in a request.
    Header,
    /// The HTTP client cannot be made: this system has no certificates to trust.
    Client,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str("the model's base URL must be http:// or https://, without credentials or query"),
            Self::Model => f.write_str("the model has no name"),
            Self::Key => f.write_str("the model's API key is empty, or has characters that no header may have"),
            Self::KeyFile(kind) => write!(f, "the file with the model's API key cannot be read: {kind}"),
            Self::Header => f.write_str("a header for the model's server has a name or value that no header may have"),
            Self::Client => f.write_str("no HTTPS client can be made: the system has no certificates to trust"),
        }
    }
}

impl core::error::Error for ConfigError {}
