//! How much memory the process holds, as the kernel counts it.
//!
//! The figure in reports is the growth of the resident set over one run: its
//! peak during the run minus what was resident before. The peak counter is set
//! back first (`5` written to `/proc/self/clear_refs`). So the figure contains
//! the visited set, the queue with its paths, and the allocator's slack; it is
//! what the machine must have, not what the types add up to. Memory that an
//! earlier run freed but the allocator kept is used again without growth, so
//! only a run in a fresh process is measured fully: `prove bench` does that.

use std::fs;

/// Starts one measurement.
#[derive(Debug)]
pub struct Meter {
    before: Option<u64>,
}

impl Meter {
    /// Sets the kernel's peak back and notes what is resident now.
    pub fn start() -> Self {
        // Without the right to reset, a peak of the past only hides growth below it.
        let _ = fs::write("/proc/self/clear_refs", "5");
        Self { before: field("VmRSS:") }
    }

    /// Bytes by which the resident set grew at its peak since
    /// [`start`](Self::start); `None` where the kernel does not tell or nothing grew.
    pub fn growth(&self) -> Option<u64> {
        field("VmHWM:")?.checked_sub(self.before?).filter(|grown| *grown > 0)
    }
}

/// A size in `/proc/self/status`, in bytes.
fn field(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}
