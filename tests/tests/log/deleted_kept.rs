//! Deleted threads with stored conversations: as for the log alone (`deleted.rs`), and in the store too.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use lockstep::log::disk::Options;
use lockstep::log::{Conversations, KeptLog, Log, Written};
use lockstep::testing::log::{deletion, own};
use lockstep_model::run::Kind;
use lockstep_model::{MessageId, Offset, Tenure, UserId};
use proptest::prelude::*;

use crate::contract::{Folder, trimmed};
use crate::deleted::{PATIENCE, THREADS, begun, end, found, name, text, tick};
use crate::kept::{EAGER, all, copy, threads, told};

/// A message whose id can be searched for in a file.
const RARE: u64 = 0x0a51_5ec2_e7a5_1d3f;

/// Options under which an open log copies and cleans nothing.
const SLOW: Options = EAGER.upkeep(Duration::from_secs(3_600));

fn open(folder: &Folder, options: &Options) -> KeptLog {
    fs::create_dir_all(&folder.0).expect("a directory");
    KeptLog::open(&folder.0.join("log"), options).expect("a log")
}

/// The first of the texts that a file contains.
fn within<'a>(folder: &Path, texts: &'a [String]) -> Option<&'a String> {
    let files = fs::read_dir(folder).expect("a directory").map(|file| file.expect("a file").path());
    let mut files = files.filter(|path| path.extension().is_none_or(|extension| extension != "db-shm"));
    files.find_map(|path| match path.is_dir() {
        true => within(&path, texts),
        // A segment may be removed meanwhile.
        false => found(&fs::read(path).unwrap_or_default(), texts),
    })
}

async fn until_gone(folder: &Folder, texts: &[String]) {
    let began = Instant::now();
    while let Some(text) = within(&folder.0, texts) {
        assert!(began.elapsed() < PATIENCE, "{text:?} is still in a file");
        tick(20).await;
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// A run: its thread, and its number of pieces.
    Run(usize, u64),
    Delete(usize),
    Rename(usize),
    /// The number of newest entries that are kept.
    Trim(u64),
    Acquire,
    /// Reopen the log so that everything is copied and cleaned at once, or nothing.
    Eager,
    Slow,
    /// Kill the process before anything was copied.
    Kill,
    /// Kill the process when everything was copied, but the log has forgotten and cleaned nothing.
    KillCopied,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3_usize, 0..5_u64).prop_map(|(thread, pieces)| Op::Run(thread, pieces)),
        3 => (0..3_usize).prop_map(Op::Delete),
        1 => (0..3_usize).prop_map(Op::Rename),
        1 => (0..20_u64).prop_map(Op::Trim),
        1 => Just(Op::Acquire),
        1 => Just(Op::Eager),
        2 => Just(Op::Slow),
        1 => Just(Op::Kill),
        1 => Just(Op::KillCopied),
    ]
}

struct World {
    folder: Folder,
    folders: usize,
    log: Option<KeptLog>,
    slow: bool,
    user: UserId,
    tenure: Tenure,
    head: Offset,
    runs: u64,
    /// By thread, the entries since its last deletion.
    said: BTreeMap<&'static str, Vec<(Offset, Written)>>,
    titles: BTreeMap<&'static str, String>,
    messages: Vec<MessageId>,
    gone: Vec<String>,
}

impl World {
    async fn new() -> Self {
        let folder = Folder::new("deleted-kept-0");
        let log = open(&folder, &SLOW);
        let user = log.user("ada").await.expect("a user");
        let tenure = own(&log, user).await;
        Self {
            folder,
            folders: 0,
            log: Some(log),
            slow: true,
            user,
            tenure,
            head: Offset(0),
            runs: 0,
            said: BTreeMap::new(),
            titles: BTreeMap::new(),
            messages: Vec::new(),
            gone: Vec::new(),
        }
    }

    fn log(&self) -> &KeptLog {
        self.log.as_ref().expect("a log is open between two steps")
    }

    async fn append(&mut self, batch: Vec<Written>) -> Vec<(Offset, Written)> {
        let offsets = self.log().append(self.user, self.tenure, self.head, batch.clone()).await.expect("appended");
        self.head = *offsets.last().expect("some");
        offsets.into_iter().zip(batch).collect()
    }

    async fn delete(&mut self, thread: &'static str) {
        // The end of the last run and the deletion are in one batch, with the entries after it.
        self.runs += 2;
        let number = self.runs;
        self.append(begun(number - 1, thread, 2)).await;
        let batch = vec![end(number - 1, thread), deletion(1 << 41, name(thread))];
        let mut said = self.append([batch, begun(number, thread, 1), vec![end(number, thread)]].concat()).await;
        let gone = self.said.remove(thread).unwrap_or_default();
        self.gone.extend(gone.iter().filter(|(_, entry)| entry.kind == Kind::Completed).map(|(_, e)| text(e.run.0)));
        self.gone.push(text(number - 1));
        self.titles.remove(thread);
        self.said.insert(thread, said.split_off(2));
        self.messages.extend([MessageId(number - 1), MessageId(number)]);
    }

    async fn step(&mut self, op: &Op) {
        match *op {
            Op::Run(thread, pieces) => {
                self.runs += 1;
                let (number, thread) = (self.runs, THREADS[thread]);
                let said = self.append([begun(number, thread, pieces), vec![end(number, thread)]].concat()).await;
                self.said.entry(thread).or_default().extend(said);
                self.messages.push(MessageId(number));
            }
            Op::Delete(thread) => self.delete(THREADS[thread]).await,
            Op::Rename(thread) => {
                let (thread, title) = (THREADS[thread], format!("name {}", self.runs));
                let renamed = self.log().rename(self.user, name(thread), Some(&title)).await;
                assert_eq!(renamed, Ok(self.said.contains_key(thread)));
                if renamed == Ok(true) {
                    self.titles.insert(thread, title);
                }
            }
            Op::Trim(left) => {
                let through = Offset(self.head.0.saturating_sub(left));
                self.log().trim(self.user, self.tenure, through).await.expect("trimmed");
                if !self.slow {
                    trimmed(self.log(), self.user, self.tenure, through).await;
                }
            }
            Op::Acquire => self.tenure = own(self.log(), self.user).await,
            Op::Eager | Op::Slow => {
                self.log = None;
                self.slow = matches!(op, Op::Slow);
                self.restart().await;
            }
            Op::Kill | Op::KillCopied if !self.slow => {}
            Op::Kill | Op::KillCopied => {
                self.folders += 1;
                let next = Folder::new(&format!("deleted-kept-{}", self.folders));
                copy(&self.folder.0.join("log"), &next.0.join("log"));
                if matches!(op, Op::KillCopied) {
                    // Naming a thread copies everything.
                    let renamed = self.log().rename(self.user, Some("none"), None).await;
                    assert_eq!(renamed, Ok(false));
                }
                copy(&self.folder.0, &next.0);
                self.log = None;
                self.folder = next;
                self.restart().await;
            }
        }
        self.check().await;
    }

    async fn restart(&mut self) {
        self.log = Some(open(&self.folder, if self.slow { &SLOW } else { &EAGER }));
        self.tenure = own(self.log(), self.user).await;
    }

    async fn check(&self) {
        let log = self.log();
        for thread in THREADS {
            let expected = self.said.get(thread).map(Vec::as_slice).unwrap_or_default();
            assert_eq!(told(&all(log, self.user, thread, 2).await), told(expected), "{thread:?}");
        }
        let mut wanted: Vec<_> = self.said.iter().collect();
        wanted.sort_by_key(|(_, said)| core::cmp::Reverse(said.last().map(|(_, entry)| entry.run.0)));
        let title = |thread: &str, said: &[(Offset, Written)]| {
            self.titles.get(thread).cloned().unwrap_or_else(|| text(said[0].1.run.0))
        };
        let wanted = wanted.into_iter().map(|(thread, said)| ((*thread).to_owned(), Some(title(thread, said)), false));
        assert_eq!(threads(log, self.user, 2).await, wanted.collect::<Vec<_>>());
        let held = log.restore(self.user, self.tenure).await.expect("what it holds");
        let is_held = |message: &MessageId| {
            let mut runs = held.entries.iter().filter(|(_, entry)| matches!(entry.kind, Kind::Received(_)));
            runs.any(|(_, entry)| entry.run.0 == message.0)
        };
        let past: Vec<MessageId> = self.messages.iter().copied().filter(|message| !is_held(message)).collect();
        assert_eq!(held.past, past, "no message runs again");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// RET-1, RUN-2: copied or not, forgotten or not, reopened or not, with the log of an earlier moment or not.
    #[test]
    fn what_is_read_is_what_was_said_in_no_deleted_thread(ops in prop::collection::vec(op(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World::new().await;
            for op in &ops {
                world.step(op).await;
            }
            world.step(&Op::Eager).await;
            until_gone(&world.folder, &world.gone).await;
            world.check().await;
            let kept: Vec<String> = world.said.values().flatten().map(|(_, entry)| text(entry.run.0)).collect();
            if let Some(text) = kept.first() {
                assert_eq!(within(&world.folder.0, &kept[..1]), Some(text), "or nothing was looked at");
            }
            world.step(&Op::Slow).await;
            assert_eq!(within(&world.folder.0, &world.gone), None);
        });
    }
}

/// A deletion that was not copied before the process was killed is completed without its user, who may never come back.
#[tokio::test]
async fn a_deletion_that_a_crash_kept_from_the_store_is_completed_afterwards() {
    let (folder, crashed) = (Folder::new("deleted-kept-crash"), Folder::new("deleted-kept-crashed"));
    let log = open(&folder, &EAGER);
    let (user, other) = (log.user("ada").await.expect("a user"), log.user("bob").await.expect("a user"));
    let mut heads = Vec::new();
    for (user, number) in [(user, RARE), (other, 2)] {
        let tenure = own(&log, user).await;
        let said = [begun(number, "t", 9), vec![end(number, "t")]].concat();
        let offsets = log.append(user, tenure, Offset(0), said).await.expect("appended");
        heads.push(*offsets.last().expect("some"));
        // The store alone has all of it.
        trimmed(&log, user, tenure, heads[heads.len() - 1]).await;
    }
    drop(log);
    let log = open(&folder, &SLOW);
    let tenure = own(&log, user).await;
    assert_eq!(log.rename(user, Some("t"), Some("a name that is secret")).await, Ok(true));
    log.append(user, tenure, heads[0], vec![deletion(3, Some("t"))]).await.expect("appended");
    copy(&folder.0.join("log"), &crashed.0.join("log"));
    copy(&folder.0, &crashed.0);
    let secrets = [text(RARE), "a name that is secret".to_owned()];
    assert!(within(&crashed.0, &secrets[..1]).is_some() && within(&crashed.0, &secrets[1..]).is_some());
    let log = open(&crashed, &EAGER);
    until_gone(&crashed, &secrets).await;
    assert_eq!(threads(&log, user, 3).await, []);
    assert_eq!(all(&log, other, "t", 3).await.len(), 3, "another user has lost nothing");
    let tenure = own(&log, user).await;
    assert_eq!(log.restore(user, tenure).await.expect("held").past, [MessageId(RARE)]);
    // When the user is erased, nothing of these messages is left either.
    let known = || {
        let store = fs::read(crashed.0.join("conversations.db")).expect("a file");
        store.windows(8).any(|bytes| bytes == RARE.to_be_bytes())
    };
    assert!(known());
    log.erase(user).await.expect("erased");
    assert!(!known());
}

/// Overwritten data leaves the store's journal as soon, not only after a long pause.
#[tokio::test]
async fn what_was_deleted_leaves_the_journal_of_the_store_with_the_copy() {
    let folder = Folder::new("deleted-kept-journal");
    let log = open(&folder, &EAGER.upkeep(Duration::from_secs(1)));
    let user = log.user("ada").await.expect("a user");
    let tenure = own(&log, user).await;
    let said = [begun(1, "t", 9), vec![end(1, "t")]].concat();
    let mut head = *log.append(user, tenure, Offset(0), said).await.expect("appended").last().expect("some");
    // The journal was cut once when the store was opened.
    for (file, number) in [("conversations.db", 1), ("conversations.db-wal", 2)] {
        let (began, secret) = (Instant::now(), [text(number)]);
        while found(&fs::read(folder.0.join(file)).unwrap_or_default(), &secret).is_none() {
            assert!(began.elapsed() < PATIENCE, "it is not copied");
            tick(20).await;
        }
        if number == 1 {
            let said = [begun(2, "t", 9), vec![end(2, "t")]].concat();
            head = *log.append(user, tenure, head, said).await.expect("appended").last().expect("some");
        }
    }
    log.append(user, tenure, head, vec![deletion(3, Some("t"))]).await.expect("appended");
    let began = Instant::now();
    until_gone(&folder, &[text(1), text(2)]).await;
    assert!(began.elapsed() < Duration::from_secs(20), "after thirty seconds it is cut whatever was in it");
}

/// A page of threads is as long as it may be, although some threads in the store are deleted in the log.
#[tokio::test]
async fn a_page_of_threads_is_filled_behind_those_that_are_deleted() {
    let folder = Folder::new("deleted-kept-page");
    let log = open(&folder, &EAGER);
    let user = log.user("ada").await.expect("a user");
    let tenure = own(&log, user).await;
    let names: Vec<String> = (0..12).map(|number| format!("thread {number:02}")).collect();
    let said: Vec<Written> = (1..)
        .zip(&names)
        .flat_map(|(number, name)| [begun(number, name, 0), vec![end(number, name)]].concat())
        .collect();
    let offsets = log.append(user, tenure, Offset(0), said).await.expect("appended");
    let head = *offsets.last().expect("some");
    trimmed(&log, user, tenure, head).await;
    drop(log);
    let log = open(&folder, &SLOW);
    let tenure = own(&log, user).await;
    let deleted = names[8..].iter().zip(100..).map(|(name, number)| deletion(number, Some(name)));
    log.append(user, tenure, head, deleted.collect()).await.expect("appended");
    let page = log.threads(user, None, 4).await.expect("an answer");
    let listed: Vec<_> = page.threads.iter().map(|thread| thread.name.as_deref()).collect();
    assert_eq!(listed, [Some("thread 07"), Some("thread 06"), Some("thread 05"), Some("thread 04")]);
    assert_eq!(threads(&log, user, 4).await.len(), 8);
}
