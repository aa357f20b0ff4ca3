//! A verifier that changes its keys, and whose answers come late.

use lockstep_model::auth::{Ending, Input, State};
use lockstep_model::{Auth, UserId, Verdict, VerificationId};
use stateright::{Model, Property};

use crate::engine::proof::{Drawing, Lifeline, Proof};
use crate::models::world::setup;
use crate::races::hooks::welcome;
use crate::races::{Row, alone};

pub(super) fn rows() -> Vec<Row> {
    vec![
        alone!(
            "B8",
            "half of the keys",
            "while the keys are being reloaded, a token is verified against those loaded so far",
            ["AUTH-3"],
            Verdicts { mistake: Some(Mistake::HalfReloaded) },
            Verdicts { mistake: None }
        ),
        alone!(
            "X2",
            "late verdict counts",
            "the answer to an older attempt is taken for the answer to the newest",
            ["AUTH-3"],
            Verdicts { mistake: Some(Mistake::AnyAttempt) },
            Verdicts { mistake: None }
        ),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    HalfReloaded,
    AnyAttempt,
}

/// The model.
#[derive(Clone, Debug)]
struct Verdicts {
    mistake: Option<Mistake>,
}

/// The progress of a key reload. The key of every token is both among the old ones and among the new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Keys {
    Old,
    Half,
    New,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Verifier {
    auth: Auth,
    keys: Keys,
    presented: u32,
    /// Unanswered attempts, with their results.
    found: Vec<(VerificationId, Option<Verdict>)>,
    broken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A token is presented. Every token is good.
    Present,
    /// The keys are reloaded.
    Reload,
    /// The token of the attempt at this index is verified.
    Verify(usize),
    /// The verdict at this index arrives.
    Answer(usize),
}

impl Model for Verdicts {
    type State = Verifier;
    type Action = Step;

    fn init_states(&self) -> Vec<Verifier> {
        vec![Verifier { auth: Auth::new(), keys: Keys::Old, presented: 0, found: Vec::new(), broken: false }]
    }

    fn actions(&self, verifier: &Verifier, steps: &mut Vec<Step>) {
        if verifier.presented < 2 {
            steps.push(Step::Present);
        }
        if verifier.keys != Keys::New {
            steps.push(Step::Reload);
        }
        for (place, (_, found)) in verifier.found.iter().enumerate() {
            steps.push(if found.is_some() { Step::Answer(place) } else { Step::Verify(place) });
        }
    }

    fn next_state(&self, last: &Verifier, step: Step) -> Option<Verifier> {
        let mut next = last.clone();
        let bounds = setup::small();
        match step {
            Step::Present => {
                next.presented += 1;
                let _ = next.auth.step(&bounds, Input::Presented, &mut Vec::new());
                next.found.push((next.auth.newest(), None));
            }
            Step::Reload => {
                let split = self.mistake == Some(Mistake::HalfReloaded) && next.keys == Keys::Old;
                next.keys = if split { Keys::Half } else { Keys::New };
            }
            Step::Verify(place) => {
                let verdict = if next.keys == Keys::Half { Verdict::Rejected } else { welcome(UserId(0)) };
                next.found[place].1 = Some(verdict);
            }
            Step::Answer(place) => {
                let (attempt, found) = next.found.remove(place);
                let (before, newest) = (next.auth.clone(), next.auth.newest());
                let quoted = if self.mistake == Some(Mistake::AnyAttempt) { newest } else { attempt };
                let verdict = found.unwrap_or(Verdict::Unavailable);
                let _ = next.auth.step(&bounds, Input::Verdict { attempt: quoted, verdict }, &mut Vec::new());
                next.broken |= attempt != newest && next.auth != before;
                next.broken |= *next.auth.state() == State::Ended { ending: Ending::Rejected };
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("AUTH-3", |_: &Self, verifier: &Verifier| !verifier.broken),
            Property::sometimes("AUTH-3.overtaken", |_: &Self, verifier: &Verifier| verifier.found.len() > 1),
        ]
    }
}

impl Proof for Verdicts {
    fn name(&self) -> &'static str {
        "verdicts"
    }

    fn about(&self) -> &'static str {
        "two good tokens, a reload of the keys, answers in any order"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![("tokens", "2".into()), ("reloads", "1".into())]
    }

    fn depict(&self, before: &Verifier, step: &Step, after: &Verifier) -> Vec<Drawing> {
        let arrow = |from, to, label| vec![Drawing::Arrow { from, to, label, lost: false }];
        let attempt = |place: usize| before.found[place].0.0;
        match step {
            Step::Present => {
                arrow(Lifeline::Connection, Lifeline::Verifier, format!("token {}, a good one", after.auth.newest().0))
            }
            Step::Reload => {
                let text = if after.keys == Keys::Half {
                    "the old keys are gone, the new ones not loaded"
                } else {
                    "new keys"
                };
                vec![Drawing::note(Lifeline::Verifier, text.into())]
            }
            Step::Verify(place) => {
                vec![Drawing::note(
                    Lifeline::Verifier,
                    format!("token {} is checked against the keys", attempt(*place)),
                )]
            }
            Step::Answer(place) => {
                arrow(Lifeline::Verifier, Lifeline::Connection, format!("the verdict on token {}", attempt(*place)))
            }
        }
    }
}
