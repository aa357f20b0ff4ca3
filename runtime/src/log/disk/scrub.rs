//! Content that is gone with its thread leaves the disk: when a user's entries are moved, it is not moved with them. A
//! marker takes its place, with the message id if it was a message, so that offsets and the references to previous
//! entries stay valid.
//!
//! A group with a deletion has another record, which says which segments may hold content that is gone. Each of these
//! is cleaned soon, as after an erasure. Until the last one is dropped, this is known even after a restart. If an entry
//! is in two places, either may be read: readers apply the deletions that they find.

use super::format::{self, Decoded};
use super::read::{Found, Places};
use super::segment::Segments;
use crate::log::deletions::Deletions;
use crate::sync::lock;
use lockstep_model::run::Kind;
use lockstep_model::{FencingToken, UserId};

impl Found {
    /// Whether the entry is gone with its thread.
    pub(super) fn is_gone(&self) -> bool {
        matches!(format::kind(&self.content), Some((Decoded::Gone(_), _)))
    }
}

/// Sorts entries and removes duplicates. After an interrupted move an entry is in two places: the copy that says more
/// about what is gone is kept.
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
    /// The deletions that may have left content of a user in a segment. Reads nothing for a user without deletions.
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
            if let Some((Decoded::There(Kind::Deleted), thread)) = format::kind(&entry.content) {
                deletions.add(entry.offset, thread);
            }
        }
        Ok(deletions)
    }
}

/// Removes the content of entries that are gone. Entries of an owner before the newest are not repeated, so one marker
/// is enough for several that follow each other.
pub(super) fn scrub(found: &mut Vec<Found>, deletions: &Deletions, newest: FencingToken) {
    if deletions.is_empty() {
        return;
    }
    for entry in found.iter_mut() {
        let Some((Decoded::There(kind), thread)) = format::kind(&entry.content) else { continue };
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
