//! The golden path at its smallest: one user logs in, sends a message and sees the answer as it is produced, with real
//! queues in both directions, while the connection is cut, the log fails, the process crashes or is drained, once each.
//! At `quick` the user may have one connection, so a connection that comes back meets the old one that it replaces. A
//! second user reads too, a restore fails, and sessions linger. At `deep` runs have tools, a refused batch may be
//! written in part, and a verdict and a restore fail too. With all the adversary's budgets the states would exceed
//! memory: expiry alone has seventy times as many.

use lockstep_model::Bounds;

use crate::engine::profile::Profile;
use crate::models::world::{ClientSetup, Explored, Setup, Wire, setup};

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Explored {
    let calm = Setup::calm("golden", "log in, send, see the answer: with every fault once");
    let client = ClientSetup { user: 0, messages: 1, sockets: 2, earliest: false, fast: false };
    let bounds = Bounds { retained: 2, ..setup::small() };
    let smallest = Setup { clients: vec![client], wire: Wire::Queued(1), pull: 1, cuts: 1, bounds, ..calm };
    match profile {
        Profile::Quick => {
            let other = ClientSetup { user: 1, messages: 0, sockets: 1, fast: true, ..client };
            let (clients, bounds) = (vec![client, other], Bounds { connections: 1, ..bounds });
            let setup = Setup { clients, log_failures: 1, restore_failures: 1, lingers: 1, bounds, ..smallest };
            Explored { setup, live: true }
        }
        Profile::Ci => {
            Explored { setup: Setup { crashes: 1, log_failures: 1, drains: 1, cancels: 1, ..smallest }, live: true }
        }
        Profile::Deep => Explored {
            setup: Setup {
                crashes: 1,
                log_failures: 1,
                drains: 1,
                cancels: 1,
                torn: true,
                tools: 1,
                rejections: 1,
                restore_failures: 1,
                ..smallest
            },
            live: false,
        },
    }
}
