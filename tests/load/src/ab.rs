//! Two builds of this program, in turns: which serves with less processor time, and how sure that is.

use std::path::Path;
use std::process::Command;

use clap::Args;

use crate::report::Report;
use crate::stats::{interval, median};

/// Compares two builds of this program, and thereby of the library in them
///
/// A and B run in turns, A first in one pair and B in the next. The ratio of B's CPU per event to A's is printed with
/// its 95 % interval: the percentile bootstrap of the median over the pairs.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  cargo build --release -p lockstep-load && cp target/release/load /tmp/before
  ... change the library, build again ...
  target/release/load ab /tmp/before target/release/load stream paced --server memory

Exit codes: 0 B is not slower, or the interval holds 1; 1 B is slower: the whole interval is above 1, or a run failed;
2 wrong usage")]
pub(crate) struct Ab {
    /// The build that is compared with
    a: std::path::PathBuf,
    /// The build that is judged
    b: std::path::PathBuf,
    /// Scenarios
    #[arg(default_value = "stream")]
    scenarios: Vec<crate::scenarios::Scenario>,
    /// Which server: memory or disk
    #[arg(long, default_value = "memory")]
    server: crate::servers::Kind,
    /// Pairs of runs
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(3..))]
    pairs: u32,
    /// Seconds of each run
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// Runs it, and prints a line for each scenario. Returns whether B is not slower.
pub(crate) fn run(ab: &Ab) -> Result<bool, String> {
    let mut held = true;
    println!("{:<10} {:>10} {:>10} {:>8} {:>17}", ab.server.name(), "A, µs", "B, µs", "B/A", "95 % interval");
    for scenario in &ab.scenarios {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for pair in 0..ab.pairs {
            let once = |binary: &Path| once(binary, &scenario.name(), ab);
            if pair % 2 == 0 {
                a.push(once(&ab.a)?);
                b.push(once(&ab.b)?);
            } else {
                b.push(once(&ab.b)?);
                a.push(once(&ab.a)?);
            }
        }
        let ratios: Vec<f64> = b.iter().zip(&a).map(|(b, a)| b / a).collect();
        let (low, high) = interval(&ratios);
        let verdict = if low > 1.0 {
            held = false;
            "B is slower"
        } else if high < 1.0 {
            "B is faster"
        } else {
            "no difference shown"
        };
        let (a, b, ratio) = (median(&a), median(&b), median(&ratios));
        println!("{:<10} {a:>10.2} {b:>10.2} {ratio:>8.3} {low:>8.3}–{high:<8.3} {verdict}", scenario.name());
    }
    Ok(held)
}

fn once(binary: &Path, scenario: &str, ab: &Ab) -> Result<f64, String> {
    let fail = |why: &dyn std::fmt::Display| format!("{}: {why}", binary.display());
    let mut command = Command::new(binary);
    command.args([scenario, "--repeat", "1", "--format", "json", "--server", &ab.server.name()]);
    command.args(["--seconds", &ab.seconds.to_string()]);
    let output = command.output().map_err(|error| fail(&error))?;
    let report: Report = serde_json::from_slice(&output.stdout)
        .map_err(|_| fail(&format!("no report: {}", String::from_utf8_lossy(&output.stderr).trim())))?;
    let row = report.row(scenario, &ab.server.name());
    row.and_then(|row| row.figure("cpu_us")).ok_or_else(|| fail(&"no figure"))
}
