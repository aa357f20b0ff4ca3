//! Two users at one gateway: limits, a breaker, a revocation, a failing agent, a bad verdict or a cut of one user must
//! not affect the other.
//!
//! The verifier answers late and in any order here, so that a revocation can overtake a verification.

use lockstep_model::Bounds;

use crate::engine::profile::Profile;
use crate::models::world::{ClientSetup, Explored, Setup, setup};

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Explored {
    let calm = Setup::calm("isolation", "two users: limits, a breaker, a revocation, late verdicts");
    let busy = ClientSetup { user: 0, messages: 2, sockets: 2, earliest: false, fast: true };
    let other = ClientSetup { user: 1, messages: 1, sockets: 1, earliest: false, fast: true };
    let bounds = Bounds { connections: 1, runs: 1, failures: 1, retained: 4, pending: 2, ..setup::small() };
    let quick = Setup { clients: vec![busy, other], deaths: 1, revocations: 1, pull: 8, bounds, ..calm };
    match profile {
        Profile::Quick => Explored { setup: quick, live: false },
        Profile::Ci => Explored { setup: Setup { rejections: 1, ..quick }, live: false },
        Profile::Deep => Explored { setup: Setup { cuts: 1, rejections: 1, garbage: 1, ..quick }, live: false },
    }
}
