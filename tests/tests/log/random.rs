//! Users append, trim and are erased, while the disk fills and fails and the process and the machine end. After each of
//! these, each user has what was answered, in order, and nothing of another user.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep::log::disk::{DiskLog, Durability, Options};
use lockstep::log::{Acquired, Log, LogError, Written};
use lockstep::testing::log::{PROCESS, written};
use lockstep_model::run::Kind;
use lockstep_model::{Epoch, Offset, Tenure, UserId};
use proptest::prelude::*;

use crate::simulated::Disk;

const NAMES: [&str; 3] = ["ada", "bob", "eve"];

#[derive(Clone, Debug)]
enum Op {
    Append(usize, usize),
    Trim(usize, u64),
    Acquire(usize),
    Erase(usize),
    Full(usize),
    Free,
    FailSyncs(usize),
    ShortWrites(usize),
    /// The process has no effect any longer after that many operations on the disk.
    Die(usize),
    Kill,
    PowerCut(u64),
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    let user = 0..NAMES.len();
    prop_oneof![
        12 => (user.clone(), 1..5_usize).prop_map(|(user, count)| Op::Append(user, count)),
        2 => (user.clone(), 0..6_u64).prop_map(|(user, kept)| Op::Trim(user, kept)),
        1 => user.clone().prop_map(Op::Acquire),
        1 => user.prop_map(Op::Erase),
        1 => (0..600_usize).prop_map(Op::Full),
        2 => Just(Op::Free),
        1 => (1..3_usize).prop_map(Op::FailSyncs),
        1 => (1..40_usize).prop_map(Op::ShortWrites),
        1 => (0..12_usize).prop_map(Op::Die),
        1 => Just(Op::Kill),
        2 => any::<u64>().prop_map(Op::PowerCut),
        1 => Just(Op::Close),
    ]
}

/// What a user was answered.
#[derive(Default)]
struct Known {
    user: Option<UserId>,
    tenure: Option<Tenure>,
    newest: Option<Tenure>,
    /// Answered text by offset.
    answered: BTreeMap<u64, String>,
    /// A batch without an answer.
    doubtful: Vec<String>,
    /// The highest offset through which trimming was requested.
    trimmed: u64,
    erased: BTreeSet<UserId>,
}

impl Known {
    fn head(&self) -> Offset {
        Offset(self.answered.keys().next_back().copied().unwrap_or(0).max(self.trimmed))
    }
}

struct World {
    level: Durability,
    disk: Disk,
    log: Option<DiskLog>,
    users: [Known; NAMES.len()],
    texts: u64,
    epoch: Epoch,
    trace: Vec<String>,
}

/// What may be lost at an end.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Nothing,
    /// Unsynced data.
    Unsynced,
}

impl World {
    fn open(disk: &Disk, level: Durability) -> DiskLog {
        let options = Options::new(level).segment_bytes(600).upkeep(Duration::ZERO);
        DiskLog::on(Arc::new(disk.clone()), &options).expect("no end of a process or a machine makes a log unreadable")
    }

    fn new(level: Durability) -> Self {
        let disk = Disk::default();
        let log = Self::open(&disk, level);
        Self { level, log: Some(log), disk, users: Default::default(), texts: 0, epoch: Epoch(0), trace: Vec::new() }
    }

    fn log(&self) -> &DiskLog {
        self.log.as_ref().expect("a log is open between two steps")
    }

    async fn step(&mut self, op: &Op) {
        match *op {
            Op::Append(place, count) => self.append(place, count).await,
            Op::Trim(place, kept) => {
                let (head, tenure) = (self.users[place].head().0, self.users[place].tenure);
                let through = head.saturating_sub(kept);
                if let (Some(user), Some(tenure)) = (self.users[place].user, tenure)
                    && self.log().trim(user, tenure, Offset(through)).await.is_ok()
                {
                    let known = &mut self.users[place];
                    known.trimmed = known.trimmed.max(through);
                }
            }
            Op::Acquire(place) => {
                self.acquire(place, End::Nothing).await;
            }
            Op::Erase(place) => self.erase(place).await,
            Op::Full(room) => self.disk.space(Some(room)),
            Op::Free => {
                self.disk.space(None);
                self.disk.fail_syncs(0);
                self.disk.short_writes(None);
            }
            Op::FailSyncs(count) => self.disk.fail_syncs(count),
            Op::ShortWrites(most) => self.disk.short_writes(Some(most)),
            Op::Die(operations) => self.disk.die_after(operations),
            Op::Kill => {
                let next = self.disk.after_kill();
                self.restart(next, End::Nothing).await;
            }
            Op::PowerCut(seed) => {
                let mut state = seed | 1;
                let mut dice = |below: usize| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state % below as u64) as usize
                };
                let next = self.disk.after_power_cut(&mut dice);
                let end = if self.level == Durability::Always { End::Nothing } else { End::Unsynced };
                self.restart_in(next, end, true).await;
            }
            Op::Close => {
                self.log = None;
                let next = self.disk.after_kill();
                self.restart(next, End::Nothing).await;
            }
        }
    }

    async fn restart(&mut self, disk: Disk, end: End) {
        self.restart_in(disk, end, false).await;
    }

    async fn restart_in(&mut self, disk: Disk, end: End, may_end: bool) {
        // The old log goes on with the old disk until it is dropped.
        self.log = Some(Self::open(&disk, self.level));
        self.disk = disk;
        let before = self.epoch;
        for place in 0..NAMES.len() {
            self.users[place].tenure = None;
            assert!(self.acquire(place, end).await, "a healthy disk answers");
        }
        assert!(self.epoch == before || may_end || before == Epoch(0), "the epoch ended though nothing can be lost");
        for known in &self.users {
            for erased in &known.erased {
                let again = self.log().acquire(*erased, PROCESS).await;
                let given = self.users.iter().any(|known| known.user == Some(*erased));
                assert!(again.is_err() || (given && end == End::Unsynced), "user {} was erased: {again:?}", erased.0);
            }
        }
    }

    /// Takes ownership, and compares what the log has with what was answered. Returns false if the log does not answer.
    async fn acquire(&mut self, place: usize, end: End) -> bool {
        self.users[place].tenure = None;
        let user = match self.log().user(NAMES[place]).await {
            Ok(user) => user,
            Err(LogError::Unavailable(_)) => return false,
            Err(error) => panic!("{error}"),
        };
        let tenure = match self.log().acquire(user, PROCESS).await {
            Ok(Acquired::Owner(tenure)) => tenure,
            Ok(other) => panic!("{other:?}"),
            Err(LogError::Unavailable(_)) => return false,
            Err(error) => panic!("{error}"),
        };
        let held = self.log().restore(user, tenure).await.expect("what is answered can be read");
        assert!(tenure.epoch >= self.epoch, "the epoch went back");
        self.epoch = tenure.epoch;
        let others: Vec<_> = self.users.iter().enumerate().filter(|(other, _)| *other != place).collect();
        assert!(
            others.iter().all(|(_, known)| known.user != Some(user)) || end == End::Unsynced,
            "two users of one number"
        );
        let known = &mut self.users[place];
        assert!(!known.erased.contains(&user) || end == End::Unsynced, "the number of an erased user");
        let same_epoch = known.newest.is_none_or(|newest| newest.epoch == tenure.epoch);
        if end == End::Nothing {
            assert!(known.user.is_none_or(|known| known == user), "another number for the same name");
        }
        if same_epoch && known.user == Some(user) {
            assert!(known.newest.is_none_or(|newest| newest.token < tenure.token), "a fencing token came twice");
        }
        let found: BTreeMap<u64, String> = held.entries.iter().map(|(offset, entry)| (offset.0, text(entry))).collect();
        if known.user == Some(user) || known.user.is_none() {
            assert!(held.trimmed.0 <= known.trimmed, "more was forgotten than may be");
        }
        let mut doubtful = known.doubtful.iter();
        let head = known.head().0;
        for (offset, text) in &found {
            match known.answered.get(offset) {
                Some(answered) => assert_eq!(text, answered, "another content at offset {offset} of {}", NAMES[place]),
                None => {
                    assert!(*offset > head || end == End::Unsynced, "an entry at {offset} that was never answered");
                    assert_eq!(Some(text), doubtful.next(), "{} reads what it has not appended", NAMES[place]);
                }
            }
        }
        if same_epoch || end == End::Nothing {
            let missing = known.answered.keys().find(|offset| **offset > held.trimmed.0 && !found.contains_key(offset));
            assert_eq!(missing, None, "an answered entry of {} is gone", NAMES[place]);
        }
        let trimmed = if known.user == Some(user) { known.trimmed.min(held.trimmed.0.max(known.trimmed)) } else { 0 };
        let lost = end == End::Unsynced;
        known.trimmed = if lost { held.trimmed.0 } else { trimmed };
        if lost {
            known.answered.clear();
        }
        known.answered.extend(found);
        known.doubtful.clear();
        (known.user, known.tenure, known.newest) = (Some(user), Some(tenure), Some(tenure));
        true
    }

    async fn append(&mut self, place: usize, count: usize) {
        if self.users[place].tenure.is_none() && !self.acquire(place, End::Nothing).await {
            return;
        }
        if self.users[place].doubtful.is_empty() {
            for _ in 0..count {
                self.texts += 1;
                let text = format!("{} of {}", self.texts, NAMES[place]);
                self.users[place].doubtful.push(text);
            }
        }
        let known = &self.users[place];
        let (Some(user), Some(tenure)) = (known.user, known.tenure) else { return };
        let batch = known.doubtful.iter().map(|text| written(1, Kind::Thinking, text)).collect();
        match self.log().append(user, tenure, known.head(), batch).await {
            Ok(offsets) => {
                let known = &mut self.users[place];
                assert!(offsets[0] > known.head(), "an offset that was given before");
                let texts = core::mem::take(&mut known.doubtful);
                known.answered.extend(offsets.iter().map(|offset| offset.0).zip(texts));
            }
            Err(LogError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    async fn erase(&mut self, place: usize) {
        let Some(user) = self.users[place].user else { return };
        let mut erased = self.log().erase(user).await;
        if erased.is_err() {
            // It is unknown whether the user was erased: retry once the disk works.
            self.disk.space(None);
            self.disk.fail_syncs(0);
            let began = Instant::now();
            while let Err(LogError::Unavailable(why)) = &erased {
                if why.contains("dead") {
                    let next = self.disk.after_kill();
                    self.log = Some(Self::open(&next, self.level));
                    self.disk = next;
                    for known in &mut self.users {
                        known.tenure = None;
                    }
                }
                assert!(began.elapsed() < Duration::from_secs(20), "{why}");
                tokio::task::yield_now().await;
                erased = self.log().erase(user).await;
            }
        }
        erased.expect("erased");
        let known = &mut self.users[place];
        let mut all = core::mem::take(&mut known.erased);
        all.insert(user);
        *known = Known { erased: all, ..Known::default() };
    }
}

fn text(entry: &Written) -> String {
    let data: serde_json::Value = serde_json::from_str(entry.record.data.get()).expect("JSON");
    data["text"].as_str().expect("a text").to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn what_was_answered_is_there_after_every_end_of_a_process_and_a_machine(
        level in 0..3_usize,
        ops in proptest::collection::vec(op(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World::new(crate::contract::LEVELS[level]);
            for op in &ops {
                world.trace.push(format!("{op:?}"));
                world.step(op).await;
            }
            let next = world.disk.after_kill();
            world.restart(next, End::Nothing).await;
        });
    }
}
