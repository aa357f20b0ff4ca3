//! One user's ordered log: what is retained of it, what is not yet durable, and the cursors that read it.
//!
//! ```text
#![doc = include_str!("diagram/stream.txt")]
//! ```
//!
//! An event is *appended*, then *written* to the log in batches, and only when the log has confirmed it does it become
//! an [`Entry`] with an offset, *readable*, and later *trimmed*. One batch is under way at a time; what is appended
//! meanwhile goes into the next. The log chooses the offsets: they increase and may have holes, so each entry names its
//! predecessor, and a reader sees a gap without knowing how numbers are given out.
//!
//! * **STR-1** A [`Cursor`] is an offset. Replay and live delivery are the same read after that offset, so there is no
//!   boundary between them to get wrong. A cursor that the tail has overtaken reads on in the log, if that keeps what is
//!   trimmed: a [`Page`] at a time, and then here. Otherwise it is told the gap, and goes on behind it.
//! * **STR-2** What is readable is durable. A refused batch is written again, in the same order, until the log takes it;
//!   the log refuses nothing that it has already taken, because a write names its predecessor and its owner.
//! * **STR-3** Pieces of a part that follow each other are one piece. The stream joins those that readers who keep up have
//!   behind them, and remembers where they met; what a reader finds is all that follows its cursor of the part, cut and
//!   joined to one entry with the offset of its last piece. So retention counts parts and not the pieces in which they came.
//! * **RET-1** When the deletion of a thread ([`Kind::Deleted`]) becomes readable, what the thread had before is gone. What
//!   follows is linked to what is left, for each reader to the place where that reader is: nothing is missing there.
//! * **LIVE-4** A log that does not answer a batch in time ([`Timer::LogAnswer`]) counts as one that refused it. Nothing else here
//!   waits for the log, so a session may end at any moment, whatever the log does.
//! * **LIM-1** At most [`Bounds::retained`] entries are readable, with [`Bounds::retained_turns`] messages and
//!   [`Bounds::retained_bytes`] of content, or one entry; and [`Bounds::pending`] events wait.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::bounds::Bounds;
use crate::frame::From;
use crate::id::{Epoch, Generation, MessageId, Offset, Position, RunId, Tenure, ThreadId};
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

/// What happened in a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Event<P> {
    /// The run.
    pub run: RunId,
    /// The thread of the run; `None` for a notice that is of no thread.
    pub thread: Option<ThreadId>,
    /// What happened.
    pub kind: Kind,
    /// What goes with it; `None` for what the machines say themselves.
    pub payload: Option<P>,
}

/// An event that the log has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Entry<P> {
    /// Where it is.
    pub offset: Offset,
    /// The offset of the entry before it; [`Offset`] zero for the first of the epoch.
    pub previous: Offset,
    /// What happened.
    pub event: Event<P>,
}

/// What the log gives back after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Snapshot<P> {
    /// The right to write it. Its epoch is a new one when the log has lost what it had.
    pub tenure: Tenure,
    /// All that is before the first of `entries`, and of which nothing but `past` is known any more.
    pub trimmed: Offset,
    /// How far any reader has come, as far as the log was told.
    pub read: Offset,
    /// The ids of the messages that were received at or before `trimmed`, or in a thread that was deleted, oldest first. Of
    /// more than [`MAX_PAST`](crate::session::MAX_PAST) the newest are remembered. Empty if the log does not know them.
    pub past: Vec<MessageId>,
    /// What the log holds, in order. It need not hold what a thread had before it was deleted.
    pub entries: Vec<Entry<P>>,
    /// Whether what is trimmed is kept, so that readers are given it: see [`Page`].
    pub keeps: bool,
}

impl<P> Snapshot<P> {
    /// Of a log that has nothing of the user yet, and keeps nothing that is trimmed.
    #[must_use]
    pub const fn empty(tenure: Tenure) -> Self {
        let (trimmed, read) = (Offset(0), Offset(0));
        Self { tenure, trimmed, read, past: Vec::new(), entries: Vec::new(), keeps: false }
    }
}

/// Whether a batch is on its way to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Writer {
    /// Nothing waits.
    Idle,
    /// The oldest `left` pending events are on their way.
    Writing {
        /// Those that the log has not confirmed.
        left: usize,
    },
    /// The log refused, or did not answer in time; [`Timer::Retry`] is armed.
    Waiting,
    /// What the log did not take is on its way again.
    Retrying {
        /// Those that the log has not confirmed.
        left: usize,
    },
}

/// What happens to a stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input<P> {
    /// Take an event. The caller has made sure that there is room.
    Append(Event<P>),
    /// The log has the oldest event of the batch, at this offset.
    Persisted {
        /// Which batch.
        batch: Generation,
        /// Where it is; higher than any before.
        offset: Offset,
        /// What the log has made of the payload, if anything: with the time, say, at which it was written. It is what
        /// every reader gets, now and after a restart.
        record: Option<P>,
    },
    /// The log refused what is left of the batch.
    Failed {
        /// Which batch.
        batch: Generation,
    },
    /// [`Timer::Retry`] or [`Timer::LogAnswer`] fired.
    Expired(Timer),
}

/// What must be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output<P> {
    /// Write this event behind `after`; the orders of one batch come together and in order.
    Write {
        /// By which right.
        tenure: Tenure,
        /// Which batch.
        batch: Generation,
        /// The newest durable offset when the batch began: the log's head, unless it has part of the batch already.
        after: Offset,
        /// What to write.
        event: Event<P>,
    },
    /// This entry is readable now.
    Readable(Entry<P>),
    /// This entry, the oldest, is not readable any more.
    Trimmed(Entry<P>),
    /// This entry is not readable any more: its thread was deleted.
    Deleted(Entry<P>),
    /// Set a timer.
    Arm(Timer, Duration),
    /// Call a timer off.
    Disarm(Timer),
}

/// What a cursor finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read<'a, P: Clone> {
    /// The next entry. It is borrowed where every reader at this place gets the same.
    Entry(Cow<'a, Entry<P>>),
    /// Nothing more at present.
    Head,
    /// What follows is trimmed, and the log has it: see [`Page`].
    Missed,
    /// What lay between is gone; reading goes on after `to`.
    Gap {
        /// Where the cursor is.
        from: Offset,
        /// The tail.
        to: Offset,
    },
}

/// The machine.
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
    /// Of each entry that was joined, by its offset: where its pieces met, in order, the last at its end.
    joints: BTreeMap<Offset, Vec<Joint>>,
    pending: VecDeque<Event<P>>,
    writer: Writer,
    batch: Generation,
}

impl<P: Piece> Stream<P> {
    /// What the log gave back, no more of it readable than is retained.
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
            batch: Generation(0),
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

    /// The epoch of its offsets.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.tenure.epoch
    }

    /// The right to write it.
    #[must_use]
    pub const fn tenure(&self) -> Tenure {
        self.tenure
    }

    /// The newest durable offset.
    #[must_use]
    pub fn head(&self) -> Offset {
        self.entries.back().map_or(self.tail, |entry| entry.offset)
    }

    /// The newest offset that is not readable any more.
    #[must_use]
    pub const fn tail(&self) -> Offset {
        self.tail
    }

    /// What is readable, in order.
    #[must_use]
    pub const fn entries(&self) -> &VecDeque<Entry<P>> {
        &self.entries
    }

    /// What the log has not confirmed, in order.
    #[must_use]
    pub const fn pending(&self) -> &VecDeque<Event<P>> {
        &self.pending
    }

    /// Whether a batch is on its way.
    #[must_use]
    pub const fn writer(&self) -> Writer {
        self.writer
    }

    /// Whether the log did not take the oldest of what is pending, when it was asked last.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        match self.writer {
            Writer::Waiting | Writer::Retrying { .. } => true,
            Writer::Idle | Writer::Writing { .. } => false,
        }
    }

    /// The generation of the batch that is on its way. It moves on when a batch is refused or given up, because only then can
    /// there be an answer that comes late.
    #[must_use]
    pub const fn batch(&self) -> Generation {
        self.batch
    }

    /// A cursor at the place asked for, that place, and whether it is still what the client thinks it is. When it is
    /// not, the cursor is where all that is retained can be read, and the second value says from where the gap is. `read` is
    /// how far any reader has come.
    #[must_use]
    pub fn seek(&self, from: From, read: Offset) -> (Cursor, Option<Position>) {
        let (tail, head) = (self.tail, self.head());
        let first = if self.keeps { Offset(0) } else { tail };
        match from {
            From::Unread if read < first => {
                let position = Position { epoch: self.tenure.epoch, offset: read };
                (Cursor::new(tail), Some(position))
            }
            From::Unread => (Cursor::new(read.min(head)), None),
            From::Latest => (Cursor::new(head), None),
            From::Earliest => (Cursor::new(tail), None),
            From::After(position) => {
                let known = position.epoch == self.tenure.epoch && (first..=head).contains(&position.offset);
                if known { (Cursor::new(position.offset), None) } else { (Cursor::new(tail), Some(position)) }
            }
        }
    }

    /// Reads one entry after the cursor and moves it: of a part, all pieces that follow, up to [`Bounds::joined`].
    pub fn read(&self, bounds: &Bounds, cursor: &mut Cursor) -> Read<'_, P> {
        if cursor.passed < self.tail {
            return if self.keeps { Read::Missed } else { cursor.skip(self.tail) };
        }
        let next = self.entries.partition_point(|entry| entry.offset <= cursor.passed);
        let Some(entry) = self.entries.get(next) else { return Read::Head };
        let mut entry = self.behind(entry, cursor.passed);
        let _ = Entry::fold(bounds, &mut entry, self.entries.range(next + 1..));
        if entry.previous != cursor.at && entry.previous <= cursor.passed {
            // What lay between is deleted.
            entry.to_mut().previous = cursor.at;
        }
        cursor.pass(entry.offset);
        Read::Entry(entry)
    }

    /// Whether [`Stream::read`] would find something.
    #[must_use]
    pub fn is_behind(&self, cursor: Cursor) -> bool {
        cursor.passed < self.head()
    }

    /// Takes one input. A stale batch is ignored, and so is an offset that does not increase.
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

    /// Which property this value breaks, if any.
    ///
    /// # Errors
    ///
    /// The id of the property.
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

    /// Begins the next batch with all that is pending.
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

    /// Takes out what the thread of the newest entry, which says that it is deleted, had before that. Answers with what is now
    /// before it.
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

    /// Whether the window has more than it may. The newest entry stays, however large it is.
    fn is_over(&self, bounds: &Bounds) -> bool {
        self.entries.len() > 1
            && (self.entries.len() > bounds.retained
                || self.bytes > bounds.retained_bytes
                || self.turns > bounds.retained_turns)
    }

    /// An entry has left the window.
    fn remove(&mut self, entry: &Entry<P>) {
        self.joints.remove(&entry.offset);
        self.bytes -= entry.size();
        self.turns -= usize::from(entry.is_turn());
    }
}
