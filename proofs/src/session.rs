//! One user's session in a hostile world: two tabs, one of which reconnects, runs with tools, a stream that retains less
//! than is emitted, a log that fails, a process that crashes.

use stateright::Property;

use crate::proof::Promise;
use crate::registry::Profile;
use crate::world::{ClientSetup, Explored, Setup, World, holds, setup};

/// The model at the bounds of a profile.
pub fn model(profile: Profile) -> Explored {
    let calm = Setup::calm("session", "one user: tabs, runs, tools, a failing log, a crash");
    let setup = match profile {
        Profile::Quick => Setup {
            clients: vec![ClientSetup { user: 0, messages: 1, sockets: 2, earliest: false, fast: false }],
            cuts: 1,
            crashes: 1,
            log_failures: 1,
            tools: 1,
            bounds: lockstep_model::Bounds { retained: 2, ..setup::small() },
            ..calm
        },
        Profile::Ci | Profile::Deep => Setup {
            clients: vec![
                ClientSetup { user: 0, messages: 1, sockets: 2, earliest: false, fast: false },
                ClientSetup { user: 0, messages: 1, sockets: 1, earliest: true, fast: true },
            ],
            cuts: 1,
            crashes: 1,
            pull: 8,
            void: false,
            log_failures: 1,
            tools: 1,
            bounds: lockstep_model::Bounds { retained: 2, pending: 4, ..setup::small() },
            ..calm
        },
    };
    Explored { setup, properties, promises }
}

fn properties() -> Vec<Property<Explored>> {
    let mut all = holds![
        "AUTH-1", "AUTH-2", "CONN-1", "CONN-2", "ISO-1", "STR-1", "STR-2", "RUN-1", "RUN-2", "RUN-3", "LIM-1", "SES-1",
        "NODE-1", "NODE-2",
    ];
    all.extend([
        Property::sometimes("STR-1.delivered", |_: &Explored, world: &World| {
            world.sockets.values().any(|socket| socket.seen.is_some_and(|seen| seen.0 > 3))
        }),
    ]);
    all
}

fn promises() -> Vec<Promise<Explored>> {
    Vec::new()
}
