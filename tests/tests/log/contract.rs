//! The contract of a log, tested on every implementation.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lockstep::log::disk::{DiskLog, Durability, Options};
use lockstep::log::{Held, Log, Members as _, MemoryLog};
use lockstep::testing::SharedLog;
use lockstep::testing::log::{PROCESS, contract, lasting, members, own, written};
use lockstep_model::run::{Kind, Reason, Received};
use lockstep_model::session::MAX_PAST;
use lockstep_model::{MessageId, Offset, Tenure, ThreadId, UserId};

use crate::simulated::Disk;

pub(crate) const LEVELS: [Durability; 3] =
    [Durability::Always, Durability::Interval(Duration::from_millis(1)), Durability::Never];

/// A temporary directory, removed when dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lockstep-log-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_log_in_memory_does_what_every_log_must() {
    contract(&MemoryLog::new()).await;
}

#[tokio::test]
async fn a_log_in_memory_that_managers_share_does_what_every_log_and_every_shared_log_must() {
    let log = SharedLog::new();
    log.renew(PROCESS, "127.0.0.1:1", Duration::from_secs(600)).await.expect("a lease");
    contract(&log).await;
    members(&log).await;
}

/// RUN-2, LIM-1: of the trimmed messages the log returns the newest.
#[tokio::test]
async fn a_log_in_memory_gives_back_the_newest_of_the_messages_that_it_has_trimmed() {
    gives_back_trimmed_messages(&MemoryLog::new()).await;
}

pub(crate) async fn gives_back_trimmed_messages(log: &dyn Log) {
    let user = log.user("ada").await.expect("a number");
    let tenure = own(log, user).await;
    let received = |message| Kind::Received(Received::immediate(MessageId(message), ThreadId(1)));
    let last = MAX_PAST as u64 + 3;
    let batch = (1..=last).flat_map(|n| [written(n, received(n), ""), written(n, Kind::Error(Reason::Failed), "")]);
    let offsets = log.append(user, tenure, Offset(0), batch.collect()).await.expect("appended");
    assert_eq!(trimmed(log, user, tenure, offsets[1]).await.past, [MessageId(1)]);
    // Everything except the end of the last run.
    let held = trimmed(log, user, tenure, offsets[offsets.len() - 2]).await;
    assert_eq!(held.entries.len(), 1);
    assert!(held.past.into_iter().eq((last - MAX_PAST as u64 + 1..=last).map(MessageId)));
}

/// What the log holds after it has forgotten all that it may.
pub(crate) async fn trimmed(log: &dyn Log, user: UserId, tenure: Tenure, through: Offset) -> Held {
    log.trim(user, tenure, through).await.expect("trimmed");
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    loop {
        let held = log.restore(user, tenure).await.expect("held");
        if held.trimmed >= through {
            return held;
        }
        tick.tick().await;
    }
}

#[tokio::test]
async fn a_log_on_a_disk_does_what_every_log_must_and_lasts_at_each_level() {
    for (place, level) in LEVELS.into_iter().enumerate() {
        let folder = Folder::new(&format!("contract-{place}"));
        let open = || Arc::new(DiskLog::open(&folder.0, level).expect("a log"));
        contract(&*open()).await;
        lasting(|| open()).await;
    }
}

#[tokio::test]
async fn a_log_whose_process_is_killed_lasts_at_each_level() {
    for level in LEVELS {
        let (disk, alive) = (RefCell::new(Disk::default()), RefCell::new(Vec::new()));
        lasting(|| {
            // The old log was not closed, and goes on with a disk that no log reads.
            let next = disk.borrow().after_kill();
            disk.replace(next.clone());
            let log = Arc::new(DiskLog::on(Arc::new(next), &Options::new(level)).expect("a log"));
            alive.borrow_mut().push(Arc::clone(&log));
            log
        })
        .await;
    }
}

#[tokio::test]
async fn a_log_of_one_segment_an_event_does_what_every_log_must() {
    for level in LEVELS {
        let disk = Disk::default();
        let options = Options::new(level).segment_bytes(64).upkeep(Duration::ZERO);
        let open = || Arc::new(DiskLog::on(Arc::new(disk.clone()), &options).expect("a log"));
        contract(&*open()).await;
        lasting(|| open()).await;
    }
}

#[test]
fn a_directory_has_one_log_at_a_time() {
    let folder = Folder::new("lock");
    let held = DiskLog::open(&folder.0, Durability::Always).expect("a log");
    let refused = DiskLog::open(&folder.0, Durability::Always).expect_err("it is in use").to_string();
    assert!(refused.contains("another process is writing it"), "{refused}");
    drop(held);
    DiskLog::open(&folder.0, Durability::Always).expect("a log that is free again");
}
