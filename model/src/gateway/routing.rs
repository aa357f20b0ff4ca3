//! Routing: the destination of each output of a machine.
//!
//! The model-checked [`Gateway`](super::Gateway) holds all machines in a single value. The runtime's concurrent core
//! holds each behind a lock. Both route every output with these functions and rules, so `prove check` explores the
//! routing that runs. Only the core checks whether a session's input [comes from outside](session::Input::is_external),
//! because its callers are not the composition.
//!
//! | from | to |
//! | --- | --- |
//! | a session ([`FromSession`]) | the driver, the node, a connection's task, the verifier |
//! | an unattached connection ([`FromConnection`]) | the driver, its task, the verifier, its user's session |
//! | the node ([`FromNode`]) | the driver, every unattached connection, every session |

use alloc::boxed::Box;

use super::io::{Output, Place, SessionOutput};
use crate::auth::Grant;
use crate::close::Cause;
use crate::connection::{self, Connection};
use crate::frame::Frame;
use crate::id::{ConnectionId, Generation, UserId, VerificationId};
use crate::node::{self, Mode, Successor};
use crate::session;
use crate::timer::Owner;
use crate::{Handled, Refusal};

/// The destination of a session's output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FromSession<P> {
    /// The driver.
    Driver(Output<P>),
    /// The node. With [`node::Input::SessionRetired`], the session has ended and is dropped.
    Node(node::Input),
    /// The connection is unattached again.
    Release(Box<Connection<P>>),
    /// A connection has something to pull.
    Wake(ConnectionId),
    /// A pull found this frame.
    Frame(ConnectionId, Frame<P>),
    /// The verifier. [`Verifications::begin`](crate::Verifications::begin) gives the generation.
    Verify(ConnectionId, VerificationId, P),
}

/// The destination of an unattached connection's output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FromConnection<P> {
    /// The driver.
    Driver(Output<P>),
    /// The connection has something to pull.
    Wake,
    /// The verifier. [`Verifications::begin`](crate::Verifications::begin) gives the generation.
    Verify(VerificationId, P),
    /// The connection joins the session of this user, after its other outputs have been dispatched.
    Attach(Grant),
}

/// The destinations of a node's output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FromNode<P> {
    /// The output for the driver.
    pub driver: Option<Output<P>>,
    /// The notice for every unattached connection.
    pub connections: Option<ToConnections>,
    /// The notice for every session.
    pub sessions: Option<ToSessions>,
}

/// The node's notice to every unattached connection. The greater one supersedes the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ToConnections {
    /// The node is draining.
    Drain,
    /// The time for draining is over.
    Stop,
}

/// The node's notice to every session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ToSessions {
    /// The mode has changed.
    Mode(Mode),
    /// The node leaves.
    Leave(Successor),
    /// The time for draining is over.
    Stop,
}

/// Routes one output of a user's session.
pub fn session<P>(user: UserId, generation: Generation, output: session::Output<P>) -> FromSession<P> {
    use session::Output as O;
    let place = |owner| match owner {
        Owner::Session => Place::Session(user, generation),
        Owner::Connection(connection) => Place::Connection(connection),
        Owner::Run(run) => Place::Run(user, generation, run),
    };
    let output = match output {
        O::Release { connection } => return FromSession::Release(connection),
        O::Retire => return FromSession::Node(node::Input::SessionRetired),
        O::Busy => return FromSession::Node(node::Input::SessionBusy),
        O::Quiet => return FromSession::Node(node::Input::SessionQuiet),
        O::Wake { connection } => return FromSession::Wake(connection),
        O::Send { connection, frame } => return FromSession::Frame(connection, frame),
        O::Verify { connection, attempt, token } => return FromSession::Verify(connection, attempt, token),
        O::Arm(owner, timer, after) => return FromSession::Driver(Output::Arm(place(owner), timer, after)),
        O::Disarm(owner, timer) => return FromSession::Driver(Output::Disarm(place(owner), timer)),
        O::Relay { connection, owner } => return FromSession::Driver(Output::Relay { connection, owner }),
        O::Restore { attempt } => SessionOutput::Restore { attempt },
        O::Elsewhere { owner } => SessionOutput::Elsewhere { owner },
        O::Confirm { tenure, attempt, after } => SessionOutput::Confirm { tenure, attempt, after },
        O::Lookup { connection, attempt, lookup } => SessionOutput::Lookup { connection, attempt, lookup },
        O::Write { tenure, batch, after, event } => SessionOutput::Write { tenure, batch, after, event },
        O::Trim { tenure, through } => SessionOutput::Trim { tenure, through },
        O::Read { tenure, through } => SessionOutput::Read { tenure, through },
        O::Launch { run, payload, begin } => SessionOutput::Launch { run, payload, begin },
        O::Durable { run, offset, last } => SessionOutput::Durable { run, offset, last },
        O::Halt { run } => SessionOutput::Halt { run },
        O::Lose => SessionOutput::Lose,
        O::Relinquish { tenure } => SessionOutput::Relinquish { tenure },
        O::Room => SessionOutput::Room,
    };
    FromSession::Driver(Output::Session { user, generation, output })
}

/// Routes one output of an unattached connection. Returns `None` for outputs that only a session acts on.
pub fn connection<P>(id: ConnectionId, output: connection::Output<P>) -> Option<FromConnection<P>> {
    let place = Place::Connection(id);
    match output {
        connection::Output::Arm(timer, after) => Some(FromConnection::Driver(Output::Arm(place, timer, after))),
        connection::Output::Disarm(timer) => Some(FromConnection::Driver(Output::Disarm(place, timer))),
        connection::Output::Wake => Some(FromConnection::Wake),
        connection::Output::Verify { attempt, token } => Some(FromConnection::Verify(attempt, token)),
        connection::Output::Attach(grant) => Some(FromConnection::Attach(grant)),
        connection::Output::Relay { owner } => Some(FromConnection::Driver(Output::Relay { connection: id, owner })),
        connection::Output::Handle(_) | connection::Output::Closing(_) | connection::Output::Closed(_) => None,
    }
}

/// Routes one output of the node. The answer to an admission has no destination: see [`admission`].
#[must_use]
pub fn node<P>(output: node::Output) -> FromNode<P> {
    let mut route = FromNode { driver: None, connections: None, sessions: None };
    match output {
        node::Output::Announce(mode) => {
            // The other modes concern only sessions.
            if matches!(mode, Mode::Draining) {
                route.connections = Some(ToConnections::Drain);
            }
            route.sessions = Some(ToSessions::Mode(mode));
        }
        node::Output::Leave(successor) => {
            route.driver = Some(Output::Leaving);
            route.sessions = Some(ToSessions::Leave(successor));
        }
        node::Output::Stop => {
            route.connections = Some(ToConnections::Stop);
            route.sessions = Some(ToSessions::Stop);
        }
        node::Output::Probe => route.driver = Some(Output::Probe),
        node::Output::Released => route.driver = Some(Output::Released),
        node::Output::Stopped => route.driver = Some(Output::Stopped),
        node::Output::Arm(timer, after) => route.driver = Some(Output::Arm(Place::Node, timer, after)),
        node::Output::Disarm(timer) => route.driver = Some(Output::Disarm(Place::Node, timer)),
        node::Output::Admit | node::Output::Refuse(_) => {}
    }
    route
}

/// Returns the node's answer to [`node::Input::Accept`].
///
/// # Errors
///
/// The cause with which the connection is refused.
pub fn admission(outputs: impl IntoIterator<Item = node::Output>) -> Result<(), Cause> {
    let refused = outputs.into_iter().find_map(|output| match output {
        node::Output::Refuse(cause) => Some(cause),
        node::Output::Admit
        | node::Output::Probe
        | node::Output::Announce(_)
        | node::Output::Leave(_)
        | node::Output::Stop
        | node::Output::Released
        | node::Output::Stopped
        | node::Output::Arm(..)
        | node::Output::Disarm(_) => None,
    });
    refused.map_or(Ok(()), Err)
}

/// Checks whether a notice or a deletion may open its user's session in this mode.
///
/// # Errors
///
/// [`Refusal::Retired`] in a draining node, which opens no session for the embedding service.
pub const fn announcement(mode: Mode) -> Result<(), Refusal> {
    match mode {
        Mode::Draining => Err(Refusal::Retired),
        Mode::Ready | Mode::Degraded | Mode::Emergency | Mode::HandingOver => Ok(()),
    }
}

impl ToConnections {
    /// The input that each connection takes.
    #[must_use]
    pub const fn input<P>(self) -> connection::Input<P> {
        match self {
            // An unattached connection is not live, so it closes whether or not there is a successor.
            Self::Drain => connection::Input::Drain { successor: Successor::Absent },
            Self::Stop => connection::Input::Close(Cause::GoingAway),
        }
    }
}

impl ToSessions {
    /// The input that each session takes.
    #[must_use]
    pub const fn input<P>(self) -> session::Input<P> {
        match self {
            Self::Mode(mode) => session::Input::Mode(mode),
            Self::Leave(successor) => session::Input::Leave(successor),
            Self::Stop => session::Input::Stop,
        }
    }

    /// The input that the node takes after every session has been told.
    #[must_use]
    pub const fn answer(self) -> Option<node::Input> {
        match self {
            Self::Mode(_) => Some(node::Input::Announced),
            Self::Leave(_) | Self::Stop => None,
        }
    }
}

impl node::Input {
    /// Whether the input comes from outside. Admissions and counts belong to the composition.
    #[must_use]
    pub const fn is_external(&self) -> bool {
        match self {
            Self::Started
            | Self::Probed(_)
            | Self::Pin(_)
            | Self::Drain { .. }
            | Self::HandoverAborted
            | Self::Expired(_) => true,
            Self::Accept
            | Self::Closed
            | Self::SessionOpened
            | Self::SessionRetired
            | Self::SessionBusy
            | Self::SessionQuiet
            | Self::Announced => false,
        }
    }
}

impl<P> session::Input<P> {
    /// Whether the log, an agent or a timer may send this input to a session. Every other input has its own input of
    /// the composition.
    #[must_use]
    pub const fn is_external(&self) -> bool {
        match self {
            Self::Restored { .. }
            | Self::NotRestored { .. }
            | Self::Connection { .. }
            | Self::Found { .. }
            | Self::NotFound { .. }
            | Self::Persisted { .. }
            | Self::Failed { .. }
            | Self::Elsewhere { .. }
            | Self::Confirmed { .. }
            | Self::NotConfirmed { .. }
            | Self::Fenced
            | Self::Lost
            | Self::Broken
            | Self::Run { .. }
            | Self::Notice { .. }
            | Self::Delete { .. }
            | Self::Expired(..) => true,
            Self::Join { .. }
            | Self::Pull { .. }
            | Self::Revoke(_)
            | Self::Verified(_)
            | Self::Mode(_)
            | Self::Leave(_)
            | Self::Stop => false,
        }
    }

    /// Returns the answer if the session is gone.
    ///
    /// # Errors
    ///
    /// [`Refusal::Retired`] for a command from our own side: an event of a run, a notice or a deletion.
    pub const fn without_session(&self) -> Result<Handled, Refusal> {
        match self {
            Self::Run { .. } | Self::Notice { .. } | Self::Delete { .. } => Err(Refusal::Retired),
            Self::Restored { .. }
            | Self::NotRestored { .. }
            | Self::Join { .. }
            | Self::Connection { .. }
            | Self::Pull { .. }
            | Self::Found { .. }
            | Self::NotFound { .. }
            | Self::Persisted { .. }
            | Self::Failed { .. }
            | Self::Elsewhere { .. }
            | Self::Confirmed { .. }
            | Self::NotConfirmed { .. }
            | Self::Fenced
            | Self::Lost
            | Self::Broken
            | Self::Revoke(_)
            | Self::Verified(_)
            | Self::Mode(_)
            | Self::Leave(_)
            | Self::Stop
            | Self::Expired(..) => Ok(Handled::Ignored),
        }
    }
}
