//! The routes' responses: JSON that is not cached, and errors as `{"error":{"code":…,"message":…}}`.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lockstep::internal::Seldom;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most bytes of a body.
const MAX_BODY: usize = 4096;
/// The most time for reading a body.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Limits the log line for a route that cannot answer to one every ten seconds, because a client could fill the log
/// with it.
static UNAVAILABLE: Seldom<&str> = Seldom::new(Duration::from_secs(10));

/// An error response.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct Envelope {
    error: Inner,
}

#[derive(Serialize)]
struct Inner {
    code: &'static str,
    message: Cow<'static, str>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    /// The error's code.
    pub(super) const fn code(&self) -> &'static str {
        self.code
    }

    pub(super) fn too_often(wait: Duration) -> Self {
        let message = "too many attempts: try again later";
        Self { retry_after: Some(wait), ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", message) }
    }

    /// Our own fault, or that of another system. The reason is for the operator.
    pub(super) fn unavailable(reason: &str) -> Self {
        if let Some(times) = UNAVAILABLE.say(&"") {
            tracing::warn!(reason, times, "a request cannot be answered now");
        }
        Self::later()
    }

    /// Unavailable for now; the reason has already been logged.
    pub(super) fn later() -> Self {
        let message = "temporarily unavailable: try again later";
        let wait = Some(Duration::from_secs(1));
        Self { retry_after: wait, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &Envelope { error: Inner { code: self.code, message: self.message } });
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            let seconds = HeaderValue::from_str(&seconds.to_string()).expect("digits are a header's value");
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// 200 with this body.
pub(super) fn ok(body: &impl Serialize) -> Response {
    json(StatusCode::OK, body)
}

/// 200 with a body that is JSON already.
pub(super) fn ok_json(body: String) -> Response {
    json_text(StatusCode::OK, body.into())
}

/// 204.
pub(super) fn nothing() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A body with this status.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    json_text(status, serde_json::to_vec(body).expect("strings and numbers are JSON"))
}

fn json_text(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Reads the body, at most `most` bytes, within [`BODY_TIME`].
pub(super) async fn bytes(request: Request, most: usize) -> Result<Bytes, Problem> {
    let bytes = tokio::time::timeout(BODY_TIME, to_bytes(request.into_body(), most)).await;
    let too_large = |_| {
        let message = format!("the body has more than {most} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    };
    bytes
        .map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not arrive in time"))?
        .map_err(too_large)
}

/// Reads the body as JSON, or returns `empty` if it is empty. An HTML form cannot send that content type, so a page of
/// another origin cannot send it without a CORS preflight.
pub(super) async fn body<T: DeserializeOwned>(request: Request, empty: Option<T>) -> Result<T, Problem> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence =
        content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim().to_ascii_lowercase();
    let bytes = bytes(request, MAX_BODY).await?;
    if let (true, Some(empty)) = (bytes.is_empty(), empty) {
        return Ok(empty);
    }
    if essence != "application/json" {
        let (code, message) = ("unsupported_media_type", "the body must be application/json");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code, message));
    }
    let wrong = |_| Problem::new(StatusCode::BAD_REQUEST, "bad_request", "the body is not valid JSON for this request");
    serde_json::from_slice(&bytes).map_err(wrong)
}
