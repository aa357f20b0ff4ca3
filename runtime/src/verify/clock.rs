//! Two clocks in one value: the wall clock, for dates, which may jump, and a monotonic clock, for durations. Tests
//! control both.

use core::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::payload::now_ms;

type Time = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Tells the time in milliseconds. Clones tell the same time.
#[derive(Clone)]
pub struct Clock {
    wall: Time,
    elapsed: Time,
}

impl Clock {
    /// The system's wall clock, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn system() -> Self {
        Self::new(now_ms)
    }

    /// Milliseconds since this call. It never goes back, so it measures ages but not dates.
    #[must_use]
    pub fn monotonic() -> Self {
        let elapsed = elapsed();
        Self { wall: Arc::clone(&elapsed), elapsed }
    }

    /// Takes dates from `now`, and durations from the system's clock.
    #[must_use]
    pub fn new(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { wall: Arc::new(now), elapsed: elapsed() }
    }

    /// Takes durations from `elapsed`, which must not go back.
    #[must_use]
    pub fn with_elapsed(self, elapsed: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { elapsed: Arc::new(elapsed), ..self }
    }

    /// The date, in milliseconds. It may jump, in both directions.
    #[must_use]
    pub fn now(&self) -> u64 {
        (self.wall)()
    }

    /// Milliseconds since some moment in this process. It never goes back.
    #[must_use]
    pub fn elapsed(&self) -> u64 {
        (self.elapsed)()
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

fn elapsed() -> Time {
    let start = Instant::now();
    Arc::new(move || millis(start.elapsed()))
}

/// A duration in milliseconds.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How long ago `then` was, or `None` if the clock has since gone back before it.
pub(crate) fn age(now: u64, then: u64) -> Option<u64> {
    now.checked_sub(then)
}
