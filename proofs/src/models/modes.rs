//! A node tells two users at once of a mode, a drain, or a revocation without a matching connection, while connections
//! come and go and sessions retire. At `quick` a peer sends another credential and a ping before its verdict.

use crate::engine::profile::Profile;
use crate::models::world::{ClientSetup, Explored, Setup};

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Explored {
    let calm = Setup::calm("modes", "two users: modes, a drain and a revocation, with any of them connected");
    let one = ClientSetup { user: 0, messages: 1, sockets: 2, earliest: false, fast: true };
    let other = ClientSetup { user: 1, messages: 0, sockets: 1, ..one };
    let clients = vec![one, other];
    let told = Setup { clients, pins: 1, drains: 1, revocations: 1, lingers: 1, pull: 8, ..calm };
    let setup = match profile {
        Profile::Quick => Setup { eager: 1, ..told },
        Profile::Ci => Setup { pins: 2, ..told },
        Profile::Deep => Setup { pins: 2, cuts: 1, lingers: 2, ..told },
    };
    Explored { setup, live: profile == Profile::Quick }
}
