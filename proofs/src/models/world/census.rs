//! The part of the oracle that counts. It compares each socket with its connection, its timers and its client, and each
//! end with the gateway's knowledge of the peer. See [`oracle`](super::oracle).

use lockstep_model::connection::State;
use lockstep_model::gateway::Place;
use lockstep_model::{Cause, ConnectionId, Mode, Successor, Timer, UserId};

use super::setup::Setup;
use super::state::{Payload, World};

impl World {
    /// ISO-1: a connection is verified with the credential that its own client presented.
    pub fn check_asked(&mut self, setup: &Setup, id: ConnectionId, token: Payload) {
        let own = self.sockets.get(&id).is_some_and(|socket| {
            let peer = &self.peers[usize::from(socket.peer)];
            self.user_of_token(peer.token) == self.user_of_token(token)
        });
        self.expect(own || setup.strangers, "ISO-1");
    }

    /// SES-1: a connection that is known to be gone occupies no place.
    pub fn check_gone(&mut self, id: ConnectionId) {
        let there = self.gateway.connection(id).is_some();
        self.expect(!there, "SES-1");
    }

    /// SES-1: a connection that is known to be gone does not join.
    pub fn check_join(&mut self, id: ConnectionId) {
        let gone = self.sockets.get(&id).is_some_and(super::state::Socket::is_known_dead);
        let joined = self.gateway.user_of(id).is_some();
        self.expect(!gone || !joined, "SES-1");
    }

    /// SES-1: no connection is refused for want of a place that is held by a connection which is known to be gone, or
    /// by the one that it replaces. Whether there was a place is checked when the decision is made, because one may be
    /// free again by the time the close frame leaves.
    pub fn check_room(&mut self, setup: &Setup, id: ConnectionId, older: Option<ConnectionId>) {
        let visitor = self.gateway.unattached().get(&id).map(lockstep_model::Connection::state);
        if !matches!(visitor, Some(State::Closing { cause: Cause::TooManyConnections, .. })) {
            return;
        }
        let user = UserId(u64::from(setup.clients[usize::from(self.socket_at(id).peer)].user));
        let alive = |id: &&ConnectionId| {
            older != Some(**id) && self.sockets.get(*id).is_some_and(|socket| !socket.is_known_dead())
        };
        let members = || self.gateway.slots().get(&user).into_iter().flat_map(|slot| slot.session.members().keys());
        let (taken, held) = (members().count(), members().filter(alive).count());
        if let Some(socket) = self.socket(id) {
            socket.observed.full = taken >= setup.bounds.connections;
        }
        self.expect(held >= setup.bounds.connections, "SES-1");
    }

    /// LIM-1: a node that accepts connections is full exactly when their number reaches the bound.
    pub fn check_refused(&mut self, setup: &Setup, id: ConnectionId, cause: Cause) {
        let others = self.sockets.iter().filter(|(other, _)| **other != id);
        let there = others.filter(|(_, socket)| !socket.server_gone && !socket.is_known_dead()).count();
        let takes = self.gateway.node().mode().refuses_connections().is_none();
        let full = there >= usize::try_from(setup.bounds.node_connections).unwrap_or(usize::MAX);
        self.expect(!takes || cause != Cause::Overloaded || full, "LIM-1");
    }

    /// CONN-1: a connection ends once, is reported lost only if it was, and is told the cause if it can still receive
    /// it. SES-1: it occupies no place once it has ended.
    pub fn check_closed(&mut self, setup: &Setup, id: ConnectionId, cause: Cause) {
        let breached = setup.breaches > self.left.breaches;
        let right = self.sockets.get(&id).is_some_and(|socket| {
            let deaf = socket.cut || socket.client_gone;
            let known = (cause != Cause::Lost || socket.cut) && (cause != Cause::PeerClosed || socket.client_gone);
            known && (socket.observed.closing || deaf) && (breached || cause != Cause::Fault) && !socket.server_gone
        });
        self.expect(right, "CONN-1");
        self.check_gone(id);
    }

    /// The process is told to end.
    pub fn check_drain(&mut self, successor: Successor) {
        if self.oracle.successor != Some(Successor::Absent) {
            (self.oracle.drained, self.oracle.successor) = (true, Some(successor));
        }
    }

    /// NODE-2: after a failed hand-over the node serves as before.
    pub fn check_abort(&mut self) {
        self.expect(self.gateway.node().mode() == Mode::Ready, "NODE-2");
    }

    /// NODE-2: a client is told the truth about the successor, and only when no run of any user is open or the time is
    /// over.
    pub fn check_going(&mut self, id: ConnectionId, successor: Successor) {
        let ready = self.socket_at(id).observed.reader.at().is_some();
        self.expect(ready, "CONN-2");
        self.expect(self.oracle.successor == Some(successor), "NODE-2");
        self.check_away(id, Cause::GoingAway);
    }

    /// NODE-2: no client that was ready is sent away while a run is open, unless its time is over.
    pub fn check_away(&mut self, id: ConnectionId, cause: Cause) {
        let under_way = |log: &super::state::Log| log.under_way().any(|run| self.agents.contains_key(&run));
        let open = self.logs.iter().any(|log| under_way(log));
        let ready = self.socket_at(id).observed.reader.at().is_some();
        self.expect(cause != Cause::GoingAway || !ready || !open || self.oracle.overdue, "NODE-2");
    }

    /// NODE-2: when the node begins to leave, it closes no client that was ready: the client was told to go, and has
    /// time.
    pub fn check_leaving(&mut self) {
        let closed = |id| {
            let state = self.gateway.connection(id).map(lockstep_model::Connection::state);
            matches!(state, Some(State::Closing { cause: Cause::GoingAway, .. }))
        };
        let left = self.sockets.iter().any(|(id, socket)| socket.observed.reader.at().is_some() && closed(*id));
        self.expect(!left, "NODE-2");
    }

    /// NODE-2: the log is released once, when no session is left that could write.
    pub fn check_released(&mut self) {
        let empty = self.gateway.slots().is_empty() && self.logs.iter().all(|log| log.writes.is_empty());
        self.expect(empty && !self.oracle.released, "NODE-2");
        self.oracle.released = true;
    }

    /// NODE-2: the process ends when no session is left, and no connection except closing ones.
    pub fn check_stopped(&mut self) {
        let closing = self.gateway.unattached().values().all(lockstep_model::Connection::is_closing);
        self.expect(self.oracle.released && self.gateway.slots().is_empty() && closing, "NODE-2");
    }

    /// AUTH-2: a connection is in the session of the user whose token its client holds or, if the client presents a
    /// foreign token, of the user that was verified. CONN-3: a timer of its own runs while it is not closed. LIM-1: a
    /// client has one socket.
    pub fn check_places(&mut self, setup: &Setup) {
        let own = |timer: &Timer| matches!(timer, Timer::Handshake | Timer::Idle | Timer::Grace | Timer::Close);
        let (mut owned, mut timed, mut single) = (true, true, true);
        for (id, socket) in &self.sockets {
            let verified = socket.observed.valid.filter(|_| setup.strangers).map(|grant| grant.user);
            let owner = verified.unwrap_or_else(|| self.user_of_token(self.peers[usize::from(socket.peer)].token));
            owned &= self.gateway.user_of(*id).is_none_or(|user| user == owner);
            timed &= self.gateway.connection(*id).is_none()
                || self.timers.iter().any(|(place, timer)| *place == Place::Connection(*id) && own(timer));
            let older = |(other, earlier): (&ConnectionId, &super::state::Socket)| {
                other < id && earlier.peer == socket.peer && !earlier.client_gone
            };
            single &= socket.client_gone || !self.sockets.iter().any(older);
        }
        self.expect(owned, "AUTH-2");
        self.expect(timed, "CONN-3");
        self.expect(single, "LIM-1");
    }
}
