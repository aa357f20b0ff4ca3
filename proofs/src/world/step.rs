//! What an action does: inputs to the production machines, and the world's answers to what they order.

use std::collections::VecDeque;
use std::sync::Arc;

use litemap::LiteMap;
use lockstep_model::auth::{Grant, Lifetime, Verdict};
use lockstep_model::gateway::{self, Order, Place};
use lockstep_model::stream::Snapshot;
use lockstep_model::{
    Cause, Code, ConnectionId, CredentialId, Epoch, Frame, Gateway, Generation, MessageId, Offset, Refusal, Request,
    RunId, Scope, Timer, ToolId, UserId, client, connection, node, run, session,
};

use super::action::{Action, Deed, Ruling, connection_id, message_id, run_id};
use super::mistake;
use super::setup::{Setup, Wire};
use super::state::{Agent, Asked, Judge, Left, Log, Payload, Peer, Scratch, Socket, World, Write};

type Input = gateway::Input<Payload>;

/// Long enough to be no zero; no machine sees a clock.
fn lifetime() -> Lifetime {
    Lifetime::new(core::time::Duration::from_secs(600)).unwrap_or_else(|| unreachable!("not zero"))
}

impl World {
    /// The node serves, and every client has been told to connect.
    pub fn new(setup: &Setup) -> Self {
        let mut world = Self {
            gateway: Arc::new(Gateway::new()),
            peers: Vec::new(),
            sockets: LiteMap::new(),
            verifier: Vec::new(),
            logs: (0..setup.users()).map(|_| Arc::new(Log::default())).collect(),
            agents: LiteMap::new(),
            timers: Vec::new(),
            left: Left {
                deaths: setup.deaths,
                cancels: setup.cancels,
                cuts: setup.cuts,
                crashes: setup.crashes,
                log_failures: setup.log_failures,
                restore_failures: setup.restore_failures,
                rejections: setup.rejections,
                silences: setup.silences,
                expiries: setup.expiries,
                revocations: setup.revocations,
                pins: setup.pins,
                drains: setup.drains,
                lingers: setup.lingers,
                garbage: setup.garbage,
            },
            judge: Judge::default(),
            broken: None,
        };
        let mut scratch = Scratch::default();
        world.feed(setup, Input::Node(node::Input::Started), &mut scratch);
        for (index, client) in setup.clients.iter().enumerate() {
            let begin = if client.earliest { lockstep_model::frame::From::Earliest } else { Default::default() };
            let token = client.user << 4;
            world.peers.push(Peer {
                client: lockstep_model::Client::new(begin),
                sent: 0,
                opening: false,
                backoff: false,
                token,
                wants_token: false,
            });
            let asked = Generation(0);
            world.client(setup, index, client::Input::Token { asked, token }, &mut scratch);
            world.client(setup, index, client::Input::Connect, &mut scratch);
        }
        world
    }

    /// Does one action.
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
            Action::Rule(index, ruling) => self.rule(setup, usize::from(index), ruling, scratch),
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
                let input = client::Input::Send { message: MessageId(u64::from(message)), payload: message };
                self.client(setup, index, input, scratch);
            }
            Action::Cancel(id, run) => {
                self.left.cancels -= 1;
                self.push_up(id, Request::Cancel { run });
            }
            Action::Garbage(id) => {
                self.left.garbage -= 1;
                self.push_up(id, Request::Invalid(Code::UnknownType));
            }
            Action::Backoff(peer) => {
                self.peers[usize::from(peer)].backoff = false;
                self.client(setup, usize::from(peer), client::Input::Expired(Timer::Backoff), scratch);
            }
            Action::Token(peer) => {
                let peer = usize::from(peer);
                let state = &mut self.peers[peer];
                state.wants_token = false;
                state.token += 1;
                let (asked, token) = (state.client.asked(), state.token);
                self.client(setup, peer, client::Input::Token { asked, token }, scratch);
            }
            Action::Agent(run, deed) => self.agent(setup, run, deed, scratch),
            Action::Persist(user) => self.persist(setup, usize::from(user), scratch),
            Action::Refuse(user, written) => self.refuse(setup, usize::from(user), written, scratch),
            Action::Restore(user) => self.restore(setup, usize::from(user), scratch),
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
            Action::Pin(mode) => {
                self.left.pins -= 1;
                self.feed(setup, Input::Node(node::Input::Pin(Some(mode))), scratch);
            }
            Action::Drain => {
                self.left.drains -= 1;
                self.judge.drained = true;
                self.feed(setup, Input::Node(node::Input::Drain), scratch);
            }
        }
        if setup.wire == Wire::Instant {
            self.rush(setup, scratch);
        }
        self.judge_state();
    }

    /// Does at once what concerns one client and its gateway's side alone.
    fn rush(&mut self, setup: &Setup, scratch: &mut Scratch) {
        loop {
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
                self.rule(setup, 0, Ruling::True, scratch);
            } else {
                return;
            }
        }
    }

    /// A connection that is closing towards nobody.
    fn leftover(&self) -> Option<ConnectionId> {
        let closing = |id: ConnectionId| self.gateway.lobby().get(&id).is_some_and(lockstep_model::Connection::is_closing);
        let mut sockets = self.sockets.iter();
        let over = |(id, socket): &(&ConnectionId, &Socket)| {
            !socket.server_gone && (socket.cut || socket.client_gone) && closing(**id)
        };
        sockets.find(over).map(|(id, _)| *id)
    }

    fn server_notices(&mut self, setup: &Setup, id: ConnectionId, scratch: &mut Scratch) {
        let cause = if self.socket_at(id).cut { Cause::Lost } else { Cause::PeerClosed };
        self.connection(setup, id, connection::Input::Gone(cause), scratch);
        self.drop_socket(id);
    }

    fn fast_reader(&self, setup: &Setup) -> Option<ConnectionId> {
        let fast = |socket: &Socket| setup.clients[usize::from(socket.peer)].fast;
        let mut sockets = self.sockets.iter();
        sockets.find(|(_, socket)| fast(socket) && socket.woken && !socket.server_gone).map(|(id, _)| *id)
    }

    fn client_notices(&mut self, setup: &Setup, id: ConnectionId, scratch: &mut Scratch) {
        let socket = self.socket_at(id);
        let (peer, generation) = (usize::from(socket.peer), socket.generation);
        self.let_go(id);
        let input = client::Input::Closed { socket: generation, code: Cause::Lost.code() };
        self.client(setup, peer, input, scratch);
    }

    /// A socket that an action or an order has just named.
    pub fn socket_at(&self, id: ConnectionId) -> &Socket {
        self.sockets.get(&id).unwrap_or_else(|| unreachable!("{id:?} has no socket"))
    }

    fn socket(&mut self, id: ConnectionId) -> Option<&mut Socket> {
        self.sockets.get_mut(&id)
    }

    /// A user's log, to be changed.
    pub fn log(&mut self, user: usize) -> &mut Log {
        Arc::make_mut(&mut self.logs[user])
    }

    fn open(&mut self, setup: &Setup, peer: u8, scratch: &mut Scratch) {
        let index = usize::from(peer);
        self.peers[index].opening = false;
        let generation = self.peers[index].client.socket();
        let id = connection_id(peer, generation.0);
        self.sockets.insert(id, Socket::new(peer, generation));
        let mode = self.gateway.node().mode();
        self.feed(setup, Input::Accept { connection: id }, scratch);
        self.judge_accept(id, mode);
        if self.sockets.get(&id).is_some_and(|socket| !socket.server_gone) {
            self.connection(setup, id, connection::Input::Opened, scratch);
            self.client(setup, index, client::Input::Opened { socket: generation }, scratch);
        }
    }

    fn up(&mut self, setup: &Setup, id: ConnectionId, scratch: &mut Scratch) {
        let Some(mut request) = self.socket(id).and_then(|socket| socket.up.pop_front()) else { return };
        if let Request::Message { message, run, .. } = &mut request {
            let message = u8::try_from(message.0).unwrap_or(0);
            let arrival = &mut self.judge.arrivals[usize::from(message)];
            *run = run_id(message, *arrival);
            *arrival += 1;
        }
        let before = self.open_runs();
        self.connection(setup, id, connection::Input::Received(request), scratch);
        self.judge_admission(before);
    }

    fn pull(&mut self, setup: &Setup, id: ConnectionId, scratch: &mut Scratch) {
        if let Some(socket) = self.socket(id) {
            socket.woken = false;
        }
        let sent = self.feed(setup, Input::Pull { connection: id, budget: setup.pull }, scratch);
        if sent >= setup.pull
            && let Some(socket) = self.socket(id)
        {
            socket.woken = true;
        }
    }

    fn rule(&mut self, setup: &Setup, index: usize, ruling: Ruling, scratch: &mut Scratch) {
        let asked = self.verifier.remove(index);
        let user = self.user_of_token(asked.token);
        let grant =
            Grant { user, credential: CredentialId(u64::from(asked.token)), generation: asked.generation };
        let verdict = match ruling {
            Ruling::True => Verdict::Valid { grant, lifetime: lifetime() },
            Ruling::Rejected => Verdict::Rejected,
            Ruling::Unavailable => Verdict::Unavailable,
        };
        if ruling != Ruling::True {
            self.left.rejections -= 1;
        }
        self.judge_verdict(&asked, verdict);
        let input = connection::Input::Verdict { attempt: asked.attempt, verdict };
        self.connection(setup, asked.connection, input, scratch);
    }

    fn agent(&mut self, setup: &Setup, run: RunId, deed: Deed, scratch: &mut Scratch) {
        let Some(agent) = self.agents.get_mut(&run) else { return };
        let (user, cell) = (agent.user, agent.cell);
        let open = agent.is_open(&self.gateway, run);
        let input = match deed {
            Deed::Start => run::Input::Start,
            Deed::Think => {
                agent.thinking = agent.thinking.saturating_sub(u8::from(open));
                run::Input::Think
            }
            Deed::OpenTool => {
                agent.tools -= 1;
                run::Input::OpenTool(ToolId(1))
            }
            Deed::CloseTool => run::Input::CloseTool(ToolId(1), run::ToolEnd::Success),
            Deed::Complete => run::Input::Complete,
            Deed::Fail => run::Input::Fail,
            Deed::Vanish => run::Input::Abandon,
            Deed::Hang => {
                agent.silent = true;
                self.left.deaths -= 1;
                return;
            }
        };
        if matches!(deed, Deed::Fail | Deed::Vanish) {
            self.left.deaths -= 1;
        }
        let before = self.appended(user);
        let input = session::Input::Run { run, input, payload: None };
        let answer = self.session(setup, user, cell, input, scratch);
        self.judge_emit(user, deed, before, answer, open);
        if setup.bounds.failures > 0 && open && answer.is_ok() {
            match deed {
                Deed::Complete => self.judge_end(user, false),
                Deed::Fail | Deed::Vanish => self.judge_end(user, true),
                Deed::Start | Deed::Think | Deed::OpenTool | Deed::CloseTool | Deed::Hang => {}
            }
        }
    }

    /// The log takes a write and confirms it. A write that it has already is confirmed again, not written twice.
    fn persist(&mut self, setup: &Setup, user: usize, scratch: &mut Scratch) {
        let Some(write) = self.log(user).writes.pop_front() else { return };
        self.store(user, &write);
        let input = session::Input::Persisted { batch: write.batch, offset: Offset(write.at) };
        let _ = self.session(setup, UserId(user as u64), write.cell, input, scratch);
    }

    fn refuse(&mut self, setup: &Setup, user: usize, written: u8, scratch: &mut Scratch) {
        self.left.log_failures -= 1;
        let writes = std::mem::take(&mut self.log(user).writes);
        for write in writes.iter().take(usize::from(written)) {
            self.store(user, write);
        }
        if let Some(Write { cell, batch, .. }) = writes.front() {
            let input = session::Input::Failed { batch: *batch };
            let _ = self.session(setup, UserId(user as u64), *cell, input, scratch);
        }
    }

    fn restore(&mut self, setup: &Setup, user: usize, scratch: &mut Scratch) {
        let log = self.log(user);
        let Some((generation, attempt)) = log.restore.take() else { return };
        let snapshot = Snapshot { epoch: Epoch(1), trimmed: Offset(log.trimmed), entries: log.readable() };
        let input = session::Input::Restored { attempt, snapshot };
        let _ = self.session(setup, UserId(user as u64), generation, input, scratch);
    }

    fn expire(&mut self, setup: &Setup, place: Place, timer: Timer, scratch: &mut Scratch) {
        self.timers.retain(|armed| *armed != (place, timer));
        match timer {
            Timer::Credential => self.left.expiries -= 1,
            Timer::Verification => self.left.silences -= 1,
            Timer::Linger => self.left.lingers = self.left.lingers.saturating_sub(1),
            _ => {}
        }
        match place {
            Place::Node => {
                self.feed(setup, Input::Node(node::Input::Expired(timer)), scratch);
            }
            Place::Connection(id) => {
                if timer == Timer::Verification {
                    self.verifier.retain(|asked| asked.connection != id);
                }
                self.judge_expiry(id, timer);
                self.connection(setup, id, connection::Input::Expired(timer), scratch);
            }
            Place::Session(user, generation) => {
                let input = session::Input::Expired(lockstep_model::timer::Owner::Session, timer);
                let _ = self.session(setup, user, generation, input, scratch);
            }
            Place::Run(user, generation, run) => {
                if setup.bounds.failures > 0 {
                    self.judge_end(user, true);
                }
                let input = session::Input::Expired(lockstep_model::timer::Owner::Run(run), timer);
                let _ = self.session(setup, user, generation, input, scratch);
            }
        }
    }

    fn crash(&mut self, setup: &Setup, kept: usize, scratch: &mut Scratch) {
        self.left.crashes -= 1;
        for user in 0..self.logs.len() {
            let writes = std::mem::take(&mut self.log(user).writes);
            for write in writes.iter().take(kept) {
                self.store(user, write);
            }
            self.log(user).restore = None;
        }
        self.gateway = Arc::new(Gateway::new());
        self.verifier.clear();
        self.agents.clear();
        self.timers.clear();
        self.judge.failures = [0; 2];
        for socket in self.sockets.iter_mut().map(|(_, socket)| socket) {
            socket.crash();
        }
        self.sockets.retain(|_, socket| !socket.client_gone);
        if !self.judge.drained {
            self.feed(setup, Input::Node(node::Input::Started), scratch);
        }
    }

    fn revoke(&mut self, setup: &Setup, scratch: &mut Scratch) {
        self.left.revocations -= 1;
        self.judge.generation[0] += 1;
        let oldest = Generation(self.judge.generation[0]);
        let scope = Scope::All(oldest);
        self.judge_revocation(UserId(0), oldest);
        self.feed(setup, Input::Revoke { user: UserId(0), scope }, scratch);
    }

    /// A frame reaches the client.
    fn deliver(&mut self, setup: &Setup, id: ConnectionId, frame: Frame<Payload>, scratch: &mut Scratch) {
        let Some(socket) = self.sockets.get(&id).filter(|socket| !socket.client_gone && !socket.cut) else { return };
        let (peer, generation) = (usize::from(socket.peer), socket.generation);
        if matches!(frame, Frame::Close(_)) {
            self.let_go(id);
        }
        let input = client::Input::Frame { socket: generation, connection: id, frame };
        self.client(setup, peer, input, scratch);
    }

    /// Feeds a client and does what it orders.
    pub fn client(&mut self, setup: &Setup, peer: usize, input: client::Input<Payload>, scratch: &mut Scratch) {
        let mut orders = std::mem::take(&mut scratch.client);
        let _ = self.peers[peer].client.step(&setup.bounds, input, &mut orders);
        for order in orders.drain(..) {
            self.client_order(peer, order);
        }
        scratch.client = orders;
    }

    fn client_order(&mut self, peer: usize, order: client::Output<Payload>) {
        let id = |socket: Generation| connection_id(u8::try_from(peer).unwrap_or(u8::MAX), socket.0);
        match order {
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
            client::Output::Pause(_) => self.peers[peer].backoff = true,
            client::Output::Disarm(Timer::Backoff) => self.peers[peer].backoff = false,
            client::Output::Accepted { message, .. } => self.judge_accepted(message),
            client::Output::Unknown { .. }
            | client::Output::Deliver(_)
            | client::Output::Reset { .. }
            | client::Output::Refused { .. }
            | client::Output::Error(_)
            | client::Output::Arm(..)
            | client::Output::Disarm(_) => {}
        }
    }

    fn push_up(&mut self, id: ConnectionId, request: Request<Payload>) {
        if let Some(socket) = self.socket(id).filter(|socket| !socket.cut && !socket.server_gone) {
            socket.up.push_back(request);
        }
    }

    /// The client lets go of a socket: what was on its way to it is lost, what it has written still arrives.
    fn let_go(&mut self, id: ConnectionId) {
        if let Some(socket) = self.socket(id) {
            socket.client_gone = true;
            socket.down.clear();
        }
        self.drop_socket(id);
    }

    fn drop_socket(&mut self, id: ConnectionId) {
        if self.sockets.get(&id).is_some_and(|socket| socket.client_gone && socket.server_gone) {
            self.sockets.remove(&id);
        }
    }

    fn connection(
        &mut self,
        setup: &Setup,
        connection: ConnectionId,
        input: connection::Input<Payload>,
        scratch: &mut Scratch,
    ) {
        self.feed(setup, Input::Connection { connection, input }, scratch);
    }

    fn session(
        &mut self,
        setup: &Setup,
        user: UserId,
        generation: Generation,
        input: session::Input<Payload>,
        scratch: &mut Scratch,
    ) -> Result<(), Refusal> {
        self.answer(setup, Input::Session { user, generation, input }, scratch).map(|_| ())
    }

    /// Feeds the gateway; returns how many frames it sent.
    fn feed(&mut self, setup: &Setup, input: Input, scratch: &mut Scratch) -> usize {
        self.answer(setup, input, scratch).unwrap_or(0)
    }

    fn answer(&mut self, setup: &Setup, input: Input, scratch: &mut Scratch) -> Result<usize, Refusal> {
        let mut sent = 0;
        let mut answer = Ok(0);
        for input in mistake::feed(setup.mistake, self, input).into_iter().flatten() {
            let gateway = Arc::make_mut(&mut self.gateway);
            let step = gateway.step(&setup.bounds, input, &mut scratch.orders);
            if let Err(lockstep_model::Violation(property)) = gateway.check(&setup.bounds) {
                self.broken.get_or_insert(property);
            }
            answer = step.map(|_| 0);
            let mut orders = std::mem::take(&mut scratch.orders.list);
            if let Some(mistake) = setup.mistake {
                mistake.tamper(self, &mut orders);
            }
            for order in orders.drain(..) {
                sent += usize::from(matches!(order, gateway::Output::Send { .. }));
                self.order(setup, order, scratch);
            }
            scratch.orders.list = orders;
        }
        for (user, generation, run) in std::mem::take(&mut scratch.halted) {
            // The agent does not know yet: whatever it still says must be refused.
            let input = session::Input::Run { run, input: run::Input::Think, payload: None };
            if self.session(setup, user, generation, input, scratch).is_ok() {
                self.broken.get_or_insert("RUN-3");
            }
        }
        answer.map(|_: usize| sent)
    }

    /// Does what the gateway orders.
    fn order(&mut self, setup: &Setup, order: gateway::Output<Payload>, scratch: &mut Scratch) {
        match order {
            gateway::Output::Refused { connection, cause } => {
                let peer = self.sockets.get(&connection).map_or(0, |socket| usize::from(socket.peer));
                if let Some(Socket { generation, .. }) = self.sockets.remove(&connection) {
                    self.client(setup, peer, client::Input::Closed { socket: generation, code: cause.code() }, scratch);
                }
            }
            gateway::Output::Verify { connection, attempt, token } => {
                let user = usize::try_from(self.user_of_token(token).0).unwrap_or(0);
                let generation = Generation(self.judge.generation[user]);
                if let Some(socket) = self.socket(connection) {
                    socket.newest = attempt;
                }
                self.verifier.push(Asked { connection, attempt, token, generation });
            }
            gateway::Output::Wake { connection } => {
                if let Some(socket) = self.socket(connection) {
                    socket.woken = true;
                }
            }
            gateway::Output::Send { connection, frame } => {
                self.judge_frame(setup, connection, &frame);
                match setup.wire {
                    Wire::Instant => self.deliver(setup, connection, frame, scratch),
                    Wire::Queued(_) => {
                        if let Some(socket) = self.socket(connection).filter(|s| !s.cut && !s.client_gone) {
                            socket.down.push_back(frame);
                        }
                    }
                }
            }
            gateway::Output::Closed { connection, cause } => {
                self.judge_closed(connection, cause);
                self.verifier.retain(|asked| asked.connection != connection);
                if let Some(socket) = self.socket(connection) {
                    socket.server_gone = true;
                    socket.up.clear();
                    socket.woken = false;
                }
                self.drop_socket(connection);
            }
            gateway::Output::Session { user, generation, order } => {
                self.session_order(setup, user, generation, order, scratch);
            }
            gateway::Output::Probe | gateway::Output::Stopped => {}
            gateway::Output::Arm(place, timer, _) => self.arm(setup, place, timer),
            gateway::Output::Disarm(place, timer) => self.timers.retain(|armed| *armed != (place, timer)),
        }
    }

    fn session_order(
        &mut self,
        setup: &Setup,
        user: UserId,
        cell: Generation,
        order: Order<Payload>,
        scratch: &mut Scratch,
    ) {
        let index = usize::try_from(user.0).unwrap_or(0);
        match order {
            Order::Restore { attempt } => self.log(index).restore = Some((cell, attempt)),
            Order::Write { batch, after, event } => {
                let log = self.log(index);
                let before = log.writes.iter().filter(|write| write.batch == batch).count() as u64;
                log.writes.push_back(Write { cell, batch, at: after.0 + before + 1, event });
            }
            Order::Trim { through } => self.judge_trim(setup, index, through),
            Order::Launch { run, .. } => {
                self.judge_launch(setup, user, run);
                let agent = Agent { user, cell, thinking: setup.thinking, tools: setup.tools, silent: false };
                self.agents.insert(run, agent);
            }
            Order::Durable { run, offset } => self.judge_durable(index, run, offset),
            Order::Halt { run } => {
                self.agents.remove(&run);
                scratch.halted.push((user, cell, run));
            }
        }
    }

    fn arm(&mut self, setup: &Setup, place: Place, timer: Timer) {
        let tracked = match timer {
            Timer::Credential => setup.expiries > 0,
            Timer::Warning => setup.expiries > 0,
            Timer::Verification => setup.silences > 0,
            Timer::Breaker => setup.bounds.failures > 0,
            Timer::Allowance | Timer::Probe => false,
            _ => true,
        };
        if tracked && let Err(place_in_order) = self.timers.binary_search(&(place, timer)) {
            self.timers.insert(place_in_order, (place, timer));
        }
    }
}

impl Socket {
    fn new(peer: u8, generation: Generation) -> Self {
        Self {
            peer,
            generation,
            up: VecDeque::new(),
            down: VecDeque::new(),
            cut: false,
            client_gone: false,
            server_gone: false,
            woken: false,
            valid: None,
            newest: lockstep_model::Attempt(0),
            seen: None,
            owes_reset: false,
            reset: false,
            closing: false,
        }
    }

    /// The gateway's side dies: nothing more is read, what is in flight is lost.
    fn crash(&mut self) {
        self.server_gone = true;
        self.up.clear();
        self.down.clear();
        self.woken = false;
        self.valid = None;
        self.seen = None;
    }
}

impl Agent {
    fn is_open(&self, gateway: &Gateway<Payload>, run: RunId) -> bool {
        gateway
            .cells()
            .get(&self.user)
            .is_some_and(|cell| cell.generation == self.cell && cell.session.runs().contains_key(&run))
    }
}
