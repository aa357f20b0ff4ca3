//! The whole gateway for random walks: two users and three clients, with every fault of the adversary, several times. No
//! search exhausts these worlds.

use lockstep_model::Bounds;

use crate::models::world::{ClientSetup, Explored, Setup, Threads, Wire, setup};

/// Returns a world in which messages have threads of their own, agents answer in pieces, and trimmed entries are gone.
pub fn long() -> Explored {
    let bounds = Bounds { connections: 2, retained: 3, pending: 7, failures: 2, requests: 0, ..setup::small() };
    Explored {
        setup: Setup {
            pieces: 4,
            drains: 1,
            bounds,
            ..faults("whole", "two users, three clients, and every fault several times")
        },
        live: false,
    }
}

/// Returns a world with one thread, whose messages queue, and a log that keeps trimmed entries.
pub fn kept() -> Explored {
    let about = "the same with one thread, queued runs, deletions, and a log that keeps all";
    let bounds = Bounds { queued: 1, retained: 4, pending: 8, ..setup::small() };
    let setup = Setup {
        threads: Threads::Shared,
        wire: Wire::Instant,
        deletions: 2,
        keeps: true,
        queries: 6,
        handovers: 1,
        lookup_failures: 2,
        bounds,
        ..faults("whole, kept", about)
    };
    Explored { setup, live: false }
}

fn faults(name: &'static str, about: &'static str) -> Setup {
    let client = ClientSetup { user: 0, messages: 2, sockets: 7, earliest: true, fast: false };
    Setup {
        clients: vec![
            client,
            ClientSetup { user: 1, earliest: false, ..client },
            ClientSetup { messages: 0, earliest: false, ..client },
        ],
        wire: Wire::Queued(3),
        thinking: 2,
        tools: 1,
        deaths: 2,
        cancels: 2,
        cuts: 6,
        crashes: 2,
        log_failures: 4,
        idle: true,
        torn: true,
        restore_failures: 2,
        unanswered: 2,
        rejections: 2,
        silences: 1,
        expiries: 2,
        revocations: 2,
        notices: 3,
        pins: 2,
        lingers: 3,
        garbage: 2,
        eager: 2,
        ..Setup::calm(name, about)
    }
}
