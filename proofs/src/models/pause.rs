//! Runs that wait for a reply of the user. Replies come from any connection; they are right, repeated, to an earlier
//! pause, or to a pause that never existed. The run is cancelled or times out, the process crashes or is replaced, and
//! the log refuses the reply. The reader is never behind, because no step depends on its cursor. At `ci` a run pauses
//! twice, the log fails, and the node is replaced. At `deep` a second connection replies too, and a second run shares
//! the thread.

use lockstep_model::Bounds;

use crate::engine::profile::Profile;
use crate::models::world::{ClientSetup, Explored, Setup, Threads, setup};

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Explored {
    let calm = Setup::calm("pause", "runs that wait for a reply: repeated, late and wrong replies, across a restart");
    let client = ClientSetup { user: 0, messages: 1, sockets: 2, earliest: false, fast: true };
    let other = ClientSetup { messages: 0, sockets: 1, ..client };
    let bounds = Bounds { retained: 12, pending: 6, queued: 0, runs: 1, ..setup::small() };
    let pause = Setup {
        clients: vec![client],
        pauses: 1,
        replies: 2,
        tools: 1,
        cancels: 1,
        crashes: 1,
        pull: 8,
        bounds,
        ..calm
    };
    match profile {
        Profile::Quick => Explored { setup: pause, live: true },
        Profile::Ci => {
            Explored { setup: Setup { pauses: 2, replies: 3, log_failures: 1, handovers: 1, ..pause }, live: false }
        }
        Profile::Deep => Explored {
            setup: Setup {
                clients: vec![ClientSetup { messages: 2, ..client }, other],
                threads: Threads::Shared,
                pauses: 2,
                replies: 3,
                deaths: 1,
                log_failures: 1,
                torn: true,
                drains: 1,
                handovers: 1,
                bounds: Bounds { pending: 8, queued: 1, ..bounds },
                ..pause
            },
            live: false,
        },
    }
}
