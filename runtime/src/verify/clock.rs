//! The wall clock, as a value: expiry is judged by it, and a test turns it by hand.

use core::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::payload::now_ms;

/// Tells the time in milliseconds. A clone tells the same time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// The system's wall clock, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn system() -> Self {
        Self::new(now_ms)
    }

    /// Milliseconds since this call. It never goes backwards, so it measures ages and says nothing of dates.
    #[must_use]
    pub fn monotonic() -> Self {
        let start = Instant::now();
        Self::new(move || millis(start.elapsed()))
    }

    /// Whatever this says.
    #[must_use]
    pub fn new(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time, in milliseconds.
    #[must_use]
    pub fn now(&self) -> u64 {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock(..)")
    }
}

/// A duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How long ago `then` was, or `None` if the clock went back behind it since.
pub(crate) fn age(now: u64, then: u64) -> Option<u64> {
    now.checked_sub(then)
}
