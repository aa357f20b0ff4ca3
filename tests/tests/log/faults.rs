//! A disk that is full, takes less than it is given, or fails a sync, while the log is open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep::log::disk::{DiskLog, Durability, Options};
use lockstep::log::{Log, LogError, Written};
use lockstep::testing::log::{content, own, written};
use lockstep_model::run::Kind;
use lockstep_model::{Offset, Tenure, UserId};

use crate::contract::LEVELS;
use crate::simulated::Disk;

/// How long a log may take to notice that its disk works again.
const PATIENCE: Duration = Duration::from_secs(20);

fn open(disk: &Disk, level: Durability) -> DiskLog {
    DiskLog::on(Arc::new(disk.clone()), &Options::new(level)).expect("a log")
}

fn entry(number: u64) -> Written {
    written(number, Kind::Thinking, &format!("entry {number}"))
}

/// Retries an append until it is taken, like the journal.
async fn until_taken(log: &DiskLog, user: UserId, tenure: Tenure, after: Offset, batch: Vec<Written>) -> Vec<Offset> {
    let began = Instant::now();
    loop {
        match log.append(user, tenure, after, batch.clone()).await {
            Ok(offsets) => return offsets,
            Err(LogError::Unavailable(_)) => assert!(began.elapsed() < PATIENCE, "the log does not come back"),
            Err(error) => panic!("{error}"),
        }
        tokio::task::yield_now().await;
    }
}

async fn holds(log: &DiskLog, user: UserId, numbers: std::ops::RangeInclusive<u64>) {
    let tenure = own(log, user).await;
    let held = log.restore(user, tenure).await.expect("what it holds");
    let found: Vec<_> = held.entries.iter().map(|(offset, entry)| (offset.0, content(entry))).collect();
    let wanted: Vec<_> = numbers.map(|number| (number, content(&entry(number)))).collect();
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn a_disk_that_was_full_is_written_again_without_a_restart_at_each_level() {
    for level in LEVELS {
        for room in [0, 1, 23, 24, 25, 60, 100] {
            let disk = Disk::default();
            let log = open(&disk, level);
            let user = log.user("ada").await.expect("a number");
            let tenure = own(&log, user).await;
            log.append(user, tenure, Offset(0), vec![entry(1)]).await.expect("appended");
            disk.space(Some(room));
            let mut full = false;
            let mut head = 1;
            while !full {
                match log.append(user, tenure, Offset(head), vec![entry(head + 1)]).await {
                    Ok(offsets) => head = offsets[0].0,
                    Err(LogError::Unavailable(why)) => full = !why.is_empty(),
                    Err(error) => panic!("{error}"),
                }
            }
            let refused = log.probe().await.expect_err("a full disk is not healthy");
            assert!(matches!(refused, LogError::Unavailable(_)), "{refused}");
            disk.space(None);
            let offsets = until_taken(&log, user, tenure, Offset(head), vec![entry(head + 1), entry(head + 2)]).await;
            assert_eq!(offsets, [Offset(head + 1), Offset(head + 2)]);
            log.probe().await.expect("healthy again");
            holds(&log, user, 1..=head + 2).await;
            let killed = disk.after_kill();
            holds(&open(&killed, level), user, 1..=head + 2).await;
            drop(log);
            holds(&open(&disk, level), user, 1..=head + 2).await;
        }
    }
}

#[tokio::test]
async fn what_a_failed_sync_left_behind_is_written_again_elsewhere() {
    let disk = Disk::default();
    let log = open(&disk, Durability::Always);
    let user = log.user("ada").await.expect("a number");
    let tenure = own(&log, user).await;
    log.append(user, tenure, Offset(0), vec![entry(1)]).await.expect("appended");
    disk.fail_syncs(1);
    let refused = log.append(user, tenure, Offset(1), vec![entry(2)]).await;
    assert!(matches!(refused, Err(LogError::Unavailable(_))), "{refused:?}");
    assert_eq!(until_taken(&log, user, tenure, Offset(1), vec![entry(2)]).await, [Offset(2)]);
    // After a power cut, answered data is on the platter, whatever the first sync did.
    for dice in 0..3 {
        let restarted = disk.after_power_cut(&mut |below| dice % below);
        holds(&open(&restarted, Durability::Always), user, 1..=2).await;
    }
}

#[tokio::test]
async fn data_answered_before_a_failed_sync_is_durable_after_the_next() {
    let level = Durability::Interval(Duration::from_secs(3_600));
    let disk = Disk::default();
    let log = open(&disk, level);
    let user = log.user("ada").await.expect("a number");
    let tenure = own(&log, user).await;
    for number in 1..=5 {
        log.append(user, tenure, Offset(number - 1), vec![entry(number)]).await.expect("appended");
    }
    // An erasure is synced at each level, and its sync is the one that fails.
    let gone = log.user("gone").await.expect("a number");
    disk.fail_syncs(1);
    log.erase(gone).await.expect_err("its sync fails");
    until_taken(&log, user, tenure, Offset(5), vec![entry(6)]).await;
    let syncs = disk.syncs();
    assert!(syncs > 0, "the next segment was synced");
    let restarted = disk.after_power_cut(&mut |_| 0);
    let log = open(&restarted, level);
    let next = own(&log, user).await;
    let held = log.restore(user, next).await.expect("what it holds");
    assert!(held.entries.len() >= 5, "what was answered before the failure was written again: {held:?}");
}

#[tokio::test]
async fn a_disk_that_takes_a_byte_at_a_time_is_written_whole() {
    let disk = Disk::default();
    disk.short_writes(Some(1));
    let log = open(&disk, Durability::Always);
    let user = log.user("ada").await.expect("a number");
    let tenure = own(&log, user).await;
    for number in 1..=3 {
        log.append(user, tenure, Offset(number - 1), vec![entry(number)]).await.expect("appended");
    }
    holds(&log, user, 1..=3).await;
    let killed = disk.after_kill();
    holds(&open(&killed, Durability::Always), user, 1..=3).await;
}

#[tokio::test]
async fn each_level_syncs_as_often_as_it_says() {
    for (level, least, most) in [
        (Durability::Always, 40, usize::MAX),
        (Durability::Interval(Duration::from_secs(3_600)), 0, 8),
        (Durability::Never, 0, 8),
    ] {
        let disk = Disk::default();
        let log = open(&disk, level);
        let user = log.user("ada").await.expect("a number");
        let tenure = own(&log, user).await;
        let before = disk.syncs();
        for number in 1..=40 {
            log.append(user, tenure, Offset(number - 1), vec![entry(number)]).await.expect("appended");
        }
        let syncs = disk.syncs() - before;
        assert!((least..=most).contains(&syncs), "{level:?}: {syncs} syncs for 40 appends");
    }
    let disk = Disk::default();
    let log = open(&disk, Durability::Interval(Duration::from_millis(1)));
    let user = log.user("ada").await.expect("a number");
    let before = disk.syncs();
    let tenure = own(&log, user).await;
    log.append(user, tenure, Offset(0), vec![entry(1)]).await.expect("appended");
    // Even without further appends.
    let began = Instant::now();
    while disk.syncs() == before {
        assert!(began.elapsed() < PATIENCE, "the interval has passed without a sync");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_was_erased_leaves_the_disk() {
    let disk = Disk::default();
    let options = Options::new(Durability::Always).upkeep(Duration::ZERO);
    let log = DiskLog::on(Arc::new(disk.clone()), &options).expect("a log");
    let (ada, bob) = (log.user("ada").await.expect("a number"), log.user("bob").await.expect("a number"));
    let (of_ada, of_bob) = (own(&log, ada).await, own(&log, bob).await);
    log.append(ada, of_ada, Offset(0), vec![written(1, Kind::Thinking, "a secret of ada")]).await.expect("appended");
    log.append(bob, of_bob, Offset(0), vec![entry(1)]).await.expect("appended");
    let secret =
        |disk: &Disk| disk.files().values().any(|bytes| bytes.windows(15).any(|text| text == b"a secret of ada"));
    assert!(secret(&disk));
    log.erase(ada).await.expect("erased");
    let began = Instant::now();
    while secret(&disk) {
        assert!(began.elapsed() < PATIENCE, "what was erased is still in a file");
        tokio::task::yield_now().await;
    }
    holds(&log, bob, 1..=1).await;
}

#[tokio::test]
async fn what_was_trimmed_leaves_the_disk_and_opening_again_and_again_leaves_few_files() {
    let disk = Disk::default();
    let options = Options::new(Durability::Never).upkeep(Duration::ZERO).segment_bytes(4_096);
    let mut head = 0;
    for _ in 0..30 {
        let log = DiskLog::on(Arc::new(disk.clone()), &options).expect("a log");
        let user = log.user("ada").await.expect("a number");
        let tenure = own(&log, user).await;
        for _ in 0..20 {
            let offsets = log.append(user, tenure, Offset(head), vec![entry(head + 1)]).await.expect("appended");
            head = offsets[0].0;
        }
        log.trim(user, tenure, Offset(head - 10)).await.expect("trimmed");
    }
    let log = DiskLog::on(Arc::new(disk.clone()), &options).expect("a log");
    let user = log.user("ada").await.expect("a number");
    let began = Instant::now();
    while disk.files().len() > 9 {
        assert!(began.elapsed() < PATIENCE, "{:?}", disk.files().keys());
        tokio::task::yield_now().await;
    }
    holds(&log, user, head - 9..=head).await;
}
