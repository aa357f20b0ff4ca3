//! A log in memory.

/// A log in memory.
#[derive(Debug)]
pub struct MemoryLog;
