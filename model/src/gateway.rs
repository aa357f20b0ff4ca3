//! All machines of one process, composed: whose output is whose input.
//!
//! A connection begins *unattached*: no session knows it. Its verified credential takes it to the session of
//! its user, which is opened if there is none; when it begins to close, it is unattached again and ends so. A
//! session's answers from the log and its agents carry the session's [`Generation`], so that an answer to one that has
//! retired does not reach its successor.
//!
//! The runtime shards this value: each session is behind a lock of its own, each unattached connection belongs to one task,
//! the node has its own lock. The parts of one step here that touch different locks are separate steps there, and
//! nothing another user can see lies between them.
//!
//! * **AUTH-3** What came of a verdict has taken effect before the fences fall that waited for it: see [`Verifications`].
//! * **ISO-1** An input names one connection, or one user's session; its step reaches no other user's. With the end of the
//!   last run that a node awaits the node leaves, which every session is told.
//! * **NODE-2** Draining tells every unattached connection and every session. The log is released when no session is left, and nothing is
//!   written after that.

use alloc::boxed::Box;
use alloc::vec::Vec;

use litemap::LiteMap;

use crate::bounds::Bounds;
use crate::close::Cause;
use crate::connection::{self, Connection};
use crate::fence::{Scope, Verifications};
use crate::id::{ConnectionId, Generation, UserId};
use crate::node::{self, Node};
use crate::piece::Piece;
use crate::session::{self, Session};
use crate::timer::Owner;
use crate::{Grant, Handled, Refusal, Violation, ensure};

mod io;

pub use self::io::{Cell, Held, Hosted, Input, Order, Orders, Output, Place};

/// The composition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gateway<P, S = Session<P>> {
    node: Node,
    unattached: LiteMap<ConnectionId, Connection<P>>,
    cells: LiteMap<UserId, Held<S>>,
    members: LiteMap<ConnectionId, UserId>,
    verifications: Verifications,
    newest: Generation,
}

impl<P: Piece> Gateway<P> {
    /// A process that does not serve yet.
    #[must_use]
    pub const fn new() -> Self {
        Self::hosting()
    }
}

impl<P: Piece, S: Hosted<P>> Gateway<P, S> {
    /// [`Gateway::new`], with sessions held in another way.
    #[must_use]
    pub const fn hosting() -> Self {
        Self {
            node: Node::new(),
            unattached: LiteMap::new(),
            cells: LiteMap::new(),
            members: LiteMap::new(),
            verifications: Verifications::new(),
            newest: Generation(0),
        }
    }

    /// The node.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Connections that are in no session: before their verdict, and while closing.
    #[must_use]
    pub const fn unattached(&self) -> &LiteMap<ConnectionId, Connection<P>> {
        &self.unattached
    }

    /// The sessions.
    #[must_use]
    pub const fn cells(&self) -> &LiteMap<UserId, Held<S>> {
        &self.cells
    }

    /// The verdicts that are awaited.
    #[must_use]
    pub const fn verifications(&self) -> &Verifications {
        &self.verifications
    }

    /// Whose session a connection is in.
    #[must_use]
    pub fn user_of(&self, connection: ConnectionId) -> Option<UserId> {
        self.members.get(&connection).copied()
    }

    /// A connection, wherever it is.
    #[must_use]
    pub fn connection(&self, id: ConnectionId) -> Option<&Connection<P>> {
        let member = || {
            let cell = self.cells.get(self.members.get(&id)?)?;
            cell.session.borrow().members().get(&id).map(|member| &member.connection)
        };
        self.unattached.get(&id).or_else(member)
    }

    /// Takes one input.
    ///
    /// # Errors
    ///
    /// As [`Session::step`] for [`Input::Session`], [`Input::Notice`] and [`Input::Delete`], and [`Refusal::Misuse`] for a
    /// connection id that is in use. Nothing changes then, but that a notice or a deletion opens its user's session.
    pub fn step(&mut self, bounds: &Bounds, input: Input<P>, out: &mut Orders<P>) -> Result<Handled, Refusal> {
        let handled = self.take(bounds, input, out);
        self.lower_fences(bounds, out);
        handled
    }

    fn take(&mut self, bounds: &Bounds, input: Input<P>, out: &mut Orders<P>) -> Result<Handled, Refusal> {
        match input {
            Input::Accept { connection } => {
                if self.unattached.contains_key(&connection) || self.members.contains_key(&connection) {
                    return Err(Refusal::Misuse);
                }
                self.accept(bounds, connection, out);
            }
            Input::Connection { connection, input } => {
                return Ok(match self.members.get(&connection) {
                    Some(user) => {
                        let user = *user;
                        let input = session::Input::Connection { connection, input };
                        self.session(bounds, user, input, out).unwrap_or(Handled::Ignored)
                    }
                    None => self.visitor(bounds, connection, input, out),
                });
            }
            Input::Pull { connection, budget } => {
                if let Some(user) = self.members.get(&connection).copied() {
                    return self.session(bounds, user, session::Input::Pull { connection, budget }, out);
                }
                let Some(visitor) = self.unattached.get_mut(&connection) else { return Ok(Handled::Ignored) };
                let frame = visitor.pull();
                out.list.extend(frame.map(|frame| Output::Send { connection, frame }));
            }
            Input::Session { user, generation, input } => {
                return match self.cells.get(&user) {
                    Some(cell) if cell.generation == generation => self.session(bounds, user, input, out),
                    Some(_) | None if input.is_command() => Err(Refusal::Retired),
                    Some(_) | None => Ok(Handled::Ignored),
                };
            }
            Input::Revoke { user, credential } => {
                let generation = self.verifications.revoke();
                let scope = credential.map_or(Scope::All(generation), |one| Scope::One(one, generation));
                // With no session, and no verdict on the way that began before, there is nothing that could become live.
                if self.verifications.oldest() < generation {
                    self.open(bounds, user, out);
                }
                let _ = self.session(bounds, user, session::Input::Revoke(scope), out);
                if let Some(oldest) = self.verifications.fence(user, generation) {
                    let _ = self.session(bounds, user, session::Input::Verified(oldest), out);
                }
            }
            Input::Notice { user, notice, thread, payload } => {
                return self.announce(bounds, user, session::Input::Notice { notice, thread, payload }, out);
            }
            Input::Delete { user, thread, deletion, payload, as_of } => {
                return self.announce(bounds, user, session::Input::Delete { thread, deletion, payload, as_of }, out);
            }
            Input::Node(node::Input::Accept | node::Input::Closed) => return Err(Refusal::Misuse),
            Input::Node(node::Input::SessionOpened | node::Input::SessionRetired) => return Err(Refusal::Misuse),
            Input::Node(node::Input::SessionBusy | node::Input::SessionQuiet | node::Input::Announced) => {
                return Err(Refusal::Misuse);
            }
            Input::Node(input) => return Ok(self.steer(bounds, input, out)),
        }
        Ok(Handled::Done)
    }

    /// Which property this value breaks, if any.
    ///
    /// # Errors
    ///
    /// The id of the property.
    pub fn check(&self, bounds: &Bounds) -> Result<(), Violation> {
        self.node.check(bounds)?;
        for (id, visitor) in &self.unattached {
            visitor.check(bounds)?;
            ensure(visitor.id() == *id, "CONN-1")?;
            ensure(!self.members.contains_key(id), "CONN-1")?;
            ensure(!visitor.is_reading(), "AUTH-1")?;
        }
        let mut members = 0;
        for (user, cell) in &self.cells {
            cell.session.check(bounds)?;
            let session = cell.session.borrow();
            ensure(session.user() == *user, "ISO-1")?;
            ensure(session.state() != session::State::Retired, "SES-1")?;
            members += session.members().len();
            for id in session.members().keys() {
                ensure(self.members.get(id) == Some(user), "ISO-1")?;
            }
        }
        ensure(members == self.members.len(), "SES-1")?;
        ensure(self.node.sessions() as usize == self.cells.len(), "NODE-2")?;
        let holding = self.cells.values().filter(|cell| cell.session.borrow().holds()).count();
        ensure(self.node.busy() as usize == holding, "NODE-2")?;
        ensure(self.node.connections() as usize == self.unattached.len() + members, "NODE-2")
    }

    /// A connection that awaits no verdict any more holds up no fence: what came of its last one has taken effect.
    fn lower_fences(&mut self, bounds: &Bounds, out: &mut Orders<P>) {
        let waits = |id: &ConnectionId| self.connection(*id).is_some_and(|connection| connection.auth().is_verifying());
        let over: Vec<ConnectionId> = self.verifications.awaited().filter(|id| !waits(id)).collect();
        for id in over {
            for (user, oldest) in self.verifications.end(id) {
                let _ = self.session(bounds, user, session::Input::Verified(oldest), out);
            }
        }
    }

    fn accept(&mut self, bounds: &Bounds, id: ConnectionId, out: &mut Orders<P>) {
        let mut answers = core::mem::take(&mut out.node);
        let _ = self.node.step(bounds, node::Input::Accept, &mut answers);
        for answer in answers.drain(..) {
            match answer {
                node::Output::Refuse(cause) => out.list.push(Output::Refused { connection: id, cause }),
                node::Output::Admit => {
                    let mut orders = core::mem::take(&mut out.connection);
                    self.unattached.insert(id, Connection::accept(bounds, id, &mut orders));
                    for order in orders.drain(..) {
                        out.list.extend(unattached_order(id, order));
                    }
                    out.connection = orders;
                }
                node::Output::Probe
                | node::Output::Announce(_)
                | node::Output::Leave(_)
                | node::Output::Stop
                | node::Output::Released
                | node::Output::Stopped
                | node::Output::Arm(..)
                | node::Output::Disarm(_) => debug_assert!(false, "not an answer to an admission"),
            }
        }
        out.node = answers;
    }

    /// Feeds an unattached connection.
    fn visitor(
        &mut self,
        bounds: &Bounds,
        id: ConnectionId,
        input: connection::Input<P>,
        out: &mut Orders<P>,
    ) -> Handled {
        let Some(visitor) = self.unattached.get_mut(&id) else { return Handled::Ignored };
        let mut orders = core::mem::take(&mut out.connection);
        let handled = visitor.step(bounds, input, &mut orders);
        let mut attached = None;
        for order in orders.drain(..) {
            if let connection::Output::Attach(grant) = order {
                attached = Some(grant);
            } else if let connection::Output::Verify { attempt, token } = order {
                let generation = self.verifications.begin(id);
                out.list.push(Output::Verify { connection: id, attempt, token, generation });
            } else {
                out.list.extend(unattached_order(id, order));
            }
        }
        out.connection = orders;
        if let Some(grant) = attached {
            self.attach(bounds, id, grant, out);
        }
        self.leave(bounds, id, out);
        handled
    }

    /// Takes a verified connection to its user's session.
    fn attach(&mut self, bounds: &Bounds, id: ConnectionId, grant: Grant, out: &mut Orders<P>) {
        let Some(connection) = self.unattached.remove(&id) else { return };
        self.open(bounds, grant.user, out);
        self.members.insert(id, grant.user);
        let join = session::Input::Join { connection: Box::new(connection), mode: self.node.mode() };
        let joined = self.session(bounds, grant.user, join, out);
        debug_assert!(joined.is_ok(), "an open session takes a connection in, or releases it with a cause");
    }

    /// What the embedding service has for a user, whose session is opened if there is none.
    fn announce(
        &mut self,
        bounds: &Bounds,
        user: UserId,
        input: session::Input<P>,
        out: &mut Orders<P>,
    ) -> Result<Handled, Refusal> {
        if self.node.mode() == node::Mode::Draining && !self.cells.contains_key(&user) {
            return Err(Refusal::Retired);
        }
        self.open(bounds, user, out);
        self.session(bounds, user, input, out)
    }

    /// Makes sure that the user has a session.
    fn open(&mut self, bounds: &Bounds, user: UserId, out: &mut Orders<P>) {
        if self.cells.contains_key(&user) {
            return;
        }
        self.newest = self.newest.next();
        let generation = self.newest;
        let session = Session::open(bounds, user, self.node.mode(), &mut out.session);
        self.cells.insert(user, Held { generation, session: session.into() });
        let _ = self.steer(bounds, node::Input::SessionOpened, out);
        self.carry_out(bounds, user, generation, out);
    }

    /// Feeds a session and acts on what it orders.
    fn session(
        &mut self,
        bounds: &Bounds,
        user: UserId,
        input: session::Input<P>,
        out: &mut Orders<P>,
    ) -> Result<Handled, Refusal> {
        let Some(cell) = self.cells.get_mut(&user) else { return Ok(Handled::Ignored) };
        let generation = cell.generation;
        let handled = cell.session.step(bounds, input, &mut out.session)?;
        self.carry_out(bounds, user, generation, out);
        Ok(handled)
    }

    fn carry_out(&mut self, bounds: &Bounds, user: UserId, generation: Generation, out: &mut Orders<P>) {
        let mut orders = core::mem::take(&mut out.session.list);
        for order in orders.drain(..) {
            let place = |owner| match owner {
                Owner::Session => Place::Session(user, generation),
                Owner::Connection(connection) => Place::Connection(connection),
                Owner::Run(run) => Place::Run(user, generation, run),
            };
            let session = |order| Output::Session { user, generation, order };
            let output = match order {
                session::Output::Release { connection } => {
                    let id = connection.id();
                    self.members.remove(&id);
                    self.unattached.insert(id, *connection);
                    out.list.push(Output::Wake { connection: id });
                    self.leave(bounds, id, out);
                    continue;
                }
                session::Output::Retire => {
                    self.cells.remove(&user);
                    let _ = self.steer(bounds, node::Input::SessionRetired, out);
                    continue;
                }
                session::Output::Busy => {
                    let _ = self.steer(bounds, node::Input::SessionBusy, out);
                    continue;
                }
                session::Output::Quiet => {
                    let _ = self.steer(bounds, node::Input::SessionQuiet, out);
                    continue;
                }
                session::Output::Restore { attempt } => session(Order::Restore { attempt }),
                session::Output::Lookup { connection, attempt, lookup } => {
                    session(Order::Lookup { connection, attempt, lookup })
                }
                session::Output::Write { tenure, batch, after, event } => {
                    session(Order::Write { tenure, batch, after, event })
                }
                session::Output::Trim { tenure, through } => session(Order::Trim { tenure, through }),
                session::Output::Read { tenure, through } => session(Order::Read { tenure, through }),
                session::Output::Launch { run, payload, schedule } => session(Order::Launch { run, payload, schedule }),
                session::Output::Durable { run, offset, last } => session(Order::Durable { run, offset, last }),
                session::Output::Halt { run } => session(Order::Halt { run }),
                session::Output::Lose => session(Order::Lose),
                session::Output::Relinquish { tenure } => session(Order::Relinquish { tenure }),
                session::Output::Verify { connection, attempt, token } => {
                    let generation = self.verifications.begin(connection);
                    Output::Verify { connection, attempt, token, generation }
                }
                session::Output::Send { connection, frame } => Output::Send { connection, frame },
                session::Output::Wake { connection } => Output::Wake { connection },
                session::Output::Arm(owner, timer, after) => Output::Arm(place(owner), timer, after),
                session::Output::Disarm(owner, timer) => Output::Disarm(place(owner), timer),
            };
            out.list.push(output);
        }
        out.session.list = orders;
    }

    /// A closed connection is held no longer, and leaves the node's count.
    fn leave(&mut self, bounds: &Bounds, id: ConnectionId, out: &mut Orders<P>) {
        if let Some(connection::State::Closed { cause }) = self.unattached.get(&id).map(Connection::state) {
            out.list.push(Output::Closed { connection: id, cause: *cause });
            self.unattached.remove(&id);
            let _ = self.steer(bounds, node::Input::Closed, out);
        }
    }

    /// Feeds the node and acts on what it orders.
    fn steer(&mut self, bounds: &Bounds, input: node::Input, out: &mut Orders<P>) -> Handled {
        let mut orders = core::mem::take(&mut out.node);
        let handled = self.node.step(bounds, input, &mut orders);
        let mut announced = false;
        for order in orders.drain(..) {
            match order {
                node::Output::Announce(mode) => {
                    if mode == node::Mode::Draining {
                        let successor = node::Successor::Absent;
                        self.tell_unattached(bounds, &connection::Input::Drain { successor }, out);
                    }
                    self.tell_sessions(bounds, &session::Input::Mode(mode), out);
                    announced = true;
                }
                node::Output::Leave(successor) => {
                    out.list.push(Output::Leaving);
                    self.tell_sessions(bounds, &session::Input::Leave(successor), out);
                }
                node::Output::Released => out.list.push(Output::Released),
                node::Output::Stop => {
                    self.tell_unattached(bounds, &connection::Input::Close(Cause::GoingAway), out);
                    self.tell_sessions(bounds, &session::Input::Stop, out);
                }
                node::Output::Probe => out.list.push(Output::Probe),
                node::Output::Stopped => out.list.push(Output::Stopped),
                node::Output::Arm(timer, after) => out.list.push(Output::Arm(Place::Node, timer, after)),
                node::Output::Disarm(timer) => out.list.push(Output::Disarm(Place::Node, timer)),
                node::Output::Admit | node::Output::Refuse(_) => debug_assert!(false, "answers to an admission"),
            }
        }
        out.node = orders;
        if announced {
            let _ = self.steer(bounds, node::Input::Announced, out);
        }
        handled
    }

    fn tell_unattached(&mut self, bounds: &Bounds, input: &connection::Input<P>, out: &mut Orders<P>) {
        let visitors: Vec<ConnectionId> = self.unattached.keys().copied().collect();
        for visitor in visitors {
            let _ = self.visitor(bounds, visitor, input.clone(), out);
        }
    }

    fn tell_sessions(&mut self, bounds: &Bounds, input: &session::Input<P>, out: &mut Orders<P>) {
        let users: Vec<UserId> = self.cells.keys().copied().collect();
        for user in users {
            let _ = self.session(bounds, user, input.clone(), out);
        }
    }
}

impl<P: Piece, S: Hosted<P>> Default for Gateway<P, S> {
    fn default() -> Self {
        Self::hosting()
    }
}

/// What an unattached connection orders, as the gateway's order; `None` for what the gateway acts on itself.
#[expect(clippy::needless_pass_by_value, reason = "an order is used up by who carries it out")]
fn unattached_order<P>(connection: ConnectionId, order: connection::Output<P>) -> Option<Output<P>> {
    let place = Place::Connection(connection);
    match order {
        connection::Output::Arm(timer, after) => Some(Output::Arm(place, timer, after)),
        connection::Output::Disarm(timer) => Some(Output::Disarm(place, timer)),
        connection::Output::Wake => Some(Output::Wake { connection }),
        connection::Output::Verify { .. }
        | connection::Output::Attach(_)
        | connection::Output::Handle(_)
        | connection::Output::Closing(_)
        | connection::Output::Closed(_) => None,
    }
}
