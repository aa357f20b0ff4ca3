//! A gateway's parts, inputs and outputs.

use alloc::vec::Vec;
use core::borrow::Borrow;
use core::time::Duration;

use crate::bounds::Bounds;
use crate::close::Cause;
use crate::connection;
use crate::frame::Frame;
use crate::id::{
    AcquisitionId, BatchId, ConfirmationId, ConnectionId, CredentialId, Generation, Incarnation, LookupId, Offset,
    RevocationGeneration, RunId, Tenure, ThreadId, UserId, VerificationId,
};
use crate::node;
use crate::piece::Piece;
use crate::session::{self, Begin, Lookup, Session};
use crate::stream::Event;
use crate::timer::Timer;
use crate::{Handled, Refusal, Violation};

/// A user's slot in a gateway, from the opening of the session to its retirement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slot<S> {
    /// The generation among this user's sessions.
    pub generation: Generation,
    /// The session.
    pub session: S,
}

/// A session as a gateway holds it: the machine itself, or a substitute that gives the same answers. A step is a
/// function of the session and its input, so a checker may cache answers.
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
        out: &mut session::Outputs<P>,
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
        out: &mut session::Outputs<P>,
    ) -> Result<Handled, Refusal> {
        Self::step(self, bounds, input, out)
    }

    fn check(&self, bounds: &Bounds) -> Result<(), Violation> {
        Self::check(self, bounds)
    }
}

/// An input of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input<P> {
    /// A connection asks to be admitted.
    Accept {
        /// A fresh id.
        connection: ConnectionId,
    },
    /// An input for a connection.
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
    /// The log, an agent or a timer has an input for a session.
    Session {
        /// The session's user.
        user: UserId,
        /// The generation among the user's sessions.
        generation: Generation,
        /// The input.
        input: session::Input<P>,
    },
    /// Credentials of a user were revoked, and every later verification knows the revocation.
    Revoke {
        /// The user.
        user: UserId,
        /// The credential; `None` for all of the user's.
        credential: Option<CredentialId>,
    },
    /// The embedding service has a notice for a user. If the user has no session, one is opened, and the notice is
    /// refused until the stream is restored ([`crate::Refusal::Backpressure`]). A draining node opens no session and
    /// refuses the notice for good ([`crate::Refusal::Retired`]).
    Notice {
        /// The user.
        user: UserId,
        /// A fresh id.
        notice: RunId,
        /// The thread that the notice belongs to, if any.
        thread: Option<ThreadId>,
        /// The notice's payload.
        payload: P,
    },
    /// The embedding service deletes a thread of a user. A session is opened as for [`Input::Notice`].
    Delete {
        /// The user.
        user: UserId,
        /// The thread.
        thread: ThreadId,
        /// A fresh id.
        deletion: RunId,
        /// The payload of `thread_deleted`.
        payload: P,
        /// See [`session::Input::Delete`].
        as_of: Option<Offset>,
    },
    /// An input for the node. [`node::Input::Accept`] and the counts belong to the gateway.
    Node(node::Input),
}

/// The owner of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The node.
    Node,
    /// A connection, attached or not.
    Connection(ConnectionId),
    /// A session.
    Session(UserId, Generation),
    /// A run.
    Run(UserId, Generation, RunId),
}

/// An output of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output<P> {
    /// The connection is not admitted.
    Refused {
        /// The connection.
        connection: ConnectionId,
        /// The cause.
        cause: Cause,
    },
    /// Ask the verifier.
    Verify {
        /// The connection that presented the credential.
        connection: ConnectionId,
        /// The attempt that the verdict must quote.
        attempt: VerificationId,
        /// The credential.
        token: P,
        /// The generation at which the verification begins. The grant must carry it.
        generation: RevocationGeneration,
    },
    /// There is something to pull.
    Wake {
        /// The connection.
        connection: ConnectionId,
    },
    /// Put this frame on the socket.
    Send {
        /// The connection.
        connection: ConnectionId,
        /// The frame.
        frame: Frame<P>,
    },
    /// Pass the connection on to its user's owner, from its first frame on.
    Relay {
        /// The connection.
        connection: ConnectionId,
        /// The owner's process.
        owner: Incarnation,
    },
    /// Drop the socket.
    Closed {
        /// The connection.
        connection: ConnectionId,
        /// The cause.
        cause: Cause,
    },
    /// An output of a session for the log or for an agent.
    Session {
        /// The session's user.
        user: UserId,
        /// The generation among the user's sessions, to be quoted with the answer.
        generation: Generation,
        /// The output.
        output: SessionOutput<P>,
    },
    /// Measure the node's health.
    Probe,
    /// Accept no more sockets: new connections are for the next process.
    Leaving,
    /// No session is left, so nothing is written any longer: the log may be closed and given to another process.
    Released,
    /// The process may end.
    Stopped,
    /// Set a timer.
    Arm(Place, Timer, Duration),
    /// Cancel a timer.
    Disarm(Place, Timer),
}

/// An output of a session for the log or for agents.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SessionOutput<P> {
    /// See [`session::Output::Restore`].
    Restore {
        /// The attempt that the answer must quote.
        attempt: AcquisitionId,
    },
    /// See [`session::Output::Confirm`].
    Confirm {
        /// The tenure.
        tenure: Tenure,
        /// The attempt that the answer must quote.
        attempt: ConfirmationId,
        /// The log's head as the session knows it.
        after: Offset,
    },
    /// See [`session::Output::Elsewhere`].
    Elsewhere {
        /// The owner's process.
        owner: Incarnation,
    },
    /// See [`session::Output::Lookup`].
    Lookup {
        /// The connection that asked.
        connection: ConnectionId,
        /// The attempt that the answer must quote.
        attempt: LookupId,
        /// The look-up.
        lookup: Lookup<P>,
    },
    /// See [`session::Output::Write`].
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
    /// See [`session::Output::Trim`].
    Trim {
        /// The tenure.
        tenure: Tenure,
        /// The last offset that may be forgotten.
        through: Offset,
    },
    /// See [`session::Output::Read`].
    Read {
        /// The tenure.
        tenure: Tenure,
        /// The furthest offset that a reader has pulled.
        through: Offset,
    },
    /// See [`session::Output::Launch`].
    Launch {
        /// The run.
        run: RunId,
        /// The message for the agent.
        payload: Option<P>,
        /// With what the run begins.
        begin: Begin,
    },
    /// See [`session::Output::Durable`].
    Durable {
        /// The run.
        run: RunId,
        /// The event's offset.
        offset: Offset,
        /// Whether the event ends the run.
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
        /// The tenure; `None` if the log has not granted one.
        tenure: Option<Tenure>,
    },
    /// See [`session::Output::Room`].
    Room,
}

/// The outputs of a step, and the buffers that a step needs. The caller owns and reuses this value.
#[derive(Clone, Debug)]
pub struct Outputs<P> {
    /// The outputs, in order. The caller drains them after each step.
    pub list: Vec<Output<P>>,
    pub(super) session: session::Outputs<P>,
    pub(super) connection: Vec<connection::Output<P>>,
    pub(super) node: Vec<node::Output>,
}

impl<P> Outputs<P> {
    /// Creates empty buffers.
    #[must_use]
    pub const fn new() -> Self {
        Self { list: Vec::new(), session: session::Outputs::new(), connection: Vec::new(), node: Vec::new() }
    }
}

impl<P> Default for Outputs<P> {
    fn default() -> Self {
        Self::new()
    }
}
