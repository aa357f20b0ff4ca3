//! One user whose readers fall out of the window: they are slow, or come back at a trimmed position. The log keeps
//! trimmed entries and returns them in pages of any size, at any time, while agents go on writing. Clients also query
//! conversations. Whatever the readers miss, and wherever a page ends, they read each entry once (STR-3). Entries that
//! are deleted meanwhile are not read (RET-1).
//!
//! One thing is not promised. If a thread is deleted while a reader is behind the window, the client may not be told
//! the result of a message of that thread. It finds out when it sends the message again, which is refused as forgotten.

use lockstep_model::Bounds;

use crate::engine::profile::Profile;
use crate::models::world::{ClientSetup, Explored, Setup, setup};

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Explored {
    let calm = Setup::calm("backlog", "readers that fall out of the window and continue from the log");
    let client = ClientSetup { user: 0, messages: 1, sockets: 2, earliest: true, fast: false };
    let bounds = Bounds { retained: 1, runs: 1, pending: 4, ..setup::small() };
    let backlog = Setup { clients: vec![client], keeps: true, pieces: 2, cuts: 1, pull: 1, bounds, ..calm };
    match profile {
        Profile::Quick => Explored { setup: Setup { queries: 1, ..backlog }, live: true },
        Profile::Ci => Explored {
            setup: Setup {
                deletions: 1,
                lookup_failures: 1,
                unanswered: 1,
                pull: 2,
                bounds: Bounds { retained_turns: 1, retained: 2, pending: 6, ..bounds },
                ..backlog
            },
            live: false,
        },
        Profile::Deep => Explored {
            setup: Setup {
                clients: vec![ClientSetup { messages: 2, ..client }],
                queries: 1,
                deletions: 1,
                lookup_failures: 1,
                unanswered: 1,
                crashes: 1,
                log_failures: 1,
                torn: true,
                bounds: Bounds { runs: 2, pending: 6, retained: 2, ..bounds },
                ..backlog
            },
            live: false,
        },
    }
}
