//! The records for a trace: each step of each machine, under the lock of that machine.
//!
//! [`Effects::before`](super::Effects::before) is called just before a step, because the step consumes its input.
//! [`Effects::after`](super::Effects::after) is called just after it, before any of its outputs is dispatched. So the
//! order of these calls is the order of the steps, and the consequences of a step are reported after it. Between the
//! two calls, the same thread reports nothing else.

use lockstep_model::session::Output;
use lockstep_model::{
    Connection, ConnectionId, Frame, Generation, Handled, Mode, Node, Refusal, Session, UserId, connection, node,
    session,
};

/// A step that is about to be taken.
#[derive(Debug)]
pub enum Step<'a, P> {
    /// A step of the node.
    Node {
        /// The input.
        input: node::Input,
        /// The node before the step.
        node: &'a Node,
        /// A number kept beside the node for the trace alone.
        mark: &'a mut u32,
    },
    /// A connection is created.
    Accept(ConnectionId),
    /// A step of a connection that is not attached to a session.
    Connection(ConnectionId, &'a connection::Input<P>),
    /// A session is created.
    Open {
        /// The session's user.
        user: UserId,
        /// The generation among the user's sessions.
        generation: Generation,
        /// The node's mode.
        mode: Mode,
    },
    /// A step of a session.
    Session {
        /// The session's user.
        user: UserId,
        /// The generation among the user's sessions.
        generation: Generation,
        /// The input.
        input: &'a session::Input<P>,
        /// The session before the step.
        session: &'a Session<P>,
        /// A number kept beside the session for the trace alone.
        mark: &'a mut u32,
    },
}

/// The result of a step.
#[derive(Debug)]
pub enum Taken<'a, P> {
    /// A step of the node.
    Node {
        /// The node's answer.
        handled: Handled,
        /// The outputs.
        outputs: &'a [node::Output],
        /// The node after the step.
        node: &'a Node,
    },
    /// A step of a connection, or its creation.
    Connection {
        /// The connection's answer; `None` for its creation.
        handled: Option<Handled>,
        /// The outputs.
        outputs: &'a [connection::Output<P>],
        /// The connection after the step.
        connection: &'a Connection<P>,
    },
    /// Frames were pulled from a connection that is not attached to a session. No call precedes this one.
    Pulled {
        /// The frames.
        frames: &'a [Frame<P>],
        /// The connection without the frames.
        connection: &'a Connection<P>,
    },
    /// A step of a session, or its creation.
    Session {
        /// The session's answer; `None` for its creation.
        answer: Option<Result<Handled, Refusal>>,
        /// The outputs.
        outputs: &'a [Output<P>],
        /// The session after the step.
        session: &'a Session<P>,
    },
}
