//! The shell, the scenarios and the broken variants, compiled against loom.

#[path = "scenario/mod.rs"]
pub mod scenario;
#[path = "../../../runtime/src/shell/mod.rs"]
pub mod shell;
#[path = "sync_loom.rs"]
pub mod sync;
#[path = "variant/mod.rs"]
pub mod variant;
