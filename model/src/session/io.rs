//! A session's parts, inputs and outputs.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::lookup::{Found, Lookup, Lookups};
use crate::close::Cause;
use crate::connection::{self, Connection};
use crate::fence::Scope;
use crate::frame::{Frame, ReadFrom, Resume};
use crate::id::{
    AcquisitionId, BatchId, ConfirmationId, ConnectionId, Incarnation, LookupId, MessageId, Offset, Position,
    RevocationGeneration, RunId, Tenure, ThreadId, VerificationId,
};
use crate::node::{Mode, Successor};
use crate::piece::Piece;
use crate::run;
use crate::stream::{self, Cursor, Event, Snapshot, Stream};
use crate::tenure;
use crate::timer::{Owner, Timer};

/// The state of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// The user is not acquired yet, or the log has not returned the stream; connections wait.
    /// [`Session::ownership`](super::Session::ownership) has the progress.
    Restoring,
    /// There is no connection, and nothing is in progress.
    Vacant,
    /// There is a connection, or an open run that this process must end: a draining process leaves queued runs to the
    /// next.
    Occupied,
    /// Nothing is in progress and nothing new begins. The session waits until the log has the pending events, or until
    /// its fence may fall.
    Leaving {
        /// The cause that later connections are told.
        cause: Cause,
    },
    /// Final. The user's next connection needs a new session.
    Retired,
}

/// A connection of the session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Member<P> {
    /// The connection: attaching, live or draining, never closing.
    pub connection: Connection<P>,
    /// The read position; `None` until the connection is live.
    pub cursor: Option<Cursor>,
    /// Where the connection resumed: the client had seen everything before. `None` until then, and for a connection
    /// that started elsewhere. `None` again once the entries after that offset are no longer retained, because then it
    /// proves nothing.
    pub start: Option<Offset>,
    /// Whether entries are read.
    pub reader: Reader,
    /// Whether the writer waits to be woken.
    pub parked: bool,
    /// The connection's look-ups in the log.
    pub lookups: Lookups<P>,
    /// The position of a client that has seen entries that this session has not, until the log confirms that the
    /// session still holds the user (OWN-3).
    pub ahead: Option<Ahead>,
}

/// A client's position that this session does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ahead {
    /// The confirmation whose answer counts, or a later one.
    pub attempt: ConfirmationId,
    /// The position.
    pub position: Position,
}

impl<P: Clone> Member<P> {
    /// Creates a member that has no read position yet.
    pub(super) fn new(connection: Connection<P>) -> Self {
        let reader = match connection.resume() {
            Some(Resume { from: ReadFrom::Deferred, .. }) => Reader::Deferred,
            Some(_) | None => Reader::Reading,
        };
        Self { connection, cursor: None, start: None, reader, parked: true, lookups: Lookups::default(), ahead: None }
    }
}

impl<P: Piece> Member<P> {
    /// Whether there are readable entries that it is to read and has not read.
    pub(super) fn is_behind(&self, stream: Option<&Stream<P>>) -> bool {
        match (stream, self.cursor, self.reader) {
            (Some(stream), Some(cursor), Reader::Reading) => stream.is_behind(cursor),
            (None, _, _) | (_, None, _) | (_, _, Reader::Deferred) => false,
        }
    }
}

/// Whether a connection reads entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Reader {
    /// It reads once it is live.
    Reading,
    /// It waits for the client to name its position: see [`ReadFrom::Deferred`].
    Deferred,
}

/// The memory of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Known {
    /// The run that it started.
    pub run: RunId,
    /// The offset of its `message_received`; `None` until the log has it.
    pub offset: Option<Offset>,
}

/// A run whose first event is in the log and whose last event is not. The log must not forget its start, or a restart
/// would not find the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Unsettled {
    /// The message that started it.
    pub message: MessageId,
    /// The offset of its `message_received`.
    pub offset: Offset,
}

/// A run that was queued and has no agent yet: it waits for its turn, or for its `agent_started` to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Waiting<P> {
    /// The run.
    pub run: RunId,
    /// The message for its agent; `None` until the log has it.
    pub payload: Option<P>,
}

/// How a launched run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Begin {
    /// With `agent_started`, which the agent must emit.
    New,
    /// The run was queued, and its `agent_started` is in the stream.
    Queued,
    /// The run was paused: its `agent_resumed` is in the stream.
    Resumed,
}

/// An input of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input<P> {
    /// The log answers: the session owns the user, and this is the stream.
    Restored {
        /// The attempt that is answered.
        attempt: AcquisitionId,
        /// The log's contents, and the tenure for further writes.
        snapshot: Snapshot<P>,
    },
    /// The log could not answer.
    NotRestored {
        /// The attempt that is answered.
        attempt: AcquisitionId,
    },
    /// The log answers: another process, which lives, owns the user.
    Elsewhere {
        /// The attempt that is answered.
        attempt: AcquisitionId,
        /// The owner's process.
        owner: Incarnation,
    },
    /// The log has accepted an empty append: the session held the user when the request was sent.
    Confirmed {
        /// The attempt that is answered.
        attempt: ConfirmationId,
    },
    /// The log could not say whether the session holds the user.
    NotConfirmed {
        /// The attempt that is answered.
        attempt: ConfirmationId,
    },
    /// A connection whose credential was verified joins.
    Join {
        /// The connection, in [`connection::State::Attaching`].
        connection: Box<Connection<P>>,
        /// The node's current mode.
        mode: Mode,
    },
    /// An input for a connection of this session.
    Connection {
        /// The connection.
        connection: ConnectionId,
        /// The input.
        input: connection::Input<P>,
    },
    /// A connection's socket can take frames.
    Pull {
        /// The connection.
        connection: ConnectionId,
        /// The maximum number of frames.
        budget: usize,
    },
    /// A run's agent emits an event, or we end the run.
    Run {
        /// The run.
        run: RunId,
        /// The input.
        input: run::Input,
        /// The event's payload.
        payload: Option<P>,
    },
    /// The embedding service has a notice for the user, outside any run.
    Notice {
        /// A fresh id, made at the edge: the notice's run id in the stream.
        notice: RunId,
        /// The thread that the notice belongs to, if any.
        thread: Option<ThreadId>,
        /// The notice's payload.
        payload: P,
    },
    /// The embedding service deletes a thread of the user, as [`Request::Delete`](crate::Request::Delete) does.
    Delete {
        /// The thread.
        thread: ThreadId,
        /// A fresh id, made at the edge: the run id of `thread_deleted`.
        deletion: RunId,
        /// The payload of `thread_deleted`.
        payload: P,
        /// If given, the deletion is refused if the thread may have changed since this offset: it has a later event, a
        /// pending event or an open run, or entries after the offset are no longer retained.
        as_of: Option<Offset>,
    },
    /// The log has completed a look-up.
    Found {
        /// The connection that asked.
        connection: ConnectionId,
        /// The attempt that is answered.
        attempt: LookupId,
        /// The result.
        found: Found<P>,
    },
    /// The log could not complete a look-up.
    NotFound {
        /// The connection that asked.
        connection: ConnectionId,
        /// The attempt that is answered.
        attempt: LookupId,
    },
    /// The log has the oldest event of a batch.
    Persisted {
        /// The batch.
        batch: BatchId,
        /// The event's offset.
        offset: Offset,
        /// The payload as the log stored it, if it was changed, for example with the time of writing. Every reader gets
        /// it, now and after a restart.
        record: Option<P>,
    },
    /// The log refused the rest of a batch.
    Failed {
        /// The batch.
        batch: BatchId,
    },
    /// The log has a newer owner for the user, or has erased the user. Final: it accepts nothing more from this
    /// session.
    Fenced,
    /// The process has lost its lease: see [`member`](crate::member).
    Lost,
    /// The log violated its contract, so its answers about this user are unreliable.
    Broken,
    /// Credentials were revoked.
    Revoke(Scope),
    /// Every verification that began before this generation is over: see [`Verifications`](crate::Verifications).
    Verified(RevocationGeneration),
    /// The node's mode changed. [`Mode::Draining`] cannot be reverted.
    Mode(Mode),
    /// The node leaves: end every run that is not queued, and tell every client to leave.
    Leave(Successor),
    /// The time for leaving is over: close every connection, and wait for nothing more, including the log.
    Stop,
    /// A timer fired.
    Expired(Owner, Timer),
}

/// An output of a session. A step's outputs take effect, in order, before the session's lock is released.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output<P> {
    /// Acquire the user, and ask the log for the stream.
    Restore {
        /// The attempt that the answer must quote.
        attempt: AcquisitionId,
    },
    /// Write nothing under this tenure. The answer says whether it is still the newest.
    Confirm {
        /// The tenure.
        tenure: Tenure,
        /// The attempt that the answer must quote.
        attempt: ConfirmationId,
        /// The log's head as the session knows it.
        after: Offset,
    },
    /// The user has another owner: commands of the embedding service go there.
    Elsewhere {
        /// The owner's process.
        owner: Incarnation,
    },
    /// Pass the connection on to its user's owner. It leaves the session in the same step.
    Relay {
        /// The connection.
        connection: ConnectionId,
        /// The owner's process.
        owner: Incarnation,
    },
    /// Ask the verifier.
    Verify {
        /// The connection that presented the credential.
        connection: ConnectionId,
        /// The attempt that the verdict must quote.
        attempt: VerificationId,
        /// The credential.
        token: P,
    },
    /// Put this frame on the connection's socket.
    Send {
        /// The connection.
        connection: ConnectionId,
        /// The frame.
        frame: Frame<P>,
    },
    /// There is something to pull.
    Wake {
        /// The connection.
        connection: ConnectionId,
    },
    /// The connection is closing and leaves the session: it belongs to its task again.
    Release {
        /// The connection.
        connection: Box<Connection<P>>,
    },
    /// Ask the log for a look-up.
    Lookup {
        /// The connection that asked.
        connection: ConnectionId,
        /// The attempt that the answer must quote.
        attempt: LookupId,
        /// The look-up.
        lookup: Lookup<P>,
    },
    /// Write an event to the log. See [`stream::Output::Write`].
    Write {
        /// The tenure under which it is written.
        tenure: Tenure,
        /// The batch that the answer must quote.
        batch: BatchId,
        /// The log's head as the session knows it.
        after: Offset,
        /// The event.
        event: Event<P>,
    },
    /// The log may forget everything at or before this offset.
    Trim {
        /// The tenure.
        tenure: Tenure,
        /// The offset.
        through: Offset,
    },
    /// Record how far readers have pulled.
    Read {
        /// The tenure.
        tenure: Tenure,
        /// The furthest offset that a reader has pulled.
        through: Offset,
    },
    /// Start an agent: the run's turn has come, or the user has replied, and the event that says so is durable.
    Launch {
        /// The run.
        run: RunId,
        /// The message for the agent, or the reply.
        payload: Option<P>,
        /// With what the run begins.
        begin: Begin,
    },
    /// An event of the run, or a notice, is durable.
    Durable {
        /// The run.
        run: RunId,
        /// The event's offset.
        offset: Offset,
        /// Whether the event ends the run.
        last: bool,
    },
    /// Tell the run's agent to stop.
    Halt {
        /// The run.
        run: RunId,
    },
    /// Accepted events that are not durable are lost here: tell everything that waits for them.
    Lose,
    /// The session has ended: its requests to the log need no answer, and nothing more is written under its tenure.
    Relinquish {
        /// The tenure; `None` if the log has not granted one.
        tenure: Option<Tenure>,
    },
    /// Tell the node, which is about to leave ([`Mode::awaits_runs`]), that a run is open.
    Busy,
    /// Tell the node that no run is open any longer, and that their ends are durable.
    Quiet,
    /// Set a timer.
    Arm(Owner, Timer, Duration),
    /// Cancel a timer.
    Disarm(Owner, Timer),
    /// The session has retired: forget it.
    Retire,
    /// A command that was refused with [`Refusal::Backpressure`](crate::Refusal::Backpressure) may be accepted now:
    /// tell the waiting callers to repeat it.
    Room,
}

/// The outputs of a step, and the buffers that a step needs. The caller owns and reuses this value, so a step allocates
/// nothing once the buffers have grown.
#[derive(Clone, Debug)]
pub struct Outputs<P> {
    /// The outputs, in order. The caller drains them after each step.
    pub list: Vec<Output<P>>,
    pub(super) connection: Vec<connection::Output<P>>,
    pub(super) stream: Vec<stream::Output<P>>,
    pub(super) run: Vec<run::Output>,
    pub(super) ownership: Vec<tenure::Output>,
}

impl<P> Outputs<P> {
    /// Creates empty buffers.
    #[must_use]
    pub const fn new() -> Self {
        Self { list: Vec::new(), connection: Vec::new(), stream: Vec::new(), run: Vec::new(), ownership: Vec::new() }
    }
}

impl<P> Default for Outputs<P> {
    fn default() -> Self {
        Self::new()
    }
}
