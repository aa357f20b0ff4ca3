//! The actions of a world.

use lockstep_model::connection::State;
use lockstep_model::gateway::Place;
use lockstep_model::run::{Kind, Reason, ToolEnd};
use lockstep_model::{
    Connection, ConnectionId, MessageId, Mode, PartId, PauseId, RunId, Successor, ThreadId, Timer, ToolId, UserId,
    client, run, session,
};

use super::setup::{Setup, Wire};
use super::state::World;

/// How a verification ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VerifierAnswer {
    /// Truthful: valid unless the credential was revoked before the verification began.
    True,
    /// Rejected, for any reason.
    Rejected,
    /// The verifier was unavailable.
    Unavailable,
}

/// An agent's step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AgentStep {
    /// `agent_started`.
    Start,
    /// `agent_thinking`.
    Think,
    /// `agent_delta`: the next piece of its answer.
    Say,
    /// `tool_executing`.
    OpenTool,
    /// `tool_completed`.
    CloseTool,
    /// `agent_paused`.
    Pause,
    /// `agent_completed`.
    Complete,
    /// `agent_error`.
    Fail,
    /// It drops its handle without ending the run.
    Vanish,
    /// It hangs: no more events, and no notification.
    Hang,
}

impl AgentStep {
    /// The event of this step, if the agent emits one.
    pub(super) const fn event(self) -> Option<Kind> {
        match self {
            Self::Start => Some(Kind::Started),
            Self::Think => Some(Kind::Thinking),
            Self::Say => Some(Kind::Delta(PartId(0))),
            Self::OpenTool => Some(Kind::ToolExecuting(ToolId(1))),
            Self::CloseTool => Some(Kind::ToolCompleted(ToolId(1), ToolEnd::Success)),
            Self::Pause => Some(Kind::Paused(PauseId(0))),
            Self::Complete => Some(Kind::Completed),
            Self::Fail => Some(Kind::Error(Reason::Failed)),
            Self::Vanish | Self::Hang => None,
        }
    }
}

/// One action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A client's socket opens.
    Open(u8),
    /// The next request of a client reaches the gateway.
    Up(ConnectionId),
    /// The next frame of the gateway reaches a client.
    Down(ConnectionId),
    /// A connection's writer pulls.
    Pull(ConnectionId),
    /// The verifier answers the verification at this place in the queue.
    Verify(u8, VerifierAnswer),
    /// A connection is cut.
    Cut(ConnectionId),
    /// The gateway notices that a socket is gone.
    ServerNotices(ConnectionId),
    /// A client notices that its socket is gone.
    ClientNotices(ConnectionId),
    /// A user sends a message.
    Send(u8),
    /// A user cancels a run.
    Cancel(ConnectionId, RunId),
    /// A user replies to a pause of a run.
    Reply(ConnectionId, RunId, PauseId),
    /// A client sends an invalid request.
    Garbage(ConnectionId),
    /// A peer sends a request before its verdict.
    Eager(ConnectionId, Early),
    /// A client's backoff pause ends.
    Backoff(u8),
    /// A client receives a new token.
    Token(u8),
    /// An agent does something.
    Agent(RunId, AgentStep),
    /// The log takes a user's oldest write and confirms it.
    Persist(u8),
    /// The log refuses the rest of a batch, after having written this many of its entries.
    Refuse(u8, u8),
    /// The log answers a restore, with the deleted entries or with only their message ids.
    Restore(u8, bool),
    /// The log fails a restore.
    FailRestore(u8),
    /// The log answers whether a session holds its user.
    Confirm(u8),
    /// A client queries conversations.
    Query(ConnectionId),
    /// The log answers a lookup.
    Find {
        /// The log's user.
        user: u8,
        /// The index among the pending lookups.
        index: u8,
        /// Whether the page has one entry although there are more.
        few: bool,
        /// Whether the log read before the deletions that it has been told of since.
        outdated: bool,
    },
    /// The log fails a lookup.
    NotFound {
        /// The log's user.
        user: u8,
        /// The index among the pending lookups.
        index: u8,
    },
    /// The log executes a user's oldest abandoned write.
    Late(u8),
    /// The log grants a user to another owner.
    Fence(u8),
    /// The log breaks its contract in its next answer about a user.
    Breach(u8),
    /// A timer of the gateway fires.
    Expire(Place, Timer),
    /// The process crashes with this many pending writes of each user durable, and a new process starts.
    Crash(u8),
    /// The operator revokes all credentials of user 0.
    Revoke,
    /// The embedding service sends a notice to user 0.
    Notice,
    /// User 0 deletes a thread, on a connection or through the embedding service.
    Delete(Option<ConnectionId>, ThreadId),
    /// The operator pins a mode.
    Pin(Mode),
    /// The process is told to end, with this successor for its clients.
    Drain(Successor),
    /// The successor is gone.
    Abort,
}

/// What a peer sends before its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Early {
    /// The same token again.
    Token,
    /// The other user's token.
    Stranger,
    /// A ping, which waits for the verdict.
    Ping,
}

/// The run id that the edge assigns when message `m` of a world arrives for the `n`th time.
pub fn run_id(message: u8, arrival: u8) -> RunId {
    RunId(u64::from(message) * 8 + u64::from(arrival))
}

/// The message whose arrival created a run id.
pub(crate) fn message_of(run: RunId) -> u64 {
    run.0 / 8
}

/// Whether the event is the message's `message_received`.
pub(super) fn is_received(kind: Kind, message: MessageId) -> bool {
    matches!(kind, Kind::Received(received) if received.message == message)
}

/// The id of the `n`th notice, above any run's.
pub fn notice_id(n: u8) -> RunId {
    RunId(0x100 + u64::from(n))
}

/// The id of the `n`th deletion, above any notice's.
pub fn deletion_id(n: u8) -> RunId {
    RunId(0x180 + u64::from(n))
}

/// The message id of a client's `n`th send.
pub fn message_id(peer: usize, n: u8) -> u8 {
    u8::try_from(peer).unwrap_or(u8::MAX) * 2 + n
}

/// The connection id of a client's `n`th socket.
pub fn connection_id(peer: u8, socket: u32) -> ConnectionId {
    ConnectionId(u64::from(peer) * 16 + u64::from(socket))
}

impl World {
    /// Lists every action that is possible now.
    pub fn actions(&self, setup: &Setup, out: &mut Vec<Action>) {
        if self.broken.is_some() {
            return;
        }
        self.client_actions(setup, out);
        self.socket_actions(setup, out);
        for index in 0..self.verifier.len() {
            let index = u8::try_from(index).unwrap_or(u8::MAX);
            out.push(Action::Verify(index, VerifierAnswer::True));
            if self.left.rejections > 0 {
                out.extend([
                    Action::Verify(index, VerifierAnswer::Rejected),
                    Action::Verify(index, VerifierAnswer::Unavailable),
                ]);
            }
        }
        self.run_actions(out);
        self.log_actions(setup, out);
        for (place, timer) in &self.timers {
            if self.may_fire(setup, *place, *timer) {
                out.push(Action::Expire(*place, *timer));
            }
        }
        if self.left.crashes > 0 {
            let most = self.logs.iter().map(|log| log.writes.len()).max().unwrap_or(0);
            out.extend((0..=u8::try_from(most).unwrap_or(u8::MAX)).map(Action::Crash));
        }
        if self.left.revocations > 0 {
            out.push(Action::Revoke);
        }
        if self.left.notices > 0 {
            out.push(Action::Notice);
        }
        if self.left.deletions > 0 && !self.is_connected() {
            out.extend(self.threads(setup).into_iter().map(|thread| Action::Delete(None, thread)));
        }
        if self.left.pins > 0 {
            out.extend([Mode::Ready, Mode::Degraded, Mode::Emergency].map(Action::Pin));
        }
        if self.left.drains > 0 {
            out.push(Action::Drain(Successor::Absent));
        }
        if self.left.handovers > 0 {
            out.push(Action::Drain(Successor::Waiting));
        }
        if self.gateway.node().mode() == Mode::HandingOver {
            out.push(Action::Abort);
        }
    }

    fn client_actions(&self, setup: &Setup, out: &mut Vec<Action>) {
        for (index, peer) in self.peers.iter().enumerate() {
            let id = u8::try_from(index).unwrap_or(u8::MAX);
            if peer.opening {
                out.push(Action::Open(id));
            }
            if peer.backoff && peer.client.socket().0 < u32::from(setup.clients[index].sockets) {
                out.push(Action::Backoff(id));
            }
            if peer.wants_token {
                out.push(Action::Token(id));
            }
            if peer.sent < setup.clients[index].messages && matches!(peer.client.state(), client::State::Live { .. }) {
                out.push(Action::Send(id));
            }
        }
    }

    fn socket_actions(&self, setup: &Setup, out: &mut Vec<Action>) {
        for (id, socket) in &self.sockets {
            if !socket.server_gone && !socket.up.is_empty() {
                out.push(Action::Up(*id));
            }
            if !socket.client_gone && !socket.down.is_empty() {
                out.push(Action::Down(*id));
            }
            let room = match setup.wire {
                Wire::Instant => true,
                Wire::Queued(most) => socket.down.len() < most,
            };
            let slow = !setup.clients[usize::from(socket.peer)].fast;
            let heard = setup.void || !socket.cut;
            if slow && heard && socket.woken && !socket.server_gone && room {
                out.push(Action::Pull(*id));
            }
            let returns = setup.clients[usize::from(socket.peer)].sockets > 1;
            if returns && !socket.cut && !socket.server_gone && !socket.client_gone && self.left.cuts > 0 {
                out.push(Action::Cut(*id));
            }
            let noticeable = socket.cut || (socket.client_gone && socket.up.is_empty());
            if noticeable && !socket.server_gone && !socket.told {
                out.push(Action::ServerNotices(*id));
            }
            if !socket.client_gone && (socket.cut || (socket.server_gone && socket.down.is_empty())) {
                out.push(Action::ClientNotices(*id));
            }
            if socket.cut || socket.client_gone {
                continue;
            }
            let live = self.peers[usize::from(socket.peer)].client.is_ready();
            if live && self.left.cancels > 0 {
                out.extend(self.agents.keys().map(|run| Action::Cancel(*id, *run)));
                out.extend(self.runs_without_agent(*id).map(|run| Action::Cancel(*id, run)));
            } else if self.left.cancels > 0 {
                out.extend(self.runs_not_restored(*id).map(|run| Action::Cancel(*id, run)));
            }
            if live {
                self.reply_actions(setup, *id, out);
            }
            if live && self.left.deletions > 0 && setup.clients[usize::from(socket.peer)].user == 0 {
                out.extend(self.threads(setup).into_iter().map(|thread| Action::Delete(Some(*id), thread)));
            }
            if live && self.left.queries > 0 {
                out.push(Action::Query(*id));
            }
            if live && self.left.garbage > 0 {
                out.push(Action::Garbage(*id));
            }
            if self.left.eager > 0 && self.verifier.iter().any(|asked| asked.connection == *id) {
                out.extend([Early::Token, Early::Ping].map(|request| Action::Eager(*id, request)));
                out.extend(setup.strangers.then_some(Action::Eager(*id, Early::Stranger)));
            }
        }
    }

    /// Returns runs of a connection's user that have no agent: the log is still writing their end, or still writing
    /// their beginning, and a client guesses their ids.
    fn runs_without_agent(&self, id: ConnectionId) -> impl Iterator<Item = RunId> {
        let slot = self.gateway.user_of(id).and_then(|user| self.gateway.slots().get(&user));
        let runs = slot.into_iter().flat_map(|slot| {
            let ending = slot.session.unsettled().keys().filter(|run| !slot.session.runs().contains_key(run));
            slot.session.runs().keys().chain(ending)
        });
        runs.copied().filter(|run| !self.agents.contains_key(run))
    }

    /// Returns runs that a connection's user had open when the process died, while the log has not restored them. Our
    /// client sends nothing that early, but others may.
    fn runs_not_restored(&self, id: ConnectionId) -> impl Iterator<Item = RunId> {
        let user = self.gateway.user_of(id).and_then(|user| usize::try_from(user.0).ok());
        user.filter(|user| self.is_restoring(*user)).into_iter().flat_map(|user| self.logs[user].under_way())
    }

    fn run_actions(&self, out: &mut Vec<Action>) {
        for (id, agent) in &self.agents {
            let Some(slot) = self.gateway.slots().get(&agent.user) else { continue };
            let Some(run) = slot.session.runs().get(id) else { continue };
            if agent.silent {
                continue;
            }
            match run.state() {
                run::State::Accepted => out.push(Action::Agent(*id, AgentStep::Start)),
                run::State::Started => self.work(*id, false, out),
                run::State::Working { tools } => self.work(*id, !tools.is_empty(), out),
                run::State::Queued
                | run::State::Paused { .. }
                | run::State::Completed
                | run::State::Failed
                | run::State::Cancelled
                | run::State::Interrupted => {}
            }
            if self.left.deaths > 0 {
                out.extend([AgentStep::Fail, AgentStep::Vanish, AgentStep::Hang].map(|step| Action::Agent(*id, step)));
            }
        }
    }

    fn work(&self, run: RunId, tool: bool, out: &mut Vec<Action>) {
        let Some(agent) = self.agents.get(&run) else { return };
        if agent.pieces > 0 {
            out.push(Action::Agent(run, AgentStep::Say));
        }
        if agent.thinking > 0 {
            out.push(Action::Agent(run, AgentStep::Think));
        }
        if tool {
            out.push(Action::Agent(run, AgentStep::CloseTool));
        } else if agent.tools > 0 {
            out.push(Action::Agent(run, AgentStep::OpenTool));
        }
        if agent.pauses > 0 {
            out.push(Action::Agent(run, AgentStep::Pause));
        }
        out.push(Action::Agent(run, AgentStep::Complete));
    }

    fn log_actions(&self, setup: &Setup, out: &mut Vec<Action>) {
        for (user, log) in self.logs.iter().enumerate() {
            let id = u8::try_from(user).unwrap_or(u8::MAX);
            if !log.writes.is_empty() {
                out.push(Action::Persist(id));
                if self.left.log_failures > 0 {
                    out.push(Action::Refuse(id, 0));
                    if setup.torn {
                        out.push(Action::Refuse(id, 1));
                    }
                }
            }
            self.lookup_actions(id, out);
            if !log.late.is_empty() {
                out.push(Action::Late(id));
            }
            if self.left.fences > 0 && log.token.0 > 0 {
                out.push(Action::Fence(id));
            }
            if self.left.breaches > 0 && (log.restore.is_some() || !log.writes.is_empty()) {
                out.push(Action::Breach(id));
            }
            if log.confirm.is_some() {
                out.push(Action::Confirm(id));
            }
            if log.restore.is_some() {
                out.push(Action::Restore(id, false));
                if log.can_scrub() {
                    out.push(Action::Restore(id, true));
                }
                if self.left.restore_failures > 0 {
                    out.push(Action::FailRestore(id));
                }
            }
        }
    }

    /// Whether an armed timer may fire now. Some deadlines are longer than others, and the machines rely on that. The
    /// header of each model says which.
    fn may_fire(&self, setup: &Setup, place: Place, timer: Timer) -> bool {
        match (place, timer) {
            (Place::Connection(id), Timer::Credential) => self.left.expiries > 0 && self.gateway.user_of(id).is_some(),
            (Place::Connection(id), Timer::Warning) => self.left.warnings > 0 && self.gateway.user_of(id).is_some(),
            (Place::Connection(_), Timer::Verification) => self.left.silences > 0,
            // A fair log fails to answer in time only this often.
            (_, Timer::LogAnswer | Timer::Lookup) => self.left.unanswered > 0,
            // A responsive peer is heard in time.
            (Place::Connection(id), Timer::Idle | Timer::Handshake) => {
                let gone = |socket: &super::state::Socket| socket.cut || socket.client_gone;
                (setup.idle && self.sockets.get(&id).is_none_or(gone)) || self.is_stuck(setup, id)
            }
            (Place::Connection(_), Timer::Close | Timer::Grace) => true,
            (Place::Session(..), Timer::Linger) => self.left.lingers > 0 || self.oracle.drained,
            (Place::Run(_, _, run), Timer::Silence) => self.agents.get(&run).is_none_or(|agent| agent.silent),
            // It ends a run later than silence would, and in the same way. The model of one run has both.
            (Place::Run(..), Timer::Deadline) => false,
            _ => true,
        }
    }

    /// Whether a handshake cannot proceed on its own: no credential was presented, and nothing is being verified or
    /// restored.
    fn is_stuck(&self, setup: &Setup, id: ConnectionId) -> bool {
        let stuck = |state: &State<_>| matches!(state, State::Opening | State::Authenticating { .. });
        // A log may never restore a stream.
        let attaching = |connection: &Connection<_>| matches!(connection.state(), State::Attaching { .. });
        if (setup.mute || self.left.unanswered > 0) && self.gateway.connection(id).is_some_and(attaching) {
            return true;
        }
        let verifying = self.verifier.iter().any(|asked| asked.connection == id);
        let waiting = self.sockets.get(&id).is_some_and(|socket| !socket.up.is_empty());
        self.gateway.connection(id).is_some_and(|connection| stuck(connection.state())) && !verifying && !waiting
    }

    /// The token's user: the high half of the byte.
    pub fn user_of_token(&self, token: u8) -> UserId {
        UserId(u64::from(token >> 4))
    }

    /// Whether the node serves.
    pub fn is_serving(&self) -> bool {
        !self.gateway.node().mode().awaits_runs()
    }

    /// Whether a session waits for the log.
    pub fn is_restoring(&self, user: usize) -> bool {
        let user = UserId(user as u64);
        self.gateway.slots().get(&user).is_some_and(|slot| matches!(slot.session.state(), session::State::Restoring))
    }
}
