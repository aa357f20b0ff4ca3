//! What loom explores: the obligations, and the variants that it must refuse.

use crate::exhaust::{ExplorationLimits, Explored, exhaust};
use crate::under_loom::scenario::{self, Scenario, Size};
use crate::under_loom::variant::{self, Variant};

/// One scenario of an obligation, at a size that loom can exhaust.
#[derive(Clone, Copy, Debug)]
pub struct Obligation {
    scenario: Scenario,
    size: Size,
}

/// Returns every scenario that loom exhausts, in the order of the obligations.
#[must_use]
pub fn obligations() -> Vec<Obligation> {
    let mut all: Vec<_> = scenario::all()
        .into_iter()
        .filter_map(|scenario| Some(Obligation { scenario, size: scenario.exhaustible? }))
        .collect();
    all.sort_by_key(Obligation::id);
    all
}

impl Obligation {
    /// The obligation's id, such as `SH-1`.
    #[must_use]
    pub const fn id(&self) -> &'static str {
        self.scenario.obligation
    }

    /// The scenario's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.scenario.name
    }

    /// What races, and what must hold.
    #[must_use]
    pub const fn about(&self) -> &'static str {
        self.scenario.about
    }

    /// The bounds, by name. The number of preemptions is not bounded: every interleaving is run.
    #[must_use]
    pub fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![
            ("actors", self.size.actors.to_string()),
            ("rounds", self.size.rounds.to_string()),
            ("preemptions", "any".to_owned()),
        ]
    }

    /// Runs every interleaving.
    #[must_use]
    pub fn explore(&self, limits: &ExplorationLimits) -> Explored {
        let Self { scenario, size } = *self;
        exhaust(scenario.name, move || (scenario.run)(size), limits)
    }
}

/// A broken variant.
#[derive(Clone, Copy, Debug)]
pub struct Broken(Variant);

/// Returns every broken variant, in the order of the obligations.
#[must_use]
pub fn variants() -> Vec<Broken> {
    variant::all().into_iter().map(Broken).collect()
}

impl Broken {
    /// The obligation that the variant breaks.
    #[must_use]
    pub const fn id(&self) -> &'static str {
        self.0.obligation
    }

    /// The variant's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.0.name
    }

    /// The id of the known race that the variant reproduces, such as `A8`.
    #[must_use]
    pub const fn race(&self) -> Option<&'static str> {
        self.0.race
    }

    /// The mistake.
    #[must_use]
    pub const fn mistake(&self) -> &'static str {
        self.0.mistake
    }

    /// The scenario that refuses the variant.
    #[must_use]
    pub const fn scenario(&self) -> &'static str {
        self.0.scenario
    }

    /// A part of the refusal's text.
    #[must_use]
    pub const fn expected(&self) -> &'static str {
        self.0.expected
    }

    /// Runs interleavings until one fails.
    #[must_use]
    pub fn explore(&self, limits: &ExplorationLimits) -> Explored {
        let Variant { name, run, size, .. } = self.0;
        exhaust(name, move || run(size), limits)
    }
}
