//! General parts that the other modules use, and that know none of them.

mod digest;
pub(crate) mod hex;
pub(crate) mod private_file;
pub(crate) mod random;
pub(crate) mod seam;
pub(crate) mod seldom;
pub(crate) mod sentence;
pub(crate) mod sharded;

pub(crate) use digest::digest64;

/// A boxed future, so that this crate's traits can be used as trait objects.
pub use futures_util::future::BoxFuture;
