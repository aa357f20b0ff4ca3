//! The reference is a list of what arrived, the credential's own reference, and the first cause.

use std::collections::{BTreeSet, VecDeque};

use lockstep_model::auth;
use lockstep_model::connection::{Connection, Input, Output, State};
use lockstep_model::frame::Control;
use lockstep_model::{Attempt, Cause, Frame, Handled, MessageId, Offset, Request, Resume, RunId, Timer, Verdict};
use proptest::prelude::*;

use super::{DRAIN, ID, INVALID, READY, RESET, Tag, cancel, message};
use crate::auth::Reference;
use crate::support::{SMALL, cases, grant, lawful, survives_json, valid};

#[derive(Clone, Debug)]
enum Move {
    Input(Input<Tag>),
    Verdict {
        lag: u32,
        verdict: Verdict,
    },
    /// Expire an armed timer, if there is one.
    Expire(prop::sample::Index),
    /// Tell a frame that has the number of the move.
    Tell,
    Notify,
    Pull,
}

/// The number of the first notice; other frames have smaller ones.
const NOTICE: u64 = 1_000_000;

fn requests() -> impl Strategy<Value = Request<Tag>> {
    prop_oneof![
        4 => (0..99u64).prop_map(message),
        2 => (0..99u64).prop_map(cancel),
        2 => Just(Request::Ping),
        2 => Just(Request::Pong),
        1 => Just(INVALID),
        3 => any::<Tag>().prop_map(|token| Request::Auth { token, resume: Resume::default() }),
    ]
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        12 => (0..3u64).prop_map(|credential| valid(grant(7, credential, 0), 60)),
        1 => Just(valid(grant(8, 1, 0), 60)),
        1 => Just(Verdict::Rejected),
        2 => Just(Verdict::Unavailable),
    ]
}

fn causes() -> impl Strategy<Value = Cause> {
    prop::sample::select(Cause::ALL.to_vec())
}

fn moves() -> impl Strategy<Value = Move> {
    let stale = [Timer::Handshake, Timer::Idle, Timer::Warning, Timer::Close, Timer::Linger];
    let rare = prop_oneof![
        Just(Input::Opened),
        Just(Input::Revoked),
        Just(DRAIN),
        causes().prop_map(Input::Close),
        causes().prop_map(Input::Gone),
        causes().prop_map(|cause| Input::Received(Request::Violation(cause))),
        prop::sample::select(stale.to_vec()).prop_map(Input::Expired),
    ];
    prop_oneof![
        24 => requests().prop_map(|request| Move::Input(Input::Received(request))),
        8 => (prop_oneof![6 => Just(0), 1 => Just(1u32)], verdicts())
            .prop_map(|(lag, verdict)| Move::Verdict { lag, verdict }),
        4 => prop::option::of(Just(RESET)).prop_map(|reset| Move::Input(Input::Ready { ready: READY, reset })),
        4 => any::<prop::sample::Index>().prop_map(Move::Expire),
        8 => Just(Move::Tell),
        4 => Just(Move::Notify),
        16 => Just(Move::Pull),
        2 => rare.prop_map(Move::Input),
    ]
}

fn lives() -> impl Strategy<Value = Vec<Move>> {
    prop::collection::vec(moves(), 0..150).prop_map(|mut life| {
        life.insert(0, Move::Input(Input::Opened));
        life
    })
}

const DEADLINES: [Timer; 4] = [Timer::Handshake, Timer::Idle, Timer::Grace, Timer::Close];

struct World {
    connection: Connection<Tag>,
    credential: Reference,
    early: Vec<Request<Tag>>,
    armed: BTreeSet<Timer>,
    told: VecDeque<u64>,
    /// The number of inputs so far.
    clock: u64,
    cause: Option<Cause>,
    close_frames: u32,
    closed: u32,
}

impl World {
    fn new() -> Self {
        let mut out = Vec::new();
        let connection = Connection::accept(&SMALL, ID, &mut out);
        let mut world = Self {
            connection,
            credential: Reference::default(),
            early: Vec::new(),
            armed: BTreeSet::new(),
            told: VecDeque::new(),
            clock: 0,
            cause: None,
            close_frames: 0,
            closed: 0,
        };
        world.dispatch(&out);
        world
    }

    fn play(&mut self, step: Move) {
        self.clock += 1;
        match step {
            Move::Input(input) => self.step(input),
            Move::Verdict { lag, verdict } => {
                let attempt = Attempt(self.credential.presented.saturating_sub(lag));
                self.step(Input::Verdict { attempt, verdict });
            }
            Move::Expire(choice) if !self.armed.is_empty() => {
                let timer = *choice.get(&self.armed.iter().copied().collect::<Vec<_>>());
                self.step(Input::Expired(timer));
            }
            Move::Tell => {
                let known =
                    Control::Known { message: MessageId(self.clock), run: RunId(0), offset: Offset(self.clock) };
                if self.connection.is_reading() {
                    self.told.push_back(self.clock);
                }
                self.step(Input::Tell(known));
            }
            Move::Notify => {
                let notice = Tag::try_from(self.clock % 251).unwrap();
                let room = self.told.len() < SMALL.outbox / 2;
                let before = self.connection.clone();
                self.step(Input::Notify(notice));
                if self.connection != before {
                    self.told.push_back(u64::from(notice) + NOTICE);
                }
                // The reference does not have all queued frames, so it may see room where there is none, but not the
                // reverse.
                assert!(room || self.connection == before, "half of the outbox is not for notices");
            }
            Move::Pull => self.pull(),
            Move::Expire(_) => {}
        }
    }

    fn step(&mut self, input: Input<Tag>) {
        let (before, mut out) = (self.connection.clone(), Vec::new());
        let handled = self.connection.step(&SMALL, input.clone(), &mut out);
        lawful(&before, &self.connection, Ok(handled), &out);
        if let Input::Expired(timer) = input {
            self.armed.remove(&timer);
            let nearer = self.connection.rank() < before.rank();
            assert!(handled == Handled::Ignored || !DEADLINES.contains(&timer) || nearer, "CONN-3: {timer:?}");
        }
        self.dispatch(&out);
        self.credential(&before, &input);
        self.check_handled(&before, &input, &out);
        self.check_properties(&before, &input);
        for value in &out {
            survives_json(value);
        }
        survives_json(&input);
        survives_json(&self.connection);
    }

    fn dispatch(&mut self, out: &[Output<Tag>]) {
        for output in out {
            match output {
                Output::Arm(timer, _) => drop(self.armed.insert(*timer)),
                Output::Disarm(timer) => drop(self.armed.remove(timer)),
                Output::Closing(cause) => assert_eq!(self.cause.replace(*cause), None, "CONN-1: one cause"),
                Output::Closed(cause) => {
                    assert_eq!(self.cause, Some(*cause), "CONN-1: the cause that was chosen");
                    self.closed += 1;
                }
                Output::Verify { .. } | Output::Attach(_) | Output::Handle(_) | Output::Wake => {}
            }
        }
    }

    /// Feeds the credential's reference with the inputs that reach the credential.
    fn credential(&mut self, before: &Connection<Tag>, input: &Input<Tag>) {
        let heard = match input {
            Input::Received(Request::Auth { .. }) => auth::Input::Presented,
            Input::Verdict { attempt, verdict } => auth::Input::Verdict { attempt: *attempt, verdict: *verdict },
            Input::Revoked => auth::Input::Revoked,
            Input::Expired(timer) => auth::Input::Expired(*timer),
            Input::Opened | Input::Ready { .. } | Input::Tell(_) | Input::Notify(_) | Input::Drain { .. } => return,
            Input::Received(_) | Input::Close(_) | Input::Gone(_) => return,
        };
        if before.state() != &State::Opening && !before.is_closing() {
            let _ = self.credential.expect(heard);
            assert!(!self.credential.over || self.connection.is_closing(), "no connection outlives its credential");
        }
    }

    /// CONN-2: nothing is handled before ready, then everything in order, and from then on each request at once.
    fn check_handled(&mut self, before: &Connection<Tag>, input: &Input<Tag>, out: &[Output<Tag>]) {
        let for_session = |request: &&Request<Tag>| matches!(request, Request::Message { .. } | Request::Cancel { .. });
        let handled =
            out.iter().filter_map(|output| if let Output::Handle(request) = output { Some(request) } else { None });
        let handled: Vec<_> = handled.collect();
        if before.resume().is_some() {
            if let Input::Received(request) = input
                && !matches!(request, Request::Auth { .. } | Request::Violation(_))
            {
                let stranger = *before.auth().state() == auth::State::Absent;
                if stranger && matches!(request, Request::Invalid { .. }) {
                    assert_eq!(self.cause, Some(Cause::CredentialMissing));
                } else {
                    self.early.push(request.clone());
                    assert_eq!(self.early.len() > SMALL.early, self.connection.is_closing(), "LIM-1");
                }
            }
            if self.connection.is_reading() {
                assert_eq!(handled, self.early.iter().filter(for_session).collect::<Vec<_>>());
            } else {
                assert!(handled.is_empty() || self.connection.is_closing());
            }
        } else if let Input::Received(request) = input
            && before.is_reading()
            && !self.connection.is_closing()
        {
            assert_eq!(handled, [request].into_iter().filter(for_session).collect::<Vec<_>>());
        } else {
            assert!(handled.is_empty());
        }
    }

    fn check_properties(&mut self, before: &Connection<Tag>, input: &Input<Tag>) {
        assert_eq!(self.connection.check(&SMALL), Ok(()));
        assert_eq!(self.connection.id(), ID);
        let ending = (self.connection.is_closing(), self.connection.rank() == 0);
        assert_eq!(ending, (self.cause.is_some(), self.closed == 1), "CONN-1: closed once");
        if let (false, Some(cause)) = (before.is_closing(), self.cause) {
            assert!(expected(input).contains(&cause), "{cause:?} by {input:?} in {before:?}");
        }
        let deadline = DEADLINES.iter().filter(|timer| self.armed.contains(timer)).count();
        assert_eq!(deadline, usize::from(self.closed == 0), "CONN-3: one deadline until closed");
        assert!(self.cause.is_none() || self.armed.iter().all(|timer| *timer == Timer::Close), "{:?}", self.armed);
    }

    fn pull(&mut self) {
        let promised = self.connection.has_frame();
        let frame = self.connection.pull();
        assert_eq!(frame.is_some(), promised);
        let Some(frame) = frame else { return };
        if frame.is_application() {
            assert!(self.credential.valid.is_some(), "AUTH-1: {frame:?}");
        }
        match frame {
            Frame::Control(Control::Known { message, .. }) => {
                assert_eq!(self.told.pop_front(), Some(message.0), "told in order, none lost");
            }
            Frame::Control(Control::Notice(notice)) => {
                assert_eq!(self.told.pop_front(), Some(u64::from(notice) + NOTICE), "told in order, none lost");
            }
            Frame::Control(_) => {}
            Frame::Close(cause) => {
                self.close_frames += 1;
                assert_eq!((self.close_frames, Some(cause)), (1, self.cause), "the close frame leaves once");
            }
            Frame::Event(entry) => panic!("{entry:?} is not the connection's"),
        }
    }
}

/// CONN-1: the causes that an input may have.
fn expected(input: &Input<Tag>) -> Vec<Cause> {
    match input {
        Input::Close(cause) | Input::Gone(cause) | Input::Received(Request::Violation(cause)) => vec![*cause],
        Input::Received(Request::Auth { .. }) => vec![Cause::Flooding, Cause::Slow],
        Input::Received(Request::Invalid { .. }) => {
            vec![Cause::CredentialMissing, Cause::TooEager, Cause::Flooding, Cause::Slow]
        }
        Input::Received(_) => vec![Cause::TooEager, Cause::Flooding, Cause::Slow],
        Input::Verdict { verdict: Verdict::Valid { .. }, .. } => vec![Cause::UserMismatch, Cause::Slow],
        Input::Verdict { verdict: Verdict::Rejected, .. } => vec![Cause::CredentialRejected],
        Input::Verdict { verdict: Verdict::Unavailable, .. } | Input::Expired(Timer::Verification) => {
            vec![Cause::VerifierUnavailable, Cause::Slow]
        }
        Input::Revoked => vec![Cause::CredentialRevoked],
        Input::Drain { .. } => vec![Cause::GoingAway, Cause::Slow],
        Input::Ready { .. } | Input::Tell(_) => vec![Cause::Slow],
        Input::Expired(Timer::Handshake) => vec![Cause::HandshakeTimeout, Cause::CredentialMissing],
        Input::Expired(Timer::Idle) => vec![Cause::HeartbeatLost, Cause::Slow],
        Input::Expired(Timer::Warning) => vec![Cause::Slow],
        Input::Expired(Timer::Grace) => vec![Cause::GoingAway],
        Input::Expired(Timer::Credential) => vec![Cause::CredentialExpired],
        // A notice never closes a connection.
        Input::Notify(_) | Input::Opened | Input::Expired(_) => vec![],
    }
}

proptest! {
    #![proptest_config(cases())]

    /// AUTH-1, AUTH-3, CONN-1, CONN-2, CONN-3, LIM-1, after every step of a long run.
    #[test]
    fn a_connection_keeps_its_promises_whatever_happens(life in lives()) {
        let mut world = World::new();
        for step in life {
            world.play(step);
        }
    }

    /// CONN-3 and LIVE-1: without further input, its own deadlines close it, each at most once.
    #[test]
    fn deadlines_alone_close_it(life in lives()) {
        let mut world = World::new();
        for step in life {
            world.play(step);
        }
        for left in (0..=world.connection.rank()).rev() {
            let Some(timer) = DEADLINES.into_iter().find(|timer| world.armed.contains(timer)) else { break };
            world.step(Input::Expired(timer));
            prop_assert!(world.connection.rank() < left.max(1));
        }
        prop_assert_eq!(world.closed, 1);
        prop_assert!(world.armed.is_empty(), "no deadline outlives it");
    }
}
