//! An in-memory log with some methods replaced by a test; all others are forwarded.

use core::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use lockstep::BoxFuture;
use lockstep::log::{Acquired, Conversations, Held, Log, LogError, MemoryLog, Written};
use lockstep_model::{Incarnation, Offset, Tenure, UserId};

/// An answer of a log.
pub(crate) type Reply<'a, T> = BoxFuture<'a, Result<T, LogError>>;

/// The replaced methods of a log. The others default to the underlying log.
pub(crate) trait Fake: Send + Sync + 'static {
    /// The underlying log.
    fn log(&self) -> &MemoryLog;

    fn user<'a>(&'a self, subject: &'a str) -> Reply<'a, UserId> {
        self.log().user(subject)
    }

    fn restore(&self, user: UserId, tenure: Tenure) -> Reply<'_, Held> {
        self.log().restore(user, tenure)
    }

    fn append(&self, user: UserId, tenure: Tenure, after: Offset, batch: Vec<Written>) -> Reply<'_, Vec<Offset>> {
        self.log().append(user, tenure, after, batch)
    }

    fn trim(&self, user: UserId, tenure: Tenure, through: Offset) -> Reply<'_, ()> {
        self.log().trim(user, tenure, through)
    }

    fn read(&self, user: UserId, tenure: Tenure, through: Offset) -> Reply<'_, ()> {
        self.log().read(user, tenure, through)
    }

    fn release(&self, user: UserId, tenure: Tenure) -> Reply<'_, ()> {
        self.log().release(user, tenure)
    }

    fn probe(&self) -> Reply<'_, Duration> {
        self.log().probe()
    }

    fn conversations(&self) -> Option<&dyn Conversations> {
        None
    }
}

/// Implements the log for a [`Fake`].
pub(crate) struct Faked<F>(pub(crate) F);

impl<F> Deref for Faked<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.0
    }
}

/// An unavailable error.
pub(crate) fn refused<T: Send + 'static>(why: &str) -> Reply<'static, T> {
    Box::pin(core::future::ready(Err(LogError::Unavailable(why.to_owned()))))
}

impl<F: Fake> Log for Faked<F> {
    fn user<'a>(&'a self, subject: &'a str) -> Reply<'a, UserId> {
        self.0.user(subject)
    }

    fn subject(&self, user: UserId) -> Reply<'_, Arc<str>> {
        self.log().subject(user)
    }

    fn acquire(&self, user: UserId, who: Incarnation) -> Reply<'_, Acquired> {
        self.log().acquire(user, who)
    }

    fn restore(&self, user: UserId, tenure: Tenure) -> Reply<'_, Held> {
        self.0.restore(user, tenure)
    }

    fn append(&self, user: UserId, tenure: Tenure, after: Offset, batch: Vec<Written>) -> Reply<'_, Vec<Offset>> {
        self.0.append(user, tenure, after, batch)
    }

    fn trim(&self, user: UserId, tenure: Tenure, through: Offset) -> Reply<'_, ()> {
        self.0.trim(user, tenure, through)
    }

    fn read(&self, user: UserId, tenure: Tenure, through: Offset) -> Reply<'_, ()> {
        self.0.read(user, tenure, through)
    }

    fn conversations(&self) -> Option<&dyn Conversations> {
        self.0.conversations()
    }

    fn release(&self, user: UserId, tenure: Tenure) -> Reply<'_, ()> {
        self.0.release(user, tenure)
    }

    fn erase(&self, user: UserId) -> Reply<'_, ()> {
        self.log().erase(user)
    }

    fn probe(&self) -> Reply<'_, Duration> {
        self.0.probe()
    }
}
