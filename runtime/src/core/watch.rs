//! What a trace is made of: each step of each machine, told under the lock of that machine.
//!
//! [`Effects::before`](super::Effects::before) is called just before a step, for the step takes its input;
//! [`Effects::after`](super::Effects::after) just after it, before anything that it ordered is carried out. So the order
//! of these calls is the order of the steps, and what a step leads to is told after it. Between the two calls nothing
//! else is told by the same thread.

use lockstep_model::session::Output;
use lockstep_model::{
    Connection, ConnectionId, Frame, Generation, Handled, Mode, Node, Refusal, Session, UserId, connection, node,
    session,
};

/// A step that is about to be taken.
#[derive(Debug)]
pub enum Step<'a, P> {
    /// Of the node.
    Node {
        /// Its input.
        input: node::Input,
        /// The node before it.
        node: &'a Node,
        /// A number beside the node, for the watcher alone.
        mark: &'a mut u32,
    },
    /// A connection comes to be.
    Accept(ConnectionId),
    /// Of a connection that is in no session.
    Connection(ConnectionId, &'a connection::Input<P>),
    /// A session comes to be.
    Open {
        /// Whose.
        user: UserId,
        /// Which of the user's sessions.
        generation: Generation,
        /// What the node admits.
        mode: Mode,
    },
    /// Of a session.
    Session {
        /// Whose.
        user: UserId,
        /// Which of the user's sessions.
        generation: Generation,
        /// Its input.
        input: &'a session::Input<P>,
        /// The session before it.
        session: &'a Session<P>,
        /// A number beside the session, for the watcher alone.
        mark: &'a mut u32,
    },
}

/// What came of it.
#[derive(Debug)]
pub enum Taken<'a, P> {
    /// The node's step.
    Node {
        /// What it answered.
        handled: Handled,
        /// What it ordered.
        orders: &'a [node::Output],
        /// The node after it.
        node: &'a Node,
    },
    /// A connection's step, or its acceptance.
    Connection {
        /// What it answered; an acceptance answers nothing.
        handled: Option<Handled>,
        /// What it ordered.
        orders: &'a [connection::Output<P>],
        /// The connection after it.
        connection: &'a Connection<P>,
    },
    /// Frames were taken out of a connection that is in no session. This alone has no call before it.
    Pulled {
        /// They.
        frames: &'a [Frame<P>],
        /// The connection without them.
        connection: &'a Connection<P>,
    },
    /// A session's step, or its opening.
    Session {
        /// What it answered; an opening answers nothing.
        answer: Option<Result<Handled, Refusal>>,
        /// What it ordered.
        orders: &'a [Output<P>],
        /// The session after it.
        session: &'a Session<P>,
    },
}
