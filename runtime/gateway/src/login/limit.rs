//! Rate limiting: token buckets in a bounded map, by a monotonic clock.

use lockstep::internal::lock;
use lockstep::internal::millis;
use lockstep::verify::clock::Clock;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// A rate: `burst` times at once, and once more every `refill`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The number of times at once.
    pub burst: u32,
    /// The time until one more. Zero means no limit.
    pub refill: Duration,
}

/// Token buckets by key, at most `bound` of them. If there are more keys, the bucket that is nearest to full is
/// dropped, because that loses the least.
#[derive(Debug)]
pub(crate) struct Limiter<K> {
    rate: Rate,
    bound: usize,
    clock: Clock,
    /// The time at which a bucket will be full again. Each take moves it by `refill`.
    buckets: Mutex<BTreeMap<K, u64>>,
}

impl<K: Ord + Clone> Limiter<K> {
    pub(crate) fn new(rate: Rate, bound: usize, clock: Clock) -> Self {
        Self { rate, bound, clock, buckets: Mutex::default() }
    }

    /// Takes one token.
    ///
    /// # Errors
    ///
    /// The time until there is one.
    pub(crate) fn take(&self, key: &K) -> Result<(), Duration> {
        let refill = millis(self.rate.refill);
        if refill == 0 {
            return Ok(());
        }
        let span = refill.saturating_mul(u64::from(self.rate.burst));
        let mut buckets = lock(&self.buckets);
        // Read the clock under the lock, so that it is not before the instant of another take.
        let now = self.clock.elapsed();
        let full_at = buckets.get(key).map_or(now, |full_at| now.max(*full_at));
        let next = full_at.saturating_add(refill);
        if next - now > span {
            return Err(Duration::from_millis(next - now - span));
        }
        if !buckets.contains_key(key) && buckets.len() >= self.bound {
            buckets.retain(|_, full_at| *full_at > now);
            let nearest = buckets.iter().min_by_key(|(_, full_at)| **full_at).map(|(key, _)| key.clone());
            if let Some(nearest) = nearest.filter(|_| buckets.len() >= self.bound) {
                buckets.remove(&nearest);
            }
        }
        buckets.insert(key.clone(), next);
        Ok(())
    }

    /// Returns a token that was taken for a legitimate attempt.
    pub(crate) fn give_back(&self, key: &K) {
        let mut buckets = lock(&self.buckets);
        if let Some(full_at) = buckets.get_mut(key) {
            *full_at = full_at.saturating_sub(millis(self.rate.refill));
        }
    }
}
