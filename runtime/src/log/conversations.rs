//! Conversations: which threads a user has, and the turns of each, from the newest.
//!
//! A stream exists for resuming, so what is *retained* of it is bounded. A log that keeps conversations, one that
//! offers [`Conversations`], keeps content for longer. This module also contains what such logs share: the types of the
//! answers, and the functions that turn a stream's entries into threads and turns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockstep_model::run::Kind;
use lockstep_model::{Offset, RunId, UserId};

use super::deletions::Deletions;
use super::{Held, LogError, Written};
use crate::BoxFuture;
use crate::payload::{Delta, Received, Record, data_of_piece, text_of};

pub use crate::payload::ThreadPlace;

/// The most bytes of a title that is taken from a thread's first message.
const MAX_TITLE: usize = 120;

/// The most bytes of text in a joined piece.
const MAX_JOINED: usize = 64 * 1024;

/// Content that a log keeps for longer than it is retained for resuming. No call needs a tenure: it does not matter
/// whether the user has an owner. Each call may be repeated, and may be dropped before it is answered; only a dropped
/// [`Conversations::rename`] may still take effect.
///
/// Each call answers with [`LogError::Fenced`] if the user is erased, and with [`LogError::Unavailable`] if the log
/// cannot answer now. No answer contains anything of a deleted thread.
pub trait Conversations: Send + Sync {
    /// Whether trimmed entries are kept, so that a reader that was away for longer than entries are retained still gets
    /// them ([`Conversations::page`]). Otherwise that reader is told that they are gone. Returns at once, and always
    /// the same answer.
    fn keeps(&self) -> bool {
        true
    }

    /// Returns at most `limit` of the user's threads after `before`, the one with the newest entry first.
    fn threads<'a>(
        &'a self,
        user: UserId,
        before: Option<&'a ThreadPlace>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Threads, LogError>>;

    /// Returns the newest `limit` turns of a thread that begin before `before`, complete, including trimmed entries.
    fn turns<'a>(
        &'a self,
        user: UserId,
        thread: Option<&'a str>,
        before: Option<Offset>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Turns, LogError>>;

    /// Gives a thread another title; `None` restores its initial one. Returns false if there is no such thread.
    fn rename<'a>(
        &'a self,
        user: UserId,
        thread: Option<&'a str>,
        title: Option<&'a str>,
    ) -> BoxFuture<'a, Result<bool, LogError>>;

    /// Returns a user's stream after `after`, up to and including `through`, oldest first: a page of about `bytes`
    /// bytes of content, and at least one entry if there is any. `through` must not be before `after`, and must be at
    /// most the offset of an entry that was acknowledged as appended.
    ///
    /// A reader that continues at [`Page::through`], or at the offset of any entry on the page, misses nothing and gets
    /// nothing twice, except as [`Page::trimmed`] says.
    fn page(&self, user: UserId, after: Offset, through: Offset, bytes: usize)
    -> BoxFuture<'_, Result<Page, LogError>>;

    /// Returns at most `limit` threads of any users that this policy deletes at the time `now` (milliseconds since the
    /// Unix epoch). Once these are deleted, there may be more. A thread is never stale while it has an open run, or
    /// before the log has stored all of its entries.
    fn stale(&self, retention: Retention, now: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Stale>, LogError>>;
}

/// A page of a user's stream.
#[derive(Clone, Debug)]
pub struct Page {
    /// Entries after `after`, up to and including this offset, cannot be returned, for another reason than the deletion
    /// of their thread. Equal to `after` if nothing is missing.
    pub trimmed: Offset,
    /// The entries after `trimmed`, in order, without those of deleted threads but with the newest [`Kind::Deleted`] of
    /// each thread. Pieces of a part with nothing else between them may be joined into one entry, which has the offset
    /// of the last.
    pub entries: Vec<(Offset, Written)>,
    /// The page is complete up to this offset: the `through` of the request, or the offset of the last entry if there
    /// may be more.
    pub through: Offset,
}

/// How long conversations are kept, and how much of them. `None` means no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// The longest time since a thread's newest entry.
    pub age: Option<Duration>,
    /// The most messages of one user, in all threads together.
    pub turns: Option<u64>,
    /// The most bytes of one user as they are stored, in all threads together.
    pub bytes: Option<u64>,
}

impl Retention {
    /// Keeps no thread longer than this after its newest entry.
    #[must_use]
    pub const fn age(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// Keeps no more messages of one user.
    #[must_use]
    pub const fn turns(mut self, turns: u64) -> Self {
        self.turns = Some(turns);
        self
    }

    /// Keeps no more bytes of one user.
    #[must_use]
    pub const fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }
}

/// A thread to delete: it is too old, or its user exceeds a bound and this thread is among the least recently active
/// ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// The thread's user.
    pub user: UserId,
    /// The thread's name; `None` for the thread of messages without one.
    pub thread: Option<Arc<str>>,
    /// Up to this offset of the user's stream, the thread has had no activity since it became stale.
    pub as_of: Offset,
}

/// A user's thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// The thread's name; `None` for the thread of messages without one.
    pub name: Option<Arc<str>>,
    /// The title that its user gave it, or its initial title: the first line of its first message that has a text.
    pub title: Option<String>,
    /// The time of its newest entry, in milliseconds since the Unix epoch.
    pub updated: u64,
    /// Whether it has an open run.
    pub open: bool,
}

/// A page of a user's threads, the one with the newest entry first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Threads {
    /// At most as many as requested.
    pub threads: Vec<Thread>,
    /// Where the next page begins, if there is one.
    pub next: Option<ThreadPlace>,
}

/// A page of a thread's turns: whole runs, in the order of the stream.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    /// The entries of these turns. Pieces of a part that follow each other are one entry, which has the offset of the
    /// last.
    pub entries: Vec<(Offset, Written)>,
    /// Where the first of these turns begins, if there are earlier ones: the `before` of the next page.
    pub next: Option<Offset>,
}

impl Thread {
    pub(super) fn place(&self) -> ThreadPlace {
        ThreadPlace { updated: self.updated, name: self.name.as_deref().unwrap_or_default().to_owned() }
    }

    /// Updates the thread with one of its entries.
    fn take(&mut self, kind: Kind, record: &Record) {
        self.updated = self.updated.max(record.at());
        if self.title.is_none() {
            self.title = title(kind, record);
        }
    }
}

/// The title that this entry gives its thread, if it is a message.
pub(super) fn title(kind: Kind, record: &Record) -> Option<String> {
    let Kind::Received(_) = kind else { return None };
    let received: Received<'_> = serde_json::from_str(record.data.get()).ok()?;
    let text = text_of(received.payload)?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let end = (0..=line.len().min(MAX_TITLE)).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
    Some(line[..end].to_owned())
}

/// The threads of these entries, without deleted ones.
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

/// The first `limit` of these threads after `before`, in page order.
pub(super) fn page_of(mut threads: Vec<Thread>, before: Option<&ThreadPlace>, limit: usize) -> Threads {
    threads.retain(|thread| before.is_none_or(|before| thread.place() < *before));
    threads.sort_unstable_by_key(|thread| core::cmp::Reverse(thread.place()));
    let more = threads.len() > limit;
    threads.truncate(limit);
    let next = threads.last().filter(|_| more).map(Thread::place);
    Threads { threads, next }
}

/// The entries of a thread's runs, by run, without those that are gone.
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

/// The turns of a log that keeps only what it holds for resuming.
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

/// The entries of these runs, in the order of the stream.
pub(super) fn in_order(runs: impl IntoIterator<Item = Vec<(Offset, Written)>>) -> Vec<(Offset, Written)> {
    let entries = runs.into_iter().flat_map(joined).map(|joined| (joined.offset, joined.entry));
    let mut entries: Vec<(Offset, Written)> = entries.collect();
    entries.sort_unstable_by_key(|(offset, _)| *offset);
    entries
}

/// An entry, possibly joined from several pieces.
pub(super) struct Joined {
    /// The offset of the last piece.
    pub(super) offset: Offset,
    pub(super) entry: Written,
    /// The offset and the text length of each piece but the last. Empty if the entry is not a piece, or is a single
    /// one.
    pub(super) joints: Vec<(Offset, usize)>,
}

/// Joins pieces of one run that follow each other. The joined entry has the offset and the time of the last piece.
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
            | Kind::Paused(_)
            | Kind::Resumed(_)
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

/// Writes the joined text into the last entry.
fn settle(whole: &mut [Joined], grown: Option<(String, String)>) {
    if let (Some((kind, text)), Some(Joined { entry: last, .. })) = (grown, whole.last_mut())
        && let Kind::Delta(part) = last.kind
    {
        let data = data_of_piece(part, &kind, &text);
        last.record = Arc::new(Record::written(last.record.thread.clone(), data, last.record.at()));
    }
}
