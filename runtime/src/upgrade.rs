//! The upgrade of an HTTP request to a WebSocket (RFC 6455 §4.2), for any HTTP server.
//!
//! Requests, responses, headers and statuses are the types of the crate [`http`], which hyper, axum and tonic share, so
//! a server passes on its own values.
//!
//! The request may carry a credential: in `Authorization: Bearer`, as a subprotocol, or as `?ticket=`. Without one, the
//! first frame must be `auth`.
//!
//! | offered subprotocols | codec | answer |
//! | --- | --- | --- |
//! | `lockstep.v1`, with or without `jwt.<base64url of the token>` | v1 | `lockstep.v1` |
//! | `jwt-auth`, with or without `jwt.<base64url>` or `bearer.<base64url or the token>` | legacy | `jwt-auth` |
//! | `jwt.<base64url>` or `jwt-auth.<base64url>` alone | legacy | the same one |
//! | none | [`Builder::codec`](crate::manager::Builder::codec) | none |
//!
//! The first supported subprotocol counts. The server answers with the application's subprotocol that it chose, not
//! with a token, except in the third row. Older browser clients offer nothing but the token. A browser closes a
//! connection whose server selects none of the offered subprotocols, and a server may select only one that was offered
//! (RFC 6455 §4.2.2), so nothing else keeps these clients connected. The token then goes back only to its sender, in
//! the head of a response that no cache keeps.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio_util::either::Either;

use crate::manager::{Manager, Opening};
use crate::payload::Token;
use crate::transport::WebSocket;
pub use crate::transport::handshake::NotUpgraded;
use crate::transport::handshake::{bad, handshake, text, tokens};
use crate::wire::{Codec, resume_from_query};

mod member;

/// The address of a request's client: an extension of the request, which the server sets to what it knows. No header of
/// a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl Manager {
    /// Answers a request for the socket's path and, if it can be upgraded, serves the connection on a task of its own.
    ///
    /// The response has status 101, or its body says what is wrong with the request: 400, 403 for a page of an origin
    /// that may not connect, 426 for an unsupported protocol version.
    pub fn upgrade<B>(&self, mut request: Request<B>) -> Response<String> {
        let (opening, selected, accept) = match self.examine(&request) {
            Ok(found) => found,
            Err(NotUpgraded { status, reason }) => return refuse(status, reason),
        };
        self.accept(&mut request, opening, selected, accept)
    }

    /// Serves the connection, and returns the response of the upgrade.
    pub(crate) fn accept<B>(
        &self,
        request: &mut Request<B>,
        opening: Opening,
        selected: Option<HeaderValue>,
        accept: HeaderValue,
    ) -> Response<String> {
        let upgrade = hyper::upgrade::on(request);
        let limits = self.inner.limits;
        let socket = async move {
            match upgrade.await {
                Ok(upgraded) => {
                    let (stream, frames) = prompt(upgraded);
                    Some(WebSocket::begun(stream, frames, &limits))
                }
                Err(error) => {
                    tracing::debug!(%error, "the upgrade failed");
                    None
                }
            }
        };
        tokio::spawn(self.serve(opening, socket));
        let mut response = Response::new(String::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(selected) = selected {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, selected);
        }
        response
    }

    /// Checks a request. Returns its parameters, the subprotocol to select, and the answer to its key.
    fn examine<B>(&self, request: &Request<B>) -> Result<(Opening, Option<HeaderValue>, HeaderValue), NotUpgraded> {
        let headers = request.headers();
        let accept = handshake(request)?;
        let origin = headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or(""));
        if !origin_allowed(origin, text(headers, &HOST), &self.inner.origins) {
            return Err(NotUpgraded {
                status: StatusCode::FORBIDDEN,
                reason: "pages of this origin may not connect: add it to the gateway's `origins`",
            });
        }
        let offer = Offer::of(headers)?;
        let selected = offer.as_ref().map(|offer| offer.answer.clone());
        Ok((self.opening(request, offer)?, selected, accept))
    }

    fn opening<B>(&self, request: &Request<B>, offer: Option<Offer>) -> Result<Opening, NotUpgraded> {
        let query = request.uri().query().unwrap_or("");
        let codec = offer.as_ref().map_or(self.inner.codec, |offer| offer.codec);
        let in_protocol = offer.and_then(|offer| offer.credential);
        let in_header = bearer(request.headers()).map(Token::new);
        let resume = resume_from_query(query).map_err(|wrong| bad(wrong.reason()))?;
        let mut tickets =
            query.split('&').filter_map(|pair| (pair == "ticket").then_some("").or(pair.strip_prefix("ticket=")));
        let ticket = tickets.next();
        if tickets.next().is_some() {
            return Err(bad("`ticket` must be given only once"));
        }
        if [in_header.is_some(), in_protocol.is_some(), ticket.is_some()].iter().filter(|given| **given).count() > 1 {
            return Err(bad(
                "send the credential only once: in `Authorization`, as a subprotocol `jwt.…`, or as `ticket`",
            ));
        }
        let in_ticket = ticket.map(Token::ticket);
        let credential = in_header.or(in_protocol).or(in_ticket);
        let client = request.extensions().get::<ClientAddress>().map(|client| client.0);
        Ok(Opening { credential, resume, client, ..Opening::new(codec) })
    }
}

/// The content of a request's subprotocols.
struct Offer {
    codec: Codec,
    credential: Option<Token>,
    /// The subprotocol that is selected.
    answer: HeaderValue,
}

impl Offer {
    /// `None` if the request offers no subprotocol.
    fn of(headers: &HeaderMap) -> Result<Option<Self>, NotUpgraded> {
        let (mut codec, mut credential, mut alone) = (None, None, None);
        let mut offered = tokens(headers, &SEC_WEBSOCKET_PROTOCOL).peekable();
        if offered.peek().is_none() {
            return Ok(None);
        }
        for protocol in offered {
            codec = codec.or_else(|| Codec::of_subprotocol(protocol));
            let prefixed = ALONE.iter().find_map(|prefix| protocol.strip_prefix(prefix));
            if prefixed.is_some() {
                alone = alone.or(Some(protocol));
            }
            credential = credential.or_else(|| prefixed.or(protocol.strip_prefix("bearer.")).map(unwrap_token));
        }
        match (codec, alone.map(HeaderValue::from_str)) {
            (Some(codec), _) => {
                let answer = HeaderValue::from_static(codec.subprotocol());
                Ok(Some(Self { codec, credential, answer }))
            }
            (None, Some(Ok(answer))) => Ok(Some(Self { codec: Codec::Legacy, credential, answer })),
            (None, Some(Err(_)) | None) => Err(bad(
                "no offered subprotocol is supported: offer `lockstep.v1`, or `jwt-auth` for the older envelope",
            )),
        }
    }
}

/// The prefixes of subprotocols that are a credential, and may be the only one that is offered.
const ALONE: [&str; 2] = ["jwt.", "jwt-auth."];

/// Returns the stream of an upgraded connection and the bytes that were already read from it. Sets `TCP_NODELAY` on a
/// plain TCP socket, whichever server accepted it: otherwise the pieces of an answer wait for the peer's
/// acknowledgements, some 40 ms each.
fn prompt(upgraded: Upgraded) -> (Either<TcpStream, TokioIo<Upgraded>>, Vec<u8>) {
    let tcp = |stream: TcpStream, read: &[u8]| {
        // Setting the option fails only on a socket that is gone.
        let _ = stream.set_nodelay(true);
        (Either::Left(stream), read.to_vec())
    };
    // First hyper's own connections, then hyper-util's, which axum serves with.
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return tcp(parts.io.into_inner(), &parts.read_buf),
        Err(upgraded) => upgraded,
    };
    match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => tcp(parts.io.into_inner(), &parts.read_buf),
        Err(upgraded) => (Either::Right(TokioIo::new(upgraded)), Vec::new()),
    }
}

/// Returns the token in a subprotocol `jwt.…`. Anything but base64url, such as a token as it is, is presented unchanged.
fn unwrap_token(encoded: &str) -> Token {
    let decoded = URL_SAFE_NO_PAD.decode(encoded.trim_end_matches('=')).ok();
    let token = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    Token::new(token.as_deref().unwrap_or(encoded))
}

/// Whether a request from a page of this origin may be served.
///
/// Browsers send the page's origin with every request that could do harm. Other clients send none and pass, because
/// they have no cookies or pages to abuse (RFC 6454, RFC 6455 §10.2). A page passes if this host served it, or if its
/// origin is in the list, written as `https://chat.example.org` or with a port. The origin `null` of sandboxed pages
/// and files never passes.
#[must_use]
pub fn origin_allowed(origin: Option<&str>, host: Option<&str>, allowed: &[String]) -> bool {
    let Some(origin) = origin else { return true };
    if origin == "null" {
        return false;
    }
    if allowed.iter().any(|allowed| allowed.trim_end_matches('/').eq_ignore_ascii_case(origin)) {
        return true;
    }
    let (Some(host), Some((scheme, authority))) = (host, origin.split_once("://")) else { return false };
    // A browser omits the scheme's default port from the origin, while the host may include it.
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let strip = |authority: &str| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
    !authority.is_empty() && strip(authority) == strip(host)
}

/// Returns the token in the header `Authorization: Bearer` (RFC 6750 §2.1).
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, &AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

pub(crate) fn refuse(status: StatusCode, reason: &str) -> Response<String> {
    let mut response = Response::new(format!("{reason}\n"));
    *response.status_mut() = status;
    if status == StatusCode::UPGRADE_REQUIRED {
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    response
}
