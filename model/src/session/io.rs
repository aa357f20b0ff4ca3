//! What a session is made of, what happens to it and what it orders.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::lookup::{Found, Lookup, Lookups};
use crate::close::Cause;
use crate::connection::{self, Connection};
use crate::fence::Scope;
use crate::frame::Frame;
use crate::id::{Attempt, BatchId, ConnectionId, MessageId, Offset, RevocationGeneration, RunId, Tenure, ThreadId};
use crate::node::{Mode, Successor};
use crate::piece::Piece;
use crate::run::{self, Schedule};
use crate::stream::{self, Cursor, Event, Snapshot, Stream};
use crate::timer::{Owner, Timer};

/// Where the session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// The log has yet to give the stream back; connections wait.
    Restoring {
        /// Which asking counts.
        attempt: Attempt,
        /// Whether it is under way. The log could not answer it otherwise, and is asked again after a pause.
        asked: bool,
    },
    /// Nobody is here and nothing is under way.
    Vacant,
    /// There is a connection, or an open run that this process is to end: one that drains leaves queued runs to the next.
    Occupied,
    /// Nothing is under way and nothing begins any more. It waits until the log has what is pending, or until its fence may
    /// fall.
    Leaving {
        /// Why, which is what a connection that still comes is told.
        cause: Cause,
    },
    /// Over. Final: whoever still wants this user needs a new session.
    Retired,
}

/// A connection of the session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Member<P> {
    /// The connection: attaching, live or draining, never closing.
    pub connection: Connection<P>,
    /// Where it reads; `None` until it is live.
    pub cursor: Option<Cursor>,
    /// Where it resumed: what the client had seen before. `None` before that, for whoever began elsewhere, and again once
    /// what follows it is not retained, for then nothing can be told from it.
    pub start: Option<Offset>,
    /// Whether its writer waits to be woken.
    pub parked: bool,
    /// What it has the log look up.
    pub lookups: Lookups<P>,
}

impl<P> Member<P> {
    /// A connection that has yet to be told where it reads.
    pub(super) fn new(connection: Connection<P>) -> Self {
        Self { connection, cursor: None, start: None, parked: true, lookups: Lookups::default() }
    }
}

impl<P: Piece> Member<P> {
    /// Whether it has not read all that is readable.
    pub(super) fn is_behind(&self, stream: Option<&Stream<P>>) -> bool {
        match (stream, self.cursor) {
            (Some(stream), Some(cursor)) => stream.is_behind(cursor),
            (None, _) | (_, None) => false,
        }
    }
}

/// What is remembered of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Known {
    /// The run that it started.
    pub run: RunId,
    /// Where its `message_received` is; `None` until the log has it.
    pub offset: Option<Offset>,
}

/// A run of which the log has the first event and not yet the last: the log must not forget where it begins, or a
/// restart would not find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Unsettled {
    /// The message that started it.
    pub message: MessageId,
    /// Where its `message_received` is.
    pub offset: Offset,
}

/// A run that was queued and has no agent yet: it waits for its turn, or for its `agent_started` to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Waiting<P> {
    /// The run.
    pub run: RunId,
    /// What its agent will be asked; `None` until the log has it.
    pub payload: Option<P>,
}

/// What happens to a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input<P> {
    /// The log answers: the session owns the user, and this is the stream.
    Restored {
        /// Which asking it answers.
        attempt: Attempt,
        /// What the log has, and the right to write on.
        snapshot: Snapshot<P>,
    },
    /// The log could not answer.
    NotRestored {
        /// Which asking it answers.
        attempt: Attempt,
    },
    /// A connection whose credential was verified.
    Join {
        /// The connection, in [`connection::State::Attaching`].
        connection: Box<Connection<P>>,
        /// What the node admits now.
        mode: Mode,
    },
    /// Something happened to a connection of this session.
    Connection {
        /// Which.
        connection: ConnectionId,
        /// What.
        input: connection::Input<P>,
    },
    /// A connection's socket can take frames.
    Pull {
        /// Which.
        connection: ConnectionId,
        /// At most this many.
        budget: usize,
    },
    /// The agent of a run says something, or its run is ended by us.
    Run {
        /// Which run.
        run: RunId,
        /// What.
        input: run::Input,
        /// What goes with the event.
        payload: Option<P>,
    },
    /// The embedding service has something for the user, outside any run.
    Notice {
        /// A fresh id, made at the edge: the notice's run id in the stream.
        notice: RunId,
        /// The thread that it is of, if it is of one.
        thread: Option<ThreadId>,
        /// What it says.
        payload: P,
    },
    /// The embedding service deletes a thread of the user, as [`Request::Delete`](crate::Request::Delete) does.
    Delete {
        /// The thread.
        thread: ThreadId,
        /// A fresh id, made at the edge: the run id of `thread_deleted`.
        deletion: RunId,
        /// What goes with `thread_deleted`.
        payload: P,
        /// Nothing is deleted if something happened in the thread since, or is under way: behind this place of the stream.
        as_of: Option<Offset>,
    },
    /// The log has looked something up.
    Found {
        /// For which connection.
        connection: ConnectionId,
        /// Which lookup it answers.
        attempt: Attempt,
        /// What it has found.
        found: Found<P>,
    },
    /// The log could not look something up.
    NotFound {
        /// For which connection.
        connection: ConnectionId,
        /// Which lookup it answers.
        attempt: Attempt,
    },
    /// The log has the oldest event of a batch.
    Persisted {
        /// Which batch.
        batch: BatchId,
        /// Where it is.
        offset: Offset,
        /// What the log has made of the payload, if anything: with the time, say, at which it was written. It is what
        /// every reader gets, now and after a restart.
        record: Option<P>,
    },
    /// The log refused what is left of a batch.
    Failed {
        /// Which batch.
        batch: BatchId,
    },
    /// The log has a newer owner for the user, or has erased the user. Final: it takes nothing more from this session.
    Fenced,
    /// The log has broken its contract. What it says about this user cannot be relied on.
    Broken,
    /// Credentials were revoked.
    Revoke(Scope),
    /// Every verification that began before this generation is over: see [`Verifications`](crate::Verifications).
    Verified(RevocationGeneration),
    /// The node's mode changed. [`Mode::Draining`] cannot be taken back.
    Mode(Mode),
    /// The node leaves: end every run that is not queued, and tell every client to go.
    Leave(Successor),
    /// The time for leaving is over: close every connection, and wait for nothing more, the log included.
    Stop,
    /// A timer fired.
    Expired(Owner, Timer),
}

/// What must be done, in this order, before the step's lock is released.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output<P> {
    /// Acquire the user, and ask the log for the stream.
    Restore {
        /// To be quoted with the answer.
        attempt: Attempt,
    },
    /// Ask the verifier.
    Verify {
        /// For which connection.
        connection: ConnectionId,
        /// To be quoted with the verdict.
        attempt: Attempt,
        /// The credential.
        token: P,
    },
    /// Put this frame on the connection's socket.
    Send {
        /// Which connection.
        connection: ConnectionId,
        /// The frame.
        frame: Frame<P>,
    },
    /// There is something to pull.
    Wake {
        /// For which connection.
        connection: ConnectionId,
    },
    /// The connection is closing and takes no place here any more: it belongs to its task again.
    Release {
        /// The connection.
        connection: Box<Connection<P>>,
    },
    /// Have the log look something up.
    Lookup {
        /// For which connection.
        connection: ConnectionId,
        /// To be quoted with the answer.
        attempt: Attempt,
        /// What.
        lookup: Lookup<P>,
    },
    /// Write an event to the log. See [`stream::Output::Write`].
    Write {
        /// By which right.
        tenure: Tenure,
        /// To be quoted with the answer.
        batch: BatchId,
        /// The log's head as the session knows it.
        after: Offset,
        /// The event.
        event: Event<P>,
    },
    /// The log may forget what is at or before this offset.
    Trim {
        /// By which right.
        tenure: Tenure,
        /// The offset.
        through: Offset,
    },
    /// Readers have come so far.
    Read {
        /// By which right.
        tenure: Tenure,
        /// The offset.
        through: Offset,
    },
    /// Its turn has come, and what says so is durable: let an agent work on it.
    Launch {
        /// The run.
        run: RunId,
        /// What the agent is asked.
        payload: Option<P>,
        /// Whether the agent is the one to say `agent_started`: that of a run that was queued is in the stream.
        schedule: Schedule,
    },
    /// An event of the run, or a notice, is durable.
    Durable {
        /// The run.
        run: RunId,
        /// Where it is.
        offset: Offset,
        /// Whether the run ends with it.
        last: bool,
    },
    /// Tell the run's agent to stop.
    Halt {
        /// The run.
        run: RunId,
    },
    /// What was accepted and is not durable comes to nothing here: tell everyone who waits for it that it is lost.
    Lose,
    /// The session is over: what it still asks of the log need not be answered, and nothing more is written by its right.
    Relinquish {
        /// The right; `None` if the log has not given one.
        tenure: Option<Tenure>,
    },
    /// Tell the node that a run is open, as it is about to leave ([`Mode::awaits_runs`]).
    Busy,
    /// Tell it that none is open any more, and that the ends are durable.
    Quiet,
    /// Set a timer.
    Arm(Owner, Timer, Duration),
    /// Call a timer off.
    Disarm(Owner, Timer),
    /// The session has retired: forget it.
    Retire,
}

/// Orders of a step, and what a step needs to work. The caller owns it and reuses it, so that a step allocates nothing
/// once the buffers have grown.
#[derive(Clone, Debug)]
pub struct Orders<P> {
    /// What must be done, in order. The caller drains it after each step.
    pub list: Vec<Output<P>>,
    pub(super) connection: Vec<connection::Output<P>>,
    pub(super) stream: Vec<stream::Output<P>>,
    pub(super) run: Vec<run::Output>,
}

impl<P> Orders<P> {
    /// Empty buffers.
    #[must_use]
    pub const fn new() -> Self {
        Self { list: Vec::new(), connection: Vec::new(), stream: Vec::new(), run: Vec::new() }
    }
}

impl<P> Default for Orders<P> {
    fn default() -> Self {
        Self::new()
    }
}
