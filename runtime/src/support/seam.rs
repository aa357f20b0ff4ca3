//! Calling an embedder's code behind an interface of this crate.

use core::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

/// Makes the call, and returns `None` if it panics, in the call or in its future: the awaiting task continues and can
/// return an answer. The call may be repeated; the called code must decide whether it is still consistent.
pub(crate) async fn ask<'a, T>(call: impl FnOnce() -> BoxFuture<'a, T>) -> Option<T> {
    AssertUnwindSafe(async { call().await }).catch_unwind().await.ok()
}
