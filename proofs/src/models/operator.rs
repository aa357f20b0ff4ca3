//! An operator and the clock act on one user: modes, a drain, sessions that retire, credentials that are about to
//! expire and do, cancels. The client comes back. At `quick` a second client reads too, the verifier may fall silent,
//! so that a drain meets unverified connections, and one notice is sent, perhaps to an absent user while the node
//! drains. At `deep` the process crashes too, and a dead peer is detected by idleness alone.

use crate::engine::profile::Profile;
use crate::models::world::{ClientSetup, Explored, Setup};

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Explored {
    let calm = Setup::calm("operator", "one user: modes, drain, retirement, expiry, cancel");
    let client = ClientSetup { user: 0, messages: 1, sockets: 2, earliest: false, fast: false };
    let operated = Setup { clients: vec![client], drains: 1, lingers: 1, pins: 1, pull: 8, ..calm };
    match profile {
        Profile::Quick => {
            let reader = ClientSetup { messages: 0, sockets: 1, fast: true, ..client };
            let setup = Setup { clients: vec![client, reader], notices: 1, silences: 1, ..operated };
            Explored { setup, live: true }
        }
        Profile::Ci => Explored { setup: Setup { expiries: 1, cancels: 1, cuts: 1, ..operated }, live: true },
        Profile::Deep => Explored {
            setup: Setup { expiries: 1, cancels: 1, cuts: 1, silences: 1, crashes: 1, idle: true, ..operated },
            live: false,
        },
    }
}
