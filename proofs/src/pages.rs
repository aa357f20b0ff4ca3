//! One user, whose readers fall out of the window: they are slow, or come back to a place that is trimmed. The log keeps what is
//! trimmed, and they are given it in pages of any size, at any time, while agents go on writing. Clients want something of
//! conversations, too. Whatever they miss, and wherever a page ends, they read each entry once (STR-3); what is deleted meanwhile
//! they do not read (RET-1).

use lockstep_model::Bounds;

use crate::registry::Profile;
use crate::world::{ClientSetup, Explored, Setup, setup};

/// The model at the bounds of a profile.
pub fn model(profile: Profile) -> Explored {
    let calm = Setup::calm("pages", "readers that have fallen out of the window, and read on in the log");
    let client = ClientSetup { user: 0, messages: 1, sockets: 2, earliest: true, fast: false };
    let bounds = Bounds { retained: 1, runs: 1, pending: 4, ..setup::small() };
    let pages = Setup { clients: vec![client], keeps: true, pieces: 2, cuts: 1, pull: 1, bounds, ..calm };
    match profile {
        Profile::Quick => Explored { setup: Setup { queries: 1, ..pages }, live: true },
        Profile::Ci => Explored {
            setup: tuned(Setup {
                clients: vec![ClientSetup { messages: 2, ..client }],
                pieces: 1,
                deletions: 1,
                lookup_failures: 1,
                unanswered: 1,
                crashes: 1,
                pull: 2,
                bounds: Bounds { runs: 2, pending: 6, retained_turns: 1, retained: 2, ..bounds },
                ..pages
            }),
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
                ..pages
            },
            live: false,
        },
    }
}

fn tuned(mut s: Setup) -> Setup {
    for part in std::env::var("TUNE").unwrap_or_default().split(',') {
        let Some((k, v)) = part.split_once('=') else { continue };
        let v: u8 = v.parse().unwrap();
        match k {
            "pieces" => s.pieces = v,
            "cuts" => s.cuts = v,
            "deletions" => s.deletions = v,
            "crashes" => s.crashes = v,
            "fail" => s.lookup_failures = v,
            "unanswered" => s.unanswered = v,
            "queries" => s.queries = v,
            "pull" => s.pull = v.into(),
            "messages" => s.clients[0].messages = v,
            "retained" => s.bounds.retained = v.into(),
            "turns" => s.bounds.retained_turns = v.into(),
            "sockets" => s.clients[0].sockets = v,
            "pending" => s.bounds.pending = v.into(),
            "runs" => s.bounds.runs = v.into(),
            "void" => s.void = v > 0,
            "shared" => s.threads = crate::world::Threads::Shared,
            _ => panic!("{k}"),
        }
    }
    s
}
