//! The schedule of a run. It depends on the seed alone and not on the clock.

use core::hash::{Hash, Hasher};
use std::time::Duration;

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

/// A run's steps and their times.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// The number of tabs of each user.
    pub tabs: Vec<usize>,
    /// The steps, ordered by their time since the beginning.
    pub steps: Vec<(Duration, Act)>,
}

impl Plan {
    /// The plan for a seed.
    #[must_use]
    pub fn new(seed: u64, users: usize, time: Duration) -> Self {
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
        let (from, to) = (total * RESTARTS.start / 100, total * RESTARTS.end / 100);
        let (mut at, mut next) = (from, random.below(ENDS.len()));
        // Short runs have some too.
        let gap = (total / 8).clamp(2_000, 6_000);
        while at < to {
            steps.push((Duration::from_millis(at), ENDS[next % ENDS.len()]));
            next += 1;
            at += gap + random.number(gap);
        }
        steps.sort_by_key(|(at, _)| *at);
        Self { tabs, steps }
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
