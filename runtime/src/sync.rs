//! The primitives that the core is built from.
//!
//! The files of [`core`](crate::core) name them `super::sync::…`, and `core/mod.rs` takes `sync` from its parent
//! module. Including that file with `#[path]` beside another `sync` module compiles the same source against other
//! primitives; the proofs do this with loom's and shuttle's. A private `--cfg` would work too, but it would rebuild
//! every dependency, and the plain test command would not run the proofs.

pub(crate) use std::sync::{Arc, Mutex, MutexGuard};

use std::sync::PoisonError;

/// Locks, even if an earlier holder panicked. A slot detects an unfinished step itself. The data behind the core's
/// other locks is consistent whenever foreign code runs.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
