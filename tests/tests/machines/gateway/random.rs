//! A whole gateway with its clients under cuts, crashes, expiries, revocations and drains, checked by what each client
//! has shown and by what the logs have.

use lockstep_model::client::{self, State};
use lockstep_model::gateway::{Input, Place};
use lockstep_model::node;
use lockstep_model::run;
use lockstep_model::session;
use lockstep_model::{Cancel, Code, ConnectionId, Mode, Request, RunId, Successor, Timer, UserId};
use proptest::prelude::*;
use proptest::sample::Index;

use super::moves::{Move, moves};
use super::world::{BOUNDS, World};
use crate::support::many_cases;

impl World {
    pub(super) fn play(&mut self, step: Move) {
        match step {
            Move::Connect(of) => self.tell(of.index(self.clients.len()), client::Input::Connect),
            Move::Disconnect(of) => self.tell(of.index(self.clients.len()), client::Input::Disconnect),
            Move::Send(of) => self.send(of.index(self.clients.len())),
            Move::Cancel { of, run } => {
                let run = RunId(run.index(self.runs as usize + 1) as u64);
                self.on_socket(of, |world, id| world.receive(id, Request::Cancel { runs: Cancel::Run(run) }));
            }
            Move::Babble { of, times } => self.on_socket(of, |world, id| {
                // Its credential comes first: an unintelligible frame before that closes.
                world.up(id);
                (0..times).for_each(|_| world.receive(id, Request::Invalid { code: Code::Malformed, message: None }));
            }),
            Move::Token(of) => {
                if self.credentials.len() < 200 {
                    self.give_token(of.index(self.clients.len()));
                }
            }
            Move::Hers { of, choice } => {
                let client = of.index(self.clients.len());
                let armed: Vec<_> = self.clients[client].armed.iter().copied().collect();
                if !armed.is_empty() {
                    self.tell(client, client::Input::Expired(*choice.get(&armed)));
                }
            }
            Move::Open(of) => self.on_socket(of, World::open),
            Move::Up(of) => self.on_socket(of, World::up),
            Move::Down(of) => self.on_socket(of, World::down),
            Move::Pull { of, budget } => self.on_socket(of, |world, id| world.pull(id, budget)),
            Move::Cut(of) => self.on_socket(of, World::cut),
            Move::Notice { of, here } => self.on_socket(of, |world, id| world.notice(id, here)),
            Move::Answer { of, available } => {
                if !self.verifier.is_empty() {
                    self.answer(of.index(self.verifier.len()), available);
                }
            }
            Move::Restore { of, answers } => self.restore(self.user(of), answers),
            Move::Take { of, hole } => self.take(self.user(of), hole),
            Move::TakeSilently(of) => {
                let user = self.user(of);
                self.stores.get_mut(&user).unwrap().log.take_silently(1);
            }
            Move::Fail(of) => {
                let user = self.user(of);
                let store = self.stores.get_mut(&user).unwrap();
                if let Some(batch) = store.log.fail() {
                    let generation = store.writer;
                    let input = session::Input::Failed { batch };
                    assert!(self.step(Input::Session { user, generation, input }).is_ok());
                }
            }
            Move::Emit { of, input } => {
                let agents: Vec<_> = self.agents.keys().copied().collect();
                if !agents.is_empty() {
                    self.emit(*of.get(&agents), input);
                }
            }
            Move::Say(of) => {
                let user = self.user(of);
                self.runs += 1;
                let _ = self.step(Input::Notice { user, notice: RunId(self.runs), thread: None, payload: 1 });
            }
            Move::Ours(choice) => {
                let armed: Vec<_> = self.armed.iter().copied().collect();
                if !armed.is_empty() {
                    let (place, timer) = *choice.get(&armed);
                    self.expire(place, timer);
                }
            }
            Move::Revoke { of, one } => {
                let one = one.map(|one| one.index(self.credentials.len())).filter(|index| !self.credentials[*index].1);
                let user = one.map_or_else(|| self.user(of), |index| self.credentials[index].0.user);
                self.revoke(user, one);
            }
            Move::Pin(mode) => drop(self.step(Input::Node(node::Input::Pin(mode)))),
            Move::Probed(health) => drop(self.step(Input::Node(node::Input::Probed(health)))),
            Move::Drain(successor) => drop(self.step(Input::Node(node::Input::Drain { successor }))),
            Move::Abort => drop(self.step(Input::Node(node::Input::HandoverAborted))),
            Move::Flow => self.flow(),
            Move::Back(of) => {
                if self.credentials.len() < 200 {
                    self.back(of.index(self.clients.len()));
                }
            }
            Move::Crash { loses } => {
                self.crash();
                if loses {
                    for store in self.stores.values_mut() {
                        store.lost.push(store.log.history().to_vec());
                        store.log.lose();
                    }
                }
            }
        }
        if self.stopped {
            self.crash();
        }
        self.tidy();
    }

    /// One round without faults of the network, the verifier and the logs.
    fn flow(&mut self) {
        for id in self.sockets.keys().copied().collect::<Vec<_>>() {
            self.open(id);
            for _ in 0..20 {
                self.pull(id, 3);
                self.down(id);
                self.up(id);
            }
        }
        while !self.verifier.is_empty() {
            self.answer(0, true);
        }
        for user in self.stores.keys().copied().collect::<Vec<_>>() {
            self.restore(user, true);
            while self.stores[&user].log.is_asked() {
                self.take(user, 1);
            }
        }
    }

    /// A client that is not becoming live starts to.
    fn back(&mut self, client: usize) {
        match self.clients[client].machine.state() {
            State::Idle => self.tell(client, client::Input::Connect),
            State::Backoff => self.tell(client, client::Input::Expired(Timer::Backoff)),
            State::Leaving { .. } => self.tell(client, client::Input::Expired(Timer::Leave)),
            State::Stopped { .. } => self.give_token(client),
            State::Connecting | State::Authenticating | State::Live { .. } | State::Holding { .. } => {}
        }
    }

    fn on_socket(&mut self, of: Index, act: impl FnOnce(&mut Self, ConnectionId)) {
        let sockets: Vec<_> = self.sockets.keys().copied().collect();
        if !sockets.is_empty() {
            act(self, *of.get(&sockets));
        }
    }

    fn user(&self, of: Index) -> UserId {
        self.clients[of.index(self.clients.len())].user
    }

    fn restore(&mut self, user: UserId, answers: bool) {
        let store = self.stores.get_mut(&user).unwrap();
        if let Some((generation, attempt)) = store.restoring.take() {
            let input = if answers {
                session::Input::Restored { attempt, snapshot: store.log.snapshot() }
            } else {
                session::Input::NotRestored { attempt }
            };
            assert!(self.step(Input::Session { user, generation, input }).is_ok());
        }
    }

    fn take(&mut self, user: UserId, hole: u64) {
        let store = self.stores.get_mut(&user).unwrap();
        if let Some((batch, offset)) = store.log.take(hole) {
            let generation = store.writer;
            let input = session::Input::Persisted { batch, offset, record: None };
            assert!(self.step(Input::Session { user, generation, input }).is_ok());
        }
    }

    fn emit(&mut self, run: RunId, input: run::Input) {
        let (user, generation) = self.agents[&run];
        let input = session::Input::Run { run, input, payload: Some(1) };
        let _ = self.step(Input::Session { user, generation, input });
    }

    /// No more faults: the network, the verifier, the log and the agents work, and users want to be connected.
    pub(super) fn calm_down(&mut self) {
        let _ = self.step(Input::Node(node::Input::Pin(Some(Mode::Ready))));
        for _ in 0..60 {
            let draining = self.gateway.node().mode().awaits_runs();
            for id in self.sockets.keys().copied().collect::<Vec<_>>() {
                self.notice(id, true);
                self.notice(id, false);
            }
            self.flow();
            for run in self.agents.keys().copied().collect::<Vec<_>>() {
                self.emit(run, run::Input::Start);
                self.emit(run, run::Input::Complete);
            }
            let due = |(_, timer): &(Place, Timer)| {
                let always = [Timer::Retry, Timer::Restore, Timer::Breaker, Timer::Close];
                always.contains(timer) || draining && [Timer::Grace, Timer::Drain].contains(timer)
            };
            for (place, timer) in self.armed.iter().copied().filter(due).collect::<Vec<_>>() {
                self.expire(place, timer);
            }
            if self.stopped {
                self.crash();
            }
            self.tidy();
            (0..self.clients.len()).for_each(|client| self.back(client));
            if self.is_calm() && !draining {
                return;
            }
        }
        panic!("LIVE-1, LIVE-2, LIVE-3: never calm: {:?}", self.gateway);
    }

    fn is_calm(&self) -> bool {
        let reads = |client: &super::clients::SimulatedClient| {
            let head = self.stores[&client.user].log.head();
            matches!(client.machine.state(), State::Live { .. })
                && client.machine.outgoing().is_empty()
                && client.at().is_some_and(|at| at.offset == head)
        };
        let quiet = |store: &super::world::Store| !store.log.is_asked() && store.restoring.is_none();
        self.clients.iter().all(reads) && self.agents.is_empty() && self.stores.values().all(quiet)
    }

    /// NODE-2 and LIVE-4: every client is told to go, and the process stops.
    fn drain(&mut self) {
        let _ = self.step(Input::Node(node::Input::Drain { successor: Successor::Absent }));
        for _ in 0..20 {
            for id in self.sockets.keys().copied().collect::<Vec<_>>() {
                self.notice(id, false);
            }
            self.flow();
            if self.stopped {
                return;
            }
            let due = |(place, timer): &(Place, Timer)| {
                *place == Place::Node || [Timer::Grace, Timer::Close, Timer::Retry].contains(timer)
            };
            for (place, timer) in self.armed.iter().copied().filter(due).collect::<Vec<_>>() {
                self.expire(place, timer);
            }
        }
        panic!("NODE-2: it does not stop: {:?}", self.gateway);
    }
}

/// The golden path: a message is accepted, run and answered, and both of the user's clients show all of it.
#[test]
fn a_message_is_answered_on_every_client_of_its_user() {
    let mut world = World::new(&[7, 7, 8]);
    world.calm_down();
    world.send(0);
    world.calm_down();
    world.check_history(true);
    assert_eq!(world.stores[&UserId(7)].log.history().len(), 3, "received, started, completed");
    assert_eq!(world.stores[&UserId(8)].log.history().len(), 0);
    assert!(world.gateway.check(&BOUNDS).is_ok());
    world.drain();
}

proptest! {
    #![proptest_config(many_cases())]

    /// AUTH-1, AUTH-3, CONN-1, CONN-2, ISO-1, STR-1, STR-2, RUN-1, RUN-2, RUN-3, LIM-1 after every step; then, without
    /// faults, LIVE-1 to LIVE-3; then NODE-2.
    #[test]
    fn a_gateway_keeps_its_promises_whatever_happens(
        calm in any::<bool>(),
        moves in prop::collection::vec(moves(), 0..800),
    ) {
        let mut world = World::new(&[7, 7, 8, 9]);
        if calm {
            world.calm_down();
        }
        for step in moves {
            world.play(step);
        }
        world.check_history(false);
        world.calm_down();
        world.check_history(true);
        world.drain();
    }
}
