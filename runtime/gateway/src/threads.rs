//! `/threads` and `/threads/turns`: a user's conversations, for clients with a token of that user.
//!
//! | `GET` | answer |
//! | --- | --- |
//! | `/threads?limit=&before=` | `{threads: [{thread_id, title, updated_at, open}], next}`, newest activity first |
//! | `/threads/turns?thread_id=&limit=&before=` | `{events, next}`: the newest turns, in stream order |
//!
//! The events of turns are as on the socket, with pieces of a part joined.
//!
//! `PATCH /threads?thread_id=` with `{title}` gives a thread another title, of at most
//! [`MAX_TITLE`](lockstep::wire::MAX_TITLE) characters; `null` restores the original one.
//!
//! `DELETE /threads?thread_id=` deletes a thread, as `delete_thread` on the socket does, and answers when that is
//! durable. Its open runs are cancelled, every connection gets `thread_deleted`, and none of its content can be read
//! again. Deleting a thread that does not exist is no error. Its content in the log's files is overwritten soon after.
//!
//! `list_threads`, `read_turns`, `rename_thread` and `delete_thread` do the same on the socket.
//!
//! `next` is the `before` of the next page, `null` on the last one. `limit` is 1 to
//! [`MAX_PAGE`](lockstep::wire::MAX_PAGE). Without `thread_id`, a request concerns the thread of all messages that
//! named none. If the log keeps no conversations, the answer is 404.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use lockstep::Manager;
use lockstep::internal::{limit, offset_of, place, threads_page, title_of, turns_page};
use lockstep::log::{Conversations, Log, LogError};
use lockstep::verify::Verifier;
use lockstep::verify::clock::Clock;
use lockstep::wire::MAX_NAME;
use lockstep_model::UserId;
use serde::Deserialize;

use super::answer::{Problem, body, nothing, ok};
use super::bearer::Bearer;
use super::login::limit::{Limiter, Rate};

/// The request rate of one user.
const RATE: Rate = Rate { burst: 128, refill: core::time::Duration::from_millis(50) };
/// The time limit of a deletion.
const DELETION: core::time::Duration = core::time::Duration::from_secs(10);
/// The most users whose rate is remembered.
const MAX_USERS: usize = 65_536;

/// What the routes share.
struct Reader {
    manager: Manager,
    bearer: Bearer,
    limiter: Limiter<Arc<str>>,
}

/// The requested page.
#[derive(Deserialize)]
struct Page {
    thread_id: Option<String>,
    limit: Option<u64>,
    before: Option<String>,
}

/// The routes, for users whose token `verifier` accepts.
pub fn thread_routes<S>(manager: &Manager, verifier: Arc<dyn Verifier>) -> Router<S> {
    let manager = manager.clone();
    let limiter = Limiter::new(RATE, MAX_USERS, Clock::monotonic());
    let reader = Arc::new(Reader { manager, bearer: Bearer::new(verifier), limiter });
    let router =
        Router::new().route("/threads", get(threads).patch(rename).delete(delete)).route("/threads/turns", get(turns));
    router.with_state(reader)
}

type Asked = Result<Query<Page>, QueryRejection>;

async fn threads(State(reader): State<Arc<Reader>>, headers: HeaderMap, asked: Asked) -> Result<Response, Problem> {
    let user = reader.user(&headers).await?;
    let page = page(asked)?;
    let before = page.before.as_deref().map(|before| place(before).ok_or_else(|| wrong("before"))).transpose()?;
    let found = reader.kept()?.threads(user, before.as_ref(), page.limit()?).await.map_err(|error| refused(&error))?;
    Ok(ok(&threads_page(&found)))
}

async fn turns(State(reader): State<Arc<Reader>>, headers: HeaderMap, asked: Asked) -> Result<Response, Problem> {
    let user = reader.user(&headers).await?;
    let page = page(asked)?;
    let before = page.before.as_deref().map(|before| offset_of(before).ok_or_else(|| wrong("before")));
    let thread = page.thread_id.as_deref().filter(|name| !name.is_empty());
    let found = reader.kept()?.turns(user, thread, before.transpose()?, page.limit()?).await;
    let found = found.map_err(|error| refused(&error))?;
    Ok(ok(&turns_page(&found)))
}

/// A thread's new title.
#[derive(Deserialize)]
struct Title {
    title: Option<String>,
}

async fn rename(State(reader): State<Arc<Reader>>, asked: Asked, request: Request) -> Result<Response, Problem> {
    let user = reader.user(request.headers()).await?;
    let page = page(asked)?;
    let Title { title } = body(request, None).await?;
    let title = title.map(|text| title_of(&text).ok_or_else(|| wrong("title"))).transpose()?;
    let thread = page.thread_id.as_deref().filter(|name| !name.is_empty());
    match reader.kept()?.rename(user, thread, title.as_deref()).await.map_err(|error| refused(&error))? {
        true => Ok(nothing()),
        false => Err(Problem::new(StatusCode::NOT_FOUND, "unknown_thread", "there is no such thread")),
    }
}

async fn delete(State(reader): State<Arc<Reader>>, headers: HeaderMap, asked: Asked) -> Result<Response, Problem> {
    let subject = reader.subject(&headers).await?;
    let page = page(asked)?;
    let thread = page.thread_id.as_deref().filter(|name| !name.is_empty());
    if thread.is_some_and(|name| name.chars().count() > MAX_NAME) {
        return Err(wrong("thread_id"));
    }
    let deleted = tokio::time::timeout(DELETION, reader.manager.user(&subject).delete_thread(thread)).await;
    match deleted {
        Ok(Ok(())) => Ok(nothing()),
        Ok(Err(error)) => Err(Problem::unavailable(&error.to_string())),
        Err(_) => Err(Problem::unavailable("the log did not answer in time; the deletion may still take effect")),
    }
}

impl Reader {
    fn log(&self) -> &dyn Log {
        self.manager.log()
    }

    /// The log's conversations.
    fn kept(&self) -> Result<&dyn Conversations, Problem> {
        self.log().conversations().ok_or_else(not_kept)
    }

    /// The user of the request's token.
    async fn subject(&self, headers: &HeaderMap) -> Result<Arc<str>, Problem> {
        let (_, identity) = self.bearer.identify(headers).await?;
        self.limiter.take(&identity.subject).map_err(Problem::too_often)?;
        Ok(identity.subject)
    }

    async fn user(&self, headers: &HeaderMap) -> Result<UserId, Problem> {
        let subject = self.subject(headers).await?;
        self.log().user(&subject).await.map_err(|error| refused(&error))
    }
}

impl Page {
    fn limit(&self) -> Result<usize, Problem> {
        limit(self.limit).ok_or_else(|| wrong("limit"))
    }
}

fn page(asked: Asked) -> Result<Page, Problem> {
    asked.map(|Query(page)| page).map_err(|_| wrong("the query"))
}

fn wrong(what: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", format!("{what} is not valid"))
}

fn not_kept() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_kept", "this gateway keeps no conversations")
}

fn refused(error: &LogError) -> Problem {
    match error {
        // The user was erased after the token was issued.
        LogError::Fenced => Problem::new(StatusCode::UNAUTHORIZED, "rejected", "the token is not valid"),
        LogError::Unavailable(_) | LogError::Broken(_) => Problem::unavailable(&error.to_string()),
    }
}
