//! The durable log behind the streams: the seam to whatever stores them.
//!
//! A log has one writer for a user at a time: the gateway's journal, which appends one batch, waits for the answer, and
//! then the next. After an answer that it could not hear, it appends the same batch again behind the same offset; a log
//! that has taken part of it, or all, answers with the offsets that these records have.

use std::sync::Arc;

use lockstep_model::run::Kind;
use lockstep_model::{Epoch, Offset, RunId, UserId};

use crate::payload::Record;
use crate::verify::BoxFuture;

pub mod disk;
pub(crate) mod guarded;
pub mod memory;

pub use disk::DiskLog;
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

/// What a log holds of one user.
#[derive(Clone, Debug)]
pub struct Held {
    /// The epoch: a log that has lost what it had begins a new one.
    pub epoch: Epoch,
    /// What is at or before this offset is gone.
    pub trimmed: Offset,
    /// Everything behind it, in order: the offset, and what is there.
    pub entries: Vec<(Offset, Written)>,
}

/// Why a log did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogError {
    /// It cannot now: full, slow or out of reach. The same is asked again later.
    Unavailable(String),
    /// Somebody else writes this user's stream, or what is behind `after` is not what was appended before.
    Conflict,
}

impl core::fmt::Display for LogError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unavailable(why) => write!(f, "the log is unavailable: {why}"),
            Self::Conflict => f.write_str("the log holds something else behind that offset: is there a second writer?"),
        }
    }
}

impl core::error::Error for LogError {}

/// A durable log of many users. One that panics, or answers what this does not allow, is treated as [unavailable]: it is
/// asked again.
///
/// [unavailable]: LogError::Unavailable
pub trait Log: Send + Sync + 'static {
    /// The number of a user, given at the first asking and kept for ever.
    fn user<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<UserId, LogError>>;

    /// The name that a user was given a number for.
    fn subject(&self, user: UserId) -> BoxFuture<'_, Result<Arc<str>, LogError>>;

    /// What the log holds of a user. It may take its time, and is asked again only when it has failed; whoever connects
    /// waits as long as a handshake may take.
    fn restore(&self, user: UserId) -> BoxFuture<'_, Result<Held, LogError>>;

    /// Appends in order behind `after`, and answers with the offset of each once all are durable. Offsets increase and
    /// may have holes. If the log's head is behind `after` already, the entries there must be the first of `batch`
    /// (same run, same kind), and only the rest is appended.
    ///
    /// Not cancelled by dropping the future: what was handed over may still be taken.
    fn append(&self, user: UserId, after: Offset, batch: Vec<Written>) -> BoxFuture<'_, Result<Vec<Offset>, LogError>>;

    /// The log may forget what is at or before this offset. It does so when it likes.
    fn trim(&self, user: UserId, through: Offset) -> BoxFuture<'_, Result<(), LogError>>;

    /// How long the last append took to be durable, for the node's health; an error if the log does not answer.
    fn probe(&self) -> BoxFuture<'_, Result<core::time::Duration, LogError>>;
}

/// The offsets of what is behind `after` already, when a batch is appended again: its entries must be the first of the
/// batch.
pub(crate) fn already_there<W: core::borrow::Borrow<Written>>(
    there: impl Iterator<Item = (Offset, W)>,
    batch: &[Written],
) -> Result<Vec<Offset>, LogError> {
    let mut offsets = Vec::with_capacity(batch.len());
    for (index, (offset, entry)) in there.enumerate() {
        let entry = entry.borrow();
        match batch.get(index) {
            Some(wanted) if wanted.run == entry.run && wanted.kind == entry.kind => offsets.push(offset),
            Some(_) | None => return Err(LogError::Conflict),
        }
    }
    Ok(offsets)
}
