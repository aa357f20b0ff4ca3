//! What loom is asked: the obligations, and the variants that it must refuse.

use crate::exhaust::{Explored, Limits, exhaust};
use crate::under_loom::scenario::{self, Scenario, Size};
use crate::under_loom::variant::{self, Variant};

/// One scenario of an obligation, at the size that loom can exhaust.
#[derive(Clone, Copy, Debug)]
pub struct Obligation {
    scenario: Scenario,
    size: Size,
}

/// Every scenario that loom exhausts, in the order of the obligations.
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
    /// `SH-1`.
    #[must_use]
    pub const fn id(&self) -> &'static str {
        self.scenario.obligation
    }

    /// The scenario's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.scenario.name
    }

    /// Who races with whom, and what must hold.
    #[must_use]
    pub const fn about(&self) -> &'static str {
        self.scenario.about
    }

    /// Within which bounds, by name. There is none on preemptions: every interleaving is run.
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
    pub fn explore(&self, limits: &Limits) -> Explored {
        let Self { scenario, size } = *self;
        exhaust(scenario.name, move || (scenario.run)(size), limits)
    }
}

/// A broken variant.
#[derive(Clone, Copy, Debug)]
pub struct Broken(Variant);

/// Every broken variant, in the order of the obligations.
#[must_use]
pub fn variants() -> Vec<Broken> {
    variant::all().into_iter().map(Broken).collect()
}

impl Broken {
    /// The obligation that it breaks.
    #[must_use]
    pub const fn id(&self) -> &'static str {
        self.0.obligation
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.0.name
    }

    /// The known race that it is, `A8`.
    #[must_use]
    pub const fn race(&self) -> Option<&'static str> {
        self.0.race
    }

    /// What is done wrong.
    #[must_use]
    pub const fn mistake(&self) -> &'static str {
        self.0.mistake
    }

    /// The scenario that refuses it.
    #[must_use]
    pub const fn scenario(&self) -> &'static str {
        self.0.scenario
    }

    /// What the refusal says, somewhere in its text.
    #[must_use]
    pub const fn expected(&self) -> &'static str {
        self.0.expected
    }

    /// Runs interleavings until one fails.
    #[must_use]
    pub fn explore(&self, limits: &Limits) -> Explored {
        let Variant { name, run, size, .. } = self.0;
        exhaust(name, move || run(size), limits)
    }
}
