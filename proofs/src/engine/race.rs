//! Broken variants: the production machines with one mistake each.
//!
//! A checker that accepts everything proves nothing. Each [`Race`] is a mistake that was made in some system. The
//! checker must refuse it by one of the expected properties, with the shortest counterexample. A mistake that the types
//! rule out is recorded with the compile-fail test that shows it.

use std::fmt;
use std::time::Instant;

use crate::engine::checkable::Checkable;
use crate::engine::findings::RaceReport;
use crate::engine::refutation::Refutation;
use crate::engine::settings::Settings;

/// The search for a counterexample gives up after this many states, unless another limit is set. A race that needs more
/// uses too large a model.
pub const MAX_RACE_STATES: usize = 5_000_000;

/// A mistake, and the properties of which at least one must refuse it.
#[derive(Clone, Debug)]
pub struct Race {
    /// The id, such as `A1`.
    pub id: &'static str,
    /// A few words.
    pub title: &'static str,
    /// The mistake, in one sentence.
    pub mistake: &'static str,
    /// The property ids. The counterexample must violate one of them.
    pub expected: &'static [&'static str],
    /// How the mistake is made.
    pub kind: RaceKind,
}

/// How a mistake is made.
#[derive(Clone)]
pub enum RaceKind {
    /// By a model of the broken variant.
    Refused(fn() -> Box<dyn Checkable>),
    /// Not at all: it does not compile.
    Untypable {
        /// The path of the compile-fail test that shows it.
        shown_by: &'static str,
    },
}

impl fmt::Debug for RaceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(_) => f.write_str("Refused"),
            Self::Untypable { shown_by } => f.debug_struct("Untypable").field("shown_by", shown_by).finish(),
        }
    }
}

/// Checks whether a mistake is refused as expected.
///
/// A counterexample that violates only other properties is reported and counts as a failure, because the mistake is
/// then caught by accident.
pub fn refute(race: &Race, settings: &Settings) -> RaceReport {
    let began = Instant::now();
    let mut report = RaceReport {
        id: race.id,
        title: race.title,
        mistake: race.mistake,
        refused: None,
        property: None,
        expected: race.expected.to_vec(),
        trace_len: None,
        model: None,
        untypable: None,
        unique_states: 0,
        seconds: 0.0,
        trace: None,
    };
    match &race.kind {
        RaceKind::Untypable { shown_by } => {
            report.refused = Some(true);
            report.untypable = Some(shown_by);
        }
        RaceKind::Refused(model) => {
            let model = model();
            report.model = Some(model.name().into());
            let mut settings = settings.clone();
            settings.max_states.get_or_insert(MAX_RACE_STATES);
            match model.refute(&settings) {
                Refutation::Incomplete { unique_states } => report.unique_states = unique_states,
                Refutation::Survived { unique_states } => {
                    report.unique_states = unique_states;
                    report.refused = Some(false);
                }
                Refutation::Refuted { mut trace, unique_states } => {
                    report.unique_states = unique_states;
                    // One state may violate several properties. The race reports the expected one.
                    let expected = trace.also.iter().find(|id| race.expected.contains(&id.as_str()));
                    report.refused = Some(expected.is_some());
                    if let Some(expected) = expected {
                        trace.property = expected.clone();
                    }
                    report.property = Some(trace.property.clone());
                    report.trace_len = Some(trace.len());
                    report.trace = Some(*trace);
                }
            }
        }
    }
    report.seconds = began.elapsed().as_secs_f64();
    report
}
