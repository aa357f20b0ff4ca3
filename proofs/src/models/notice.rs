//! What the embedding service says to a user outside any run: notices among the events of a run, also when the user is not
//! there, with a tab that comes back, a log that fails, a process that crashes, sessions that retire and a drain. At `quick`
//! a second tab reads along, and what is retained and what may be pending are as little as they can be.

use lockstep_model::Bounds;

use crate::engine::profile::Profile;
use crate::models::world::{ClientSetup, Explored, Setup, setup};

/// The model at the bounds of a profile.
pub fn model(profile: Profile) -> Explored {
    let calm = Setup::calm("notice", "one user: notices among a run, with and without a reader");
    let client = ClientSetup { user: 0, messages: 1, sockets: 2, earliest: false, fast: false };
    let bounds = Bounds { retained: 2, ..setup::small() };
    let tight = Bounds { pending: 4, ..bounds };
    let noticed = Setup { clients: vec![client], notices: 1, lingers: 1, cuts: 1, pull: 8, bounds, ..calm };
    match profile {
        Profile::Quick => {
            let reader = ClientSetup { messages: 0, sockets: 1, ..client };
            let bounds = Bounds { retained: 1, runs: 1, pending: 3, ..bounds };
            Explored { setup: Setup { clients: vec![client, reader], notices: 2, bounds, ..noticed }, live: true }
        }
        Profile::Ci => Explored {
            setup: Setup { notices: 2, log_failures: 1, crashes: 1, restore_failures: 1, bounds: tight, ..noticed },
            live: false,
        },
        Profile::Deep => Explored {
            setup: Setup {
                notices: 3,
                log_failures: 1,
                torn: true,
                crashes: 1,
                restore_failures: 1,
                drains: 1,
                bounds: tight,
                ..noticed
            },
            live: false,
        },
    }
}
