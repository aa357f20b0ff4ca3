//! A user edits: each message replaces the thread's first turn and everything after it, while answers are open, ending
//! or waiting, and the process crashes. At `ci` a third message comes from another client, and the log fails.

use lockstep_model::Bounds;

use crate::engine::profile::Profile;
use crate::models::world::{ClientSetup, Explored, Setup, Threads, setup};

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Explored {
    let calm = Setup::calm("editing", "one thread: messages that replace earlier turns, across a crash");
    let client = ClientSetup { user: 0, messages: 2, sockets: 2, earliest: false, fast: true };
    let other = ClientSetup { messages: 1, sockets: 1, ..client };
    let bounds = Bounds { retained: 8, pending: 6, queued: 1, runs: 1, ..setup::small() };
    let (threads, replacing) = (Threads::Shared, true);
    let editing = Setup { clients: vec![client], threads, replacing, crashes: 1, pull: 8, bounds, ..calm };
    let wide = Bounds { retained: 12, pending: 8, ..bounds };
    match profile {
        Profile::Quick => Explored { setup: editing, live: true },
        Profile::Ci => Explored {
            setup: Setup { clients: vec![client, other], log_failures: 1, bounds: wide, ..editing },
            live: false,
        },
        Profile::Deep => Explored {
            setup: Setup {
                clients: vec![client, other],
                log_failures: 1,
                torn: true,
                deaths: 1,
                drains: 1,
                bounds: wide,
                ..editing
            },
            live: false,
        },
    }
}
