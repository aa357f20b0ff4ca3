//! What explores a [`Proof`] and decides its properties, whichever model it is.
//!
//! Two searches visit the reachable states: [`explore`](mod@explore) is stateright's, on all threads, and the level-order
//! search behind [`shortest`](mod@shortest) finds the counterexamples with the fewest steps. [`fairness`] decides
//! promises, [`refutation`] searches broken variants, and [`chart`] keeps the transitions of one machine. [`check`](mod@check)
//! puts them together for one model.
//!
//! The engine knows no model, no table and no command line. It may use the standard library and stateright, and none of
//! the other folders of this crate.

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
pub mod refutation;
mod search;
pub mod settings;
pub mod shortest;
pub mod trace;

pub use self::checkable::{Chartable, Checkable};
pub use self::profile::Profile;
pub use self::proof::{Drawing, Kind, Lifecycle, Lifeline, Outcome, Promise, Proof};
pub use self::settings::Settings;
