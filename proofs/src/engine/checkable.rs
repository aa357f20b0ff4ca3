//! Object-safe forms of the model traits, for the registry, the commands and the tests.

use std::net::SocketAddr;

use crate::engine::chart::{Chart, ChartError};
use crate::engine::check;
use crate::engine::explore::{self, Exploration};
use crate::engine::findings::ModelReport;
use crate::engine::proof::{Kind, Lifecycle, Proof};
use crate::engine::refutation::{self, Refutation};
use crate::engine::settings::Settings;
use crate::engine::trace::Counterexample;
use crate::engine::walk::{self, Walked};

/// A [`Proof`] as a trait object.
pub trait Checkable: Send + Sync {
    /// See [`Proof::name`].
    fn name(&self) -> &'static str;

    /// See [`Proof::about`].
    fn about(&self) -> &'static str;

    /// See [`Proof::bounds`].
    fn bounds(&self) -> Vec<(&'static str, String)>;

    /// Each property with its kind, in the order of reports.
    fn property_names(&self) -> Vec<(&'static str, Kind)>;

    /// Runs the exhaustive search alone. See [`explore::explore`].
    fn explore(&self, settings: &Settings) -> Exploration;

    /// Checks the model completely. See [`check::check`].
    fn check(&self, settings: &Settings) -> ModelReport;

    /// Finds the shortest counterexample. See [`refutation::refute_model`].
    fn refute(&self, settings: &Settings) -> Refutation;

    /// Takes the random walk of these numbers. See [`walk::walk`].
    ///
    /// # Errors
    /// The walk up to the first violation.
    fn walk(&self, numbers: &mut dyn Iterator<Item = u64>) -> Result<Walked, Box<Counterexample>>;

    /// Serves stateright's Explorer. Does not return.
    ///
    /// # Panics
    /// When the address cannot be bound.
    fn serve(&self, address: SocketAddr);
}

impl<M: Proof> Checkable for M {
    fn name(&self) -> &'static str {
        Proof::name(self)
    }

    fn about(&self) -> &'static str {
        Proof::about(self)
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        Proof::bounds(self)
    }

    fn property_names(&self) -> Vec<(&'static str, Kind)> {
        check::properties(self)
    }

    fn explore(&self, settings: &Settings) -> Exploration {
        explore::explore(self, settings)
    }

    fn check(&self, settings: &Settings) -> ModelReport {
        check::check(self, settings)
    }

    fn refute(&self, settings: &Settings) -> Refutation {
        refutation::refute_model(self, settings)
    }

    fn walk(&self, numbers: &mut dyn Iterator<Item = u64>) -> Result<Walked, Box<Counterexample>> {
        walk::walk(self, numbers)
    }

    fn serve(&self, address: SocketAddr) {
        let _ = self.clone().checker().serve(address);
    }
}

/// A [`Lifecycle`] as a trait object.
pub trait Chartable: Send + Sync {
    /// See [`Proof::name`].
    fn name(&self) -> &'static str;

    /// Explores the machine and collects its transitions.
    ///
    /// # Errors
    /// See [`ChartError`].
    fn chart(&self, settings: &Settings) -> Result<Chart, ChartError>;
}

impl<M: Lifecycle> Chartable for M {
    fn name(&self) -> &'static str {
        Proof::name(self)
    }

    fn chart(&self, settings: &Settings) -> Result<Chart, ChartError> {
        Chart::of(self, settings)
    }
}
