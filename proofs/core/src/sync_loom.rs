//! loom's primitives, in place of those of `std` that production uses.
//!
//! [`Arc`] remains that of `std`: nothing in a core depends on reference counts, so tracking them would only multiply
//! the interleavings.

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

/// Not random: runs of a scenario must differ only in the order of its threads.
pub const fn random() -> usize {
    0
}
