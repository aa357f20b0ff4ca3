//! One page of results: Markdown, with plots beside it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::plot::{Group, bars};
use crate::report::{BARE, Report, Row};

/// Writes one page of results, with plots beside it, from a stored run
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  target/release/load --format json > run.json
  target/release/load page run.json tests/load

Exit codes: 0 written, 1 it cannot be read or written, 2 wrong usage")]
pub(crate) struct Page {
    /// What `load --format json` has printed
    run: PathBuf,
    /// Where RESULTS.md and plots/ are written
    directory: PathBuf,
}

/// Reads a report.
pub(crate) fn read(path: &Path) -> Result<Report, String> {
    let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| fail(&error))?;
    serde_json::from_str(&text).map_err(|error| fail(&error))
}

/// Writes the page, and prints its summary.
pub(crate) fn write(page: &Page) -> Result<(), String> {
    let report = read(&page.run)?;
    let plots = page.directory.join("plots");
    let save =
        |path: PathBuf, text: &str| std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()));
    std::fs::create_dir_all(&plots).map_err(|error| format!("{}: {error}", plots.display()))?;
    for (name, svg) in pictures(&report) {
        save(plots.join(format!("{name}.svg")), &svg)?;
    }
    save(page.directory.join("RESULTS.md"), &markdown(&report))?;
    println!("{}", summary(&report));
    Ok(())
}

fn group(report: &Report, scenario: &str, figure: &str, unit: &str) -> Option<Group> {
    let bar = |row: &Row| {
        let value = row.figure(figure)?;
        Some((row.server.clone(), value, format!("{value:.1} {unit}")))
    };
    let bars: Vec<_> = report.of(scenario).filter_map(bar).collect();
    let per = report.of(scenario).next().map_or("", |row| row.unit.as_str());
    let title = if figure == "cpu_us" { format!("{scenario}, per {per}") } else { scenario.to_owned() };
    (!bars.is_empty()).then_some(Group { title, bars })
}

fn pictures(report: &Report) -> Vec<(&'static str, String)> {
    let all = |figure: &str, unit: &str| -> Vec<Group> {
        report.scenarios().into_iter().filter_map(|scenario| group(report, scenario, figure, unit)).collect()
    };
    // A closed loop at full speed measures the queue that it makes.
    let by_the_clock = ["paced", "slow", "connect", "storm", "jitter", "avalanche"];
    let latency = |scenario: &&str| by_the_clock.contains(scenario);
    let latencies = report.scenarios().into_iter().filter(latency);
    vec![
        ("cpu", bars("Processor time of the server", &all("cpu_us", "µs"))),
        (
            "latency",
            bars(
                "Latency, 99th percentile",
                &latencies.filter_map(|s| group(report, s, "p99_ms", "ms")).collect::<Vec<_>>(),
            ),
        ),
        ("last", bars("Time to the last of all users", &all("last_ms", "ms"))),
        (
            "memory",
            bars("Resident memory per connection (idle), per user with 1,000 events (history)", &all("kib", "KiB")),
        ),
    ]
}

fn markdown(report: &Report) -> String {
    let mut text = String::from(
        "# Lockstep beside its peers\n\nWritten by `tests/bench peers`. `load --help` says what each scenario does.\n\n",
    );
    let _ = writeln!(text, "| | |\n| --- | --- |");
    let versions: Vec<String> = report.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let sizes = format!("{} users in scenarios with many, {} s of each steady load", report.users, report.seconds);
    for (name, value) in [
        ("date", report.date.clone()),
        ("machine", report.machine.clone()),
        ("cores", report.pinning.clone()),
        ("versions", versions.join(", ")),
        ("command", format!("`{}`", report.command)),
        ("sizes", sizes),
    ] {
        let _ = writeln!(text, "| {name} | {} |", value.replace('|', "\\|"));
    }
    text.push_str(
        "\nWhere the machine was shared with other work while this ran, processor time per event holds within 10 to 20 %: \
         `±`, half the range of the repeats, says how far. Latency, throughput and time to the last hold less, and are shown \
         for their order of magnitude. In *stream*, the limit itself depends on how far the client keeps up: a socket whose \
         reader is behind costs less to write to. `bare` is tokio-tungstenite with a token check and the last 1,024 frames of each user: the limit, \
         not an alternative. `memory` and `disk` are this library in a service of its own, with the log in memory or each \
         event on disk before it is shown; `legacy` is `memory`, spoken to in the envelope of older clients. Peers run the same small service, written by hand, without Lockstep's grammar \
         of runs, bounds, timers, revocation or isolation of slow readers.\n\nA server that cannot do a scenario has \"–\". \
         In *avalanche*, what is in memory only is gone with its process: 0 % whole. The client is the same for all; its own cost per event is shown.\n",
    );
    for (name, _) in pictures(report) {
        let _ = writeln!(text, "\n![{name}](plots/{name}.svg)");
    }
    for scenario in report.scenarios() {
        let unit = report.of(scenario).next().map_or("", |row| row.unit.as_str());
        let repeats = report.of(scenario).map(|row| row.samples.len()).max().unwrap_or_default();
        let _ = writeln!(text, "\n## {scenario}\n\nCPU per {unit}; medians of {repeats} interleaved repeats.\n");
        let table = report.table(scenario);
        for (at, row) in table.iter().enumerate() {
            let _ = writeln!(text, "| {} |", row.join(" | "));
            if at == 0 {
                let _ = writeln!(text, "|{}", " --- |".repeat(row.len()));
            }
        }
    }
    text
}

/// One line: the ratios to the bare server.
pub(crate) fn summary(report: &Report) -> String {
    let ratio = |scenario: &str, server: &str| {
        let figure = |server| report.row(scenario, server).and_then(|row| row.figure("cpu_us"));
        Some(format!("{:.1}", figure(server)? / figure(BARE)?))
    };
    let line = |scenario: &&str| {
        let memory = ratio(scenario, "memory")?;
        Some(format!("{scenario} {memory} in memory, {} on disk", ratio(scenario, "disk")?))
    };
    let lines: Vec<String> = report.scenarios().iter().filter_map(line).collect();
    format!("CPU as a multiple of bare: {}", lines.join("; "))
}
