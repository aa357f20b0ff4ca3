//! A log as the gateway sees it: whatever is behind the seam, it answers. One that panics, and one whose answer is none
//! of those that [`Log`] allows, was out of reach, and is asked again as such a one is.

use std::sync::Arc;
use std::time::Duration;

use lockstep_model::{Offset, UserId};

use super::{Held, Log, LogError, Written};
use crate::seam::ask;
use crate::verify::BoxFuture;

/// Stands between the gateway and somebody's log.
pub(crate) struct Guarded(pub Arc<dyn Log>);

async fn answer<'a, T>(call: impl FnOnce() -> BoxFuture<'a, Result<T, LogError>>) -> Result<T, LogError> {
    ask(call).await.unwrap_or_else(|| Err(LogError::Unavailable("it panicked".to_owned())))
}

fn wrong(what: &str) -> LogError {
    LogError::Unavailable(format!("it broke its contract: {what}"))
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

    fn restore(&self, user: UserId) -> BoxFuture<'_, Result<Held, LogError>> {
        Box::pin(async move {
            let held = answer(move || self.0.restore(user)).await?;
            if !increase(held.trimmed, held.entries.iter().map(|(offset, _)| *offset)) {
                return Err(wrong("what it gave back is not in the order of its offsets"));
            }
            Ok(held)
        })
    }

    fn append(&self, user: UserId, after: Offset, batch: Vec<Written>) -> BoxFuture<'_, Result<Vec<Offset>, LogError>> {
        Box::pin(async move {
            let asked = batch.len();
            let offsets = answer(move || self.0.append(user, after, batch)).await?;
            if offsets.len() != asked {
                return Err(wrong("it did not answer with one offset for each record"));
            }
            if !increase(after, offsets.iter().copied()) {
                return Err(wrong("the offsets that it answered with do not increase"));
            }
            Ok(offsets)
        })
    }

    fn trim(&self, user: UserId, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(answer(move || self.0.trim(user, through)))
    }

    fn probe(&self) -> BoxFuture<'_, Result<Duration, LogError>> {
        Box::pin(answer(move || self.0.probe()))
    }
}
