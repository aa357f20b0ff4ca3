//! The registry: from a user to that user's one live slot.
//!
//! | what | who may touch it, and when |
//! | --- | --- |
//! | a shard: its users' slots, and the newest generation that it assigned | the holder of the shard's lock, for one look-up or one change of the map |
//!
//! **Lock order.** A shard's lock and a slot's lock are never held together, so no order between them is needed. What
//! may happen between the two is fenced by the generation:
//!
//! * **SH-1** A slot ends under its own lock and leaves the map a moment later. A caller that finds an ended slot
//!   removes it as well, and looks again. Both remove *that generation* and no other, so a late removal cannot remove
//!   the successor: a live slot stays in the map until it ends, and the map has one entry per user.

use core::fmt;
use core::num::NonZeroUsize;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use lockstep_model::{Generation, UserId};

use super::slot::{Access, Dispatch, Locked, Machine, Slot};
use super::sync::{Arc, Mutex, lock};

/// The slots of a process.
pub struct Registry<M: Machine, C> {
    shards: Box<[Shard<M, C>]>,
}

/// Aligned to a cache line, so that users of two shards do not slow each other down.
#[repr(align(64))]
struct Shard<M: Machine, C>(Mutex<Users<M, C>>);

struct Users<M: Machine, C> {
    slots: BTreeMap<UserId, Arc<Slot<M, C>>>,
    newest: Generation,
}

impl<M: Machine, C: Dispatch<M>> Registry<M, C> {
    /// Creates an empty registry. With more shards than concurrent threads, two users are unlikely to share a lock.
    #[must_use]
    pub fn new(shards: NonZeroUsize) -> Self {
        let shard = |_| Shard(Mutex::new(Users { slots: BTreeMap::new(), newest: Generation(0) }));
        Self { shards: (0..shards.get()).map(shard).collect() }
    }

    /// Calls `act` with the user's live machine. If there is none, `open` creates one in a new slot.
    ///
    /// Both closures are called under the slot's lock; see [`Dispatch::dispatch`] for what they must not do.
    pub fn with_or_open<R>(
        &self,
        bounds: &M::Bounds,
        user: UserId,
        mut open: impl FnMut(Generation, &mut M::Outputs) -> (M, C),
        mut act: impl FnOnce(&mut Locked<'_, M, C>) -> R,
    ) -> (Arc<Slot<M, C>>, R) {
        loop {
            let slot = self.find_or_insert(user);
            match slot.with(bounds, Some(|outputs: &mut M::Outputs| open(slot.generation(), outputs)), act) {
                Access::Done { result, over } => {
                    if over {
                        self.forget(&slot);
                    }
                    return (slot, result);
                }
                Access::Vacant(again) => act = again,
            }
            self.forget(&slot);
        }
    }

    /// Calls `act` with the slot's machine if the slot is still live. Opens nothing.
    pub fn with<R>(
        &self,
        bounds: &M::Bounds,
        slot: &Slot<M, C>,
        act: impl FnOnce(&mut Locked<'_, M, C>) -> R,
    ) -> Option<R> {
        let never = None::<fn(&mut M::Outputs) -> (M, C)>;
        match slot.with(bounds, never, act) {
            Access::Done { result, over } => {
                if over {
                    self.forget(slot);
                }
                Some(result)
            }
            Access::Vacant(_) => None,
        }
    }

    /// Returns the user's slot, which was live at the time of the look-up.
    #[must_use]
    pub fn find(&self, user: UserId) -> Option<Arc<Slot<M, C>>> {
        lock(self.shard(user)).slots.get(&user).cloned()
    }

    /// Returns every slot that is in the map throughout this call, and perhaps others.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Slot<M, C>>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(lock(&shard.0).slots.values().cloned());
        }
        all
    }

    fn find_or_insert(&self, user: UserId) -> Arc<Slot<M, C>> {
        let mut users = lock(self.shard(user));
        let Users { slots, newest } = &mut *users;
        let slot = slots.entry(user).or_insert_with(|| {
            *newest = Generation(newest.0.wrapping_add(1));
            Arc::new(Slot::new(user, *newest))
        });
        Arc::clone(slot)
    }

    /// Removes an ended slot from the map if it is still there.
    fn forget(&self, slot: &Slot<M, C>) {
        if let Entry::Occupied(found) = lock(self.shard(slot.user())).slots.entry(slot.user())
            && found.get().generation() == slot.generation()
        {
            found.remove();
        }
    }

    fn shard(&self, user: UserId) -> &Mutex<Users<M, C>> {
        // User ids are consecutive; the multiplication spreads neighbours over the shards.
        let spread = user.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        &self.shards[spread as usize % self.shards.len()].0
    }
}

impl<M: Machine, C> fmt::Debug for Registry<M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}
