//! Pages of a stream: between any two offsets they have what was appended there, once, whatever was copied, forgotten,
//! deleted or cut off in between.

use std::fs;
use std::time::Duration;

use lockstep::log::conversations::Page;
use lockstep::log::disk::Options;
use lockstep::log::{KeptLog, Log, LogError, MemoryLog, Written};
use lockstep::payload::data_of_piece;
use lockstep::testing::log::{content, deletion, own};
use lockstep_model::run::{Kind, Reason, Received};
use lockstep_model::{MessageId, Offset, PartId, Tenure, ThreadId, UserId};
use proptest::prelude::*;
use serde_json::json;

use crate::contract::{Folder, trimmed};
use crate::deleted::{THREADS, name};
use crate::kept::{EAGER, copy, entry, kept, told};

/// Options under which an open log copies and cleans nothing, except through [`Op::Copy`].
pub(crate) const SLOW: Options = EAGER.upkeep(Duration::from_secs(3_600));

#[derive(Clone, Debug)]
enum Op {
    Begin(usize),
    /// Pieces of an open run, or of two in turn.
    Say {
        of: usize,
        turns: bool,
        pieces: usize,
        text: usize,
    },
    End(usize),
    Notice,
    Delete(usize),
    /// The number of newest entries that are kept.
    Trim(usize),
    Acquire,
    Copy,
    /// Reopen the log so that everything is copied and cleaned at once, or nothing.
    Eager,
    Slow,
    /// Kill the process before anything more was copied.
    Kill,
    /// Kill the process when everything was copied, but the log has forgotten and cleaned nothing.
    KillCopied,
    /// Turn the store into one that the second version has written.
    Older,
}

fn op() -> impl Strategy<Value = Op> {
    let say = (0..3_usize, any::<bool>(), 1..7_usize, prop_oneof![9 => 0..12_usize, 1 => 9_000..40_000_usize]);
    prop_oneof![
        6 => (0..3_usize).prop_map(Op::Begin),
        9 => say.prop_map(|(of, turns, pieces, text)| Op::Say { of, turns, pieces, text }),
        4 => (0..3_usize).prop_map(Op::End),
        1 => Just(Op::Notice),
        2 => (0..3_usize).prop_map(Op::Delete),
        2 => (0..30_usize).prop_map(Op::Trim),
        1 => Just(Op::Acquire),
        3 => Just(Op::Copy),
        1 => Just(Op::Eager),
        2 => Just(Op::Slow),
        1 => Just(Op::Kill),
        1 => Just(Op::KillCopied),
    ]
}

fn op_with_older() -> impl Strategy<Value = Op> {
    prop_oneof![20 => op(), 1 => Just(Op::Older)]
}

enum Opened {
    Memory(MemoryLog),
    Kept(Option<KeptLog>),
}

struct World {
    folder: Folder,
    folders: usize,
    log: Opened,
    slow: bool,
    /// Whether the store has entries that an earlier version has written.
    older: bool,
    user: UserId,
    tenure: Tenure,
    stream: Vec<(Offset, Written)>,
    open: Vec<(u64, &'static str)>,
    runs: u64,
    texts: usize,
    seed: u64,
}

impl World {
    async fn new(label: &str, memory: bool) -> Self {
        let folder = Folder::new(&format!("pages-{label}-0"));
        let opened = if memory { Opened::Memory(MemoryLog::new()) } else { Opened::Kept(Some(open(&folder, &SLOW))) };
        let log: &dyn Log = match &opened {
            Opened::Memory(log) => log,
            Opened::Kept(log) => log.as_ref().expect("a log"),
        };
        let user = log.user("ada").await.expect("a user");
        let tenure = own(log, user).await;
        Self {
            folder,
            folders: 0,
            log: opened,
            slow: true,
            older: false,
            user,
            tenure,
            stream: Vec::new(),
            open: Vec::new(),
            runs: 0,
            texts: 0,
            seed: 1,
        }
    }

    fn log(&self) -> &dyn Log {
        match &self.log {
            Opened::Memory(log) => log,
            Opened::Kept(log) => log.as_ref().expect("a log is open between two steps"),
        }
    }

    fn dice(&mut self, below: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.seed >> 33) % below.max(1) as u64).expect("below")
    }

    fn head(&self) -> Offset {
        self.stream.last().map_or(Offset(0), |(offset, _)| *offset)
    }

    async fn append(&mut self, batch: Vec<Written>) {
        if batch.is_empty() {
            return;
        }
        let offsets = self.log().append(self.user, self.tenure, self.head(), batch.clone()).await.expect("appended");
        self.stream.extend(offsets.into_iter().zip(batch));
    }

    async fn say(&mut self, of: usize, turns: bool, pieces: usize, size: usize) {
        let mut batch = Vec::new();
        for piece in 0..pieces {
            let Some((run, thread)) = self.open.get((of + usize::from(turns) * piece) % self.open.len().max(1)) else {
                return;
            };
            self.texts += 1;
            // Characters that JSON escapes, and characters of several bytes.
            let text = format!("{}\"\n\u{f6}{}", self.texts, "\u{2713}\\n".repeat(size / 5));
            let part = PartId(u32::from(piece % 5 == 4) + 1);
            let data = data_of_piece(part, if piece % 7 == 6 { "reasoning" } else { "text" }, &text);
            let data = serde_json::from_str(data.get()).expect("JSON");
            batch.push(entry(*run, thread, Kind::Delta(part), &data));
        }
        self.append(batch).await;
    }

    fn ends(&self, which: impl Fn(usize, &str) -> bool) -> Vec<Written> {
        let open = self.open.iter().enumerate().filter(|(place, (_, thread))| which(*place, thread));
        let error = Kind::Error(Reason::Cancelled);
        open.map(|(_, (run, thread))| entry(*run, thread, error, &json!({ "reason": "cancelled" }))).collect()
    }

    async fn step(&mut self, op: &Op) {
        match *op {
            Op::Begin(_) if self.open.len() == 3 => {}
            Op::Begin(thread) => {
                self.runs += 1;
                let (run, thread) = (self.runs, THREADS[thread]);
                let received = Kind::Received(Received::immediate(MessageId(run), ThreadId(0)));
                let asked = json!({ "message_id": format!("m{run}"), "payload": { "text": format!("asks {run}") } });
                self.open.push((run, thread));
                self.append(vec![entry(run, thread, received, &asked), entry(run, thread, Kind::Started, &json!({}))])
                    .await;
            }
            Op::Say { of, turns, pieces, text } => self.say(of, turns, pieces, text).await,
            Op::End(of) => {
                let batch = self.ends(|place, _| place == of);
                self.open.retain(|(run, _)| batch.iter().all(|entry| entry.run.0 != *run));
                self.append(batch).await;
            }
            Op::Notice => {
                self.runs += 1;
                self.append(vec![entry(self.runs, "", Kind::Notice, &json!({ "text": "for all" }))]).await;
            }
            Op::Delete(thread) => {
                let thread = THREADS[thread];
                let mut batch = self.ends(|_, of| of == thread);
                self.open.retain(|(_, of)| *of != thread);
                self.runs += 1;
                batch.push(deletion(self.runs, name(thread)));
                self.append(batch).await;
            }
            Op::Trim(left) => {
                let Some((through, _)) = self.stream.iter().nth_back(left) else { return };
                self.log().trim(self.user, self.tenure, *through).await.expect("trimmed");
                if !self.slow {
                    trimmed(self.log(), self.user, self.tenure, *through).await;
                }
            }
            Op::Acquire => self.tenure = own(self.log(), self.user).await,
            Op::Copy => self.copy().await,
            Op::Eager | Op::Slow | Op::Kill | Op::KillCopied | Op::Older => self.restart(op).await,
        }
        self.check().await;
    }

    /// Naming a thread copies everything.
    async fn copy(&self) {
        let renamed = kept(self.log()).rename(self.user, Some("none"), None).await;
        assert_eq!(renamed, Ok(false));
    }

    async fn restart(&mut self, op: &Op) {
        let Opened::Kept(_) = &self.log else { return };
        if let Op::Kill | Op::KillCopied = op {
            if !self.slow {
                return;
            }
            self.folders += 1;
            let next = Folder::new(&format!("{}-{}", self.folder.0.display(), self.folders));
            copy(&self.folder.0.join("log"), &next.0.join("log"));
            if matches!(op, Op::KillCopied) {
                self.copy().await;
            }
            copy(&self.folder.0, &next.0);
            self.log = Opened::Kept(None);
            self.folder = next;
        } else {
            self.log = Opened::Kept(None);
            self.slow = matches!(op, Op::Slow) || (self.slow && matches!(op, Op::Older));
        }
        if let Op::Older = op {
            self.older = true;
            downgrade(&self.folder);
        }
        self.log = Opened::Kept(Some(open(&self.folder, if self.slow { &SLOW } else { &EAGER })));
        self.tenure = own(self.log(), self.user).await;
    }

    /// The entries of threads that are not deleted.
    fn expected(&self) -> Vec<(Offset, Written)> {
        let deletes = |after: usize, entry: &Written| {
            let later = self.stream[after + 1..].iter();
            let is_of_none = entry.kind == Kind::Notice && entry.record.thread.is_none();
            !is_of_none
                && later
                    .filter(|(_, later)| later.kind == Kind::Deleted)
                    .any(|(_, later)| later.record.thread == entry.record.thread)
        };
        let there = self.stream.iter().enumerate().filter(|(place, (_, entry))| !deletes(*place, entry));
        there.map(|(_, entry)| entry.clone()).collect()
    }

    async fn check(&mut self) {
        let expected = self.expected();
        let head = self.head().0;
        for round in 0..4 {
            let after = if round == 0 { 0 } else { self.dice(usize::try_from(head + 1).expect("few")) as u64 };
            let through = if round == 0 {
                head
            } else {
                after + self.dice(usize::try_from(head - after + 1).expect("few")) as u64
            };
            let bytes = [0, 40, 4_000, 300_000][self.dice(4)];
            let place = (Offset(after), Offset(through));
            if self.older {
                self.is_told(&expected, place, bytes, round == 0).await;
            } else {
                self.is_exact(&expected, place, bytes).await;
            }
        }
    }

    /// Reads from one offset to another. Returns each page with its starting offset.
    async fn pages(&self, (after, through): (Offset, Offset), bytes: usize) -> Vec<(Offset, Page)> {
        let (mut pages, mut at) = (Vec::new(), after);
        loop {
            let page = kept(self.log()).page(self.user, at, through, bytes).await.expect("a page");
            assert!(page.trimmed >= at && page.through >= page.trimmed && page.through <= through);
            assert!(page.entries.iter().all(|(offset, _)| *offset > page.trimmed && *offset <= page.through));
            let next = page.through;
            assert!(next > at || next == through, "it goes on");
            pages.push((at, page));
            if next == through {
                return pages;
            }
            at = next;
        }
    }

    async fn is_exact(&self, expected: &[(Offset, Written)], place: (Offset, Offset), bytes: usize) {
        let forgotten = match &self.log {
            Opened::Memory(log) => log.restore(self.user, self.tenure).await.expect("held").trimmed,
            Opened::Kept(_) => Offset(0),
        };
        let mut expected = expected.iter().filter(|(offset, _)| *offset > place.0.max(forgotten) && *offset <= place.1);
        for (at, page) in self.pages(place, bytes).await {
            assert_eq!(page.trimmed, at.max(forgotten).min(place.1), "nothing is missing that the log has");
            let mut sizes = Vec::new();
            for found in &page.entries {
                same(found, &mut expected, &mut sizes);
            }
            let least: usize = sizes.iter().rev().skip(1).map(|(text, _)| text).sum();
            assert!(least <= bytes, "{least} bytes are on a page of {bytes}");
            let most: usize = sizes.iter().map(|(_, data)| data).sum();
            assert!(page.through == place.1 || most > bytes, "a page of {bytes} bytes has {most}");
        }
        assert_eq!(expected.next().map(content_at), None, "something is missing");
    }

    /// An earlier version stored an answer's pieces at the offset of the last: they are returned completely or not at
    /// all.
    async fn is_told(&self, expected: &[(Offset, Written)], place: (Offset, Offset), bytes: usize, all: bool) {
        let is_in = |(offset, entry): &&(Offset, Written)| {
            *offset > place.0 && *offset <= place.1 && entry.kind != Kind::Deleted
        };
        let mut expected: Vec<_> = expected.iter().filter(is_in).cloned().collect();
        let mut found = Vec::new();
        for (at, page) in self.pages(place, bytes).await {
            assert!(!all || page.trimmed == at, "nothing is missing of all there is");
            expected.retain(|(offset, _)| *offset <= at || *offset > page.trimmed);
            found.extend(page.entries.into_iter().filter(|(_, entry)| entry.kind != Kind::Deleted));
        }
        let sorted = |mut told: Vec<_>| {
            told.sort();
            told
        };
        assert_eq!(sorted(told(&found)), sorted(told(&expected)));
    }
}

fn content_at((offset, entry): &(Offset, Written)) -> (Offset, impl core::fmt::Debug + PartialEq) {
    (*offset, content(entry))
}

/// The bytes of a piece's text, and of all its data.
type Sizes = (usize, usize);

/// Whether a page's entry is the next expected one, or joins the next pieces up to its offset.
fn same<'a>(
    (offset, found): &(Offset, Written),
    expected: &mut impl Iterator<Item = &'a (Offset, Written)>,
    sizes: &mut Vec<Sizes>,
) {
    let text_of = |entry: &Written| {
        let data: serde_json::Value = serde_json::from_str(entry.record.data.get()).expect("JSON");
        (data["kind"].clone(), data["text"].as_str().unwrap_or_default().to_owned())
    };
    let size = |entry: &Written| entry.record.data.get().len();
    let Kind::Delta(_) = found.kind else {
        let next = expected.next().expect("something is too much");
        assert_eq!(content_at(&(*offset, found.clone())), content_at(next));
        return sizes.push((size(found), size(found)));
    };
    let (kind, text) = text_of(found);
    let mut rest = &*text;
    loop {
        let (at, piece) = expected.next().expect("something is too much");
        assert_eq!((piece.run, piece.kind, &piece.record.thread), (found.run, found.kind, &found.record.thread));
        let (of, said) = text_of(piece);
        assert_eq!(kind, of);
        rest = rest.strip_prefix(&*said).expect("the text goes on");
        sizes.push((said.len(), size(piece)));
        if at == offset {
            return assert_eq!(rest, "", "there is no more of it");
        }
    }
}

pub(crate) fn open(folder: &Folder, options: &Options) -> KeptLog {
    fs::create_dir_all(&folder.0).expect("a directory");
    KeptLog::open(&folder.0.join("log"), options).expect("a log")
}

/// Turns the store into one of the second version.
fn downgrade(folder: &Folder) {
    let store = rusqlite::Connection::open(folder.0.join("conversations.db")).expect("a store");
    let downgraded = store.execute_batch(
        "BEGIN;
         DROP INDEX events_by_last; DROP TABLE spans; DROP TABLE deletions; DROP INDEX threads_by_age;
         ALTER TABLE events DROP COLUMN joints;
         ALTER TABLE threads DROP COLUMN turns; ALTER TABLE threads DROP COLUMN bytes;
         ALTER TABLE users DROP COLUMN turns; ALTER TABLE users DROP COLUMN bytes;
         PRAGMA user_version = 2;
         COMMIT;",
    );
    downgraded.expect("an earlier version");
}

fn run(label: &str, memory: bool, ops: &[Op]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(label, memory).await;
        for op in ops {
            world.step(op).await;
        }
        world.step(&Op::Copy).await;
        world.step(&Op::Slow).await;
        let user = world.user;
        world.log().erase(user).await.expect("erased");
        assert_eq!(kept(world.log()).page(user, Offset(0), Offset(1), 1).await.map(|_| ()), Err(LogError::Fenced));
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn pages_have_what_was_appended_and_not_deleted_once(ops in prop::collection::vec(op(), 1..60)) {
        run("kept", false, &ops);
    }

    #[test]
    fn pages_of_what_an_earlier_version_has_stored_say_what_is_not_known(ops in prop::collection::vec(op_with_older(), 1..60)) {
        run("older", false, &ops);
    }

    #[test]
    fn pages_of_a_log_in_memory_have_what_it_retains(ops in prop::collection::vec(op(), 1..60)) {
        run("memory", true, &ops);
    }
}
