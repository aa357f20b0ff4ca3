//! The registry: from a user to the one live slot of that user.
//!
//! | what | who may touch it, and when |
//! | --- | --- |
//! | a shard: its users' slots, and the newest generation that it gave out | whoever holds the shard's lock, for one look-up or one change of the map |
//!
//! **Lock order.** A shard's lock and a slot's lock are never held together, so there is no order between them to get
//! wrong. What can happen between the two is fenced by the generation:
//!
//! * **SH-1** A slot is over under its own lock, and out of the map a moment later. Whoever finds a slot that is over
//!   takes it out too, and looks again. Either takes out *that generation* and no other, so a late one cannot take out
//!   the successor: a live slot stays in the map until it is over, and the map has one place for a user.

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

/// Aligned to a cache line, so that users of two shards do not slow each other.
#[repr(align(64))]
struct Shard<M: Machine, C>(Mutex<Users<M, C>>);

struct Users<M: Machine, C> {
    slots: BTreeMap<UserId, Arc<Slot<M, C>>>,
    newest: Generation,
}

impl<M: Machine, C: Dispatch<M>> Registry<M, C> {
    /// An empty registry. More shards than threads that run at once make it unlikely that two users share a lock.
    #[must_use]
    pub fn new(shards: NonZeroUsize) -> Self {
        let shard = |_| Shard(Mutex::new(Users { slots: BTreeMap::new(), newest: Generation(0) }));
        Self { shards: (0..shards.get()).map(shard).collect() }
    }

    /// Calls the act with the user's live machine. If there is none, `open` makes one, in a new slot.
    ///
    /// `open` is called under the new slot's lock, and so is the act; see [`Dispatch::dispatch`] for what neither may do.
    pub fn with_or_open<R>(
        &self,
        bounds: &M::Bounds,
        user: UserId,
        mut open: impl FnMut(Generation, &mut M::Orders) -> (M, C),
        mut act: impl FnOnce(&mut Locked<'_, M, C>) -> R,
    ) -> (Arc<Slot<M, C>>, R) {
        loop {
            let slot = self.find_or_insert(user);
            match slot.with(bounds, Some(|orders: &mut M::Orders| open(slot.generation(), orders)), act) {
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

    /// Calls the act with the slot's machine, if that is still its user's live one. Opens nothing.
    pub fn with<R>(
        &self,
        bounds: &M::Bounds,
        slot: &Slot<M, C>,
        act: impl FnOnce(&mut Locked<'_, M, C>) -> R,
    ) -> Option<R> {
        let never = None::<fn(&mut M::Orders) -> (M, C)>;
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

    /// The user's slot, live when it was looked up.
    #[must_use]
    pub fn find(&self, user: UserId) -> Option<Arc<Slot<M, C>>> {
        lock(self.shard(user)).slots.get(&user).cloned()
    }

    /// Every slot that is in the map from before this call until after it, and perhaps others.
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

    /// Takes a slot that is over out of the map, if it is still there.
    fn forget(&self, slot: &Slot<M, C>) {
        if let Entry::Occupied(found) = lock(self.shard(slot.user())).slots.entry(slot.user())
            && found.get().generation() == slot.generation()
        {
            found.remove();
        }
    }

    fn shard(&self, user: UserId) -> &Mutex<Users<M, C>> {
        // Users are numbered as they come; the multiplication spreads neighbours over the shards.
        let spread = user.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        &self.shards[spread as usize % self.shards.len()].0
    }
}

impl<M: Machine, C> fmt::Debug for Registry<M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}
