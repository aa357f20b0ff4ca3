//! The schedule of a run. It depends on the seed alone and not on the clock.

use core::hash::{Hash, Hasher};
use std::time::Duration;

use crate::link::Line;

/// Tabs of one user.
pub const MAX_TABS: usize = 3;

/// The part of a run in which the process restarts, in hundredths. Before it the process is young; after it, the
/// process must show that it no longer grows.
const RESTARTS: core::ops::Range<u64> = 15..60;

/// The number of message texts.
const TEXTS: usize = 8;

/// How long the answers are, and how much of a stream stays readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chats {
    /// Answers have tens of pieces; the windows hold most of a run.
    Short,
    /// Answers have hundreds of pieces; the windows trim constantly.
    Long,
}

impl Chats {
    /// The messages to the built-in agent.
    #[must_use]
    pub const fn texts(self) -> [&'static str; TEXTS] {
        match self {
            Self::Short => [
                "what is 2+3*4?",
                "count to 20",
                "count to 60",
                "what time is it?",
                "what did I say before?",
                "hello",
                "what is 7/0, and 3*3?",
                "ask me, then 6 * 7",
            ],
            Self::Long => [
                "count to 200",
                "count to 150",
                "count to 200",
                "count to 100",
                "what did I say before?",
                "count to 120",
                "what is 7/0, and 3*3?",
                "ask me, then 6 * 7",
            ],
        }
    }

    /// Entries of a user that stay readable: the gateway's `bounds.retained`.
    #[must_use]
    pub const fn retained(self) -> usize {
        match self {
            Self::Short => 512,
            Self::Long => 24,
        }
    }
}

/// A tab of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The user's number.
    pub user: usize,
    /// The tab's number.
    pub tab: usize,
}

/// Where a reloaded tab begins to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Begin {
    /// At its last position.
    Last,
    /// At the earliest retained entry.
    Earliest,
    /// At the end.
    Latest,
}

/// What a hostile client does. None of it may disturb other clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attack {
    /// Text that is not JSON, and JSON that is not a frame, before any credential.
    Garbage,
    /// The same after a valid credential.
    LiveGarbage,
    /// A binary message.
    Binary,
    /// A message over the limit.
    TooBig,
    /// Bytes that are not a WebSocket frame.
    Bytes,
    /// More requests than the allowance.
    Flood,
    /// Requests before `connection_ready`.
    Eager,
    /// An expired token.
    Expired,
    /// A token with a bad signature.
    Unsigned,
    /// A revoked token.
    Revoked,
    /// Cancelling other users' runs.
    ForeignCancel,
    /// Half of a request header.
    HalfHeader,
    /// More connections than one user may have.
    Crowd,
    /// A connection that closes before it sends anything.
    Gone,
}

/// Every attack.
pub const ATTACKS: [Attack; 14] = [
    Attack::Garbage,
    Attack::LiveGarbage,
    Attack::Binary,
    Attack::TooBig,
    Attack::Bytes,
    Attack::Flood,
    Attack::Eager,
    Attack::Expired,
    Attack::Unsigned,
    Attack::Revoked,
    Attack::ForeignCancel,
    Attack::HalfHeader,
    Attack::Crowd,
    Attack::Gone,
];

/// How a gateway process ends, in rotation.
const ENDS: [Act; 3] = [Act::Crash, Act::Handover, Act::Restart];

/// One step of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// Send a message: its index in [`Chats::texts`].
    Say(Place, usize),
    /// Repeat the user's newest message under its name.
    Again(Place),
    /// Cancel the newest run that the user sees.
    Cancel(Place),
    /// Delete the user's thread.
    Delete(Place),
    /// Cut the socket.
    Cut(Place),
    /// Disconnect the tab, and connect again after that many milliseconds.
    Leave(Place, u64),
    /// Reload the page.
    Reload(Place, Begin),
    /// Present a new credential before it is needed.
    Refresh(Place),
    /// Read nothing for that many milliseconds.
    Pause(Place, u64),
    /// The operator revokes all of a user's credentials.
    Revoke(usize),
    /// The operator sends a user a notice.
    Notice(usize),
    /// The operator pins the mode `degraded` for that many milliseconds.
    Degrade(u64),
    /// A hostile client attacks.
    Attack(Attack),
    /// Drain the gateway and start it again.
    Restart,
    /// Kill the gateway and start it again.
    Crash,
    /// Start another gateway that takes over.
    Handover,
}

/// What fails in a cluster. Gateways are named by their number, times are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A gateway is killed, and started again.
    Kill(usize),
    /// A gateway is stopped until that long after its lease has ended, and then goes on.
    Pause(usize, u64),
    /// A gateway is told to end, and started again.
    Leave(usize),
    /// A gateway does not reach the engine.
    CutEngine(usize, Line, u64),
    /// A gateway is not reached by the others.
    CutGateways(usize, Line, u64),
    /// The engine is killed, and started again.
    CrashEngine,
    /// The engine is killed, and its synchronous standby is promoted.
    Failover,
    /// The same, while a gateway is stopped until its lease has ended.
    PausedFailover(usize),
    /// The standby is cut off, so that commits wait for it. The engine is killed and started again: now they are
    /// visible. Then the standby, which does not have them, is promoted.
    LosingFailover,
}

/// The gateways of a cluster.
pub const GATEWAYS: usize = 3;

/// How long nothing fails between two faults of a cluster, in milliseconds.
const GAP: core::ops::Range<u64> = 200..2_000;

/// How much longer it is sometimes: the operator's requests must succeed then.
const LULL: Duration = Duration::from_secs(11);

/// A run's steps and their times.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// The number of tabs of each user.
    pub tabs: Vec<usize>,
    /// The steps, ordered by their time since the beginning.
    pub steps: Vec<(Duration, Act)>,
    /// For a cluster, what fails, one after another: each after a pause. A run gets as far as its time allows.
    pub faults: Vec<(Duration, Fault)>,
}

impl Plan {
    /// The plan for a seed and one gateway.
    #[must_use]
    pub fn new(seed: u64, users: usize, time: Duration) -> Self {
        let (mut random, mut plan) = Self::of_users(seed, users, time);
        let total = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (from, to) = (total * RESTARTS.start / 100, total * RESTARTS.end / 100);
        let (mut at, mut next) = (from, random.below(ENDS.len()));
        // Short runs have some too.
        let gap = (total / 8).clamp(2_000, 6_000);
        while at < to {
            plan.steps.push((Duration::from_millis(at), ENDS[next % ENDS.len()]));
            next += 1;
            at += gap + random.number(gap);
        }
        plan.steps.sort_by_key(|(at, _)| *at);
        plan
    }

    /// The plan for a seed and a cluster: each kind of fault once, and then at random.
    #[must_use]
    pub fn cluster(seed: u64, users: usize, time: Duration) -> Self {
        let (mut random, mut plan) = Self::of_users(seed, users, time);
        // Another gateway might be told to leave that mode.
        plan.steps.retain(|(_, act)| !matches!(act, Act::Degrade(_)));
        let mut weights = vec![0, 45, 58, 65, 73, 81, 86, 90, 94];
        while !weights.is_empty() {
            let weight = weights.swap_remove(random.below(weights.len()));
            let fault = random.fault(weight);
            plan.faults.push((random.gap(), fault));
        }
        for _ in 0..time.as_secs() {
            let weight = random.number(100);
            plan.faults.push((random.gap(), random.fault(weight)));
        }
        plan
    }

    /// What the users do.
    fn of_users(seed: u64, users: usize, time: Duration) -> (Random, Self) {
        let mut random = Random(seed);
        let tabs: Vec<usize> = (0..users).map(|_| 1 + random.below(MAX_TABS)).collect();
        let total = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut steps = Vec::new();
        let mut at = 0;
        loop {
            // About one step per second and user.
            at += 1 + random.number(2_000) / u64::try_from(users).unwrap_or(u64::MAX).max(1);
            if at >= total {
                break;
            }
            steps.push((Duration::from_millis(at), random.act(&tabs)));
        }
        (random, Self { tabs, steps, faults: Vec::new() })
    }

    /// A digest: equal for equal plans.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = Fnv(0xcbf2_9ce4_8422_2325);
        self.hash(&mut digest);
        digest.finish()
    }
}

/// FNV-1a: the same on every machine and in every version.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn number(&mut self, below: u64) -> u64 {
        self.next() % below.max(1)
    }

    fn below(&mut self, below: usize) -> usize {
        usize::try_from(self.number(u64::try_from(below).unwrap_or(u64::MAX))).unwrap_or_default()
    }

    fn gap(&mut self) -> Duration {
        let most = if self.below(16) == 0 { LULL } else { Duration::ZERO };
        most + Duration::from_millis(GAP.start + self.number(GAP.end - GAP.start))
    }

    fn fault(&mut self, weight: u64) -> Fault {
        let node = self.below(GATEWAYS);
        let (line, time) = ([Line::Silent, Line::Broken][self.below(2)], 500 + self.number(4_500));
        match weight {
            0..45 => Fault::Kill(node),
            45..58 => Fault::Pause(node, 500 + self.number(2_500)),
            58..65 => Fault::Leave(node),
            65..73 => Fault::CutEngine(node, line, time),
            73..81 => Fault::CutGateways(node, line, time),
            81..86 => Fault::CrashEngine,
            86..90 => Fault::Failover,
            90..94 => Fault::PausedFailover(node),
            _ => Fault::LosingFailover,
        }
    }

    fn act(&mut self, tabs: &[usize]) -> Act {
        let user = self.below(tabs.len());
        let place = Place { user, tab: self.below(tabs[user]) };
        match self.number(100) {
            0..45 => Act::Say(place, self.below(TEXTS)),
            45..50 => Act::Again(place),
            50..60 => Act::Cancel(place),
            60..69 => Act::Cut(place),
            69..72 => Act::Leave(place, 200 + self.number(4_000)),
            72..79 => {
                let begin = [Begin::Last, Begin::Last, Begin::Earliest, Begin::Latest][self.below(4)];
                Act::Reload(place, begin)
            }
            79..83 => Act::Refresh(place),
            83..86 => Act::Pause(place, 200 + self.number(8_000)),
            86..88 => Act::Notice(user),
            88..90 => Act::Revoke(user),
            90 if self.below(4) == 0 => Act::Degrade(300 + self.number(1_500)),
            91 => Act::Delete(place),
            _ => Act::Attack(ATTACKS[self.below(ATTACKS.len())]),
        }
    }
}
