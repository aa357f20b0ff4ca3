//! loom's primitives, in the place where production has those of `std`.
//!
//! [`Arc`] stays that of `std`: nothing in a core depends on how many hold a value, so counting them would only
//! multiply the interleavings.

pub use std::sync::Arc;

pub use loom::sync::{Condvar, Mutex, MutexGuard};
pub use loom::thread;

use std::sync::PoisonError;

/// As production's `lock`.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`], after a wait.
pub fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// No randomness: every run of a scenario must be the same but for the order of its threads.
pub const fn random() -> usize {
    0
}
