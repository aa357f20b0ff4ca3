//! Maps that several threads use at once.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard};

use crate::sync::lock;

/// A map split into shards by key, each behind its own lock. No other code runs while a lock is held, except in
/// [`Sharded::each`].
pub(crate) struct Sharded<K, V> {
    shards: Box<[Mutex<HashMap<K, V>>]>,
    hasher: RandomState,
}

impl<K: Hash + Eq, V> Sharded<K, V> {
    pub(crate) fn new(shards: usize) -> Self {
        Self { shards: (0..shards.max(1)).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    pub(crate) fn lock(&self, key: &K) -> MutexGuard<'_, HashMap<K, V>> {
        let shard = usize::try_from(self.hasher.hash_one(key)).unwrap_or_default() % self.shards.len();
        lock(&self.shards[shard])
    }

    pub(crate) fn each(&self, mut act: impl FnMut(&mut HashMap<K, V>)) {
        for shard in &self.shards {
            act(&mut lock(shard));
        }
    }
}
