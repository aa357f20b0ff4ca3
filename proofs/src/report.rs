//! Reports for people and programs: tables, JSON, JUnit, HTML and diagrams.
//!
//! The engine returns its results for one model or race ([`findings`](crate::engine::findings)). This module collects
//! them into the report of a whole run, which is written as JSON (the types, through serde), as a table ([`table`]), as
//! JUnit ([`junit`]) or as HTML ([`html`], with [`sequence`] diagrams). [`diagram`] and [`matrix`] draw one machine,
//! and [`pins`] compares counts with those in `pins.txt`.
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

use crate::engine::findings::{Conclusion, ModelReport, RaceReport};
use crate::engine::trace::Counterexample;

/// The report of `prove check`.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// The profile: `quick`, `ci` or `deep`.
    pub profile: String,
    /// Whether each model was exhausted.
    pub complete: bool,
    /// Wall-clock seconds of the whole run.
    pub seconds: f64,
    /// One report per model, in the order of the registry.
    pub models: Vec<ModelReport>,
}

impl CheckReport {
    /// Returns the verdict on the whole run.
    pub fn verdict(&self) -> Conclusion {
        let whole = if self.complete { Conclusion::Holds } else { Conclusion::Incomplete };
        self.models.iter().map(ModelReport::verdict).fold(whole, Conclusion::max)
    }

    /// Every counterexample.
    pub fn traces(&self) -> impl Iterator<Item = &Counterexample> {
        self.models.iter().flat_map(|model| &model.traces)
    }
}

/// The report of `prove races`.
#[derive(Debug, Serialize)]
pub struct RacesReport {
    /// One entry per race, in the order of the registry.
    pub races: Vec<RaceReport>,
    /// Wall-clock seconds of the whole run.
    pub seconds: f64,
}

impl RacesReport {
    /// Returns `Holds` if each race is refused as expected.
    pub fn verdict(&self) -> Conclusion {
        self.races.iter().map(RaceReport::verdict).max().unwrap_or(Conclusion::Holds)
    }
}

/// Returns a report as indented JSON with a final newline.
///
/// # Panics
/// Never: the reports contain nothing that JSON cannot represent.
pub fn json<T: Serialize>(report: &T) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("a report is plain data");
    text.push('\n');
    text
}
