//! What people and pipelines read: tables, JSON, JUnit, pages and pictures.
//!
//! The engine says what it found about one model or race ([`findings`](crate::engine::findings)). Here those are
//! collected into the report of a whole run, which is written as JSON (the types, through serde), as a table
//! ([`table`]), as JUnit ([`junit`]) or as pages ([`html`], with [`sequence`] diagrams). [`diagram`] and [`matrix`]
//! draw one machine, and [`pins`] holds counts against those in `pins.txt`.
//!
//! [`evidence`] says for each property what checks it.
//!
//! It uses the engine, and no other folder of this crate.

pub mod diagram;
mod escape;
pub mod evidence;
pub mod html;
pub mod junit;
pub mod matrix;
pub mod pins;
pub mod sequence;
pub mod table;

pub use self::escape::escape;

use serde::Serialize;

use crate::engine::findings::{ModelReport, RaceReport, Verdict};
use crate::engine::trace::Trace;

/// The report of `prove check`.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// The profile: `quick`, `ci` or `deep`.
    pub profile: String,
    /// Whether each model was exhausted.
    pub complete: bool,
    /// Wall-clock seconds of the whole run.
    pub seconds: f64,
    /// One report a model, in the order of the registry.
    pub models: Vec<ModelReport>,
}

impl CheckReport {
    /// What the run as a whole says.
    pub fn verdict(&self) -> Verdict {
        let whole = if self.complete { Verdict::Holds } else { Verdict::Incomplete };
        self.models.iter().map(ModelReport::verdict).fold(whole, Verdict::max)
    }

    /// Every counterexample.
    pub fn traces(&self) -> impl Iterator<Item = &Trace> {
        self.models.iter().flat_map(|model| &model.traces)
    }
}

/// The report of `prove races`.
#[derive(Debug, Serialize)]
pub struct RacesReport {
    /// One entry a race, in the order of the registry.
    pub races: Vec<RaceReport>,
    /// Wall-clock seconds of the whole run.
    pub seconds: f64,
}

impl RacesReport {
    /// `Holds` when each race is refused as expected.
    pub fn verdict(&self) -> Verdict {
        self.races.iter().map(RaceReport::verdict).max().unwrap_or(Verdict::Holds)
    }
}

/// A report as JSON, indented, with a line end.
///
/// # Panics
/// Never: the reports hold nothing that JSON cannot.
pub fn json<T: Serialize>(report: &T) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("a report is plain data");
    text.push('\n');
    text
}
