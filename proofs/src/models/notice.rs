//! Notices from the embedding service to a user, outside any run: between the events of a run, and while the user is
//! away, with a client that comes back, a log that fails, a process that crashes, sessions that retire and a drain. At
//! `quick` a second client reads too, and retention and the bound on pending events are as small as possible.

use lockstep_model::Bounds;

use crate::engine::profile::Profile;
use crate::models::world::{ClientSetup, Explored, Setup, setup};

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Explored {
    let calm = Setup::calm("notice", "one user: notices during a run, with and without a reader");
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
