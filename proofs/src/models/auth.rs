//! The credential of one connection ([`lockstep_model::auth`]), alone.
//!
//! Explores every input in every state: credentials at any time, verdicts for past, present and future attempts, for
//! two users and with two lifetimes, revocations, any timer. The number of presented credentials is bounded, because
//! each has a new attempt number. The machine only compares that number with the newest one.
//!
//! The oracle (`Rules`) implements the machine's header from the inputs alone: which attempt is the newest, which grant
//! is valid, and which outputs must be emitted, in which order.

use std::time::Duration;

use lockstep_model::auth::{Auth, Ending, Grant, Input, Lifetime, Output, State as Stage, Verdict};
use lockstep_model::{Attempt, Bounds, CredentialId, Handled, RevocationGeneration, Timer, UserId};
use stateright::{Model, Property};

use crate::engine::profile::Profile;
use crate::engine::proof::{Lifecycle, Outcome, Proof};
use crate::models::harness::{Armed, checked, small};

/// The model.
#[derive(Clone, Debug)]
pub struct Credential {
    bounds: Bounds,
    presented: u32,
}

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Credential {
    let presented = match profile {
        Profile::Quick => 6,
        Profile::Ci => 24,
        Profile::Deep => 250,
    };
    Credential { bounds: small(), presented }
}

/// The expected state of a credential, from the inputs alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Rules {
    /// The number of presented credentials, which is the newest attempt.
    pub(crate) presented: u32,
    /// The number presented since the last verdict; zero if none is awaited.
    pub(crate) unanswered: u8,
    /// The valid grant.
    pub(crate) valid: Option<Grant>,
    /// Why no grant will be valid again.
    pub(crate) ending: Option<Ending>,
}

/// The required outputs for an input, and the property that is violated if they differ.
pub(crate) struct Expected {
    pub(crate) property: &'static str,
    pub(crate) outputs: Vec<Output>,
}

impl Rules {
    /// Takes an input. Returns `None` if the input must change nothing.
    pub(crate) fn feed(&mut self, bounds: &Bounds, input: Input) -> Option<Expected> {
        if self.ending.is_some() {
            return None;
        }
        let waiting = self.unanswered > 0;
        match input {
            Input::Presented if self.unanswered == bounds.attempts => Some(self.end("LIM-1", Ending::Flooding)),
            Input::Presented => {
                self.presented += 1;
                self.unanswered += 1;
                let outputs = vec![
                    Output::Verify(Attempt(self.presented)),
                    Output::Arm(Timer::Verification, bounds.verification),
                ];
                Some(Expected { property: "AUTH-3", outputs })
            }
            Input::Verdict { attempt, .. } if !waiting || attempt.0 != self.presented => None,
            Input::Verdict { verdict: Verdict::Rejected, .. } => Some(self.end("AUTH-1", Ending::Rejected)),
            Input::Verdict { verdict: Verdict::Unavailable, .. } | Input::Expired(Timer::Verification) if waiting => {
                Some(self.out_of_reach())
            }
            Input::Verdict { verdict: Verdict::Valid { grant, lifetime }, .. } => {
                Some(self.found(grant, lifetime.left()))
            }
            Input::Revoked if self.valid.is_some() => Some(self.end("AUTH-1", Ending::Revoked)),
            Input::Expired(Timer::Credential) if self.valid.is_some() => Some(self.end("AUTH-1", Ending::Expired)),
            Input::Expired(Timer::Warning) if self.valid.is_some() => {
                Some(Expected { property: "AUTH-1", outputs: vec![Output::Expiring] })
            }
            Input::Abandoned => {
                let mut expected = self.end("AUTH-1", Ending::Abandoned);
                expected.outputs.pop();
                Some(expected)
            }
            Input::Verdict { .. } | Input::Revoked | Input::Expired(_) => None,
        }
    }

    fn found(&mut self, grant: Grant, lifetime: Duration) -> Expected {
        let news = match self.valid {
            Some(older) if older.user != grant.user => return self.end("AUTH-2", Ending::OtherUser),
            Some(_) => Output::Renewed,
            None => Output::Granted(grant),
        };
        self.unanswered = 0;
        self.valid = Some(grant);
        let warning = Duration::from_nanos(u64::try_from(lifetime.as_nanos() * 4 / 5).unwrap_or(u64::MAX));
        let outputs = vec![
            news,
            Output::Disarm(Timer::Verification),
            Output::Arm(Timer::Warning, warning),
            Output::Arm(Timer::Credential, lifetime),
        ];
        Expected { property: "AUTH-1", outputs }
    }

    fn out_of_reach(&mut self) -> Expected {
        if self.valid.is_none() {
            return self.end("AUTH-3", Ending::Unavailable);
        }
        self.unanswered = 0;
        Expected { property: "AUTH-3", outputs: vec![Output::Disarm(Timer::Verification), Output::NotRenewed] }
    }

    fn end(&mut self, property: &'static str, ending: Ending) -> Expected {
        (self.valid, self.unanswered, self.ending) = (None, 0, Some(ending));
        let mut outputs: Vec<_> = [Timer::Verification, Timer::Warning, Timer::Credential].map(Output::Disarm).to_vec();
        outputs.push(Output::Ended(ending));
        Expected { property, outputs }
    }
}

/// An input, and whether it is a verdict on an attempt that is not the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    input: Input,
    stale: bool,
}

/// A credential and its oracle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    auth: Auth,
    rules: Rules,
    armed: Armed,
    broken: Option<&'static str>,
}

checked![Credential, State; "AUTH-1", "AUTH-2", "AUTH-3", "LIM-1"];

impl State {
    fn feed(&mut self, bounds: &Bounds, input: Input, out: &mut Vec<Output>) -> Handled {
        let before = self.auth.clone();
        if let Input::Expired(timer) = input {
            self.armed.disarm(timer);
        }
        let expected = self.rules.feed(bounds, input);
        let handled = self.auth.step(bounds, input, out);
        for output in &*out {
            match output {
                Output::Arm(timer, _) => self.armed.arm(*timer),
                Output::Disarm(timer) => self.armed.disarm(*timer),
                Output::Verify(_)
                | Output::Granted(_)
                | Output::Renewed
                | Output::NotRenewed
                | Output::Expiring
                | Output::Ended(_) => {}
            }
        }
        match expected {
            None => {
                let quiet = self.auth == before && out.is_empty() && handled == Handled::Ignored;
                self.expect(quiet, if matches!(input, Input::Verdict { .. }) { "AUTH-3" } else { "AUTH-1" });
            }
            Some(expected) => self.expect(*out == expected.outputs && handled == Handled::Done, expected.property),
        }
        self.check();
        handled
    }

    fn check(&mut self) {
        let Rules { presented, unanswered, valid, ending } = self.rules;
        let state = match self.auth.state() {
            Stage::Absent => presented == 0 && ending.is_none(),
            Stage::Verifying { tries } => *tries == unanswered && unanswered > 0 && valid.is_none(),
            Stage::Valid { grant } => Some(*grant) == valid && unanswered == 0,
            Stage::Refreshing { grant, tries } => Some(*grant) == valid && *tries == unanswered && unanswered > 0,
            Stage::Ended { ending: chosen } => Some(*chosen) == ending,
        };
        let timers = self.armed.has(Timer::Verification) == (unanswered > 0)
            && self.armed.has(Timer::Credential) == valid.is_some()
            && (!self.armed.has(Timer::Warning) || valid.is_some());
        self.expect(self.auth.grant() == valid && state && timers, "AUTH-1");
        self.expect(self.auth.newest() == Attempt(presented), "AUTH-3");
    }
}

/// Returns a grant of one of two users.
pub(crate) fn grant(user: u64) -> Grant {
    Grant { user: UserId(user), credential: CredentialId(user + 10), generation: RevocationGeneration(0) }
}

/// Returns a valid verdict about one of two users.
pub(crate) fn good(user: u64, seconds: u64) -> Verdict {
    let lifetime = Lifetime::new(Duration::from_secs(seconds)).expect("not zero");
    Verdict::Valid { grant: grant(user), lifetime }
}

impl Model for Credential {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State { auth: Auth::new(), rules: Rules::default(), armed: Armed::default(), broken: None }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        let fresh = |input| Action { input, stale: false };
        if state.rules.presented < self.presented || state.rules.unanswered == self.bounds.attempts {
            actions.push(fresh(Input::Presented));
        }
        for attempt in (0..=state.rules.presented + 1).map(Attempt) {
            let verdicts = [good(1, 50), good(1, 500), good(2, 50), Verdict::Rejected, Verdict::Unavailable];
            let stale = attempt.0 != state.rules.presented;
            actions.extend(verdicts.map(|verdict| Action { input: Input::Verdict { attempt, verdict }, stale }));
        }
        actions.extend([Input::Revoked, Input::Abandoned].map(fresh));
        actions.extend(Timer::ALL.map(Input::Expired).map(fresh));
    }

    fn next_state(&self, last: &State, Action { input, .. }: Action) -> Option<State> {
        let mut next = last.clone();
        let _ = next.feed(&self.bounds, input, &mut Vec::new());
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = unbroken();
        all.extend([
            Property::sometimes("AUTH-1.expired", |_, state: &State| state.rules.ending == Some(Ending::Expired)),
            Property::sometimes("AUTH-1.revoked", |_, state: &State| state.rules.ending == Some(Ending::Revoked)),
            Property::sometimes("AUTH-1.rejected", |_, state: &State| state.rules.ending == Some(Ending::Rejected)),
            Property::sometimes("AUTH-2.refused", |_, state: &State| state.rules.ending == Some(Ending::OtherUser)),
            Property::sometimes("AUTH-3.stale", |_, state: &State| state.rules.unanswered > 1),
            Property::sometimes("AUTH-3.unavailable", |_, state: &State| {
                state.rules.ending == Some(Ending::Unavailable)
            }),
            Property::sometimes("LIM-1.flooded", |_, state: &State| state.rules.ending == Some(Ending::Flooding)),
        ]);
        all
    }
}

impl Proof for Credential {
    fn name(&self) -> &'static str {
        "auth"
    }

    fn about(&self) -> &'static str {
        "one credential: verdicts of any attempt, expiry, revocation, any timer at any moment"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![
            ("credentials presented", self.presented.to_string()),
            ("without a verdict", self.bounds.attempts.to_string()),
            ("users", "2".into()),
        ]
    }
}

impl Lifecycle for Credential {
    fn phases(&self) -> &'static [&'static str] {
        &[
            "absent",
            "verifying",
            "valid",
            "refreshing",
            "expired",
            "revoked",
            "rejected",
            "unavailable",
            "other-user",
            "flooding",
            "abandoned",
        ]
    }

    fn inputs(&self) -> &'static [&'static str] {
        &[
            "presented",
            "found valid",
            "found another user",
            "rejected",
            "unavailable",
            "stale verdict",
            "revoked",
            "verification expired",
            "warning expired",
            "credential expired",
            "another timer",
            "abandoned",
        ]
    }

    fn phase(&self, state: &State) -> &'static str {
        match state.auth.state() {
            Stage::Absent => "absent",
            Stage::Verifying { .. } => "verifying",
            Stage::Valid { .. } => "valid",
            Stage::Refreshing { .. } => "refreshing",
            Stage::Ended { ending: Ending::Expired } => "expired",
            Stage::Ended { ending: Ending::Revoked } => "revoked",
            Stage::Ended { ending: Ending::Rejected } => "rejected",
            Stage::Ended { ending: Ending::Unavailable } => "unavailable",
            Stage::Ended { ending: Ending::OtherUser } => "other-user",
            Stage::Ended { ending: Ending::Flooding } => "flooding",
            Stage::Ended { ending: Ending::Abandoned } => "abandoned",
        }
    }

    fn input(&self, action: &Action) -> Option<&'static str> {
        Some(match action.input {
            Input::Verdict { .. } if action.stale => "stale verdict",
            Input::Presented => "presented",
            Input::Verdict { verdict: Verdict::Valid { grant, .. }, .. } if grant.user == UserId(2) => {
                "found another user"
            }
            Input::Verdict { verdict: Verdict::Valid { .. }, .. } => "found valid",
            Input::Verdict { verdict: Verdict::Rejected, .. } => "rejected",
            Input::Verdict { verdict: Verdict::Unavailable, .. } => "unavailable",
            Input::Revoked => "revoked",
            Input::Expired(Timer::Verification) => "verification expired",
            Input::Expired(Timer::Warning) => "warning expired",
            Input::Expired(Timer::Credential) => "credential expired",
            Input::Expired(_) => "another timer",
            Input::Abandoned => "abandoned",
        })
    }

    fn outcome(&self, before: &State, action: &Action) -> Outcome {
        let mut after = before.clone();
        match after.feed(&self.bounds, action.input, &mut Vec::new()) {
            Handled::Ignored => Outcome::Ignored,
            Handled::Done if self.phase(before) == self.phase(&after) => Outcome::Stayed,
            Handled::Done => Outcome::Moved,
        }
    }
}
