//! The mistakes, and the bounds.

use super::Cluster;
use crate::engine::profile::Profile;

/// A mistake: of the log, of a node's driver, or of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// An append carries no token.
    NoFence,
    /// An append is compared with the head alone.
    ComparesHead,
    /// The stream is read before the user is acquired.
    ReadsFirst,
    /// A repeated append is appended again.
    AppendsAgain,
    /// The present owner's process acquires the user under the same token.
    KeepsToken,
    /// A repeated append is looked up, which does not wait for the standby.
    LooksUp,
    /// A grant is answered before the standby has it.
    GrantsBeforeDurable,
    /// A fail-over to a standby that lacks acknowledged records keeps the epoch.
    SameEpoch,
    /// A node that drains releases a user whose run is open, or whose events are not durable.
    LeavesEarly,
    /// A client that is ahead of its owner is told that its newest entries are gone.
    Denies,
    /// A fence is treated as a failure: the call is repeated.
    FencedIsFailed,
    /// Sessions outlive the lease of their process.
    OutlivesLease,
    /// A lease that has ended is renewed, and the process goes on.
    RenewedLate,
    /// The clock of a process stands still while it is paused, or jumps back.
    ClockJumps,
    /// A revocation returns when one node has it, and does not wait for a node that is cut off.
    RevokesWhereReached,
    /// A connection that was relayed is relayed again.
    RelaysAgain,
    /// A node that drains refuses connections that are relayed to it.
    DrainRefuses,
    /// A message is known only to the owner that took it.
    ForgetsMessages,
    /// A release is carried out with any token.
    ReleasesAny,
    /// The lease of a process that crashed never ends.
    LeaseForever,
}

/// How the log is replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standby {
    /// Not at all, and it never fails.
    None,
    /// An answer waits for the standby.
    Synchronous,
    /// An answer does not wait.
    Asynchronous,
}

/// Whether clocks run at their rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clocks {
    /// They do.
    Right,
    /// They do not.
    Wrong,
}

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Messages of the client.
    pub messages: u8,
    /// Calls and answers that are lost or late.
    pub losses: u8,
    /// Leases that end while their process lives.
    pub expiries: u8,
    /// Crashes of a process, and faults of a session.
    pub crashes: u8,
    /// Times that the client leaves.
    pub moves: u8,
    /// Nodes that drain.
    pub drains: u8,
    /// Fail-overs to the standby.
    pub failovers: u8,
    /// Revocations.
    pub revocations: u8,
    /// How the log is replicated.
    pub standby: Standby,
    /// Whether clocks run at their rate.
    pub clocks: Clocks,
}

impl Budget {
    /// Two messages, a client that moves once, and no fault.
    pub const CALM: Self = Self {
        messages: 2,
        losses: 0,
        expiries: 0,
        crashes: 0,
        moves: 1,
        drains: 0,
        failovers: 0,
        revocations: 0,
        standby: Standby::None,
        clocks: Clocks::Wrong,
    };
}

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Cluster {
    let one = Budget { messages: 1, ..Budget::CALM };
    let right = Budget { clocks: Clocks::Right, ..one };
    let mut budgets = vec![
        Budget { losses: 1, expiries: 1, ..one },
        Budget { expiries: 1, crashes: 1, ..one },
        Budget { losses: 1, drains: 1, ..one },
        Budget { expiries: 1, revocations: 1, ..right },
        Budget { expiries: 1, failovers: 1, standby: Standby::Synchronous, ..one },
        Budget { expiries: 1, failovers: 1, standby: Standby::Asynchronous, ..one },
    ];
    if profile == Profile::Deep {
        budgets = vec![
            Budget { losses: 1, expiries: 1, moves: 2, ..one },
            Budget { expiries: 1, ..Budget::CALM },
            Budget { losses: 1, expiries: 1, crashes: 1, ..one },
            Budget { losses: 1, drains: 1, crashes: 1, ..one },
            Budget { losses: 1, expiries: 1, revocations: 1, ..right },
            Budget { losses: 1, expiries: 1, failovers: 1, standby: Standby::Synchronous, ..one },
            Budget { losses: 1, expiries: 1, failovers: 1, standby: Standby::Asynchronous, ..one },
        ];
    }
    Cluster { budgets, mistake: None }
}
