//! The scenarios on real threads, with the core as production links it.

pub use lockstep::core;

#[path = "scenario/mod.rs"]
pub mod scenario;
#[path = "sync_std.rs"]
pub mod sync;
