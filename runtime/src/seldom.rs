//! Log lines that others could cause without end: each kind is said at once, and then once an interval, with its number.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::sync::lock;

/// Kinds that are told apart. More of them are said as often as they come, so a kind is a word of ours and no text of a peer's.
const MAX_KINDS: usize = 256;

/// Says which lines are due.
pub(crate) struct Seldom<K> {
    interval: Duration,
    said: Mutex<BTreeMap<K, (Instant, u64)>>,
}

impl<K: Ord + Clone> Seldom<K> {
    pub(crate) const fn new(interval: Duration) -> Self {
        Self { interval, said: Mutex::new(BTreeMap::new()) }
    }

    /// Something of this kind has happened. Returns how often it has since the last line, if one is due.
    pub(crate) fn say(&self, kind: &K) -> Option<u64> {
        self.say_at(kind, Instant::now())
    }

    fn say_at(&self, kind: &K, now: Instant) -> Option<u64> {
        let mut said = lock(&self.said);
        match said.get_mut(kind) {
            Some((last, times)) => {
                *times += 1;
                let due = now.duration_since(*last) >= self.interval;
                due.then(|| {
                    *last = now;
                    core::mem::take(times)
                })
            }
            None => {
                if said.len() < MAX_KINDS {
                    said.insert(kind.clone(), (now, 0));
                }
                Some(1)
            }
        }
    }
}
