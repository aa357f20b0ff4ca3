//! The `prove` command: one file per subcommand.
//!
//! A subcommand parses its arguments with clap, runs, writes its report to the given writer and returns a [`Conclusion`],
//! which [`run`] turns into the exit code. Reports go to standard output, progress and errors to standard error.
//!
//! It uses every folder of this crate, and none of them uses it. The models come from the
//! [`registry`](crate::registry).

pub mod bench;
mod check;
mod core;
mod diagram;
mod explore;
mod history;
mod known;
mod list;
mod matrix;
mod progress;
mod races;
mod replay;

use std::ffi::OsString;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand, ValueEnum};

use crate::engine::findings::Conclusion;
use crate::engine::settings::Settings;

/// Every property holds, every race is refused.
pub const HOLDS: u8 = 0;
/// A counterexample, a premise that is never reached, or a race that is not refused.
pub const COUNTEREXAMPLE: u8 = 1;
/// The command is invalid, or a file could not be written.
pub const USAGE: u8 = 2;
/// Nothing is wrong so far, but the search was not exhaustive.
pub const INCOMPLETE: u8 = 3;

const EXIT_CODES: &str = "\
Exit codes:
  0  every property holds, every race is refused as expected
  1  a counterexample, a premise that is never reached, a race that is not refused
  2  usage: an argument, a name or a path that cannot be used
  3  not exhausted: stopped by Ctrl-C or a limit, with nothing wrong so far";

const EXAMPLES: &str = "\
Examples:
  prove check                           every model at the bounds for every edit
  prove check --profile ci --format junit > prove.xml
  prove check --model session           one model, with its properties
  prove races --html target/races       each known race, with a diagram of its refusal
  prove core                           every interleaving of the concurrent core
  prove replay traces                   replay the traced steps of a gateway
  prove explore session                 walk through the states in a browser
  prove diagram connection              the state diagram of a machine";

/// Model checking of the Lockstep machines: every reachable state, every
/// property, every known race.
#[derive(Debug, Parser)]
#[command(name = "prove", version, arg_required_else_help = true, after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Races(races::Args),
    Core(core::Args),
    History(history::Args),
    Replay(replay::Args),
    Explore(explore::Args),
    Diagram(diagram::Args),
    Matrix(matrix::Args),
    List(list::Args),
    Bench(bench::Args),
    #[command(hide = true)]
    Measure(bench::MeasureArgs),
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for reading
    Table,
    /// JSON for programs
    Json,
    /// JUnit XML for CI systems
    Junit,
}

/// The limits of `check` and `races`.
#[derive(Debug, clap::Args)]
struct SearchLimits {
    /// Threads of the exhaustive search [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Stop a search at about N distinct states: incomplete, exit code 3
    #[arg(long, value_name = "N")]
    max_states: Option<usize>,
    /// Stop a search after N seconds: incomplete, exit code 3
    #[arg(long, value_name = "N")]
    max_seconds: Option<u64>,
}

impl SearchLimits {
    fn apply(&self, mut settings: Settings) -> Settings {
        if let Some(threads) = self.threads {
            settings.threads = threads;
        }
        settings.max_states = self.max_states;
        settings.max_time = self.max_seconds.map(std::time::Duration::from_secs);
        settings
    }
}

/// Why a command gave no verdict.
#[derive(Debug)]
enum Failure {
    /// The caller's fault: an unknown name, an invalid value.
    Usage(String),
    /// The environment's: a file, a socket, a child process.
    World(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::World(error.to_string())
    }
}

/// Writes a report. A closed pipe is no error: the exit code still reports the result.
fn emit(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Runs the process: arguments, standard streams, signals.
pub fn main() -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    let (mut out, mut err) = (io::stdout(), io::stderr());
    ExitCode::from(run(std::env::args_os(), &stop, &mut out, &mut err))
}

/// Runs one command and returns the exit code: [`HOLDS`], [`COUNTEREXAMPLE`], [`USAGE`] or [`INCOMPLETE`]. `arguments`
/// begins with the name of the program. Setting `stop` ends a search early; so does Ctrl-C once a search has begun.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    stop: &Arc<AtomicBool>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // If even that cannot be written, nothing is left to do.
            let text = error.render().to_string();
            let _ = emit(if error.use_stderr() { err } else { out }, &text);
            return if error.use_stderr() { USAGE } else { HOLDS };
        }
    };
    let settings = Settings { stop: Arc::clone(stop), ..Settings::default() };
    let result = match &cli.command {
        Command::Check(args) => check::run(args, interruptible(settings), out),
        Command::Races(args) => races::run(args, interruptible(settings), out),
        Command::Core(args) => core::run(args, &interruptible(settings), out),
        Command::History(args) => history::run(args, out),
        Command::Replay(args) => replay::run(args, out),
        Command::Explore(args) => explore::run(args, out),
        Command::Diagram(args) => diagram::run(args, &interruptible(settings), out),
        Command::Matrix(args) => matrix::run(args, &interruptible(settings), out),
        Command::List(args) => list::run(args, out),
        Command::Bench(args) => bench::run(args, out),
        Command::Measure(args) => bench::measure(args, settings, out),
    };
    match result {
        Ok(Conclusion::Holds) => HOLDS,
        Ok(Conclusion::Fails) => COUNTEREXAMPLE,
        Ok(Conclusion::Incomplete) => INCOMPLETE,
        Err(Failure::Usage(message) | Failure::World(message)) => {
            let _ = emit(err, &format!("error: {message}\n"));
            USAGE
        }
    }
}

/// Lets Ctrl-C and SIGTERM end the search. The first signal asks it to stop and report what it reached; the second ends
/// the process.
fn interruptible(settings: Settings) -> Settings {
    let stop = Arc::clone(&settings.stop);
    // A process has one handler, and its first search is the command that it was started for. A shell that starts it in
    // the background makes it ignore SIGINT, which must not leave SIGTERM unhandled as well.
    let _ = ctrlc::set_handler(move || {
        if stop.swap(true, Ordering::Relaxed) {
            process::exit(i32::from(INCOMPLETE));
        }
    });
    settings
}
