//! The shell's source, compiled against loom and shuttle, and what they find in it and in broken variants.

#![forbid(unsafe_code)]
#![allow(clippy::duplicate_mod, reason = "the same source beside three sets of primitives is what this crate is for")]

pub mod exhaust;
pub mod obligation;
pub mod under_loom;
pub mod under_shuttle;
pub mod under_std;

pub use obligation::{Broken, Obligation, obligations, variants};
