//! What Lockstep costs beside its peers: servers pinned to one core, a neutral client on another, and the same
//! scenarios for each.
//!
//! | module | content |
//! | --- | --- |
//! | [`servers`], [`serve`], `peers/` | what is measured |
//! | [`client`], [`plan`] | the client, and the subset of the wire that it speaks |
//! | [`scenarios`] | what is done |
//! | [`process`], [`stats`] | what is counted, and how sure it is |
//! | [`report`], [`baseline`], [`ab`], [`page`], [`plot`] | what is said |
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to the one who types it")]

mod ab;
mod baseline;
mod client;
mod page;
mod plan;
mod plot;
mod process;
mod report;
mod runs;
mod scenarios;
mod serve;
mod servers;
mod stats;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::scenarios::Scenario;
use crate::servers::Kind;

const ABOUT: &str = "\
Measures what Lockstep costs beside its peers.

Each run starts a server on loopback, pinned to core 0, and a neutral client on core 1. Repeats are interleaved over the
servers; medians and half the range (±) are printed. CPU is the server's processor time per event; the client's own is
shown beside it. Latency is measured from the intended time, in an open loop where the scenario has a clock.";

const AFTER: &str = "\
Peers are installed by tests/load/install into target/peers. One that is not there is marked \"not installed\".
socketioxide and Sockudo are not among them: the first would add its dependencies to every build, the second is a server
with a protocol of its own.

Figures: CPU µs, client's µs and written B are per event (or what the title says); KiB is resident memory per connection
or user; `last` is the time until the last of all users is served; `whole` the users who saw every event once, in order.

Examples:
  tests/load/install && target/release/load
  target/release/load stream turns --server bare,memory,disk --repeat 5
  target/release/load --format json > before.json
  target/release/load --baseline before.json
  target/release/load ab /tmp/load-before target/release/load stream
  target/release/load page before.json /tmp/page

With --baseline, the ratios to `bare` of CPU and KiB are compared with those of the stored run. One that has grown by more
than the tolerance, with every repeat above the stored ones, is a regression.

Exit codes: 0 measured, and no regression; 1 a regression, or a run failed; 2 wrong usage";

/// The command line.
#[derive(Debug, Parser)]
#[command(version, about = "Measures what Lockstep costs beside its peers", long_about = ABOUT, after_help = AFTER)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

/// What is measured, and how much.
#[derive(Clone, Debug, clap::Args)]
struct Options {
    /// Scenarios [default: all]
    scenarios: Vec<Scenario>,
    /// Servers, separated by commas [default: all]
    #[arg(long, value_delimiter = ',', value_name = "SERVER")]
    server: Vec<Kind>,
    /// Repeats of each run [default: 3]
    #[arg(long)]
    repeat: Option<u32>,
    /// Seconds for which a steady load is measured [default: 3]
    #[arg(long)]
    seconds: Option<f64>,
    /// Users of scenarios with N users [default: 1000]
    #[arg(long, value_name = "N")]
    users: Option<usize>,
    /// Half a minute: bare, memory and disk; paced, turns16 and connect; little of each
    #[arg(long)]
    short: bool,
    /// A stored run, from --format json
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// By how many per cent a ratio may grow
    #[arg(long, default_value_t = 25.0, value_name = "PER CENT")]
    tolerance: f64,
    /// How the result is printed
    #[arg(long, default_value = "text")]
    format: Format,
    /// Where the peers are installed [default: target/peers beside this program]
    #[arg(long, value_name = "DIRECTORY")]
    peers: Option<PathBuf>,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables for people
    Text,
    /// The report, for --baseline and page
    Json,
    /// One test for each comparison with the baseline, or for each run
    Junit,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ab(ab::Ab),
    Page(page::Page),
    /// The bare server
    #[command(hide = true)]
    ServeBare {
        #[arg(long, env = "PORT")]
        port: u16,
    },
    /// Lockstep
    #[command(hide = true)]
    ServeLockstep {
        #[arg(long, env = "PORT")]
        port: u16,
        /// The log's directory; without it, the log is in memory
        #[arg(long)]
        disk: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Some(Command::Ab(ab)) => ab::run(&ab),
        Some(Command::Page(page)) => page::write(&page).map(|()| true),
        Some(Command::ServeBare { port }) => served(async { Ok(serve::bare::serve(port).await?) }),
        Some(Command::ServeLockstep { port, disk }) => served(serve::lockstep::serve(port, disk.as_deref())),
        None => runs::run(&cli.options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::from(1)
        }
    }
}

/// Serves as services do: on the runtime that `#[tokio::main]` would start.
fn served(server: impl Future<Output = Result<(), Box<dyn std::error::Error>>>) -> Result<bool, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(server).map(|()| true).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn scenarios_and_subcommands_are_told_apart() {
        let cli = Cli::parse_from(["load", "stream", "fan-out", "--server", "bare,disk"]);
        assert_eq!(cli.options.scenarios, [Scenario::Stream, Scenario::FanOut]);
        assert_eq!(cli.options.server, [Kind::Bare, Kind::Disk]);
        assert!(matches!(Cli::parse_from(["load", "ab", "a", "b", "turns"]).command, Some(Command::Ab(_))));
    }
}
