//! The credential of one connection ([`lockstep_model::auth`]), alone.
//!
//! Explores every input in every state: credentials at any time, verdicts for past, present and future attempts, for
//! two users and with two lifetimes, revocations, any timer. The number of presented credentials is bounded, because
//! each has a new attempt number. The machine only compares that number with the newest one.
//!
//! The oracle (`properties::credential`) decides from the inputs alone which attempt is the newest, which grant is
//! valid, and what each input must cause.

use std::time::Duration;

use lockstep_model::auth::{Auth, Ending, Grant, Input, Lifetime, Output, State as Stage, Verdict};
use lockstep_model::{Bounds, CredentialId, Handled, RevocationGeneration, Timer, UserId, VerificationId};
use stateright::{Model, Property};

use crate::engine::profile::Profile;
use crate::engine::proof::{Lifecycle, Outcome, Proof};
use crate::models::harness::{Armed, checked, small, survives};
use crate::properties::attribution::guards;
use crate::properties::credential::{Credential as Observed, Effect};

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
    observed: Observed,
    armed: Armed,
    broken: Option<&'static str>,
}

checked![Credential, State; "AUTH-1", "AUTH-2", "AUTH-3", "LIM-1", "LIVE-4"];

impl State {
    fn feed(&mut self, bounds: &Bounds, input: Input, out: &mut Vec<Output>) -> Handled {
        let before = self.auth.clone();
        if let Input::Expired(timer) = input {
            self.armed.disarm(timer);
        }
        let effect = self.observed.feed(bounds, &input);
        let property = effect.property(&input);
        let handled = self.auth.step(bounds, input, out);
        let mut arms = Vec::new();
        for output in &*out {
            match output {
                Output::Arm(timer, after) => {
                    arms.push((*timer, *after));
                    self.armed.arm(*timer);
                }
                Output::Disarm(timer) => self.armed.disarm(*timer),
                Output::Verify(_)
                | Output::Granted(_)
                | Output::Renewed
                | Output::NotRenewed
                | Output::Expiring
                | Output::Ended(_) => {}
            }
        }
        let told = out.iter().filter(|output| !matches!(output, Output::Arm(..) | Output::Disarm(_))).copied();
        self.expect(told.eq(output_of(effect)), property);
        let late = effect == Effect::Late;
        self.expect((handled == Handled::Ignored) == late, property);
        self.expect(!late || (self.auth == before && out.is_empty()), property);
        let due = effect.arms(bounds);
        let wrong = due.iter().find(|due| !arms.contains(due)).or(arms.iter().find(|arm| !due.contains(arm)));
        if let Some((timer, _)) = wrong {
            self.violated(guards(*timer));
        }
        self.check();
        handled
    }

    fn check(&mut self) {
        let Observed { presented, unanswered, valid, ending } = self.observed;
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
        self.expect(self.auth.grant() == valid && state, "AUTH-1");
        self.expect(timers, "LIVE-4");
        self.expect(self.auth.newest() == VerificationId(presented), "AUTH-3");
    }
}

/// The machine's output for this.
const fn output_of(effect: Effect) -> Option<Output> {
    match effect {
        Effect::Late | Effect::Ended(Ending::Abandoned) => None,
        Effect::Asked(attempt) => Some(Output::Verify(attempt)),
        Effect::Granted(grant, _) => Some(Output::Granted(grant)),
        Effect::Renewed(_) => Some(Output::Renewed),
        Effect::NotRenewed => Some(Output::NotRenewed),
        Effect::Expiring => Some(Output::Expiring),
        Effect::Ended(ending) => Some(Output::Ended(ending)),
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
        vec![State { auth: Auth::new(), observed: Observed::default(), armed: Armed::default(), broken: None }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        let fresh = |input| Action { input, stale: false };
        if state.observed.presented < self.presented || state.observed.unanswered == self.bounds.attempts {
            actions.push(fresh(Input::Presented));
        }
        for attempt in (0..=state.observed.presented + 1).map(VerificationId) {
            let verdicts = [good(1, 50), good(1, 500), good(2, 50), Verdict::Rejected, Verdict::Unavailable];
            let stale = attempt.0 != state.observed.presented;
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
            Property::sometimes("AUTH-1.expired", |_, state: &State| state.observed.ending == Some(Ending::Expired)),
            Property::sometimes("AUTH-1.revoked", |_, state: &State| state.observed.ending == Some(Ending::Revoked)),
            Property::sometimes("AUTH-1.rejected", |_, state: &State| state.observed.ending == Some(Ending::Rejected)),
            Property::sometimes("AUTH-2.refused", |_, state: &State| state.observed.ending == Some(Ending::OtherUser)),
            Property::sometimes("AUTH-3.stale", |_, state: &State| state.observed.unanswered > 1),
            Property::sometimes("AUTH-3.unavailable", |_, state: &State| {
                state.observed.ending == Some(Ending::Unavailable)
            }),
            Property::sometimes("LIVE-4.relied on", |_, state: &State| state.armed.has(Timer::Warning)),
            Property::sometimes("LIM-1.flooded", |_, state: &State| state.observed.ending == Some(Ending::Flooding)),
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

    fn weight(&self, action: &Action) -> u32 {
        match action.input {
            Input::Presented => 40,
            Input::Verdict { verdict: Verdict::Valid { grant, .. }, .. } if grant.user == UserId(1) => 40,
            Input::Expired(Timer::Verification | Timer::Warning) => 10,
            Input::Verdict { .. } | Input::Expired(_) | Input::Revoked | Input::Abandoned => 1,
        }
    }

    fn survives(&self, state: &State) -> bool {
        survives(&state.auth)
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
