//! One user on many nodes: fences, fail-overs, leases, relays.

use super::{Row, alone};
use crate::models::cluster::{self as gateways, Pair};
use crate::models::tenure::{Budget, Clocks, Cluster, Mistake, Standby};

/// A cluster with a mistake, or with none.
fn cluster(budget: Budget, mistake: Option<Mistake>) -> Cluster {
    Cluster { budgets: vec![budget], mistake }
}

const ONE: Budget = Budget { messages: 1, ..Budget::CALM };
const LOST: Budget = Budget { losses: 1, ..ONE };
const TAKEN: Budget = Budget { expiries: 1, ..ONE };
const BOTH: Budget = Budget { losses: 1, expiries: 1, ..ONE };
const STANDBY: Budget = Budget { failovers: 1, standby: Standby::Synchronous, ..ONE };
const BEHIND: Budget = Budget { failovers: 1, standby: Standby::Asynchronous, ..ONE };
const REVOKED: Budget = Budget { expiries: 1, revocations: 1, clocks: Clocks::Right, ..ONE };
const DRAINED: Budget = Budget { drains: 1, ..ONE };

/// A row: the mistake, and how much may happen.
macro_rules! cluster {
    ($id:literal, $title:literal, $mistake:literal, $expected:expr, $budget:expr, $made:ident) => {
        alone!($id, $title, $mistake, $expected, cluster($budget, Some(Mistake::$made)), cluster($budget, None))
    };
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = fences();
    rows.extend(standbys());
    rows.extend(leases());
    rows.extend(moves());
    rows.extend(whole());
    rows
}

fn fences() -> Vec<Row> {
    vec![
        cluster!(
            "X200",
            "append without a fencing token",
            "the log appends what any process sends, behind whatever is there",
            ["OWN-1"],
            TAKEN,
            NoFence
        ),
        cluster!(
            "X201",
            "append compared with the head alone",
            "an owner that was replaced writes while the head is where it left it",
            ["OWN-1"],
            TAKEN,
            ComparesHead
        ),
        cluster!(
            "X202",
            "read before the fence",
            "the stream is read first and the user acquired then; an append in between is missing",
            ["OWN-2", "OWN-1", "RUN-2"],
            TAKEN,
            ReadsFirst
        ),
        cluster!(
            "X203",
            "appended again",
            "an append whose answer was lost is appended a second time behind the head",
            ["RUN-2", "RUN-1", "STR-2"],
            LOST,
            AppendsAgain
        ),
        cluster!(
            "X204",
            "same process, same fencing token",
            "a process that acquires a user again gets the fencing token that its earlier session had",
            ["OWN-1"],
            Budget { crashes: 1, ..ONE },
            KeepsToken
        ),
        cluster!(
            "X205",
            "release by anyone",
            "a release that arrives late frees the user of a newer owner",
            ["OWN-1"],
            Budget { drains: 1, ..BOTH },
            ReleasesAny
        ),
        cluster!(
            "X206",
            "fenced treated as failed, over nodes",
            "an owner that was replaced repeats its append forever, and its clients wait",
            ["LIVE-6"],
            TAKEN,
            FencedIsFailed
        ),
    ]
}

fn standbys() -> Vec<Row> {
    vec![
        cluster!(
            "X210",
            "retry that only reads",
            "an append whose answer was lost is looked up: it is there, and the standby does not have it",
            ["OWN-2", "STR-2"],
            Budget { losses: 1, ..STANDBY },
            LooksUp
        ),
        cluster!(
            "X211",
            "grant before it is durable",
            "a user is granted before the standby knows, and after a fail-over the generation is granted again",
            ["OWN-1", "OWN-2", "STR-2"],
            Budget { expiries: 1, ..STANDBY },
            GrantsBeforeDurable
        ),
        cluster!(
            "X212",
            "asynchronous standby, same epoch",
            "a fail-over to a standby that lacks acknowledged entries keeps the epoch, and offsets are used again",
            ["OWN-2", "OWN-1", "STR-2"],
            BEHIND,
            SameEpoch
        ),
    ]
}

fn leases() -> Vec<Row> {
    vec![
        cluster!(
            "X220",
            "zombie that renews late",
            "a process that was paused past its lease renews it, and goes on as if nothing had happened",
            ["OWN-5"],
            REVOKED,
            RenewedLate
        ),
        cluster!(
            "X221",
            "clock that stands still",
            "a lease is measured with a clock that stops while the process is paused, or jumps back",
            ["OWN-5"],
            REVOKED,
            ClockJumps
        ),
        cluster!(
            "X222",
            "revoked where it is reached",
            "a revocation does not wait for a node that is cut off",
            ["OWN-5"],
            REVOKED,
            RevokesWhereReached
        ),
        cluster!(
            "X223",
            "session outlives the lease",
            "a process whose lease has ended keeps its sessions",
            ["LIVE-6", "OWN-5"],
            TAKEN,
            OutlivesLease
        ),
        cluster!(
            "X224",
            "lease of the dead",
            "the lease of a process that crashed never ends",
            ["LIVE-5"],
            Budget { crashes: 1, ..ONE },
            LeaseForever
        ),
    ]
}

fn moves() -> Vec<Row> {
    vec![
        cluster!(
            "X230",
            "reset by a stale owner",
            "an owner that was replaced tells a client, who has read further elsewhere, that those entries are gone",
            ["OWN-3"],
            Budget { moves: 2, ..TAKEN },
            Denies
        ),
        cluster!(
            "X231",
            "handed over with a run",
            "a node that drains releases a user whose run is open, or whose events are not durable",
            ["OWN-4"],
            DRAINED,
            LeavesEarly
        ),
        cluster!(
            "X232",
            "relay of a relay",
            "a connection that was relayed is relayed on, and two nodes may pass it back and forth",
            ["OWN-6"],
            Budget { losses: 1, ..DRAINED },
            RelaysAgain
        ),
        cluster!(
            "X233",
            "draining owner refuses its own user",
            "a node that drains keeps a user with an open run, and refuses the user's connections",
            ["LIVE-5"],
            DRAINED,
            DrainRefuses
        ),
        cluster!(
            "X234",
            "message id known to one owner",
            "a message that is repeated after a move runs again",
            ["RUN-2"],
            TAKEN,
            ForgetsMessages
        ),
    ]
}

/// Mistakes of the log and of the driver, around two whole gateways.
fn whole() -> Vec<Row> {
    const CALM: gateways::Budget = gateways::Budget::CALM;
    const TAKEN: gateways::Budget = gateways::Budget { expiries: 1, ..CALM };
    const BACK: gateways::Budget = gateways::Budget { cuts: 2, ..TAKEN };
    macro_rules! pair {
        ($id:literal, $title:literal, $mistake:literal, $expected:expr, $budget:expr, $made:ident) => {
            alone!($id, $title, $mistake, $expected, pair($budget, Some(gateways::Mistake::$made)), pair($budget, None))
        };
    }
    vec![
        pair!(
            "X250",
            "two gateways, no fence",
            "a gateway whose lease has ended appends behind its successor's entries",
            ["OWN-1", "STR-2"],
            TAKEN,
            NoFence
        ),
        pair!(
            "X251",
            "two gateways, confirmed without the log",
            "a gateway that was replaced answers its own question whether it still owns the user",
            ["OWN-3"],
            BACK,
            ConfirmsItself
        ),
        pair!(
            "X252",
            "two gateways, read before the fence",
            "a gateway restores what it read before it acquired the user",
            ["STR-2", "OWN-2", "RUN-2"],
            TAKEN,
            ReadsFirst
        ),
        pair!(
            "X253",
            "relay without a position",
            "a relay presents the client's credential, and reads from the newest entry on",
            ["OWN-3"],
            CALM,
            ForgetsPosition
        ),
    ]
}

/// Two gateways with a mistake, or with none.
fn pair(budget: gateways::Budget, mistake: Option<gateways::Mistake>) -> Pair {
    Pair { budgets: vec![budget], mistake }
}
