//! Long adversarial runs of a session, checked against its environment.

use lockstep_model::connection;
use lockstep_model::frame::ReadFrom;
use lockstep_model::run::{self, ToolEnd};
use lockstep_model::session::{Input, State};
use lockstep_model::stream::Writer;
use lockstep_model::timer::Owner;
use lockstep_model::{
    Attempt, BatchId, Cancel, Cause, Code, ConnectionId, CredentialId, Epoch, Grant, Handled, MessageId, Mode, Offset,
    Position, Refusal, Request, Resume, RevocationGeneration, RunId, Scope, ThreadId, Timer, ToolId, Verdict,
};
use proptest::prelude::*;
use proptest::sample::Index;

use super::attaching;
use super::world::{Reader, World};
use crate::support::{SMALL, Tag, grant, many_cases, valid};

#[derive(Clone, Debug)]
enum Move {
    Join { from: u8, place: u64, replaces: Option<Index>, credential: u64, age: u32 },
    Request { of: Index, request: Request<Tag> },
    Verdict { of: Index, verdict: Verdict },
    Gone { of: Index, cause: Cause },
    Pull { of: Index, budget: usize },
    Emit { of: Index, input: run::Input },
    Notice(Tag),
    Delete(u64),
    Persist { hole: u64 },
    Find { of: Index, most: usize, fails: bool },
    TakeSilently,
    Fail,
    StaleLog { batch: u32, offset: u64 },
    Restore,
    NotRestored,
    Revoke(Scope),
    Verified(RevocationGeneration),
    Mode(Mode),
    Expire(Index),
    NotArmed { of: Index, timer: Timer },
    Crash { loses: bool },
}

fn requests() -> impl Strategy<Value = Request<Tag>> {
    let message = (0..30u64, any::<bool>(), any::<Tag>()).prop_map(|(message, repeat, payload)| Request::Message {
        message: MessageId(message),
        thread: ThreadId(message % 3),
        run: RunId(0),
        payload,
        repeat,
        replaces: None,
    });
    prop_oneof![
        8 => message,
        2 => (0..40u64).prop_map(|run| Request::Cancel { runs: Cancel::Run(RunId(run)) }),
        1 => (0..4u64, any::<Tag>()).prop_map(|(thread, payload)| {
            Request::Delete { thread: ThreadId(thread), deletion: RunId(0), payload }
        }),
        1 => any::<Tag>().prop_map(|query| Request::Query { query }),
        1 => Just(Request::Ping),
        1 => Just(Request::Invalid { code: Code::Malformed, message: None }),
        1 => any::<Tag>().prop_map(|token| Request::Auth { token, resume: Resume::default() }),
    ]
}

fn emits() -> impl Strategy<Value = run::Input> {
    let tool = || (0..3u32).prop_map(ToolId);
    prop_oneof![
        8 => Just(run::Input::Start),
        8 => Just(run::Input::Think),
        6 => tool().prop_map(run::Input::OpenTool),
        6 => tool().prop_map(|tool| run::Input::CloseTool(tool, ToolEnd::Success)),
        4 => Just(run::Input::Complete),
        1 => Just(run::Input::Fail),
        1 => Just(run::Input::Abandon),
    ]
}

fn moves() -> impl Strategy<Value = Move> {
    let of = any::<Index>;
    let timers = vec![
        Timer::Idle,
        Timer::Grace,
        Timer::Linger,
        Timer::Restore,
        Timer::Retry,
        Timer::Silence,
        Timer::LogAnswer,
        Timer::Deadline,
    ];
    let scope = prop_oneof![
        3 => (0..6u64).prop_map(|credential| Scope::One(CredentialId(credential), RevocationGeneration(1))),
        1 => (0..3u32).prop_map(|oldest| Scope::All(RevocationGeneration(oldest))),
    ];
    let mode = prop_oneof![
        6 => prop::sample::select(vec![Mode::Ready, Mode::Ready, Mode::Degraded, Mode::Emergency, Mode::HandingOver]),
        1 => Just(Mode::Draining),
    ];
    let verdict = prop_oneof![
        4 => (0..6u64, 0..3u32).prop_map(|(credential, age)| valid(grant(7, credential, age), 60)),
        1 => Just(Verdict::Rejected),
        1 => Just(Verdict::Unavailable),
    ];
    prop_oneof![
        12 => (0..6u8, 0..60u64, prop::option::weighted(0.2, of()), 0..6u64, 1..3u32).prop_map(
            |(from, place, replaces, credential, age)| Move::Join { from, place, replaces, credential, age }
        ),
        30 => (of(), requests()).prop_map(|(of, request)| Move::Request { of, request }),
        2 => (of(), verdict).prop_map(|(of, verdict)| Move::Verdict { of, verdict }),
        3 => (of(), prop::sample::select(vec![Cause::Lost, Cause::PeerClosed]))
            .prop_map(|(of, cause)| Move::Gone { of, cause }),
        40 => (of(), 0..6usize).prop_map(|(of, budget)| Move::Pull { of, budget }),
        50 => (of(), emits()).prop_map(|(of, input)| Move::Emit { of, input }),
        6 => any::<Tag>().prop_map(Move::Notice),
        1 => (0..4u64).prop_map(Move::Delete),
        70 => prop_oneof![4 => Just(1), 1 => 2..5u64].prop_map(|hole| Move::Persist { hole }),
        30 => (of(), 1..5usize, prop::bool::weighted(0.05))
            .prop_map(|(of, most, fails)| Move::Find { of, most, fails }),
        2 => Just(Move::TakeSilently),
        2 => Just(Move::Fail),
        2 => (0..3u32, 0..60u64).prop_map(|(batch, offset)| Move::StaleLog { batch, offset }),
        10 => Just(Move::Restore),
        1 => Just(Move::NotRestored),
        1 => scope.prop_map(Move::Revoke),
        1 => (0..3u32).prop_map(|oldest| Move::Verified(RevocationGeneration(oldest))),
        2 => mode.prop_map(Move::Mode),
        8 => of().prop_map(Move::Expire),
        4 => (of(), prop::sample::select(timers)).prop_map(|(of, timer)| Move::NotArmed { of, timer }),
        2 => prop::bool::weighted(0.1).prop_map(|loses| Move::Crash { loses }),
    ]
}

struct Life {
    world: World,
    ids: u64,
    runs: u64,
}

impl Life {
    fn play(&mut self, step: Move) {
        let world = &mut self.world;
        let members: Vec<_> = world.readers.keys().copied().collect();
        let one_of = |of: Index| (!members.is_empty()).then(|| *of.get(&members));
        match step {
            Move::Join { from, place, replaces, credential, age } => {
                let replaces = replaces.and_then(one_of).map(|older| older.0);
                self.join(from, place, replaces, grant(7, credential, age));
            }
            Move::Request { of, request } => {
                let Some(connection) = one_of(of) else { return };
                let request = self.with_run(request);
                self.connection(connection, connection::Input::Received(request));
            }
            Move::Verdict { of, verdict } => {
                let Some(connection) = one_of(of) else { return };
                self.verdict(connection, verdict);
            }
            Move::Gone { of, cause } => {
                if let Some(connection) = one_of(of) {
                    self.connection(connection, connection::Input::Gone(cause));
                }
            }
            Move::Pull { of, budget } => {
                if let Some(connection) = one_of(of) {
                    let _ = world.step(Input::Pull { connection, budget });
                }
            }
            Move::Emit { of, input } => {
                let run = RunId(of.index(self.runs as usize + 1) as u64);
                let handled = world.step(Input::Run { run, input, payload: Some(3) });
                let late = handled.is_ok() || handled != Err(Refusal::Misuse);
                assert!(late, "an agent is never told that it does not exist");
            }
            Move::Notice(payload) => {
                self.runs += 1;
                let notice = RunId(self.runs);
                let (pending, reserve) = (world.appended(), world.reserve());
                let handled = world.step(Input::Notice { notice, thread: None, payload });
                let room = world.session.stream().is_some() && pending + reserve < SMALL.pending;
                let expected = if handled == Err(Refusal::Retired) && world.session.state() == State::Retired {
                    Err(Refusal::Retired)
                } else if room {
                    Ok(Handled::Done)
                } else {
                    Err(Refusal::Backpressure)
                };
                assert_eq!(handled, expected, "RUN-3: taken if there is room beside the ends of open runs");
            }
            Move::Delete(thread) => {
                self.runs += 1;
                let deletion = RunId(self.runs);
                let (pending, reserve) = (world.appended(), world.reserve());
                let handled = world.step(Input::Delete { thread: ThreadId(thread), deletion, payload: 1, as_of: None });
                let room = world.session.stream().is_some() && pending + reserve < SMALL.pending;
                assert_eq!(handled.is_ok(), room && !world.retired, "RET-1: taken if there is room");
            }
            Move::Persist { hole } => world.persist(hole),
            Move::Find { of, most, fails } => world.find(of, most, fails),
            Move::TakeSilently => world.log.take_silently(1),
            Move::Fail => world.fail(),
            Move::StaleLog { batch, offset } => {
                let batch = BatchId(batch.wrapping_sub(1));
                let known = world.session.stream().is_some_and(|stream| stream.batch() == batch);
                if !known {
                    let late = Input::Persisted { batch, offset: Offset(offset), record: None };
                    assert_eq!(world.step(late), Ok(Handled::Ignored));
                    assert_eq!(world.step(Input::Failed { batch }), Ok(Handled::Ignored));
                }
            }
            Move::Restore => world.restore(),
            Move::NotRestored => {
                if let Some(number) = world.restoring.take() {
                    let _ = world.step(Input::NotRestored { attempt: Attempt(number) });
                }
            }
            Move::Revoke(scope) => drop(world.step(Input::Revoke(scope))),
            Move::Verified(oldest) => drop(world.step(Input::Verified(oldest))),
            Move::Mode(mode) => drop(world.step(Input::Mode(mode))),
            Move::Expire(choice) => {
                let armed: Vec<_> = world.armed.iter().copied().collect();
                if !armed.is_empty() {
                    let (owner, timer) = *choice.get(&armed);
                    let _ = world.step(Input::Expired(owner, timer));
                }
            }
            Move::NotArmed { of, timer } => {
                let owner = one_of(of).map_or(Owner::Session, Owner::Connection);
                for owner in [Owner::Session, Owner::Run(RunId(self.runs + 1)), owner] {
                    if !world.armed.contains(&(owner, timer)) {
                        assert_eq!(
                            world.step(Input::Expired(owner, timer)),
                            Ok(Handled::Ignored),
                            "{owner:?} {timer:?}"
                        );
                    }
                }
            }
            Move::Crash { loses } => {
                if loses {
                    world.log.lose();
                }
                world.begin_again();
            }
        }
        if self.world.retired {
            self.world.begin_again();
        }
    }

    fn with_run(&mut self, request: Request<Tag>) -> Request<Tag> {
        if let Request::Message { message, thread, payload, repeat, .. } = request {
            self.runs += 1;
            return Request::Message { message, thread, run: RunId(self.runs), payload, repeat, replaces: None };
        }
        if let Request::Delete { thread, payload, .. } = request {
            self.runs += 1;
            return Request::Delete { thread, deletion: RunId(self.runs), payload };
        }
        request
    }

    fn connection(&mut self, connection: ConnectionId, input: connection::Input<Tag>) {
        assert!(self.world.step(Input::Connection { connection, input }).is_ok(), "a peer is never refused");
    }

    /// The verdict on a connection's newest credential; after a refresh the reader has the new one.
    fn verdict(&mut self, id: ConnectionId, verdict: Verdict) {
        let attempt = self.world.session.members().get(&id).unwrap().connection.auth().newest();
        self.connection(id, connection::Input::Verdict { attempt, verdict });
        if let Some(member) = self.world.session.members().get(&id) {
            let held = member.connection.auth().grant().unwrap();
            self.world.readers.get_mut(&id).unwrap().grant = held;
        }
    }

    fn join(&mut self, from: u8, place: u64, replaces: Option<u64>, grant: Grant) {
        self.ids += 1;
        let log = &self.world.log;
        let seen = |offset: Offset, epoch: Epoch| ReadFrom::After(Position { epoch, offset });
        let from = match from {
            0 => ReadFrom::Latest,
            1 => ReadFrom::Earliest,
            2 => seen(log.head(), log.epoch()),
            3 => seen(Offset(place), log.epoch()),
            4 => seen(Offset(place), Epoch(log.epoch().0 + 1)),
            _ => {
                let entry = log.after(Offset(place));
                seen(entry.map_or(Offset(0), |entry| entry.offset), log.epoch())
            }
        };
        let connection = attaching(self.ids, from, replaces, grant);
        self.world.readers.insert(ConnectionId(self.ids), Reader::new(grant, from));
        for timer in [Timer::Handshake, Timer::Credential, Timer::Warning] {
            self.world.armed.insert((Owner::Connection(ConnectionId(self.ids)), timer));
        }
        let mode = self.world.mode;
        assert_eq!(self.world.step(Input::Join { connection, mode }), Ok(Handled::Done));
    }

    /// Every deadline expires, the log works, and no client connects: LIVE-1 to LIVE-4 and SES-1.
    fn wind_down(&mut self) {
        // A hand-over is aborted in the end, or the node drains: queued messages wait for that.
        if self.world.mode == Mode::HandingOver && !self.world.retired {
            let _ = self.world.step(Input::Mode(Mode::Ready));
        }
        for _ in 0..400 {
            if self.world.retired {
                if self.world.session.queue().is_empty() {
                    return;
                }
                // The next process runs what an ending process has left in the log.
                self.world.begin_again();
            }
            self.world.restore();
            while self.world.log.is_asked() {
                self.world.persist(1);
            }
            if self.world.session.stream().is_some_and(|stream| stream.writer() == Writer::Waiting) {
                let _ = self.world.step(Input::Expired(Owner::Session, Timer::Retry));
                continue;
            }
            let next = self
                .world
                .armed
                .iter()
                .copied()
                .find(|(owner, timer)| *owner != Owner::Session || *timer == Timer::Restore);
            if self.world.session.fence().is_up() {
                let _ = self.world.step(Input::Verified(RevocationGeneration(u32::MAX)));
            }
            let (owner, timer) = next.unwrap_or((Owner::Session, Timer::Linger));
            let _ = self.world.step(Input::Expired(owner, timer));
        }
        panic!("SES-1: it does not retire: {:?}", self.world.session);
    }
}

proptest! {
    #![proptest_config(many_cases())]

    /// AUTH-1, AUTH-3, CONN-2, STR-1, STR-2, RUN-1, RUN-2, RUN-3, LIM-1, SES-1, after every step; at the end every run
    /// has ended and the session retires.
    #[test]
    fn a_session_keeps_its_promises_whatever_happens(
        keeps in any::<bool>(),
        moves in prop::collection::vec(moves(), 0..250),
    ) {
        let mut life = Life { world: World::new(), ids: 0, runs: 0 };
        life.world.log.keeps = keeps;
        life.world.restore();
        for step in moves {
            life.play(step);
            life.world.check_history(false);
        }
        life.wind_down();
        prop_assert_eq!(life.world.session.state(), State::Retired);
        life.world.check_history(true);
    }
}
