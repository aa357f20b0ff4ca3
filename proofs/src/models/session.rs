//! One user's session in a hostile world: two clients, one of which reconnects while its old connection still exists,
//! two runs with tools, a stream that retains less than is emitted, a log that fails, a process that crashes.
//!
//! At `quick` one client with one run meets every fault at its finest grain: pulls of one frame, refused batches that
//! were written in part, writers that pull after a cut, cancels, room for the pending events of one run only, liveness.
//! `ci` and `deep` have all the clients, and a coarser grain where [`world`](crate::models::world) argues that this
//! hides nothing. `deep` adds cancels, and batches that were written in part. One of the two readers is never behind,
//! because no step depends on two cursors.

use lockstep_model::Bounds;

use crate::engine::profile::Profile;
use crate::models::world::{ClientSetup, Explored, Setup, setup};

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Explored {
    let calm = Setup::calm("session", "one user: tabs, runs, tools, a failing log, a crash");
    let reconnecting = ClientSetup { user: 0, messages: 1, sockets: 2, earliest: false, fast: false };
    let steady = ClientSetup { user: 0, messages: 1, sockets: 1, earliest: true, fast: true };
    match profile {
        // With a second, steady client `ci` exceeded 32 million states without being exhausted. That client is left to
        // `deep`.
        Profile::Quick | Profile::Ci => Explored {
            setup: Setup {
                clients: vec![reconnecting],
                cuts: 1,
                crashes: 1,
                log_failures: 1,
                torn: true,
                tools: 1,
                cancels: 1,
                lingers: 1,
                bounds: Bounds { retained: 2, failures: 1, runs: 1, pending: 3, ..setup::small() },
                ..calm
            },
            live: true,
        },
        Profile::Deep => Explored {
            setup: Setup {
                clients: vec![reconnecting, steady],
                cuts: 1,
                crashes: 1,
                log_failures: 1,
                torn: true,
                tools: 1,
                cancels: 1,
                pull: 8,
                void: false,
                bounds: Bounds { connections: 3, retained: 2, pending: 4, ..setup::small() },
                ..calm
            },
            live: false,
        },
    }
}
