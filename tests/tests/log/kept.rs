//! Conversations: trimmed and untrimmed entries are read as one, whenever entries moved from the log to the store, and
//! wherever a crash cut that off.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep::log::conversations::{Threads, Turns};
use lockstep::log::disk::{Durability, Options};
use lockstep::log::{Conversations, KeptLog, Log, LogError, MemoryLog, Written};
use lockstep::payload::Record;
use lockstep::payload::data_of_piece;
use lockstep::testing::log::{contract, lasting, own};
use lockstep_model::run::{Kind, Reason, Received};
use lockstep_model::{MessageId, Offset, PartId, RunId, ThreadId, UserId};
use proptest::prelude::*;
use serde_json::json;
use serde_json::value::to_raw_value;

use crate::contract::{Folder, gives_back_trimmed_messages, trimmed};

pub(crate) const EAGER: Options =
    Options::new(Durability::Interval(Duration::from_secs(1))).upkeep(Duration::ZERO).segment_bytes(4_096);

pub(crate) fn open(folder: &Folder) -> KeptLog {
    fs::create_dir_all(&folder.0).expect("a directory");
    KeptLog::open(&folder.0.join("log"), &EAGER).expect("a log")
}

pub(crate) fn entry(run: u64, thread: &str, kind: Kind, data: &serde_json::Value) -> Written {
    let thread = (!thread.is_empty()).then(|| Arc::from(thread));
    let record = Record::written(thread, to_raw_value(data).expect("JSON"), 1_700_000_000_000 + run);
    Written { run: RunId(run), kind, record: Arc::new(record) }
}

/// A run: its message, some pieces of an answer, its end.
pub(crate) fn run(number: u64, thread: &str, pieces: usize) -> Vec<Written> {
    let received = Received::immediate(MessageId(number), ThreadId(0));
    let asked = json!({ "message_id": format!("m{number}"), "payload": { "text": format!("\nasks {number}") } });
    let mut run = vec![entry(number, thread, Kind::Received(received), &asked)];
    run.push(entry(number, thread, Kind::Started, &json!({})));
    for piece in 0..pieces {
        let data = data_of_piece(PartId(1), "text", &format!("piece {piece} of {number}, "));
        let data: serde_json::Value = serde_json::from_str(data.get()).expect("JSON");
        run.push(entry(number, thread, Kind::Delta(PartId(1)), &data));
    }
    run.push(match number % 3 {
        0 => entry(number, thread, Kind::Error(Reason::Cancelled), &json!({ "reason": "cancelled" })),
        _ => entry(number, thread, Kind::Completed, &json!({ "text": "so" })),
    });
    run
}

/// A reader's view of the events: each run's kinds and text, in the order in which the runs began.
pub(crate) fn told(entries: &[(Offset, Written)]) -> Vec<(u64, Vec<String>, String)> {
    let mut runs: Vec<(u64, Vec<String>, String)> = Vec::new();
    for (_, Written { run, kind, record }) in entries {
        if !runs.iter().any(|(id, ..)| *id == run.0) {
            runs.push((run.0, Vec::new(), String::new()));
        }
        let (_, kinds, text) = runs.iter_mut().find(|(id, ..)| *id == run.0).expect("it was put in");
        let data: serde_json::Value = serde_json::from_str(record.data.get()).expect("JSON");
        if let Kind::Delta(_) = kind {
            text.push_str(data["text"].as_str().expect("a text"));
        } else {
            kinds.push(format!("{kind:?} {data}"));
        }
    }
    runs
}

pub(crate) fn kept(log: &dyn Log) -> &dyn Conversations {
    log.conversations().expect("conversations")
}

async fn page(log: &dyn Log, user: UserId, thread: &str, before: Option<Offset>, limit: usize) -> Turns {
    let thread = (!thread.is_empty()).then_some(thread);
    kept(log).turns(user, thread, before, limit).await.expect("an answer")
}

/// All turns of a thread, read in pages.
pub(crate) async fn all(log: &dyn Log, user: UserId, thread: &str, limit: usize) -> Vec<(Offset, Written)> {
    let (mut entries, mut before) = (Vec::new(), None);
    loop {
        let Turns { entries: mut earlier, next } = page(log, user, thread, before, limit).await;
        earlier.append(&mut entries);
        entries = earlier;
        match next {
            Some(next) => before = Some(next),
            None => return entries,
        }
    }
}

pub(crate) async fn threads(log: &dyn Log, user: UserId, limit: usize) -> Vec<(String, Option<String>, bool)> {
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let Threads { threads, next } = kept(log).threads(user, before.as_ref(), limit).await.expect("an answer");
        assert!(threads.len() <= limit);
        found.extend(
            threads
                .into_iter()
                .map(|thread| (thread.name.as_deref().unwrap_or_default().to_owned(), thread.title, thread.open)),
        );
        match next {
            Some(next) => before = Some(next),
            None => return found,
        }
    }
}

/// Copies a directory as it is at one moment: files that a log writes or removes meanwhile make it begin again.
pub(crate) fn copy(from: &Path, to: &Path) {
    let files = || -> io::Result<BTreeMap<_, _>> {
        let mut files = BTreeMap::new();
        for file in fs::read_dir(from)? {
            let file = file?;
            let metadata = file.metadata()?;
            if metadata.is_file() && file.file_name() != "lock" {
                files.insert(file.file_name(), (metadata.len(), metadata.modified()?));
            }
        }
        Ok(files)
    };
    let attempt = || -> io::Result<bool> {
        let before = files()?;
        for name in before.keys() {
            fs::copy(from.join(name), to.join(name))?;
        }
        Ok(files()? == before)
    };
    fs::create_dir_all(to).expect("a directory");
    while !matches!(attempt(), Ok(true)) {
        for file in fs::read_dir(to).expect("a directory") {
            let path = file.expect("a file").path();
            if path.is_file() {
                fs::remove_file(path).expect("a file");
            }
        }
    }
}

#[tokio::test]
async fn a_log_with_conversations_does_what_every_log_must_and_lasts() {
    for upkeep in [Duration::ZERO, Duration::from_secs(1)] {
        let folder = Folder::new(&format!("kept-contract-{}", upkeep.as_secs()));
        fs::create_dir_all(&folder.0).expect("a directory");
        let options = Options::new(Durability::Always).upkeep(upkeep);
        let open = || Arc::new(KeptLog::open(&folder.0.join("log"), &options).expect("a log"));
        contract(&*open()).await;
        lasting(|| open()).await;
    }
    let folder = Folder::new("kept-messages");
    gives_back_trimmed_messages(&open(&folder)).await;
}

/// For each run its thread, its number of pieces, and how much is trimmed after it, in tenths.
fn runs() -> impl Strategy<Value = Vec<(u8, usize, u64)>> {
    prop::collection::vec((0u8..3, 0usize..8, 0u64..=10), 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Trimmed or not, moved or not, reopened or not, and with the log or the store of another moment: exactly what was
    /// said is read.
    #[test]
    fn what_is_read_is_what_was_said(runs in runs(), limit in 1usize..5, again in 0usize..24, torn in 0usize..24) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(said(&runs, limit, again, torn));
    }
}

async fn said(runs: &[(u8, usize, u64)], limit: usize, again: usize, torn: usize) {
    let (folder, crashed) = (Folder::new("kept-random"), Folder::new("kept-crashed"));
    let mut log = open(&folder);
    let mut user = log.user("ada").await.expect("a number");
    let mut tenure = own(&log, user).await;
    let (mut head, mut offsets) = (Offset(0), Vec::new());
    let mut expected: BTreeMap<String, Vec<(Offset, Written)>> = BTreeMap::new();
    for (place, (thread, pieces, part)) in runs.iter().enumerate() {
        let thread = ["", "one", "t/w\u{f6}"][usize::from(*thread)];
        let entries = run(place as u64 + 1, thread, *pieces);
        let taken = log.append(user, tenure, head, entries.clone()).await.expect("appended");
        head = *taken.last().expect("a run has events");
        expected.entry(thread.to_owned()).or_default().extend(taken.iter().copied().zip(entries));
        offsets.extend(taken);
        let through = offsets[(offsets.len() - 1) * usize::try_from(*part).expect("a tenth") / 10];
        if place == torn {
            // The log is from before it forgot, the store from after that.
            copy(&folder.0.join("log"), &crashed.0.join("log"));
        }
        log.trim(user, tenure, through).await.expect("trimmed");
        if place == torn {
            trimmed(&log, user, tenure, through).await;
            copy(&folder.0, &crashed.0);
            let later = open(&crashed);
            read(&later, user, &expected, limit).await;
            // The log goes on from there.
            let tenure = own(&later, user).await;
            trimmed(&later, user, tenure, head).await;
            read(&later, user, &expected, limit).await;
        }
        if place == again {
            drop(log);
            log = open(&folder);
            user = log.user("ada").await.expect("a number");
            tenure = own(&log, user).await;
        }
        read(&log, user, &expected, limit).await;
    }
    trimmed(&log, user, tenure, head).await;
    read(&log, user, &expected, limit).await;
}

async fn read(log: &dyn Log, user: UserId, expected: &BTreeMap<String, Vec<(Offset, Written)>>, limit: usize) {
    for (thread, entries) in expected {
        let found = all(log, user, thread, limit).await;
        assert_eq!(told(&found), told(entries));
        let pieces = found.iter().filter(|(_, entry)| matches!(entry.kind, Kind::Delta(_))).count();
        assert!(pieces <= 2 * told(&found).len(), "pieces are joined, but for where the log's part begins");
        assert!(found.is_sorted_by_key(|(offset, _)| *offset));
    }
    let mut named: Vec<(&String, u64)> =
        expected.iter().map(|(thread, entries)| (thread, entries.last().map_or(0, |(_, entry)| entry.run.0))).collect();
    named.sort_by_key(|(_, last)| core::cmp::Reverse(*last));
    let listed = threads(log, user, limit).await;
    let first = |thread: &str| expected[thread][0].1.run.0;
    let wanted = named.iter().map(|(thread, _)| ((*thread).clone(), Some(format!("asks {}", first(thread))), false));
    assert_eq!(listed, wanted.collect::<Vec<_>>());
}

/// Entries that the log lost from its end are not read, although they were copied; what it still has is read.
#[tokio::test]
async fn what_the_log_has_lost_is_not_read() {
    let (folder, crashed) = (Folder::new("kept-lost"), Folder::new("kept-lost-end"));
    let log = open(&folder);
    let user = log.user("ada").await.expect("a number");
    let tenure = own(&log, user).await;
    let mut expected = BTreeMap::new();
    let said: Vec<Written> = (1..=4).flat_map(|number| run(number, "t", 5)).collect();
    let offsets = log.append(user, tenure, Offset(0), said.clone()).await.expect("appended");
    expected.insert("t".to_owned(), offsets.iter().copied().zip(said).collect::<Vec<_>>());
    trimmed(&log, user, tenure, offsets[11]).await;
    copy(&folder.0.join("log"), &crashed.0.join("log"));
    let head = *offsets.last().expect("some");
    let lost = [run(5, "t", 5), run(6, "u", 5)].concat();
    let head = *log.append(user, tenure, head, lost).await.expect("appended").last().expect("some");
    trimmed(&log, user, tenure, head).await;
    copy(&folder.0, &crashed.0);
    drop(log);
    let log = open(&crashed);
    assert_eq!(told(&all(&log, user, "t", 3).await), told(&expected["t"]));
    assert_eq!(all(&log, user, "u", 3).await.len(), 0);
    let tenure = own(&log, user).await;
    let again = run(7, "t", 2);
    let offsets =
        log.append(user, tenure, *expected["t"].last().map(|(offset, _)| offset).expect("some"), again.clone()).await;
    let offsets = offsets.expect("appended");
    let last = *offsets.last().expect("some");
    expected.get_mut("t").expect("a thread").extend(offsets.into_iter().zip(again));
    trimmed(&log, user, tenure, last).await;
    assert_eq!(told(&all(&log, user, "t", 3).await), told(&expected["t"]));
}

/// Entries whose store file was removed stay in the log.
#[tokio::test]
async fn what_cannot_be_kept_is_not_forgotten() {
    let folder = Folder::new("kept-removed");
    let log = open(&folder);
    let user = log.user("ada").await.expect("a number");
    let tenure = own(&log, user).await;
    for file in ["conversations.db", "conversations.db-wal", "conversations.db-shm"] {
        fs::remove_file(folder.0.join(file)).expect("removed");
    }
    let said = run(1, "t", 5);
    let offsets = log.append(user, tenure, Offset(0), said.clone()).await.expect("appended");
    log.trim(user, tenure, *offsets.last().expect("some")).await.expect("trimmed, some time");
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    for _ in 0..50 {
        tick.tick().await;
        assert_eq!(log.restore(user, tenure).await.expect("what it holds").trimmed, Offset(0));
    }
    drop(log);
    let log = open(&folder);
    assert_eq!(told(&all(&log, user, "t", 3).await), told(&pairs(&said)));
    let tenure = own(&log, user).await;
    trimmed(&log, user, tenure, *offsets.last().expect("some")).await;
    assert_eq!(told(&all(&log, user, "t", 3).await), told(&pairs(&said)));
}

#[tokio::test]
async fn a_run_that_is_open_is_said_to_be_and_a_log_in_memory_has_what_it_retains() {
    let folder = Folder::new("kept-open");
    let disk = open(&folder);
    let memory = MemoryLog::new();
    for log in [&disk as &dyn Log, &memory] {
        let user = log.user("ada").await.expect("a number");
        assert_eq!(threads(log, user, 10).await, []);
        let tenure = own(log, user).await;
        let offsets = log.append(user, tenure, Offset(0), run(1, "one", 2)).await.expect("appended");
        let open = run(2, "two", 1);
        log.append(user, tenure, *offsets.last().expect("some"), open[..3].to_vec()).await.expect("appended");
        let title = |number: u64| Some(format!("asks {number}"));
        assert_eq!(
            threads(log, user, 10).await,
            [("two".to_owned(), title(2), true), ("one".to_owned(), title(1), false)]
        );
        assert_eq!(told(&page(log, user, "two", None, 10).await.entries), told(&pairs(&open[..3])));
        assert_eq!(page(log, user, "none", None, 10).await.entries.len(), 0);
        // Its beginning is copied with another run's end.
        let head = log.restore(user, tenure).await.expect("held").entries.last().map(|(offset, _)| *offset);
        let offsets = log.append(user, tenure, head.expect("some"), run(4, "one", 1)).await.expect("appended");
        trimmed(log, user, tenure, Offset(1)).await;
        assert_eq!(
            threads(log, user, 10).await.into_iter().map(|(name, _, open)| (name, open)).collect::<Vec<_>>(),
            [("one".to_owned(), false), ("two".to_owned(), true)]
        );
        log.append(user, tenure, *offsets.last().expect("some"), open[3..].to_vec()).await.expect("appended");
        assert!(threads(log, user, 10).await.iter().all(|(.., open)| !open));
        assert_eq!(kept(log).rename(user, Some("two"), Some("another")).await, Ok(true));
        assert!(threads(log, user, 10).await.contains(&("two".to_owned(), Some("another".to_owned()), false)));
        assert_eq!(kept(log).rename(user, Some("none"), None).await, Ok(false));
        assert_eq!(kept(log).rename(user, Some("two"), None).await, Ok(true));
        assert!(threads(log, user, 10).await.contains(&("two".to_owned(), title(2), false)));
        log.erase(user).await.expect("erased");
        assert_eq!(kept(log).threads(user, None, 10).await.map(|_| ()), Err(LogError::Fenced));
        assert_eq!(kept(log).turns(user, None, None, 10).await.map(|_| ()), Err(LogError::Fenced));
    }
}

fn pairs(entries: &[Written]) -> Vec<(Offset, Written)> {
    entries.iter().enumerate().map(|(place, entry)| (Offset(place as u64), entry.clone())).collect()
}

/// Erased data is in no file.
#[tokio::test]
async fn what_is_erased_is_gone_from_the_disk() {
    let folder = Folder::new("kept-erased");
    let log = open(&folder);
    for subject in ["ada", "bob"] {
        let user = log.user(subject).await.expect("a number");
        let tenure = own(&log, user).await;
        let mut entries = run(7, "t", 40);
        entries.push(entry(8, "t", Kind::Notice, &json!({ "text": format!("secret of {subject}") })));
        let offsets = log.append(user, tenure, Offset(0), entries).await.expect("appended");
        let last = *offsets.last().expect("some");
        trimmed(&log, user, tenure, last).await;
    }
    let ada = log.user("ada").await.expect("a number");
    log.erase(ada).await.expect("erased");
    let (within, mut tick) = (Instant::now(), tokio::time::interval(Duration::from_millis(20)));
    while contains(&folder.0, b"secret of ada") {
        assert!(within.elapsed() < Duration::from_secs(20), "it is still there");
        // The log leaves a segment when something is written.
        log.probe().await.expect("a healthy log answers");
        tick.tick().await;
    }
    let bob = log.user("bob").await.expect("a number");
    assert_eq!(all(&log, bob, "t", 3).await.len(), 5, "other users have lost nothing");
    drop(log);
    assert!(!contains(&folder.0, b"secret of ada"));
    assert!(contains(&folder.0, b"secret of bob"));
}

fn contains(folder: &Path, text: &[u8]) -> bool {
    let mut files = fs::read_dir(folder).expect("a directory").map(|file| file.expect("a file").path());
    files.any(|path| {
        if path.is_dir() {
            return contains(&path, text);
        }
        fs::read(path).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text))
    })
}

/// User numbers are valid in one log only.
#[tokio::test]
async fn the_conversations_of_another_log_are_not_read() {
    let (folder, copied) = (Folder::new("kept-other"), Folder::new("kept-other-old"));
    let log = open(&folder);
    drop(log);
    copy(&folder.0.join("log"), &copied.0.join("log"));
    let log = open(&folder);
    let user = log.user("ada").await.expect("a number");
    let tenure = own(&log, user).await;
    let offsets = log.append(user, tenure, Offset(0), run(1, "t", 3)).await.expect("appended");
    let last = *offsets.last().expect("some");
    trimmed(&log, user, tenure, last).await;
    drop(log);
    // An older copy of the log assigns the number to another user.
    fs::remove_dir_all(folder.0.join("log")).expect("removed");
    copy(&copied.0.join("log"), &folder.0.join("log"));
    let log = open(&folder);
    let bob = log.user("bob").await.expect("a number");
    assert_eq!(bob, user, "the number is given again");
    assert_eq!(threads(&log, bob, 10).await, []);
    assert_eq!(all(&log, bob, "t", 10).await.len(), 0);
    drop(log);
    // A different log is refused.
    fs::remove_dir_all(folder.0.join("log")).expect("removed");
    let refused = KeptLog::open(&folder.0.join("log"), &EAGER).expect_err("refused").to_string();
    assert!(refused.contains("conversations.db") && refused.contains("does not belong to the log"), "{refused}");
    fs::write(folder.0.join("conversations.db"), b"no database at all, but some bytes that are in its place")
        .expect("written");
    fs::remove_dir_all(folder.0.join("log")).expect("removed");
    let refused = KeptLog::open(&folder.0.join("log"), &EAGER).expect_err("refused").to_string();
    assert!(refused.contains("conversations.db"), "{refused}");
}

/// A page costs as much as it has, however much the thread has.
#[tokio::test]
async fn the_first_page_of_ten_thousand_turns_is_read_as_fast_as_that_of_a_hundred() {
    let folder = Folder::new("kept-long");
    let log = open(&folder);
    let mut medians = Vec::new();
    for (subject, turns) in [("short", 100), ("long", 10_000)] {
        let user = log.user(subject).await.expect("a number");
        let tenure = own(&log, user).await;
        let mut head = Offset(0);
        for hundred in 0..turns / 100 {
            let entries: Vec<Written> = (1..=100).flat_map(|turn| run(hundred * 100 + turn, "t", 3)).collect();
            head = *log.append(user, tenure, head, entries).await.expect("appended").last().expect("some");
        }
        // Almost all of it can be resumed from. Ended runs are copied before anything is forgotten.
        trimmed(&log, user, tenure, Offset(1)).await;
        let mut times = Vec::new();
        for _ in 0..200 {
            let began = Instant::now();
            assert_eq!(page(&log, user, "t", None, 50).await.entries.len(), 200);
            times.push(began.elapsed());
        }
        times.sort();
        medians.push(times[100]);
    }
    assert!(medians[1] < 3 * medians[0] && medians[1] < Duration::from_millis(10), "{medians:?}");
}
