//! `POST /agui`: runs for front ends that speak AG-UI, as server-sent events.
//!
//! | request | answer |
//! | --- | --- |
//! | `POST /agui` with a `RunAgentInput` | the events of the run that its newest user message begins, or has begun |
//! | the same with `Last-Event-ID` | the events behind that one |
//! | the same with `resume`, or with results of the front end's tools | the run goes on with these answers; 404 if there is none |
//! | `POST /agui/cancel` with the same body | 204: the run is cancelled; 404 if it is not known, or has ended |
//!
//! With `agui = false` in the configuration, these paths are not found.
//!
//! The credential is a token in `Authorization: Bearer`. A page of another origin must be in the configuration's
//! `origins`, as for the socket. An error before the stream begins has a status and a JSON body. The end of a request
//! does not end the run, because a lost connection looks the same: to stop a run, a front end cancels it.
//!
//! If a stream ends before its run, such as at a restart or when the token expires, its last event is a `RUN_ERROR`
//! with the code `disconnected`, and the client repeats the request.

use core::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::stream;
use lockstep::Manager;
use lockstep::agui::{Asked, Events, NotAsked, NotBegun, Place};
use lockstep::payload::Token;
use lockstep::upgrade::origin_allowed;
use lockstep::verify::Verifier;
use lockstep::verify::clock::Clock;

use super::answer::{Problem, bytes, nothing};
use super::bearer::Bearer;
use super::login::limit::{Limiter, Rate};

/// The most bytes of a request: front ends send the whole conversation with each message.
const MAX_INPUT: usize = 1 << 20;
/// The request rate of one user.
const RATE: Rate = Rate { burst: 32, refill: core::time::Duration::from_millis(500) };
/// The most users whose rate is remembered.
const MAX_USERS: usize = 65_536;
/// The client's place (HTML, § 9.2.4).
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What the routes share.
struct Routes {
    manager: Manager,
    bearer: Bearer,
    limiter: Limiter<Arc<str>>,
    origins: Vec<String>,
}

/// The routes, for users whose token `verifier` accepts and pages of these origins.
pub fn agui_routes<S>(manager: &Manager, verifier: Arc<dyn Verifier>, origins: Vec<String>) -> Router<S> {
    let limiter = Limiter::new(RATE, MAX_USERS, Clock::monotonic());
    let routes = Arc::new(Routes { manager: manager.clone(), bearer: Bearer::new(verifier), limiter, origins });
    let router = Router::new()
        .route("/agui", post(run).options(preflight))
        .route("/agui/cancel", post(cancel).options(preflight));
    router.route_layer(middleware::from_fn_with_state(Arc::clone(&routes), origin)).with_state(routes)
}

async fn run(State(routes): State<Arc<Routes>>, request: Request) -> Result<Response, Problem> {
    let seen = request.headers().get(LAST_EVENT_ID).map(place).transpose()?;
    let (token, asked) = routes.asked(request).await?;
    let events = routes.manager.agui(&token, &asked, seen).await.map_err(|not| refused(&not))?;
    let mut response = Response::new(Body::from_stream(stream::unfold(Some(Box::new(events)), next)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A proxy that collects a response before it passes it on would hold back the answer.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

async fn cancel(State(routes): State<Arc<Routes>>, request: Request) -> Result<Response, Problem> {
    let (token, asked) = routes.asked(request).await?;
    match routes.manager.cancel_agui(&token, &asked).await.map_err(|not| refused(&not))? {
        true => Ok(nothing()),
        false => Err(Problem::new(StatusCode::NOT_FOUND, "unknown_run", "this message has no run in progress")),
    }
}

async fn next(events: Option<Box<Events>>) -> Option<(Result<String, Infallible>, Option<Box<Events>>)> {
    let mut events = events?;
    match events.next().await {
        Ok(Some(text)) => Some((Ok(text), Some(events))),
        Ok(None) => None,
        Err(cut) => {
            tracing::debug!(%cut, "a run's stream is cut");
            Some((Ok(cut.event()), None))
        }
    }
}

impl Routes {
    /// The token and the content of a request.
    async fn asked(&self, request: Request) -> Result<(Token, Asked), Problem> {
        let (token, identity) = self.bearer.identify(request.headers()).await?;
        self.limiter.take(&identity.subject).map_err(Problem::too_often)?;
        let asked = Asked::read(&bytes(request, MAX_INPUT).await?).map_err(|not| match not {
            NotAsked::Invalid(_) => Problem::new(StatusCode::BAD_REQUEST, "bad_request", not.to_string()),
        })?;
        Ok((token, asked))
    }
}

fn place(id: &HeaderValue) -> Result<Place, Problem> {
    let place = id.to_str().ok().and_then(|id| id.parse().ok());
    place.ok_or(Problem::new(StatusCode::BAD_REQUEST, "bad_request", "`Last-Event-ID` is not an id of this stream"))
}

/// The response to a request without a stream.
fn refused(not: &NotBegun) -> Problem {
    match not {
        NotBegun::Closed(cause) => match cause.code() {
            4500..=4504 => Problem::new(StatusCode::UNAUTHORIZED, "rejected", "the token is not valid"),
            4505 | 4508 => Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_connections", cause.reason()),
            _ => Problem::later(),
        },
        NotBegun::Refused { code, message } => {
            let (status, code) = match code.as_str() {
                "thread_busy" => (StatusCode::CONFLICT, "thread_busy"),
                "too_many_runs" => (StatusCode::TOO_MANY_REQUESTS, "too_many_runs"),
                "queue_full" => (StatusCode::TOO_MANY_REQUESTS, "queue_full"),
                "unknown_run" => (StatusCode::NOT_FOUND, "unknown_run"),
                "forgotten" => (StatusCode::GONE, "forgotten"),
                "malformed" | "invalid_field" => (StatusCode::BAD_REQUEST, "bad_request"),
                _ => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            };
            Problem::new(status, code, message.clone())
        }
        NotBegun::TooLarge(_) => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", not.to_string()),
        NotBegun::NoSuchPlace => Problem::new(StatusCode::GONE, "no_such_place", not.to_string()),
        _ => Problem::later(),
    }
}

/// Refuses pages of other origins, and tells browsers which of them may read the response.
async fn origin(State(routes): State<Arc<Routes>>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let said = origin.as_ref().map(|origin| origin.to_str().unwrap_or(""));
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if !origin_allowed(said, host, &routes.origins) {
        let message = "pages of this origin may not connect: add it to the gateway's `origins`";
        return Problem::new(StatusCode::FORBIDDEN, "origin", message).into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    response
}

/// The answer to a CORS preflight, from an origin that may connect.
async fn preflight() -> Response {
    let mut response = nothing();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    let allowed = "accept, authorization, content-type, last-event-id";
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}
