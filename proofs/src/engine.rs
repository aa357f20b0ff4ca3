//! Explores a [`Proof`] and decides its properties. Works for any model.
//!
//! [`explore`](mod@explore) visits the reachable states on all threads, using stateright. [`shortest`](mod@shortest)
//! searches level by level for the counterexample with the fewest steps. [`fairness`] decides promises, [`refutation`]
//! looks for any violation, and [`race`] expects one. [`walk`](mod@walk) takes random steps at bounds that no search
//! could exhaust. [`chart`] collects the transitions of one machine, and [`check`](mod@check) runs the complete check of
//! one model. [`findings`] and [`trace`] are the results.
//!
//! The engine depends on no other folder of this crate: it knows no model, no report format and no command line.
//! The engine knows no model, no table and no command line: it uses none of the other folders of this crate.

pub mod chart;
pub mod check;
pub mod checkable;
pub mod digest;
pub mod explore;
pub mod fairness;
pub mod findings;
pub mod guard;
mod lasso;
pub mod memory;
pub mod phrase;
pub mod profile;
pub mod proof;
pub mod property;
pub mod race;
pub mod refutation;
mod search;
pub mod settings;
pub mod shortest;
pub mod trace;
pub mod walk;

pub use self::checkable::{Chartable, Checkable};
pub use self::profile::Profile;
pub use self::proof::{Drawing, Kind, Lifecycle, Lifeline, Outcome, Promise, Proof};
pub use self::settings::Settings;
