//! Serves one connection's requests as their client sent them, independent of proxies in front and of the base path.

use core::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use lockstep::internal::lock;
use lockstep::manager::Draining;

use super::forwarded::{self, Client};
use super::permits::{Limit, Permit, Permits};
use super::stream::Phase;
use super::{Serving, refused};
use crate::login::ClientAddress;

/// The part of a connection that its requests need.
pub(super) struct Connection {
    pub(super) serving: Arc<Serving>,
    pub(super) permits: Arc<Permits>,
    /// The client's address: the socket's peer, or the one that the PROXY protocol names.
    pub(super) peer: IpAddr,
    /// Whether the socket's peer is a trusted proxy.
    pub(super) trusted: bool,
    /// Whether it used TLS, here or at a proxy that says so for the whole connection.
    pub(super) secure: bool,
    /// The limit beyond which it is served without an upgrade.
    pub(super) beyond: Option<Limit>,
    pub(super) phase: Arc<Phase>,
    pub(super) draining: Draining,
    /// Its permit, the permit of the client that the connection belongs to, and the permit of the current request's client.
    pub(super) _permit: Permit,
    pub(super) _owner: Option<Permit>,
    pub(super) claim: Mutex<Option<Permit>>,
}

impl Connection {
    /// Answers a request within the time limit, even if the peer never sends its announced body. Otherwise such a peer
    /// would hold its permit forever.
    pub(super) async fn answer(
        self: Arc<Self>,
        router: Router,
        request: Request<Incoming>,
    ) -> Result<Response, Infallible> {
        let client = self.client(request.headers());
        let secure = client.secure.unwrap_or(self.secure);
        let mut response = match self.arranged(request.map(Body::new), client) {
            Ok(request) => {
                let answer = TowerToHyperService::new(router).call(request);
                match tokio::time::timeout(self.serving.limits.request(), answer).await {
                    Ok(Ok(response)) => response,
                    Ok(Err(never)) => match never {},
                    Err(_) => late(),
                }
            }
            Err(response) => *response,
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // A finished request holds no permit of its client.
            *lock(&self.claim) = None;
            if self.draining.has_begun() || self.beyond.is_some() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
        if secure {
            self.by_tls(response.headers_mut());
        }
        Ok(response)
    }

    /// The request's client.
    fn client(&self, headers: &HeaderMap) -> Client {
        if self.trusted {
            return forwarded::client(&self.serving.proxies, self.peer, headers);
        }
        Client { address: self.peer, secure: None, host: None }
    }

    /// The request as its client sent it, with its path relative to the routes.
    fn arranged(&self, mut request: Request<Body>, client: Client) -> Result<Request<Body>, Box<Response>> {
        if request.headers().contains_key(header::UPGRADE) {
            if let Some(limit) = self.beyond {
                refused(limit);
                return Err(Box::new(full()));
            }
            if self.trusted {
                let claim = Permits::claim(&self.permits, client.address).ok_or_else(|| {
                    refused(Limit::PerAddress);
                    Box::new(full())
                })?;
                *lock(&self.claim) = Some(claim);
            }
        }
        let prefix = self.serving.base_path.prefix();
        if let Some(rest) = request.uri().path().strip_prefix(prefix).filter(|_| !prefix.is_empty()) {
            if rest.is_empty() {
                return Err(Box::new(moved(self.serving.base_path.as_str(), request.uri().query())));
            }
            if rest.starts_with('/') {
                let uri = below(request.uri(), rest);
                *request.uri_mut() = uri.unwrap_or_else(|| request.uri().clone());
            }
        }
        let headers = request.headers_mut();
        forwarded::strip(headers);
        if let Some(host) = client.host {
            headers.insert(header::HOST, host);
        }
        request.extensions_mut().insert(ClientAddress(client.address));
        Ok(request)
    }

    /// Adds the header for browsers that used TLS.
    fn by_tls(&self, headers: &mut HeaderMap) {
        if self.serving.hsts_seconds > 0 {
            let value = format!("max-age={}", self.serving.hsts_seconds);
            let value = HeaderValue::from_str(&value).expect("digits are a header's value");
            headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
        }
        let is_secure = |cookie: &str| cookie.split(';').any(|part| part.trim().eq_ignore_ascii_case("secure"));
        let cookies: Vec<HeaderValue> = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
        headers.remove(header::SET_COOKIE);
        for cookie in cookies {
            let secured = cookie.to_str().ok().filter(|cookie| !is_secure(cookie));
            let secured = secured.and_then(|cookie| HeaderValue::from_str(&format!("{cookie}; Secure")).ok());
            let mut cookie = secured.unwrap_or(cookie);
            cookie.set_sensitive(true);
            headers.append(header::SET_COOKIE, cookie);
        }
    }
}

fn late() -> Response {
    (StatusCode::REQUEST_TIMEOUT, [(header::CONNECTION, "close")], "the request took too long\n").into_response()
}

/// The client's own limit, or the total one, is reached: it may retry later.
fn full() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], "too many connections: try again later\n")
        .into_response()
}

/// Redirects from the page's address without the trailing slash, because its relative references would not resolve.
fn moved(to: &str, query: Option<&str>) -> Response {
    let location = query.map_or_else(|| to.to_owned(), |query| format!("{to}?{query}"));
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, location)]).into_response()
}

/// The same URI with another path.
fn below(uri: &Uri, path: &str) -> Option<Uri> {
    let target = uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}
