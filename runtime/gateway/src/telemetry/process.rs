//! Resource usage of the process, with the metric names of Prometheus' own clients. It is read from Linux' /proc; on
//! other systems these metrics are missing.

use std::fs;
use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

/// Ticks of the kernel's clock per second, as /proc counts them on every current Linux.
const TICKS: f64 = 100.0;

/// The gauges, their units and their help texts.
const GAUGES: [(&str, Unit, &str); 5] = [
    ("process_resident_memory_bytes", Unit::Bytes, "Resident memory of the process."),
    ("process_open_fds", Unit::Count, "Open files, including sockets."),
    ("process_max_fds", Unit::Count, "The limit of open files."),
    ("process_threads", Unit::Count, "Threads."),
    ("process_start_time_seconds", Unit::Seconds, "Start of the process, in seconds since 1970."),
];

pub(super) fn describe() {
    for (name, unit, help) in GAUGES {
        describe_gauge!(name, unit, help);
    }
    describe_counter!("process_cpu_seconds_total", Unit::Seconds, "Processor time used, in whole seconds.");
    describe_gauge!("lockstep_build_info", Unit::Count, "1, with the running version.");
    gauge!("lockstep_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// The contents of /proc/self/stat.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    cpu: Duration,
    threads: f64,
    /// Since the machine's own start.
    started: Duration,
}

/// Updates the metrics.
pub(super) fn observe() {
    if let Ok(status) = fs::read_to_string("/proc/self/status")
        && let Some(kilobytes) = field(&status, "VmRSS:").and_then(|value| value.split(' ').next()?.parse::<f64>().ok())
    {
        gauge!("process_resident_memory_bytes").set(kilobytes * 1024.0);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the descriptor of this directory.
        gauge!("process_open_fds").set(super::count(open.count().saturating_sub(1)));
    }
    if let Ok(limits) = fs::read_to_string("/proc/self/limits")
        && let Some(files) = field(&limits, "Max open files").and_then(|value| value.split_whitespace().next())
    {
        gauge!("process_max_fds").set(files.parse().unwrap_or(f64::INFINITY));
    }
    let Some(stat) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| parsed(&stat)) else { return };
    gauge!("process_threads").set(stat.threads);
    counter!("process_cpu_seconds_total").absolute(stat.cpu.as_secs());
    let machine = fs::read_to_string("/proc/stat").ok();
    let machine = machine.as_deref().and_then(|stat| field(stat, "btime ")?.parse::<u64>().ok());
    if let Some(machine) = machine {
        gauge!("process_start_time_seconds")
            .set(Duration::from_secs(machine).saturating_add(stat.started).as_secs_f64());
    }
}

/// The value after a name, on the line that begins with it.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// Parses the needed fields of /proc/PID/stat (proc(5)). They follow the command's name, which may contain anything.
fn parsed(stat: &str) -> Option<Stat> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |index: usize| fields.get(index)?.trim().parse::<f64>().ok();
    let ticks = |index: usize| number(index).map(|ticks| Duration::from_secs_f64(ticks / TICKS));
    Some(Stat { cpu: ticks(11)? + ticks(12)?, threads: number(17)?, started: ticks(19)? })
}
