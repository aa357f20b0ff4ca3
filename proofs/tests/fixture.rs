//! A model that is small enough to verify by hand: questions, answers and a heartbeat. The tests of the checker use it,
//! sound and broken.
//!
//! | id | property |
//! | --- | --- |
//! | FIX-1 | always: a question has at most one answer |
//! | FIX-2 | eventually: a question that was asked is answered |
//!
//! ```text
//! ●        ───────────▶ idle
//! idle     ── ask ────▶ waiting
//! waiting  ── answer ─▶ answered
//! answered ── again ──▶ idle
//! ```

use stateright::{Model, Property};

use lockstep_proofs::engine::proof::{Drawing, Lifecycle, Lifeline, Outcome, Promise, Proof};

/// The model. Each broken variant has one mistake.
#[derive(Clone, Debug)]
pub(crate) struct Fixture {
    rounds: u8,
    mistake: Mistake,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// An answer may be repeated.
    Repeats,
    /// An answer waits for a quiet moment, and a heartbeat occupies every other moment.
    Starves,
    /// The answer never comes, and nothing else happens.
    Deadlocks,
    /// The second answer violates an assertion.
    Asserts,
}

impl Fixture {
    /// A sound model with this many rounds of question and answer.
    pub(crate) fn sound(rounds: u8) -> Self {
        Self { rounds, mistake: Mistake::None }
    }

    /// Violates FIX-1 in three steps.
    pub(crate) fn repeating() -> Self {
        Self { rounds: 1, mistake: Mistake::Repeats }
    }

    /// Violates FIX-2 by a cycle.
    pub(crate) fn starving() -> Self {
        Self { rounds: 1, mistake: Mistake::Starves }
    }

    /// Violates FIX-2 by stopping.
    pub(crate) fn deadlocking() -> Self {
        Self { rounds: 1, mistake: Mistake::Deadlocks }
    }

    /// Violates FIX-1 by a failed assertion in a step.
    pub(crate) fn asserting() -> Self {
        Self { rounds: 1, mistake: Mistake::Asserts }
    }
}

/// The state of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Idle,
    Waiting,
    Answered,
}

/// A state of [`Fixture`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    phase: Phase,
    round: u8,
    answers: u8,
    beating: bool,
}

/// A step of [`Fixture`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Ask,
    Answer,
    Beat,
    Again,
}

impl Model for Fixture {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State { phase: Phase::Idle, round: 0, answers: 0, beating: false }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Answer);
        match state.phase {
            Phase::Idle => actions.push(Action::Ask),
            Phase::Waiting if self.mistake == Mistake::Deadlocks => {}
            Phase::Waiting => actions.push(Action::Beat),
            Phase::Answered => actions.push(Action::Again),
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut after = before.clone();
        match (action, before.phase) {
            (Action::Ask, Phase::Idle) => after.phase = Phase::Waiting,
            (Action::Answer, Phase::Waiting) => {
                let quiet = self.mistake != Mistake::Starves || !before.beating;
                if !quiet || self.mistake == Mistake::Deadlocks {
                    return None;
                }
                after.phase = Phase::Answered;
                after.answers = 1;
            }
            (Action::Answer, Phase::Answered) => {
                assert!(self.mistake != Mistake::Asserts, "FIX-1: answered twice");
                if self.mistake != Mistake::Repeats {
                    return None;
                }
                after.answers += 1;
            }
            (Action::Beat, Phase::Waiting) => after.beating = !before.beating,
            (Action::Again, Phase::Answered) if before.round + 1 < self.rounds => {
                after = State { phase: Phase::Idle, round: before.round + 1, answers: 0, beating: false };
            }
            (Action::Ask | Action::Answer | Action::Beat | Action::Again, _) => return None,
        }
        Some(after)
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.answers < 3
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("FIX-1", |_, state: &State| state.answers <= 1),
            Property::sometimes("FIX-1.answered", |_, state: &State| state.answers == 1),
        ]
    }
}

impl Proof for Fixture {
    fn name(&self) -> &'static str {
        "fixture"
    }

    fn about(&self) -> &'static str {
        "one question at a time, its answer, and a heartbeat while it waits"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![("rounds", self.rounds.to_string())]
    }

    fn fairness(&self, action: &Action) -> Option<u8> {
        (*action == Action::Answer).then_some(0)
    }

    fn promises(&self) -> Vec<Promise<Self>> {
        vec![Promise { id: "FIX-2", pending: |_, state| state.phase == Phase::Waiting }]
    }

    fn depict(&self, _: &State, action: &Action, _: &State) -> Vec<Drawing> {
        let (from, to, label) = match action {
            Action::Ask => (Lifeline::Client, Lifeline::Session, "question"),
            Action::Answer => (Lifeline::Session, Lifeline::Client, "answer"),
            Action::Beat => (Lifeline::Session, Lifeline::Session, "heartbeat"),
            Action::Again => (Lifeline::Client, Lifeline::Client, "next"),
        };
        vec![Drawing::Arrow { from, to, label: label.into(), lost: false }]
    }
}

impl Lifecycle for Fixture {
    fn phases(&self) -> &'static [&'static str] {
        &["idle", "waiting", "answered"]
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["ask", "answer", "beat", "again"]
    }

    fn phase(&self, state: &State) -> &'static str {
        match state.phase {
            Phase::Idle => "idle",
            Phase::Waiting => "waiting",
            Phase::Answered => "answered",
        }
    }

    fn input(&self, action: &Action) -> Option<&'static str> {
        Some(match action {
            Action::Ask => "ask",
            Action::Answer => "answer",
            Action::Beat => "beat",
            Action::Again => "again",
        })
    }

    fn outcome(&self, before: &State, action: &Action) -> Outcome {
        match self.next_state(before, *action) {
            Some(after) if after.phase == before.phase => Outcome::Stayed,
            Some(_) => Outcome::Moved,
            None => Outcome::Ignored,
        }
    }
}
