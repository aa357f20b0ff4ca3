//! Mistakes that can be put back into the real machines from outside.

use lockstep_model::gateway::{Input, Output};

use super::state::{Payload, World};

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {}

/// What the gateway is fed in place of an input.
pub fn feed(mistake: Option<Mistake>, _world: &World, input: Input<Payload>) -> [Option<Input<Payload>>; 3] {
    match mistake {
        None => [Some(input), None, None],
        Some(mistake) => match mistake {},
    }
}

impl Mistake {
    /// Changes what the gateway ordered.
    pub fn tamper(self, _world: &World, _orders: &mut Vec<Output<Payload>>) {
        match self {}
    }
}
