//! Asking somebody else's code, behind a seam of this crate.

use core::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

/// Asks, and returns `None` if what was asked panicked, in the call or in its future: the task that waits for the answer
/// goes on, and whoever waits for the task gets one. What was asked may be asked again, and knows best whether it still
/// holds together.
pub(crate) async fn ask<'a, T>(call: impl FnOnce() -> BoxFuture<'a, T>) -> Option<T> {
    AssertUnwindSafe(async { call().await }).catch_unwind().await.ok()
}
