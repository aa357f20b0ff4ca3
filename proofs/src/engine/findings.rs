//! The engine's results for a model or a broken variant, as plain data.
//!
//! One rule applies to all: **a run that did not exhaust the states never reports "holds"**. Its findings are still
//! valid: a counterexample is a counterexample, and a premise that was reached is reached.

use serde::Serialize;

use crate::engine::proof::Kind;
use crate::engine::trace::Counterexample;

/// The result of a run, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Conclusion {
    /// Every property holds in every reachable state within the bounds.
    Holds,
    /// Nothing is wrong so far, but the search was not exhaustive.
    Incomplete,
    /// A property is violated, a premise is never reached, or the searches disagree.
    Fails,
}

/// The check of one model.
#[derive(Debug, Serialize)]
pub struct ModelReport {
    /// Its name on the command line.
    pub name: String,
    /// One sentence on what is explored.
    pub about: String,
    /// The bounds within which the search is exhaustive.
    pub bounds: Vec<Bound>,
    /// States generated, repeats included.
    pub states: usize,
    /// Distinct states.
    pub unique_states: usize,
    /// States on the longest path explored, including the initial one.
    pub max_depth: usize,
    /// Whether every reachable state was explored and every promise decided.
    pub complete: bool,
    /// Wall-clock seconds of the exhaustive search.
    pub seconds: f64,
    /// Wall-clock seconds for deciding the promises and finding counterexamples.
    pub second_search_seconds: f64,
    /// States generated per second by the exhaustive search.
    pub states_per_second: f64,
    /// Bytes of memory per distinct state, see [`crate::engine::memory`]; `null` if not measurable.
    pub bytes_per_state: Option<f64>,
    /// The result for each property.
    pub properties: Vec<PropertyReport>,
    /// Faults of the check itself: the two searches disagree.
    pub faults: Vec<String>,
    /// The counterexamples.
    #[serde(skip)]
    pub traces: Vec<Counterexample>,
}

impl ModelReport {
    /// Returns the verdict on this model.
    pub fn verdict(&self) -> Conclusion {
        let fails = self.properties.iter().any(|property| property.holds == Some(false));
        if fails || !self.faults.is_empty() {
            Conclusion::Fails
        } else if !self.complete || self.properties.iter().any(|p| p.holds.is_none()) {
            Conclusion::Incomplete
        } else {
            Conclusion::Holds
        }
    }
}

/// A bound of a model.
#[derive(Debug, Serialize)]
pub struct Bound {
    /// What is bounded.
    pub name: &'static str,
    /// Its value.
    pub value: String,
}

/// One property of one model.
#[derive(Debug, Serialize)]
pub struct PropertyReport {
    /// `AUTH-1`, `AUTH-1.delivered`, `LIVE-2`; `panic` for a panic that quotes no property.
    pub id: String,
    /// `always`, `sometimes` or `eventually`.
    pub kind: Kind,
    /// `true` and `false` are final; `null` is *incomplete*.
    pub holds: Option<bool>,
    /// Steps of the counterexample, or of the path that shows a `sometimes`.
    pub trace_len: Option<usize>,
}

/// The result for one broken variant.
#[derive(Debug, Serialize)]
pub struct RaceReport {
    /// The race's id, such as `A1`.
    pub id: &'static str,
    /// Its title.
    pub title: &'static str,
    /// The mistake in the broken variant.
    pub mistake: &'static str,
    /// Whether an expected property refuses it; `null` when the search did not complete.
    pub refused: Option<bool>,
    /// The property that the counterexample violates.
    pub property: Option<String>,
    /// The properties of which one must refuse it.
    pub expected: Vec<&'static str>,
    /// Steps of the counterexample.
    pub trace_len: Option<usize>,
    /// The model of the broken variant; `null` when the types rule the mistake out.
    pub model: Option<String>,
    /// The compile-fail test that shows that the types rule the mistake out.
    pub untypable: Option<&'static str>,
    /// Distinct states searched.
    pub unique_states: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// The counterexample.
    #[serde(skip)]
    pub trace: Option<Counterexample>,
}

impl RaceReport {
    /// Returns the verdict on this race.
    pub fn verdict(&self) -> Conclusion {
        match self.refused {
            Some(true) => Conclusion::Holds,
            Some(false) => Conclusion::Fails,
            None => Conclusion::Incomplete,
        }
    }
}
