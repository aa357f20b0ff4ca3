//! Logs that earlier versions have written, kept beside this file, are read correctly.

use std::fs;
use std::path::Path;
use std::time::Duration;

use lockstep::log::disk::{Durability, Options};
use lockstep::log::{Acquired, Conversations, DiskLog, KeptLog, Log, Written};
use lockstep::payload::thread_id;
use lockstep::testing::log::{PROCESS, content, deletion, own, written};
use lockstep_model::run::{Kind, Reason, Schedule, ToolEnd};
use lockstep_model::{MessageId, Offset, ToolId};

use crate::contract::{Folder, trimmed};
use crate::damage::with_format;

/// Written before answers were stored as pieces of parts and runs were queued: a tool's run, a cancelled one, a notice.
#[tokio::test]
async fn a_log_of_the_first_version_is_read_event_by_event() {
    let folder = Folder::new("earlier");
    fs::create_dir_all(&folder.0).expect("a directory");
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/log/earlier");
    for file in ["00000001.log", "manifest", "mark"] {
        fs::copy(kept.join(file), folder.0.join(file)).expect("a copy");
    }
    let log = DiskLog::open(&folder.0, Durability::Always).expect("a log");
    let user = log.user("ada").await.expect("a user");
    let Acquired::Owner(tenure) = log.acquire(user, PROCESS).await.expect("an owner") else { panic!("one process") };
    let held = log.restore(user, tenure).await.expect("what it holds");
    let kinds: Vec<Kind> = held.entries.iter().map(|(_, written)| written.kind).collect();
    let threads = held.entries.iter().map(|(_, written)| written.record.thread.as_deref());
    assert!(threads.take(kinds.len() - 1).all(|thread| thread == Some("t")));
    let tool = ToolId(1);
    let [
        Kind::Received(first),
        Kind::Started,
        Kind::Thinking,
        Kind::ToolExecuting(_),
        Kind::ToolCompleted(_, ToolEnd::Success),
        Kind::Thinking,
        Kind::Completed,
        Kind::Received(second),
        Kind::Started,
        ref said @ ..,
        Kind::Error(Reason::Cancelled),
        Kind::Notice,
    ] = kinds[..]
    else {
        panic!("{kinds:?}");
    };
    assert_eq!((kinds[3], kinds[4]), (Kind::ToolExecuting(tool), Kind::ToolCompleted(tool, ToolEnd::Success)));
    assert!(said.iter().all(|kind| *kind == Kind::Thinking), "{said:?}");
    for received in [first, second] {
        assert_eq!((received.thread, received.schedule), (thread_id(Some("t")), Schedule::Immediate));
    }
    assert_ne!(first.message, second.message);
    drop(log);
    // An earlier version refuses it from now on: it would not understand the remains of a deleted thread.
    let manifest = fs::read_to_string(folder.0.join("manifest")).expect("a manifest");
    assert!(manifest.contains("\"version\": 4"), "{manifest}");
}

/// The second version had the same records, without those of deletions, and the third without those of pauses.
#[tokio::test]
async fn a_log_of_the_second_or_third_version_is_read_and_takes_a_deletion() {
    takes_a_deletion(2).await;
    takes_a_deletion(3).await;
}

async fn takes_a_deletion(version: u32) {
    let folder = Folder::new(&format!("earlier-{version}"));
    let open = || DiskLog::open(&folder.0, Durability::Always).expect("a log");
    let log = open();
    let user = log.user("ada").await.expect("a user");
    let tenure = own(&log, user).await;
    let said = || vec![written(1, Kind::Thinking, "one"), written(2, Kind::Thinking, "two")];
    let offsets = log.append(user, tenure, Offset(0), said()).await.expect("appended");
    drop(log);
    let manifest = fs::read(folder.0.join("manifest")).expect("a manifest");
    fs::write(folder.0.join("manifest"), with_format(&manifest, version)).expect("written");
    let log = open();
    let tenure = own(&log, user).await;
    let held = log.restore(user, tenure).await.expect("what it holds").entries;
    assert!(held.iter().map(|(_, entry)| content(entry)).eq(said().iter().map(content)));
    log.append(user, tenure, offsets[1], vec![deletion(3, None)]).await.expect("appended");
    drop(log);
    let log = open();
    let tenure = own(&log, user).await;
    let held = log.restore(user, tenure).await.expect("what it holds").entries;
    assert_eq!(held.iter().map(|(_, entry)| entry.run.0).collect::<Vec<_>>(), [1, 3]);
}

/// Conversations of the first version: its tables, and the log beside them in which nothing was stored yet.
#[tokio::test]
async fn conversations_of_the_first_version_take_a_deletion_and_those_of_a_later_one_are_refused() {
    let folder = Folder::new("earlier-conversations");
    fs::create_dir_all(folder.0.join("log")).expect("a directory");
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/log/earlier");
    for file in ["00000001.log", "manifest", "mark"] {
        fs::copy(kept.join(file), folder.0.join("log").join(file)).expect("a copy");
    }
    let path = folder.0.join("conversations.db");
    fs::copy(kept.join("conversations.db"), &path).expect("a copy");
    let options = Options::new(Durability::Always).upkeep(Duration::ZERO);
    let open = || KeptLog::open(&folder.0.join("log"), &options);
    let log = open().expect("a log");
    let user = log.user("ada").await.expect("a user");
    let tenure = own(&log, user).await;
    let held = log.restore(user, tenure).await.expect("what it holds");
    let messages: Vec<_> = held.entries.iter().filter_map(|(_, entry)| message(entry)).collect();
    let head = held.entries.last().expect("some").0;
    assert_eq!(log.rename(user, Some("t"), Some("a name")).await, Ok(true), "all of it is kept now");
    let offsets = log.append(user, tenure, head, vec![deletion(3, Some("t"))]).await.expect("appended");
    let held = trimmed(&log, user, tenure, offsets[0]).await;
    assert_eq!((messages.len(), held.past), (2, messages));
    drop(log);
    // The version in SQLite's header.
    let mut bytes = fs::read(&path).expect("a file");
    assert_eq!(bytes[60..64], [0, 0, 0, 3]);
    bytes[63] = 4;
    fs::write(&path, bytes).expect("written");
    let refused = open().expect_err("a later format").to_string();
    assert!(refused.contains("format 4") && refused.contains("format 3"), "{refused}");
}

fn message(entry: &Written) -> Option<MessageId> {
    if let Kind::Received(received) = entry.kind { Some(received.message) } else { None }
}
