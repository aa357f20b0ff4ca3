//! The core, the scenarios and the broken variants, compiled against loom.

#[path = "../../../runtime/src/core/mod.rs"]
pub mod core;
#[path = "scenario/mod.rs"]
pub mod scenario;
#[path = "sync_loom.rs"]
pub mod sync;
#[path = "variant/mod.rs"]
pub mod variant;
