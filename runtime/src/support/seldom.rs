//! Rate-limited log lines, for events that others could cause without end: each kind is logged at once, and then at
//! most once per interval, with its count.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::sync::lock;

/// The most kinds that are told apart. Further kinds are not rate-limited, so a kind must be one of our own names and
/// not a peer's text.
const MAX_KINDS: usize = 256;

/// Decides which lines are due.
#[derive(Debug)]
pub struct Seldom<K> {
    interval: Duration,
    said: Mutex<BTreeMap<K, (Instant, u64)>>,
}

impl<K: Ord + Clone> Seldom<K> {
    /// Returns a limiter that logs each kind at most once per `interval`.
    pub const fn new(interval: Duration) -> Self {
        Self { interval, said: Mutex::new(BTreeMap::new()) }
    }

    /// Counts an event of this kind. If a line is due, returns the number of events since the last line.
    pub fn say(&self, kind: &K) -> Option<u64> {
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
