//! shuttle's primitives, in place of those of `std` that production uses.

pub use std::sync::Arc;

pub use shuttle::sync::{Condvar, Mutex, MutexGuard};
pub use shuttle::thread;

use std::sync::PoisonError;

use shuttle::rand::RngCore;

/// As production's `lock`.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`], after a wait.
pub fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// A number derived from shuttle's seed.
pub fn random() -> usize {
    shuttle::rand::thread_rng().next_u64() as usize
}
