//! A user deletes threads while their runs are open, queued or ending, a reader is behind or resumes inside the deleted
//! part, the process crashes and the log fails. At `ci` two messages share a thread and a second client reads. At
//! `deep` answers come in pieces, and the session retires in between.

use lockstep_model::Bounds;

use crate::engine::profile::Profile;
use crate::models::world::{ClientSetup, Explored, Setup, Threads, setup};

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Explored {
    let calm = Setup::calm("deletion", "threads that are deleted during a run, a read, a resume and a crash");
    let client = ClientSetup { user: 0, messages: 2, sockets: 2, earliest: false, fast: false };
    let bounds = Bounds { retained: 4, pending: 6, ..setup::small() };
    let deletion = Setup { clients: vec![client], deletions: 1, pull: 4, bounds, ..calm };
    match profile {
        Profile::Quick => Explored { setup: Setup { crashes: 1, ..deletion }, live: true },
        Profile::Ci => Explored {
            setup: Setup {
                threads: Threads::Shared,
                cuts: 1,
                crashes: 1,
                log_failures: 1,
                torn: true,
                bounds: Bounds { queued: 1, retained: 5, pending: 7, ..bounds },
                ..deletion
            },
            live: false,
        },
        Profile::Deep => Explored {
            setup: Setup {
                deletions: 2,
                cuts: 1,
                pieces: 2,
                crashes: 1,
                lingers: 1,
                log_failures: 1,
                torn: true,
                bounds: Bounds { retained: 5, pending: 7, ..bounds },
                ..deletion
            },
            live: false,
        },
    }
}
