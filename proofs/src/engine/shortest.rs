//! The counterexample with the fewest steps.

use std::ops::ControlFlow;

use stateright::Expectation;

use crate::engine::guard::{self, Panic};
use crate::engine::proof::{Kind, Proof};
use crate::engine::search::{self, End, Observer, StateId};
use crate::engine::settings::{Settings, Stage};
use crate::engine::trace::{self, Counterexample, Step};

/// The result of the search for the shortest violation.
#[derive(Debug)]
pub enum Shortest {
    /// No reachable state violates an `always`, and no step panics.
    None {
        /// Distinct states.
        unique_states: usize,
    },
    /// A violation; none has fewer steps.
    Found {
        /// The run.
        trace: Box<Counterexample>,
        /// Distinct states met so far.
        unique_states: usize,
    },
    /// The stop flag or a limit ended the search early.
    Stopped {
        /// Distinct states met so far.
        unique_states: usize,
    },
}

/// Finds the violation of an `always`, or the panic, that is nearest to the start. With `only`, considers that property
/// alone.
pub fn shortest<M: Proof>(model: &M, settings: &Settings, only: Option<&str>) -> Shortest {
    let mut violations = Violations {
        model,
        always: model
            .properties()
            .into_iter()
            .filter(|property| property.expectation == Expectation::Always)
            .filter(|property| only.is_none_or(|only| property.name == only))
            .map(|property| (property.name, property.condition))
            .collect(),
        violated: Vec::new(),
    };
    let (tree, end) = search::level_order(model, settings, Stage::Shorten, &mut violations);
    let unique_states = tree.len();
    match end {
        End::Exhausted => Shortest::None { unique_states },
        End::Stopped => Shortest::Stopped { unique_states },
        End::Found(id) => {
            let (start, steps) = tree.path(model, id);
            let trace = Counterexample {
                model: model.name().into(),
                property: violations.violated[0].into(),
                kind: Kind::Always,
                also: violations.violated.iter().map(ToString::to_string).collect(),
                steps: trace::describe(model, &start, &steps),
                start: format!("{start:?}"),
                cycle: None,
                message: None,
            };
            Shortest::Found { trace: Box::new(trace), unique_states }
        }
        End::Panicked { id, action, panic } => {
            let trace = panicked(model, &tree, id, action, &panic);
            Shortest::Found { trace: Box::new(trace), unique_states }
        }
    }
}

/// The name of a panic that quotes no property, in reports.
pub const PANIC: &str = "panic";

fn panicked<M: Proof>(
    model: &M,
    tree: &search::Tree,
    id: StateId,
    action: Option<u32>,
    panic: &Panic,
) -> Counterexample {
    let property = panic.property().unwrap_or(PANIC).to_owned();
    let mut trace = Counterexample {
        model: model.name().into(),
        also: vec![property.clone()],
        property,
        kind: Kind::Always,
        start: "the initial states cannot be computed".into(),
        steps: Vec::new(),
        cycle: None,
        message: Some(format!("{} ({})", panic.message, panic.place)),
    };
    if tree.len() == 0 {
        return trace;
    }
    let (start, steps) = tree.path(model, id);
    trace.steps = trace::describe(model, &start, &steps);
    if let Some(index) = action {
        let before = steps.last().map_or(&start, |(_, state)| state);
        let action = search::nth_action(model, before, index);
        // There is no state after it, so it is drawn as if it changed nothing.
        let drawings = guard::catch(|| model.depict(before, &action, before)).unwrap_or_default();
        trace.steps.push(Step { action: model.format_action(&action), drawings, after: None });
    }
    trace.start = format!("{start:?}");
    trace
}

type Condition<M> = fn(&M, &<M as stateright::Model>::State) -> bool;

struct Violations<'a, M: Proof> {
    model: &'a M,
    always: Vec<(&'static str, Condition<M>)>,
    violated: Vec<&'static str>,
}

impl<M: Proof> Observer<M> for Violations<'_, M> {
    fn state(&mut self, _: StateId, state: &M::State) -> ControlFlow<()> {
        for (name, condition) in &self.always {
            if !condition(self.model, state) {
                self.violated.push(name);
            }
        }
        if self.violated.is_empty() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn step(&mut self, _: StateId, _: &M::State, _: &M::Action, _: Option<(StateId, &M::State)>) {}

    fn expanded(&mut self, _: StateId) {}
}
