//! A counterexample without its model's types: states and actions as text, and each step with its drawing.

use std::fmt::Write as _;

use crate::engine::proof::{Drawing, Kind, Proof};
use crate::engine::property;

/// A run that violates a property.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// The model's name.
    pub model: String,
    /// The violated property.
    pub property: String,
    /// The property's kind; `Eventually` makes the run a lasso.
    pub kind: Kind,
    /// Every property that the last state violates, including `property`.
    pub also: Vec<String>,
    /// The first state.
    pub start: String,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// For a lasso: the index in `steps` from which the run repeats forever. Equal to `steps.len()` if it stops forever
    /// in its last state.
    pub cycle: Option<usize>,
    /// The message and place of a panic.
    pub message: Option<String>,
}

/// One step of a [`Counterexample`].
#[derive(Clone, Debug)]
pub struct Step {
    /// The action.
    pub action: String,
    /// Its drawing.
    pub drawings: Vec<Drawing>,
    /// The state after it; `None` when the step itself panicked.
    pub after: Option<String>,
}

impl Counterexample {
    /// Returns the number of steps; for a lasso, the prefix and once around its cycle.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether the first state already violates the property.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns the property's sentence, for headings.
    pub fn sentence(&self) -> &'static str {
        property::sentence(&self.property)
            .unwrap_or("a step of a machine or of its model must not panic and must be deterministic")
    }

    /// Formats the trace for a terminal: numbered actions with their drawings, and the last state.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{} violated by `{}`: {}", self.property, self.model, self.sentence());
        for (index, step) in self.steps.iter().enumerate() {
            if self.cycle == Some(index) {
                let _ = writeln!(text, "  for ever:");
            }
            let _ = writeln!(text, "  {:>3}. {}", index + 1, step.action);
            for drawing in &step.drawings {
                let line = drawing_line(drawing);
                if line != step.action {
                    let _ = writeln!(text, "         {line}");
                }
            }
        }
        if self.cycle == Some(self.steps.len()) {
            let _ = writeln!(text, "  for ever: no fair action is enabled here");
        }
        if let Some(message) = &self.message {
            let _ = writeln!(text, "  panicked: {message}");
        }
        if self.also.len() > 1 {
            let _ = writeln!(text, "  violated in that state: {}", self.also.join(", "));
        }
        let last = self.steps.iter().rev().find_map(|step| step.after.as_ref());
        let _ = writeln!(text, "  last state: {}", last.unwrap_or(&self.start));
        text
    }
}

fn drawing_line(drawing: &Drawing) -> String {
    match drawing {
        Drawing::Arrow { from, to, label, lost } => {
            let tip = if *lost { "─✗" } else { "─▶" };
            format!("{} {tip} {}: {label}", from.title(), to.title())
        }
        Drawing::Note { text, .. } => text.clone(),
    }
}

/// Describes steps of `model` that start in `start`: each action with the state after it.
pub(crate) fn describe<M: Proof>(model: &M, start: &M::State, steps: &[(M::Action, M::State)]) -> Vec<Step> {
    let mut before = start;
    let mut described = Vec::with_capacity(steps.len());
    for (action, after) in steps {
        // A failing drawing must not hide the counterexample.
        let drawings = crate::engine::guard::catch(|| model.depict(before, action, after)).unwrap_or_default();
        described.push(Step { action: model.format_action(action), drawings, after: Some(format!("{after:?}")) });
        before = after;
    }
    described
}
