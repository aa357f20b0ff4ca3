//! One user and a log with every possible fault: it refuses, in part, or after having written; it never answers; it
//! executes abandoned requests late and reports them; it grants the user to another owner; it breaks its contract.
//! Meanwhile the node is drained, the client comes back, and sessions retire.
//!
//! Nothing is assumed of this log, not even fairness, so the properties here hold with any log: each connection becomes
//! live or closed (LIVE-1), and a drain completes (LIVE-4). If the log eventually accepts a repeated request, a run
//! ends and a reader reaches the head (LIVE-2, LIVE-3): the other worlds promise that.

use lockstep_model::Bounds;

use crate::engine::profile::Profile;
use crate::models::world::{ClientSetup, Explored, Setup, setup};

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Explored {
    let calm =
        Setup::calm("storage", "one user, and a log that may refuse, stay mute, answer late, be fenced or be wrong");
    let client = ClientSetup { user: 0, messages: 1, sockets: 2, earliest: true, fast: true };
    let bounds = Bounds { runs: 1, ..setup::small() };
    let dark = Setup {
        clients: vec![client],
        unanswered: 1,
        fences: 1,
        breaches: 1,
        drains: 1,
        mute: true,
        pull: 8,
        bounds,
        ..calm
    };
    match profile {
        Profile::Quick => Explored { setup: dark, live: true },
        Profile::Ci => {
            let setup = Setup { unanswered: 2, log_failures: 1, torn: true, tools: 1, lingers: 1, ..dark };
            Explored { setup, live: true }
        }
        Profile::Deep => {
            let setup = Setup {
                unanswered: 2,
                fences: 2,
                log_failures: 1,
                torn: true,
                restore_failures: 1,
                crashes: 1,
                revocations: 1,
                lingers: 1,
                tools: 1,
                ..dark
            };
            Explored { setup, live: false }
        }
    }
}
