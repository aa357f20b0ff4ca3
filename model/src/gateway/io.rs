//! What a gateway is made of, what happens to it and what it orders.

use alloc::vec::Vec;
use core::borrow::Borrow;
use core::time::Duration;

use crate::bounds::Bounds;
use crate::close::Cause;
use crate::connection;
use crate::frame::Frame;
use crate::id::{
    Attempt, BatchId, ConnectionId, CredentialId, Generation, Offset, RevocationGeneration, RunId, Tenure, ThreadId,
    UserId,
};
use crate::node;
use crate::piece::Piece;
use crate::run::Schedule;
use crate::session::{self, Lookup, Session};
use crate::stream::Event;
use crate::timer::Timer;
use crate::{Handled, Refusal, Violation};

/// A user's place in a gateway, from the opening of the session to its retirement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slot<S> {
    /// Which of this user's sessions it is.
    pub generation: Generation,
    /// The session.
    pub session: S,
}

/// A session as a gateway holds it: the machine itself, or what stands for it and gives the same answers. A step is a
/// function of the session and its input, so a checker may remember the answers that it has had.
pub trait Hosted<P>: From<Session<P>> + Borrow<Session<P>> {
    /// As [`Session::step`].
    ///
    /// # Errors
    ///
    /// As [`Session::step`].
    fn step(
        &mut self,
        bounds: &Bounds,
        input: session::Input<P>,
        out: &mut session::Orders<P>,
    ) -> Result<Handled, Refusal>;

    /// As [`Session::check`].
    ///
    /// # Errors
    ///
    /// As [`Session::check`].
    fn check(&self, bounds: &Bounds) -> Result<(), Violation>;
}

impl<P: Piece> Hosted<P> for Session<P> {
    fn step(
        &mut self,
        bounds: &Bounds,
        input: session::Input<P>,
        out: &mut session::Orders<P>,
    ) -> Result<Handled, Refusal> {
        Self::step(self, bounds, input, out)
    }

    fn check(&self, bounds: &Bounds) -> Result<(), Violation> {
        Self::check(self, bounds)
    }
}

/// What happens to a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input<P> {
    /// A connection asks to be admitted.
    Accept {
        /// A fresh id.
        connection: ConnectionId,
    },
    /// Something happened to a connection.
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
    /// The log, an agent or a timer has something for a session.
    Session {
        /// Whose.
        user: UserId,
        /// Which of the user's sessions.
        generation: Generation,
        /// What.
        input: session::Input<P>,
    },
    /// Credentials of a user were revoked, and whoever verifies from now on knows it.
    Revoke {
        /// Whose.
        user: UserId,
        /// Which; all of them, unless it is one.
        credential: Option<CredentialId>,
    },
    /// The embedding service has something for a user. If the user has no session, one is opened, and the notice is
    /// refused until the stream is there ([`crate::Refusal::Backpressure`]); a node that drains opens none and refuses it
    /// for good ([`crate::Refusal::Retired`]).
    Notice {
        /// Whose.
        user: UserId,
        /// A fresh id.
        notice: RunId,
        /// The thread that it is of, if it is of one.
        thread: Option<ThreadId>,
        /// What it says.
        payload: P,
    },
    /// The embedding service deletes a thread of a user. A session is opened as for [`Input::Notice`].
    Delete {
        /// Whose.
        user: UserId,
        /// The thread.
        thread: ThreadId,
        /// A fresh id.
        deletion: RunId,
        /// What goes with `thread_deleted`.
        payload: P,
        /// See [`session::Input::Delete`].
        as_of: Option<Offset>,
    },
    /// Something happened to the node. [`node::Input::Accept`] and the counts are the gateway's own.
    Node(node::Input),
}

/// Whose timer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The node's.
    Node,
    /// A connection's, wherever it is.
    Connection(ConnectionId),
    /// A session's.
    Session(UserId, Generation),
    /// A run's.
    Run(UserId, Generation, RunId),
}

/// What must be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output<P> {
    /// The connection is not admitted.
    Refused {
        /// Which.
        connection: ConnectionId,
        /// Why.
        cause: Cause,
    },
    /// Ask the verifier.
    Verify {
        /// For which connection.
        connection: ConnectionId,
        /// To be quoted with the verdict.
        attempt: Attempt,
        /// The credential.
        token: P,
        /// When the verification begins: what its grant must say.
        generation: RevocationGeneration,
    },
    /// There is something to pull.
    Wake {
        /// For which connection.
        connection: ConnectionId,
    },
    /// Put this frame on the socket.
    Send {
        /// Of which connection.
        connection: ConnectionId,
        /// The frame.
        frame: Frame<P>,
    },
    /// Drop the socket.
    Closed {
        /// Of which connection.
        connection: ConnectionId,
        /// Why.
        cause: Cause,
    },
    /// An order of a session to the log or to an agent.
    Session {
        /// Whose.
        user: UserId,
        /// Which of the user's sessions, to be quoted with the answer.
        generation: Generation,
        /// The output.
        output: SessionOutput<P>,
    },
    /// Measure the node's health.
    Probe,
    /// Accept no socket any more: who comes now is for the next process.
    Leaving,
    /// No session is left, and none writes any more: the log may be closed and given to another process.
    Released,
    /// The process may end.
    Stopped,
    /// Set a timer.
    Arm(Place, Timer, Duration),
    /// Call a timer off.
    Disarm(Place, Timer),
}

/// What a session wants of the log and of agents.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SessionOutput<P> {
    /// See [`session::Output::Restore`].
    Restore {
        /// To be quoted with the answer.
        attempt: Attempt,
    },
    /// See [`session::Output::Lookup`].
    Lookup {
        /// For which connection.
        connection: ConnectionId,
        /// To be quoted with the answer.
        attempt: Attempt,
        /// What.
        lookup: Lookup<P>,
    },
    /// See [`session::Output::Write`].
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
    /// See [`session::Output::Trim`].
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
    /// See [`session::Output::Launch`].
    Launch {
        /// The run.
        run: RunId,
        /// What the agent is asked.
        payload: Option<P>,
        /// Whether the agent is the one to say `agent_started`.
        schedule: Schedule,
    },
    /// See [`session::Output::Durable`].
    Durable {
        /// The run.
        run: RunId,
        /// Where the event is.
        offset: Offset,
        /// Whether the run ends with it.
        last: bool,
    },
    /// See [`session::Output::Halt`].
    Halt {
        /// The run.
        run: RunId,
    },
    /// See [`session::Output::Lose`].
    Lose,
    /// See [`session::Output::Relinquish`].
    Relinquish {
        /// The right; `None` if the log has not given one.
        tenure: Option<Tenure>,
    },
}

/// Orders of a step, and the buffers that a step needs. The caller owns it and reuses it.
#[derive(Clone, Debug)]
pub struct Orders<P> {
    /// What must be done, in order. The caller drains it after each step.
    pub list: Vec<Output<P>>,
    pub(super) session: session::Orders<P>,
    pub(super) connection: Vec<connection::Output<P>>,
    pub(super) node: Vec<node::Output>,
}

impl<P> Orders<P> {
    /// Empty buffers.
    #[must_use]
    pub const fn new() -> Self {
        Self { list: Vec::new(), session: session::Orders::new(), connection: Vec::new(), node: Vec::new() }
    }
}

impl<P> Default for Orders<P> {
    fn default() -> Self {
        Self::new()
    }
}
