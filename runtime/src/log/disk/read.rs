//! Reading a user's entries.

use std::sync::Arc;

use lockstep_model::{FencingToken, Offset};

use super::entries;
use super::format::{self, HEADER, Record};
use super::index::{Extent, Index, User};
use super::scrub;
use super::storage::{Block, read};

/// Bytes that are read of a record before its length is known.
const GLANCE: usize = 512;

/// Extents with their files, which are read without the index's lock.
#[derive(Clone, Debug)]
pub(in crate::log) struct Places {
    extents: Vec<(Arc<dyn Block>, Extent)>,
    pub(super) trimmed: Offset,
    pub(super) read: Offset,
    head: Offset,
}

/// An entry and its content.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) offset: Offset,
    pub(super) previous: Offset,
    pub(super) generation: FencingToken,
    pub(super) content: Vec<u8>,
}

impl Places {
    /// The places of this user's entries.
    pub(super) fn of(index: &Index, user: &User) -> Self {
        let extents = user.extents.iter();
        let extents = extents.filter_map(|extent| {
            let segment = index.segments.get(&extent.segment)?;
            Some((Arc::clone(&segment.file), *extent))
        });
        Self { extents: extents.collect(), trimmed: user.trimmed, read: user.read, head: user.head }
    }

    /// The places of the entries after one offset, up to another. The latter is the end, whether or not it has an
    /// entry.
    #[cfg(feature = "kept")]
    pub(super) fn between(mut self, behind: Offset, through: Offset) -> Self {
        self.extents.retain(|(_, extent)| extent.high > behind && extent.low <= through);
        let trimmed = self.trimmed.max(behind);
        Self { trimmed, head: through.min(self.head).max(trimmed), ..self }
    }

    /// The newest offset.
    #[cfg(feature = "kept")]
    pub(in crate::log) const fn head(&self) -> Offset {
        self.head
    }

    /// Returns all entries after `trimmed`, in order.
    ///
    /// # Errors
    ///
    /// A message, if an entry cannot be read or is missing: a gap is never skipped.
    pub(super) fn entries(&self) -> Result<Vec<Found>, String> {
        let found = self.linked()?;
        let last = found.last().map_or(self.trimmed, |entry| entry.offset);
        if last < self.head {
            return Err(format!("the entries after offset {} are missing", last.0));
        }
        Ok(found)
    }

    /// Like [`Self::entries`], but without checking that the end is there.
    pub(super) fn linked(&self) -> Result<Vec<Found>, String> {
        let found = self.all()?;
        let mut last = self.trimmed;
        for entry in &found {
            // An entry that is gone may stand for earlier ones.
            let follows = entry.previous == last || last == self.trimmed || entry.is_gone();
            if entry.previous > last || !follows {
                return Err(format!("the entries after offset {} are missing", last.0));
            }
            last = entry.offset;
        }
        Ok(found)
    }

    /// Returns the existing entries, in order, each once.
    pub(super) fn all(&self) -> Result<Vec<Found>, String> {
        let mut found = Vec::new();
        for (file, extent) in &self.extents {
            extent_entries(&**file, extent, &mut found)?;
        }
        Ok(self.settled(found))
    }

    /// Sorts the entries and removes duplicates and those outside the range.
    fn settled(&self, mut found: Vec<Found>) -> Vec<Found> {
        found.retain(|entry| entry.offset > self.trimmed && entry.offset <= self.head);
        scrub::settle(&mut found);
        found
    }

    /// Returns the entries that can be read.
    pub(super) fn readable(&self) -> Vec<Found> {
        let mut found = Vec::new();
        for (file, extent) in &self.extents {
            // Records that can be read are in `found` even after an error.
            let _ = extent_entries(&**file, extent, &mut found);
        }
        self.settled(found)
    }

    /// The offset after which nothing is missing, for a repair.
    pub(super) fn whole_behind(&self) -> Offset {
        let found = self.readable();
        if found.last().is_none_or(|entry| entry.offset < self.head) {
            return self.head;
        }
        let mut whole = self.trimmed;
        let mut last = self.trimmed;
        for entry in &found {
            if entry.previous > last {
                whole = entry.previous;
            }
            last = entry.offset;
        }
        whole
    }
}

/// Reads the entries of one extent, newest records first.
pub(super) fn extent_entries(file: &dyn Block, extent: &Extent, found: &mut Vec<Found>) -> Result<(), String> {
    let mut at = extent.last;
    while at != 0 {
        if (at as usize) < HEADER {
            return Err(damaged(extent.segment, at));
        }
        let bytes = record_bytes(file, u64::from(at))
            .map_err(|error| format!("segment {} cannot be read at byte {at}: {error}", extent.segment))?;
        let (Record::Entries(entries), _) =
            format::record(&bytes).ok().flatten().ok_or_else(|| damaged(extent.segment, at))?
        else {
            return Err(damaged(extent.segment, at));
        };
        let mut previous = entries.previous;
        let content = entries.content().ok_or_else(|| damaged(extent.segment, at))?;
        for (offset, content) in entries::iter(previous, &content) {
            let content = content.to_vec();
            found.push(Found { offset, previous, generation: entries.generation, content });
            previous = offset;
        }
        if entries.before >= at {
            return Err(damaged(extent.segment, at));
        }
        at = entries.before;
    }
    Ok(())
}

fn record_bytes(file: &dyn Block, at: u64) -> std::io::Result<Vec<u8>> {
    let glance = read(file, at, GLANCE)?;
    match format::size(&glance) {
        Some(size) if size > glance.len() && glance.len() == GLANCE => read(file, at, size),
        Some(_) | None => Ok(glance),
    }
}

fn damaged(segment: u32, at: u32) -> String {
    format!("segment {segment} is damaged at byte {at}")
}
