//! Reading one user's data: copied entries from the store, and the rest from the log.

use std::collections::BTreeSet;
use std::sync::Arc;

use lockstep_model::{Offset, RunId, UserId};

use super::store::Store;
use super::unavailable;
use crate::log::conversations::{self, Page, Retention, Stale, Thread, ThreadPlace, Threads, Turns};
use crate::log::deletions::Deletions;
use crate::log::disk::DiskLog;
use crate::log::pages::{self, Stored};
use crate::log::retention;
use crate::log::{LogError, Written};

/// One user's data: in the store up to `high`, and after that in `rest`.
pub(super) struct Kept<'a> {
    store: &'a Store,
    user: UserId,
    /// The newest offset of the log.
    head: Offset,
    high: Offset,
    rest: Vec<(Offset, Written)>,
    /// The deletions in `rest`: what the store has of these threads is gone.
    deletions: Deletions,
}

impl Kept<'_> {
    pub(super) fn of<T>(
        store: &Store,
        log: &DiskLog,
        user: UserId,
        read: impl FnOnce(&mut Kept<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<T, LogError> {
        // The log's places come first: entries that the log forgets after this are in the store's snapshot.
        let Some((subject, places)) = log.places(user) else { return Err(LogError::Fenced) };
        let head = places.head();
        let _snapshot = store.snapshot().map_err(|error| unavailable(&error))?;
        let high = store.high(user, &subject).map_err(|error| unavailable(&error))?.unwrap_or_default();
        let rest = DiskLog::between(user, places, high, Offset(u64::MAX))?.entries;
        let deletions = Deletions::of(&rest);
        let read = read(&mut Kept { store, user, head, high, rest, deletions });
        // Data that was erased meanwhile is not returned.
        if log.span(user).is_none() {
            return Err(LogError::Fenced);
        }
        read.map_err(|error| unavailable(&error))
    }

    pub(super) fn threads(&self, before: Option<&ThreadPlace>, limit: usize) -> Result<Threads, rusqlite::Error> {
        let mut threads = conversations::threads_of(&self.rest);
        for thread in &mut threads {
            if let Some(title) = self.title(thread.name.as_deref())? {
                thread.title = Some(title);
            }
        }
        let names: BTreeSet<_> = threads.iter().map(|thread| thread.name.clone()).collect();
        if self.high > Offset(0) {
            let kept = self.store.threads(self.user, before, limit + names.len() + self.deletions.len() + 1)?;
            let deleted = |thread: &Thread| self.deletions.has(thread.name.as_deref());
            threads.extend(kept.into_iter().filter(|thread| !names.contains(&thread.name) && !deleted(thread)));
        }
        let open = self.open()?;
        for thread in &mut threads {
            thread.open |= open.contains(&thread.name);
        }
        Ok(conversations::page_of(threads, before, limit))
    }

    /// The threads with an open run that began in the store.
    fn open(&self) -> Result<BTreeSet<Option<Arc<str>>>, rusqlite::Error> {
        if self.high == Offset(0) {
            return Ok(BTreeSet::new());
        }
        let ends = self.rest.iter().filter(|(_, entry)| entry.kind.is_terminal());
        let ended: BTreeSet<RunId> = ends.map(|(_, entry)| entry.run).collect();
        let open = self.store.open_runs(self.user)?;
        // The log's entries of a deleted thread's runs are gone, including their ends.
        let is_open =
            |(run, thread): &(RunId, Option<Arc<str>>)| !ended.contains(run) && !self.deletions.has(thread.as_deref());
        Ok(open.into_iter().filter(is_open).map(|(_, thread)| thread).collect())
    }

    fn title(&self, thread: Option<&str>) -> Result<Option<String>, rusqlite::Error> {
        if self.high > Offset(0) && !self.deletions.has(thread) {
            self.store.title(self.user, thread)
        } else {
            Ok(None)
        }
    }

    pub(super) fn turns(
        &mut self,
        thread: Option<&str>,
        before: Option<Offset>,
        limit: usize,
    ) -> Result<Turns, rusqlite::Error> {
        let mut rest = conversations::runs_of(core::mem::take(&mut self.rest), thread);
        let mut begun: Vec<(Offset, RunId)> = Vec::new();
        for (run, entries) in &rest {
            let first = entries.first().map_or(Offset(0), |(offset, _)| *offset);
            // Part of the run may be in the store.
            let begin = self.store.begin(self.user, *run)?.filter(|begin| *begin <= self.high);
            begun.push((begin.unwrap_or(first), *run));
        }
        begun.retain(|(begin, _)| before.is_none_or(|before| *begin < before));
        let end = before.unwrap_or(Offset(u64::MAX)).min(Offset(self.high.0.saturating_add(1)));
        let kept = match self.deletions.has(thread) {
            true => Vec::new(),
            false => self.store.runs(self.user, thread, end, limit + 1)?,
        };
        for kept in kept {
            if !rest.contains_key(&kept.run) {
                begun.push((kept.begin, kept.run));
            }
        }
        begun.sort_unstable_by(|a, b| b.cmp(a));
        let more = begun.len() > limit;
        begun.truncate(limit);
        let next = begun.last().filter(|_| more).map(|(begin, _)| *begin);
        let mut runs = Vec::with_capacity(begun.len());
        for (_, run) in begun {
            let mut entries = self.store.events(self.user, run, self.high)?;
            entries.append(&mut rest.remove(&run).unwrap_or_default());
            runs.push(entries);
        }
        Ok(Turns { entries: conversations::in_order(runs), next })
    }

    /// Nothing is missing, because the log forgets only copied entries.
    pub(super) fn page(&mut self, after: Offset, through: Offset, bytes: usize) -> Result<Page, rusqlite::Error> {
        let end = through.min(self.high);
        let (mut stored, mut reached, mut size) = (Vec::new(), after, 0);
        while reached < end && size <= bytes {
            let Some((high, mut span)) = self.store.span(self.user, reached, end)? else { break };
            span.retain(|stored| self.is_there(stored));
            size += span.iter().map(|stored| stored.bytes_behind(after)).sum::<usize>();
            stored.append(&mut span);
            reached = high;
        }
        // Where the store ends, the log continues.
        let all = size <= bytes || reached >= through;
        let through = if all { through } else { reached };
        let deletions = self.store.deletions(self.user, after, through.min(self.high))?;
        stored.extend(deletions.into_iter().filter(|stored| self.is_there(stored)));
        if all {
            let rest = core::mem::take(&mut self.rest).into_iter();
            let rest = rest.filter(|(offset, _)| *offset > after && *offset <= through);
            stored.extend(rest.map(|(offset, entry)| Stored::whole(offset, entry)));
        }
        let mut page = pages::page(&stored, (after, through), after, bytes).ok_or(rusqlite::Error::InvalidQuery)?;
        if !all && let Some((last, _)) = page.entries.last() {
            page.through = *last;
        }
        Ok(page)
    }

    /// Whether no deletion that is not copied yet removes this stored entry.
    fn is_there(&self, Stored { offset, entry, .. }: &Stored) -> bool {
        !self.deletions.is_gone(*offset, entry.kind, entry.record.thread.as_deref())
    }

    /// The stale threads, as of the newest offset.
    pub(super) fn stale(&self, retention: &Retention, now: u64) -> Result<Vec<Stale>, rusqlite::Error> {
        if self.high == Offset(0) {
            return Ok(Vec::new());
        }
        let open = self.open()?;
        let fresh: BTreeSet<_> = self.rest.iter().map(|(_, entry)| entry.record.thread.as_deref()).collect();
        let is_busy = |thread: &Option<Arc<str>>| open.contains(thread) || fresh.contains(&thread.as_deref());
        let mut sizes = self.store.sizes(self.user)?;
        // Deleted threads already make room.
        sizes.retain(|(thread, _)| !self.deletions.has(thread.as_deref()));
        let threads = retention::stale(sizes, is_busy, retention, now);
        let stale = |thread| Stale { user: self.user, thread, as_of: self.head };
        Ok(threads.into_iter().map(stale).collect())
    }
}
