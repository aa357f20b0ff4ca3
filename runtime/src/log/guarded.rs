//! Protects the gateway from an embedder's log. If the log panics, the call fails as unavailable and is repeated. An
//! answer that [`Log`] does not allow is reported as a broken contract. The log can be closed while parts of the
//! gateway still hold it: when the process ends, or before another process opens its files.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use lockstep_model::{Incarnation, Offset, RunId, Tenure, UserId};
use serde_json::value::RawValue;
use tokio::sync::RwLock;

use super::conversations::{Page, Retention, Stale, ThreadPlace, Threads, Turns};
use super::members::{Due, Mark, Member, Members, Progress, Revoked};
use super::{Acquired, Conversations, Held, Log, LogError, Written};
use crate::BoxFuture;
use crate::support::seam::ask;
use crate::support::seldom::Seldom;
use crate::verify::Revocation;

/// Wraps an embedder's log until it is closed. Each call holds the lock while it lasts; closing takes the log out.
pub(crate) struct Guarded {
    log: RwLock<Option<Arc<dyn Log>>>,
    /// The answer of [`Conversations::keeps`], if the log has conversations.
    keeps: Option<bool>,
    /// Whether the log has members.
    shared: bool,
    /// Limits how often refusals are logged: each kind at once and then every ten seconds, because each user's session
    /// retries several times a second.
    pub(crate) refusals: Seldom<&'static str>,
}

/// Calls the log, or one of the parts that it may have, if it is open.
macro_rules! ask {
    ($guarded:ident . $part:ident . $call:ident ( $($argument:expr),* )) => {
        async move {
            match &*$guarded.log.read().await {
                Some(log) => ask(move || match log.$part() {
                    Some(part) => part.$call($($argument),*),
                    None => Box::pin(core::future::ready(Err(wrong(concat!("it no longer has ", stringify!($part)))))),
                })
                .await
                .unwrap_or_else(|| Err(unavailable("it panicked"))),
                None => Err(closed()),
            }
        }
    };
    ($guarded:ident . $call:ident ( $($argument:expr),* )) => {
        async move {
            match &*$guarded.log.read().await {
                Some(log) => ask(move || log.$call($($argument),*)).await.unwrap_or_else(|| Err(unavailable("it panicked"))),
                None => Err(closed()),
            }
        }
    };
}

impl Guarded {
    pub(crate) fn new(log: Arc<dyn Log>) -> Self {
        let keeps =
            catch_unwind(AssertUnwindSafe(|| log.conversations().map(Conversations::keeps))).unwrap_or_default();
        let shared = catch_unwind(AssertUnwindSafe(|| log.members().is_some())).unwrap_or_default();
        Self { log: RwLock::new(Some(log)), keeps, shared, refusals: Seldom::new(Duration::from_secs(10)) }
    }

    /// Waits for the calls in progress, and drops the log. Later calls are refused.
    pub(crate) async fn close(&self) {
        let log = self.log.write().await.take();
        // Dropping a log may block.
        let _ = tokio::task::spawn_blocking(move || drop(log)).await;
    }
}

fn unavailable(why: &str) -> LogError {
    LogError::Unavailable(why.to_owned())
}

fn closed() -> LogError {
    unavailable("it is closed: the process is ending, or another one is taking over")
}

fn wrong(what: &str) -> LogError {
    LogError::Broken(what.to_owned())
}

/// Whether the offsets increase, and are all after `after`.
fn increase(after: Offset, mut offsets: impl Iterator<Item = Offset>) -> bool {
    let mut last = after;
    offsets.all(|next| core::mem::replace(&mut last, next) < next)
}

impl Log for Guarded {
    fn user<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<UserId, LogError>> {
        Box::pin(ask!(self.user(subject)))
    }

    fn subject(&self, user: UserId) -> BoxFuture<'_, Result<Arc<str>, LogError>> {
        Box::pin(ask!(self.subject(user)))
    }

    fn acquire(&self, user: UserId, who: Incarnation) -> BoxFuture<'_, Result<Acquired, LogError>> {
        Box::pin(ask!(self.acquire(user, who)))
    }

    fn restore(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<Held, LogError>> {
        Box::pin(async move {
            let held = ask!(self.restore(user, tenure)).await?;
            if !increase(held.trimmed, held.entries.iter().map(|(offset, _)| *offset)) {
                return Err(wrong("the restored entries are not in the order of their offsets"));
            }
            Ok(held)
        })
    }

    fn append(
        &self,
        user: UserId,
        tenure: Tenure,
        after: Offset,
        batch: Vec<Written>,
    ) -> BoxFuture<'_, Result<Vec<Offset>, LogError>> {
        Box::pin(async move {
            let asked = batch.len();
            let offsets = ask!(self.append(user, tenure, after, batch)).await?;
            if offsets.len() != asked {
                return Err(wrong("it did not return one offset for each record"));
            }
            if !increase(after, offsets.iter().copied()) {
                return Err(wrong("the offsets that it returned do not increase"));
            }
            Ok(offsets)
        })
    }

    fn trim(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(ask!(self.trim(user, tenure, through)))
    }

    fn read(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(ask!(self.read(user, tenure, through)))
    }

    fn release(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(ask!(self.release(user, tenure)))
    }

    fn erase(&self, user: UserId) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(ask!(self.erase(user)))
    }

    fn probe(&self) -> BoxFuture<'_, Result<Duration, LogError>> {
        Box::pin(ask!(self.probe()))
    }

    fn conversations(&self) -> Option<&dyn Conversations> {
        self.keeps.map(|_| self as &dyn Conversations)
    }

    fn members(&self) -> Option<&dyn Members> {
        self.shared.then_some(self as &dyn Members)
    }
}

impl Members for Guarded {
    fn renew<'a>(&'a self, who: Incarnation, address: &'a str, lease: Duration) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(ask!(self.members.renew(who, address, lease)))
    }

    fn depart(&self, who: Incarnation) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(ask!(self.members.depart(who)))
    }

    fn address(&self, who: Incarnation) -> BoxFuture<'_, Result<Option<Arc<str>>, LogError>> {
        Box::pin(ask!(self.members.address(who)))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Member>, LogError>> {
        Box::pin(ask!(self.members.list()))
    }

    fn owner(&self, user: UserId) -> BoxFuture<'_, Result<Option<Member>, LogError>> {
        Box::pin(ask!(self.members.owner(user)))
    }

    fn publish<'a>(&'a self, revocation: &'a Revocation, at: u64) -> BoxFuture<'a, Result<Mark, LogError>> {
        Box::pin(ask!(self.members.publish(revocation, at)))
    }

    fn revocations(&self, after: Mark, limit: usize) -> BoxFuture<'_, Result<Vec<Revoked>, LogError>> {
        Box::pin(ask!(self.members.revocations(after, limit)))
    }

    fn applied(&self, who: Incarnation, through: Mark) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(ask!(self.members.applied(who, through)))
    }

    fn behind(&self, mark: Mark) -> BoxFuture<'_, Result<u64, LogError>> {
        Box::pin(ask!(self.members.behind(mark)))
    }

    fn broadcast<'a>(&'a self, notice: RunId, data: &'a RawValue) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(ask!(self.members.broadcast(notice, data)))
    }

    fn due(&self, who: Incarnation, limit: usize) -> BoxFuture<'_, Result<Vec<Due>, LogError>> {
        Box::pin(ask!(self.members.due(who, limit)))
    }

    fn progress(&self, notice: RunId) -> BoxFuture<'_, Result<Progress, LogError>> {
        Box::pin(ask!(self.members.progress(notice)))
    }
}

impl Conversations for Guarded {
    fn keeps(&self) -> bool {
        self.keeps == Some(true)
    }

    fn threads<'a>(
        &'a self,
        user: UserId,
        before: Option<&'a ThreadPlace>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Threads, LogError>> {
        Box::pin(ask!(self.conversations.threads(user, before, limit)))
    }

    fn turns<'a>(
        &'a self,
        user: UserId,
        thread: Option<&'a str>,
        before: Option<Offset>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Turns, LogError>> {
        Box::pin(ask!(self.conversations.turns(user, thread, before, limit)))
    }

    fn rename<'a>(
        &'a self,
        user: UserId,
        thread: Option<&'a str>,
        title: Option<&'a str>,
    ) -> BoxFuture<'a, Result<bool, LogError>> {
        Box::pin(ask!(self.conversations.rename(user, thread, title)))
    }

    fn page(
        &self,
        user: UserId,
        after: Offset,
        through: Offset,
        bytes: usize,
    ) -> BoxFuture<'_, Result<Page, LogError>> {
        Box::pin(async move {
            let page = ask!(self.conversations.page(user, after, through, bytes)).await?;
            let goes_on = page.through == through || (after < page.through && page.through < through);
            if !goes_on || page.trimmed < after || page.through < page.trimmed {
                return Err(wrong("a page is outside of the requested range"));
            }
            let last = page.entries.last().map_or(page.trimmed, |(offset, _)| *offset);
            if !increase(page.trimmed, page.entries.iter().map(|(offset, _)| *offset)) || last > page.through {
                return Err(wrong("a page is not in the order of its offsets"));
            }
            Ok(page)
        })
    }

    fn stale(&self, retention: Retention, now: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Stale>, LogError>> {
        Box::pin(ask!(self.conversations.stale(retention, now, limit)))
    }
}
