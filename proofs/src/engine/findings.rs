//! What the engine finds out about one model or one broken variant, as plain data.
//!
//! One rule holds for all: **a run that did not exhaust the states never says
//! "holds"**. What it did find stands: a counterexample is one, and a premise
//! that was met is met.

use serde::Serialize;

use crate::engine::proof::Kind;
use crate::engine::trace::Trace;

/// What a run says, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Every property holds in every reachable state within the bounds.
    Holds,
    /// Nothing is wrong so far, but not everything was looked at.
    Incomplete,
    /// A property is violated, a premise never met, or the searches disagree.
    Fails,
}

/// The check of one model.
#[derive(Debug, Serialize)]
pub struct ModelReport {
    /// Its name on the command line.
    pub name: String,
    /// What is explored, in one sentence.
    pub about: String,
    /// The bounds within which it is exhaustive.
    pub bounds: Vec<Bound>,
    /// States generated, repeats included.
    pub states: usize,
    /// Distinct states.
    pub unique_states: usize,
    /// States on the longest path explored, the initial one counted.
    pub max_depth: usize,
    /// Whether all was looked at: each reachable state, each promise.
    pub complete: bool,
    /// Wall-clock seconds of the exhaustive search.
    pub seconds: f64,
    /// Wall-clock seconds after the search: deciding the promises, and finding a counterexample.
    pub second_search_seconds: f64,
    /// States generated a second by the exhaustive search.
    pub states_per_second: f64,
    /// Bytes of memory a distinct state, see [`crate::engine::memory`]; `null` if not measurable.
    pub bytes_per_state: Option<f64>,
    /// Each property and what was found.
    pub properties: Vec<PropertyReport>,
    /// What is wrong beside the properties: the two searches disagree.
    pub faults: Vec<String>,
    /// The counterexamples.
    #[serde(skip)]
    pub traces: Vec<Trace>,
}

impl ModelReport {
    /// What the check of this model says.
    pub fn verdict(&self) -> Verdict {
        let fails = self.properties.iter().any(|property| property.holds == Some(false));
        if fails || !self.faults.is_empty() {
            Verdict::Fails
        } else if !self.complete || self.properties.iter().any(|p| p.holds.is_none()) {
            Verdict::Incomplete
        } else {
            Verdict::Holds
        }
    }
}

/// A bound of a model.
#[derive(Debug, Serialize)]
pub struct Bound {
    /// What is bounded.
    pub name: &'static str,
    /// By how much.
    pub value: String,
}

/// One property of one model.
#[derive(Debug, Serialize)]
pub struct PropertyReport {
    /// `AUTH-1`, `AUTH-1.delivered`, `LIVE-2`; `panic` for one that quotes no property.
    pub id: String,
    /// `always`, `sometimes` or `eventually`.
    pub kind: Kind,
    /// `true` and `false` are final; `null` is *incomplete*.
    pub holds: Option<bool>,
    /// Steps of the counterexample, or of the path that shows a `sometimes`.
    pub trace_len: Option<usize>,
}

/// One broken variant and how it fared.
#[derive(Debug, Serialize)]
pub struct RaceReport {
    /// The race, `A1`.
    pub id: &'static str,
    /// Its title.
    pub title: &'static str,
    /// The mistake that was put back.
    pub mistake: &'static str,
    /// Whether it is refused by a property that was expected to: `null` when the
    /// search did not come to an end.
    pub refused: Option<bool>,
    /// The property that the counterexample violates.
    pub property: Option<String>,
    /// The properties, one of which must refuse it.
    pub expected: Vec<&'static str>,
    /// Steps of the counterexample.
    pub trace_len: Option<usize>,
    /// The model of the broken variant; `null` when the types do not allow it.
    pub model: Option<String>,
    /// The compile-fail test that shows that the types do not allow it.
    pub untypable: Option<&'static str>,
    /// Distinct states searched.
    pub unique_states: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// The counterexample.
    #[serde(skip)]
    pub trace: Option<Trace>,
}

impl RaceReport {
    /// What the refutation says of this race.
    pub fn verdict(&self) -> Verdict {
        match self.refused {
            Some(true) => Verdict::Holds,
            Some(false) => Verdict::Fails,
            None => Verdict::Incomplete,
        }
    }
}
