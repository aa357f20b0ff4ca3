//! The deadlines of all machines, with one timer wheel per shard.
//!
//! A machine emits `Arm` and `Disarm` under the core's locks. Each becomes an entry in a hashed wheel
//! ([`tokio_util::time::DelayQueue`]), not a task or a sleep of its own. One task per shard waits for the next deadline
//! and passes expired timers to a callback that finds the machine. Arming again replaces the deadline. An expiry that
//! was in flight when its timer was disarmed still arrives: machines ignore expiries that mean nothing in their state.

use core::task::Poll;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use foldhash::fast::RandomState;
use lockstep_model::Timer;
use lockstep_model::gateway::Place;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use crate::sharded::ById;
use crate::sync::lock;

/// The longest deadline: the wheel's own limit is 64^6 ms. The owner of a longer one asks again by then.
const MAX_AFTER: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);

/// Expiries that a shard's task delivers before it yields to other tasks.
const BATCH: usize = 256;

/// The timer wheels of a process.
pub(crate) struct Timers {
    shards: Box<[Mutex<Wheel>]>,
    hasher: RandomState,
}

#[derive(Default)]
struct Wheel {
    queue: DelayQueue<(Place, Timer)>,
    keys: ById<(Place, Timer), Key>,
}

impl Timers {
    /// Creates `shards` empty wheels, at least one.
    pub(crate) fn new(shards: usize) -> Self {
        Self { shards: (0..shards.max(1)).map(|_| Mutex::default()).collect(), hasher: RandomState::default() }
    }

    /// Counts the armed timers.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).keys.len()).sum()
    }

    /// Arms a timer, or moves its deadline.
    pub(crate) fn arm(&self, place: Place, timer: Timer, after: Duration) {
        let Wheel { queue, keys } = &mut *self.wheel(place);
        let after = after.min(MAX_AFTER);
        match keys.get(&(place, timer)) {
            Some(key) => queue.reset(key, after),
            None => {
                let key = queue.insert((place, timer), after);
                keys.insert((place, timer), key);
            }
        }
    }

    /// Disarms a timer, if it is armed.
    pub(crate) fn disarm(&self, place: Place, timer: Timer) {
        let Wheel { queue, keys } = &mut *self.wheel(place);
        if let Some(key) = keys.remove(&(place, timer)) {
            queue.remove(&key);
        }
    }

    /// Serves one shard forever: delivers its expiries. `expired` is called without a lock held.
    pub(crate) async fn serve(self: Arc<Self>, shard: usize, expired: impl Fn(Place, Timer)) {
        let mut due = Vec::new();
        loop {
            core::future::poll_fn(|context| {
                let Wheel { queue, keys } = &mut *lock(&self.shards[shard]);
                while due.len() < BATCH
                    && let Poll::Ready(Some(entry)) = queue.poll_expired(context)
                {
                    let entry = entry.into_inner();
                    keys.remove(&entry);
                    due.push(entry);
                }
                if due.is_empty() { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            for (place, timer) in due.drain(..) {
                expired(place, timer);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Returns the number of shards to serve.
    pub(crate) const fn shards(&self) -> usize {
        self.shards.len()
    }

    fn wheel(&self, place: Place) -> MutexGuard<'_, Wheel> {
        let shard = usize::try_from(self.hasher.hash_one(place)).unwrap_or_default() % self.shards.len();
        lock(&self.shards[shard])
    }
}
