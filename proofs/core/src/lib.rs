//! The core's source, compiled against loom, and loom's findings in it and in broken variants.
//!
//! This crate's tests compile the same scenarios against shuttle and against `std`, with the core as production links
//! it. Running loom therefore needs neither shuttle nor the runtime.

#![forbid(unsafe_code)]

pub mod exhaust;
pub mod obligation;
pub mod under_loom;

pub use obligation::{Broken, Obligation, obligations, variants};
