//! Maps that several threads use at once.
//!
//! The keys are numbers of this process or its log: ids of users, runs and connections. No client chooses them, so the
//! maps need no hash that resists one who does.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, MutexGuard};

use foldhash::fast::RandomState;

use crate::sync::lock;

/// A map by ids of this process or its log.
pub(crate) type ById<K, V> = HashMap<K, V, RandomState>;

/// A map split into shards by key, each behind its own lock. No other code runs while a lock is held, except in
/// [`Sharded::each`].
pub(crate) struct Sharded<K, V> {
    shards: Box<[Mutex<ById<K, V>>]>,
    hasher: RandomState,
}

impl<K: Hash + Eq, V> Sharded<K, V> {
    pub(crate) fn new(shards: usize) -> Self {
        Self { shards: (0..shards.max(1)).map(|_| Mutex::default()).collect(), hasher: RandomState::default() }
    }

    pub(crate) fn lock(&self, key: &K) -> MutexGuard<'_, ById<K, V>> {
        let shard = usize::try_from(self.hasher.hash_one(key)).unwrap_or_default() % self.shards.len();
        lock(&self.shards[shard])
    }

    pub(crate) fn each(&self, mut act: impl FnMut(&mut ById<K, V>)) {
        for shard in &self.shards {
            act(&mut lock(shard));
        }
    }
}
