//! A log as the gateway sees it. One that panics was out of reach, and is asked again. An answer that is none of those that
//! [`Log`] allows is a broken contract, and says so.

use std::sync::Arc;
use std::time::Duration;

use lockstep_model::{Offset, Tenure, UserId};

use super::{Acquired, Held, Log, LogError, Written};
use crate::seam::ask;
use crate::verify::BoxFuture;

/// Stands between the gateway and somebody's log.
pub(crate) struct Guarded(pub Arc<dyn Log>);

async fn answer<'a, T>(call: impl FnOnce() -> BoxFuture<'a, Result<T, LogError>>) -> Result<T, LogError> {
    ask(call).await.unwrap_or_else(|| Err(LogError::Unavailable("it panicked".to_owned())))
}

fn wrong(what: &str) -> LogError {
    LogError::Broken(what.to_owned())
}

/// Whether offsets increase, and all are behind `after`.
fn increase(after: Offset, mut offsets: impl Iterator<Item = Offset>) -> bool {
    let mut last = after;
    offsets.all(|next| core::mem::replace(&mut last, next) < next)
}

impl Log for Guarded {
    fn user<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<UserId, LogError>> {
        Box::pin(answer(move || self.0.user(subject)))
    }

    fn subject(&self, user: UserId) -> BoxFuture<'_, Result<Arc<str>, LogError>> {
        Box::pin(answer(move || self.0.subject(user)))
    }

    fn acquire(&self, user: UserId) -> BoxFuture<'_, Result<Acquired, LogError>> {
        Box::pin(answer(move || self.0.acquire(user)))
    }

    fn restore(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<Held, LogError>> {
        Box::pin(async move {
            let held = answer(move || self.0.restore(user, tenure)).await?;
            if !increase(held.trimmed, held.entries.iter().map(|(offset, _)| *offset)) {
                return Err(wrong("what it gave back is not in the order of its offsets"));
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
            let offsets = answer(move || self.0.append(user, tenure, after, batch)).await?;
            if offsets.len() != asked {
                return Err(wrong("it did not answer with one offset for each record"));
            }
            if !increase(after, offsets.iter().copied()) {
                return Err(wrong("the offsets that it answered with do not increase"));
            }
            Ok(offsets)
        })
    }

    fn trim(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(answer(move || self.0.trim(user, tenure, through)))
    }

    fn read(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(answer(move || self.0.read(user, tenure, through)))
    }

    fn release(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(answer(move || self.0.release(user, tenure)))
    }

    fn erase(&self, user: UserId) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(answer(move || self.0.erase(user)))
    }

    fn probe(&self) -> BoxFuture<'_, Result<Duration, LogError>> {
        Box::pin(answer(move || self.0.probe()))
    }
}
