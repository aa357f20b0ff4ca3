//! The deadlines of all machines, in one wheel a shard.
//!
//! A machine orders `Arm` and `Disarm` under the shell's locks; here that is an entry in a hashed wheel
//! ([`tokio_util::time::DelayQueue`]), not a task or a sleep of its own. One task a shard waits for the next deadline and
//! hands what has expired to the one who knows where the machine is. Arming again replaces the deadline. An expiry that
//! was under way when its timer was disarmed still arrives: the machines ignore what means nothing in their state.

use core::task::Poll;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lockstep_model::Timer;
use lockstep_model::gateway::Place;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use crate::sync::lock;

/// The longest deadline: the wheel's own bound is 64^6 ms. What lasts longer is asked for again by then.
const MAX_AFTER: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);

/// Expiries that a shard's task hands over between two looks at what else its thread has to do.
const BATCH: usize = 256;

/// The wheels of a process.
pub(crate) struct Timers {
    shards: Box<[Mutex<Wheel>]>,
    hasher: RandomState,
}

#[derive(Default)]
struct Wheel {
    queue: DelayQueue<(Place, Timer)>,
    keys: HashMap<(Place, Timer), Key>,
}

impl Timers {
    /// So many empty wheels.
    pub(crate) fn new(shards: usize) -> Self {
        Self { shards: (0..shards.max(1)).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// How many timers are armed.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).keys.len()).sum()
    }

    /// Sets a timer, or moves it.
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

    /// Calls a timer off, if it is set.
    pub(crate) fn disarm(&self, place: Place, timer: Timer) {
        let Wheel { queue, keys } = &mut *self.wheel(place);
        if let Some(key) = keys.remove(&(place, timer)) {
            queue.remove(&key);
        }
    }

    /// Serves one shard for ever: hands over what expires. `expired` is called without a lock held.
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

    /// How many shards there are to serve.
    pub(crate) const fn shards(&self) -> usize {
        self.shards.len()
    }

    fn wheel(&self, place: Place) -> MutexGuard<'_, Wheel> {
        let shard = usize::try_from(self.hasher.hash_one(place)).unwrap_or_default() % self.shards.len();
        lock(&self.shards[shard])
    }
}
