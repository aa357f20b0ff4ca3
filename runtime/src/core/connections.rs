//! The rest of a slot, beside its session: the inbox of each of the session's connections, and the dispatch of its
//! outputs.
//!
//! Everything here is inside the slot and is touched only under the slot's lock. An output goes to the inbox of the
//! connection that it names, to the admission, into the buffer of the task that pulls, or to the driver's [`Effects`].

use std::collections::BTreeMap;

use lockstep_model::gateway::routing::{self, FromConnection, FromSession};
use lockstep_model::session::{Input, Output, Outputs, State};
use lockstep_model::{
    Bounds, Cause, Connection, ConnectionId, Frame, Generation, Handled, Piece, Refusal, Session, UserId, Violation,
    connection, node,
};

use super::handle::ConnectionInbox;
use super::slot::{Dispatch, Fault, Locked, Machine, Slot};
use super::sync::Arc;
use super::watch::{Step, Taken};
use super::{Effects, Shared};

/// The slot of a session.
pub type SessionSlot<P, E> = Slot<Session<P>, Connections<P, E>>;

/// A session whose slot's lock is held.
pub type LockedSession<'a, P, E> = Locked<'a, Session<P>, Connections<P, E>>;

impl<P: Piece> Machine for Session<P> {
    type Bounds = Bounds;
    type Input = Input<P>;
    type Output = Output<P>;
    type Outputs = Outputs<P>;
    type Answer = Result<Handled, Refusal>;

    fn step(&mut self, bounds: &Bounds, input: Input<P>, out: &mut Outputs<P>) -> Self::Answer {
        Session::step(self, bounds, input, out)
    }

    fn outputs(out: &mut Outputs<P>) -> &mut Vec<Output<P>> {
        &mut out.list
    }

    fn is_over(&self) -> bool {
        self.state() == State::Retired
    }

    fn check(&self, bounds: &Bounds) -> Result<(), Violation> {
        Session::check(self, bounds)
    }
}

/// Dispatches a session's outputs.
pub struct Connections<P, E> {
    shared: Arc<Shared<P, E>>,
    user: UserId,
    generation: Generation,
    connections: BTreeMap<ConnectionId, Arc<ConnectionInbox<P>>>,
    frames: Vec<Frame<P>>,
    retired: bool,
    /// Whether the node counts the session as busy.
    holding: bool,
    mark: u32,
}

impl<P: Piece, E: Effects<P>> Connections<P, E> {
    pub(super) const fn new(shared: Arc<Shared<P, E>>, user: UserId, generation: Generation) -> Self {
        Self {
            shared,
            user,
            generation,
            connections: BTreeMap::new(),
            frames: Vec::new(),
            retired: false,
            holding: false,
            mark: 0,
        }
    }

    /// Registers a connection that is about to join, so that the session can reach it.
    pub(super) fn register(&mut self, id: ConnectionId, inbox: Arc<ConnectionInbox<P>>) {
        self.connections.insert(id, inbox);
    }

    /// The frames that the current pull has found.
    pub(super) const fn frames(&mut self) -> &mut Vec<Frame<P>> {
        &mut self.frames
    }

    /// Returns a connection to its task.
    fn release(&mut self, connection: Box<Connection<P>>) {
        if let Some(inbox) = self.connections.remove(&connection.id()) {
            inbox.hand_over(connection);
        }
    }

    /// Replaces a connection whose machine is lost: its task gets a new machine, which is closing with 1011.
    pub(super) fn replace(&mut self, bounds: &Bounds, id: ConnectionId) {
        let effects = &self.shared.effects;
        let mut outputs = Vec::new();
        effects.before(Step::Accept(id));
        let mut connection = Connection::accept(bounds, id, &mut outputs);
        effects.after(Taken::Connection { handled: None, outputs: &outputs, connection: &connection });
        let accepted = outputs.len();
        let close = connection::Input::Close(Cause::Fault);
        effects.before(Step::Connection(id, &close));
        let handled = Some(connection.step(bounds, close, &mut outputs));
        effects.after(Taken::Connection { handled, outputs: &outputs[accepted..], connection: &connection });
        for output in outputs {
            if let Some(FromConnection::Driver(output)) = routing::connection(id, output) {
                effects.apply(output);
            }
        }
        self.release(Box::new(connection));
    }

    /// The node no longer awaits this session. This call holds the slot's lock, so it cannot tell the other sessions
    /// the consequences. The driver does that: see [`Effects::quiet`].
    fn quiet(&mut self) {
        if core::mem::replace(&mut self.holding, false) {
            self.shared.effects.quiet();
        }
    }

    fn retire(&mut self, bounds: &Bounds) {
        if !core::mem::replace(&mut self.retired, true) {
            self.shared.admission.count(bounds, node::Input::SessionRetired, &self.shared.effects);
        }
    }
}

impl<P: Piece, E: Effects<P>> Dispatch<Session<P>> for Connections<P, E> {
    fn dispatch(&mut self, bounds: &Bounds, output: Output<P>) {
        match routing::session(self.user, self.generation, output) {
            FromSession::Driver(output) => self.shared.effects.apply(output),
            FromSession::Node(node::Input::SessionRetired) => self.retire(bounds),
            FromSession::Node(node::Input::SessionQuiet) => self.quiet(),
            FromSession::Node(input) => {
                self.holding |= input == node::Input::SessionBusy;
                self.shared.admission.count(bounds, input, &self.shared.effects);
            }
            FromSession::Release(connection) => self.release(connection),
            FromSession::Wake(connection) => {
                if let Some(inbox) = self.connections.get(&connection) {
                    inbox.signal();
                }
            }
            FromSession::Frame(_, frame) => self.frames.push(frame),
            FromSession::Verify(connection, attempt, token) => self.shared.verify(connection, attempt, token),
        }
    }

    /// Gives each connection's task a machine that closes with 1011. The next session finds the runs open in the log
    /// and ends them. Their agents still emit under this generation, and are refused.
    fn abandon(&mut self, bounds: &Bounds, fault: Fault) {
        while let Some(id) = self.connections.keys().next().copied() {
            self.replace(bounds, id);
        }
        self.retire(bounds);
        self.quiet();
        self.shared.effects.fault(self.user, self.generation, fault);
    }

    fn before(&mut self, session: &Session<P>, input: &Input<P>) {
        let Self { user, generation, .. } = *self;
        self.shared.effects.before(Step::Session { user, generation, input, session, mark: &mut self.mark });
    }

    fn after(&mut self, session: &Session<P>, answer: Option<&Result<Handled, Refusal>>, outputs: &[Output<P>]) {
        if answer.is_none() {
            let Self { user, generation, .. } = *self;
            self.shared.effects.before(Step::Open { user, generation, mode: session.mode() });
        }
        self.shared.effects.after(Taken::Session { answer: answer.copied(), outputs, session });
    }
}

impl<P, E> core::fmt::Debug for Connections<P, E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Connections")
            .field("user", &self.user)
            .field("generation", &self.generation)
            .field("connections", &self.connections.len())
            .finish_non_exhaustive()
    }
}
