//! The primitives of `std`, for the scenarios on real threads.

pub use std::sync::Arc;

pub use std::sync::{Condvar, Mutex, MutexGuard};
pub use std::thread;

use std::hash::{BuildHasher, RandomState};
use std::sync::PoisonError;

/// As production's `lock`.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`], after a wait.
pub fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// A random number.
pub fn random() -> usize {
    RandomState::new().hash_one(()) as usize
}
