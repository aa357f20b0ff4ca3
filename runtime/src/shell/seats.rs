//! What is beside a session in its cell: the mailbox of each of its connections, and how its orders are carried out.
//!
//! Everything here is inside the cell and touched under its lock alone. An order goes to the mailbox of the connection
//! that it names, to the gate, into the buffer of the one who pulls, or to the driver's [`Effects`].

use std::collections::BTreeMap;

use lockstep_model::gateway::{self, Order, Place};
use lockstep_model::session::{Input, Orders, Output, State};
use lockstep_model::timer::Owner;
use lockstep_model::{
    Bounds, Cause, Connection, ConnectionId, Frame, Generation, Handled, Piece, Refusal, Session, UserId, Violation,
    connection,
};

use super::cell::{Carry, Cell, Fault, Live, Machine};
use super::port::Inbox;
use super::sync::Arc;
use super::watch::{Step, Taken};
use super::{Effects, World};

/// The cell of a session.
pub type SessionCell<P, E> = Cell<Session<P>, Seats<P, E>>;

/// A session under its cell's lock.
pub type LiveSession<'a, P, E> = Live<'a, Session<P>, Seats<P, E>>;

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
pub struct Seats<P, E> {
    world: Arc<World<P, E>>,
    user: UserId,
    generation: Generation,
    seats: BTreeMap<ConnectionId, Arc<Inbox<P>>>,
    frames: Vec<Frame<P>>,
    retired: bool,
    /// Whether the node counts it as busy.
    holding: bool,
    mark: u32,
}

impl<P: Piece, E: Effects<P>> Seats<P, E> {
    pub(super) const fn new(world: Arc<World<P, E>>, user: UserId, generation: Generation) -> Self {
        Self {
            world,
            user,
            generation,
            seats: BTreeMap::new(),
            frames: Vec::new(),
            retired: false,
            holding: false,
            mark: 0,
        }
    }

    /// The connection is about to join; its session reaches it here.
    pub(super) fn sit(&mut self, id: ConnectionId, inbox: Arc<Inbox<P>>) {
        self.seats.insert(id, inbox);
    }

    /// What the pull that was just stepped has found.
    pub(super) const fn frames(&mut self) -> &mut Vec<Frame<P>> {
        &mut self.frames
    }

    /// Gives a connection back to its task.
    fn release(&mut self, connection: Box<Connection<P>>) {
        if let Some(inbox) = self.seats.remove(&connection.id()) {
            inbox.hand_over(connection);
        }
    }

    /// Gives the task of a connection whose machine is lost another one, which is closing with 1011.
    pub(super) fn replace(&mut self, bounds: &Bounds, id: ConnectionId) {
        let effects = &self.world.effects;
        let mut orders = Vec::new();
        effects.before(Step::Accept(id));
        let mut connection = Connection::accept(bounds, id, &mut orders);
        effects.after(Taken::Connection { handled: None, orders: &orders, connection: &connection });
        let accepted = orders.len();
        let close = connection::Input::Close(Cause::Fault);
        effects.before(Step::Connection(id, &close));
        let handled = Some(connection.step(bounds, close, &mut orders));
        effects.after(Taken::Connection { handled, orders: &orders[accepted..], connection: &connection });
        for order in orders {
            if let Some(order) = of_connection(id, order) {
                effects.apply(order);
            }
        }
        self.release(Box::new(connection));
    }

    /// The node awaits this session no more. Who is inside a cell cannot tell the others what the node makes of that, so the
    /// driver steers it.
    fn quiet(&mut self) {
        if core::mem::replace(&mut self.holding, false) {
            self.world.effects.quiet();
        }
    }

    fn retire(&mut self, bounds: &Bounds) {
        if !core::mem::replace(&mut self.retired, true) {
            self.world.gate.session_ends(bounds, &self.world.effects);
        }
    }
}

impl<P: Piece, E: Effects<P>> Carry<Session<P>> for Seats<P, E> {
    fn carry(&mut self, bounds: &Bounds, order: Output<P>) {
        let Self { user, generation, .. } = *self;
        let place = |owner| match owner {
            Owner::Session => Place::Session(user, generation),
            Owner::Connection(connection) => Place::Connection(connection),
            Owner::Run(run) => Place::Run(user, generation, run),
        };
        let session = |order| gateway::Output::Session { user, generation, order };
        let output = match order {
            Output::Release { connection } => return self.release(connection),
            Output::Retire => return self.retire(bounds),
            Output::Busy => {
                self.holding = true;
                return self.world.gate.session_busy(bounds, &self.world.effects);
            }
            Output::Quiet => return self.quiet(),
            Output::Send { frame, .. } => return self.frames.push(frame),
            Output::Wake { connection } => {
                if let Some(inbox) = self.seats.get(&connection) {
                    inbox.signal();
                }
                return;
            }
            Output::Restore { attempt } => session(Order::Restore { attempt }),
            Output::Lookup { connection, attempt, lookup } => session(Order::Lookup { connection, attempt, lookup }),
            Output::Write { tenure, batch, after, event } => session(Order::Write { tenure, batch, after, event }),
            Output::Trim { tenure, through } => session(Order::Trim { tenure, through }),
            Output::Read { tenure, through } => session(Order::Read { tenure, through }),
            Output::Launch { run, payload, schedule } => session(Order::Launch { run, payload, schedule }),
            Output::Durable { run, offset, last } => session(Order::Durable { run, offset, last }),
            Output::Halt { run } => session(Order::Halt { run }),
            Output::Lose => session(Order::Lose),
            Output::Relinquish { tenure } => session(Order::Relinquish { tenure }),
            Output::Verify { connection, attempt, token } => return self.world.verify(connection, attempt, token),
            Output::Arm(owner, timer, after) => gateway::Output::Arm(place(owner), timer, after),
            Output::Disarm(owner, timer) => gateway::Output::Disarm(place(owner), timer),
        };
        self.world.effects.apply(output);
    }

    /// Each connection's task gets a machine that closes with 1011. The runs are ended by the next session, which finds
    /// them open in the log; what their agents still say carries this generation, and is refused.
    fn abandon(&mut self, bounds: &Bounds, fault: Fault) {
        while let Some(id) = self.seats.keys().next().copied() {
            self.replace(bounds, id);
        }
        self.retire(bounds);
        self.quiet();
        self.world.effects.fault(self.user, self.generation, fault);
    }

    fn before(&mut self, session: &Session<P>, input: &Input<P>) {
        let Self { user, generation, .. } = *self;
        self.world.effects.before(Step::Session { user, generation, input, session, mark: &mut self.mark });
    }

    fn after(&mut self, session: &Session<P>, answer: Option<&Result<Handled, Refusal>>, orders: &[Output<P>]) {
        if answer.is_none() {
            let Self { user, generation, .. } = *self;
            self.world.effects.before(Step::Open { user, generation, mode: session.mode() });
        }
        self.world.effects.after(Taken::Session { answer: answer.copied(), orders, session });
    }
}

/// What a connection orders, as the driver's order; `None` for what the shell acts on itself.
#[expect(clippy::needless_pass_by_value, reason = "an order is used up by who carries it out")]
pub(super) fn of_connection<P>(connection: ConnectionId, order: connection::Output<P>) -> Option<gateway::Output<P>> {
    let place = Place::Connection(connection);
    match order {
        connection::Output::Arm(timer, after) => Some(gateway::Output::Arm(place, timer, after)),
        connection::Output::Disarm(timer) => Some(gateway::Output::Disarm(place, timer)),
        connection::Output::Verify { .. }
        | connection::Output::Attach(_)
        | connection::Output::Handle(_)
        | connection::Output::Wake
        | connection::Output::Closing(_)
        | connection::Output::Closed(_) => None,
    }
}

impl<P, E> core::fmt::Debug for Seats<P, E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Seats")
            .field("user", &self.user)
            .field("generation", &self.generation)
            .field("connections", &self.seats.len())
            .finish_non_exhaustive()
    }
}
