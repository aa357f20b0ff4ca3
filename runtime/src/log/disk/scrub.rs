//! What is gone with its thread leaves the disk: when a user's entries are moved, it is not moved with them. In its place stays
//! that it is gone, and the message that it was, so that offsets, and what names the entry before, are as they were.
//!
//! The group that has a deletion says, in a record of its own, which segments may hold what is gone; each of these is cleaned soon,
//! as after an erasure. Until the last of them is left out, that is known after a restart, too. Where an entry stands in
//! two places, either may be read: readers leave out what is gone by the deletions that they find.

use super::format::{self, Entry};
use super::read::{Found, Places};
use super::segment::Segments;
use crate::log::deletions::Deletions;
use crate::sync::lock;
use lockstep_model::run::Kind;
use lockstep_model::{Generation, UserId};

impl Found {
    /// Whether it is gone with its thread.
    pub(super) fn is_gone(&self) -> bool {
        matches!(format::kind(&self.content), Some((Entry::Gone(_), _)))
    }
}

/// Puts entries in order, each once. Where a move was cut off, an entry stands in two places: the one stays that says more of
/// what is gone.
pub(super) fn settle(found: &mut Vec<Found>) {
    found.sort_unstable_by_key(|entry| entry.offset);
    found.dedup_by(|other, kept| {
        if other.offset != kept.offset {
            return false;
        }
        let gone = (kept.is_gone(), other.is_gone());
        if gone == (false, true) || (gone == (true, true) && other.previous < kept.previous) {
            core::mem::swap(kept, other);
        }
        true
    });
}

impl Segments {
    /// The deletions that may have left something of a user in a segment. Nothing is read of a user without any.
    pub(super) fn deletions(&self, id: UserId, partly: bool) -> Result<Deletions, String> {
        let places = {
            let index = lock(&self.shared.index);
            let user = index.users.get(&id).filter(|_| index.deleted.contains_key(&id));
            let Some(user) = user else { return Ok(Deletions::default()) };
            Places::of(&index, user)
        };
        let found = if partly { places.readable() } else { places.all()? };
        let mut deletions = Deletions::default();
        for entry in &found {
            if let Some((Entry::There(Kind::Deleted), thread)) = format::kind(&entry.content) {
                deletions.add(entry.offset, thread);
            }
        }
        Ok(deletions)
    }
}

/// Takes the content of what is gone. What an owner before the newest has appended is not repeated, so one place is enough
/// for several that follow each other.
pub(super) fn scrub(found: &mut Vec<Found>, deletions: &Deletions, newest: Generation) {
    if deletions.is_empty() {
        return;
    }
    for entry in found.iter_mut() {
        let Some((Entry::There(kind), thread)) = format::kind(&entry.content) else { continue };
        if deletions.is_gone(entry.offset, kind, thread) {
            let message = if let Kind::Received(received) = kind { Some(received.message) } else { None };
            entry.content = format::gone(message);
        }
    }
    let nothing = format::gone(None);
    found.dedup_by(|next, before| {
        let one = before.content == nothing && before.generation < newest && next.is_gone();
        let one = one && next.generation == before.generation && next.previous == before.offset;
        if one {
            next.previous = before.previous;
            core::mem::swap(next, before);
        }
        one
    });
}
