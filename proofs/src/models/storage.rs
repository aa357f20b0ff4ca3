//! One user and a log that may do whatever a log can do: refuse, in part, after having written; not answer, ever; do late what
//! it was given up for, and say so; give the user to another owner; break its contract. Meanwhile the node is drained, the
//! client comes back, sessions retire.
//!
//! Nothing is assumed of this log: it is not fair. So what is promised here holds whatever it does: LIVE-1, that each
//! connection becomes live or closed, and LIVE-4, that a drain completes. That a run ends and a reader reaches the head (LIVE-2,
//! LIVE-3) the other worlds promise, of a log that takes in the end what it is asked again and again.

use lockstep_model::Bounds;

use crate::engine::profile::Profile;
use crate::models::world::{ClientSetup, Explored, Setup, setup};

/// The model at the bounds of a profile.
pub fn model(profile: Profile) -> Explored {
    let calm = Setup::calm("storage", "one user, and a log that may refuse, be mute, be late, be fenced, be wrong");
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
