//! The contract of logs, as tests for your own implementation: [`contract`] for any log, [`lasting`] for a log that
//! outlives its process, [`members`] for a log that several processes share.
//!
//! They panic at the first violation. They use subjects of their own, so a log may hold other users. The log must be
//! healthy: an answer of [`LogError::Unavailable`] fails the test.

use std::sync::Arc;

use lockstep_model::run::{Kind, Received, Schedule, ToolEnd};
use lockstep_model::{Incarnation, MessageId, Offset, RunId, Tenure, ThreadId, ToolId, UserId};
use serde_json::value::RawValue;

use crate::log::{Acquired, Conversations, Held, Log, LogError, Written};
use crate::payload::Record;

mod members;
mod pages;

pub use self::members::members;

/// The process that these tests stand for. A log that several processes share must know it as a member.
pub const PROCESS: Incarnation = Incarnation(1);

/// Builds an event of a run; `text` is its content.
#[must_use]
pub fn written(run: u64, kind: Kind, text: &str) -> Written {
    let data = serde_json::value::to_raw_value(&serde_json::json!({ "text": text })).expect("strings are JSON");
    let thread = (run % 2 == 1).then(|| Arc::from(format!("thread of {run}")));
    Written { run: RunId(run), kind, record: Arc::new(Record::written(thread, data, 1_790_000_000_000 + run)) }
}

/// Returns everything that distinguishes an event.
#[must_use]
pub fn content(entry: &Written) -> (RunId, Kind, Option<Arc<str>>, u64, String) {
    let Record { thread, data, .. } = &*entry.record;
    let data: &RawValue = data;
    (entry.run, entry.kind, thread.clone(), entry.record.at(), data.get().to_owned())
}

/// Events of every kind that a run has.
fn run(number: u64) -> Vec<Written> {
    let schedule = if number.is_multiple_of(3) { Schedule::Queued } else { Schedule::Immediate };
    let replaces = number.is_multiple_of(2).then_some(Offset(number));
    let kinds = [
        Kind::Received(Received { message: MessageId(number), thread: ThreadId(number % 2), schedule, replaces }),
        Kind::Started,
        Kind::Thinking,
        Kind::ToolExecuting(ToolId(1)),
        Kind::ToolCompleted(ToolId(1), ToolEnd::Success),
        Kind::Completed,
    ];
    kinds
        .into_iter()
        .enumerate()
        .map(|(place, kind)| written(number, kind, &format!("{place} of {number} \u{2713}")))
        .collect()
}

/// The events of a run, in the given thread whatever the run's number.
fn run_in(thread: Option<&str>, number: u64) -> Vec<Written> {
    let in_it = |entry: Written| {
        let data = entry.record.data.clone();
        Written { record: Arc::new(Record::written(thread.map(Arc::from), data, entry.record.at())), ..entry }
    };
    run(number).into_iter().map(in_it).collect()
}

/// Builds the deletion of a thread.
#[must_use]
pub fn deletion(number: u64, thread: Option<&str>) -> Written {
    let data = serde_json::value::to_raw_value(&serde_json::json!({})).expect("an object is JSON");
    let record = Arc::new(Record::written(thread.map(Arc::from), data, 1_790_000_000_000 + number));
    Written { run: RunId(number), kind: Kind::Deleted, record }
}

/// Makes the caller the user's owner.
///
/// # Panics
///
/// If the log refuses.
pub async fn own(log: &dyn Log, user: UserId) -> Tenure {
    match log.acquire(user, PROCESS).await.expect("an owner") {
        Acquired::Owner(tenure) => tenure,
        Acquired::Elsewhere(owner) => panic!("the user has an owner in another process: {owner:?}"),
    }
}

async fn held(log: &dyn Log, user: UserId, tenure: Tenure) -> Held {
    let held = log.restore(user, tenure).await.expect("what the log holds");
    let mut last = held.trimmed;
    for (offset, entry) in &held.entries {
        assert!(*offset > last, "offsets increase behind what is trimmed");
        last = *offset;
        let message = if let Kind::Received(received) = entry.kind { Some(received.message) } else { None };
        assert!(message.is_none_or(|message| !held.past.contains(&message)), "only what is not given back is past");
    }
    held
}

fn is(held: &Held, offsets: &[Offset], entries: &[Written]) {
    let found: Vec<_> = held.entries.iter().map(|(offset, entry)| (*offset, content(entry))).collect();
    let wanted: Vec<_> = offsets.iter().copied().zip(entries.iter().map(content)).collect();
    assert_eq!(found, wanted, "what was appended is given back as it was");
}

fn fenced<T: core::fmt::Debug>(answer: Result<T, LogError>) {
    assert_eq!(answer.map(|_| ()).expect_err("an earlier owner is refused"), LogError::Fenced);
}

fn broken<T: core::fmt::Debug>(answer: Result<T, LogError>) {
    let error = answer.map(|_| ()).expect_err("what no owner can ask is refused");
    assert!(matches!(error, LogError::Broken(_)), "{error}");
}

/// Tests what every log must do.
///
/// # Panics
///
/// If the log violates the contract.
pub async fn contract(log: &dyn Log) {
    numbers(log).await;
    appends(log).await;
    repeats(log).await;
    owners(log).await;
    trims(log).await;
    reads(log).await;
    deletions(log).await;
    erasures(log).await;
    pages::pages(log).await;
    log.probe().await.expect("a healthy log answers");
}

async fn numbers(log: &dyn Log) {
    let (ada, bob) = (log.user("contract: ada").await, log.user("contract: b\u{f6}b").await);
    let (ada, bob) = (ada.expect("a number"), bob.expect("a number"));
    assert_ne!(ada, bob, "two subjects have two numbers");
    assert_eq!(log.user("contract: ada").await, Ok(ada), "a number is kept");
    assert_eq!(&*log.subject(ada).await.expect("a name"), "contract: ada");
    assert_eq!(&*log.subject(bob).await.expect("a name"), "contract: b\u{f6}b");
}

async fn appends(log: &dyn Log) {
    let (one, two) =
        (log.user("contract: one").await.expect("a number"), log.user("contract: two").await.expect("a number"));
    let (first, second) = (own(log, one).await, own(log, two).await);
    is(&held(log, one, first).await, &[], &[]);
    let (a, b) = (run(1), run(2));
    let of_a = log.append(one, first, Offset(0), a.clone()).await.expect("appended");
    let of_b = log.append(two, second, Offset(0), b.clone()).await.expect("appended");
    assert!(of_a[0] > Offset(0), "no entry is at zero");
    let more = log.append(one, first, of_a[5], run(3)).await.expect("appended");
    let (offsets, entries) = ([of_a, more].concat(), [a, run(3)].concat());
    is(&held(log, one, first).await, &offsets, &entries);
    is(&held(log, two, second).await, &of_b, &b);
}

async fn repeats(log: &dyn Log) {
    let user = log.user("contract: repeats").await.expect("a number");
    let tenure = own(log, user).await;
    let batch = run(5);
    let offsets = log.append(user, tenure, Offset(0), batch[..3].to_vec()).await.expect("appended");
    // The answer is lost: the same batch comes again, followed by more.
    assert_eq!(log.append(user, tenure, Offset(0), batch[..3].to_vec()).await, Ok(offsets.clone()));
    let all = log.append(user, tenure, Offset(0), batch.clone()).await.expect("appended");
    assert_eq!(all[..3], offsets, "what is there keeps its offsets");
    assert_eq!(log.append(user, tenure, all[5], Vec::new()).await, Ok(Vec::new()), "an empty batch confirms");
    assert_eq!(log.append(user, tenure, all[1], Vec::new()).await, Ok(Vec::new()), "whatever is there already");
    is(&held(log, user, tenure).await, &all, &batch);
    broken(log.append(user, tenure, Offset(all[5].0 + 1), run(6)).await);
    broken(log.append(user, tenure, all[1], batch[..2].to_vec()).await);
    let next = own(log, user).await;
    // Entries of an earlier owner do not count as the same.
    broken(log.append(user, next, all[3], batch[4..].to_vec()).await);
    is(&held(log, user, next).await, &all, &batch);
}

async fn owners(log: &dyn Log) {
    let user = log.user("contract: owners").await.expect("a number");
    let (first, second) = (own(log, user).await, own(log, user).await);
    assert!(second.token > first.token, "each owner has a generation of its own");
    fenced(log.append(user, first, Offset(0), run(1)).await);
    fenced(log.append(user, first, Offset(0), Vec::new()).await);
    fenced(log.restore(user, first).await);
    fenced(log.trim(user, first, Offset(1)).await);
    fenced(log.read(user, first, Offset(1)).await);
    fenced(log.release(user, first).await);
    let offsets = log.append(user, second, Offset(0), run(2)).await.expect("the newest owner appends");
    log.release(user, second).await.expect("released");
    fenced(log.append(user, second, offsets[5], run(3)).await);
    let third = own(log, user).await;
    assert!(third.token > second.token);
    is(&held(log, user, third).await, &offsets, &run(2));
}

async fn trims(log: &dyn Log) {
    let user = log.user("contract: trims").await.expect("a number");
    let tenure = own(log, user).await;
    let offsets = log.append(user, tenure, Offset(0), run(1)).await.expect("appended");
    log.trim(user, tenure, offsets[2]).await.expect("trimmed");
    let found = held(log, user, tenure).await;
    assert!(found.trimmed <= offsets[2], "no more is forgotten than may be");
    let kept = offsets.iter().position(|offset| *offset > found.trimmed).expect("the rest");
    is(&found, &offsets[kept..], &run(1)[kept..]);
    let past: &[MessageId] = if found.trimmed < offsets[0] { &[] } else { &[MessageId(1)] };
    assert!(found.past.is_empty() || found.past == past, "it knows the messages that it has trimmed, or none");
    log.trim(user, tenure, offsets[5]).await.expect("trimmed");
    let more = log.append(user, tenure, offsets[5], run(2)).await.expect("appended");
    assert!(more[0] > offsets[5], "the offset of what was trimmed is not given again");
    log.trim(user, tenure, offsets[0]).await.expect("an older trim changes nothing");
    let found = held(log, user, tenure).await;
    is(&Held { entries: found.entries[found.entries.len() - 6..].to_vec(), ..found }, &more, &run(2));
}

async fn reads(log: &dyn Log) {
    let user = log.user("contract: reads").await.expect("a number");
    let tenure = own(log, user).await;
    assert_eq!(held(log, user, tenure).await.read, Offset(0));
    let offsets = log.append(user, tenure, Offset(0), run(1)).await.expect("appended");
    log.read(user, tenure, offsets[3]).await.expect("noted");
    log.read(user, tenure, offsets[1]).await.expect("noted");
    assert_eq!(held(log, user, tenure).await.read, offsets[3], "the highest is kept");
}

/// A user's entries, inside and outside a thread that is deleted.
struct Said {
    /// Entries outside the deleted thread.
    kept: Vec<(Offset, Written)>,
    /// Entries of the deleted thread.
    gone: Vec<(Offset, Written)>,
}

impl Said {
    /// Appends a run in another thread, a notice without a thread, and a run in this thread, whose last entries share a
    /// batch with the deletion. That batch is appended twice.
    async fn begin(log: &dyn Log, user: UserId, tenure: Tenure, thread: Option<&str>) -> Self {
        let mut kept = run_in(Some("another"), 1);
        kept.push(written(2, Kind::Notice, "for all"));
        let gone = run_in(thread, 3);
        let before = [&kept[..], &gone[..4]].concat();
        let first = log.append(user, tenure, Offset(0), before).await.expect("appended");
        let batch = [&gone[4..], &[deletion(4, thread)]].concat();
        let after = *first.last().expect("some");
        let second = log.append(user, tenure, after, batch.clone()).await.expect("appended");
        assert_eq!(log.append(user, tenure, after, batch.clone()).await, Ok(second.clone()), "a repetition is known");
        // The answer is lost, and the same thread begins again.
        let batch = [batch, run_in(thread, 5)].concat();
        let third = log.append(user, tenure, after, batch.clone()).await.expect("appended");
        assert_eq!(third[..3], second, "what is there keeps its offsets, though a part of it is gone");
        let gone_at = first[kept.len()..].iter().chain(&third[..2]).copied();
        let kept_at = first[..kept.len()].iter().chain(&third[2..]).copied();
        let kept = kept_at.clone().zip(kept.into_iter().chain(batch.into_iter().skip(2))).collect();
        Self { kept, gone: gone_at.zip(gone).collect() }
    }

    /// Asserts that the log has what is kept, and at least the message ids of what is gone.
    async fn check(&self, log: &dyn Log, user: UserId, tenure: Tenure, thread: Option<&str>) {
        let mut found = held(log, user, tenure).await;
        let entry = |(offset, entry): &(Offset, Written)| (*offset, content(entry));
        let gone: Vec<_> = self.gone.iter().map(entry).collect();
        let known = found.past.contains(&MessageId(3)) || found.entries.iter().map(entry).any(|found| found == gone[0]);
        assert!(known, "the message of a deleted thread does not run again");
        found.entries.retain(|found| !gone.contains(&entry(found)));
        let wanted: Vec<_> = self.kept.iter().map(entry).collect();
        assert_eq!(found.entries.iter().map(entry).collect::<Vec<_>>(), wanted, "what is in no deleted thread is kept");
        let Some(conversations) = log.conversations() else { return };
        let turns = conversations.turns(user, thread, None, 10).await.expect("turns");
        let of_run = |run| turns.entries.iter().filter(|(_, entry)| entry.run == run).count();
        assert_eq!(
            (of_run(RunId(3)), of_run(RunId(4)), of_run(RunId(5))),
            (0, 0, 6),
            "only the new conversation is read"
        );
        let mut names = names(conversations, user, thread).await;
        names.sort_unstable();
        let mut wanted = [Some("another"), thread].map(|name| name.map(Arc::from));
        wanted.sort_unstable();
        assert_eq!(names, wanted, "there are the other thread and the new one");
    }
}

/// The names of the user's threads, except the one in which notices without a thread are shown.
async fn names(log: &dyn Conversations, user: UserId, thread: Option<&str>) -> Vec<Option<Arc<str>>> {
    let threads = log.threads(user, None, 10).await.expect("threads").threads;
    threads.into_iter().map(|thread| thread.name).filter(|name| name.is_some() || thread.is_none()).collect()
}

async fn deletions(log: &dyn Log) {
    for thread in [None, Some("deleted")] {
        let user = log.user(&format!("contract: deletions in {thread:?}")).await.expect("a number");
        let tenure = own(log, user).await;
        let mut said = Said::begin(log, user, tenure, thread).await;
        said.check(log, user, tenure, thread).await;
        let tenure = own(log, user).await;
        said.check(log, user, tenure, thread).await;
        // If a thread is deleted again, neither its content nor its title is left.
        if let Some(conversations) = log.conversations() {
            assert_eq!(conversations.rename(user, thread, Some("a name")).await, Ok(true));
        }
        let after = said.kept.last().map_or(Offset(0), |(offset, _)| *offset);
        let last = log.append(user, tenure, after, vec![deletion(6, thread)]).await.expect("appended");
        let (gone, kept) = said
            .kept
            .into_iter()
            .partition(|(_, entry)| entry.record.thread.as_deref() == thread && entry.kind != Kind::Notice);
        said = Said { kept, gone };
        let found = held(log, user, tenure).await;
        let known = |message| {
            let received = |entry: &Written| matches!(entry.kind, Kind::Received(known) if known.message == message);
            found.past.contains(&message) || found.entries.iter().any(|(_, entry)| received(entry))
        };
        assert!(known(MessageId(3)) && known(MessageId(5)) && known(MessageId(1)));
        let is_kept = |(offset, _): &(Offset, Written)| found.entries.iter().any(|(found, _)| found == offset);
        assert!(
            said.kept.iter().all(is_kept) && found.entries.last().map(|(offset, _)| *offset) == last.first().copied()
        );
        let Some(conversations) = log.conversations() else { continue };
        assert_eq!(
            names(conversations, user, thread).await,
            [Some("another".into())],
            "a thread that is deleted is none"
        );
        assert_eq!(conversations.rename(user, thread, Some("a name")).await, Ok(false));
        let turns = conversations.turns(user, thread, None, 10).await.expect("turns");
        assert_eq!((turns.entries.len(), turns.next), (0, None));
        assert_eq!(conversations.rename(user, Some("another"), Some("a name")).await, Ok(true));
        log.append(user, tenure, last[0], run_in(thread, 7)).await.expect("appended");
        let threads = conversations.threads(user, None, 10).await.expect("threads").threads;
        let again = threads.into_iter().find(|found| found.name.as_deref() == thread).expect("it is there again");
        assert_eq!(again.title, None, "it has not the name that the one before was given");
    }
}

async fn erasures(log: &dyn Log) {
    let user = log.user("contract: erased").await.expect("a number");
    let tenure = own(log, user).await;
    let offsets = log.append(user, tenure, Offset(0), run(1)).await.expect("appended");
    log.erase(user).await.expect("erased");
    log.erase(user).await.expect("erased again");
    fenced(log.restore(user, tenure).await);
    fenced(log.append(user, tenure, offsets[5], run(2)).await);
    fenced(log.acquire(user, PROCESS).await);
    log.subject(user).await.expect_err("its name is gone, too");
    let again = log.user("contract: erased").await.expect("a number");
    assert!(again > user, "the number is retired");
    let tenure = own(log, again).await;
    is(&held(log, again, tenure).await, &[], &[]);
    log.append(again, tenure, Offset(0), run(3)).await.expect("appended");
}

/// Tests a log that outlives its process. `open` opens the same log; it is called again after the first result was
/// dropped.
///
/// # Panics
///
/// If the log violates the contract.
pub async fn lasting(open: impl Fn() -> Arc<dyn Log>) {
    let (kept, gone, trimmed, deleted, none);
    let (tenure, first, second, said);
    {
        let opened = open();
        let log = &*opened;
        kept = log.user("lasting: kept").await.expect("a number");
        gone = log.user("lasting: gone").await.expect("a number");
        trimmed = log.user("lasting: trimmed").await.expect("a number");
        deleted = log.user("lasting: deleted").await.expect("a number");
        none = log.user("lasting: silent").await.expect("a number");
        tenure = own(log, kept).await;
        first = log.append(kept, tenure, Offset(0), run(1)).await.expect("appended");
        log.read(kept, tenure, first[2]).await.expect("noted");
        let of_gone = own(log, gone).await;
        log.append(gone, of_gone, Offset(0), run(7)).await.expect("appended");
        log.erase(gone).await.expect("erased");
        let of_trimmed = own(log, trimmed).await;
        second = log.append(trimmed, of_trimmed, Offset(0), run(9)).await.expect("appended");
        log.trim(trimmed, of_trimmed, second[5]).await.expect("trimmed");
        let of_deleted = own(log, deleted).await;
        said = Said::begin(log, deleted, of_deleted, Some("deleted")).await;
    }
    let opened = open();
    let log = &*opened;
    let newcomer = log.user("lasting: newcomer").await.expect("a number");
    assert!(newcomer > none, "a number that was given is not given to another after a restart");
    let of_newcomer = own(log, newcomer).await;
    is(&held(log, newcomer, of_newcomer).await, &[], &[]);
    assert_eq!(log.user("lasting: kept").await, Ok(kept), "a number is kept over a restart");
    // A log that several processes share does not know that this one has ended.
    if log.members().is_none() {
        fenced(log.restore(kept, tenure).await);
    }
    let again = own(log, kept).await;
    fenced(log.restore(kept, tenure).await);
    assert_eq!(again.epoch, tenure.epoch, "nothing was lost, so the epoch is the same");
    assert!(again.token > tenure.token, "a restart gives no generation again");
    let found = held(log, kept, again).await;
    is(&found, &first, &run(1));
    assert!(found.read <= first[2], "no reader has come further than it was said");
    let more = log.append(kept, again, first[5], run(2)).await.expect("appended");
    is(&held(log, kept, again).await, &[first, more].concat(), &[run(1), run(2)].concat());
    fenced(log.acquire(gone, PROCESS).await);
    let back = log.user("lasting: gone").await.expect("a number");
    assert!(back > gone && back != newcomer, "an erased number is not given again after a restart");
    let of_back = own(log, back).await;
    is(&held(log, back, of_back).await, &[], &[]);
    let of_trimmed = own(log, trimmed).await;
    let found = held(log, trimmed, of_trimmed).await;
    let head = found.entries.last().map_or(found.trimmed, |(offset, _)| *offset);
    assert_eq!(head, second[5], "the head is kept though everything is trimmed");
    let more = log.append(trimmed, of_trimmed, head, run(10)).await.expect("appended");
    assert!(more[0] > second[5], "no offset is given again after a restart");
    let of_deleted = own(log, deleted).await;
    said.check(log, deleted, of_deleted, Some("deleted")).await;
}
