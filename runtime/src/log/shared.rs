//! A shared log is a log.

use core::time::Duration;
use std::sync::Arc;

use lockstep_model::{Incarnation, Offset, Tenure, UserId};

use super::{Acquired, Conversations, Held, Log, LogError, Members, Written};
use crate::BoxFuture;

impl<L: Log + ?Sized> Log for Arc<L> {
    fn user<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<UserId, LogError>> {
        (**self).user(subject)
    }

    fn subject(&self, user: UserId) -> BoxFuture<'_, Result<Arc<str>, LogError>> {
        (**self).subject(user)
    }

    fn acquire(&self, user: UserId, who: Incarnation) -> BoxFuture<'_, Result<Acquired, LogError>> {
        (**self).acquire(user, who)
    }

    fn restore(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<Held, LogError>> {
        (**self).restore(user, tenure)
    }

    fn append(
        &self,
        user: UserId,
        tenure: Tenure,
        after: Offset,
        batch: Vec<Written>,
    ) -> BoxFuture<'_, Result<Vec<Offset>, LogError>> {
        (**self).append(user, tenure, after, batch)
    }

    fn trim(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        (**self).trim(user, tenure, through)
    }

    fn read(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        (**self).read(user, tenure, through)
    }

    fn release(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<(), LogError>> {
        (**self).release(user, tenure)
    }

    fn erase(&self, user: UserId) -> BoxFuture<'_, Result<(), LogError>> {
        (**self).erase(user)
    }

    fn probe(&self) -> BoxFuture<'_, Result<Duration, LogError>> {
        (**self).probe()
    }

    fn conversations(&self) -> Option<&dyn Conversations> {
        (**self).conversations()
    }

    fn members(&self) -> Option<&dyn Members> {
        (**self).members()
    }
}
