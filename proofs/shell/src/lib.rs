//! The core's source, compiled against loom, and what loom finds in it and in broken variants.
//!
//! The same scenarios are compiled against shuttle and against `std`, beside the core as production links it, in this
//! crate's tests: so that asking loom needs neither shuttle nor the runtime.

#![forbid(unsafe_code)]

pub mod exhaust;
pub mod obligation;
pub mod under_loom;

pub use obligation::{Broken, Obligation, obligations, variants};
