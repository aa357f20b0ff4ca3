//! A log that an earlier version has written, which is kept beside this file, is read as it was meant.

use std::fs;
use std::path::Path;

use lockstep::log::disk::Durability;
use lockstep::log::{Acquired, DiskLog, Log};
use lockstep::payload::thread_id;
use lockstep_model::ToolId;
use lockstep_model::run::{Kind, Reason, Schedule, ToolEnd};

use crate::contract::Folder;

/// Written before answers were kept as pieces of parts and runs were queued: a tool's run, one that was cancelled, a notice.
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
    let Acquired::Owner(tenure) = log.acquire(user).await.expect("an owner") else { panic!("one process") };
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
}
