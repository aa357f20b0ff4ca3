//! The memory of the process, as the kernel counts it.
//!
//! The figure in reports is the growth of the resident set over one run: the peak during the run minus the resident set
//! before it. The peak counter is reset first (`5` written to `/proc/self/clear_refs`). The figure therefore includes
//! the visited set, the queue with its paths, and the allocator's slack. It is the memory that the computer must have,
//! not the sum of the type sizes. A later run reuses memory that the allocator kept, without growth, so only a run in a
//! fresh process is measured fully. `prove bench` does that.

use std::fs;

/// One measurement.
#[derive(Debug)]
pub struct Meter {
    before: Option<u64>,
}

impl Meter {
    /// Resets the kernel's peak and records the current resident set.
    pub fn start() -> Self {
        // Without permission to reset, an earlier peak only hides growth below it.
        let _ = fs::write("/proc/self/clear_refs", "5");
        Self { before: field("VmRSS:") }
    }

    /// Returns by how many bytes the resident set grew at its peak since [`start`](Self::start). `None` if the kernel
    /// does not report it or nothing grew.
    pub fn growth(&self) -> Option<u64> {
        field("VmHWM:")?.checked_sub(self.before?).filter(|grown| *grown > 0)
    }
}

/// Reads a size from `/proc/self/status`, in bytes.
fn field(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}
