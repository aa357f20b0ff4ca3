//! Shared parts of the agents that call a server over HTTP: the client, the secret, pauses, refusals, and events in
//! flight.

use core::pin::Pin;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lockstep_model::Refusal;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, Url};

use super::EmitError;

/// The most bytes of a refusal that are read, for the operator's log.
const MAX_REFUSAL: usize = 4 << 10;
/// The most characters of a server's text that are logged.
pub(super) const MAX_LOGGED: usize = 300;
/// The most bytes of a tool's result that are sent to the server.
pub(super) const MAX_RESULT: usize = 64 << 10;
/// The most bytes that one event shows, and the most that may wait to be shown before reading pauses.
pub(super) const MAX_WAITING: usize = 64 << 10;

/// An event on its way to the log.
pub(super) type Emitting<'a, T> = Pin<Box<dyn Future<Output = Result<T, EmitError>> + Send + 'a>>;

/// Waits for the event in flight; never returns if there is none.
pub(super) async fn settled<T>(emitting: &mut Option<Emitting<'_, T>>) -> Result<T, EmitError> {
    match emitting {
        Some(emitting) => emitting.await,
        None => core::future::pending().await,
    }
}

/// Removes as much of a text as one event shows.
pub(super) fn begin(text: &mut String) -> String {
    let rest = text.split_off(text.floor_char_boundary(MAX_WAITING));
    core::mem::replace(text, rest)
}

/// Whether an event was left out because the run is at its event limit. Such a run can still end.
pub(super) fn is_beyond(error: &EmitError) -> bool {
    *error == EmitError::Refused(Refusal::TooManyEvents)
}

/// The client for a server: it follows no redirect, because neither the secret nor the conversation may go anywhere
/// that the operator did not configure. `None` if this system has no certificates to trust.
pub(super) fn client(endpoint: &Url, headers: HeaderMap, connect: Duration, proxy: bool) -> Option<Client> {
    // An error means that the process already has one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = Client::builder()
        .default_headers(headers)
        .user_agent(concat!("lockstep/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect)
        .redirect(reqwest::redirect::Policy::none());
    if endpoint.scheme() == "http" {
        // A local server needs no system certificates.
        client = client.tls_certs_only([]);
    }
    if !proxy {
        client = client.no_proxy();
    }
    client.build().ok()
}

/// An `http://` or `https://` URL without credentials or query.
pub(super) fn endpoint(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    (matches!(url.scheme(), "http" | "https") && url.has_host() && plain).then_some(url)
}

/// Headers that the operator adds. `None` if a name or a value is not valid.
pub(super) fn headers(added: &[(String, String)]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (header, value) in added {
        headers.insert(HeaderName::try_from(header).ok()?, HeaderValue::try_from(value).ok()?);
    }
    Some(headers)
}

/// A key or a token. It is shown only to the server that it is for.
#[derive(Clone)]
pub(super) struct Secret(Arc<str>);

/// Why a text is not valid as a secret.
#[derive(Debug)]
pub(super) enum NotASecret {
    /// It is empty or is not valid in a header.
    Invalid,
    /// Its file cannot be read.
    File(std::io::ErrorKind),
}

impl Secret {
    /// Surrounding white space is ignored.
    pub(super) fn new(text: &str) -> Result<Self, NotASecret> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NotASecret::Invalid);
        }
        Ok(Self(Arc::from(text)))
    }

    pub(super) fn from_env(variable: &str) -> Result<Option<Self>, NotASecret> {
        match std::env::var_os(variable) {
            Some(text) => Self::new(text.to_str().ok_or(NotASecret::Invalid)?).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn from_file(path: &Path) -> Result<Self, NotASecret> {
        Self::new(&std::fs::read_to_string(path).map_err(|error| NotASecret::File(error.kind()))?)
    }

    /// The value of its header, marked as sensitive so that no lower layer shows it either.
    pub(super) fn value(&self, scheme: &str) -> Option<HeaderValue> {
        let mut value = HeaderValue::try_from(format!("{scheme}{}", self.0)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The text with this secret replaced by `[key]`.
    pub(super) fn redact(&self, text: &str) -> String {
        text.replace(&*self.0, "[key]")
    }
}

/// The media type of a response, without parameters, in lower case.
pub(super) fn media_type(response: &Response) -> String {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads the body of a refusal: as much as arrives within two seconds, or within the server's own time-out.
pub(super) async fn refusal(mut response: Response, idle: Duration) -> Vec<u8> {
    let mut body = Vec::new();
    let reading = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() >= MAX_REFUSAL {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(idle.min(Duration::from_secs(2)), reading).await;
    body.truncate(MAX_REFUSAL);
    body
}

/// A server's text for the operator's log, without the secret.
pub(super) fn logged(text: &str, secret: Option<&Secret>) -> String {
    let text = secret.map_or_else(|| text.to_owned(), |secret| secret.redact(text));
    text.chars().take(MAX_LOGGED).collect()
}

/// Whether a server's text has the form of a code, so that users may see it.
pub(super) fn is_code(text: &str) -> bool {
    (1..=40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// The pause before another attempt: `first`, doubled for each earlier one, at most `most`, with a random part of up to
/// half of it left out.
pub(super) fn pause(first: Duration, most: Duration, attempt: u32) -> Duration {
    let whole = first.saturating_mul(2_u32.saturating_pow(attempt)).min(most);
    // Without randomness, all clients wait equally long. That is no reason to fail.
    let random = crate::support::random::random_bytes().map_or(0, u32::from_ne_bytes);
    whole - whole.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
}

/// The pause that a server asks for (RFC 9110 §10.2.3): a number of seconds, or the date at which it ends.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = || value.parse().ok().map(Duration::from_secs);
    let date = || Some(httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).unwrap_or_default());
    seconds().or_else(date)
}

/// The beginning of a text, at most `most` bytes long.
pub(super) fn head(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// An error with its causes.
pub(super) fn causes(error: &dyn core::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
