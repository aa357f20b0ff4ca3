//! CONN-1, CONN-2, CONN-3 and the bounds of one connection (LIM-1), from its inputs, outputs and frames.
//!
//! The observer knows what the peer was promised: the requests that wait for `connection_ready`, the frames that it is
//! to be told, the time that each stage may take. Each rule is one function:
//!
//! | rule | property |
//! | --- | --- |
//! | `due`: which input closes a connection, with which cause | CONN-1 and what the cause protects |
//! | `enters`: how a connection becomes live and leaves | CONN-2 |
//! | `hears`: requests wait, count, and are handled once, in order | CONN-2, LIM-1 |
//! | `tells`: the frames that an input makes a reading connection send | what the frame says |
//! | `deadlines`: the timers that are armed | CONN-3 and what the timer guards |

use core::time::Duration;

use lockstep_model::auth::{self, Ending, Grant};
use lockstep_model::connection::{Input, Output};
use lockstep_model::{Bounds, Cause, Code, Control, Frame, Incarnation, Request, Resume, Timer, VerificationId};

use super::attribution::{guards, protects, tells};
use super::credential::{Credential, Effect};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Stage {
    #[default]
    Opening,
    Authenticating,
    Attaching,
    /// The owner's process has not accepted it yet.
    Relaying,
    Relayed,
    Live,
    Draining,
    Closing,
    Closed,
}

/// What was observed of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Observed {
    pub(crate) stage: Stage,
    pub(crate) credential: Credential,
    /// Where its first credential wants to resume.
    pub(crate) resume: Resume,
    /// Requests that wait for `connection_ready`.
    pub(crate) early: Vec<Request<u8>>,
    /// Frames that the peer must get, in order.
    pub(crate) outbox: Vec<Control<u8>>,
    /// The number of requests used from the current allowance.
    spent: u16,
    /// Whether the peer was probed and has not been heard since.
    pub(crate) probing: bool,
    /// Whether another process relays the connection here, as long as it may be relayed again.
    pub(crate) from_member: bool,
    /// Whether the owner's process of a relayed connection was probed and has not been heard since.
    pub(crate) owner_probing: bool,
    /// The first cause.
    pub(crate) cause: Option<Cause>,
    /// Whether the close frame has left.
    told: bool,
}

/// What a step brings about.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Whether the input is taken. A late one changes nothing.
    pub(crate) taken: bool,
    handled: Vec<Request<u8>>,
    relay: Vec<Incarnation>,
    verify: Vec<(VerificationId, u8)>,
    attach: Vec<Grant>,
    closing: Vec<Cause>,
    closed: Vec<Cause>,
    /// The timers that are armed and stay armed.
    arms: Vec<(Timer, Duration)>,
    /// Whether the writer is woken.
    wakes: bool,
    /// The property that the credential's part of the step keeps.
    trust: Option<&'static str>,
    /// The property that is violated if the writer is not woken for what there is to pull.
    news: Option<&'static str>,
}

impl Observed {
    /// Whether the peer may be sent application frames.
    pub(crate) const fn reads(&self) -> bool {
        matches!(self.stage, Stage::Live | Stage::Draining)
    }

    /// Whether the peer may be sent anything but the close: a relayed one is probed.
    const fn sends(&self) -> bool {
        self.reads() || matches!(self.stage, Stage::Relayed)
    }

    /// The distance from closed, which each effective expiry lowers.
    pub(crate) const fn distance(&self) -> u8 {
        match self.stage {
            Stage::Opening => 7,
            Stage::Authenticating => 6,
            Stage::Attaching => 5,
            Stage::Relaying => 4,
            Stage::Live if !self.probing => 4,
            Stage::Live => 3,
            Stage::Relayed if !self.probing && !self.owner_probing => 3,
            Stage::Draining | Stage::Relayed => 2,
            Stage::Closing => 1,
            Stage::Closed => 0,
        }
    }

    /// CONN-3: the timers that must be armed, apart from the warning, which fires once.
    pub(crate) fn deadlines(&self) -> Vec<Timer> {
        let stage = self.limit();
        let allowance = (self.stage == Stage::Live && self.spent > 0).then_some(Timer::Allowance);
        let verification = self.credential.is_awaited().then_some(Timer::Verification);
        let credential = self.credential.valid.is_some().then_some(Timer::Credential);
        [stage, allowance, verification, credential].into_iter().flatten().collect()
    }

    /// The timer that bounds the stage.
    const fn limit(&self) -> Option<Timer> {
        match self.stage {
            Stage::Opening | Stage::Authenticating | Stage::Attaching | Stage::Relaying => Some(Timer::Handshake),
            Stage::Live | Stage::Relayed => Some(Timer::Idle),
            Stage::Draining => Some(Timer::Grace),
            Stage::Closing => Some(Timer::Close),
            Stage::Closed => None,
        }
    }

    /// How long the stage may take.
    const fn longest(&self, bounds: &Bounds) -> Duration {
        match self.stage {
            Stage::Opening | Stage::Authenticating | Stage::Attaching | Stage::Relaying => bounds.handshake,
            Stage::Live | Stage::Relayed => bounds.idle,
            Stage::Draining => bounds.grace,
            Stage::Closing | Stage::Closed => bounds.close,
        }
    }

    /// Takes an input.
    pub(crate) fn feed(&mut self, bounds: &Bounds, input: &Input<u8>) -> Effects {
        let mut expected = Effects::default();
        let (limit, waiting) = (self.limit(), self.outbox.len());
        let ends = matches!(input, Input::Gone(_) | Input::Expired(Timer::Close));
        if self.cause.is_some() {
            expected.taken = self.stage == Stage::Closing && ends;
        } else {
            self.live(bounds, input, &mut expected);
        }
        if expected.taken && ends {
            expected.closed.extend(self.cause);
            (self.stage, self.told) = (Stage::Closed, false);
        }
        expected.news = match self.outbox.last().filter(|_| self.outbox.len() > waiting) {
            Some(control) => Some(tells(control)),
            None => (!expected.closing.is_empty()).then_some("CONN-1"),
        };
        if self.cause.is_some() {
            expected.arms.clear();
        }
        // A stage begins with its deadline. A closing one that is closed in the same step needs none.
        let begins = if self.limit() == limit { None } else { self.limit() };
        expected.arms.extend(begins.map(|timer| (timer, self.longest(bounds))));
        expected
    }

    /// Takes an input on a connection that is not closing.
    fn live(&mut self, bounds: &Bounds, input: &Input<u8>, expected: &mut Effects) {
        let first = self.credential.presented == 0;
        let effect = self.consult(bounds, input, expected);
        if let Some(cause) = self.due(bounds, input, effect) {
            expected.taken = true;
            return self.close(cause, expected);
        }
        if let (Effect::Asked(attempt), Input::Received(Request::Auth { token, resume })) = (effect, input) {
            if first {
                self.resume = *resume;
            }
            expected.verify.push((attempt, *token));
        }
        if let Effect::Granted(grant, _) = effect {
            expected.attach.push(grant);
        }
        let entered = self.enters(input, effect);
        if let Some(stage) = entered {
            (self.stage, self.spent, self.probing) = (stage, 0, false);
        }
        if let (Some(Stage::Relaying), Input::Relay { owner }) = (entered, input) {
            // The owner's process verifies the credential, and answers what has arrived.
            *self = Self { stage: self.stage, ..Self::default() };
            self.credential.ending = Some(Ending::Abandoned);
            expected.relay.push(*owner);
        }
        self.from_member |= *input == Input::OpenedByMember && entered.is_some();
        self.from_member &= entered != Some(Stage::Live);
        expected.arms.extend(effect.arms(bounds));
        let told = self.tells(bounds, input, effect, entered);
        let allowed = self.stage == Stage::Live && *input == Input::Expired(Timer::Allowance);
        if allowed {
            self.spent = 0;
        }
        let received = matches!(input, Input::Received(_)) && !matches!(self.stage, Stage::Opening | Stage::Relaying);
        let passed = *input == Input::RelayHeard && self.stage == Stage::Relayed;
        expected.taken =
            effect != Effect::Late || entered.is_some() || !told.is_empty() || received || passed || allowed;
        self.owner_probing &= !passed;
        if *input == Input::Expired(Timer::Idle) && matches!(self.stage, Stage::Live | Stage::Relayed) {
            (self.probing, self.owner_probing) = (true, self.stage == Stage::Relayed);
            expected.arms.push((Timer::Idle, bounds.idle));
        }
        for control in told {
            self.say(bounds, control, expected);
        }
        self.hears(bounds, input, entered, expected);
    }

    /// The credential's part of an input.
    fn consult(&mut self, bounds: &Bounds, input: &Input<u8>, expected: &mut Effects) -> Effect {
        let input = match input {
            _ if matches!(self.stage, Stage::Opening | Stage::Relaying | Stage::Relayed) => return Effect::Late,
            Input::Received(Request::Auth { .. }) => auth::Input::Presented,
            Input::Verdict { attempt, verdict } => auth::Input::Verdict { attempt: *attempt, verdict: *verdict },
            Input::Revoked => auth::Input::Revoked,
            Input::Expired(timer) => auth::Input::Expired(*timer),
            Input::Opened
            | Input::OpenedByMember
            | Input::Received(_)
            | Input::Ready { .. }
            | Input::Tell(_)
            | Input::Notify(_)
            | Input::Relay { .. }
            | Input::RelayOpened
            | Input::RelayHeard => return Effect::Late,
            Input::Drain { .. } | Input::Close(_) | Input::Gone(_) => return Effect::Late,
        };
        let effect = self.credential.feed(bounds, &input);
        expected.trust = Some(effect.property(&input));
        effect
    }

    /// CONN-1: the cause with which an input closes a connection that is not closing, if it does. (It may also close
    /// because the peer does not read what it is told.)
    fn due(&self, bounds: &Bounds, input: &Input<u8>, effect: Effect) -> Option<Cause> {
        let unknown = self.credential.presented == 0 && self.stage == Stage::Authenticating;
        let full = self.early.len() == bounds.early;
        let used_up = self.stage == Stage::Live && bounds.requests > 0 && self.spent == bounds.requests;
        match input {
            Input::Gone(cause) | Input::Close(cause) | Input::Received(Request::Violation(cause)) => Some(*cause),
            Input::Received(Request::Invalid { .. }) if unknown => Some(Cause::CredentialMissing),
            Input::Received(request) if !matches!(request, Request::Auth { .. }) => match self.stage {
                Stage::Authenticating | Stage::Attaching => full.then_some(Cause::TooEager),
                Stage::Live => (used_up && needs_answer(request)).then_some(Cause::Flooding),
                Stage::Opening
                | Stage::Relaying
                | Stage::Relayed
                | Stage::Draining
                | Stage::Closing
                | Stage::Closed => None,
            },
            Input::Expired(Timer::Handshake) if unknown => Some(Cause::CredentialMissing),
            Input::Expired(Timer::Handshake) => (self.stage <= Stage::Relaying).then_some(Cause::HandshakeTimeout),
            Input::Expired(Timer::Idle) => match self.stage {
                Stage::Live => self.probing.then_some(Cause::HeartbeatLost),
                Stage::Relayed => (self.probing || self.owner_probing).then_some(Cause::HeartbeatLost),
                Stage::Opening
                | Stage::Authenticating
                | Stage::Attaching
                | Stage::Relaying
                | Stage::Draining
                | Stage::Closing
                | Stage::Closed => None,
            },
            // OWN-6
            Input::Relay { .. } => (self.stage == Stage::Attaching && self.from_member).then_some(Cause::Moved),
            Input::Expired(Timer::Grace) => (self.stage == Stage::Draining).then_some(Cause::GoingAway),
            Input::Drain { .. } => (self.stage < Stage::Live).then_some(Cause::GoingAway),
            Input::Opened
            | Input::OpenedByMember
            | Input::RelayOpened
            | Input::RelayHeard
            | Input::Received(_)
            | Input::Verdict { .. }
            | Input::Ready { .. }
            | Input::Tell(_)
            | Input::Notify(_)
            | Input::Revoked
            | Input::Expired(_) => match effect {
                Effect::Ended(ending) => Some(cause_of(ending)),
                Effect::Late
                | Effect::Asked(_)
                | Effect::Granted(..)
                | Effect::Renewed(_)
                | Effect::NotRenewed
                | Effect::Expiring => None,
            },
        }
    }

    /// CONN-2: one input leads from each stage to the next.
    fn enters(&self, input: &Input<u8>, effect: Effect) -> Option<Stage> {
        match (self.stage, input) {
            (Stage::Opening, Input::Opened | Input::OpenedByMember) => Some(Stage::Authenticating),
            (Stage::Attaching, Input::Relay { .. }) => Some(Stage::Relaying),
            (Stage::Relaying, Input::RelayOpened) => Some(Stage::Relayed),
            (Stage::Authenticating, _) if matches!(effect, Effect::Granted(..)) => Some(Stage::Attaching),
            (Stage::Attaching, Input::Ready { .. }) => Some(Stage::Live),
            (Stage::Live, Input::Drain { .. }) => Some(Stage::Draining),
            _ => None,
        }
    }

    /// CONN-2, LIM-1: a request waits until the connection reads. Then all that have waited are handled, in order, and
    /// from then on each at once. Any sign of life renews the idle deadline.
    fn hears(&mut self, bounds: &Bounds, input: &Input<u8>, entered: Option<Stage>, expected: &mut Effects) {
        if entered == Some(Stage::Live) {
            for request in core::mem::take(&mut self.early) {
                self.handle(bounds, request, expected);
            }
        }
        let Input::Received(request) = input else { return };
        if self.cause.is_some() || self.stage == Stage::Opening {
            return;
        }
        if matches!(self.stage, Stage::Relaying | Stage::Relayed) {
            self.probing = false;
            return;
        }
        let is_credential = matches!(request, Request::Auth { .. });
        if !self.reads() {
            if !is_credential {
                self.early.push(request.clone());
            }
            return;
        }
        if self.stage == Stage::Live {
            self.probing = false;
            expected.arms.push((Timer::Idle, bounds.idle));
            if needs_answer(request) && bounds.requests > 0 {
                if self.spent == 0 {
                    expected.arms.push((Timer::Allowance, bounds.allowance));
                }
                self.spent += 1;
            }
        }
        if !is_credential {
            self.handle(bounds, request.clone(), expected);
        }
    }

    fn handle(&mut self, bounds: &Bounds, request: Request<u8>, expected: &mut Effects) {
        if !self.reads() {
            return;
        }
        match request {
            Request::Ping => self.say(bounds, Control::Pong, expected),
            Request::Invalid { code, message: None } => self.say(bounds, Control::Error(code), expected),
            Request::Invalid { code, message: Some(message) } => {
                self.say(bounds, Control::Refused { message, code }, expected);
            }
            Request::Message { .. }
            | Request::Cancel { .. }
            | Request::Reply { .. }
            | Request::Seek { .. }
            | Request::Delete { .. }
            | Request::Query { .. } => {
                expected.handled.push(request);
            }
            Request::Pong | Request::Auth { .. } | Request::Violation(_) => {}
        }
    }

    /// The frames that an input makes a reading connection send, apart from replies to requests.
    fn tells(&self, bounds: &Bounds, input: &Input<u8>, effect: Effect, entered: Option<Stage>) -> Vec<Control<u8>> {
        let told = match (input, effect) {
            (_, Effect::Renewed(_)) => vec![Control::AuthOk],
            (_, Effect::NotRenewed) => vec![Control::Error(Code::VerifierUnavailable)],
            (_, Effect::Expiring) => vec![Control::AuthExpiring],
            (Input::Ready { ready, reset }, _) if entered.is_some() => {
                [Some(ready.clone()), reset.clone()].into_iter().flatten().collect()
            }
            (Input::Drain { successor }, _) if entered.is_some() => vec![Control::GoingAway(*successor)],
            (Input::Tell(control), _) if self.reads() => vec![control.clone()],
            (Input::Notify(payload), _) if self.reads() && self.outbox.len() < bounds.outbox / 2 => {
                vec![Control::Notice(*payload)]
            }
            (Input::Expired(Timer::Idle), _) if matches!(self.stage, Stage::Live | Stage::Relayed) => {
                vec![Control::Probe]
            }
            _ => Vec::new(),
        };
        if self.sends() { told } else { Vec::new() }
    }

    /// A frame takes the place of an older one that it makes obsolete. LIM-1: a peer that lets its outbox overflow is
    /// too slow.
    fn say(&mut self, bounds: &Bounds, control: Control<u8>, expected: &mut Effects) {
        if !self.sends() {
            return;
        }
        let news = matches!(control, Control::Mode(_) | Control::Probe | Control::AuthExpiring | Control::GoingAway(_));
        let kind = core::mem::discriminant(&control);
        let older = self.outbox.iter().position(|queued| news && core::mem::discriminant(queued) == kind);
        match older {
            Some(older) => self.outbox[older] = control,
            None if self.outbox.len() == bounds.outbox => self.close(Cause::Slow, expected),
            None => self.outbox.push(control),
        }
    }

    /// CONN-1: the first cause stays. Nothing is kept that a closing connection does not need.
    fn close(&mut self, cause: Cause, expected: &mut Effects) {
        *self = Self { stage: Stage::Closing, cause: Some(cause), ..Self::default() };
        self.credential.ending = Some(Ending::Abandoned);
        expected.closing.push(cause);
    }

    /// Takes the frame that is pulled next, if there is one.
    pub(crate) fn pull(&mut self) -> Option<Frame<u8>> {
        if self.sends() && !self.outbox.is_empty() {
            return Some(Frame::Control(self.outbox.remove(0)));
        }
        let frame = self.cause.filter(|_| self.stage == Stage::Closing && !self.told);
        self.told |= frame.is_some();
        frame.map(Frame::Close)
    }
}

impl Effects {
    /// What these outputs bring about.
    pub(crate) fn of(out: &[Output<u8>]) -> Self {
        let mut seen = Self::default();
        for output in out {
            match output {
                Output::Verify { attempt, token } => seen.verify.push((*attempt, *token)),
                Output::Arm(timer, after) => {
                    seen.arms.retain(|(armed, _)| armed != timer);
                    seen.arms.push((*timer, *after));
                }
                Output::Disarm(timer) => seen.arms.retain(|(armed, _)| armed != timer),
                Output::Attach(grant) => seen.attach.push(*grant),
                Output::Relay { owner } => seen.relay.push(*owner),
                Output::Handle(request) => seen.handled.push(request.clone()),
                Output::Wake => seen.wakes = true,
                Output::Closing(cause) => seen.closing.push(*cause),
                Output::Closed(cause) => seen.closed.push(*cause),
            }
        }
        seen
    }

    /// The property that is violated if this was required and a step brings about `seen`.
    pub(crate) fn violated_by(&self, seen: &Self) -> Option<&'static str> {
        let extra = |arm: &&(Timer, Duration)| !self.arms.contains(arm);
        let arm = self.arms.iter().find(|arm| !seen.arms.contains(arm)).or(seen.arms.iter().find(extra));
        let stays = seen.closing.is_empty() && seen.closed.is_empty();
        let checks = [
            (self.closing != seen.closing).then(|| self.closing.first().filter(|_| stays).map_or("CONN-1", protects)),
            (self.closed != seen.closed).then_some("CONN-1"),
            (self.handled != seen.handled).then_some("CONN-2"),
            (self.relay != seen.relay).then_some("OWN-6"),
            (self.verify != seen.verify || self.attach != seen.attach).then_some(self.trust.unwrap_or("AUTH-3")),
            self.news.filter(|_| !seen.wakes),
            arm.map(|(timer, _)| guards(*timer)),
        ];
        checks.into_iter().flatten().next()
    }
}

/// Whether a request counts against the allowance.
const fn needs_answer(request: &Request<u8>) -> bool {
    match request {
        Request::Message { .. }
        | Request::Cancel { .. }
        | Request::Reply { .. }
        | Request::Seek { .. }
        | Request::Delete { .. }
        | Request::Query { .. }
        | Request::Ping
        | Request::Invalid { .. } => true,
        Request::Auth { .. } | Request::Pong | Request::Violation(_) => false,
    }
}

/// The cause with which a connection ends when its credential does.
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
