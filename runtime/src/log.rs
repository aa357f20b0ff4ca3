//! The durable log behind the streams: the seam to whatever stores them.
//!
//! A log has one writer for a user at a time: the owner, who has *acquired* the user. Each acquiring raises the user's
//! generation, also in the same process, and the log takes appends of the newest generation alone. So what an earlier
//! owner still has on its way, however late it arrives, changes nothing: it is [fenced](LogError::Fenced).
//!
//! The owner appends one batch, waits for the answer, and then the next. If an answer does not come, or says
//! [unavailable](LogError::Unavailable), the batch may have been taken: the owner appends the same events again behind the same
//! offset, with others behind them perhaps. A log that has taken some of them, or all, knows it by the generation and the
//! place, and answers with the offsets that they have.
//!
//! Numbers of users, ownership and streams are one trait, because they change together: acquiring fences what an earlier owner
//! appends, and erasing ends a number, its ownership and its stream in one step that no crash divides. What is *read* of a
//! stream without owning it is a trait of its own, [`Conversations`], which a log may offer.
//!
//! Every call may be repeated, may be dropped before it is answered and take effect later, and may never be answered. The
//! machines have deadlines for that.

use std::sync::Arc;

use lockstep_model::run::Kind;
use lockstep_model::{Generation, MessageId, Offset, RunId, Tenure, UserId};

use crate::payload::Record;
use crate::verify::BoxFuture;

pub mod conversations;
mod deletions;
#[cfg(feature = "gateway")]
pub mod disk;
pub(crate) mod guarded;
#[cfg(feature = "gateway")]
pub mod kept;
pub mod memory;
#[cfg(feature = "gateway")]
mod pages;
mod retention;

pub use conversations::Conversations;
#[cfg(feature = "gateway")]
pub use disk::DiskLog;
#[cfg(feature = "gateway")]
pub use kept::KeptLog;
pub use memory::MemoryLog;

/// One event, as the log keeps it.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its run.
    pub run: RunId,
    /// What happened.
    pub kind: Kind,
    /// Its content, with the time at which the journal took it.
    pub record: Arc<Record>,
}

/// What an asking for a user has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Acquired {
    /// The caller owns the user now.
    Owner(Tenure),
}

/// What a log holds of one user.
#[derive(Clone, Debug)]
pub struct Held {
    /// What is at or before this offset is gone.
    pub trimmed: Offset,
    /// How far any reader of this user has come, as far as the log was told and has kept it.
    pub read: Offset,
    /// The ids of messages that were received at or before `trimmed`, or in a thread that was deleted and of which the log gives
    /// back no more, oldest first, so that none of them runs again. A log that keeps conversations gives the newest
    /// [`MAX_PAST`](lockstep_model::session::MAX_PAST) of them; of more the newest count. Empty if the log does not know them:
    /// then such a message may run again after a restart, or when its user comes back to a session that has retired, unless it
    /// comes as a repetition on a connection that did not resume.
    pub past: Vec<MessageId>,
    /// Everything behind `trimmed`, in order: the offset, and what is there. It need not hold what a thread had before it was
    /// deleted: the entries of that thread before a [`Kind::Deleted`].
    pub entries: Vec<(Offset, Written)>,
}

/// Why a log did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogError {
    /// It could not, or its answer did not come: full, slow or out of reach. What was asked may have happened all the same.
    /// The same is asked again later.
    Unavailable(String),
    /// The tenure is not the newest, was released, or the user is erased. Final for the session that has it.
    Fenced,
    /// The log or its caller broke the contract of this trait. Nothing more can be relied on: a fault.
    Broken(String),
}

impl core::fmt::Display for LogError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unavailable(why) => write!(f, "the log is unavailable: {why}"),
            Self::Fenced => f.write_str("the log has a newer owner for this user, or none any more"),
            Self::Broken(why) => write!(f, "the contract of the log is broken: {why}"),
        }
    }
}

impl core::error::Error for LogError {}

/// A durable log of many users. One that panics is treated as [unavailable](LogError::Unavailable): it is asked again. One whose
/// answer is none that this allows is [broken](LogError::Broken): the session ends.
pub trait Log: Send + Sync + 'static {
    /// The number of a user, given at the first asking and kept until the user is erased. A number is never given twice.
    fn user<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<UserId, LogError>>;

    /// The name that a user was given a number for.
    fn subject(&self, user: UserId) -> BoxFuture<'_, Result<Arc<str>, LogError>>;

    /// Makes the caller the user's owner. The generation is higher than in every answer before, also to the same caller and
    /// also across restarts, and from then on earlier tenures are fenced. [`LogError::Fenced`] if the user is erased.
    fn acquire(&self, user: UserId) -> BoxFuture<'_, Result<Acquired, LogError>>;

    /// What the log holds of a user: everything that was ever answered as appended in this epoch, and neither trimmed nor
    /// deleted with its thread, is included.
    fn restore(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<Held, LogError>>;

    /// Appends in order behind `after`, and answers with the offset of each once all are durable. Offsets increase and may
    /// have holes. Of what is behind `after` already, each entry must carry the generation of `tenure`; these are the first of
    /// `batch`, and only the rest is appended. An empty batch appends nothing: its answer says that the tenure is good, and
    /// that everything before is durable.
    ///
    /// With an entry of [`Kind::Deleted`], what its thread had before is *gone*: every earlier entry of the user whose
    /// [`Record::thread`] is the same, except for a [`Kind::Notice`] without a thread, which is of no thread. A log deletes it
    /// from what stores it, soon after it has answered, and keeps the deletion itself and the ids of the messages
    /// ([`Held::past`]). What is repeated is known all the same, also if the batch has deleted a part of itself. Such an entry is
    /// durable when it is answered, whatever the log does with others. Later entries of a thread with that name are of another
    /// conversation.
    ///
    /// Not cancelled by dropping the future: what was handed over may still be taken.
    fn append(
        &self,
        user: UserId,
        tenure: Tenure,
        after: Offset,
        batch: Vec<Written>,
    ) -> BoxFuture<'_, Result<Vec<Offset>, LogError>>;

    /// The log may forget what is at or before this offset, apart from the ids that it gives back in [`Held::past`], or keep it
    /// as a [conversation](conversations). It does so when it likes.
    fn trim(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>>;

    /// A reader of this user has come so far. The log keeps the highest, durable when it likes.
    fn read(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>>;

    /// Gives the user up: the tenure is fenced from then on.
    fn release(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<(), LogError>>;

    /// Deletes everything of the user for good. The number is retired, its tenure is fenced, and the subject gets another
    /// number when it comes back. When this has been answered, none of it can be read again, also after a crash. May be
    /// repeated: a user who is erased, or was never known, is erased.
    fn erase(&self, user: UserId) -> BoxFuture<'_, Result<(), LogError>>;

    /// How long the last append took to be durable, for the node's health; an error if the log does not answer.
    fn probe(&self) -> BoxFuture<'_, Result<core::time::Duration, LogError>>;

    /// What people read of the streams, if the log keeps conversations. Always the same answer, at once.
    fn conversations(&self) -> Option<&dyn Conversations> {
        None
    }
}

/// What is asked of a stream of which the log has `trimmed` and `head`, and `there`: offset and generation of each entry behind
/// `after`. Answers with the offsets of those of the batch that are there already.
///
/// # Errors
///
/// [`LogError::Broken`], if the place is not where the owner of this tenure can be.
pub(crate) fn already_there(
    (trimmed, head): (Offset, Offset),
    there: impl Iterator<Item = (Offset, Generation)>,
    tenure: Tenure,
    after: Offset,
    batch: usize,
) -> Result<Vec<Offset>, LogError> {
    if after < trimmed || after > head {
        let why = format!("an append behind {}, where the log holds {} to {}", after.0, trimmed.0, head.0);
        return Err(LogError::Broken(why));
    }
    let mut offsets = Vec::with_capacity(batch);
    for (offset, generation) in there {
        if generation != tenure.generation || offsets.len() == batch {
            let why = format!("an append behind {}, where the log holds something else at {}", after.0, offset.0);
            return Err(LogError::Broken(why));
        }
        offsets.push(offset);
    }
    Ok(offsets)
}
