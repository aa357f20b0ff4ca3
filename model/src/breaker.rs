//! One user's circuit breaker: after too many consecutive failed runs, no new ones for a while.
//!
//! It belongs to one session, so one user's failures do not block another user (ISO-1).

use crate::bounds::Bounds;

/// Counts consecutive failed runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Breaker {
    failures: u8,
    open: bool,
}

impl Breaker {
    /// Whether no new run may begin.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// A run succeeded.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// A run failed. Returns whether the breaker has opened with it, so that its timer must be armed.
    pub const fn failed(&mut self, bounds: &Bounds) -> bool {
        if bounds.failures == 0 || self.open {
            return false;
        }
        self.failures += 1;
        self.open = self.failures >= bounds.failures;
        self.open
    }

    /// The time is over: runs may begin again. Returns whether the breaker was open.
    pub const fn reset(&mut self) -> bool {
        self.failures = 0;
        core::mem::replace(&mut self.open, false)
    }
}
