//! The deadlines of all machines, with one timer wheel per shard.
//!
//! A machine emits `Arm` and `Disarm` under the core's locks. Each timer is an entry in a hashed wheel
//! ([`tokio_util::time::DelayQueue`]), not a task or a sleep of its own. One task per shard waits for the next deadline
//! and passes expired timers to a callback that finds the machine. Arming again replaces the deadline. An expiry that
//! was in flight when its timer was disarmed still arrives: machines ignore expiries that mean nothing in their state.
//!
//! Timers are armed with every event, and seldom expire. So a later deadline does not move the entry: the wheel delivers
//! it at the earlier one, and it is inserted again. And the entry of a session's timer for the log stays in the wheel for
//! a moment after the timer is disarmed, because the next event arms it again.

use core::task::Poll;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use foldhash::fast::RandomState;
use lockstep_model::Timer;
use lockstep_model::gateway::Place;
use tokio::time::Instant;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use crate::support::sharded::ById;
use crate::sync::lock;

/// The longest deadline: the wheel's own limit is 64^6 ms. The owner of a longer one asks again by then.
const MAX_AFTER: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);

/// The longest time that the entry of a disarmed timer stays in a wheel.
const MAX_UNARMED: Duration = Duration::from_secs(10);

/// Entries of the wheel that a shard's task handles before it yields to other tasks.
const BATCH: usize = 256;

/// The timer wheels of a process.
pub(crate) struct Timers {
    shards: Box<[Mutex<Wheel>]>,
    hasher: RandomState,
}

#[derive(Default)]
struct Wheel {
    queue: DelayQueue<(Place, Timer)>,
    entries: ById<(Place, Timer), Scheduled>,
    armed: usize,
}

/// A scheduled timer. The wheel delivers it at the deadline or before.
struct Scheduled {
    key: Key,
    /// `None` if the timer is disarmed.
    deadline: Option<Instant>,
}

impl Wheel {
    fn arm(&mut self, timer: (Place, Timer), after: Duration) {
        let deadline = Instant::now() + after;
        if let Some(entry) = self.entries.get_mut(&timer) {
            self.armed += usize::from(entry.deadline.replace(deadline).is_none());
            if deadline < self.queue.deadline(&entry.key) {
                self.queue.reset_at(&entry.key, deadline);
            }
            return;
        }
        let key = self.queue.insert_at(timer, deadline);
        self.entries.insert(timer, Scheduled { key, deadline: Some(deadline) });
        self.armed += 1;
    }

    fn disarm(&mut self, timer: (Place, Timer)) {
        let Some(entry) = self.entries.get_mut(&timer) else { return };
        if entry.deadline.take().is_none() {
            return;
        }
        self.armed -= 1;
        // The next batch arms it again.
        let stays = matches!(timer, (Place::Session(..), Timer::LogAnswer))
            && self.queue.deadline(&entry.key) <= Instant::now() + MAX_UNARMED;
        if !stays {
            self.queue.remove(&entry.key);
            self.entries.remove(&timer);
        }
    }

    /// The wheel has delivered this timer's entry, which was due at `delivered`. Returns whether the timer has expired.
    fn is_expired(&mut self, timer: (Place, Timer), delivered: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(&timer) else { return false };
        let expired = match entry.deadline {
            Some(deadline) if deadline > delivered => {
                entry.key = self.queue.insert_at(timer, deadline);
                return false;
            }
            Some(_) => true,
            None => false,
        };
        self.armed -= usize::from(expired);
        self.entries.remove(&timer);
        expired
    }
}

impl Timers {
    /// Creates `shards` empty wheels, at least one.
    pub(crate) fn new(shards: usize) -> Self {
        Self { shards: (0..shards.max(1)).map(|_| Mutex::default()).collect(), hasher: RandomState::default() }
    }

    /// Counts the armed timers.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).armed).sum()
    }

    /// Arms a timer, or moves its deadline.
    pub(crate) fn arm(&self, place: Place, timer: Timer, after: Duration) {
        self.wheel(place).arm((place, timer), after.min(MAX_AFTER));
    }

    /// Disarms a timer, if it is armed.
    pub(crate) fn disarm(&self, place: Place, timer: Timer) {
        self.wheel(place).disarm((place, timer));
    }

    /// Serves one shard forever: delivers its expiries. `expired` is called without a lock held.
    pub(crate) async fn serve(self: Arc<Self>, shard: usize, expired: impl Fn(Place, Timer)) {
        let mut due = Vec::new();
        loop {
            core::future::poll_fn(|context| {
                let wheel = &mut *lock(&self.shards[shard]);
                for _ in 0..BATCH {
                    let Poll::Ready(Some(entry)) = wheel.queue.poll_expired(context) else {
                        return if due.is_empty() { Poll::Pending } else { Poll::Ready(()) };
                    };
                    let (delivered, timer) = (entry.deadline(), entry.into_inner());
                    if wheel.is_expired(timer, delivered) {
                        due.push(timer);
                    }
                }
                Poll::Ready(())
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
