//! The index of a log, in memory: its users, and the places of their entries.
//!
//! The index is built from records only, by [`Index::take`]: recovery calls it for the segments' content, and the
//! writer for what it has just written. A restart therefore finds the same state.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use lockstep_model::{FencingToken, Offset, UserId};

use super::entries::{Entries, Span};
use super::format::{Record, State, record};
use super::storage::Block;

/// The most entries of one extent, and the bytes after which it is full. A restore reads whole extents.
const EXTENT_ENTRIES: u32 = 256;
const EXTENT_BYTES: u32 = 64 * 1024;

/// The index of a log.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) users: HashMap<UserId, User>,
    pub(super) subjects: HashMap<Arc<str>, UserId>,
    /// The highest user number that was assigned.
    pub(super) numbers: u64,
    /// Erased users, while a segment may hold data of them.
    pub(super) erased: BTreeMap<UserId, Tombstone>,
    /// Users who have deleted a thread, while a segment may hold content that is gone with it.
    pub(super) deleted: BTreeMap<UserId, Deletion>,
    pub(super) segments: BTreeMap<u32, Segment>,
    /// Users whose newest `trimmed` and `read` are not in the segments yet.
    pub(super) untold: HashSet<UserId>,
}

/// A user.
#[derive(Debug, Default)]
pub(super) struct User {
    pub(super) subject: Arc<str>,
    pub(super) generation: FencingToken,
    /// Whether the newest generation has an owner, in this process.
    pub(super) owned: bool,
    pub(super) trimmed: Offset,
    pub(super) read: Offset,
    pub(super) head: Offset,
    pub(super) extents: Vec<Extent>,
    /// The place of the newest [`State`]: segment and position; zero until one is found.
    pub(super) state: (u32, u32),
}

impl User {
    /// Whether no record with the subject was found yet.
    pub(super) const fn is_nameless(&self) -> bool {
        self.state.0 == 0
    }
}

/// A user's records in one segment, each of which names the position of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) segment: u32,
    /// The position of the last record.
    pub(super) last: u32,
    pub(super) entries: u32,
    pub(super) bytes: u32,
    /// Of these, the bytes that are not packed.
    pub(super) loose: u32,
    pub(super) low: Offset,
    pub(super) high: Offset,
}

/// No segment records it yet.
pub(super) const UNTOLD: u32 = 0;

/// An erased user: segments up to `at` may hold data of it, and `segment` has the record that makes this data void.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tombstone {
    pub(super) at: u32,
    pub(super) segment: u32,
}

/// The pending work of a user's deletions: segments up to `at` may hold content that is gone, which is before
/// `through`, and `segment` has the record that says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deletion {
    pub(super) through: Offset,
    pub(super) at: u32,
    pub(super) segment: u32,
}

/// A file of the log.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: Arc<dyn Block>,
    /// Bytes that are part of the log.
    pub(super) length: u64,
    /// Bytes of entries that are not trimmed, and of these the bytes that are not packed.
    pub(super) live: u64,
    pub(super) loose: u64,
    /// Users who have entries in it that were trimmed, or have moved.
    pub(super) left: HashSet<UserId>,
    /// It holds content that was erased or deleted, and is rewritten for that.
    pub(super) scrub: bool,
    /// Part of it cannot be read, so it is not cleaned.
    pub(super) damaged: bool,
}

impl Index {
    /// Applies all records of a group, the first of which begins at `start` in that segment.
    pub(super) fn take(&mut self, segment: u32, start: usize, mut records: &[u8]) -> Result<(), ()> {
        let mut at = start;
        while !records.is_empty() {
            let (found, size) = record(records)?.ok_or(())?;
            let place = u32::try_from(at).map_err(|_| ())?;
            match found {
                Record::State(state) => self.state((segment, place), &state),
                Record::Entries(entries) => self.entries(segment, place, size, &entries),
                Record::Erased { user, at } => self.erase(user, Tombstone { at, segment }),
                Record::Deleted { user, through, at } => self.delete(user, Deletion { through, at, segment }),
            }
            at += size;
            records = &records[size..];
        }
        Ok(())
    }

    fn state(&mut self, place: (u32, u32), state: &State<'_>) {
        self.numbers = self.numbers.max(state.user.0);
        if self.erased.contains_key(&state.user) {
            return self.scrub(place.0);
        }
        let user = self.users.entry(state.user).or_default();
        if user.is_nameless() {
            user.subject = Arc::from(state.subject);
            self.subjects.insert(Arc::clone(&user.subject), state.user);
        }
        user.generation = user.generation.max(state.generation);
        user.read = user.read.max(state.read);
        user.head = user.head.max(state.head);
        user.state = user.state.max(place);
        let told = user.read == state.read && user.trimmed <= state.trimmed;
        self.forget(state.user, state.trimmed);
        if told {
            self.untold.remove(&state.user);
        }
    }

    fn entries(&mut self, segment: u32, last: u32, size: usize, entries: &Entries<'_>) {
        self.numbers = self.numbers.max(entries.user.0);
        if self.erased.contains_key(&entries.user) {
            return self.scrub(segment);
        }
        let user = self.users.entry(entries.user).or_default();
        user.generation = user.generation.max(entries.generation);
        user.read = user.read.max(entries.read);
        let span = entries.span();
        user.head = user.head.max(span.map_or(entries.previous, |span| span.high));
        let told = user.read == entries.read && user.trimmed <= entries.trimmed;
        let bytes = u32::try_from(size).unwrap_or(u32::MAX);
        let loose = if entries.is_packed() { 0 } else { bytes };
        let mut there = user.extents.iter_mut().rev();
        let continued = there.find(|extent| extent.segment == segment && extent.last == entries.before);
        match (continued, span) {
            (_, None) => {}
            (Some(extent), Some(Span { entries: count, low, high })) if entries.before != 0 => {
                (extent.last, extent.high, extent.low) = (last, extent.high.max(high), extent.low.min(low));
                extent.entries = extent.entries.saturating_add(count);
                extent.bytes = extent.bytes.saturating_add(bytes);
                extent.loose = extent.loose.saturating_add(loose);
            }
            (_, Some(Span { entries, low, high })) => {
                user.extents.push(Extent { segment, last, entries, bytes, loose, low, high });
            }
        }
        if span.is_some()
            && let Some(segment) = self.segments.get_mut(&segment)
        {
            segment.live += u64::from(bytes);
            segment.loose += u64::from(loose);
        }
        let deletion = self.deleted.get(&entries.user).filter(|deletion| segment <= deletion.at);
        if deletion.is_some_and(|deletion| span.is_some_and(|span| span.low < deletion.through)) {
            self.scrub(segment);
        }
        self.forget(entries.user, entries.trimmed);
        if told {
            self.untold.remove(&entries.user);
        }
    }

    /// Forgets a user.
    pub(super) fn erase(&mut self, id: UserId, tombstone: Tombstone) {
        self.numbers = self.numbers.max(id.0);
        let known = self.erased.entry(id).or_insert(tombstone);
        known.segment = known.segment.max(tombstone.segment);
        self.untold.remove(&id);
        self.deleted.remove(&id);
        for segment in self.segments.values_mut() {
            segment.scrub |= segment.left.contains(&id);
        }
        let Some(user) = self.users.remove(&id) else { return };
        if self.subjects.get(&user.subject) == Some(&id) {
            self.subjects.remove(&user.subject);
        }
        for extent in &user.extents {
            self.unlive(id, extent);
            self.scrub(extent.segment);
        }
    }

    /// Records that a thread of the user is deleted.
    fn delete(&mut self, id: UserId, deletion: Deletion) {
        if self.erased.contains_key(&id) {
            return;
        }
        let known = self.deleted.entry(id).or_insert(deletion);
        known.through = known.through.max(deletion.through);
        known.at = known.at.max(deletion.at);
        known.segment = known.segment.max(deletion.segment);
        let Deletion { through, at, .. } = *known;
        let extents = self.users.get(&id).map(|user| &*user.extents).unwrap_or_default();
        for (number, segment) in self.segments.range_mut(..=at) {
            let holds = |extent: &Extent| extent.segment == *number && extent.low < through;
            segment.scrub |= segment.left.contains(&id) || extents.iter().any(holds);
        }
    }

    /// Whether a segment other than `but` may hold content that is gone with a deletion.
    pub(super) fn is_left_of(&self, deletion: &Deletion, but: u32) -> bool {
        self.segments.range(..=deletion.at).any(|(number, segment)| *number != but && segment.scrub)
    }

    /// Forgets deletions without pending work.
    pub(super) fn settle_deletions(&mut self) {
        let mut deleted = core::mem::take(&mut self.deleted);
        deleted.retain(|_, deletion| self.is_left_of(deletion, 0));
        self.deleted = deleted;
    }

    fn scrub(&mut self, segment: u32) {
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.scrub = true;
        }
    }

    /// Takes an extent out of its segment's live bytes; it stays in the file.
    fn unlive(&mut self, id: UserId, extent: &Extent) {
        if let Some(segment) = self.segments.get_mut(&extent.segment) {
            segment.live = segment.live.saturating_sub(u64::from(extent.bytes));
            segment.loose = segment.loose.saturating_sub(u64::from(extent.loose));
            segment.left.insert(id);
        }
    }

    fn forget(&mut self, id: UserId, through: Offset) {
        let Some(user) = self.users.get_mut(&id) else { return };
        user.trimmed = user.trimmed.max(through);
        let trimmed = user.trimmed;
        if user.extents.iter().all(|extent| extent.high > trimmed) {
            return;
        }
        let (gone, kept) = user.extents.iter().partition(|extent| extent.high <= trimmed);
        user.extents = kept;
        let gone: Vec<Extent> = gone;
        for extent in &gone {
            self.unlive(id, extent);
        }
    }

    /// Forgets everything at or before `through`. The segments record this later.
    pub(super) fn trim(&mut self, id: UserId, through: Offset) {
        let Some(user) = self.users.get(&id) else { return };
        let through = through.min(user.head);
        if through > user.trimmed {
            self.untold.insert(id);
            self.forget(id, through);
        }
    }

    /// Records how far a reader has read. The segments record this later.
    pub(super) fn read(&mut self, id: UserId, through: Offset) {
        if let Some(user) = self.users.get_mut(&id)
            && through > user.read
        {
            user.read = through;
            self.untold.insert(id);
        }
    }

    /// Removes these extents, whose entries are now in another place.
    pub(super) fn moved(&mut self, id: UserId, extents: &[Extent]) {
        let Some(user) = self.users.get_mut(&id) else { return };
        let (gone, kept) = user.extents.iter().partition(|extent| extents.contains(extent));
        user.extents = kept;
        let gone: Vec<Extent> = gone;
        for extent in &gone {
            self.unlive(id, extent);
        }
    }

    /// The position of the record that the user's next entries continue in that segment; zero if they begin an extent.
    pub(super) fn before(user: &User, segment: u32) -> u32 {
        let full = |extent: &&Extent| extent.entries >= EXTENT_ENTRIES || extent.bytes >= EXTENT_BYTES;
        let mut open = user.extents.iter().filter(|extent| extent.segment == segment && extent.high == user.head);
        open.next_back().filter(|extent| !full(extent)).map_or(0, |extent| extent.last)
    }

    /// The record of a user's state, without its entries.
    pub(super) fn state_of(id: UserId, user: &User) -> State<'_> {
        State {
            user: id,
            subject: &user.subject,
            generation: user.generation,
            trimmed: user.trimmed,
            read: user.read,
            head: user.head,
        }
    }
}
