//! Measurements of the process. The node's machine decides what they mean for its health.

use std::sync::atomic::{AtomicU32, Ordering};

use lockstep_model::health::Reach;

/// How many verifications gave a verdict since the last measurement, and how many did not.
#[derive(Debug, Default)]
pub(super) struct Verifications {
    verdicts: AtomicU32,
    unavailable: AtomicU32,
}

impl Verifications {
    pub(super) fn verdict(&self) {
        self.verdicts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn unavailable(&self) {
        self.unavailable.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether the verifier is reachable, and resets the counts.
    pub(super) fn take(&self) -> Reach {
        let (verdicts, unavailable) =
            (self.verdicts.swap(0, Ordering::Relaxed), self.unavailable.swap(0, Ordering::Relaxed));
        if verdicts == 0 && unavailable > 0 { Reach::OutOfReach } else { Reach::Reached }
    }
}

/// The memory and open files of the process on Linux; zeros where there is no `/proc`. Measuring reads files: call it
/// where blocking is allowed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    pub(super) memory: u64,
    pub(super) files: u64,
    pub(super) file_limit: u64,
}

impl Process {
    pub(super) fn measure() -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let files = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
        Self {
            memory: resident(&read("status")).unwrap_or(0),
            files,
            file_limit: soft_limit(&read("limits")).unwrap_or(0),
        }
    }
}

/// `VmRSS: 12345 kB`
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// `Max open files            1024                 524288               files`
fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_lines_are_read() {
        let status = "Name:\tlockstep\nVmPeak:\t  200 kB\nVmRSS:\t   12345 kB\n";
        assert_eq!(resident(status), Some(12_345 * 1024));
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(limits), Some(1024));
        assert_eq!((resident(""), soft_limit("Max open files            unlimited")), (None, None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_has_memory_and_files() {
        let before = Process::measure();
        let file = std::fs::File::open("/proc/self/status").expect("a file");
        let after = Process::measure();
        assert!(before.memory > 100_000 && after.files > 3 && after.files <= after.file_limit, "{after:?}");
        drop(file);
    }

    #[test]
    fn a_verifier_that_gave_no_verdict_is_out_of_reach() {
        let verifications = Verifications::default();
        assert_eq!(verifications.take(), Reach::Reached, "it was not asked");
        verifications.unavailable();
        assert_eq!(verifications.take(), Reach::OutOfReach);
        verifications.unavailable();
        verifications.verdict();
        assert_eq!(verifications.take(), Reach::Reached);
    }
}
