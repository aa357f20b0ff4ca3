//! One connection ([`lockstep_model::connection`]) with its credential, alone.
//!
//! Explores every input in every state: requests before the socket is open and after it is closed, verdicts for past,
//! present and future attempts, an unexpected `Ready`, drains, closes and failures that come twice, any timer. The peer
//! may fall silent for good at any moment. The number of presented credentials is bounded, as in
//! [`crate::models::auth`].
//!
//! Requests differ only as far as the machine distinguishes them. Two messages stand for all, because the machine
//! passes payloads on unread, and so do two refusal codes (a test covers each code). Every cause, mode, successor and
//! timer is included.
//!
//! LIVE-1 and LIVE-4 are decided on the graph with fair timers alone: a connection ends without any answer of the
//! verifier.

mod chart;
mod rules;

use lockstep_model::auth::Verdict;
use lockstep_model::connection::{CloseFrame, Connection, Input, Liveness, Output, State as Stage};
use lockstep_model::{
    Attempt, Bounds, Cancel, Cause, Code, ConnectionId, Control, Epoch, Frame, Handled, MessageId, Mode, Offset,
    Request, Resume, RunId, Successor, ThreadId, Timer, UserId,
};
use stateright::{Model, Property};

use self::rules::{Effects, Phase, Rules};
use crate::engine::profile::Profile;
use crate::engine::proof::{Promise, Proof};
use crate::models::auth::good;
use crate::models::harness::{Armed, checked, deadline, small};

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
    rules: Rules,
    armed: Armed,
    dead: bool,
    broken: Option<&'static str>,
}

const ID: ConnectionId = ConnectionId(9);

checked![Socket, State; "AUTH-1", "AUTH-2", "AUTH-3", "CONN-1", "CONN-2", "CONN-3", "LIM-1"];

impl State {
    fn pull(&mut self, bounds: &Bounds) {
        let expected = match self.rules.phase {
            Phase::Live | Phase::Draining if !self.rules.outbox.is_empty() => {
                Some(Frame::Control(self.rules.outbox.remove(0)))
            }
            Phase::Closing if !self.rules.told => self.rules.cause.map(Frame::Close),
            Phase::Opening
            | Phase::Authenticating
            | Phase::Attaching
            | Phase::Live
            | Phase::Draining
            | Phase::Closing
            | Phase::Closed => None,
        };
        self.rules.told |= self.rules.phase == Phase::Closing;
        self.expect(self.connection.has_frame() == expected.is_some(), "AUTH-1");
        let frame = self.connection.pull();
        if let Some(frame) = &frame {
            let valid = self.rules.credential.valid.is_some();
            self.expect(!frame.is_application() || valid, "AUTH-1");
        }
        let property = if matches!(frame, Some(Frame::Close(_))) { "CONN-1" } else { "AUTH-1" };
        self.expect(frame == expected, property);
        self.check(bounds);
    }

    /// Feeds an input to the machine in its state `before`.
    fn feed(&mut self, bounds: &Bounds, before: &Connection<u8>, input: &Input<u8>) -> Handled {
        let distance = self.rules.distance();
        let warned = !self.armed.has(Timer::Warning);
        if let Input::Expired(timer) = input {
            self.armed.disarm(*timer);
        }
        let expected = self.rules.feed(bounds, input);
        let mut out = Vec::new();
        let handled = self.connection.step(bounds, input.clone(), &mut out);
        let effects = self.dispatch(bounds, &out, handled);
        if handled == Handled::Ignored {
            let property = if matches!(input, Input::Verdict { .. }) { "AUTH-3" } else { "CONN-1" };
            self.expect(self.connection == *before && out.is_empty(), property);
        }
        self.compare(&expected, &effects);
        if let Input::Expired(Timer::Handshake | Timer::Idle | Timer::Grace | Timer::Close) = input
            && handled == Handled::Done
        {
            self.expect(self.rules.distance() < distance && self.connection.rank() < before.rank(), "CONN-3");
        }
        let renewed = effects.credential.iter().any(|(timer, _)| *timer == Timer::Warning);
        let fired = matches!(input, Input::Expired(Timer::Warning));
        let timers = self.rules.timers((warned && !renewed) || fired);
        self.expect(self.armed == timers, "CONN-3");
        self.check(bounds);
        handled
    }

    fn dispatch(&mut self, bounds: &Bounds, out: &[Output<u8>], handled: Handled) -> Effects {
        let mut effects = Effects { done: handled == Handled::Done, ..Effects::default() };
        for output in out {
            match output {
                Output::Verify { attempt, token } => effects.verify.push((*attempt, *token)),
                Output::Arm(timer, after) => {
                    self.armed.arm(*timer);
                    if matches!(timer, Timer::Verification | Timer::Warning | Timer::Credential) {
                        effects.credential.push((*timer, *after));
                    } else {
                        self.expect(deadline(bounds, *timer) == Some(*after), "CONN-3");
                    }
                    effects.idle += usize::from(*timer == Timer::Idle);
                    effects.allowance += usize::from(*timer == Timer::Allowance);
                    if matches!(timer, Timer::Handshake | Timer::Grace | Timer::Close) {
                        effects.stages.push(*timer);
                    }
                }
                Output::Disarm(timer) => self.armed.disarm(*timer),
                Output::Attach(grant) => effects.attach.push(*grant),
                Output::Handle(request) => {
                    self.expect(effects.closing.is_empty(), "CONN-1");
                    effects.handled.push(request.clone());
                }
                Output::Wake => effects.wakes += 1,
                Output::Closing(cause) => effects.closing.push(*cause),
                Output::Closed(cause) => {
                    self.expect(self.rules.cause == Some(*cause), "CONN-1");
                    effects.closed.push(*cause);
                }
            }
        }
        effects
    }

    fn compare(&mut self, expected: &Effects, effects: &Effects) {
        self.expect(expected.closing == effects.closing && expected.closed == effects.closed, "CONN-1");
        self.expect(expected.handled == effects.handled, "CONN-2");
        self.expect(expected.verify == effects.verify && expected.credential == effects.credential, "AUTH-3");
        self.expect(expected.attach == effects.attach, "AUTH-2");
        self.expect(expected.idle == effects.idle && expected.stages == effects.stages, "CONN-3");
        self.expect(expected.allowance == effects.allowance, "LIM-1");
        self.expect(expected.wakes == effects.wakes && expected.done == effects.done, "CONN-2");
    }

    fn check(&mut self, bounds: &Bounds) {
        if let Err(violation) = self.connection.check(bounds) {
            self.violated(violation.0);
        }
        self.expect(self.connection.id() == ID, "CONN-1");
        self.expect(self.connection.rank() == self.rules.distance(), "CONN-3");
        let rules = &self.rules;
        let early = |early: &std::collections::VecDeque<Request<u8>>| *early == rules.early;
        let stage = match self.connection.state() {
            Stage::Opening => rules.phase == Phase::Opening,
            Stage::Authenticating { early: queued, resume } => {
                rules.phase == Phase::Authenticating && early(queued) && *resume == rules.resume
            }
            Stage::Attaching { early: queued, resume } => {
                rules.phase == Phase::Attaching && early(queued) && *resume == rules.resume
            }
            Stage::Live { liveness, allowance } => {
                rules.phase == Phase::Live
                    && (*liveness == Liveness::Probed) == rules.probing
                    && *allowance == bounds.requests - rules.spent
            }
            Stage::Draining => rules.phase == Phase::Draining,
            Stage::Closing { cause, frame } => {
                rules.phase == Phase::Closing
                    && Some(*cause) == rules.cause
                    && (*frame == CloseFrame::Sent) == rules.told
            }
            Stage::Closed { cause } => rules.phase == Phase::Closed && Some(*cause) == rules.cause,
        };
        let valid = rules.credential.valid;
        let bounded = rules.early.len() <= bounds.early && rules.outbox.len() <= bounds.outbox;
        let reading = self.connection.is_reading() == rules.reads();
        let closing = self.connection.is_closing() == rules.cause.is_some();
        self.expect(stage && reading && closing, "CONN-2");
        self.expect(self.connection.auth().grant() == valid, "AUTH-1");
        self.expect(bounded, "LIM-1");
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
        let mut state = State { connection, rules: Rules::new(), armed: Armed::default(), dead: false, broken: None };
        state.dispatch(&self.bounds, &out, Handled::Done);
        let timers = state.rules.timers(false);
        state.expect(state.armed == timers && out.len() == 1, "CONN-3");
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
            let presented = state.rules.credential.presented < self.presented;
            if presented || state.rules.credential.unanswered == self.bounds.attempts {
                let resume = Resume { from: lockstep_model::frame::ReadFrom::Earliest, replaces: None };
                actions.extend(
                    [Resume::default(), resume]
                        .map(|resume| fresh(Input::Received(Request::Auth { token: 5, resume }))),
                );
            }
            actions.extend(self.requests().into_iter().map(Input::Received).map(fresh));
            actions.extend(Cause::ALL.iter().copied().map(Input::Gone).map(fresh));
        }
        let newest = state.rules.credential.presented;
        for attempt in (0..=newest + 1).map(Attempt) {
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
        actions.extend([Input::Opened, Input::Revoked].map(fresh));
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
            Property::sometimes("AUTH-1.readable", |_, state: &State| !state.rules.outbox.is_empty()),
            Property::sometimes("AUTH-2.refused", |_, state: &State| state.rules.cause == Some(Cause::UserMismatch)),
            Property::sometimes("AUTH-3.stale", |_, state: &State| state.rules.credential.unanswered > 1),
            Property::sometimes("CONN-1.closed", |_, state: &State| state.rules.phase == Phase::Closed),
            Property::sometimes("CONN-2.queued", |model: &Self, state: &State| {
                state.rules.phase == Phase::Attaching && state.rules.early.len() == model.bounds.early
            }),
            Property::sometimes("CONN-3.found", |_, state: &State| state.rules.cause == Some(Cause::HeartbeatLost)),
            Property::sometimes("LIM-1.eager", |_, state: &State| state.rules.cause == Some(Cause::TooEager)),
            Property::sometimes("LIM-1.slow", |_, state: &State| state.rules.cause == Some(Cause::Slow)),
            Property::sometimes("LIM-1.flooding", |_, state: &State| state.rules.cause == Some(Cause::Flooding)),
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
                    state.broken.is_none() && !state.rules.reads() && state.rules.phase != Phase::Closed
                },
            },
            Promise {
                id: "LIVE-4",
                pending: |_, state| state.broken.is_none() && state.dead && state.rules.phase != Phase::Closed,
            },
        ]
    }
}
