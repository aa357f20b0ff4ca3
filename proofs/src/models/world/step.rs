//! Executes an action: feeds the production machines and dispatches their outputs.

use litemap::LiteMap;
use lockstep_model::auth::{Grant, Verdict};
use lockstep_model::gateway::{self, Place};
use lockstep_model::{
    Cancel, Code, ConnectionId, CredentialId, Gateway, Generation, MessageId, PartId, Refusal, Request, Resume, RunId,
    Timer, TokenRequestId, ToolId, UserId, client, connection, node, piece, run, session,
};

use super::action::{Action, AgentStep, Early, VerifierAnswer, connection_id, message_id};
use super::draw;
use super::lookup::QUERY;
use super::refusals;
use super::setup::{Setup, Wire};
use super::shared::Shared;
use super::state::{Left, Log, Oracle, Payload, Scratch, SimulatedClient, Socket, World};
use super::storage::agent_payload;
use crate::models::harness::lifetime;

type Input = gateway::Input<Payload>;

impl World {
    /// Creates a world in which the node serves and every client has been told to connect.
    pub fn new(setup: &Setup) -> Self {
        let mut world = Self {
            gateway: Gateway::hosting(),
            peers: Vec::new(),
            sockets: LiteMap::new(),
            verifier: Vec::new(),
            logs: (0..setup.users()).map(|_| Shared::new(Log::default())).collect(),
            agents: LiteMap::new(),
            timers: Vec::new(),
            left: Left {
                deaths: setup.deaths,
                replies: setup.replies,
                cancels: setup.cancels,
                cuts: setup.cuts,
                crashes: setup.crashes,
                log_failures: setup.log_failures,
                restore_failures: setup.restore_failures,
                unanswered: setup.unanswered,
                fences: setup.fences,
                breaches: setup.breaches,
                rejections: setup.rejections,
                silences: setup.silences,
                expiries: setup.expiries,
                warnings: setup.expiries,
                revocations: setup.revocations,
                notices: setup.notices,
                deletions: setup.deletions,
                queries: setup.queries,
                lookup_failures: setup.lookup_failures,
                pins: setup.pins,
                drains: setup.drains,
                handovers: setup.handovers,
                lingers: setup.lingers,
                garbage: setup.garbage,
                eager: setup.eager,
            },
            oracle: Oracle::default(),
            broken: None,
        };
        let mut scratch = Scratch::default();
        world.feed(setup, Input::Node(node::Input::Started), &mut scratch);
        for user in 0..setup.users() as u64 {
            world.check_late_emit(setup, UserId(user), Generation(1));
        }
        for (index, client) in setup.clients.iter().enumerate() {
            let begin = if client.earliest { lockstep_model::frame::ReadFrom::Earliest } else { Default::default() };
            let token = client.user << 4;
            world.peers.push(SimulatedClient {
                client: lockstep_model::Client::new(begin),
                sent: 0,
                opening: false,
                backoff: false,
                token,
                wants_token: false,
            });
            let asked = TokenRequestId(0);
            world.client(setup, index, client::Input::Token { asked, token }, &mut scratch);
            world.client(setup, index, client::Input::Connect, &mut scratch);
        }
        world
    }

    /// Executes one action.
    pub fn act(&mut self, setup: &Setup, action: Action, scratch: &mut Scratch) {
        match action {
            Action::Open(peer) => self.open(setup, peer, scratch),
            Action::Up(id) => self.up(setup, id, scratch),
            Action::Down(id) => {
                if let Some(frame) = self.socket(id).and_then(|socket| socket.down.pop_front()) {
                    self.deliver(setup, id, frame, scratch);
                }
            }
            Action::Pull(id) => self.pull(setup, id, scratch),
            Action::Verify(index, answer) => self.verify(setup, usize::from(index), answer, scratch),
            Action::Cut(id) => {
                self.left.cuts -= 1;
                if let Some(socket) = self.socket(id) {
                    socket.cut = true;
                    socket.up.clear();
                    socket.down.clear();
                }
            }
            Action::ServerNotices(id) => self.server_notices(setup, id, scratch),
            Action::ClientNotices(id) => self.client_notices(setup, id, scratch),
            Action::Send(peer) => {
                let index = usize::from(peer);
                let message = message_id(index, self.peers[index].sent);
                self.peers[index].sent += 1;
                let input = client::Input::Send { message: MessageId(u64::from(message)), payload: message, size: 0 };
                self.client(setup, index, input, scratch);
            }
            Action::Cancel(id, run) => {
                self.left.cancels -= 1;
                self.push_up(id, Request::Cancel { runs: Cancel::Run(run) });
            }
            Action::Reply(id, run, pause) => self.reply(id, run, pause),
            Action::Garbage(id) => {
                self.left.garbage -= 1;
                self.push_up(id, Request::Invalid { code: Code::UnknownType, message: None });
            }
            Action::Eager(id, request) => {
                self.left.eager -= 1;
                let token = self.peers[usize::from(self.socket_at(id).peer)].token;
                self.push_up(
                    id,
                    match request {
                        Early::Token => Request::Auth { token, resume: Resume::default() },
                        Early::Stranger => Request::Auth { token: token ^ 0x10, resume: Resume::default() },
                        Early::Ping => Request::Ping,
                    },
                );
            }
            Action::Backoff(peer) => {
                let state = &mut self.peers[usize::from(peer)];
                state.backoff = false;
                let timer = if state.client.is_ready() { Timer::Leave } else { Timer::Backoff };
                self.client(setup, usize::from(peer), client::Input::Expired(timer), scratch);
            }
            Action::Token(peer) => {
                let peer = usize::from(peer);
                let state = &mut self.peers[peer];
                state.wants_token = false;
                state.token += 1;
                let (asked, token) = (state.client.asked(), state.token);
                self.client(setup, peer, client::Input::Token { asked, token }, scratch);
            }
            Action::Agent(run, step) => self.agent(setup, run, step, scratch),
            Action::Persist(user) => self.persist(setup, usize::from(user), scratch),
            Action::Refuse(user, written) => self.refuse(setup, usize::from(user), written, scratch),
            Action::Restore(user, scrubbed) => self.restore(setup, usize::from(user), scrubbed, scratch),
            Action::Late(user) => self.late(setup, usize::from(user), scratch),
            Action::Query(id) => {
                self.left.queries -= 1;
                self.push_up(id, Request::Query { query: QUERY });
            }
            Action::Find { user, index, few, outdated } => {
                self.find(setup, usize::from(user), usize::from(index), few, outdated, scratch);
            }
            Action::NotFound { user, index } => self.not_found(setup, usize::from(user), usize::from(index), scratch),
            Action::Fence(user) => self.fence(usize::from(user)),
            Action::Breach(user) => self.breach(setup, usize::from(user), scratch),
            Action::Confirm(user) => self.confirm(setup, usize::from(user), scratch),
            Action::FailRestore(user) => {
                self.left.restore_failures -= 1;
                if let Some((generation, attempt)) = self.log(usize::from(user)).restore.take() {
                    let input = session::Input::NotRestored { attempt };
                    let _ = self.session(setup, UserId(u64::from(user)), generation, input, scratch);
                }
            }
            Action::Expire(place, timer) => self.expire(setup, place, timer, scratch),
            Action::Crash(kept) => self.crash(setup, usize::from(kept), scratch),
            Action::Revoke => self.revoke(setup, scratch),
            Action::Notice => self.notice(setup, scratch),
            Action::Delete(by, thread) => self.delete(setup, by, thread, scratch),
            Action::Pin(mode) => {
                self.left.pins -= 1;
                let before = self.gateway.node().mode();
                self.feed(setup, Input::Node(node::Input::Pin(Some(mode))), scratch);
                self.check_told(before);
            }
            Action::Drain(successor) => self.drain(setup, successor, scratch),
            Action::Abort => self.abort(setup, scratch),
        }
        if setup.wire == Wire::Instant {
            self.handle_instantly(setup, scratch);
        }
        self.prune_lookups();
        self.check_state(setup);
        self.audit();
        for log in &self.logs {
            log.digest();
        }
    }

    /// Handles immediately whatever concerns only one client and its connection.
    fn handle_instantly(&mut self, setup: &Setup, scratch: &mut Scratch) {
        while self.broken.is_none() {
            let up = self.sockets.iter().find(|(_, socket)| !socket.server_gone && !socket.up.is_empty());
            let gone = self.sockets.iter().find(|(_, socket)| socket.server_gone && !socket.client_gone && !socket.cut);
            if let Some((id, _)) = up {
                self.up(setup, *id, scratch);
            } else if let Some((id, _)) = gone {
                self.client_notices(setup, *id, scratch);
            } else if let Some(id) = self.leftover() {
                self.server_notices(setup, id, scratch);
            } else if let Some(id) = self.fast_reader(setup) {
                self.pull(setup, id, scratch);
            } else if setup.verifies_at_once() && !self.verifier.is_empty() {
                self.verify(setup, 0, VerifierAnswer::True, scratch);
            } else {
                return;
            }
        }
    }

    fn fast_reader(&self, setup: &Setup) -> Option<ConnectionId> {
        let fast = |socket: &Socket| setup.clients[usize::from(socket.peer)].fast;
        let mut sockets = self.sockets.iter();
        sockets.find(|(_, socket)| fast(socket) && socket.woken && !socket.server_gone).map(|(id, _)| *id)
    }

    /// Returns a socket that an action or an output has just named.
    pub fn socket_at(&self, id: ConnectionId) -> &Socket {
        self.sockets.get(&id).unwrap_or_else(|| unreachable!("{id:?} has no socket"))
    }

    pub(super) fn socket(&mut self, id: ConnectionId) -> Option<&mut Socket> {
        self.sockets.get_mut(&id)
    }

    /// Returns a user's log for modification.
    pub fn log(&mut self, user: usize) -> &mut Log {
        &mut self.logs[user]
    }

    fn open(&mut self, setup: &Setup, peer: u8, scratch: &mut Scratch) {
        let index = usize::from(peer);
        self.peers[index].opening = false;
        let generation = self.peers[index].client.socket();
        let id = connection_id(peer, generation.0);
        self.sockets.insert(id, Socket::new(peer, generation));
        let mode = self.gateway.node().mode();
        self.feed(setup, Input::Accept { connection: id }, scratch);
        self.check_accept(id, mode);
        if self.sockets.get(&id).is_some_and(|socket| !socket.server_gone) {
            self.connection(setup, id, connection::Input::Opened, scratch);
            self.client(setup, index, client::Input::Opened { socket: generation }, scratch);
        }
    }

    fn up(&mut self, setup: &Setup, id: ConnectionId, scratch: &mut Scratch) {
        let Some(mut request) = self.socket(id).and_then(|socket| socket.up.pop_front()) else { return };
        self.edge(setup, id, &mut request);
        let query = matches!(request, Request::Query { .. });
        if let Some(socket) = self.socket(id) {
            socket.observed.quiet = 0;
            socket.observed.queries += u8::from(query);
        }
        let before = self.open_runs();
        let peer = usize::from(self.socket_at(id).peer);
        let due = self.due(setup, id, &request);
        self.connection(setup, id, connection::Input::Received(request), scratch);
        self.check_due(id, due);
        self.check_admission(setup, peer, before);
    }

    fn pull(&mut self, setup: &Setup, id: ConnectionId, scratch: &mut Scratch) {
        if let Some(socket) = self.socket(id) {
            socket.woken = false;
        }
        let sent = self.feed(setup, Input::Pull { connection: id, budget: setup.pull }, scratch);
        self.expect(sent <= setup.pull, "LIM-1");
        if sent >= setup.pull
            && let Some(socket) = self.socket(id)
        {
            socket.woken = true;
        }
    }

    fn verify(&mut self, setup: &Setup, index: usize, answer: VerifierAnswer, scratch: &mut Scratch) {
        let asked = self.verifier.remove(index);
        let user = self.user_of_token(asked.token);
        let grant = Grant { user, credential: CredentialId(u64::from(asked.token)), generation: asked.mark };
        let verdict = match answer {
            VerifierAnswer::True => Verdict::Valid { grant, lifetime: lifetime() },
            VerifierAnswer::Rejected => Verdict::Rejected,
            VerifierAnswer::Unavailable => Verdict::Unavailable,
        };
        if answer != VerifierAnswer::True {
            self.left.rejections -= 1;
        }
        self.check_verdict(&asked, verdict);
        let input = connection::Input::Verdict { attempt: asked.attempt, verdict };
        let waiting = self.gateway.unattached().get(&asked.connection);
        let decided = waiting.is_some_and(lockstep_model::Connection::is_closing);
        let older = waiting.and_then(lockstep_model::Connection::resume).and_then(|resume| resume.replaces);
        let older = older.filter(|older| self.gateway.user_of(*older).is_some());
        self.connection(setup, asked.connection, input, scratch);
        self.check_join(asked.connection);
        if !decided {
            self.check_room(setup, asked.connection, older);
        }
        self.check_replaced(asked.connection, older);
    }

    fn agent(&mut self, setup: &Setup, run: RunId, step: AgentStep, scratch: &mut Scratch) {
        let Some(agent) = self.agents.get_mut(&run) else { return };
        let (user, session) = (agent.user, agent.session);
        let open = agent.is_open(&self.gateway, run);
        let input = match step {
            AgentStep::Start => run::Input::Start,
            AgentStep::Think => {
                agent.thinking = agent.thinking.saturating_sub(u8::from(open));
                run::Input::Think
            }
            AgentStep::Say => run::Input::Say(PartId(0)),
            AgentStep::OpenTool => {
                agent.tools -= 1;
                run::Input::OpenTool(ToolId(1))
            }
            AgentStep::CloseTool => run::Input::CloseTool(ToolId(1), run::ToolEnd::Success),
            AgentStep::Pause => run::Input::Pause,
            AgentStep::Complete => run::Input::Complete,
            AgentStep::Fail => run::Input::Fail,
            AgentStep::Vanish => run::Input::Abandon,
            AgentStep::Hang => {
                agent.silent = true;
                self.left.deaths -= 1;
                return;
            }
        };
        if matches!(step, AgentStep::Fail | AgentStep::Vanish) {
            self.left.deaths -= 1;
        }
        let before = self.appended(user);
        let next = setup.pieces - self.agents.get(&run).map_or(0, |agent| agent.pieces);
        let payload = match step {
            AgentStep::Say => Some(piece::pieces(next, next + 1)),
            _ => step.event().and_then(agent_payload),
        };
        let full = self.room(setup, user).is_some_and(|room| run::Run::needs(&input) > room);
        let input = session::Input::Run { run, input, payload };
        let answer = self.session(setup, user, session, input, scratch);
        self.check_emit(user, step, before, answer, open, full);
        if step == AgentStep::Say
            && (answer.is_ok() || !open)
            && let Some(agent) = self.agents.get_mut(&run)
        {
            agent.pieces -= 1;
        }
        if setup.bounds.failures > 0 && open && answer.is_ok() {
            match step {
                AgentStep::Complete => self.check_end(setup, user, false),
                AgentStep::Fail | AgentStep::Vanish => self.check_end(setup, user, true),
                AgentStep::Start
                | AgentStep::Think
                | AgentStep::Say
                | AgentStep::OpenTool
                | AgentStep::CloseTool
                | AgentStep::Pause
                | AgentStep::Hang => {}
            }
        }
    }

    fn expire(&mut self, setup: &Setup, place: Place, timer: Timer, scratch: &mut Scratch) {
        self.timers.retain(|armed| *armed != (place, timer));
        match timer {
            Timer::Credential => self.left.expiries -= 1,
            Timer::Warning => self.left.warnings -= 1,
            Timer::Verification => self.left.silences -= 1,
            Timer::LogAnswer => {
                self.left.unanswered -= 1;
                if let Place::Session(user, _) = place {
                    self.abandon(usize::try_from(user.0).unwrap_or(0));
                }
            }

            Timer::Lookup => self.left.unanswered -= 1,
            Timer::Linger => self.left.lingers = self.left.lingers.saturating_sub(1),
            _ => {}
        }
        match place {
            Place::Node => {
                self.oracle.overdue |= timer == Timer::Drain;
                self.feed(setup, Input::Node(node::Input::Expired(timer)), scratch);
                self.check_over(timer);
            }
            Place::Connection(id) => {
                self.check_expiry(id, timer);
                self.connection(setup, id, connection::Input::Expired(timer), scratch);
                // LIVE-4: a lookup that was not answered in time is no longer waited for.
                let waits = timer == Timer::Lookup && self.has_lookup(id);
                self.expect(!waits, "LIVE-4");
            }
            Place::Session(user, generation) => {
                self.check_rest(user, timer);
                let input = session::Input::Expired(lockstep_model::timer::Owner::Session, timer);
                let _ = self.session(setup, user, generation, input, scratch);
            }
            Place::Run(user, generation, run) => {
                if setup.bounds.failures > 0 {
                    self.check_end(setup, user, true);
                }
                let input = session::Input::Expired(lockstep_model::timer::Owner::Run(run), timer);
                let _ = self.session(setup, user, generation, input, scratch);
            }
        }
    }

    pub(super) fn connection(
        &mut self,
        setup: &Setup,
        connection: ConnectionId,
        input: connection::Input<Payload>,
        scratch: &mut Scratch,
    ) {
        self.feed(setup, Input::Connection { connection, input }, scratch);
    }

    pub(super) fn session(
        &mut self,
        setup: &Setup,
        user: UserId,
        generation: Generation,
        input: session::Input<Payload>,
        scratch: &mut Scratch,
    ) -> Result<(), Refusal> {
        self.answer(setup, Input::Session { user, generation, input }, scratch).map(|_| ())
    }

    /// Feeds the gateway. Returns the number of frames that it sent.
    pub(super) fn feed(&mut self, setup: &Setup, input: Input, scratch: &mut Scratch) -> usize {
        self.answer(setup, input, scratch).unwrap_or(0)
    }

    pub(super) fn answer(&mut self, setup: &Setup, input: Input, scratch: &mut Scratch) -> Result<usize, Refusal> {
        let answer = match setup.mistake {
            None => self.step(setup, input, scratch),
            Some(mistake) => {
                let mut answer = Ok(0);
                for input in mistake.fed(self, input) {
                    let before = answer.unwrap_or(0);
                    answer = self.step(setup, input, scratch).map(|sent| before + sent);
                }
                answer
            }
        };
        for (user, generation, run) in std::mem::take(&mut scratch.halted) {
            // The agent does not know yet. Its further emits must be refused.
            let input = session::Input::Run { run, input: run::Input::Think, payload: None };
            let answer = self.session(setup, user, generation, input, scratch);
            if !matches!(answer, Err(Refusal::RunEnded | Refusal::OutOfOrder | Refusal::Retired)) {
                self.violated("RUN-3");
            }
        }
        answer
    }

    /// Takes one step of the gateway and dispatches its outputs. Returns the number of frames that it sent.
    fn step(&mut self, setup: &Setup, input: Input, scratch: &mut Scratch) -> Result<usize, Refusal> {
        if let Some(drawings) = &mut scratch.drawings {
            drawings.push(draw::input(&input));
        }
        let (waiting, begun) = (self.unconfirmed(&input), self.begun_runs());
        let refused = refusals::may_refuse(&input).then(|| self.refused());
        let room = self.scarce_room(setup);
        let step = self.gateway.step(&setup.bounds, input, &mut scratch.outputs);
        if let Err(lockstep_model::Violation(property)) = self.gateway.check(&setup.bounds) {
            self.violated(property);
        }
        if let Some(refused) = refused {
            self.check_refusals(setup, &refused);
        }
        let mut outputs = std::mem::take(&mut scratch.outputs.list);
        if let Some(mistake) = setup.mistake {
            (mistake.tamper)(self, &mut outputs);
        }
        let mut sent = 0;
        for output in outputs.drain(..) {
            sent += usize::from(matches!(output, gateway::Output::Send { .. }));
            if let Some(drawings) = &mut scratch.drawings {
                drawings.extend(draw::output(self, &output));
            }
            self.dispatch(setup, output, scratch);
        }
        scratch.outputs.list = outputs;
        self.check_losses(waiting, scratch);
        self.check_told_of_room(setup, room, scratch);
        self.check_begun(begun);
        step.map(|_| sent)
    }
}
