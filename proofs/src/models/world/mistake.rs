//! Mistakes that can be put back into the real machines from outside.
//!
//! A mistake is a wrapper: the machines are the production ones, and what they are told or what they order is skipped,
//! repeated, reordered or changed on the way. The machines have no switch for it. Each is written next to its row in
//! [`races`](crate::races).

use lockstep_model::gateway;

use super::state::{Payload, World};

/// What the gateway is fed.
pub type Input = gateway::Input<Payload>;
/// What the gateway orders.
pub type Output = gateway::Output<Payload>;

/// One mistake: two places at which it can be made. [`Mistake::NONE`] makes neither.
#[derive(Clone, Copy, Debug)]
pub struct Mistake {
    /// What the gateway is fed in place of an input.
    pub feed: fn(&World, Input, &mut Vec<Input>),
    /// What becomes of the orders of a step of the gateway, before they are done.
    pub tamper: fn(&World, &mut Vec<Output>),
}

impl Mistake {
    /// Passes everything on as it is.
    pub const NONE: Self = Self { feed: |_, input, fed| fed.push(input), tamper: |_, _| {} };

    /// A mistake in what the gateway is told.
    pub const fn feeding(feed: fn(&World, Input, &mut Vec<Input>)) -> Self {
        Self { feed, ..Self::NONE }
    }

    /// A mistake in how the gateway's orders are carried out.
    pub const fn ordering(tamper: fn(&World, &mut Vec<Output>)) -> Self {
        Self { tamper, ..Self::NONE }
    }

    /// What the gateway is fed in place of `input`.
    pub fn fed(self, world: &World, input: Input) -> Vec<Input> {
        let mut fed = Vec::new();
        (self.feed)(world, input, &mut fed);
        fed
    }
}
