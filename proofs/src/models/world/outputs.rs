//! Dispatches the outputs of the gateway and of the clients.

use lockstep_model::gateway::{self, Place, SessionOutput};
use lockstep_model::{
    Cause, ConnectionId, Frame, Generation, Request, RevocationGeneration, SocketId, Timer, UserId, client, connection,
};

use super::action::{connection_id, run_id};
use super::setup::{Setup, Wire};
use super::state::{Payload, Scratch, Socket, Verification, World, Write};

impl World {
    /// Delivers a frame to the client.
    pub(super) fn deliver(&mut self, setup: &Setup, id: ConnectionId, frame: Frame<Payload>, scratch: &mut Scratch) {
        let Some(socket) = self.sockets.get(&id).filter(|socket| !socket.client_gone && !socket.cut) else { return };
        let (peer, generation) = (usize::from(socket.peer), socket.generation);
        if matches!(frame, Frame::Close(_)) {
            self.let_go(id);
        }
        let input = client::Input::Frame { socket: generation, connection: id, frame };
        self.client(setup, peer, input, scratch);
    }

    /// Feeds a client and dispatches its outputs.
    pub fn client(&mut self, setup: &Setup, peer: usize, input: client::Input<Payload>, scratch: &mut Scratch) {
        let mut outputs = std::mem::take(&mut scratch.client);
        let _ = self.peers[peer].client.step(&setup.bounds, input, &mut outputs);
        for output in outputs.drain(..) {
            self.client_output(peer, output);
        }
        scratch.client = outputs;
    }

    pub(super) fn client_output(&mut self, peer: usize, output: client::Output<Payload>) {
        let id = |socket: SocketId| connection_id(u8::try_from(peer).unwrap_or(u8::MAX), socket.0);
        match output {
            client::Output::Open { .. } => self.peers[peer].opening = true,
            client::Output::Close { socket } => {
                self.peers[peer].opening = false;
                self.let_go(id(socket));
            }
            client::Output::Write(request) => {
                let socket = self.peers[peer].client.socket();
                self.push_up(id(socket), request);
            }
            client::Output::NeedToken { .. } => self.peers[peer].wants_token = true,
            client::Output::Pause(_) | client::Output::Arm(Timer::Leave, _) => self.peers[peer].backoff = true,
            client::Output::Disarm(Timer::Backoff | Timer::Leave) => self.peers[peer].backoff = false,
            client::Output::Accepted { message, .. } => self.check_accepted(message),
            client::Output::Unknown { .. }
            | client::Output::TooLong { .. }
            | client::Output::Deliver(_)
            | client::Output::Notice(_)
            | client::Output::Reset { .. }
            | client::Output::Refused { .. }
            | client::Output::Error(_)
            | client::Output::Arm(..)
            | client::Output::Disarm(_) => {}
        }
    }

    /// Prepares a message as the gateway's edge does: assigns its run id, its thread, and what it replaces there.
    pub(super) fn edge(&mut self, setup: &Setup, id: ConnectionId, request: &mut Request<Payload>) {
        let user = usize::from(setup.clients[usize::from(self.socket_at(id).peer)].user);
        let first = self.logs[user].first_turn().filter(|_| setup.replacing);
        if let Request::Message { message, thread, run, replaces, .. } = request {
            *thread = setup.threads.of(message.0);
            *replaces = first;
            let message = u8::try_from(message.0).unwrap_or(0);
            let arrival = &mut self.oracle.arrivals[usize::from(message)];
            *run = run_id(message, *arrival);
            *arrival += 1;
        }
    }

    pub(super) fn push_up(&mut self, id: ConnectionId, request: Request<Payload>) {
        if let Some(socket) = self.socket(id).filter(|socket| !socket.cut && !socket.server_gone) {
            socket.up.push_back(request);
        }
    }

    /// Returns a closing connection whose peer is gone.
    pub(super) fn leftover(&self) -> Option<ConnectionId> {
        let closing =
            |id: ConnectionId| self.gateway.unattached().get(&id).is_some_and(lockstep_model::Connection::is_closing);
        let mut sockets = self.sockets.iter();
        let over = |(id, socket): &(&ConnectionId, &Socket)| {
            !socket.server_gone && !socket.told && (socket.cut || socket.client_gone) && closing(**id)
        };
        sockets.find(over).map(|(id, _)| *id)
    }

    pub(super) fn server_notices(&mut self, setup: &Setup, id: ConnectionId, scratch: &mut Scratch) {
        let cause = if self.socket_at(id).cut { Cause::Lost } else { Cause::PeerClosed };
        if let Some(socket) = self.socket(id) {
            socket.told = true;
        }
        self.connection(setup, id, connection::Input::Gone(cause), scratch);
        if !setup.lenient {
            self.check_gone(id);
        }
        self.drop_socket(id);
    }

    pub(super) fn client_notices(&mut self, setup: &Setup, id: ConnectionId, scratch: &mut Scratch) {
        let socket = self.socket_at(id);
        let (peer, generation) = (usize::from(socket.peer), socket.generation);
        self.let_go(id);
        let input = client::Input::Closed { socket: generation, code: Cause::Lost.code() };
        self.client(setup, peer, input, scratch);
    }

    /// The client lets go of a socket: frames on their way to it are lost, requests that it has written still arrive.
    pub(super) fn let_go(&mut self, id: ConnectionId) {
        if let Some(socket) = self.socket(id) {
            socket.client_gone = true;
            socket.down.clear();
        }
        self.drop_socket(id);
    }

    pub(super) fn drop_socket(&mut self, id: ConnectionId) {
        if self.sockets.get(&id).is_some_and(|socket| socket.client_gone && socket.server_gone) {
            self.sockets.remove(&id);
        }
    }

    /// Dispatches an output of the gateway.
    pub(super) fn dispatch(&mut self, setup: &Setup, output: gateway::Output<Payload>, scratch: &mut Scratch) {
        match output {
            gateway::Output::Refused { connection, cause } => {
                self.check_refused(setup, connection, cause);
                let peer = self.sockets.get(&connection).map_or(0, |socket| usize::from(socket.peer));
                if let Some(Socket { generation, .. }) = self.sockets.remove(&connection) {
                    self.client(setup, peer, client::Input::Closed { socket: generation, code: cause.code() }, scratch);
                }
            }
            gateway::Output::Verify { connection, attempt, token, generation: mark } => {
                self.check_asked(setup, connection, token);
                let user = usize::try_from(self.user_of_token(token).0).unwrap_or(0);
                let generation = RevocationGeneration(self.oracle.generation[user]);
                if let Some(socket) = self.socket(connection) {
                    socket.observed.newest = attempt;
                }
                self.verifier.push(Verification { connection, attempt, token, generation, mark });
            }
            gateway::Output::Wake { connection } => {
                if let Some(socket) = self.socket(connection) {
                    socket.woken = true;
                }
            }
            gateway::Output::Send { connection, frame } => {
                self.check_frame(setup, connection, &frame);
                match setup.wire {
                    Wire::Instant => self.deliver(setup, connection, frame, scratch),
                    Wire::Queued(_) => {
                        if let Some(socket) = self.socket(connection).filter(|s| !s.cut && !s.client_gone) {
                            socket.down.push_back(frame);
                        }
                    }
                }
            }
            // No other process owns a user of this one.
            gateway::Output::Relay { .. } => self.violated("OWN-6"),
            gateway::Output::Closed { connection, cause } => {
                self.check_closed(setup, connection, cause);
                self.verifier.retain(|asked| asked.connection != connection);
                if let Some(socket) = self.socket(connection) {
                    socket.server_gone = true;
                    socket.up.clear();
                    socket.woken = false;
                    (socket.told, socket.observed.quiet) = (false, 0);
                }
                self.drop_socket(connection);
            }
            gateway::Output::Session { user, generation, output } => {
                self.check_address(user, generation);
                self.session_output(setup, user, generation, output, scratch);
            }
            gateway::Output::Probe => {}
            gateway::Output::Leaving => self.check_leaving(),
            gateway::Output::Released => self.check_released(),
            gateway::Output::Stopped => self.check_stopped(),
            gateway::Output::Arm(place, timer, _) => self.arm(setup, place, timer),
            gateway::Output::Disarm(place, timer) => self.timers.retain(|armed| *armed != (place, timer)),
        }
    }

    fn session_output(
        &mut self,
        setup: &Setup,
        user: UserId,
        session: Generation,
        output: SessionOutput<Payload>,
        scratch: &mut Scratch,
    ) {
        let index = usize::try_from(user.0).unwrap_or(0);
        match output {
            SessionOutput::Restore { attempt } => {
                self.log(index).restore = Some((session, attempt));
                self.check_successor(setup, user, session, attempt);
            }
            SessionOutput::Elsewhere { .. } => self.violated("OWN-6"),
            // Only a client that knows more than this log makes its session ask the log.
            SessionOutput::Confirm { attempt, .. } => self.log(index).confirm = Some((session, attempt)),
            SessionOutput::Lookup { connection, attempt, lookup } => {
                self.seek(index, session, connection, attempt, lookup);
            }
            SessionOutput::Write { tenure, batch, after, event } => {
                self.check_owner(index, session, tenure);
                self.expect(!self.oracle.released, "NODE-2");
                let log = self.log(index);
                let before = log.writes.iter().filter(|write| write.batch == batch).count() as u64;
                log.writes.push_back(Write { session, owner: tenure.token, batch, at: after.0 + before + 1, event });
            }
            SessionOutput::Trim { through, .. } => self.check_trim(setup, index, through),
            SessionOutput::Read { through, .. } => self.check_read(user, through),
            SessionOutput::Lose => scratch.lost[index] = true,
            SessionOutput::Room => scratch.room[index] = true,
            SessionOutput::Relinquish { .. } => {
                scratch.ended[index] = true;
                self.abandon(index);
            }
            SessionOutput::Launch { run, payload, begin } => {
                scratch.told.push((run, None));
                if !self.check_resumed(user, run, begin, payload) {
                    self.check_begin(setup, index, run);
                    self.check_launch(setup, user, run, payload);
                }
                let agent = self.new_agent(setup, user, session, run);
                self.agents.insert(run, agent);
            }
            SessionOutput::Durable { run, offset, last } => {
                scratch.told.push((run, Some(offset)));
                self.check_durable(index, run, offset, last);
            }
            SessionOutput::Halt { run } => {
                self.agents.remove(&run);
                scratch.halted.push((user, session, run));
            }
        }
    }

    fn arm(&mut self, setup: &Setup, place: Place, timer: Timer) {
        let tracked = match timer {
            Timer::Credential => setup.expiries > 0,
            Timer::Warning => setup.expiries > 0,
            Timer::Verification => setup.silences > 0,
            Timer::LogAnswer | Timer::Lookup => setup.unanswered > 0,
            Timer::Breaker => setup.bounds.failures > 0,
            Timer::Allowance | Timer::Probe => false,
            _ => true,
        };
        if !tracked {
            return;
        }
        match self.timers.binary_search(&(place, timer)) {
            Ok(_) if setup.lenient => {}
            Ok(_) => self.check_again(timer),
            Err(place_in_order) => self.timers.insert(place_in_order, (place, timer)),
        }
    }
}
