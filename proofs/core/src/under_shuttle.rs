//! The core and the scenarios, compiled against shuttle.

#[path = "../../../runtime/src/core/mod.rs"]
pub mod core;
#[path = "scenario/mod.rs"]
pub mod scenario;
#[path = "sync_shuttle.rs"]
pub mod sync;
