//! The request of a WebSocket upgrade (RFC 6455 §4.2.1), read by any server.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, StatusCode, Version};
use tungstenite::handshake::derive_accept_key;

/// Why a request is not upgraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotUpgraded {
    /// The status of the response.
    pub status: StatusCode,
    /// The fault of the request, and the expected form.
    pub reason: &'static str,
}

impl core::fmt::Display for NotUpgraded {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.status, self.reason)
    }
}

impl core::error::Error for NotUpgraded {}

/// Fields that may appear once: with two values, a proxy might use the other one.
const ONCE: [HeaderName; 5] = [HOST, ORIGIN, AUTHORIZATION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION];

pub(crate) const fn bad(reason: &'static str) -> NotUpgraded {
    NotUpgraded { status: StatusCode::BAD_REQUEST, reason }
}

/// Checks that a request is a WebSocket upgrade (RFC 6455 §4.2.1), and returns the answer to its key.
pub(crate) fn handshake<B>(request: &Request<B>) -> Result<HeaderValue, NotUpgraded> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(NotUpgraded { status: StatusCode::METHOD_NOT_ALLOWED, reason: "a WebSocket upgrade must use GET" });
    }
    if request.version() < Version::HTTP_11 {
        return Err(bad("a WebSocket upgrade must use HTTP/1.1"));
    }
    if !has_token(headers, &UPGRADE, "websocket") || !has_token(headers, &CONNECTION, "upgrade") {
        return Err(NotUpgraded {
            status: StatusCode::UPGRADE_REQUIRED,
            reason: "this path accepts only WebSocket upgrades: send `Connection: Upgrade` and `Upgrade: websocket`",
        });
    }
    if ONCE.iter().any(|name| headers.get_all(name).iter().nth(1).is_some()) {
        return Err(bad(
            "send Host, Origin, Authorization, Sec-WebSocket-Key and Sec-WebSocket-Version only once each",
        ));
    }
    if headers.get(HOST).is_none_or(|host| host.as_bytes().trim_ascii().is_empty()) {
        return Err(bad("the Host header is missing"));
    }
    // This process or a proxy could mistake a body for frames.
    let is_empty = |length: &HeaderValue| length.as_bytes().trim_ascii() == b"0";
    if headers.contains_key(TRANSFER_ENCODING) || !headers.get_all(CONTENT_LENGTH).iter().all(is_empty) {
        return Err(bad("an upgrade request must not have a body: send neither Content-Length nor Transfer-Encoding"));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(NotUpgraded { status: StatusCode::UPGRADE_REQUIRED, reason: "Sec-WebSocket-Version must be 13" });
    }
    let key = text(headers, &SEC_WEBSOCKET_KEY).filter(|key| STANDARD.decode(key).is_ok_and(|key| key.len() == 16));
    let key = key.ok_or(bad("Sec-WebSocket-Key must be 16 bytes in base64"))?;
    HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| bad("Sec-WebSocket-Key"))
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The elements of a comma-separated header, over all its lines.
pub(crate) fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}
