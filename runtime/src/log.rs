//! The durable log behind the streams: the interface to a storage backend.
//!
//! For each user, a log has one writer at a time: the owner, which has *acquired* the user. Each acquisition raises the
//! user's fencing token, even within one process, and the log accepts appends of the newest token only. A late append
//! of an earlier owner therefore changes nothing: it is [fenced](LogError::Fenced).
//!
//! The owner appends one batch, waits for the answer, then appends the next. If no answer arrives, or the answer is
//! [unavailable](LogError::Unavailable), the batch may still have been appended. The owner then appends the same events
//! again after the same offset, possibly followed by more events. A log that already has some or all of them recognises
//! them by token and position, and answers with their existing offsets.
//!
//! User numbers, ownership and streams are in one trait because they change together: acquiring fences the earlier
//! owner's appends, and erasing removes a number, its ownership and its stream in one step that is atomic across a
//! crash. *Reading* a stream without owning it is a separate trait, [`Conversations`], which a log may offer.
//!
//! Every call may be repeated, may be dropped before its answer and still take effect later, and may never be answered.
//! The machines have deadlines for that.

use std::sync::Arc;

use lockstep_model::run::Kind;
use lockstep_model::{FencingToken, Incarnation, MessageId, Offset, RunId, Tenure, UserId};

use crate::BoxFuture;
use crate::payload::Record;

pub mod conversations;
mod deletions;
#[cfg(feature = "disk")]
pub mod disk;
pub(crate) mod guarded;
#[cfg(feature = "kept")]
pub mod kept;
pub mod members;
pub mod memory;
#[cfg(feature = "kept")]
mod pages;
#[cfg(feature = "postgres")]
pub mod postgres;
mod retention;
mod shared;

pub use conversations::Conversations;
#[cfg(feature = "disk")]
pub use disk::DiskLog;
#[cfg(feature = "kept")]
pub use kept::KeptLog;
pub use members::Members;
pub use memory::MemoryLog;
#[cfg(feature = "postgres")]
pub use postgres::PostgresLog;

#[cfg(feature = "disk")]
crate::sentence! {
    /// Why a log on disk cannot be opened, with its path and what to do: a sentence for the operator.
    NotOpened
}

/// One event, as the log stores it.
#[derive(Clone, Debug)]
pub struct Written {
    /// The event's run.
    pub run: RunId,
    /// The kind of event.
    pub kind: Kind,
    /// The event's content, with the time at which the journal accepted it.
    pub record: Arc<Record>,
}

/// The result of acquiring a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Acquired {
    /// The caller now owns the user.
    Owner(Tenure),
    /// The user has an owner in another process, which lives. A log that one process has to itself never answers this.
    Elsewhere(Incarnation),
}

/// The content of a log for one user.
#[derive(Clone, Debug)]
pub struct Held {
    /// Everything at or before this offset is gone.
    pub trimmed: Offset,
    /// How far any reader of this user has read, as far as the log was told and has kept it.
    pub read: Offset,
    /// Ids of messages that were received at or before `trimmed`, or in a deleted thread whose entries the log no
    /// longer returns; oldest first. They keep those messages from running again. A log that keeps conversations
    /// returns the newest [`MAX_PAST`](lockstep_model::session::MAX_PAST) ids; if it returns more, the newest count.
    /// Empty if the log does not know them: such a message may then run again after a restart, or when its user returns
    /// to a retired session, unless it arrives as a repetition on a connection that did not resume.
    pub past: Vec<MessageId>,
    /// Every entry after `trimmed`, in order, with its offset. Entries that a thread had before its [`Kind::Deleted`]
    /// may be missing.
    pub entries: Vec<(Offset, Written)>,
}

/// Why a log did not carry out a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogError {
    /// The log could not carry out the call, or did not answer: it is full, slow or unreachable. The call may still
    /// have taken effect. The caller repeats it later.
    Unavailable(String),
    /// The tenure is not the newest, was released, or the user is erased. Final for the session that holds the tenure.
    Fenced,
    /// The log or its caller violated this trait's contract: a fault. Later answers are unreliable.
    Broken(String),
}

impl core::fmt::Display for LogError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unavailable(why) => write!(f, "the log is unavailable: {why}"),
            Self::Fenced => f.write_str("this owner was replaced by a newer one, or the user is erased"),
            Self::Broken(why) => write!(f, "the log's contract is violated: {why}"),
        }
    }
}

impl core::error::Error for LogError {}

/// A durable log of many users. A log that panics is treated as [unavailable](LogError::Unavailable): the call is
/// repeated. An answer that this trait does not allow is treated as [broken](LogError::Broken): the session ends.
pub trait Log: Send + Sync + 'static {
    /// Returns a user's number, which is assigned by the first call and kept until the user is erased. A number is
    /// never reused.
    fn user<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<UserId, LogError>>;

    /// Returns the subject that a user's number was assigned to.
    fn subject(&self, user: UserId) -> BoxFuture<'_, Result<Arc<str>, LogError>>;

    /// Makes the caller the user's owner. The fencing token is higher than in every earlier answer, including answers
    /// to the same caller and answers before a restart, and earlier tenures are fenced from then on.
    /// [`LogError::Fenced`] if the user is erased.
    ///
    /// A log that several processes share answers [`Acquired::Elsewhere`] if the user's owner is another incarnation
    /// with a lease, and [`LogError::Unavailable`] if `who` has none: see [`Members`]. Other logs ignore `who`.
    fn acquire(&self, user: UserId, who: Incarnation) -> BoxFuture<'_, Result<Acquired, LogError>>;

    /// Returns what the log holds for a user. It includes everything that was ever acknowledged as appended in this
    /// epoch and was neither trimmed nor deleted with its thread.
    fn restore(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<Held, LogError>>;

    /// Appends `batch` in order after `after`, and returns each entry's offset once all are durable. Offsets increase
    /// and may have gaps. Entries that are already after `after` must carry the token of `tenure`: they are the
    /// first entries of `batch`, and only the rest is appended. An empty batch appends nothing, whatever is after
    /// `after`: its answer confirms that the tenure is valid and that everything before is durable.
    ///
    /// An entry of [`Kind::Deleted`] makes its thread's earlier content *gone*: every earlier entry of the user with
    /// the same [`Record::thread`], except a [`Kind::Notice`] without a thread, which belongs to no thread. The log
    /// deletes that content from its storage soon after it has answered, and keeps the deletion entry itself and the
    /// message ids ([`Held::past`]). A repeated batch is still recognised, even if it has deleted a part of itself. A
    /// deletion is durable when it is answered, however the log treats other entries. Later entries of a thread with
    /// that name belong to another conversation.
    ///
    /// Dropping the future does not cancel the append: the batch may still be appended.
    fn append(
        &self,
        user: UserId,
        tenure: Tenure,
        after: Offset,
        batch: Vec<Written>,
    ) -> BoxFuture<'_, Result<Vec<Offset>, LogError>>;

    /// Allows the log to forget everything at or before `through`, except the ids that it returns in [`Held::past`], or
    /// to keep it as a [conversation](conversations). The log does so at a time of its choice.
    fn trim(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>>;

    /// Records that a reader of this user has read through `through`. The log keeps the highest offset, and may delay
    /// making it durable.
    fn read(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>>;

    /// Gives up the user: the tenure is fenced from then on.
    fn release(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<(), LogError>>;

    /// Deletes everything of the user permanently. The number is retired, its tenure is fenced, and the subject gets a
    /// new number when it returns. Once this is answered, none of the data can be read again, even after a crash. May
    /// be repeated: erasing a user who is already erased, or was never known, succeeds.
    fn erase(&self, user: UserId) -> BoxFuture<'_, Result<(), LogError>>;

    /// Returns how long the last append took to become durable, for the node's health; an error if the log does not
    /// answer.
    fn probe(&self) -> BoxFuture<'_, Result<core::time::Duration, LogError>>;

    /// Returns the reading side of the streams, if the log keeps conversations. Returns at once, and always the same
    /// answer.
    fn conversations(&self) -> Option<&dyn Conversations> {
        None
    }

    /// Returns the leases of the processes that share this log; `None` if one process has it to itself. Returns at
    /// once, and always the same answer.
    fn members(&self) -> Option<&dyn Members> {
        None
    }
}

/// Checks an append against a stream of which the log has `trimmed` and `head`; `there` yields the offset and
/// token of each entry after `after`. Returns the offsets of the entries of the batch that are already there.
///
/// # Errors
///
/// [`LogError::Broken`], if the owner of this tenure cannot be at this place.
pub(crate) fn already_there(
    (trimmed, head): (Offset, Offset),
    there: impl Iterator<Item = (Offset, FencingToken)>,
    tenure: Tenure,
    after: Offset,
    batch: usize,
) -> Result<Vec<Offset>, LogError> {
    if after < trimmed || after > head {
        let why = format!("an append after offset {}, but the log holds {} to {}", after.0, trimmed.0, head.0);
        return Err(LogError::Broken(why));
    }
    let mut offsets = Vec::with_capacity(batch);
    if batch == 0 {
        return Ok(offsets);
    }
    for (offset, token) in there {
        if token != tenure.token || offsets.len() == batch {
            let why = format!("an append after offset {}, but the log holds another entry at {}", after.0, offset.0);
            return Err(LogError::Broken(why));
        }
        offsets.push(offset);
    }
    Ok(offsets)
}
