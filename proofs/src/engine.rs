//! What explores a [`Proof`] and decides its properties, whichever model it is.
//!
//! [`explore`](mod@explore) visits the reachable states on all threads, by stateright. [`shortest`](mod@shortest)
//! searches level by level for the counterexample with the fewest steps. [`fairness`] decides promises, [`refutation`]
//! asks for any violation at all, and [`race`] expects one. [`chart`] keeps the transitions of one machine, and
//! [`check`](mod@check) is everything about one model. [`findings`] and [`trace`] are what they return.
//!
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

pub use self::checkable::{Chartable, Checkable};
pub use self::profile::Profile;
pub use self::proof::{Drawing, Kind, Lifecycle, Lifeline, Outcome, Promise, Proof};
pub use self::settings::Settings;
