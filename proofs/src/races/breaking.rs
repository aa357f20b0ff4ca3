//! One user's [`Breaker`], its timer, and runs that fail or succeed.

use lockstep_model::{Bounds, Breaker};
use stateright::{Model, Property};

use super::{Row, alone};
use crate::engine::proof::{Drawing, Lifeline, Proof};
use crate::models::world::setup;

pub(super) fn rows() -> Vec<Row> {
    vec![alone!(
        "X107",
        "half open for ever",
        "a breaker whose time is over lets one run pass and closes after two that succeed, so one success leaves it stuck",
        ["LIM-1"],
        Breaking { half_open: true },
        Breaking { half_open: false }
    )]
}

/// The model.
#[derive(Clone, Debug)]
struct Breaking {
    half_open: bool,
}

/// Runs that pass a half-open breaker.
const PROBES: u8 = 1;
/// Successes that close it.
const SUCCESSES: u8 = 2;

/// A breaker that is half open: the runs that may still pass, and those that have succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct HalfOpen {
    probes: u8,
    successes: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BreakingState {
    breaker: Breaker,
    half_open: Option<HalfOpen>,
    armed: bool,
    running: bool,
    messages: u8,
    /// Whether the last message was refused.
    refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The user sends a message.
    Message,
    /// The run succeeds.
    Succeed,
    /// The run fails.
    Fail,
    /// The breaker's timer fires.
    Expire,
}

fn bounds() -> Bounds {
    Bounds { failures: 1, ..setup::small() }
}

impl BreakingState {
    fn is_open(&self) -> bool {
        self.breaker.is_open() || self.half_open.is_some_and(|half_open| half_open.probes == 0)
    }
}

impl Model for Breaking {
    type State = BreakingState;
    type Action = Step;

    fn init_states(&self) -> Vec<BreakingState> {
        let (breaker, half_open) = (Breaker::default(), None);
        vec![BreakingState { breaker, half_open, armed: false, running: false, messages: 4, refused: false }]
    }

    fn actions(&self, state: &BreakingState, steps: &mut Vec<Step>) {
        if state.running {
            steps.extend([Step::Succeed, Step::Fail]);
        } else if state.messages > 0 {
            steps.push(Step::Message);
        }
        if state.armed {
            steps.push(Step::Expire);
        }
    }

    fn next_state(&self, last: &BreakingState, step: Step) -> Option<BreakingState> {
        let mut state = last.clone();
        state.refused = false;
        match step {
            Step::Message => {
                state.messages -= 1;
                (state.refused, state.running) = (state.is_open(), !state.is_open());
                if let Some(half_open) = &mut state.half_open {
                    half_open.probes = half_open.probes.saturating_sub(1);
                }
            }
            Step::Succeed => {
                state.running = false;
                state.breaker.succeeded();
                if let Some(half_open) = &mut state.half_open {
                    half_open.successes += 1;
                }
                state.half_open = state.half_open.filter(|half_open| half_open.successes < SUCCESSES);
            }
            Step::Fail => {
                (state.running, state.half_open) = (false, None);
                state.armed |= state.breaker.failed(&bounds());
            }
            Step::Expire => {
                state.armed = false;
                let reset = state.breaker.reset();
                let half_open = HalfOpen { probes: PROBES, successes: 0 };
                state.half_open = (reset && self.half_open).then_some(half_open);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            // A breaker refuses until a deadline.
            Property::always("LIM-1", |_: &Self, state: &BreakingState| !state.refused || state.armed),
            Property::sometimes("LIM-1.refused", |_: &Self, state: &BreakingState| state.refused),
            Property::sometimes("LIM-1.again", |_: &Self, state: &BreakingState| state.running && state.messages < 3),
        ]
    }
}

impl Proof for Breaking {
    fn name(&self) -> &'static str {
        "breaker"
    }

    fn about(&self) -> &'static str {
        "one user's breaker: runs fail and succeed, and its timer fires"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![("messages", "4".into()), ("failures", "1".into())]
    }

    fn depict(&self, _: &BreakingState, step: &Step, after: &BreakingState) -> Vec<Drawing> {
        let text = match step {
            Step::Message if after.refused => "a message is refused: the breaker is open",
            Step::Message => "a message begins a run",
            Step::Succeed => "the run succeeds",
            Step::Fail => "the run fails",
            Step::Expire => "the breaker's time is over",
        };
        vec![Drawing::note(Lifeline::Session, text.into())]
    }
}
