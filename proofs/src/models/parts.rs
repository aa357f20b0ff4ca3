//! One user, whose agent answers in pieces. The stream joins pieces for a reader that is behind, the log fails, the
//! process crashes, and the client resumes anywhere inside the answer: it receives exactly what follows (STR-3).

use lockstep_model::Bounds;

use crate::engine::profile::Profile;
use crate::models::world::{ClientSetup, Explored, Setup, setup};

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Explored {
    let client = ClientSetup { user: 0, messages: 1, sockets: 2, earliest: true, fast: false };
    let bounds = Bounds { runs: 1, ..setup::small() };
    let calm = Setup::calm("parts", "one user, an answer in pieces, a client that resumes inside it");
    let quick = Setup { clients: vec![client], pieces: 3, cuts: 1, bounds, ..calm };
    match profile {
        Profile::Quick => Explored { setup: quick, live: false },
        Profile::Ci => {
            let setup = Setup { pieces: 4, log_failures: 1, torn: true, crashes: 1, thinking: 1, ..quick };
            Explored { setup, live: false }
        }
        Profile::Deep => {
            let setup = Setup {
                pieces: 5,
                log_failures: 1,
                torn: true,
                crashes: 1,
                thinking: 1,
                tools: 1,
                clients: vec![ClientSetup { messages: 2, sockets: 3, ..client }],
                cuts: 2,
                ..quick
            };
            Explored { setup, live: false }
        }
    }
}
