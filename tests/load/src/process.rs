//! What a process has used: processor time, bytes written, resident memory (proc(5)); and where it may run.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// What a process has used up to a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// Nanoseconds of each thread: precise, but a thread that ends takes its own with it.
    threads: HashMap<u32, u64>,
    /// User and system time of the whole process, in hundredths of a second.
    ticks: Duration,
    /// Bytes that were caused to be written to a disk.
    pub(crate) written: u64,
    /// Resident memory.
    pub(crate) resident_kib: u64,
}

impl Usage {
    /// What a process has used until now; nothing if there is none.
    pub(crate) fn of(process: u32) -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default();
        let field = |text: &str, name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
        };
        Self {
            threads: threads(process),
            ticks: ticks(&read("stat")).unwrap_or_default(),
            written: field(&read("io"), "write_bytes:"),
            resident_kib: field(&read("status"), "VmRSS:"),
        }
    }

    /// What this process has used.
    pub(crate) fn own() -> Self {
        Self::of(std::process::id())
    }

    /// Processor time since `before`.
    pub(crate) fn cpu_since(&self, before: &Self) -> Duration {
        let gone = before.threads.keys().any(|thread| !self.threads.contains_key(thread));
        if gone || self.threads.is_empty() {
            return self.ticks.saturating_sub(before.ticks);
        }
        let used = |(thread, now): (&u32, &u64)| now.saturating_sub(before.threads.get(thread).copied().unwrap_or(0));
        Duration::from_nanos(self.threads.iter().map(used).sum())
    }
}

fn threads(process: u32) -> HashMap<u32, u64> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { return HashMap::new() };
    let of = |entry: fs::DirEntry| {
        let spent = fs::read_to_string(entry.path().join("schedstat")).ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, spent.split_whitespace().next()?.parse().ok()?))
    };
    tasks.flatten().filter_map(of).collect()
}

fn ticks(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(10 * ticks))
}

/// Which processor a process runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pinning {
    /// Servers on core 0, the client on core 1.
    Apart,
    /// All where the system puts them, and why.
    None(&'static str),
}

impl Pinning {
    /// Pins this process, and thereby the threads that it starts later, beside the servers.
    pub(crate) fn establish() -> Self {
        if fs::read_dir("/sys/devices/system/cpu/cpu1").is_err() {
            return Self::None("one core: server and client share it");
        }
        let pinned = Command::new("taskset").args(["-cp", "1", &std::process::id().to_string()]).output();
        if pinned.is_ok_and(|pinned| pinned.status.success()) {
            Self::Apart
        } else {
            Self::None("no taskset (Debian: util-linux): nothing is pinned")
        }
    }

    /// The command that starts a server.
    pub(crate) fn server(&self, program: &std::path::Path) -> Command {
        match self {
            Self::Apart => {
                let mut command = Command::new("taskset");
                command.args(["-c", "0"]).arg(program);
                command
            }
            Self::None(_) => Command::new(program),
        }
    }

    /// In words.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            Self::Apart => "server on core 0, client on core 1",
            Self::None(why) => why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_a_process_is_read_behind_a_name_with_blanks() {
        let stat = "1 (a b) c) S 0 0 0 0 0 0 0 0 0 0 7 3 0";
        assert_eq!(ticks(stat), Some(Duration::from_millis(100)));
    }

    #[test]
    fn time_that_this_process_spends_is_counted() {
        let before = Usage::own();
        let mut sum = 0_u64;
        while Usage::own().cpu_since(&before) < Duration::from_millis(20) {
            sum = (0..100_000).fold(sum, |sum, n| sum.wrapping_mul(31).wrapping_add(n));
        }
        assert_ne!(sum, 1);
    }
}
