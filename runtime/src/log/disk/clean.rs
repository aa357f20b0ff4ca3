//! Cleaning: a segment with little live content, or with erased or deleted content, is dropped after its live records
//! were written again. This happens a piece at a time, within the groups of appends.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use lockstep_model::UserId;

use super::format;
use super::index::{Extent, Index, Segment};
use super::segment::Draft;
use super::writer::Writer;
use crate::sync::lock;

/// Bytes that are moved with one group.
const PIECE: usize = 256 * 1024;

/// Segments far below full size that are kept anyway: each opening leaves one.
const MAX_SMALL: usize = 4;

/// A cleaning in progress.
pub(super) struct Cleaning {
    victim: u32,
    users: VecDeque<UserId>,
    /// The next group has the rest.
    last: bool,
}

impl Writer {
    /// Selects the segment to clean next.
    fn victim(&self) -> Option<u32> {
        let index = lock(&self.shared.index);
        let active = self.segments.active.number;
        let sealed = || index.segments.iter().filter(|(number, segment)| **number != active && !segment.damaged);
        let small = |length: u64| length < self.options.segment_bytes / 8;
        let many = sealed().filter(|(_, segment)| small(segment.length)).count() > MAX_SMALL;
        let due = |segment: &Segment| {
            let little = segment.live <= segment.length / 2 || (many && small(segment.length));
            segment.scrub || little || self.is_loose(segment)
        };
        let mut due = sealed().filter(|(_, segment)| due(segment));
        due.next().map(|(number, _)| *number)
    }

    pub(super) fn is_cleaning_due(&self) -> bool {
        self.victim().is_some()
    }

    /// Adds a piece of a segment's live records to the group. Returns true if the group must be synced for this.
    pub(super) fn clean(&mut self, draft: &mut Draft) -> bool {
        if self.cleaning.is_none() {
            if self.cleaned.elapsed() < self.options.upkeep {
                return false;
            }
            self.cleaned = Instant::now();
            let Some(victim) = self.victim() else { return false };
            let index = lock(&self.shared.index);
            let users = index.users.iter().filter(|(_, user)| user.extents.iter().any(|e| e.segment == victim));
            let users = users.map(|(id, _)| *id).collect();
            self.cleaning = Some(Cleaning { victim, users, last: false });
        }
        let Some(mut cleaning) = self.cleaning.take() else { return false };
        let room = draft.bytes.len() + PIECE;
        while draft.bytes.len() < room
            && let Some(id) = cleaning.users.pop_front()
        {
            let extents = self.extents(id, cleaning.victim);
            if let Err(error) = self.segments.move_user(draft, id, extents, false) {
                tracing::error!(
                    "a part of the log cannot be cleaned: {error}; restore the log from a backup, or repair it"
                );
                if let Some(segment) = lock(&self.shared.index).segments.get_mut(&cleaning.victim) {
                    segment.damaged = true;
                }
                return false;
            }
        }
        if cleaning.users.is_empty() {
            self.finish(draft, cleaning.victim);
            cleaning.last = true;
        }
        let last = cleaning.last;
        self.cleaning = Some(cleaning);
        last
    }

    fn extents(&self, id: UserId, victim: u32) -> Vec<Extent> {
        let index = lock(&self.shared.index);
        let user = index.users.get(&id);
        user.into_iter().flat_map(|user| &user.extents).filter(|extent| extent.segment == victim).copied().collect()
    }

    /// Adds the victim's records other than entries, and the states not recorded yet: without these, its trimmed
    /// entries would seem to be missing.
    fn finish(&self, draft: &mut Draft, victim: u32) {
        let index = lock(&self.shared.index);
        for (id, user) in &index.users {
            if user.state.0 == victim || index.untold.contains(id) {
                format::put_state(&mut draft.bytes, &Index::state_of(*id, user));
            }
        }
        let oldest = index.segments.keys().find(|number| **number != victim);
        for (id, tombstone) in &index.erased {
            if tombstone.segment == victim && oldest.is_some_and(|oldest| *oldest <= tombstone.at) {
                format::put_erased(&mut draft.bytes, *id, tombstone.at);
            }
        }
        for (id, deletion) in &index.deleted {
            if deletion.segment == victim && index.is_left_of(deletion, victim) {
                format::put_deleted(&mut draft.bytes, *id, deletion.through, deletion.at);
            }
        }
    }

    /// Drops the segment once the group with the rest of it is on disk.
    pub(super) fn finish_cleaning(&mut self) -> io::Result<()> {
        let Some(Cleaning { victim, last: true, .. }) = self.cleaning else { return Ok(()) };
        self.cleaning = None;
        self.cleaned = Instant::now().checked_sub(self.options.upkeep).unwrap_or(self.cleaned);
        self.segments.drop_segment(victim)?;
        let mut index = lock(&self.shared.index);
        index.settle_deletions();
        let oldest = index.segments.keys().next().copied().unwrap_or(u32::MAX);
        index.erased.retain(|_, tombstone| tombstone.at >= oldest);
        Ok(())
    }
}
