//! What is beside a session in its slot: the inbox of each of its connections, and how its orders are carried out.
//!
//! Everything here is inside the slot and touched under its lock alone. An order goes to the inbox of the connection
//! that it names, to the admission, into the buffer of the one who pulls, or to the driver's [`Effects`].

use std::collections::BTreeMap;

use lockstep_model::gateway::routing::{self, FromConnection, FromSession};
use lockstep_model::session::{Input, Orders, Output, State};
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

/// A session under its slot's lock.
pub type LockedSession<'a, P, E> = Locked<'a, Session<P>, Connections<P, E>>;

impl<P: Piece> Machine for Session<P> {
    type Bounds = Bounds;
    type Input = Input<P>;
    type Order = Output<P>;
    type Orders = Orders<P>;
    type Answer = Result<Handled, Refusal>;

    fn step(&mut self, bounds: &Bounds, input: Input<P>, out: &mut Orders<P>) -> Self::Answer {
        Session::step(self, bounds, input, out)
    }

    fn orders(out: &mut Orders<P>) -> &mut Vec<Output<P>> {
        &mut out.list
    }

    fn is_over(&self) -> bool {
        self.state() == State::Retired
    }

    fn check(&self, bounds: &Bounds) -> Result<(), Violation> {
        Session::check(self, bounds)
    }
}

/// Carries out a session's orders.
pub struct Connections<P, E> {
    shared: Arc<Shared<P, E>>,
    user: UserId,
    generation: Generation,
    connections: BTreeMap<ConnectionId, Arc<ConnectionInbox<P>>>,
    frames: Vec<Frame<P>>,
    retired: bool,
    /// Whether the node counts it as busy.
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

    /// The connection is about to join; its session reaches it here.
    pub(super) fn register(&mut self, id: ConnectionId, inbox: Arc<ConnectionInbox<P>>) {
        self.connections.insert(id, inbox);
    }

    /// What the pull that was just stepped has found.
    pub(super) const fn frames(&mut self) -> &mut Vec<Frame<P>> {
        &mut self.frames
    }

    /// Gives a connection back to its task.
    fn release(&mut self, connection: Box<Connection<P>>) {
        if let Some(inbox) = self.connections.remove(&connection.id()) {
            inbox.hand_over(connection);
        }
    }

    /// Gives the task of a connection whose machine is lost another one, which is closing with 1011.
    pub(super) fn replace(&mut self, bounds: &Bounds, id: ConnectionId) {
        let effects = &self.shared.effects;
        let mut orders = Vec::new();
        effects.before(Step::Accept(id));
        let mut connection = Connection::accept(bounds, id, &mut orders);
        effects.after(Taken::Connection { handled: None, orders: &orders, connection: &connection });
        let accepted = orders.len();
        let close = connection::Input::Close(Cause::Fault);
        effects.before(Step::Connection(id, &close));
        let handled = Some(connection.step(bounds, close, &mut orders));
        effects.after(Taken::Connection { handled, orders: &orders[accepted..], connection: &connection });
        for output in orders {
            if let Some(FromConnection::Driver(output)) = routing::connection(id, output) {
                effects.apply(output);
            }
        }
        self.release(Box::new(connection));
    }

    /// The node awaits this session no more. Who is inside a slot cannot tell the others what the node makes of that, so the
    /// driver steers it.
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

    /// Each connection's task gets a machine that closes with 1011. The runs are ended by the next session, which finds
    /// them open in the log; what their agents still say carries this generation, and is refused.
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

    fn after(&mut self, session: &Session<P>, answer: Option<&Result<Handled, Refusal>>, orders: &[Output<P>]) {
        if answer.is_none() {
            let Self { user, generation, .. } = *self;
            self.shared.effects.before(Step::Open { user, generation, mode: session.mode() });
        }
        self.shared.effects.after(Taken::Session { answer: answer.copied(), orders, session });
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
