//! A random walk over a model, at bounds that no search could exhaust.
//!
//! A list of numbers, one per step, determines a walk. Fewer or smaller numbers give a simpler walk. So the random
//! tests that draw the numbers can repeat a walk, and shorten one that fails. After each step the walk checks every
//! `always` of the model, and that the machines are equal after they were written and read.
//!
//! [`Proof::weight`] says how often an action is taken. It keeps a walk going even if many actions would end it.

use stateright::{Expectation, Property};

use crate::engine::guard;
use crate::engine::proof::{Kind, Proof};
use crate::engine::trace::{self, Counterexample};

/// What a walk has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// The steps that were taken.
    pub steps: usize,
    /// The `sometimes` properties that a state has shown.
    pub shown: Vec<&'static str>,
}

/// Walks from an initial state. The walk ends with the numbers, or where no action is left.
///
/// # Errors
/// The walk up to the first state that violates an `always`, or up to a step that panics.
pub fn walk<M: Proof>(model: &M, numbers: impl IntoIterator<Item = u64>) -> Result<Walked, Box<Counterexample>> {
    let mut walk = Walk::begin(model);
    let mut numbers = numbers.into_iter();
    let starts = model.init_states();
    let Some(first) = numbers.next() else { return Ok(walk.walked) };
    let Some(mut state) = pick(&starts, first, |_| 1).cloned() else { return Ok(walk.walked) };
    let (start, mut steps) = (state.clone(), Vec::new());
    walk.judge(&state).map_err(|property| walk.refuted(&property, None, &start, &steps, None))?;
    let mut actions = Vec::new();
    for number in numbers {
        actions.clear();
        model.actions(&state, &mut actions);
        let Some(action) = pick(&actions, number, |action| model.weight(action)).cloned() else { break };
        let next = guard::catch(|| model.next_state(&state, action.clone())).map_err(|panic| {
            let property = panic.property().unwrap_or("a panic").to_owned();
            walk.refuted(&property, Some(panic.message), &start, &steps, Some(&action))
        })?;
        let Some(next) = next.filter(|next| model.within_boundary(next)) else { continue };
        walk.walked.steps += 1;
        state = next;
        steps.push((action, state.clone()));
        walk.judge(&state).map_err(|property| walk.refuted(&property, None, &start, &steps, None))?;
    }
    Ok(walk.walked)
}

/// A walk in progress.
struct Walk<'a, M: Proof> {
    model: &'a M,
    always: Vec<Property<M>>,
    /// The `sometimes` properties that no state has shown.
    left: Vec<Property<M>>,
    walked: Walked,
}

impl<'a, M: Proof> Walk<'a, M> {
    fn begin(model: &'a M) -> Self {
        let is = |property: &Property<M>| matches!(property.expectation, Expectation::Always);
        let (always, left) = model.properties().into_iter().partition(is);
        Self { model, always, left, walked: Walked::default() }
    }

    /// Returns the first property that the state violates.
    fn judge(&mut self, state: &M::State) -> Result<(), String> {
        let Self { model, left, walked, .. } = self;
        left.retain(|property| {
            let shown = (property.condition)(model, state);
            walked.shown.extend(shown.then_some(property.name));
            !shown
        });
        let violated = self.always.iter().find(|property| !(property.condition)(self.model, state));
        if let Some(property) = violated {
            return Err(property.name.to_owned());
        }
        if self.model.survives(state) { Ok(()) } else { Err("the form in which a machine is traced".to_owned()) }
    }

    fn refuted(
        &self,
        property: &str,
        message: Option<String>,
        start: &M::State,
        steps: &[(M::Action, M::State)],
        last: Option<&M::Action>,
    ) -> Box<Counterexample> {
        let mut described = trace::describe(self.model, start, steps);
        described.extend(last.map(|action| trace::Step {
            action: self.model.format_action(action),
            drawings: Vec::new(),
            after: None,
        }));
        Box::new(Counterexample {
            model: self.model.name().into(),
            property: property.into(),
            kind: Kind::Always,
            also: vec![property.into()],
            start: format!("{start:?}"),
            steps: described,
            cycle: None,
            message,
        })
    }
}

/// Chooses one of the items. An item with twice the weight is chosen by twice as many numbers.
fn pick<T>(items: &[T], number: u64, weight: impl Fn(&T) -> u32) -> Option<&T> {
    let total: u64 = items.iter().map(|item| u64::from(weight(item))).sum();
    let mut left = number.checked_rem(total)?;
    items.iter().find(|item| {
        let weight = u64::from(weight(item));
        let chosen = left < weight;
        left = left.saturating_sub(weight);
        chosen
    })
}
