//! The registry: from a user to the one live cell of that user.
//!
//! | what | who may touch it, and when |
//! | --- | --- |
//! | a shard: its users' cells, and the newest generation that it gave out | whoever holds the shard's lock, for one look-up or one change of the map |
//!
//! **Lock order.** A shard's lock and a cell's lock are never held together, so there is no order between them to get
//! wrong. What can happen between the two is fenced by the generation:
//!
//! * **SH-1** A cell is over under its own lock, and out of the map a moment later. Whoever finds a cell that is over
//!   takes it out too, and looks again. Either takes out *that generation* and no other, so a late one cannot take out
//!   the successor: a live cell stays in the map until it is over, and the map has one place for a user.

use core::fmt;
use core::num::NonZeroUsize;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use lockstep_model::{Generation, UserId};

use super::cell::{Carry, Cell, Live, Machine, Visit};
use super::sync::{Arc, Mutex, lock};

/// The cells of a process.
pub struct Registry<M: Machine, C> {
    shards: Box<[Shard<M, C>]>,
}

/// Aligned to a cache line, so that users of two shards do not slow each other.
#[repr(align(64))]
struct Shard<M: Machine, C>(Mutex<Users<M, C>>);

struct Users<M: Machine, C> {
    cells: BTreeMap<UserId, Arc<Cell<M, C>>>,
    newest: Generation,
}

impl<M: Machine, C: Carry<M>> Registry<M, C> {
    /// An empty registry. More shards than threads that run at once make it unlikely that two users share a lock.
    #[must_use]
    pub fn new(shards: NonZeroUsize) -> Self {
        let shard = |_| Shard(Mutex::new(Users { cells: BTreeMap::new(), newest: Generation(0) }));
        Self { shards: (0..shards.get()).map(shard).collect() }
    }

    /// Calls the visitor with the user's live machine. If there is none, `open` makes one, in a new cell.
    ///
    /// `open` is called under the new cell's lock, and so is the visitor; see [`Carry::carry`] for what neither may do.
    pub fn enter<R>(
        &self,
        bounds: &M::Bounds,
        user: UserId,
        mut open: impl FnMut(Generation, &mut M::Orders) -> (M, C),
        mut visitor: impl FnOnce(&mut Live<'_, M, C>) -> R,
    ) -> (Arc<Cell<M, C>>, R) {
        loop {
            let cell = self.find_or_insert(user);
            match cell.visit(bounds, Some(|orders: &mut M::Orders| open(cell.generation(), orders)), visitor) {
                Visit::Done { result, over } => {
                    if over {
                        self.forget(&cell);
                    }
                    return (cell, result);
                }
                Visit::Closed(again) => visitor = again,
            }
            self.forget(&cell);
        }
    }

    /// Calls the visitor with the cell's machine, if that is still its user's live one. Opens nothing.
    pub fn visit<R>(
        &self,
        bounds: &M::Bounds,
        cell: &Cell<M, C>,
        visitor: impl FnOnce(&mut Live<'_, M, C>) -> R,
    ) -> Option<R> {
        let never = None::<fn(&mut M::Orders) -> (M, C)>;
        match cell.visit(bounds, never, visitor) {
            Visit::Done { result, over } => {
                if over {
                    self.forget(cell);
                }
                Some(result)
            }
            Visit::Closed(_) => None,
        }
    }

    /// The user's cell, live when it was looked up.
    #[must_use]
    pub fn find(&self, user: UserId) -> Option<Arc<Cell<M, C>>> {
        lock(self.shard(user)).cells.get(&user).cloned()
    }

    /// Every cell that is in the map from before this call until after it, and perhaps others.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Cell<M, C>>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(lock(&shard.0).cells.values().cloned());
        }
        all
    }

    fn find_or_insert(&self, user: UserId) -> Arc<Cell<M, C>> {
        let mut users = lock(self.shard(user));
        let Users { cells, newest } = &mut *users;
        let cell = cells.entry(user).or_insert_with(|| {
            *newest = Generation(newest.0.wrapping_add(1));
            Arc::new(Cell::new(user, *newest))
        });
        Arc::clone(cell)
    }

    /// Takes a cell that is over out of the map, if it is still there.
    fn forget(&self, cell: &Cell<M, C>) {
        if let Entry::Occupied(found) = lock(self.shard(cell.user())).cells.entry(cell.user())
            && found.get().generation() == cell.generation()
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
