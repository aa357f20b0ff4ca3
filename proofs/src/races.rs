//! The races: mistakes that were made in systems of this kind, each reproduced around the production machines.
//!
//! A row is a model with one mistake, and the same model without it. The checker must refuse the first by an expected
//! property, with a shortest counterexample, and find nothing wrong with the second. The mistake itself is therefore
//! what is refused, not its surroundings. `A` rows come from one gateway with seven managers, `B` rows from session
//! layers at large, `C` rows from clients in the field, `L` rows from logins. `X` rows exist because a property would
//! otherwise refuse nothing.
//!
//! The races use the models and the engine, and no other folder of this crate.
//!
//! | module | subject of the mistakes |
//! | --- | --- |
//! | `opening` | ids, a connection's first machine, which user is bound to which socket |
//! | `ending` | which connections are closed, how they are told, which still occupy a place |
//! | `credentials` | verdicts, expiry, revocation, refresh |
//! | `reading` | cursors: gaps, repeats, wake-ups |
//! | `resuming` | where reading continues after a reconnect |
//! | `running` | messages, runs, tools, agents, the log |
//! | `threads` | runs of one thread: their order, their queue |
//! | `deleting` | deleted threads, and parts of them that are still read |
//! | `backlog` | readers that have fallen out of the window, and what the log returns to them |
//! | `pausing` | runs that wait for a reply of the user |
//! | `position` | positions that a client names after it is connected |
//! | `owning` | answers of the log that are missing, late, or say that the user has another owner |
//! | `cluster` | one user on many nodes: fences, fail-overs, leases, relays |
//! | `serving` | modes and drains |
//! | `starting` | the start of a node |
//! | `breaking` | a breaker that is open |
//! | `clients` | clients: sockets, pauses, tokens |
//! | `messages` | clients: messages that are refused, too long, or never answered |
//! | `logins` | forgotten ends of logins, and logins that end for no reason |
//! | `early` | requests before ready, on one connection |
//! | `steps` | one step that was split in two |
//! | [`untypable`] | mistakes that do not compile |

#![expect(clippy::wildcard_enum_match_arm, reason = "a mistake changes one thing and passes everything else on")]

mod backlog;
mod breaking;
mod clients;
mod cluster;
mod credentials;
mod deleting;
mod early;
mod ending;
mod growing;
mod logins;
mod messages;
mod opening;
mod owning;
mod pausing;
mod position;
mod reading;
mod resuming;
mod running;
mod serving;
mod starting;
mod steps;
mod threads;
pub mod untypable;

use lockstep_model::{Control, Epoch, Mode, Offset, UserId};

use crate::engine::checkable::Checkable;
use crate::engine::race::Race;
use crate::models::world::{ClientSetup, Explored, Setup};

/// A race, and the same model without its mistake.
#[derive(Clone, Debug)]
pub struct Row {
    /// The mistake.
    pub race: Race,
    /// The sound model, in which every property holds.
    pub sound: fn() -> Box<dyn Checkable>,
}

/// Returns every row.
pub fn rows() -> Vec<Row> {
    let mut rows = opening::rows();
    rows.extend(ending::rows());
    rows.extend(credentials::rows());
    rows.extend(reading::rows());
    rows.extend(growing::rows());
    rows.extend(resuming::rows());
    rows.extend(running::rows());
    rows.extend(threads::rows());
    rows.extend(deleting::rows());
    rows.extend(backlog::rows());
    rows.extend(owning::rows());
    rows.extend(cluster::rows());
    rows.extend(pausing::rows());
    rows.extend(position::rows());
    rows.extend(serving::rows());
    rows.extend(starting::rows());
    rows.extend(breaking::rows());
    rows.extend(clients::rows());
    rows.extend(messages::rows());
    rows.extend(early::rows());
    rows.extend(logins::rows());
    rows.extend(steps::rows());
    rows.sort_by_key(|row| {
        let (series, number) = row.race.id.split_at(1);
        (series, number.parse::<u8>().unwrap_or(u8::MAX))
    });
    rows
}

/// Returns every race.
pub fn all() -> Vec<Race> {
    rows().into_iter().map(|row| row.race).collect()
}

/// Creates a world for a race. Liveness is checked if an expected property is a LIVE property.
fn world(mut setup: Setup, expected: &[&str], sound: bool) -> Box<dyn Checkable> {
    if sound {
        setup.mistake = None;
    }
    let live = expected.iter().any(|id| id.starts_with("LIVE"));
    Box::new(Explored { setup, live })
}

/// Creates a client of a user that sends this many messages and may open this many sockets.
const fn client(user: u8, messages: u8, sockets: u8) -> ClientSetup {
    ClientSetup { user, messages, sockets, earliest: false, fast: false }
}

/// `connection_ready` at the beginning of an empty stream.
const READY: Control<u8> = Control::Ready {
    user: UserId(0),
    epoch: Epoch(1),
    offset: Offset(0),
    head: Offset(0),
    resumed: true,
    mode: Mode::Ready,
};

/// A row whose model is a world with a mistake.
macro_rules! in_world {
    ($id:literal, $title:literal, $mistake:literal, $expected:expr, $setup:expr) => {
        $crate::races::Row {
            race: $crate::engine::race::Race {
                id: $id,
                title: $title,
                mistake: $mistake,
                expected: &$expected,
                kind: $crate::engine::race::RaceKind::Refused(|| $crate::races::world($setup, &$expected, false)),
            },
            sound: || $crate::races::world($setup, &$expected, true),
        }
    };
}
use in_world;

/// A row with its own model: broken, then sound.
macro_rules! alone {
    ($id:literal, $title:literal, $mistake:literal, $expected:expr, $broken:expr, $sound:expr) => {
        $crate::races::Row {
            race: $crate::engine::race::Race {
                id: $id,
                title: $title,
                mistake: $mistake,
                expected: &$expected,
                kind: $crate::engine::race::RaceKind::Refused(|| Box::new($broken)),
            },
            sound: || Box::new($sound),
        }
    };
}
use alone;

/// Imports and helpers for the mistakes of every module.
mod hooks {
    pub(super) use lockstep_model::auth::{Grant, Verdict};
    pub(super) use lockstep_model::connection::Input as C;
    pub(super) use lockstep_model::frame::{ReadFrom, Resume};
    pub(super) use lockstep_model::gateway::{Place, SessionOutput};
    pub(super) use lockstep_model::run::{self, Kind};
    pub(super) use lockstep_model::session::Input as S;
    pub(super) use lockstep_model::{
        BatchId, Bounds, Cause, Code, Concurrency, ConnectionId, Control, CredentialId, Frame, Generation, MessageId,
        Mode, Offset, Position, Request, RevocationGeneration, Session, Stream, Successor, Timer, UserId, node,
    };

    pub(super) use super::{READY, client, in_world};
    use crate::models::harness::lifetime;
    pub(super) use crate::models::world::mistake::{Input, Output};
    pub(super) use crate::models::world::state::{Log, Payload};
    pub(super) use crate::models::world::{ClientSetup, Mistake, Setup, World, setup};
    pub(super) use crate::races::Row;

    /// Returns a user's session, if there is one.
    pub(super) fn session_of(world: &World, user: UserId) -> Option<&Session<Payload>> {
        world.gateway.slots().get(&user).map(|slot| &*slot.session)
    }

    /// Returns a user's log.
    pub(super) fn log_of(world: &World, user: UserId) -> Option<&Log> {
        usize::try_from(user.0).ok().and_then(|user| world.logs.get(user)).map(|log| &**log)
    }

    /// Returns the restored stream that a connection reads.
    pub(super) fn stream_of(world: &World, id: ConnectionId) -> Option<&Stream<Payload>> {
        session_of(world, world.gateway.user_of(id)?)?.stream()
    }

    /// Returns the client of a connection.
    pub(super) fn peer(id: ConnectionId) -> usize {
        usize::try_from(id.0 / 16).unwrap_or(usize::MAX)
    }

    /// Returns a valid verdict for a user, whatever was presented.
    pub(super) fn welcome(user: UserId) -> Verdict {
        let grant = Grant { user, credential: CredentialId(user.0 << 4), generation: RevocationGeneration(0) };
        Verdict::Valid { grant, lifetime: lifetime() }
    }

    /// Whether a step made a new entry readable.
    pub(super) fn is_publishing(outputs: &[Output]) -> bool {
        let publishes = |output: &Output| {
            matches!(
                output,
                Output::Session { output: SessionOutput::Launch { .. } | SessionOutput::Durable { .. }, .. }
            )
        };
        outputs.iter().any(publishes)
    }
}
