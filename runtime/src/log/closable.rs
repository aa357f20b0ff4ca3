//! A log that can be closed while parts of the gateway still hold it: before another process opens its files.

use std::sync::Arc;
use std::time::Duration;

use lockstep_model::{Offset, Tenure, UserId};
use tokio::sync::RwLock;

use super::{Acquired, Held, Log, LogError, Written};
use crate::verify::BoxFuture;

/// Stands before a log until that is closed. Each call holds the lock while it lasts; closing takes it for good.
pub(crate) struct Closable(RwLock<Option<Arc<dyn Log>>>);

macro_rules! pass {
    ($log:ident . $call:ident ( $($argument:expr),* )) => {
        Box::pin(async move {
            match &*$log.0.read().await {
                Some(open) => open.$call($($argument),*).await,
                None => Err(LogError::Unavailable("it is closed: another process is about to open it".to_owned())),
            }
        })
    };
}

impl Closable {
    pub(crate) fn new(log: Arc<dyn Log>) -> Self {
        Self(RwLock::new(Some(log)))
    }

    /// Waits for the calls that are under way, and drops the log. Later calls are refused.
    pub(crate) async fn close(&self) {
        let log = self.0.write().await.take();
        // What a log does when it is dropped may block.
        let _ = tokio::task::spawn_blocking(move || drop(log)).await;
    }
}

impl Log for Closable {
    fn user<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<UserId, LogError>> {
        pass!(self.user(subject))
    }

    fn subject(&self, user: UserId) -> BoxFuture<'_, Result<Arc<str>, LogError>> {
        pass!(self.subject(user))
    }

    fn acquire(&self, user: UserId) -> BoxFuture<'_, Result<Acquired, LogError>> {
        pass!(self.acquire(user))
    }

    fn restore(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<Held, LogError>> {
        pass!(self.restore(user, tenure))
    }

    fn append(
        &self,
        user: UserId,
        tenure: Tenure,
        after: Offset,
        batch: Vec<Written>,
    ) -> BoxFuture<'_, Result<Vec<Offset>, LogError>> {
        pass!(self.append(user, tenure, after, batch))
    }

    fn trim(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        pass!(self.trim(user, tenure, through))
    }

    fn read(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        pass!(self.read(user, tenure, through))
    }

    fn release(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<(), LogError>> {
        pass!(self.release(user, tenure))
    }

    fn erase(&self, user: UserId) -> BoxFuture<'_, Result<(), LogError>> {
        pass!(self.erase(user))
    }

    fn probe(&self) -> BoxFuture<'_, Result<Duration, LogError>> {
        pass!(self.probe())
    }
}
