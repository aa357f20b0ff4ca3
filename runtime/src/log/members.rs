//! The processes that share a log: which of them live, and where they are reached.

use core::time::Duration;
use std::sync::Arc;

use lockstep_model::Incarnation;

use super::LogError;
use crate::verify::BoxFuture;

/// The leases of the processes that share a log. Each process has a random [`Incarnation`], and renews its lease:
/// [`member`](lockstep_model::member). The log counts leases by a clock of its own. A lease that has ended never comes
/// back: its process joins again under another incarnation.
///
/// A lease decides only when another process may acquire a user. Which process may *write* is decided by the tenure,
/// whatever the clocks say.
///
/// Each call may be repeated, may be dropped before its answer and still take effect later, and may never be answered.
pub trait Members: Send + Sync {
    /// Grants `who` a lease of this length from now on, or renews it. `address` is where other members reach the
    /// process; its form is the caller's.
    ///
    /// # Errors
    ///
    /// [`LogError::Fenced`] if the lease of `who` has ended, or `who` has departed: it is never granted again.
    /// [`LogError::Unavailable`] if the log cannot answer; the lease may have been renewed.
    fn renew<'a>(&'a self, who: Incarnation, address: &'a str, lease: Duration) -> BoxFuture<'a, Result<(), LogError>>;

    /// Ends the lease of `who`: its users can be acquired from now on.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    fn depart(&self, who: Incarnation) -> BoxFuture<'_, Result<(), LogError>>;

    /// Returns the address of a member; `None` if its lease has ended or it never had one.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    fn address(&self, who: Incarnation) -> BoxFuture<'_, Result<Option<Arc<str>>, LogError>>;

    /// Returns the members, in the order of their incarnations.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    fn list(&self) -> BoxFuture<'_, Result<Vec<Member>, LogError>>;
}

/// A process that shares a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The process.
    pub incarnation: Incarnation,
    /// Where other members reach it.
    pub address: Arc<str>,
    /// The rest of its lease.
    pub left: Duration,
}

impl Member {
    /// Describes a member.
    #[must_use]
    pub const fn new(incarnation: Incarnation, address: Arc<str>, left: Duration) -> Self {
        Self { incarnation, address, left }
    }
}
