//! Conversations, for people: which threads a user has, and the turns of each, from the newest.
//!
//! A stream is for resuming: what of it is *retained* is bounded. What was said stays for longer, in a log that keeps
//! conversations: one that offers [`Conversations`]. Here is also what such logs have in common: the shape of the answers, and
//! what entries of a stream come to as threads and turns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockstep_model::run::Kind;
use lockstep_model::{Offset, RunId, UserId};

use super::deletions::Deletions;
use super::{Held, LogError, Written};
use crate::agent::history::Received;
use crate::agent::text_of;
use crate::payload::Record;
use crate::verify::BoxFuture;
use crate::wire::{self, Delta};

/// Bytes of a title that is taken from what a thread began with.
const MAX_TITLE: usize = 120;

/// Bytes up to which pieces of a part are one entry.
const MAX_JOINED: usize = 64 * 1024;

/// What a log keeps for longer than it is retained for resuming. No call needs a tenure: whether the user has an owner does not
/// matter. Each may be repeated, and may be dropped before it is answered; only [`Conversations::rename`] can take effect then.
///
/// Each answers with [`LogError::Fenced`] if the user is erased, and with [`LogError::Unavailable`] if the log cannot answer
/// now. Nothing of a thread that was deleted is in any answer.
pub trait Conversations: Send + Sync {
    /// Whether what is trimmed is kept, so that a reader who was away for longer than is retained is given it
    /// ([`Conversations::page`]). Otherwise that reader is told that it is gone. Always the same answer, at once.
    fn keeps(&self) -> bool {
        true
    }

    /// The user's threads, the one with the newest entry first, `limit` of them behind that place.
    fn threads<'a>(
        &'a self,
        user: UserId,
        before: Option<&'a ThreadPlace>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Threads, LogError>>;

    /// The newest `limit` turns of a thread that begin before that offset, whole, with what was trimmed.
    fn turns<'a>(
        &'a self,
        user: UserId,
        thread: Option<&'a str>,
        before: Option<Offset>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Turns, LogError>>;

    /// Gives a thread another title, or with `None` the one that it began with. False if there is no such thread.
    fn rename<'a>(
        &'a self,
        user: UserId,
        thread: Option<&'a str>,
        title: Option<&'a str>,
    ) -> BoxFuture<'a, Result<bool, LogError>>;

    /// What a user's stream has behind `after` and at or before `through`, oldest first: a page of about `bytes` bytes of
    /// content, and one entry at least if there is any. `through` is not before `after`, and at most the offset of an entry
    /// that was answered as appended.
    ///
    /// A reader that goes on at [`Page::through`], or at the offset of any entry on the page, misses nothing and gets nothing
    /// twice, but for what [`Page::trimmed`] says.
    fn page(&self, user: UserId, after: Offset, through: Offset, bytes: usize)
    -> BoxFuture<'_, Result<Page, LogError>>;

    /// At most `limit` threads that are to be deleted by this policy, when it is `now` (milliseconds since the Unix epoch), of
    /// any users. Once these are deleted, there may be more. A thread is never stale in which a run is open, or of which the
    /// log has not yet stored everything.
    fn stale(&self, retention: Retention, now: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Stale>, LogError>>;
}

/// What a user's stream has between two offsets.
#[derive(Clone, Debug)]
pub struct Page {
    /// What is behind `after` and at or before this offset cannot be given, for another reason than that its thread was
    /// deleted. `after` if nothing is missing.
    pub trimmed: Offset,
    /// What is behind `trimmed`, in order, of no thread that is deleted; the newest [`Kind::Deleted`] of each thread is among
    /// it. Pieces of a part between which there is nothing else may be one entry, which has the offset of the last.
    pub entries: Vec<(Offset, Written)>,
    /// Everything up to here is on this page: the `through` that was asked for, or the offset of the last entry if there may
    /// be more.
    pub through: Offset,
}

/// For how long, and how much of it, conversations are kept. What is `None` has no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Of a thread in which nothing has happened for longer.
    pub age: Option<Duration>,
    /// Messages of one user, in all threads together.
    pub turns: Option<u64>,
    /// Bytes of one user as they are stored, of all threads together.
    pub bytes: Option<u64>,
}

/// A thread that is to be deleted: it is older than may be, or its user has more than may be, and this is of those
/// in which nothing has happened for longest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Whose it is.
    pub user: UserId,
    /// Its name; `None` for the one of messages without a thread.
    pub thread: Option<Arc<str>>,
    /// Up to this offset of the user's stream, nothing has happened in it since it became stale.
    pub as_of: Offset,
}

/// A thread of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its name; `None` for the one of messages without a thread.
    pub name: Option<Arc<str>>,
    /// What its user calls it, or what it began with: the first line of its first message that has a text.
    pub title: Option<String>,
    /// When something happened in it last, in milliseconds since the Unix epoch.
    pub updated: u64,
    /// Whether a run is open in it.
    pub open: bool,
}

/// Where a page of threads begins: behind this one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ThreadPlace {
    /// [`Thread::updated`].
    pub updated: u64,
    /// [`Thread::name`]; empty for the one without.
    pub name: String,
}

/// Threads of a user, the one with the newest entry first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Threads {
    /// At most as many as were asked for.
    pub threads: Vec<Thread>,
    /// Where the next page begins, if there is one.
    pub next: Option<ThreadPlace>,
}

/// Turns of a thread: whole runs, in the order of the stream.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    /// What happened in them. Pieces of a part that follow each other are one entry, which has the offset of the last.
    pub entries: Vec<(Offset, Written)>,
    /// Where the first of them begins, if there are earlier ones: what to ask for as `before`.
    pub next: Option<Offset>,
}

impl Thread {
    pub(super) fn place(&self) -> ThreadPlace {
        ThreadPlace { updated: self.updated, name: self.name.as_deref().unwrap_or_default().to_owned() }
    }

    /// Takes in an entry of it.
    fn take(&mut self, kind: Kind, record: &Record) {
        self.updated = self.updated.max(record.at);
        if self.title.is_none() {
            self.title = title(kind, record);
        }
    }
}

/// The title that a thread has by this entry, if it is a message.
pub(super) fn title(kind: Kind, record: &Record) -> Option<String> {
    let Kind::Received(_) = kind else { return None };
    let received: Received<'_> = serde_json::from_str(record.data.get()).ok()?;
    let text = text_of(received.payload)?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let end = (0..=line.len().min(MAX_TITLE)).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
    Some(line[..end].to_owned())
}

/// The threads that these entries are of, without those that are deleted.
pub(super) fn threads_of(entries: &[(Offset, Written)]) -> Vec<Thread> {
    let mut threads: BTreeMap<Option<Arc<str>>, Thread> = BTreeMap::new();
    let mut open: BTreeMap<RunId, Option<Arc<str>>> = BTreeMap::new();
    let deletions = Deletions::of(entries);
    for (offset, Written { run, kind, record }) in entries {
        if deletions.covers(*offset, record.thread.as_deref()) {
            continue;
        }
        let name = record.thread.clone();
        let new = || Thread { name: name.clone(), title: None, updated: 0, open: false };
        threads.entry(name.clone()).or_insert_with(new).take(*kind, record);
        if kind.is_terminal() {
            open.remove(run);
        } else if let Kind::Received(_) = kind {
            open.insert(*run, name.clone());
        }
    }
    for name in open.values() {
        if let Some(thread) = threads.get_mut(name) {
            thread.open = true;
        }
    }
    threads.into_values().collect()
}

/// The first `limit` of these behind `before`, in their order.
pub(super) fn page_of(mut threads: Vec<Thread>, before: Option<&ThreadPlace>, limit: usize) -> Threads {
    threads.retain(|thread| before.is_none_or(|before| thread.place() < *before));
    threads.sort_unstable_by_key(|thread| core::cmp::Reverse(thread.place()));
    let more = threads.len() > limit;
    threads.truncate(limit);
    let next = threads.last().filter(|_| more).map(Thread::place);
    Threads { threads, next }
}

/// The runs of a thread among these entries, those that are gone excepted: where each begins, and what happened in it.
pub(super) fn runs_of(
    entries: Vec<(Offset, Written)>,
    thread: Option<&str>,
) -> BTreeMap<RunId, Vec<(Offset, Written)>> {
    let mut runs: BTreeMap<RunId, Vec<(Offset, Written)>> = BTreeMap::new();
    let deletions = Deletions::of(&entries);
    for (offset, entry) in entries {
        if entry.record.thread.as_deref() == thread && !deletions.covers(offset, thread) {
            runs.entry(entry.run).or_default().push((offset, entry));
        }
    }
    runs
}

/// Turns of a log that has no more than it holds.
pub(super) fn turns_of(held: Held, thread: Option<&str>, before: Option<Offset>, limit: usize) -> Turns {
    let mut runs: Vec<Vec<(Offset, Written)>> = runs_of(held.entries, thread).into_values().collect();
    runs.retain(|run| before.is_none_or(|before| begin(run) < before));
    runs.sort_unstable_by_key(|run| core::cmp::Reverse(begin(run)));
    let more = runs.len() > limit;
    runs.truncate(limit);
    let next = runs.last().filter(|_| more).map(|run| begin(run));
    Turns { entries: in_order(runs), next }
}

fn begin(run: &[(Offset, Written)]) -> Offset {
    run.first().map_or(Offset(0), |(offset, _)| *offset)
}

/// What happened in these runs, in the order of the stream.
pub(super) fn in_order(runs: impl IntoIterator<Item = Vec<(Offset, Written)>>) -> Vec<(Offset, Written)> {
    let entries = runs.into_iter().flat_map(joined).map(|joined| (joined.offset, joined.entry));
    let mut entries: Vec<(Offset, Written)> = entries.collect();
    entries.sort_unstable_by_key(|(offset, _)| *offset);
    entries
}

/// An entry that pieces were joined to.
pub(super) struct Joined {
    /// Where the last of them is.
    pub(super) offset: Offset,
    pub(super) entry: Written,
    /// Where each of them but the last is, and the bytes of its text. None if it is no piece, or a single one.
    pub(super) joints: Vec<(Offset, usize)>,
}

/// Of one run: pieces that follow each other become one, which has the place and the time of the last.
pub(super) fn joined(entries: Vec<(Offset, Written)>) -> Vec<Joined> {
    let mut whole: Vec<Joined> = Vec::new();
    let mut grown: Option<(String, String)> = None;
    let mut size = 0;
    for (offset, entry) in entries {
        let piece = match entry.kind {
            Kind::Delta(_) => Delta::of(&entry.record.data),
            Kind::Received(_)
            | Kind::Started
            | Kind::Thinking
            | Kind::ToolExecuting(_)
            | Kind::ToolCompleted(..)
            | Kind::Completed
            | Kind::Error(_)
            | Kind::Notice
            | Kind::Deleted => None,
        };
        let piece = piece.map(|piece| (piece.kind.into_owned(), piece.text.into_owned()));
        let before = core::mem::replace(&mut size, piece.as_ref().map_or(0, |(_, text)| text.len()));
        match (&mut grown, piece, whole.last_mut()) {
            (Some((kind, text)), Some((of, more)), Some(last))
                if last.entry.kind == entry.kind && *kind == of && text.len() + more.len() <= MAX_JOINED =>
            {
                text.push_str(&more);
                last.joints.push((last.offset, before));
                (last.offset, last.entry) = (offset, entry);
            }
            (_, piece, _) => {
                settle(&mut whole, grown.take());
                grown = piece;
                whole.push(Joined { offset, entry, joints: Vec::new() });
            }
        }
    }
    settle(&mut whole, grown);
    whole
}

/// The last entry gets the text that has grown up to it.
fn settle(whole: &mut [Joined], grown: Option<(String, String)>) {
    if let (Some((kind, text)), Some(Joined { entry: last, .. })) = (grown, whole.last_mut())
        && let Kind::Delta(part) = last.kind
    {
        let data = wire::data_of_piece(part, &kind, &text);
        last.record = Arc::new(Record::written(last.record.thread.clone(), data, last.record.at));
    }
}
