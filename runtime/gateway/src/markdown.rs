//! `POST /markdown`: parses Markdown for the page into a tree of elements. The body is the text; the answer is
//! `{"tree": ["div", …]}` in JsonML, with the elements that `tree.rs` lists.
//!
//! The page has no parser of its own. It sends an answer's text while it streams and once more at its end, and shows
//! plain text if this route is missing or fails. A tree contains only elements and attributes that this module names,
//! so no text can become markup.

use core::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use lockstep::verify::Verifier;
use lockstep::verify::clock::Clock;
use tokio::sync::{Semaphore, oneshot};

use super::answer::{Problem, bytes, ok_json};
use super::bearer::Bearer;
use super::login::Rate;
use super::login::limit::Limiter;

mod formulas;
mod math;
mod tree;

/// The most bytes of a text.
pub const MAX_TEXT: usize = 256 * 1024;
/// The most bytes of its tree. A small text can describe a large table.
pub const MAX_TREE: usize = 2 * 1024 * 1024;
/// The request rate of one user.
pub const RATE: Rate = Rate { burst: 128, refill: Duration::from_millis(200) };
/// The most users whose rate is remembered.
const MAX_USERS: usize = 65_536;
/// The most texts that are parsed at the same time.
const MAX_PARSED: usize = 2;
/// The stack size for parsing, in bytes. A formula is parsed recursively, and its length bounds the depth: in an
/// unoptimised build the worst case uses a quarter of this.
const STACK: usize = 64 * 1024 * 1024;

/// Renders users' Markdown.
pub struct Renderer {
    bearer: Bearer,
    limiter: Limiter<Arc<str>>,
    permits: Semaphore,
}

impl Renderer {
    /// A renderer for users whose token `verifier` accepts. `clock` should not go back: [`Clock::monotonic`].
    #[must_use]
    pub fn new(verifier: Arc<dyn Verifier>, clock: Clock) -> Self {
        let limiter = Limiter::new(RATE, MAX_USERS, clock);
        Self { bearer: Bearer::new(verifier), limiter, permits: Semaphore::new(MAX_PARSED) }
    }

    async fn render(&self, request: Request) -> Result<Response, Problem> {
        let (_, identity) = self.bearer.identify(request.headers()).await?;
        self.limiter.take(&identity.subject).map_err(Problem::too_often)?;
        let body = bytes(request, MAX_TEXT).await?;
        let not_text = |_| Problem::new(StatusCode::BAD_REQUEST, "bad_request", "the body is not UTF-8");
        let text = String::from_utf8(body.into()).map_err(not_text)?;
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let unavailable =
            |error: &dyn fmt::Display| Problem::unavailable(&format!("Markdown cannot be parsed: {error}"));
        let (done, tree) = oneshot::channel();
        let parse = move || drop(done.send(tree::of(&text, MAX_TREE)));
        let thread = thread::Builder::new().name("markdown".to_owned()).stack_size(STACK).spawn(parse);
        thread.map_err(|error| unavailable(&error))?;
        let tree = tree.await.map_err(|error| unavailable(&error))?;
        let too_large = Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            "the text is too complex: its parsed form is too large",
        );
        Ok(ok_json(format!("{{\"tree\":{}}}", tree.ok_or(too_large)?)))
    }
}

impl fmt::Debug for Renderer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renderer(..)")
    }
}

/// `POST /markdown`.
pub fn markdown_routes<S>(renderer: Arc<Renderer>) -> Router<S> {
    async fn render(State(renderer): State<Arc<Renderer>>, request: Request) -> Result<Response, Problem> {
        renderer.render(request).await
    }
    Router::new().route("/markdown", post(render)).with_state(renderer)
}
