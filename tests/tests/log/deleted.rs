//! Deleted threads: their earlier entries are no longer read, and leave the disk, whatever ends in between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::{Decompress, FlushDecompress};
use lockstep::log::disk::{DiskLog, Durability, Options};
use lockstep::log::{Log, Written};
use lockstep::payload::data_of_piece;
use lockstep::testing::log::{content, deletion, own};
use lockstep_model::run::{Kind, Received};
use lockstep_model::{MessageId, Offset, PartId, Tenure, ThreadId, UserId};
use proptest::prelude::*;
use serde_json::json;

use crate::contract::LEVELS;
use crate::kept::entry;
use crate::simulated::Disk;

/// How long a log may take to leave a segment and clean it, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const EAGER: Options = Options::new(Durability::Always).upkeep(Duration::ZERO).segment_bytes(2_048);

/// The first of the texts that the bytes contain, plain or in compressed data that begins at any offset.
pub(crate) fn found<'a>(bytes: &[u8], texts: &'a [String]) -> Option<&'a String> {
    let has = |bytes: &[u8], text: &String| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    let plain = texts.iter().find(|text| has(bytes, text));
    if plain.is_some() || texts.is_empty() {
        return plain;
    }
    let (mut inflate, mut out) = (Decompress::new(false), Vec::with_capacity(1 << 18));
    (0..bytes.len()).find_map(|at| {
        inflate.reset(false);
        out.clear();
        // The output before an error, or before the buffer was full, counts.
        let _ = inflate.decompress_vec(&bytes[at..], &mut out, FlushDecompress::Finish);
        texts.iter().find(|text| has(&out, text))
    })
}

fn on<'a>(disk: &Disk, texts: &'a [String]) -> Option<&'a String> {
    let files = disk.files();
    files.iter().filter(|(name, _)| name.ends_with(".log")).find_map(|(_, bytes)| found(bytes, texts))
}

/// A pause between two looks at the files.
pub(crate) async fn tick(milliseconds: u64) {
    let mut ticks = tokio::time::interval(Duration::from_millis(milliseconds));
    ticks.tick().await;
    ticks.tick().await;
}

async fn until_gone(disk: &Disk, texts: &[String]) {
    let began = Instant::now();
    while let Some(text) = on(disk, texts) {
        assert!(began.elapsed() < PATIENCE, "{text:?} is still in a file");
        tick(5).await;
    }
}

/// A run's text.
pub(crate) fn text(number: u64) -> String {
    format!("secret {number:05} is {:016x}.", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// A run in that thread with these pieces of [`text`], which has not ended.
pub(crate) fn begun(number: u64, thread: &str, pieces: u64) -> Vec<Written> {
    let received = Received::immediate(MessageId(number), ThreadId(0));
    let asked = json!({ "message_id": format!("m{number}"), "payload": { "text": text(number) } });
    let mut run = vec![entry(number, thread, Kind::Received(received), &asked)];
    for _ in 0..pieces {
        let data = data_of_piece(PartId(1), "text", &text(number));
        run.push(entry(number, thread, Kind::Delta(PartId(1)), &serde_json::from_str(data.get()).expect("JSON")));
    }
    run
}

/// The run's end.
pub(crate) fn end(number: u64, thread: &str) -> Written {
    entry(number, thread, Kind::Completed, &json!({ "text": text(number) }))
}

pub(crate) fn name(thread: &str) -> Option<&str> {
    (!thread.is_empty()).then_some(thread)
}

fn log(disk: &Disk, options: &Options) -> DiskLog {
    DiskLog::on(Arc::new(disk.clone()), options).expect("a log")
}

/// RET-1: this includes what was trimmed before, in a segment that other users need, and what was packed.
#[tokio::test]
async fn what_a_thread_had_leaves_the_disk_and_what_others_have_stays() {
    for (place, level) in LEVELS.into_iter().enumerate() {
        for trimmed in [false, true] {
            let disk = Disk::default();
            let options = EAGER.durability(level).segment_bytes(1 << 20);
            let mut opened = log(&disk, &options);
            let (ada, bob) = (opened.user("ada").await.expect("a user"), opened.user("bob").await.expect("a user"));
            let (of_ada, of_bob) = (own(&opened, ada).await, own(&opened, bob).await);
            let said = [begun(1, "t", 20), vec![end(1, "t")], begun(2, "u", 20), vec![end(2, "u")]].concat();
            let offsets = opened.append(ada, of_ada, Offset(0), said.clone()).await.expect("appended");
            let bulk: Vec<Written> = (10..60).flat_map(|number| begun(number, "t", 1)).collect();
            opened.append(bob, of_bob, Offset(0), bulk.clone()).await.expect("appended");
            let head = *offsets.last().expect("some");
            for _ in 0..2 {
                drop(opened);
                opened = log(&disk, &options);
            }
            let tenure = own(&opened, ada).await;
            if trimmed {
                opened.trim(ada, tenure, head).await.expect("trimmed");
            }
            assert_eq!(on(&disk, &[text(1)]), Some(&text(1)), "it is there, or nothing is shown");
            opened.append(ada, tenure, head, vec![deletion(3, Some("t"))]).await.expect("appended");
            let mut gone = vec![text(1)];
            gone.extend(trimmed.then(|| text(2)));
            until_gone(&disk, &gone).await;
            let of_bob = own(&opened, bob).await;
            let held = opened.restore(bob, of_bob).await.expect("held").entries;
            assert!(held.iter().map(|(_, entry)| content(entry)).eq(bulk.iter().map(content)), "{place}");
            let held = opened.restore(ada, tenure).await.expect("held");
            let rest: &[Written] = if trimmed { &[] } else { &said[22..] };
            let rest = rest.iter().map(content).chain([content(&deletion(3, Some("t")))]);
            assert!(held.entries.iter().map(|(_, entry)| content(entry)).eq(rest));
            assert_eq!(held.past, if trimmed { Vec::new() } else { vec![MessageId(1)] });
        }
    }
}

/// An erased user also leaves a segment that contains only trimmed data.
#[tokio::test]
async fn an_erased_users_trimmed_data_leaves_a_shared_segment() {
    let disk = Disk::default();
    let options = EAGER.segment_bytes(1 << 20);
    let opened = log(&disk, &options);
    let (ada, bob) = (opened.user("ada").await.expect("a user"), opened.user("bob").await.expect("a user"));
    let (of_ada, of_bob) = (own(&opened, ada).await, own(&opened, bob).await);
    let offsets = opened.append(ada, of_ada, Offset(0), begun(1, "t", 2)).await.expect("appended");
    let bulk: Vec<Written> = (10..60).flat_map(|number| begun(number, "t", 1)).collect();
    opened.append(bob, of_bob, Offset(0), bulk).await.expect("appended");
    drop(opened);
    let opened = log(&disk, &options);
    let tenure = own(&opened, ada).await;
    opened.trim(ada, tenure, *offsets.last().expect("some")).await.expect("trimmed");
    assert!(on(&disk, &[text(1)]).is_some());
    opened.erase(ada).await.expect("erased");
    until_gone(&disk, &[text(1)]).await;
}

/// Without deletions the costs are unchanged: an append reads nothing, nor does a deletion until a segment is cleaned.
#[tokio::test]
async fn nothing_is_read_for_an_append() {
    let disk = Disk::default();
    let opened = log(&disk, &Options::new(Durability::Never).upkeep(Duration::from_secs(3_600)));
    let mut users = Vec::new();
    for number in 0..50 {
        let user = opened.user(&format!("user {number}")).await.expect("a user");
        users.push((user, own(&opened, user).await));
    }
    let before = disk.reads();
    for (user, tenure) in &users {
        let offsets = opened.append(*user, *tenure, Offset(0), begun(1, "t", 3)).await.expect("appended");
        opened.append(*user, *tenure, offsets[3], vec![end(1, "t")]).await.expect("appended");
    }
    let (user, tenure) = users[7];
    opened.append(user, tenure, Offset(5), vec![deletion(2, Some("t"))]).await.expect("appended");
    assert_eq!(disk.reads(), before);
}

/// The reads to clean a segment with that many users, of whom the last has deleted a thread or not.
async fn reads_to_clean(users: u64, deletes: Option<&str>) -> usize {
    let disk = Disk::default();
    let opened = log(&disk, &Options::new(Durability::Always).upkeep(Duration::from_secs(3_600)));
    for number in 0..users {
        let user = opened.user(&format!("user {number}")).await.expect("a user");
        let tenure = own(&opened, user).await;
        let offsets = opened.append(user, tenure, Offset(0), begun(number, "t", 9)).await.expect("appended");
        let head = *offsets.last().expect("some");
        opened.append(user, tenure, head, vec![end(number, "t")]).await.expect("appended");
    }
    drop(opened);
    let opened = log(&disk, &Options::new(Durability::Always).upkeep(Duration::from_secs(3_600)));
    let last = opened.user(&format!("user {}", users - 1)).await.expect("a user");
    let tenure = own(&opened, last).await;
    let scrubbed = match deletes {
        Some(thread) => opened.append(last, tenure, Offset(11), vec![deletion(1 << 40, Some(thread))]).await.map(drop),
        None => opened.erase(last).await,
    };
    scrubbed.expect("a segment is due");
    drop(opened);
    let before = disk.reads();
    let opened = log(&disk, &Options::new(Durability::Always).upkeep(Duration::from_millis(1)));
    let began = Instant::now();
    while disk.files().contains_key("00000001.log") {
        assert!(began.elapsed() < PATIENCE, "the first segment is not cleaned");
        tick(1).await;
    }
    drop(opened);
    disk.reads() - before
}

/// The other users are read as in any cleaning: a user with a deleted thread is read once more.
#[tokio::test]
async fn users_without_a_deletion_are_not_read_more_often_for_that_of_another() {
    let (erased, deleted) = (reads_to_clean(100, None).await, reads_to_clean(100, Some("t")).await);
    // Two records per user, the longer of which takes two reads.
    assert!(
        erased <= 3 * 100 + 20 && deleted <= erased + 20,
        "{deleted} reads with a deletion, {erased} with an erasure"
    );
}

/// What a deleted thread leaves does not grow with its content.
#[tokio::test]
async fn repeated_messages_and_deletions_take_little_space() {
    let disk = Disk::default();
    let opened = log(&disk, &EAGER.segment_bytes(64 << 10));
    let user = opened.user("ada").await.expect("a user");
    let (mut head, mut texts, mut messages) = (Offset(0), Vec::new(), Vec::new());
    for round in 0..20 {
        let tenure = own(&opened, user).await;
        for number in [2 * round + 1, 2 * round + 2] {
            let said = [begun(number, "t", 300), vec![end(number, "t")]].concat();
            head = *opened.append(user, tenure, head, said).await.expect("appended").last().expect("some");
            texts.push(text(number));
            messages.push(MessageId(number));
        }
        head = opened.append(user, tenure, head, vec![deletion(1_000 + round, Some("t"))]).await.expect("appended")[0];
        assert_eq!(opened.restore(user, tenure).await.expect("held").past, messages);
    }
    until_gone(&disk, &texts).await;
    let tenure = own(&opened, user).await;
    opened.append(user, tenure, head, vec![deletion(2_000, Some("t"))]).await.expect("appended");
    let (began, size) = (Instant::now(), |disk: &Disk| {
        disk.files().iter().filter(|(name, _)| name.ends_with(".log")).map(|(_, bytes)| bytes.len()).sum::<usize>()
    });
    // Of twelve thousand entries, two offsets per run remain, of a few bytes.
    while size(&disk) > 1_200 {
        assert!(began.elapsed() < PATIENCE, "{} bytes for nothing that can be read", size(&disk));
        tick(5).await;
    }
    let held = opened.restore(user, tenure).await.expect("held");
    assert_eq!((held.entries.len(), held.past), (1, messages));
}

const SLOW: Options = EAGER.upkeep(Duration::from_secs(3_600));

/// One process deletes, and another one cleans.
#[tokio::test]
async fn a_deletion_is_completed_by_the_next_process() {
    for segment_bytes in [64, 1 << 20] {
        let mut disk = Disk::default();
        let slow = SLOW.segment_bytes(segment_bytes);
        let opened = log(&disk, &slow);
        let user = opened.user("ada").await.expect("a user");
        let tenure = own(&opened, user).await;
        let mut head = Offset(0);
        for entry in [begun(1, "t", 9), vec![end(1, "t")]].concat() {
            head = opened.append(user, tenure, head, vec![entry]).await.expect("appended")[0];
        }
        opened.append(user, tenure, head, vec![deletion(2, Some("t"))]).await.expect("appended");
        // Each later process may get as far as it likes.
        for cleaned in 0..4_usize {
            disk = disk.after_kill();
            let opened = log(&disk, &EAGER);
            let (began, files) = (Instant::now(), disk.files().len());
            while cleaned > 0 && disk.files().len() + cleaned > files && on(&disk, &[text(1)]).is_some() {
                assert!(began.elapsed() < PATIENCE, "nothing is cleaned");
                tick(1).await;
            }
            let killed = disk.after_kill();
            drop(opened);
            disk = killed;
        }
        let _opened = log(&disk, &EAGER);
        until_gone(&disk, &[text(1)]).await;
    }
}

/// Like an erasure, a deletion may not be lost: once segments are cleaned, it cannot be repeated.
#[tokio::test]
async fn a_deletion_is_synced_when_it_is_answered_at_each_level() {
    for level in LEVELS {
        let disk = Disk::default();
        let options = SLOW.durability(level);
        let opened = log(&disk, &options);
        let user = opened.user("ada").await.expect("a user");
        let tenure = own(&opened, user).await;
        let said = [begun(1, "t", 3), vec![end(1, "t")]].concat();
        let head = *opened.append(user, tenure, Offset(0), said).await.expect("appended").last().expect("some");
        opened.append(user, tenure, head, vec![deletion(2, Some("t"))]).await.expect("appended");
        let opened = log(&disk.after_power_cut(&mut |_| 0), &options);
        let tenure = own(&opened, user).await;
        let held = opened.restore(user, tenure).await.expect("held");
        assert!(held.entries.iter().map(|(_, entry)| content(entry)).eq([content(&deletion(2, Some("t")))]));
    }
}

#[derive(Clone, Debug)]
enum Op {
    Run(usize, u64),
    Notice,
    Delete(usize),
    Trim(u64),
    Acquire,
    Repeat,
    Kill,
    PowerCut(u64),
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3_usize, 0..12_u64).prop_map(|(thread, pieces)| Op::Run(thread, pieces)),
        1 => Just(Op::Notice),
        3 => (0..3_usize).prop_map(Op::Delete),
        1 => (0..20_u64).prop_map(Op::Trim),
        1 => Just(Op::Acquire),
        2 => Just(Op::Repeat),
        1 => Just(Op::Kill),
        1 => any::<u64>().prop_map(Op::PowerCut),
        1 => Just(Op::Close),
    ]
}

pub(crate) const THREADS: [&str; 3] = ["", "one", "two"];

struct World {
    level: Durability,
    disk: Disk,
    log: Option<DiskLog>,
    user: UserId,
    tenure: Tenure,
    /// The entries that were appended and not deleted, and those of messages.
    kept: Vec<(Offset, Written)>,
    gone: Vec<(Offset, u64)>,
    /// The last append: its predecessor, its batch, and its offsets.
    last: (Offset, Vec<Written>, Vec<Offset>),
    head: Offset,
    runs: u64,
}

impl World {
    async fn new(level: Durability) -> Self {
        let disk = Disk::default();
        let opened = log(&disk, &EAGER.durability(level));
        let user = opened.user("ada").await.expect("a user");
        let tenure = own(&opened, user).await;
        let (kept, gone, last) = (Vec::new(), Vec::new(), (Offset(0), Vec::new(), Vec::new()));
        Self { level, disk, log: Some(opened), user, tenure, kept, gone, last, head: Offset(0), runs: 0 }
    }

    fn log(&self) -> &DiskLog {
        self.log.as_ref().expect("a log is open between two steps")
    }

    async fn append(&mut self, batch: Vec<Written>) {
        let after = self.head;
        let offsets = self.log().append(self.user, self.tenure, after, batch.clone()).await.expect("appended");
        self.head = *offsets.last().expect("some");
        for (offset, entry) in offsets.iter().zip(&batch) {
            if entry.kind == Kind::Deleted {
                let thread = &entry.record.thread;
                let (gone, kept) = core::mem::take(&mut self.kept).into_iter().partition(|(_, before)| {
                    before.record.thread == *thread && !(before.kind == Kind::Notice && thread.is_none())
                });
                self.kept = kept;
                let gone: Vec<(Offset, Written)> = gone;
                self.gone.extend(
                    gone.iter()
                        .filter(|(_, entry)| matches!(entry.kind, Kind::Received(_)))
                        .map(|(offset, entry)| (*offset, entry.run.0)),
                );
            }
            self.kept.push((*offset, entry.clone()));
        }
        self.last = (after, batch, offsets);
    }

    async fn step(&mut self, op: &Op) {
        match *op {
            Op::Run(thread, pieces) => {
                self.runs += 1;
                let (number, thread) = (self.runs, THREADS[thread]);
                self.append([begun(number, thread, pieces), vec![end(number, thread)]].concat()).await;
            }
            Op::Notice => self.append(vec![entry(1 << 40, "", Kind::Notice, &json!({}))]).await,
            Op::Delete(thread) => {
                // With the end of a run, as when it is cancelled.
                self.runs += 1;
                let (number, thread) = (self.runs, THREADS[thread]);
                self.append(begun(number, thread, 2)).await;
                self.append(vec![end(number, thread), deletion(1 << 41, name(thread))]).await;
            }
            Op::Trim(left) => {
                let through = Offset(self.head.0.saturating_sub(left));
                self.log().trim(self.user, self.tenure, through).await.expect("trimmed");
                // A trim follows the answer to the last append.
                self.last = (self.head, Vec::new(), Vec::new());
            }
            Op::Acquire => self.acquire().await,
            Op::Repeat => {
                let (after, batch, offsets) = self.last.clone();
                let again = self.log().append(self.user, self.tenure, after, batch).await;
                assert_eq!(again, Ok(offsets), "what is repeated is known");
            }
            Op::Kill => self.restart(self.disk.after_kill()).await,
            Op::PowerCut(seed) => {
                let mut state = seed | 1;
                let mut dice = |below: usize| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    usize::try_from((state >> 33) % below as u64).expect("below")
                };
                if self.level == Durability::Always {
                    self.restart(self.disk.after_power_cut(&mut dice)).await;
                }
            }
            Op::Close => {
                self.log = None;
                self.restart(self.disk.after_kill()).await;
            }
        }
        self.check().await;
    }

    async fn restart(&mut self, disk: Disk) {
        self.log = Some(log(&disk, &EAGER.durability(self.level)));
        self.disk = disk;
        self.acquire().await;
    }

    async fn acquire(&mut self) {
        self.tenure = own(self.log(), self.user).await;
        self.last = (self.head, Vec::new(), Vec::new());
    }

    async fn check(&self) {
        let held = self.log().restore(self.user, self.tenure).await.expect("what it holds");
        let entry = |(offset, entry): &(Offset, Written)| (*offset, content(entry));
        let wanted = self.kept.iter().filter(|(offset, _)| *offset > held.trimmed).map(entry);
        assert_eq!(held.entries.iter().map(entry).collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
        let mut gone: Vec<_> = self.gone.iter().filter(|(offset, _)| *offset > held.trimmed).collect();
        gone.sort_unstable();
        assert_eq!(held.past, gone.into_iter().map(|(_, message)| MessageId(*message)).collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 500, ..ProptestConfig::default() })]

    /// RET-1, STR-2: under any ends and cleanings in between.
    #[test]
    fn what_is_held_is_what_was_said_in_no_deleted_thread(
        level in 0..3_usize,
        ops in proptest::collection::vec(op(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World::new(LEVELS[level]).await;
            for op in &ops {
                world.step(op).await;
            }
            let texts: Vec<String> = world.gone.iter().map(|(_, message)| text(*message)).collect();
            until_gone(&world.disk, &texts).await;
            world.check().await;
            world.step(&Op::Kill).await;
            world.step(&Op::Close).await;
        });
    }
}
