//! One connection ([`lockstep_model::connection`]) with its credential, alone.
//!
//! Explores every input in every state: requests before the socket is open and after it is closed, verdicts for past,
//! present and future attempts, an unexpected `Ready`, drains, closes and failures that come twice, any timer. The peer
//! may fall silent for good at any moment. The number of presented credentials is bounded, as in
//! [`crate::models::auth`].
//!
//! Only requests that the machine distinguishes differ here. Two messages stand for all, because the machine passes
//! payloads on unread. Two refusal codes stand for all as well; a test covers each code. Every cause, mode, successor
//! and timer is included.
//!
//! The oracle is `properties::connection`.
//!
//! LIVE-1 and LIVE-4 are decided on the graph with fair timers alone: a connection ends without any answer of the
//! verifier.

mod chart;

use lockstep_model::auth::Verdict;
use lockstep_model::connection::{Connection, Input, Output};
use lockstep_model::{
    Bounds, Cancel, Cause, Code, ConnectionId, Control, Epoch, Frame, Handled, Incarnation, MessageId, Mode, Offset,
    Request, Resume, RunId, Successor, ThreadId, Timer, UserId, VerificationId,
};
use stateright::{Model, Property};

use crate::engine::profile::Profile;
use crate::engine::proof::{Promise, Proof};
use crate::models::auth::good;
use crate::models::harness::{Armed, checked, small, survives};
use crate::properties::attribution::{counts, guards, says};
use crate::properties::connection::{Effects, Observed, Stage as Phase};

/// The model.
#[derive(Clone, Debug)]
pub struct Socket {
    bounds: Bounds,
    presented: u32,
    messages: u8,
}

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Socket {
    let (presented, messages, outbox) = match profile {
        Profile::Quick => (3, 2, 2),
        Profile::Ci => (4, 2, 3),
        Profile::Deep => (6, 2, 4),
    };
    Socket { bounds: Bounds { outbox, ..small() }, presented, messages }
}

/// Returns the model at bounds for long random walks.
pub fn long() -> Socket {
    let bounds = Bounds { early: 6, outbox: 6, requests: 8, attempts: 4, ..small() };
    Socket { bounds, presented: 1_000, messages: 3 }
}

/// An action of the adversary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// An input. `true` for a verdict on an attempt that is not the newest, and for a timer that is not armed.
    Hear(Input<u8>, bool),
    /// The socket takes a frame.
    Pull,
    /// The peer falls silent for good.
    Die,
}

/// A connection and its oracle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    connection: Connection<u8>,
    observed: Observed,
    armed: Armed,
    dead: bool,
    broken: Option<&'static str>,
}

const ID: ConnectionId = ConnectionId(9);

checked![Socket, State; "AUTH-1", "AUTH-2", "AUTH-3", "CONN-1", "CONN-2", "CONN-3", "LIM-1", "LIVE-4", "NODE-1",
    "NODE-2", "OWN-6", "STR-1"];

impl State {
    fn pull(&mut self, bounds: &Bounds) {
        let valid = self.observed.credential.valid.is_some();
        let promised = self.connection.has_frame();
        let (expected, frame) = (self.observed.pull(), self.connection.pull());
        self.expect(!frame.as_ref().is_some_and(Frame::is_application) || valid, "AUTH-1");
        if frame != expected
            && let Some(wrong) = expected.as_ref().or(frame.as_ref())
        {
            self.violated(says(wrong));
        }
        self.expect(promised == frame.is_some(), "CONN-1");
        self.check(bounds);
    }

    /// Feeds an input to the machine in its state `before`.
    fn feed(&mut self, bounds: &Bounds, before: &Connection<u8>, input: &Input<u8>) -> Handled {
        let mut warns = self.armed.has(Timer::Warning);
        if let Input::Expired(timer) = input {
            self.armed.disarm(*timer);
            warns &= *timer != Timer::Warning;
        }
        let distance = self.observed.distance();
        let expected = self.observed.feed(bounds, input);
        let mut out = Vec::new();
        let handled = self.connection.step(bounds, input.clone(), &mut out);
        for output in &out {
            match output {
                Output::Arm(timer, _) => self.armed.arm(*timer),
                Output::Disarm(timer) => self.armed.disarm(*timer),
                Output::Verify { .. } | Output::Attach(_) | Output::Handle(_) | Output::Wake => {}
                Output::Relay { .. } => {}
                Output::Closing(_) | Output::Closed(_) => {}
            }
        }
        if let Some(property) = expected.violated_by(&Effects::of(&out)) {
            self.violated(property);
        }
        let property = counts(input);
        self.expect((handled == Handled::Done) == expected.taken, property);
        if handled == Handled::Ignored {
            self.expect(self.connection == *before && out.is_empty(), property);
        }
        if let Input::Expired(Timer::Handshake | Timer::Idle | Timer::Grace | Timer::Close) = input
            && handled == Handled::Done
        {
            self.expect(self.observed.distance() < distance && self.connection.rank() < before.rank(), "CONN-3");
        }
        warns |= out.iter().any(|output| matches!(output, Output::Arm(Timer::Warning, _)));
        self.check_timers(warns && self.observed.credential.valid.is_some());
        self.check(bounds);
        handled
    }

    /// CONN-3: exactly the timers that something waits for are armed. The warning fires once for each grant.
    fn check_timers(&mut self, warns: bool) {
        let mut due = Armed::default();
        let warning = warns.then_some(Timer::Warning);
        self.observed.deadlines().into_iter().chain(warning).for_each(|timer| due.arm(timer));
        if let Some(timer) = Timer::ALL.into_iter().find(|timer| due.has(*timer) != self.armed.has(*timer)) {
            self.violated(guards(timer));
        }
    }

    fn check(&mut self, bounds: &Bounds) {
        if let Err(violation) = self.connection.check(bounds) {
            self.violated(violation.0);
        }
        let (connection, observed) = (&self.connection, &self.observed);
        let resume = matches!(observed.stage, Phase::Authenticating | Phase::Attaching).then_some(observed.resume);
        let credential = connection.auth().grant() == observed.credential.valid;
        let resumes = connection.resume() == resume;
        let reads = connection.is_reading() == observed.reads();
        let (id, closing) = (connection.id() == ID, connection.is_closing() == observed.cause.is_some());
        let bounded = observed.early.len() <= bounds.early && observed.outbox.len() <= bounds.outbox;
        let rank = connection.rank() == observed.distance();
        self.expect(credential, "AUTH-1");
        self.expect(resumes, "STR-1");
        self.expect(reads, "CONN-2");
        self.expect(id && closing, "CONN-1");
        self.expect(bounded, "LIM-1");
        self.expect(rank, "CONN-3");
    }
}

impl Socket {
    fn requests(&self) -> Vec<Request<u8>> {
        let message = |payload: u8| Request::Message {
            message: MessageId(u64::from(payload)),
            thread: ThreadId(0),
            run: RunId(1),
            payload,
            repeat: false,
            replaces: None,
        };
        let mut requests: Vec<_> = (0..self.messages).map(message).collect();
        requests.extend([Request::Cancel { runs: Cancel::Run(RunId(1)) }, Request::Ping, Request::Pong]);
        let message = Some(MessageId(1));
        requests.extend([None, message].map(|message| Request::Invalid { code: Code::Malformed, message }));
        requests.extend(Cause::ALL.iter().copied().map(Request::Violation));
        requests
    }

    fn start(&self) -> State {
        let mut out = Vec::new();
        let connection = Connection::accept(&self.bounds, ID, &mut out);
        let observed = Observed::default();
        let mut state = State { connection, observed, armed: Armed::default(), dead: false, broken: None };
        state.armed.arm(Timer::Handshake);
        state.expect(out == [Output::Arm(Timer::Handshake, self.bounds.handshake)], "CONN-3");
        state.check(&self.bounds);
        state
    }
}

impl Model for Socket {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        let fresh = |input| Action::Hear(input, false);
        actions.push(Action::Pull);
        if !state.dead {
            actions.push(Action::Die);
            let presented = state.observed.credential.presented < self.presented;
            if presented || state.observed.credential.unanswered == self.bounds.attempts {
                let resume = Resume { from: lockstep_model::frame::ReadFrom::Earliest, replaces: None };
                actions.extend(
                    [Resume::default(), resume]
                        .map(|resume| fresh(Input::Received(Request::Auth { token: 5, resume }))),
                );
            }
            actions.extend(self.requests().into_iter().map(Input::Received).map(fresh));
            actions.extend(Cause::ALL.iter().copied().map(Input::Gone).map(fresh));
        }
        let newest = state.observed.credential.presented;
        for attempt in (0..=newest + 1).map(VerificationId) {
            let verdicts = [good(1, 50), good(2, 50), Verdict::Rejected, Verdict::Unavailable];
            actions
                .extend(verdicts.map(|verdict| Action::Hear(Input::Verdict { attempt, verdict }, attempt.0 != newest)));
        }
        let ready = Control::Ready {
            user: UserId(1),
            epoch: Epoch(1),
            offset: Offset(0),
            head: Offset(0),
            resumed: true,
            mode: Mode::Ready,
        };
        let reset = Control::StreamReset { from: Offset(0), to: Offset(2) };
        let readies = [None, Some(reset)].map(|reset| Input::Ready { ready: ready.clone(), reset });
        actions.extend(readies.map(fresh));
        let refused = Control::Refused { message: MessageId(0), code: Code::Busy };
        actions.extend(Mode::ALL.map(Control::Mode).into_iter().chain([refused]).map(Input::Tell).map(fresh));
        actions.push(fresh(Input::Notify(7)));
        actions.extend(Cause::ALL.iter().copied().map(Input::Close).map(fresh));
        actions.extend([Input::Opened, Input::OpenedByMember, Input::Revoked].map(fresh));
        let relayed = Input::Relay { owner: Incarnation(2) };
        actions.extend([relayed, Input::RelayOpened, Input::RelayHeard].map(fresh));
        actions.extend(Successor::ALL.map(|successor| Input::Drain { successor }).map(fresh));
        actions.extend(Timer::ALL.map(|timer| Action::Hear(Input::Expired(timer), !state.armed.has(timer))));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        match action {
            Action::Hear(input, late) => {
                let _ = next.feed(&self.bounds, &last.connection, &input);
                // A stale input was checked above. If it changed nothing, it is no step.
                if late && next == *last {
                    return None;
                }
            }
            Action::Pull => next.pull(&self.bounds),
            Action::Die => next.dead = true,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = unbroken();
        all.extend([
            Property::sometimes("AUTH-1.readable", |_, state: &State| !state.observed.outbox.is_empty()),
            Property::sometimes("AUTH-2.refused", |_, state: &State| state.observed.cause == Some(Cause::UserMismatch)),
            Property::sometimes("AUTH-3.stale", |_, state: &State| state.observed.credential.unanswered > 1),
            Property::sometimes("CONN-1.closed", |_, state: &State| state.observed.stage == Phase::Closed),
            Property::sometimes("CONN-2.queued", |model: &Self, state: &State| {
                state.observed.stage == Phase::Attaching && state.observed.early.len() == model.bounds.early
            }),
            Property::sometimes("NODE-1.told", |_, state: &State| {
                state.observed.outbox.iter().any(|control| matches!(control, Control::Mode(_)))
            }),
            Property::sometimes("NODE-2.told", |_, state: &State| {
                state.observed.outbox.iter().any(|control| matches!(control, Control::GoingAway(_)))
            }),
            Property::sometimes("STR-1.reset", |_, state: &State| {
                state.observed.outbox.iter().any(|control| matches!(control, Control::StreamReset { .. }))
            }),
            Property::sometimes("LIVE-4.probed", |_, state: &State| state.observed.probing),
            Property::sometimes("CONN-3.found", |_, state: &State| state.observed.cause == Some(Cause::HeartbeatLost)),
            Property::sometimes("OWN-6.relayed", |_, state: &State| state.observed.stage == Phase::Relayed),
            Property::sometimes("OWN-6.refused", |_, state: &State| state.observed.cause == Some(Cause::Moved)),
            Property::sometimes("LIM-1.eager", |_, state: &State| state.observed.cause == Some(Cause::TooEager)),
            Property::sometimes("LIM-1.slow", |_, state: &State| state.observed.cause == Some(Cause::Slow)),
            Property::sometimes("LIM-1.flooding", |_, state: &State| state.observed.cause == Some(Cause::Flooding)),
        ]);
        all
    }
}

impl Proof for Socket {
    fn name(&self) -> &'static str {
        "connection"
    }

    fn about(&self) -> &'static str {
        "one connection and its credential: any input, any frame, any timer at any moment"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![
            ("credentials presented", self.presented.to_string()),
            ("early", self.bounds.early.to_string()),
            ("outbox", self.bounds.outbox.to_string()),
            ("requests", self.bounds.requests.to_string()),
            ("messages", self.messages.to_string()),
        ]
    }

    fn weight(&self, action: &Action) -> u32 {
        match action {
            // There is one such action for each cause.
            Action::Hear(Input::Close(_) | Input::Gone(_) | Input::Received(Request::Violation(_)), _) => 1,
            Action::Hear(Input::Drain { .. }, _) => 20,
            Action::Hear(Input::Revoked, _) | Action::Die => 2,
            Action::Hear(Input::Verdict { verdict: Verdict::Valid { grant, .. }, .. }, false)
                if grant.user == UserId(1) =>
            {
                80
            }
            Action::Hear(Input::Verdict { .. }, _) | Action::Hear(_, true) => 2,
            Action::Hear(Input::Expired(Timer::Allowance), false) => 80,
            Action::Hear(Input::Expired(_), false) => 8,
            Action::Hear(Input::Opened | Input::OpenedByMember | Input::RelayOpened | Input::Ready { .. }, _) => 200,
            Action::Pull => 300,
            Action::Hear(_, false) => 40,
        }
    }

    fn survives(&self, state: &State) -> bool {
        survives(&state.connection)
    }

    fn fairness(&self, action: &Action) -> Option<u8> {
        match action {
            Action::Hear(Input::Expired(timer), false) => Some(*timer as u8),
            Action::Hear(..) | Action::Pull | Action::Die => None,
        }
    }

    fn promises(&self) -> Vec<Promise<Self>> {
        vec![
            Promise {
                id: "LIVE-1",
                pending: |_, state| {
                    state.broken.is_none()
                        && !state.observed.reads()
                        && !matches!(state.observed.stage, Phase::Relayed | Phase::Closed)
                },
            },
            Promise {
                id: "LIVE-4",
                pending: |_, state| state.broken.is_none() && state.dead && state.observed.stage != Phase::Closed,
            },
        ]
    }
}
