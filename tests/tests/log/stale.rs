//! Which threads a retention policy deletes.

use std::sync::Arc;
use std::time::Duration;

use lockstep::log::conversations::{Retention, Stale};
use lockstep::log::{Conversations, Log, LogError, MemoryLog, Written};
use lockstep::payload::Record;
use lockstep::testing::log::{deletion, own};
use lockstep_model::run::{Kind, Received};
use lockstep_model::{MessageId, Offset, ThreadId, UserId};
use serde_json::json;

use crate::contract::{Folder, trimmed};
use crate::kept::{EAGER, entry, kept};
use crate::pages::{SLOW, open};

/// A run in a thread, at a given time.
fn said(number: u64, thread: &str, at: u64, ends: bool) -> Vec<Written> {
    let received = Kind::Received(Received::immediate(MessageId(number), ThreadId(0)));
    let mut run = vec![entry(number, thread, received, &json!({ "payload": { "text": "x".repeat(1_000) } }))];
    run.extend(ends.then(|| entry(number, thread, Kind::Completed, &json!({}))));
    for entry in &mut run {
        let record = Record::written(entry.record.thread.clone(), entry.record.data.clone(), at);
        entry.record = Arc::new(record);
    }
    run
}

/// The names of this user's stale threads, in order.
fn names(stale: Result<Vec<Stale>, LogError>, user: UserId, head: Offset) -> Vec<String> {
    let of_user = stale.expect("an answer").into_iter().filter(|stale| stale.user == user);
    of_user
        .map(|stale| {
            assert_eq!(stale.as_of, head);
            stale.thread.as_deref().unwrap_or_default().to_owned()
        })
        .collect()
}

#[tokio::test]
async fn what_is_stale_is_too_old_or_too_much_and_in_no_open_run() {
    let folder = Folder::new("pages-stale");
    let (disk, memory) = (open(&folder, &EAGER), MemoryLog::new());
    for log in [&disk as &dyn Log, &memory] {
        let (user, other) = (log.user("ada").await.expect("a user"), log.user("bob").await.expect("a user"));
        let (tenure, of_other) = (own(log, user).await, own(log, other).await);
        // "" is the oldest; "open" is older still, but has an open run.
        let threads =
            [("open", 1_000, false), ("", 2_000, true), ("a", 3_000, true), ("b", 4_000, true), ("a", 5_000, true)];
        let runs = (1..).zip(threads);
        // These entries are trimmed below, so that everything is copied.
        let mut batch: Vec<Written> = (30..33).map(|number| deletion(number, Some("none"))).collect();
        batch.extend(runs.flat_map(|(number, (thread, at, ends))| said(number, thread, at, ends)));
        let head = *log.append(user, tenure, Offset(0), batch).await.expect("appended").last().expect("some");
        let of_bob = log.append(other, of_other, Offset(0), said(9, "t", 1_500, true)).await.expect("appended");
        trimmed(log, other, of_other, Offset(1)).await;
        trimmed(log, user, tenure, Offset(1)).await;
        let nothing = Retention::default();
        let age = |millis| nothing.age(Duration::from_millis(millis));
        let kept = kept(log);
        assert_eq!(kept.stale(nothing, u64::MAX, 9).await, Ok(Vec::new()), "all is kept for ever");
        assert_eq!(names(kept.stale(age(100), 2_100, 9).await, user, head), [""; 0], "not longer than that");
        assert_eq!(names(kept.stale(age(100), 2_101, 9).await, user, head), [""]);
        assert_eq!(names(kept.stale(age(100), 4_101, 9).await, user, head), ["", "b"]);
        assert_eq!(names(kept.stale(age(100), 9_000, 9).await, user, head), ["", "b", "a"]);
        assert_eq!(names(kept.stale(age(100), 9_000, 9).await, other, of_bob[1]), ["t"]);
        assert_eq!(kept.stale(age(100), 9_000, 2).await.expect("an answer").len(), 2);
        assert_eq!(names(kept.stale(age(1 << 60), 9_000, 9).await, user, head), [""; 0]);
        let turns = |most| nothing.turns(most);
        for (most, stale) in [(5, &[][..]), (4, &[""]), (3, &["", "b"]), (2, &["", "b", "a"]), (0, &["", "b", "a"])] {
            assert_eq!(names(kept.stale(turns(most), 9_000, 9).await, user, head), stale, "of {most} turns");
        }
        assert_eq!(names(kept.stale(turns(1), 9_000, 9).await, other, of_bob[1]), [""; 0]);
        let bytes = |most| nothing.bytes(most);
        assert_eq!(names(kept.stale(bytes(1 << 20), 9_000, 9).await, user, head), [""; 0]);
        assert_eq!(names(kept.stale(bytes(1), 9_000, 9).await, user, head), ["", "b", "a"]);
        // Deleted threads, and those that only the log has, are not listed; the others count for less.
        let more = [vec![deletion(20, Some("b"))], said(21, "", 9_000, true)].concat();
        let head = *log.append(user, tenure, head, more).await.expect("appended").last().expect("some");
        trimmed(log, user, tenure, Offset(2)).await;
        let found = names(kept.stale(turns(4), 9_500, 9).await, user, head);
        assert_eq!(found, ["a"], "five are left, and the run that is open is older");
        let ended = entry(1, "open", Kind::Completed, &json!({}));
        let head = *log.append(user, tenure, head, vec![ended]).await.expect("appended").last().expect("some");
        trimmed(log, user, tenure, Offset(3)).await;
        assert_eq!(names(kept.stale(turns(0), 9_000, 9).await, user, head).len(), 3);
        log.erase(user).await.expect("erased");
        assert_eq!(names(kept.stale(turns(0), 9_000, 9).await, user, head), [""; 0]);
    }
}

/// Entries that the log has not stored yet may belong to any thread.
#[tokio::test]
async fn a_thread_of_which_something_was_not_copied_is_not_stale() {
    let folder = Folder::new("pages-fresh");
    let log = open(&folder, &SLOW);
    let user = log.user("ada").await.expect("a user");
    let tenure = own(&log, user).await;
    let all = Retention::default().age(Duration::ZERO);
    let copied = [said(1, "a", 1_000, true), said(2, "b", 2_000, true)].concat();
    let head = *log.append(user, tenure, Offset(0), copied).await.expect("appended").last().expect("some");
    assert_eq!(log.stale(all, 9_000, 9).await, Ok(Vec::new()));
    assert_eq!(log.rename(user, Some("none"), None).await, Ok(false));
    assert_eq!(names(log.stale(all, 9_000, 9).await, user, head), ["a", "b"]);
    let head =
        *log.append(user, tenure, head, said(3, "a", 3_000, true)).await.expect("appended").last().expect("some");
    assert_eq!(names(log.stale(all, 9_000, 9).await, user, head), ["b"]);
    let head = log.append(user, tenure, head, vec![deletion(4, Some("b"))]).await.expect("appended")[0];
    assert_eq!(names(log.stale(all, 9_000, 9).await, user, head), [""; 0]);
}
