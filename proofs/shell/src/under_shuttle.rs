//! The shell and the scenarios, compiled against shuttle.

#[path = "scenario/mod.rs"]
pub mod scenario;
#[path = "../../../runtime/src/shell/mod.rs"]
pub mod shell;
#[path = "sync_shuttle.rs"]
pub mod sync;
