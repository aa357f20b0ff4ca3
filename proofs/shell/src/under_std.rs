//! The scenarios on real threads, with the shell as production links it.

pub use lockstep::shell;

#[path = "scenario/mod.rs"]
pub mod scenario;
#[path = "sync_std.rs"]
pub mod sync;
