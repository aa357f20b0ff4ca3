//! One user's ordered log: the retained entries, the events that are not durable yet, and the cursors that read it.
//!
//! ```text
#![doc = include_str!("diagram/stream.txt")]
//! ```
//!
//! An event is *appended*, then *written* to the log in batches. Once the log has confirmed it, it becomes an [`Entry`]
//! with an offset and is *readable*; later it is *trimmed*. One batch is in flight at a time, and events appended
//! meanwhile go into the next one. The log chooses the offsets. They increase and may have holes, so each entry names
//! its predecessor, and a reader detects a gap without knowing how the log assigns offsets.
//!
//! * **STR-1** A [`Cursor`] is an offset. Replay and live delivery are the same read after that offset, so there is no
//!   boundary between them to get wrong. If the tail has overtaken a cursor and the log keeps trimmed entries, the
//!   reader continues in the log, one [`Page`] at a time, and then here. Otherwise the reader is told of the gap and
//!   continues after it.
//! * **STR-2** Readable entries are durable. The stream writes a refused batch again, in the same order, until the log
//!   takes it. The log does not refuse what it has already taken, because each write names its predecessor and its
//!   owner.
//! * **STR-3** Consecutive pieces of a part are one piece. The stream joins the pieces that readers at the head have
//!   already read and remembers where they met. A read returns everything of the part after the cursor, cut and joined
//!   into one entry with the offset of its last piece. Retention therefore counts parts and not the pieces in which
//!   they arrived.
//! * **RET-1** When a thread's deletion ([`Kind::Deleted`]) becomes readable, the thread's earlier entries are gone.
//!   Later entries are linked to what remains, for each reader to that reader's position, so the reader sees no gap.
//! * **LIVE-4** A log that does not answer a batch in time ([`Timer::LogAnswer`]) counts as one that refused it.
//!   Nothing else here waits for the log, so a session can end at any moment, whatever the log does.
//! * **LIM-1** The readable window holds at most [`Bounds::retained`] entries, [`Bounds::retained_turns`] messages and
//!   [`Bounds::retained_bytes`] of content, or a single entry. At most [`Bounds::pending`] events are pending.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::bounds::Bounds;
use crate::frame::ReadFrom;
use crate::id::{BatchId, Epoch, MessageId, Offset, Position, Tenure};
use crate::piece::Piece;
use crate::run::Kind;
use crate::timer::Timer;
use crate::{Handled, Violation, ensure};

mod cursor;
mod page;
mod parts;

pub use self::cursor::Cursor;
pub use self::page::Page;
use self::parts::Joint;
pub use crate::event::{Entry, Event};

/// A search for a reader's place looks at this many of the newest entries first.
const NEWEST: usize = 32;

/// What the log restores after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Snapshot<P> {
    /// The right to write the log. It has a new epoch if the log has lost data.
    pub tenure: Tenure,
    /// No entry up to this offset is among `entries`; only `past` is known of them.
    pub trimmed: Offset,
    /// The furthest offset that any reader has reached, as last told to the log.
    pub read: Offset,
    /// The ids of the messages that were received at or before `trimmed`, or in a deleted thread, oldest first. If
    /// there are more than [`MAX_PAST`](crate::session::MAX_PAST), the newest are remembered. Empty if the log does not
    /// know them.
    pub past: Vec<MessageId>,
    /// The entries that the log holds, in order. Entries of a deleted thread may be missing.
    pub entries: Vec<Entry<P>>,
    /// Whether the log keeps trimmed entries for readers: see [`Page`].
    pub keeps: bool,
}

impl<P> Snapshot<P> {
    /// The snapshot of a log that has no entries of the user yet and does not keep trimmed ones.
    #[must_use]
    pub const fn empty(tenure: Tenure) -> Self {
        let (trimmed, read) = (Offset(0), Offset(0));
        Self { tenure, trimmed, read, past: Vec::new(), entries: Vec::new(), keeps: false }
    }
}

/// The state of writing to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Writer {
    /// No event is pending.
    Idle,
    /// The oldest `left` pending events are in flight.
    Writing {
        /// How many events of the batch the log has not confirmed.
        left: usize,
    },
    /// The log refused, or did not answer in time. [`Timer::Retry`] is armed.
    Waiting,
    /// A refused batch is in flight again.
    Retrying {
        /// How many events of the batch the log has not confirmed.
        left: usize,
    },
}

/// The inputs of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input<P> {
    /// Append an event. The caller has made sure that there is room.
    Append(Event<P>),
    /// The log has confirmed the oldest event of the batch, at this offset.
    Persisted {
        /// The batch.
        batch: BatchId,
        /// The event's offset. It is higher than all before.
        offset: Offset,
        /// The payload as the log stored it, if it changed it, for example by adding the time of the write. All readers
        /// get this payload, now and after a restart.
        record: Option<P>,
    },
    /// The log refused the rest of the batch.
    Failed {
        /// The batch.
        batch: BatchId,
    },
    /// [`Timer::Retry`] or [`Timer::LogAnswer`] fired.
    Expired(Timer),
}

/// The outputs of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output<P> {
    /// Write this event after `after`. The outputs of a batch are consecutive and in order.
    Write {
        /// The right to write.
        tenure: Tenure,
        /// The batch.
        batch: BatchId,
        /// The newest durable offset when the batch began: the log's head, unless the log already has part of the
        /// batch.
        after: Offset,
        /// The event.
        event: Event<P>,
    },
    /// The entry is readable now.
    Readable(Entry<P>),
    /// The entry, the oldest, is no longer readable.
    Trimmed(Entry<P>),
    /// The entry is no longer readable: its thread was deleted.
    Deleted(Entry<P>),
    /// Set a timer.
    Arm(Timer, Duration),
    /// Cancel a timer.
    Disarm(Timer),
}

/// The result of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read<'a, P: Clone> {
    /// The next entry. It is borrowed if every reader at this position gets the same one.
    Entry(Cow<'a, Entry<P>>),
    /// The cursor is at the head.
    Head,
    /// The next entries are trimmed, and the log has them: see [`Page`].
    Missed,
    /// The entries in between are gone. Reading continues after `to`.
    Gap {
        /// The cursor's offset.
        from: Offset,
        /// The tail.
        to: Offset,
    },
}

/// The state machine of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Stream<P> {
    tenure: Tenure,
    keeps: bool,
    tail: Offset,
    entries: VecDeque<Entry<P>>,
    /// Bytes of content in `entries`.
    bytes: usize,
    /// Messages in `entries`.
    turns: usize,
    /// Where the pieces of each joined entry met, in order, by the entry's offset. The last joint is at the entry's
    /// end.
    joints: BTreeMap<Offset, Vec<Joint>>,
    pending: VecDeque<Event<P>>,
    writer: Writer,
    batch: BatchId,
}

impl<P: Piece> Stream<P> {
    /// Restores a stream from the log's snapshot, and trims it to what may be retained.
    pub fn restore(bounds: &Bounds, snapshot: Snapshot<P>, out: &mut Vec<Output<P>>) -> Self {
        let mut stream = Self {
            tenure: snapshot.tenure,
            keeps: snapshot.keeps,
            tail: snapshot.trimmed,
            entries: VecDeque::new(),
            bytes: 0,
            turns: 0,
            joints: BTreeMap::new(),
            pending: VecDeque::new(),
            writer: Writer::Idle,
            batch: BatchId(0),
        };
        for entry in snapshot.entries {
            let deletes = entry.event.kind == Kind::Deleted;
            stream.push(bounds, entry);
            if deletes {
                let _ = stream.delete(out);
            }
            stream.trim(bounds, out);
        }
        stream
    }

    /// The epoch of the offsets.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.tenure.epoch
    }

    /// The right to write the log.
    #[must_use]
    pub const fn tenure(&self) -> Tenure {
        self.tenure
    }

    /// The newest durable offset.
    #[must_use]
    pub fn head(&self) -> Offset {
        self.entries.back().map_or(self.tail, |entry| entry.offset)
    }

    /// The newest offset that is no longer readable.
    #[must_use]
    pub const fn tail(&self) -> Offset {
        self.tail
    }

    /// The readable entries, in order.
    #[must_use]
    pub const fn entries(&self) -> &VecDeque<Entry<P>> {
        &self.entries
    }

    /// The events that the log has not confirmed, in order.
    #[must_use]
    pub const fn pending(&self) -> &VecDeque<Event<P>> {
        &self.pending
    }

    /// The state of writing to the log.
    #[must_use]
    pub const fn writer(&self) -> Writer {
        self.writer
    }

    /// Whether the log refused the oldest pending event, or did not answer in time, when the last attempt ended.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        match self.writer {
            Writer::Waiting | Writer::Retrying { .. } => true,
            Writer::Idle | Writer::Writing { .. } => false,
        }
    }

    /// The generation of the current batch. It advances when a batch is refused or given up, because only then can an
    /// answer come late.
    #[must_use]
    pub const fn batch(&self) -> BatchId {
        self.batch
    }

    /// Returns a cursor at the requested position. If the client's view of that position no longer holds, also returns
    /// the position from which there is a gap; the cursor is then at the start of the retained entries. `read` is the
    /// furthest offset of any reader.
    #[must_use]
    pub fn seek(&self, from: ReadFrom, read: Offset) -> (Cursor, Option<Position>) {
        let (tail, head) = (self.tail, self.head());
        let first = if self.keeps { Offset(0) } else { tail };
        match from {
            ReadFrom::Unread | ReadFrom::Deferred if read < first => {
                let position = Position { epoch: self.tenure.epoch, offset: read };
                (Cursor::new(tail), Some(position))
            }
            ReadFrom::Unread | ReadFrom::Deferred => (Cursor::new(read.min(head)), None),
            ReadFrom::Latest => (Cursor::new(head), None),
            ReadFrom::Earliest => (Cursor::new(tail), None),
            ReadFrom::After(position) => {
                let known = position.epoch == self.tenure.epoch && (first..=head).contains(&position.offset);
                if known { (Cursor::new(position.offset), None) } else { (Cursor::new(tail), Some(position)) }
            }
        }
    }

    /// Reads one entry after the cursor and moves the cursor. Consecutive pieces of a part are read together, up to
    /// [`Bounds::joined`].
    pub fn read(&self, bounds: &Bounds, cursor: &mut Cursor) -> Read<'_, P> {
        if cursor.passed < self.tail {
            return if self.keeps { Read::Missed } else { cursor.skip(self.tail) };
        }
        let next = self.after(cursor.passed);
        let Some(entry) = self.entries.get(next) else { return Read::Head };
        let mut entry = self.behind(entry, cursor.passed);
        let _ = Entry::fold(bounds, &mut entry, self.entries.range(next + 1..));
        if entry.previous != cursor.at && entry.previous <= cursor.passed {
            // The entries in between are deleted.
            entry.to_mut().previous = cursor.at;
        }
        cursor.pass(entry.offset);
        Read::Entry(entry)
    }

    /// The index of the first entry after an offset. Most readers have read nearly everything, so the newest entries are
    /// looked at first.
    fn after(&self, offset: Offset) -> usize {
        let read = self.entries.iter().rev().take(NEWEST).position(|entry| entry.offset <= offset);
        match read {
            Some(unread) => self.entries.len() - unread,
            None => self.entries.partition_point(|entry| entry.offset <= offset),
        }
    }

    /// Whether there is anything to read after the cursor.
    #[must_use]
    pub fn is_behind(&self, cursor: Cursor) -> bool {
        cursor.passed < self.head()
    }

    /// Takes one input. Ignores an answer for a stale batch, and an offset that does not increase.
    pub fn step(&mut self, bounds: &Bounds, input: Input<P>, out: &mut Vec<Output<P>>) -> Handled {
        match (self.writer, input) {
            (Writer::Idle, Input::Append(event)) => {
                self.pending.push_back(event);
                self.write(bounds, out);
            }
            (Writer::Writing { .. } | Writer::Waiting | Writer::Retrying { .. }, Input::Append(event)) => {
                self.pending.push_back(event);
            }
            (Writer::Writing { left } | Writer::Retrying { left }, Input::Persisted { batch, offset, record })
                if batch == self.batch && offset > self.head() =>
            {
                if let Some(mut event) = self.pending.pop_front() {
                    event.payload = record.or(event.payload);
                    let mut entry = Entry { offset, previous: self.head(), event };
                    self.push(bounds, entry.clone());
                    if entry.event.kind == Kind::Deleted {
                        entry.previous = self.delete(out);
                    }
                    out.push(Output::Readable(entry));
                    self.trim(bounds, out);
                }
                if left > 1 {
                    self.writer = Writer::Writing { left: left - 1 };
                } else {
                    self.write(bounds, out);
                }
            }
            (Writer::Writing { .. } | Writer::Retrying { .. }, Input::Failed { batch }) if batch == self.batch => {
                out.push(Output::Disarm(Timer::LogAnswer));
                self.wait(bounds, out);
            }
            (Writer::Writing { .. } | Writer::Retrying { .. }, Input::Expired(Timer::LogAnswer)) => {
                self.wait(bounds, out);
            }
            (Writer::Waiting, Input::Expired(Timer::Retry)) => self.write(bounds, out),
            (Writer::Idle | Writer::Waiting, Input::Persisted { .. } | Input::Failed { .. })
            | (Writer::Writing { .. } | Writer::Retrying { .. }, Input::Persisted { .. } | Input::Failed { .. })
            | (Writer::Idle | Writer::Writing { .. } | Writer::Waiting | Writer::Retrying { .. }, Input::Expired(_)) => {
                return Handled::Ignored;
            }
        }
        Handled::Done
    }

    /// Checks the invariants of this value.
    ///
    /// # Errors
    ///
    /// The id of the property that the value violates.
    pub fn check(&self, bounds: &Bounds) -> Result<(), Violation> {
        let (mut previous, mut bytes, mut turns) = (self.tail, 0, 0);
        for entry in &self.entries {
            ensure(entry.offset > entry.previous && entry.previous == previous, "STR-1")?;
            (previous, bytes, turns) = (entry.offset, bytes + entry.size(), turns + usize::from(entry.is_turn()));
        }
        ensure(self.is_joined_right(), "STR-3")?;
        let writing = match self.writer {
            Writer::Idle => self.pending.is_empty(),
            Writer::Writing { left } | Writer::Retrying { left } => left > 0 && left <= self.pending.len(),
            Writer::Waiting => !self.pending.is_empty(),
        };
        ensure(writing, "STR-2")?;
        ensure((bytes, turns) == (self.bytes, self.turns) && !self.is_over(bounds), "LIM-1")?;
        ensure(self.pending.len() <= bounds.pending, "LIM-1")
    }

    fn wait(&mut self, bounds: &Bounds, out: &mut Vec<Output<P>>) {
        self.writer = Writer::Waiting;
        self.batch = self.batch.next();
        out.push(Output::Arm(Timer::Retry, bounds.retry));
    }

    /// Begins the next batch, of all pending events.
    fn write(&mut self, bounds: &Bounds, out: &mut Vec<Output<P>>) {
        if self.pending.is_empty() {
            self.writer = Writer::Idle;
            out.push(Output::Disarm(Timer::LogAnswer));
            return;
        }
        let left = self.pending.len();
        self.writer = if self.writer == Writer::Waiting { Writer::Retrying { left } } else { Writer::Writing { left } };
        let (tenure, batch, after) = (self.tenure, self.batch, self.head());
        out.extend(self.pending.iter().map(|event| Output::Write { tenure, batch, after, event: event.clone() }));
        out.push(Output::Arm(Timer::LogAnswer, bounds.log_answer));
    }

    /// The newest entry says that its thread is deleted: removes the thread's earlier entries. Returns the offset that
    /// now precedes the newest entry.
    fn delete(&mut self, out: &mut Vec<Output<P>>) -> Offset {
        let (newest, thread) = (self.head(), self.entries.back().and_then(|newest| newest.event.thread));
        let mut previous = self.tail;
        for mut entry in core::mem::take(&mut self.entries) {
            if entry.event.thread == thread && entry.offset < newest {
                self.remove(&entry);
                out.push(Output::Deleted(entry));
            } else {
                entry.previous = core::mem::replace(&mut previous, entry.offset);
                self.entries.push_back(entry);
            }
        }
        self.entries.back().map_or(previous, |newest| newest.previous)
    }

    fn trim(&mut self, bounds: &Bounds, out: &mut Vec<Output<P>>) {
        while self.is_over(bounds)
            && let Some(entry) = self.entries.pop_front()
        {
            self.tail = entry.offset;
            self.remove(&entry);
            out.push(Output::Trimmed(entry));
        }
    }

    /// Whether the window exceeds a bound. The newest entry stays, however large it is.
    fn is_over(&self, bounds: &Bounds) -> bool {
        self.entries.len() > 1
            && (self.entries.len() > bounds.retained
                || self.bytes > bounds.retained_bytes
                || self.turns > bounds.retained_turns)
    }

    /// Subtracts an entry that has left the window.
    fn remove(&mut self, entry: &Entry<P>) {
        self.joints.remove(&entry.offset);
        self.bytes -= entry.size();
        self.turns -= usize::from(entry.is_turn());
    }
}
