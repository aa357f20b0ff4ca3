//! A log in a file.

/// A log in a file.
#[derive(Debug)]
pub struct DiskLog;
