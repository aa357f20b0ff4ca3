//! The processes that share a log: which of them live, and where they are reached.

use core::time::Duration;
use std::sync::Arc;

use lockstep_model::{Incarnation, RunId, UserId};
use serde_json::value::RawValue;

use super::LogError;
use crate::BoxFuture;
use crate::verify::Revocation;

/// The leases of the processes that share a log. Each process has a random [`Incarnation`], and renews its lease:
/// [`member`](lockstep_model::member). The log counts leases by a clock of its own. A lease that has ended never comes
/// back: its process joins again under another incarnation.
///
/// A lease decides only when another process may acquire a user. The tenure decides which process may *write*, even if
/// clocks are wrong.
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

    /// Returns the member that owns the user; `None` if there is no owner with a lease.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    fn owner(&self, user: UserId) -> BoxFuture<'_, Result<Option<Member>, LogError>>;

    /// Stores a revocation for all members, and returns its mark. `at` is its instant, in milliseconds since the Unix
    /// epoch. A reader that has seen a mark has seen every lower one.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`]. The revocation may be stored, and may be stored again.
    fn publish<'a>(&'a self, revocation: &'a Revocation, at: u64) -> BoxFuture<'a, Result<Mark, LogError>>;

    /// Returns at most `limit` of the revocations after this mark, oldest first. The log may forget one once no
    /// credential can be older.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    fn revocations(&self, after: Mark, limit: usize) -> BoxFuture<'_, Result<Vec<Revoked>, LogError>>;

    /// Notes that `who` has applied every revocation through this mark.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    fn applied(&self, who: Incarnation, through: Mark) -> BoxFuture<'_, Result<(), LogError>>;

    /// Returns how many members have a lease and have not applied all through this mark.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    fn behind(&self, mark: Mark) -> BoxFuture<'_, Result<u64, LogError>>;

    /// Stores a notice for every user who has an owner with a lease. From then on it is *due* for each of these users,
    /// with a random run of its own ([`Due::run`]), until an append has put a
    /// [`Kind::Notice`](lockstep_model::run::Kind::Notice) of that run into the user's stream: the step that makes that
    /// entry durable also ends this. So a process that has acquired a user and then reads that a notice is due knows
    /// that the user's stream does not have it. If the log knows the id `notice`, nothing changes.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`]. The notice may be stored.
    fn broadcast<'a>(&'a self, notice: RunId, data: &'a RawValue) -> BoxFuture<'a, Result<(), LogError>>;

    /// Returns at most `limit` of the notices that are due for users of `who` and for users without an owner that has a
    /// lease. Those of one user are in the order of their broadcasts.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`].
    fn due(&self, who: Incarnation, limit: usize) -> BoxFuture<'_, Result<Vec<Due>, LogError>>;

    /// Returns how far a broadcast is. The log may forget one that is due for no user after some weeks.
    ///
    /// # Errors
    ///
    /// [`LogError::Unavailable`]; the log may not know the broadcast.
    fn progress(&self, notice: RunId) -> BoxFuture<'_, Result<Progress, LogError>>;
}

/// A notice that a user's stream does not have yet.
#[derive(Clone, Debug)]
pub struct Due {
    /// The user.
    pub user: UserId,
    /// The broadcast's id.
    pub notice: RunId,
    /// The notice's run in the user's stream: no run is seen by two users (ISO-1).
    pub run: RunId,
    /// Its data, a JSON object.
    pub data: Arc<RawValue>,
}

/// The progress of a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The users for whom it was stored.
    pub users: u64,
    /// Those for whom it is due. An erased user is not among them.
    pub due: u64,
}

/// The place of a revocation among all of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub u64);

/// A revocation as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Its place.
    pub mark: Mark,
    /// What is revoked.
    pub revocation: Revocation,
    /// Its instant, in milliseconds since the Unix epoch.
    pub at: u64,
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
