//! The primitives that the shell is built from.
//!
//! The files of [`shell`](crate::shell) name them `super::sync::…`, and `shell/mod.rs` takes `sync` from the module in
//! which it stands. Whoever includes that file with `#[path]` beside another `sync` compiles the very same source
//! against other primitives, and the proofs do so with loom's and with shuttle's. A private `--cfg` would do too, but
//! then every dependency is built once more, and the plain test command would not run the proofs.

pub(crate) use std::sync::{Arc, Mutex, MutexGuard};

use std::sync::PoisonError;

/// Locks, whether or not an earlier holder panicked. A cell sees by itself that a step did not come to its end; what is
/// behind the shell's other locks is whole whenever foreign code runs.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
