//! Messages that follow each other in one thread: the runs of one user wait for each other while the process crashes,
//! the log fails, a client comes back and the user withdraws messages. The reader is never behind, because no step
//! depends on its cursor. At `ci` a third message comes from another client, and the log fails. At `deep` the node also
//! drains and hands over.

use lockstep_model::Bounds;

use crate::engine::profile::Profile;
use crate::models::world::{ClientSetup, Explored, Setup, Threads, setup};

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Explored {
    let calm = Setup::calm("queue", "one thread: messages that wait for each other or are taken back, across a crash");
    let client = ClientSetup { user: 0, messages: 2, sockets: 2, earliest: false, fast: true };
    let other = ClientSetup { messages: 1, sockets: 1, ..client };
    let bounds = Bounds { retained: 8, pending: 6, queued: 1, runs: 1, ..setup::small() };
    let queue =
        Setup { clients: vec![client], threads: Threads::Shared, crashes: 1, cancels: 1, pull: 8, bounds, ..calm };
    match profile {
        Profile::Quick => Explored { setup: Setup { deaths: 1, ..queue }, live: true },
        Profile::Ci => Explored {
            setup: Setup {
                clients: vec![client, other],
                log_failures: 1,
                bounds: Bounds { retained: 12, pending: 8, queued: 2, ..bounds },
                ..queue
            },
            live: false,
        },
        Profile::Deep => Explored {
            setup: Setup {
                clients: vec![client, other],
                log_failures: 1,
                torn: true,
                deaths: 1,
                drains: 1,
                handovers: 1,
                bounds: Bounds { retained: 12, pending: 8, queued: 2, ..bounds },
                ..queue
            },
            live: false,
        },
    }
}
