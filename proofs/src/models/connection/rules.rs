//! The required reaction of a connection to each input, from the inputs alone.

use lockstep_model::auth::{self, Ending, Grant};
use lockstep_model::connection::Input;
use lockstep_model::{Attempt, Bounds, Cause, Code, Control, Request, Resume, Timer};
use std::time::Duration;

use crate::models::auth::Rules as Credential;
use crate::models::harness::Armed;

/// The expected phase of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Opening,
    Authenticating,
    Attaching,
    Live,
    Draining,
    Closing,
    Closed,
}

/// The expected state of a connection, from the inputs alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rules {
    pub(super) phase: Phase,
    pub(super) credential: Credential,
    pub(super) resume: Resume,
    pub(super) early: Vec<Request<u8>>,
    pub(super) outbox: Vec<Control<u8>>,
    /// The number of requests used from the current allowance.
    pub(super) spent: u16,
    pub(super) probing: bool,
    /// The first cause.
    pub(super) cause: Option<Cause>,
    /// Whether the close frame has left.
    pub(super) told: bool,
}

/// The required effects of an input.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    pub(super) done: bool,
    pub(super) handled: Vec<Request<u8>>,
    pub(super) verify: Vec<(Attempt, u8)>,
    pub(super) attach: Vec<Grant>,
    pub(super) wakes: usize,
    pub(super) closing: Vec<Cause>,
    pub(super) closed: Vec<Cause>,
    /// The credential's timers that must be armed.
    pub(super) credential: Vec<(Timer, Duration)>,
    /// How often the idle deadline is renewed.
    pub(super) idle: usize,
    /// How often an allowance begins: with the first request that uses it.
    pub(super) allowance: usize,
    /// The deadlines of the stages that were entered.
    pub(super) stages: Vec<Timer>,
}

impl Rules {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Opening,
            credential: Credential::default(),
            resume: Resume::default(),
            early: Vec::new(),
            outbox: Vec::new(),
            spent: 0,
            probing: false,
            cause: None,
            told: false,
        }
    }

    /// The distance from closed, which each effective expiry lowers.
    pub(super) fn distance(&self) -> u8 {
        match self.phase {
            Phase::Opening => 7,
            Phase::Authenticating => 6,
            Phase::Attaching => 5,
            Phase::Live if !self.probing => 4,
            Phase::Live => 3,
            Phase::Draining => 2,
            Phase::Closing => 1,
            Phase::Closed => 0,
        }
    }

    /// Returns the timers that must be armed.
    pub(super) fn timers(&self, warned: bool) -> Armed {
        let mut armed = Armed::default();
        match self.phase {
            Phase::Opening | Phase::Authenticating | Phase::Attaching => armed.arm(Timer::Handshake),
            Phase::Live => armed.arm(Timer::Idle),
            Phase::Draining => armed.arm(Timer::Grace),
            Phase::Closing => armed.arm(Timer::Close),
            Phase::Closed => {}
        }
        if self.phase == Phase::Live && self.spent > 0 {
            armed.arm(Timer::Allowance);
        }
        if self.credential.unanswered > 0 {
            armed.arm(Timer::Verification);
        }
        if self.credential.valid.is_some() {
            armed.arm(Timer::Credential);
            if !warned {
                armed.arm(Timer::Warning);
            }
        }
        armed
    }

    pub(super) fn reads(&self) -> bool {
        matches!(self.phase, Phase::Live | Phase::Draining)
    }

    pub(super) fn feed(&mut self, bounds: &Bounds, input: &Input<u8>) -> Effects {
        let open = self.cause.is_none();
        let mut effects = self.take(bounds, input);
        if open && self.cause.is_some() {
            effects.stages.push(Timer::Close);
        }
        effects
    }

    fn take(&mut self, bounds: &Bounds, input: &Input<u8>) -> Effects {
        let mut effects = Effects { done: true, ..Effects::default() };
        match (self.phase, input) {
            (Phase::Closed, _) => effects.done = false,
            (Phase::Closing, Input::Gone(_) | Input::Expired(Timer::Close)) => self.closed(&mut effects),
            (Phase::Closing, _) => effects.done = false,
            (_, Input::Gone(cause)) => {
                self.close(*cause, &mut effects);
                self.closed(&mut effects);
            }
            (_, Input::Close(cause) | Input::Received(Request::Violation(cause))) => self.close(*cause, &mut effects),
            (Phase::Opening, Input::Opened) => self.phase = Phase::Authenticating,
            (Phase::Opening | Phase::Attaching, Input::Expired(Timer::Handshake)) => {
                self.close(Cause::HandshakeTimeout, &mut effects);
            }
            (Phase::Authenticating, Input::Expired(Timer::Handshake)) => {
                let presented = self.credential.presented > 0;
                let cause = if presented { Cause::HandshakeTimeout } else { Cause::CredentialMissing };
                self.close(cause, &mut effects);
            }
            (Phase::Opening | Phase::Authenticating | Phase::Attaching, Input::Drain { .. })
            | (Phase::Draining, Input::Expired(Timer::Grace)) => self.close(Cause::GoingAway, &mut effects),
            (Phase::Live, Input::Drain { successor }) => {
                (self.phase, self.spent, self.probing) = (Phase::Draining, 0, false);
                effects.stages.push(Timer::Grace);
                self.say(bounds, Control::GoingAway(*successor), &mut effects);
            }
            (Phase::Attaching, Input::Ready { ready, reset }) => {
                (self.phase, self.spent, self.probing) = (Phase::Live, 0, false);
                effects.idle += 1;
                for control in [Some(ready), reset.as_ref()].into_iter().flatten() {
                    self.say(bounds, control.clone(), &mut effects);
                }
                for request in std::mem::take(&mut self.early) {
                    self.answer(bounds, request, &mut effects);
                }
            }
            (Phase::Live, Input::Expired(Timer::Idle)) if self.probing => {
                self.close(Cause::HeartbeatLost, &mut effects);
            }
            (Phase::Live, Input::Expired(Timer::Idle)) => {
                self.probing = true;
                effects.idle += 1;
                self.say(bounds, Control::Probe, &mut effects);
            }
            (Phase::Live, Input::Expired(Timer::Allowance)) => self.spent = 0,
            (Phase::Live | Phase::Draining, Input::Tell(control)) => self.say(bounds, control.clone(), &mut effects),
            (Phase::Live | Phase::Draining, Input::Notify(payload)) => {
                if self.outbox.len() < bounds.outbox / 2 {
                    self.say(bounds, Control::Notice(*payload), &mut effects);
                } else {
                    effects.done = false;
                }
            }
            (Phase::Opening, _) => effects.done = false,
            (_, Input::Received(request)) => self.receive(bounds, request, &mut effects),
            (_, Input::Verdict { attempt, verdict }) => {
                let input = auth::Input::Verdict { attempt: *attempt, verdict: *verdict };
                self.consult(bounds, input, None, &mut effects);
            }
            (_, Input::Revoked) => self.consult(bounds, auth::Input::Revoked, None, &mut effects),
            (_, Input::Expired(timer @ (Timer::Verification | Timer::Warning | Timer::Credential))) => {
                self.consult(bounds, auth::Input::Expired(*timer), None, &mut effects);
            }
            (
                _,
                Input::Opened
                | Input::Ready { .. }
                | Input::Tell(_)
                | Input::Notify(_)
                | Input::Drain { .. }
                | Input::Expired(_),
            ) => effects.done = false,
        }
        effects
    }

    fn receive(&mut self, bounds: &Bounds, request: &Request<u8>, effects: &mut Effects) {
        let live = self.phase == Phase::Live;
        if let Request::Auth { token, resume } = request {
            if self.credential.presented == 0 {
                self.resume = *resume;
            }
            self.heard(effects);
            return self.consult(bounds, auth::Input::Presented, Some(*token), effects);
        }
        let stranger = self.phase == Phase::Authenticating && self.credential.presented == 0;
        if stranger && matches!(request, Request::Invalid { .. }) {
            return self.close(Cause::CredentialMissing, effects);
        }
        if !self.reads() {
            if self.early.len() == bounds.early {
                return self.close(Cause::TooEager, effects);
            }
            return self.early.push(request.clone());
        }
        let asks = match request {
            Request::Message { .. }
            | Request::Cancel { .. }
            | Request::Seek { .. }
            | Request::Delete { .. }
            | Request::Query { .. }
            | Request::Ping
            | Request::Invalid { .. } => true,
            Request::Auth { .. } | Request::Pong | Request::Violation(_) => false,
        };
        if live && asks && bounds.requests > 0 {
            if self.spent == bounds.requests {
                return self.close(Cause::Flooding, effects);
            }
            effects.allowance += usize::from(self.spent == 0);
            self.spent += 1;
        }
        self.heard(effects);
        self.answer(bounds, request.clone(), effects);
    }

    fn heard(&mut self, effects: &mut Effects) {
        if self.phase == Phase::Live {
            self.probing = false;
            effects.idle += 1;
        }
    }

    fn answer(&mut self, bounds: &Bounds, request: Request<u8>, effects: &mut Effects) {
        if !self.reads() {
            return;
        }
        match request {
            Request::Ping => self.say(bounds, Control::Pong, effects),
            Request::Invalid { code, message } => {
                let control = message.map_or(Control::Error(code), |message| Control::Refused { message, code });
                self.say(bounds, control, effects);
            }
            Request::Message { .. }
            | Request::Cancel { .. }
            | Request::Seek { .. }
            | Request::Delete { .. }
            | Request::Query { .. } => effects.handled.push(request),
            Request::Pong | Request::Auth { .. } | Request::Violation(_) => {}
        }
    }

    fn consult(&mut self, bounds: &Bounds, input: auth::Input, token: Option<u8>, effects: &mut Effects) {
        let Some(expected) = self.credential.feed(bounds, input) else {
            effects.done = false;
            return;
        };
        for output in expected.outputs {
            match output {
                auth::Output::Verify(attempt) => effects.verify.extend(token.map(|token| (attempt, token))),
                // A timer that was armed after closing would never be disarmed.
                auth::Output::Arm(timer, after) if self.cause.is_none() => effects.credential.push((timer, after)),
                auth::Output::Arm(..) | auth::Output::Disarm(_) => {}
                auth::Output::Granted(grant) => {
                    self.phase = Phase::Attaching;
                    effects.attach.push(grant);
                }
                auth::Output::Renewed => self.say(bounds, Control::AuthOk, effects),
                auth::Output::NotRenewed => self.say(bounds, Control::Error(Code::VerifierUnavailable), effects),
                auth::Output::Expiring => self.say(bounds, Control::AuthExpiring, effects),
                auth::Output::Ended(ending) => self.close(cause_of(ending), effects),
            }
        }
    }

    /// A notice replaces an older one of its kind that has not left. A full outbox means a slow peer.
    fn say(&mut self, bounds: &Bounds, control: Control<u8>, effects: &mut Effects) {
        if !self.reads() {
            return;
        }
        let notice =
            matches!(control, Control::Mode(_) | Control::Probe | Control::AuthExpiring | Control::GoingAway(_));
        let kind = std::mem::discriminant(&control);
        let older = self.outbox.iter().position(|queued| notice && std::mem::discriminant(queued) == kind);
        match older {
            Some(index) => self.outbox[index] = control,
            None if self.outbox.len() == bounds.outbox => self.close(Cause::Slow, effects),
            None => {
                self.outbox.push(control);
                effects.wakes += 1;
            }
        }
    }

    fn close(&mut self, cause: Cause, effects: &mut Effects) {
        if self.cause.is_some() {
            return;
        }
        self.cause = Some(cause);
        *self = Self { phase: Phase::Closing, cause: self.cause, ..Self::new() };
        self.credential.ending = Some(Ending::Abandoned);
        effects.closing.push(cause);
        effects.wakes += 1;
    }

    fn closed(&mut self, effects: &mut Effects) {
        self.phase = Phase::Closed;
        self.told = false;
        effects.closed.extend(self.cause);
    }
}

/// Returns the cause with which a connection ends when its credential does.
const fn cause_of(ending: Ending) -> Cause {
    match ending {
        Ending::Expired => Cause::CredentialExpired,
        Ending::Revoked => Cause::CredentialRevoked,
        Ending::Rejected => Cause::CredentialRejected,
        Ending::Unavailable => Cause::VerifierUnavailable,
        Ending::OtherUser => Cause::UserMismatch,
        Ending::Flooding => Cause::Flooding,
        Ending::Abandoned => Cause::Fault,
    }
}
