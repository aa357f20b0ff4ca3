//! All machines of one process, composed: each output of one machine becomes an input of another, or goes to the
//! driver.
//!
//! A connection starts *unattached*: no session knows it. Its verified credential attaches it to its user's session,
//! which is opened if there is none. When it starts to close, it is unattached again until it ends. Answers from the
//! log and from agents carry the session's [`Generation`], so an answer for a session that has retired does not reach
//! its successor.
//!
//! The runtime shards this value: each session and the node has its own lock, and each unattached connection belongs to
//! one task. If a step here touches several locks, it is several steps there, and other users can observe nothing
//! between them.
//!
//! * **AUTH-3** A verdict has taken effect before the fences that waited for it fall: see [`Verifications`].
//! * **ISO-1** An input names one connection, or one user's session; its step reaches no other user's. The one
//!   exception is the end of the last run that a draining node awaits: the node then leaves, and every session is told.
//! * **NODE-2** Draining notifies every unattached connection and every session. The log is released when no session is
//!   left, and nothing is written after that.

use alloc::boxed::Box;
use alloc::vec::Vec;

use litemap::LiteMap;

use crate::bounds::Bounds;
use crate::connection::{self, Connection};
use crate::fence::{Scope, Verifications};
use crate::id::{ConnectionId, Generation, UserId, VerificationId};
use crate::node::{self, Node};
use crate::piece::Piece;
use crate::session::{self, Session};
use crate::{Grant, Handled, Refusal, Violation, ensure};

mod io;
pub mod routing;

pub use self::io::{Hosted, Input, Output, Outputs, Place, SessionOutput, Slot};
use self::routing::{FromConnection, FromNode, FromSession, ToConnections, ToSessions};

/// The composition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gateway<P, S = Session<P>> {
    node: Node,
    unattached: LiteMap<ConnectionId, Connection<P>>,
    slots: LiteMap<UserId, Slot<S>>,
    members: LiteMap<ConnectionId, UserId>,
    verifications: Verifications,
    newest: Generation,
}

impl<P: Piece> Gateway<P> {
    /// Creates a process that does not serve yet.
    #[must_use]
    pub const fn new() -> Self {
        Self::hosting()
    }
}

impl<P: Piece, S: Hosted<P>> Gateway<P, S> {
    /// Like [`Gateway::new`], but with another representation of sessions: see [`Hosted`].
    #[must_use]
    pub const fn hosting() -> Self {
        Self {
            node: Node::new(),
            unattached: LiteMap::new(),
            slots: LiteMap::new(),
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

    /// Connections that are in no session: before their verdict, and while they close.
    #[must_use]
    pub const fn unattached(&self) -> &LiteMap<ConnectionId, Connection<P>> {
        &self.unattached
    }

    /// The sessions.
    #[must_use]
    pub const fn slots(&self) -> &LiteMap<UserId, Slot<S>> {
        &self.slots
    }

    /// The verdicts that are awaited.
    #[must_use]
    pub const fn verifications(&self) -> &Verifications {
        &self.verifications
    }

    /// Returns the user whose session the connection is in.
    #[must_use]
    pub fn user_of(&self, connection: ConnectionId) -> Option<UserId> {
        self.members.get(&connection).copied()
    }

    /// Returns a connection, attached or not.
    #[must_use]
    pub fn connection(&self, id: ConnectionId) -> Option<&Connection<P>> {
        let member = || {
            let slot = self.slots.get(self.members.get(&id)?)?;
            slot.session.borrow().members().get(&id).map(|member| &member.connection)
        };
        self.unattached.get(&id).or_else(member)
    }

    /// Takes one input.
    ///
    /// # Errors
    ///
    /// As [`Session::step`] for [`Input::Session`], [`Input::Notice`] and [`Input::Delete`], and [`Refusal::Misuse`]
    /// for a connection id that is in use. A refused input changes nothing, except that a notice or a deletion opens
    /// its user's session.
    pub fn step(&mut self, bounds: &Bounds, input: Input<P>, out: &mut Outputs<P>) -> Result<Handled, Refusal> {
        let handled = self.take(bounds, input, out);
        self.lower_fences(bounds, out);
        handled
    }

    fn take(&mut self, bounds: &Bounds, input: Input<P>, out: &mut Outputs<P>) -> Result<Handled, Refusal> {
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
                    None => self.unattached_step(bounds, connection, input, out),
                });
            }
            Input::Pull { connection, budget } => {
                if let Some(user) = self.members.get(&connection).copied() {
                    return self.session(bounds, user, session::Input::Pull { connection, budget }, out);
                }
                let Some(unattached) = self.unattached.get_mut(&connection) else { return Ok(Handled::Ignored) };
                let frame = unattached.pull();
                out.list.extend(frame.map(|frame| Output::Send { connection, frame }));
            }
            Input::Session { user, generation, input } => {
                return match self.slots.get(&user) {
                    Some(slot) if slot.generation == generation => self.session(bounds, user, input, out),
                    Some(_) | None => input.without_session(),
                };
            }
            Input::Revoke { user, credential } => {
                let generation = self.verifications.revoke();
                let scope = credential.map_or(Scope::All(generation), |one| Scope::One(one, generation));
                if self.verifications.must_fence(generation) {
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
            Input::Node(input) if input.is_external() => return Ok(self.steer(bounds, input, out)),
            Input::Node(_) => return Err(Refusal::Misuse),
        }
        Ok(Handled::Done)
    }

    /// Checks the invariants of this value.
    ///
    /// # Errors
    ///
    /// The id of the property that the value violates.
    pub fn check(&self, bounds: &Bounds) -> Result<(), Violation> {
        self.node.check(bounds)?;
        for (id, connection) in &self.unattached {
            connection.check(bounds)?;
            ensure(connection.id() == *id, "CONN-1")?;
            ensure(!self.members.contains_key(id), "CONN-1")?;
            ensure(!connection.is_reading(), "AUTH-1")?;
        }
        let mut members = 0;
        for (user, slot) in &self.slots {
            slot.session.check(bounds)?;
            let session = slot.session.borrow();
            ensure(session.user() == *user, "ISO-1")?;
            ensure(session.state() != session::State::Retired, "SES-1")?;
            members += session.members().len();
            for id in session.members().keys() {
                ensure(self.members.get(id) == Some(user), "ISO-1")?;
            }
        }
        ensure(members == self.members.len(), "SES-1")?;
        ensure(self.node.sessions() as usize == self.slots.len(), "NODE-2")?;
        let holding = self.slots.values().filter(|slot| slot.session.borrow().holds()).count();
        ensure(self.node.busy() as usize == holding, "NODE-2")?;
        ensure(self.node.connections() as usize == self.unattached.len() + members, "NODE-2")
    }

    /// Lowers the fences that waited for connections that no longer await a verdict; their last verdicts have taken
    /// effect.
    fn lower_fences(&mut self, bounds: &Bounds, out: &mut Outputs<P>) {
        let waits = |id: &ConnectionId| self.connection(*id).is_some_and(|connection| connection.auth().is_verifying());
        let over: Vec<ConnectionId> = self.verifications.awaited().filter(|id| !waits(id)).collect();
        for id in over {
            for (user, oldest) in self.verifications.end(id) {
                let _ = self.session(bounds, user, session::Input::Verified(oldest), out);
            }
        }
    }

    fn accept(&mut self, bounds: &Bounds, id: ConnectionId, out: &mut Outputs<P>) {
        let mut outputs = core::mem::take(&mut out.node);
        let _ = self.node.step(bounds, node::Input::Accept, &mut outputs);
        let admitted = routing::admission(outputs.drain(..));
        out.node = outputs;
        if let Err(cause) = admitted {
            return out.list.push(Output::Refused { connection: id, cause });
        }
        let connection = Connection::accept(bounds, id, &mut out.connection);
        self.unattached.insert(id, connection);
        self.dispatch_connection(bounds, id, out);
    }

    /// Steps an unattached connection and dispatches its outputs.
    fn unattached_step(
        &mut self,
        bounds: &Bounds,
        id: ConnectionId,
        input: connection::Input<P>,
        out: &mut Outputs<P>,
    ) -> Handled {
        let Some(connection) = self.unattached.get_mut(&id) else { return Handled::Ignored };
        let handled = connection.step(bounds, input, &mut out.connection);
        self.dispatch_connection(bounds, id, out);
        self.leave(bounds, id, out);
        handled
    }

    fn dispatch_connection(&mut self, bounds: &Bounds, id: ConnectionId, out: &mut Outputs<P>) {
        let mut outputs = core::mem::take(&mut out.connection);
        let mut attached = None;
        for output in outputs.drain(..) {
            match routing::connection(id, output) {
                Some(FromConnection::Driver(output)) => out.list.push(output),
                Some(FromConnection::Wake) => out.list.push(Output::Wake { connection: id }),
                Some(FromConnection::Verify(attempt, token)) => out.list.push(self.verify(id, attempt, token)),
                Some(FromConnection::Attach(grant)) => attached = Some(grant),
                None => {}
            }
        }
        out.connection = outputs;
        if let Some(grant) = attached {
            self.attach(bounds, id, grant, out);
        }
    }

    fn verify(&mut self, connection: ConnectionId, attempt: VerificationId, token: P) -> Output<P> {
        let generation = self.verifications.begin(connection);
        Output::Verify { connection, attempt, token, generation }
    }

    /// Moves a verified connection into its user's session.
    fn attach(&mut self, bounds: &Bounds, id: ConnectionId, grant: Grant, out: &mut Outputs<P>) {
        let Some(connection) = self.unattached.remove(&id) else { return };
        self.open(bounds, grant.user, out);
        self.members.insert(id, grant.user);
        let join = session::Input::Join { connection: Box::new(connection), mode: self.node.mode() };
        let joined = self.session(bounds, grant.user, join, out);
        debug_assert!(joined.is_ok(), "an open session takes a connection in, or releases it with a cause");
    }

    /// Passes an input of the embedding service to a user's session, opening it if there is none.
    fn announce(
        &mut self,
        bounds: &Bounds,
        user: UserId,
        input: session::Input<P>,
        out: &mut Outputs<P>,
    ) -> Result<Handled, Refusal> {
        if !self.slots.contains_key(&user) {
            routing::announcement(self.node.mode())?;
        }
        self.open(bounds, user, out);
        self.session(bounds, user, input, out)
    }

    /// Opens the user's session if there is none.
    fn open(&mut self, bounds: &Bounds, user: UserId, out: &mut Outputs<P>) {
        if self.slots.contains_key(&user) {
            return;
        }
        self.newest = self.newest.next();
        let generation = self.newest;
        let session = Session::open(bounds, user, self.node.mode(), &mut out.session);
        self.slots.insert(user, Slot { generation, session: session.into() });
        let _ = self.steer(bounds, node::Input::SessionOpened, out);
        self.dispatch_session(bounds, user, generation, out);
    }

    /// Steps a session and dispatches its outputs.
    fn session(
        &mut self,
        bounds: &Bounds,
        user: UserId,
        input: session::Input<P>,
        out: &mut Outputs<P>,
    ) -> Result<Handled, Refusal> {
        let Some(slot) = self.slots.get_mut(&user) else { return Ok(Handled::Ignored) };
        let generation = slot.generation;
        let handled = slot.session.step(bounds, input, &mut out.session)?;
        self.dispatch_session(bounds, user, generation, out);
        Ok(handled)
    }

    fn dispatch_session(&mut self, bounds: &Bounds, user: UserId, generation: Generation, out: &mut Outputs<P>) {
        let mut outputs = core::mem::take(&mut out.session.list);
        for output in outputs.drain(..) {
            match routing::session(user, generation, output) {
                FromSession::Driver(output) => out.list.push(output),
                FromSession::Frame(connection, frame) => out.list.push(Output::Send { connection, frame }),
                FromSession::Wake(connection) => out.list.push(Output::Wake { connection }),
                FromSession::Verify(connection, attempt, token) => {
                    let output = self.verify(connection, attempt, token);
                    out.list.push(output);
                }
                FromSession::Release(connection) => {
                    let id = connection.id();
                    self.members.remove(&id);
                    self.unattached.insert(id, *connection);
                    out.list.push(Output::Wake { connection: id });
                    self.leave(bounds, id, out);
                }
                FromSession::Node(input) => {
                    if input == node::Input::SessionRetired {
                        self.slots.remove(&user);
                    }
                    let _ = self.steer(bounds, input, out);
                }
            }
        }
        out.session.list = outputs;
    }

    /// Drops a closed connection and removes it from the node's count.
    fn leave(&mut self, bounds: &Bounds, id: ConnectionId, out: &mut Outputs<P>) {
        if let Some(connection::State::Closed { cause }) = self.unattached.get(&id).map(Connection::state) {
            out.list.push(Output::Closed { connection: id, cause: *cause });
            self.unattached.remove(&id);
            let _ = self.steer(bounds, node::Input::Closed, out);
        }
    }

    /// Steps the node and dispatches its outputs.
    fn steer(&mut self, bounds: &Bounds, input: node::Input, out: &mut Outputs<P>) -> Handled {
        let mut outputs = core::mem::take(&mut out.node);
        let handled = self.node.step(bounds, input, &mut outputs);
        let mut answer = None;
        for output in outputs.drain(..) {
            let FromNode { driver, connections, sessions } = routing::node(output);
            out.list.extend(driver);
            if let Some(told) = connections {
                self.tell_unattached(bounds, told, out);
            }
            if let Some(told) = sessions {
                self.tell_sessions(bounds, told, out);
                answer = told.answer().or(answer);
            }
        }
        out.node = outputs;
        if let Some(answer) = answer {
            let _ = self.steer(bounds, answer, out);
        }
        handled
    }

    fn tell_unattached(&mut self, bounds: &Bounds, told: ToConnections, out: &mut Outputs<P>) {
        let connections: Vec<ConnectionId> = self.unattached.keys().copied().collect();
        for connection in connections {
            let _ = self.unattached_step(bounds, connection, told.input(), out);
        }
    }

    fn tell_sessions(&mut self, bounds: &Bounds, told: ToSessions, out: &mut Outputs<P>) {
        let users: Vec<UserId> = self.slots.keys().copied().collect();
        for user in users {
            let _ = self.session(bounds, user, told.input(), out);
        }
    }
}

impl<P: Piece, S: Hosted<P>> Default for Gateway<P, S> {
    fn default() -> Self {
        Self::hosting()
    }
}
