//! A planned end of the process, with two users: one whose run may be open, and one who only reads. There is no
//! successor, or one that waits and may give up; then the process may be ended for good.

use crate::engine::profile::Profile;
use crate::models::world::{ClientSetup, Explored, Setup};

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Explored {
    let calm =
        Setup::calm("handover", "two users: an end without a successor, and one with a successor that may give up");
    let one = ClientSetup { user: 0, messages: 1, sockets: 2, earliest: false, fast: true };
    let other = ClientSetup { user: 1, messages: 0, sockets: 1, ..one };
    let clients = vec![one, other];
    let ended = Setup { clients, drains: 1, handovers: 1, pull: 8, ..calm };
    let setup = match profile {
        Profile::Quick => ended,
        Profile::Ci => Setup { thinking: 1, deaths: 1, log_failures: 1, ..ended },
        Profile::Deep => Setup { thinking: 1, deaths: 1, log_failures: 1, cuts: 1, handovers: 2, ..ended },
    };
    Explored { setup, live: profile == Profile::Quick }
}
