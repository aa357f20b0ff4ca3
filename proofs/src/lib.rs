//! Model checking of the Lockstep machines, and the `prove` command.
//!
//! A [`Proof`] is a stateright model whose state contains the *production*
//! machines and whose actions are everything that a hostile network, verifier,
//! log, agent, operator and clock may do to them. [`check`](engine::check::check)
//! visits every state that is reachable within the stated bounds:
//!
//! ```
//! use lockstep_proofs::{Proof, Settings, engine::check::check, engine::findings::Verdict};
//! use stateright::{Model, Property};
//!
//! #[derive(Clone)]
//! struct Door;
//!
//! impl Model for Door {
//!     type State = bool;
//!     type Action = bool;
//!
//!     fn init_states(&self) -> Vec<bool> {
//!         vec![false]
//!     }
//!
//!     fn actions(&self, _: &bool, actions: &mut Vec<bool>) {
//!         actions.extend([true, false]);
//!     }
//!
//!     fn next_state(&self, _: &bool, open: bool) -> Option<bool> {
//!         Some(open)
//!     }
//!
//!     fn properties(&self) -> Vec<Property<Self>> {
//!         vec![Property::sometimes("DOOR-1.open", |_, open| *open)]
//!     }
//! }
//!
//! impl Proof for Door {
//!     fn name(&self) -> &'static str {
//!         "door"
//!     }
//!
//!     fn about(&self) -> &'static str {
//!         "a door that anybody may open and close"
//!     }
//!
//!     fn bounds(&self) -> Vec<(&'static str, String)> {
//!         vec![("doors", "1".into())]
//!     }
//! }
//!
//! let report = check(&Door, &Settings::default());
//! assert_eq!(report.unique_states, 2);
//! assert_eq!(report.verdict(), Verdict::Holds);
//! ```
//!
//! | to read about | see |
//! | --- | --- |
//! | what a model must say | [`proof`](mod@engine::proof) |
//! | the exhaustive search, and when a run is complete | [`explore`](mod@engine::explore) |
//! | counterexamples with the fewest steps | [`shortest`](mod@engine::shortest) |
//! | liveness under weak fairness, and why it is exact | [`fairness`](mod@engine::fairness) |
//! | broken variants | [`race`](mod@engine::race) |
//! | diagrams and matrices made from what was explored | [`diagram`](mod@report::diagram), [`matrix`](mod@report::matrix) |
//! | which models, machines and races there are | [`registry`] |
//! | production's steps, taken again | [`replay`] |
//! | the command line | [`cli`] |

#![forbid(unsafe_code)]

pub mod cli;
pub mod engine;
pub mod history;
pub mod models;
pub mod races;
pub mod registry;
pub mod replay;
pub mod report;

pub use engine::{Chartable, Checkable, Profile, Settings};
pub use engine::{Drawing, Kind, Lifecycle, Lifeline, Outcome, Promise, Proof};
