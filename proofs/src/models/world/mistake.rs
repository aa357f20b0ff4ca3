//! Mistakes that are made in the production machines' surroundings.
//!
//! A mistake is a wrapper around the production machines: their inputs or outputs are skipped, repeated, reordered or
//! changed on the way. The machines themselves have no switch for it. Each mistake is written next to its row in
//! [`races`](crate::races).

use lockstep_model::gateway;

use super::state::{Payload, World};

/// The gateway's inputs.
pub type Input = gateway::Input<Payload>;
/// The gateway's outputs.
pub type Output = gateway::Output<Payload>;

/// A mistake, with two places at which it can be made. [`Mistake::NONE`] makes none.
#[derive(Clone, Copy, Debug)]
pub struct Mistake {
    /// Replaces an input of the gateway.
    pub feed: fn(&World, Input, &mut Vec<Input>),
    /// Changes the outputs of a step of the gateway before they are dispatched.
    pub tamper: fn(&World, &mut Vec<Output>),
}

impl Mistake {
    /// Passes everything on unchanged.
    pub const NONE: Self = Self { feed: |_, input, fed| fed.push(input), tamper: |_, _| {} };

    /// A mistake in the gateway's inputs.
    pub const fn feeding(feed: fn(&World, Input, &mut Vec<Input>)) -> Self {
        Self { feed, ..Self::NONE }
    }

    /// A mistake in the dispatch of the gateway's outputs.
    pub const fn tampering(tamper: fn(&World, &mut Vec<Output>)) -> Self {
        Self { tamper, ..Self::NONE }
    }

    /// Returns the gateway's inputs in place of `input`.
    pub fn fed(self, world: &World, input: Input) -> Vec<Input> {
        let mut fed = Vec::new();
        (self.feed)(world, input, &mut fed);
        fed
    }
}
