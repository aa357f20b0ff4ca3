//! Model checking of the Lockstep machines, and the `prove` command.
//!
//! A [`Proof`] is a stateright model whose state contains the *production* machines and whose actions are everything
//! that a hostile network, verifier, log, agent, operator and clock may do to them. [`check`](engine::check::check)
//! visits every state that is reachable within the stated bounds:
//!
//! ```
//! use lockstep_proofs::{Proof, Settings, engine::check::check, engine::findings::Conclusion};
//! use stateright::{Model, Property};
//!
//! #[derive(Clone)]
//! struct Flag;
//!
//! impl Model for Flag {
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
//!     fn next_state(&self, _: &bool, set: bool) -> Option<bool> {
//!         Some(set)
//!     }
//!
//!     fn properties(&self) -> Vec<Property<Self>> {
//!         vec![Property::sometimes("FLAG-1.set", |_, set| *set)]
//!     }
//! }
//!
//! impl Proof for Flag {
//!     fn name(&self) -> &'static str {
//!         "flag"
//!     }
//!
//!     fn about(&self) -> &'static str {
//!         "a flag that is set and cleared"
//!     }
//!
//!     fn bounds(&self) -> Vec<(&'static str, String)> {
//!         vec![("flags", "1".into())]
//!     }
//! }
//!
//! let report = check(&Flag, &Settings::default());
//! assert_eq!(report.unique_states, 2);
//! assert_eq!(report.verdict(), Conclusion::Holds);
//! ```
//!
//! | folder | contents | uses |
//! | --- | --- | --- |
//! | [`engine`] | explores any model and decides its properties | |
//! | [`properties`] | observers of events that state the properties | |
//! | [`models`] | the models: each machine alone, and the worlds | `engine`, `properties` |
//! | [`races`] | models with one known mistake each, which the checker must refuse | `engine`, `models` |
//! | [`registry`] | the lists of all models, charted machines and races | `engine`, `models`, `races` |
//! | [`report`] | tables, JSON, JUnit, HTML and diagrams; the pinned counts | `engine` |
//! | [`replay`] | replays the traced steps of a production gateway | `engine` |
//! | [`history`] | checks what a gateway's clients sent and received | `properties` |
//! | [`cli`] | the `prove` command | all of them |
//!
//! These are the only dependencies between the folders.
//!
//! | to read about | see |
//! | --- | --- |
//! | what a model declares | [`engine::proof`] |
//! | the exhaustive search, and when a run is complete | [`engine::explore`](mod@engine::explore) |
//! | counterexamples with the fewest steps | [`engine::shortest`](mod@engine::shortest) |
//! | liveness under weak fairness, and why it is exact | [`engine::fairness`] |
//! | broken variants | [`engine::race`] |
//! | the adversary, and why its abstractions hide no violation | [`models::world`] |
//! | diagrams and matrices of the explored transitions | [`report::diagram`], [`report::matrix`] |

#![forbid(unsafe_code)]

pub mod cli;
pub mod engine;
pub mod history;
pub mod models;
pub mod properties;
pub mod races;
pub mod registry;
pub mod replay;
pub mod report;

pub use engine::{Chartable, Checkable, Profile, Settings};
pub use engine::{Drawing, Kind, Lifecycle, Lifeline, Outcome, Promise, Proof};
