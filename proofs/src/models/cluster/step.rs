//! Executes an action: feeds the machines and dispatches their outputs.

use std::collections::{BTreeMap, VecDeque};

use lockstep_model::auth::{Grant, Verdict};
use lockstep_model::frame::ReadFrom;
use lockstep_model::gateway::{Input, Output, Outputs, Place, SessionOutput};
use lockstep_model::session::Input as S;
use lockstep_model::stream::Snapshot;
use lockstep_model::timer::Owner;
use lockstep_model::{
    Bounds, Cause, Client, ConnectionId, CredentialId, Gateway, Generation, Incarnation, MessageId, Offset, Request,
    RevocationGeneration, RunId, Successor, Tenure, ThreadId, Timer, TokenRequestId, VerificationId, client,
    connection, node, run,
};

use super::engine::{Answer, Call, Engine};
use super::{Action, Budget, Mistake, Node, Observed, Pair, Payload, Relay, Side, State, USER};
use crate::models::harness::{lifetime, small};
use crate::models::world::action::run_id;

/// The client's credential.
pub(super) const TOKEN: Payload = 0;

/// The rest of a step, in this order.
#[derive(Default)]
pub(super) struct Work {
    pub(super) inputs: VecDeque<(usize, ConnectionId, connection::Input<Payload>)>,
    pub(super) up: VecDeque<Request<Payload>>,
    pub(super) verdicts: VecDeque<(usize, ConnectionId, VerificationId, RevocationGeneration)>,
    pub(super) pulls: VecDeque<(usize, ConnectionId)>,
}

pub(super) fn bounds() -> Bounds {
    let small = small();
    Bounds { connections: 2, retained: 16, retained_turns: 16, pending: 8, failures: 0, outbox: 8, ..small }
}

impl Node {
    fn new(lives: u64) -> Self {
        Self {
            gateway: Gateway::hosting(),
            lives,
            calls: VecDeque::new(),
            timers: Vec::new(),
            agents: BTreeMap::new(),
            early: None,
            ended: false,
            stopped: false,
        }
    }
}

impl State {
    pub(super) fn new(pair: &Pair, left: Budget) -> Self {
        let side = Side {
            client: Client::new(ReadFrom::default()),
            sent: 0,
            opening: false,
            pausing: false,
            wants_token: false,
            auth: None,
            link: None,
        };
        let mut state = Self {
            nodes: [Node::new(1), Node::new(1)],
            side,
            relay: None,
            log: Engine::new(),
            late: None,
            left,
            observed: Observed::default(),
            broken: None,
        };
        let mut work = Work::default();
        for node in 0..2 {
            state.begin(pair, node, &mut work);
        }
        state.client(client::Input::Token { asked: TokenRequestId(0), token: TOKEN }, &mut work);
        state.client(client::Input::Connect, &mut work);
        state
    }

    pub(super) fn incarnation(&self, node: usize) -> Incarnation {
        Incarnation(2 * self.nodes[node].lives + node as u64)
    }

    /// A process begins to serve, as a member.
    fn begin(&mut self, pair: &Pair, node: usize, work: &mut Work) {
        self.log.leases.insert(self.incarnation(node));
        self.feed(pair, node, Input::Node(node::Input::Started), work);
    }

    pub(super) fn act(&mut self, pair: &Pair, action: Action) {
        let mut work = Work::default();
        match action {
            Action::Execute(node) => self.execute(pair, node),
            Action::Answer(node) => self.answer(pair, node, &mut work),
            Action::Lose(node) => {
                self.left.losses -= 1;
                self.nodes[node].calls.pop_front();
            }
            Action::Delay(node) => {
                self.left.losses -= 1;
                self.late = self.nodes[node].calls.pop_front().map(|(call, _)| call);
            }
            Action::Arrive => {
                if let Some(call) = self.late.take() {
                    let before = self.log.entries.len();
                    let _ = self.log.call(&call, pair.mistake);
                    self.check_log(before);
                }
            }
            Action::Vanish => self.late = None,
            Action::EndLease(node) => {
                self.left.expiries -= 1;
                self.log.leases.remove(&self.incarnation(node));
            }
            Action::Learn(node) => self.lose(pair, node, &mut work),
            Action::ExpireDead => {
                let dead: Vec<_> = self.log.leases.iter().copied().filter(|lease| self.is_dead(*lease)).collect();
                self.log.leases.retain(|lease| !dead.contains(lease));
            }
            Action::Crash(node) => self.crash(pair, node, &mut work),
            Action::Drain(node) => {
                self.left.drains -= 1;
                let input = node::Input::Drain { successor: Successor::Waiting };
                self.feed(pair, node, Input::Node(input), &mut work);
            }
            Action::Expire(node, place, timer) => self.expire(pair, node, (place, timer), &mut work),
            Action::Connect(node) => self.connect(pair, node, &mut work),
            Action::Pause => {
                self.side.pausing = false;
                let timer = if self.side.client.is_ready() { Timer::Leave } else { Timer::Backoff };
                self.client(client::Input::Expired(timer), &mut work);
            }
            Action::Token => {
                self.side.wants_token = false;
                let asked = self.side.client.asked();
                self.client(client::Input::Token { asked, token: TOKEN }, &mut work);
            }
            Action::Cut => {
                self.left.cuts -= 1;
                self.unlink(Cause::Lost, &mut work);
            }
            Action::Send => {
                self.left.messages -= 1;
                let message = self.side.sent;
                self.side.sent += 1;
                let input = client::Input::Send { message: MessageId(message.into()), payload: message, size: 0 };
                self.client(input, &mut work);
            }
            Action::Relay => self.open_relay(pair, &mut work),
            Action::Agent(node, run) => self.agent(pair, node, run, &mut work),
        }
        self.settle(pair, &mut work);
        for node in 0..2 {
            let at = &mut self.nodes[node];
            if at.ended && at.calls.is_empty() && !at.stopped {
                at.stopped = true;
                self.log.leases.remove(&self.incarnation(node));
            }
        }
    }

    /// Does the rest of the step, until nothing is left.
    fn settle(&mut self, pair: &Pair, work: &mut Work) {
        while self.broken.is_none() {
            if let Some((node, connection, input)) = work.inputs.pop_front() {
                self.feed(pair, node, Input::Connection { connection, input }, work);
            } else if let Some(request) = work.up.pop_front() {
                self.up(pair, request, work);
            } else if let Some((node, connection, attempt, generation)) = work.verdicts.pop_front() {
                let grant = Grant { user: USER, credential: CredentialId(1), generation };
                let verdict = Verdict::Valid { grant, lifetime: lifetime() };
                let input = connection::Input::Verdict { attempt, verdict };
                self.feed(pair, node, Input::Connection { connection, input }, work);
            } else if let Some((node, connection)) = work.pulls.pop_front() {
                let pull = Input::Pull { connection, budget: 8 };
                self.feed(pair, node, pull, work);
            } else {
                return;
            }
        }
    }

    /// A request of the client arrives.
    fn up(&mut self, pair: &Pair, mut request: Request<Payload>, work: &mut Work) {
        let Some(link) = &self.side.link else { return };
        let (mut node, mut connection) = (link.node, link.connection);
        if matches!(request, Request::Auth { .. }) {
            self.side.auth = Some(request.clone());
        }
        if let Some((far, id)) = self.relay.as_ref().and_then(|relay| relay.far) {
            (node, connection) = (far, id);
        }
        if let Request::Message { message, thread, run, .. } = &mut request {
            *thread = ThreadId(0);
            *run = run_id(u8::try_from(message.0).unwrap_or(0), self.observed.arrivals);
            self.observed.arrivals += 1;
        }
        self.feed(pair, node, Input::Connection { connection, input: connection::Input::Received(request) }, work);
    }

    fn execute(&mut self, pair: &Pair, node: usize) {
        let Some((call, _)) = self.nodes[node].calls.front().cloned() else { return };
        if let Call::Release { tenure } = call {
            self.check_release(node, tenure);
        }
        let before = self.log.entries.len();
        let answer = self.log.call(&call, pair.mistake);
        self.check_log(before);
        self.expect(answer != Answer::Broken, "STR-2");
        if let Some((_, place)) = self.nodes[node].calls.front_mut() {
            *place = Some(answer);
        }
    }

    fn answer(&mut self, pair: &Pair, node: usize, work: &mut Work) {
        let Some((call, Some(answer))) = self.nodes[node].calls.pop_front() else { return };
        let Some(generation) = call.generation() else { return };
        match (call, answer) {
            (Call::Acquire { attempt, .. }, Answer::Granted(tenure)) => {
                let read = self.nodes[node].early.take();
                let read = read.map_or((Call::Read { generation, attempt, tenure }, None), |entries| {
                    (Call::Read { generation, attempt, tenure }, Some(Answer::Held(entries)))
                });
                self.nodes[node].calls.push_front(read);
            }
            (Call::Acquire { attempt, .. }, Answer::Elsewhere(owner)) => {
                self.session(pair, node, generation, S::Elsewhere { attempt, owner }, work);
            }
            (Call::Acquire { attempt, .. }, Answer::NoMember) => {
                self.session(pair, node, generation, S::NotRestored { attempt }, work);
                self.lose(pair, node, work);
            }
            (Call::Read { attempt, tenure, .. }, Answer::Held(entries)) => {
                let input = S::Restored { attempt, snapshot: snapshot(tenure, entries) };
                self.session(pair, node, generation, input, work);
                self.check_restored(node);
            }
            (Call::Read { attempt, .. }, _) => {
                self.session(pair, node, generation, S::NotRestored { attempt }, work);
            }
            (Call::Append { batch, after, events, .. }, Answer::Appended) => {
                for offset in (after + 1..).take(events.len()).map(Offset) {
                    self.session(pair, node, generation, S::Persisted { batch, offset, record: None }, work);
                }
            }
            (Call::Confirm { attempt, .. }, Answer::Confirmed) => {
                self.session(pair, node, generation, S::Confirmed { attempt }, work);
            }
            (Call::Append { .. } | Call::Confirm { .. }, Answer::Fenced) => {
                self.observed.fenced = true;
                self.session(pair, node, generation, S::Fenced, work);
                self.check_lost(node, generation);
            }
            (_, _) => {}
        }
    }

    /// The process learns that its lease has ended, and joins again.
    fn lose(&mut self, pair: &Pair, node: usize, work: &mut Work) {
        if let Some(generation) = self.nodes[node].gateway.slots().get(&USER).map(|slot| slot.generation) {
            self.session(pair, node, generation, S::Lost, work);
            self.check_lost(node, generation);
        }
        self.nodes[node].calls.clear();
        self.nodes[node].lives += 1;
        self.log.leases.insert(self.incarnation(node));
    }

    fn crash(&mut self, pair: &Pair, node: usize, work: &mut Work) {
        self.left.crashes -= 1;
        self.nodes[node] = Node::new(self.nodes[node].lives + 1);
        if let Some(relay) = self.relay.clone() {
            if relay.via == node {
                self.relay = None;
                work.inputs.extend(relay.far.map(|(far, id)| (far, id, connection::Input::Gone(Cause::Lost))));
            } else if relay.far.is_some() {
                self.relay = None;
                work.inputs.push_back((relay.via, relay.near, connection::Input::Close(Cause::Moved)));
            }
        }
        if self.side.link.as_ref().is_some_and(|link| link.node == node) {
            self.unlink(Cause::Lost, work);
        }
        self.begin(pair, node, work);
    }

    fn expire(&mut self, pair: &Pair, node: usize, armed: (Place, Timer), work: &mut Work) {
        self.nodes[node].timers.retain(|timer| *timer != armed);
        let (place, timer) = armed;
        let input = match place {
            Place::Node => Input::Node(node::Input::Expired(timer)),
            Place::Connection(connection) => Input::Connection { connection, input: connection::Input::Expired(timer) },
            Place::Session(user, generation) => {
                Input::Session { user, generation, input: S::Expired(Owner::Session, timer) }
            }
            Place::Run(user, generation, run) => {
                Input::Session { user, generation, input: S::Expired(Owner::Run(run), timer) }
            }
        };
        self.feed(pair, node, input, work);
    }

    fn agent(&mut self, pair: &Pair, node: usize, run: RunId, work: &mut Work) {
        let Some(generation) = self.nodes[node].agents.get(&run).copied() else { return };
        let state =
            self.nodes[node].session().and_then(|session| session.runs().get(&run)).map(lockstep_model::Run::state);
        let (input, payload) = match state {
            Some(run::State::Accepted) => (run::Input::Start, 0x10),
            _ => (run::Input::Complete, 0x14),
        };
        self.session(pair, node, generation, S::Run { run, input, payload: Some(payload) }, work);
    }

    fn session(&mut self, pair: &Pair, node: usize, generation: Generation, input: S<Payload>, work: &mut Work) {
        self.feed(pair, node, Input::Session { user: USER, generation, input }, work);
    }

    /// Takes one step of a gateway and dispatches its outputs.
    pub(super) fn feed(&mut self, pair: &Pair, node: usize, input: Input<Payload>, work: &mut Work) {
        let mut outputs = Outputs::new();
        let gateway = &mut self.nodes[node].gateway;
        let _ = gateway.step(&bounds(), input, &mut outputs);
        if let Err(lockstep_model::Violation(property)) = gateway.check(&bounds()) {
            self.violated(property);
        }
        for output in outputs.list {
            self.dispatch(pair, node, output, work);
        }
    }

    fn dispatch(&mut self, pair: &Pair, node: usize, output: Output<Payload>, work: &mut Work) {
        match output {
            Output::Refused { connection, cause } | Output::Closed { connection, cause } => {
                self.closed(node, connection, cause, work);
            }
            Output::Verify { connection, attempt, generation, .. } => {
                work.verdicts.push_back((node, connection, attempt, generation));
            }
            Output::Wake { connection } => {
                if !work.pulls.contains(&(node, connection)) {
                    work.pulls.push_back((node, connection));
                }
            }
            Output::Send { connection, frame } => self.frame(node, connection, frame, work),
            Output::Relay { connection, owner } => {
                let relayed = self.relay.as_ref().is_some_and(|relay| relay.far == Some((node, connection)));
                self.expect(!relayed, "OWN-6");
                self.relay = Some(Relay { via: node, near: connection, owner, far: None });
            }
            Output::Session { generation, output, .. } => self.session_output(pair, node, generation, output),
            Output::Stopped => self.nodes[node].ended = true,
            Output::Arm(place, timer, _) => {
                let tracked = matches!(
                    (place, timer),
                    (Place::Session(..), Timer::Restore | Timer::Retry | Timer::LogAnswer | Timer::Linger)
                        | (Place::Connection(_), Timer::Grace | Timer::Close)
                        | (Place::Node, Timer::Grace)
                );
                let timers = &mut self.nodes[node].timers;
                if let (true, Err(at)) = (tracked, timers.binary_search(&(place, timer))) {
                    timers.insert(at, (place, timer));
                }
            }
            Output::Disarm(place, timer) => self.nodes[node].timers.retain(|armed| *armed != (place, timer)),
            Output::Probe | Output::Leaving | Output::Released => {}
        }
    }

    fn session_output(&mut self, pair: &Pair, node: usize, generation: Generation, output: SessionOutput<Payload>) {
        let who = self.incarnation(node);
        match output {
            SessionOutput::Restore { attempt } => {
                if pair.mistake == Some(Mistake::ReadsFirst) {
                    self.nodes[node].early = Some(self.log.read());
                }
                self.nodes[node].calls.push_back((Call::Acquire { generation, attempt, who }, None));
            }
            SessionOutput::Confirm { tenure, attempt, .. } => {
                let answer = (pair.mistake == Some(Mistake::ConfirmsItself)).then_some(Answer::Confirmed);
                self.nodes[node].calls.push_back((Call::Confirm { generation, tenure, attempt }, answer));
            }
            SessionOutput::Write { tenure, batch, after, event } => {
                if let Some((Call::Append { generation: by, batch: last, events, .. }, _)) =
                    self.nodes[node].calls.back_mut()
                    && (*by, *last) == (generation, batch)
                {
                    return events.push(event);
                }
                let append = Call::Append { generation, tenure, batch, after: after.0, events: vec![event] };
                self.nodes[node].calls.push_back((append, None));
            }
            SessionOutput::Relinquish { tenure } => {
                self.nodes[node].calls.retain(|(call, _)| call.generation() != Some(generation));
                if let Some(tenure) = tenure {
                    self.nodes[node].calls.push_back((Call::Release { tenure }, None));
                }
            }
            SessionOutput::Launch { run, .. } => {
                self.check_launch(run);
                self.nodes[node].agents.insert(run, generation);
            }
            SessionOutput::Durable { run, offset, .. } => self.check_durable(run, offset),
            SessionOutput::Halt { run } => drop(self.nodes[node].agents.remove(&run)),
            SessionOutput::Elsewhere { .. }
            | SessionOutput::Lookup { .. }
            | SessionOutput::Trim { .. }
            | SessionOutput::Read { .. }
            | SessionOutput::Lose
            | SessionOutput::Room => {}
        }
    }
}

fn snapshot(tenure: Tenure, entries: Vec<lockstep_model::Entry<Payload>>) -> Snapshot<Payload> {
    Snapshot { entries, ..Snapshot::empty(tenure) }
}
