//! The queue of records to write: in one order, one write at a time.

use alloc::vec::Vec;
use core::mem;

use super::io::{Ask, LoginLimits, Record};
use crate::id::CredentialId;

/// The answer that a request gets once the records are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum Promise {
    /// The login has begun.
    Begun(CredentialId),
    /// The login has its next cookie.
    Turned(CredentialId),
    /// The login has ended.
    Ended,
}

/// The logins and requests that depend on one write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Batch {
    /// The logins that the write concerns, each once.
    pub(super) touched: Vec<CredentialId>,
    /// The requests that wait for the write, in order of arrival.
    pub(super) promises: Vec<(Ask, Promise)>,
}

impl Batch {
    const fn new() -> Self {
        Self { touched: Vec::new(), promises: Vec::new() }
    }
}

/// The write queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Writer<S> {
    /// The records of the next write.
    lines: Vec<Record<S>>,
    queued: Batch,
    under_way: Option<Batch>,
    /// The file may end in a partial line, or lack a line: the next write must replace it.
    broken: bool,
    /// [`Output::Retry`](super::Output::Retry) was emitted, and the pause is not over.
    resting: bool,
    /// The number of lines appended since the file was replaced.
    appended: usize,
}

impl<S> Default for Writer<S> {
    fn default() -> Self {
        Self { lines: Vec::new(), queued: Batch::new(), under_way: None, broken: false, resting: false, appended: 0 }
    }
}

impl<S> Writer<S> {
    pub(super) fn add(&mut self, line: Record<S>) {
        self.lines.push(line);
    }

    /// Notes that the next write concerns this login.
    pub(super) fn touch(&mut self, login: CredentialId) {
        if !self.queued.touched.contains(&login) {
            self.queued.touched.push(login);
        }
    }

    /// Makes a request wait for the next write.
    pub(super) fn wait(&mut self, ask: Ask, promise: Promise) {
        self.queued.promises.push((ask, promise));
    }

    /// Makes a request wait for the write in flight.
    pub(super) fn join(&mut self, ask: Ask, promise: Promise) {
        let batch = self.under_way.as_mut().unwrap_or(&mut self.queued);
        batch.promises.push((ask, promise));
    }

    /// Forgets a request, and returns its promise.
    pub(super) fn give_up(&mut self, ask: Ask) -> Option<Promise> {
        let batches = [Some(&mut self.queued), self.under_way.as_mut()];
        batches.into_iter().flatten().find_map(|batch| {
            let at = batch.promises.iter().position(|(other, _)| *other == ask)?;
            Some(batch.promises.remove(at).1)
        })
    }

    pub(super) const fn is_writing(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether there is something to write at once. A failed write that no request waits for can wait.
    pub(super) const fn is_wanted(&self) -> bool {
        !self.lines.is_empty() || self.is_awaited() || (self.broken && !self.resting)
    }

    /// Whether the disk has every record.
    pub(super) const fn is_settled(&self) -> bool {
        self.lines.is_empty() && !self.is_writing() && !self.broken
    }

    /// Whether a request waits for the next write.
    pub(super) const fn is_awaited(&self) -> bool {
        !self.queued.promises.is_empty()
    }

    /// The number of pending requests.
    pub(super) fn waiting(&self) -> usize {
        self.queued.promises.len() + self.under_way.as_ref().map_or(0, |batch| batch.promises.len())
    }

    pub(super) fn touched(&self) -> &[CredentialId] {
        &self.queued.touched
    }

    pub(super) fn under_way(&self) -> &[CredentialId] {
        self.under_way.as_ref().map_or(&[], |batch| &batch.touched)
    }

    /// Begins a write of everything that is queued. Returns the lines to append, or `None` to replace the file. `count`
    /// is the number of records in effect.
    pub(super) fn begin(&mut self, limits: &LoginLimits, count: usize) -> Option<Vec<Record<S>>> {
        let lines = mem::take(&mut self.lines);
        self.under_way = Some(mem::replace(&mut self.queued, Batch::new()));
        self.appended += lines.len();
        let replaces = mem::replace(&mut self.broken, false) || self.appended > limits.records.max(2 * count);
        if replaces {
            self.appended = 0;
            return None;
        }
        Some(lines)
    }

    /// Bounds the queue while the disk does not answer: once it has more lines than a whole file would have, the next
    /// write replaces the file.
    pub(super) fn bound(&mut self, limits: &LoginLimits, count: usize) {
        if self.lines.len() > limits.records.max(2 * count) {
            self.lines.clear();
            self.broken = true;
        }
    }

    /// The write is done. Returns what depended on it.
    pub(super) const fn written(&mut self) -> Option<Batch> {
        self.under_way.take()
    }

    /// The write has failed. Returns what depended on it. The next write replaces the file.
    pub(super) fn not_written(&mut self) -> Option<Batch> {
        let batch = self.under_way.take()?;
        self.broken = true;
        // The replacing file includes them.
        self.lines.clear();
        Some(batch)
    }

    /// Starts a pause before the next attempt, unless one has started already or a request waits. Returns whether it
    /// did.
    pub(super) const fn rest(&mut self) -> bool {
        let begins = self.broken && !self.resting && !self.is_awaited();
        self.resting |= begins;
        begins
    }

    /// Ends the pause. Returns false if there was none.
    pub(super) const fn wake(&mut self) -> bool {
        mem::replace(&mut self.resting, false)
    }
}
