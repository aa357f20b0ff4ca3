//! The search for the shortest run that breaks a property.
//!
//! The search is level by level, so no counterexample of an `always` is shorter. Promises are checked only if every
//! `always` holds.

use crate::engine::check;
use crate::engine::fairness::Graph;
use crate::engine::proof::Proof;
use crate::engine::search::End;
use crate::engine::settings::Settings;
use crate::engine::shortest::{Shortest, shortest};
use crate::engine::trace::Counterexample;

/// The result of the search for a counterexample.
#[derive(Debug)]
pub enum Refutation {
    /// The shortest violation of an `always` or, if there is none, of a promise.
    Refuted {
        /// The run.
        trace: Box<Counterexample>,
        /// Distinct states searched.
        unique_states: usize,
    },
    /// Every property holds. `sometimes` is not checked, because an unreached premise refutes nothing.
    Survived {
        /// Distinct states searched.
        unique_states: usize,
    },
    /// Stopped by the flag or a limit.
    Incomplete {
        /// Distinct states searched.
        unique_states: usize,
    },
}

/// Finds the shortest counterexample of any property of `model`.
pub fn refute_model<M: Proof>(model: &M, settings: &Settings) -> Refutation {
    match shortest(model, settings, None) {
        Shortest::Found { trace, unique_states } => Refutation::Refuted { trace, unique_states },
        Shortest::Stopped { unique_states } => Refutation::Incomplete { unique_states },
        Shortest::None { unique_states } if model.promises().is_empty() => Refutation::Survived { unique_states },
        Shortest::None { unique_states } => match Graph::build(model, settings) {
            Err(End::Exhausted | End::Found(_) | End::Stopped | End::Panicked { .. }) => {
                Refutation::Incomplete { unique_states }
            }
            Ok(graph) => (0..graph.promises.len())
                .filter_map(|promise| check::broken(model, &graph, promise))
                .min_by_key(Counterexample::len)
                .map_or(Refutation::Survived { unique_states }, |trace| Refutation::Refuted {
                    trace: Box::new(trace),
                    unique_states,
                }),
        },
    }
}
