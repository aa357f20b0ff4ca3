//! `prove bench`, and `prove measure`, the child process that it measures in.

pub mod two_phase;

use std::fmt::Write as _;
use std::io::Write;
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use stateright::{Checker, Model};

use self::two_phase::TwoPhase;
use crate::cli::{Failure, emit, known};
use crate::engine::findings::Conclusion;
use crate::engine::memory::Meter;
use crate::engine::profile::Profile;
use crate::engine::settings::Settings;
use crate::registry;
use crate::report::{self, table::grouped};

/// With fewer generated states a search is too short to measure a rate.
const MIN_STATES: usize = 200_000;

/// Compare the checking speed of the models with that of two-phase commit, on this computer
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each search runs in its own process, so that its memory can be measured, once
per round. The fastest round counts. The reference model is two-phase commit
under unmodified stateright: depth-first, like stateright's own example and the
larger models of the gateway, and by default as large as in stateright's own
benchmark, which is also the size of the largest of those models at `ci`.
A state counts each time it is generated, as in stateright. `ratio` compares
states per second of wall-clock time, `cpu` compares states per second of
processor time, which is more meaningful on a busy computer, and `distinct`
compares distinct states per second of wall-clock time. Models that generate
fewer than 200,000 states are too small to be timed.

Exit codes: 0 every model is fast enough, 1 one is not, 2 usage, 3 none is large enough")]
pub(super) struct Args {
    /// Only these models (see `prove list`)
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// Use the bounds of this profile
    #[arg(long, value_enum, default_value = "ci")]
    profile: Profile,
    /// Threads of each search
    #[arg(long, value_name = "N", default_value = "2")]
    threads: NonZeroUsize,
    /// Resource managers of two-phase commit: 7 has 296,448 states, 9 has 10,340,352
    #[arg(long, value_name = "N", default_value = "9", value_parser = clap::value_parser!(u8).range(1..=9))]
    managers: u8,
    /// How often to run each
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// The minimum ratio of states per second that counts as fast enough
    #[arg(long, value_name = "RATIO", default_value = "0.5")]
    at_least: f64,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// Explore one model and print its measurements, as JSON
#[derive(Debug, clap::Args)]
pub(super) struct MeasureArgs {
    /// The model, or the reference model
    model: String,
    #[arg(long, value_enum)]
    profile: Profile,
    #[arg(long)]
    threads: NonZeroUsize,
    #[arg(long)]
    managers: u8,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Measurement {
    name: String,
    states: usize,
    unique_states: usize,
    complete: bool,
    seconds: f64,
    /// Processor time of all threads, if the kernel reports it.
    cpu_seconds: Option<f64>,
    states_per_second: f64,
    bytes_per_state: Option<f64>,
    /// Generated states per second, relative to the reference model; `None` if too small to time.
    ratio: Option<f64>,
    /// The same for states per second of processor time.
    cpu_ratio: Option<f64>,
    /// The same for distinct states.
    distinct_ratio: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Bench {
    profile: &'static str,
    threads: usize,
    yardstick: Measurement,
    models: Vec<Measurement>,
}

/// Two-phase commit under unmodified stateright.
const YARDSTICK: &str = "two-phase";

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Conclusion, Failure> {
    let models = known::select("model", &args.models, registry::models(args.profile), |model| model.name())?;
    let names: Vec<&str> = std::iter::once(YARDSTICK).chain(models.iter().map(|model| model.name())).collect();
    let mut fastest: Vec<Option<Measurement>> = vec![None; names.len()];
    for _ in 0..args.rounds {
        for (name, fastest) in names.iter().zip(&mut fastest) {
            let measured = child(name, args)?;
            if fastest.as_ref().is_none_or(|known| known.states_per_second < measured.states_per_second) {
                *fastest = Some(measured);
            }
        }
    }
    let mut rows: Vec<Measurement> = fastest.into_iter().flatten().collect();
    let (unit, distinct_unit) = (rows[0].states_per_second, rows[0].distinct_per_second());
    let cpu_unit = rows[0].states_per_cpu_second();
    for row in &mut rows {
        let telling = row.states >= MIN_STATES;
        row.ratio = telling.then(|| row.states_per_second / unit);
        row.cpu_ratio = row.states_per_cpu_second().zip(cpu_unit).filter(|_| telling).map(|(own, unit)| own / unit);
        row.distinct_ratio = telling.then(|| row.distinct_per_second() / distinct_unit);
    }
    let models = rows.split_off(1);
    let yardstick = rows.remove(0);
    let bench = Bench { profile: args.profile.name(), threads: args.threads.get(), yardstick, models };
    emit(out, &if args.json { report::json(&bench) } else { table(&bench) })?;

    let ratios: Vec<f64> = bench.models.iter().filter_map(|model| model.ratio).collect();
    Ok(if ratios.iter().any(|ratio| *ratio < args.at_least) {
        Conclusion::Fails
    } else if ratios.is_empty() || bench.models.iter().any(|model| !model.complete) {
        Conclusion::Incomplete
    } else {
        Conclusion::Holds
    })
}

fn child(model: &str, args: &Args) -> Result<Measurement, Failure> {
    let output = Command::new(std::env::current_exe()?)
        .args(["measure", model, "--profile", args.profile.name()])
        .args(["--threads", &args.threads.to_string()])
        .args(["--managers", &args.managers.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::World(format!("measuring {model} ended with {}: {error}", output.status)))
}

pub(super) fn measure(args: &MeasureArgs, settings: Settings, out: &mut dyn Write) -> Result<Conclusion, Failure> {
    let settings = Settings { threads: args.threads, keep_going: true, ..settings };
    let measurement = if args.model == YARDSTICK {
        yardstick(args.managers, &settings)
    } else {
        let models = registry::models(args.profile);
        let names: Vec<&str> = models.iter().map(|model| model.name()).collect();
        let model = &models[known::position("model", &args.model, &names)?];
        let exploration = model.explore(&settings);
        Measurement {
            name: model.name().into(),
            states: exploration.states,
            unique_states: exploration.unique_states,
            complete: exploration.complete,
            seconds: exploration.elapsed.as_secs_f64(),
            states_per_second: exploration.states_per_second(),
            bytes_per_state: exploration.bytes_per_state(),
            cpu_seconds: cpu_seconds(),
            ratio: None,
            cpu_ratio: None,
            distinct_ratio: None,
        }
    };
    emit(out, &report::json(&measurement))?;
    Ok(Conclusion::Holds)
}

/// Measures unmodified stateright, including its own evaluation of the properties.
fn yardstick(managers: u8, settings: &Settings) -> Measurement {
    let meter = Meter::start();
    let began = Instant::now();
    let checker = TwoPhase { managers }.checker().threads(settings.threads.get()).spawn_dfs().join();
    let (states, unique_states) = (checker.state_count(), checker.unique_state_count());
    let seconds = began.elapsed().as_secs_f64();
    Measurement {
        name: YARDSTICK.into(),
        states,
        unique_states,
        complete: true,
        seconds,
        states_per_second: states as f64 / seconds,
        bytes_per_state: meter.growth().map(|bytes| bytes as f64 / unique_states as f64),
        cpu_seconds: cpu_seconds(),
        ratio: None,
        cpu_ratio: None,
        distinct_ratio: None,
    }
}

/// Returns the processor time of this process from `/proc/self/stat`, which counts in hundredths of a second.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    (ticks > 0).then_some(ticks as f64 / 100.0)
}

impl Measurement {
    fn states_per_cpu_second(&self) -> Option<f64> {
        self.cpu_seconds.map(|seconds| self.states as f64 / seconds)
    }

    fn distinct_per_second(&self) -> f64 {
        self.unique_states as f64 / self.seconds.max(1e-9)
    }
}

fn table(bench: &Bench) -> String {
    let mut text = format!(
        "{:14} {:>13} {:>13} {:>9} {:>12} {:>8} {:>8} {:>8} {:>8}\n",
        "model", "states", "distinct", "seconds", "states/s", "B/state", "ratio", "cpu", "distinct"
    );
    for row in std::iter::once(&bench.yardstick).chain(&bench.models) {
        let told = |ratio: Option<f64>| ratio.map_or("small".into(), |ratio| format!("{ratio:.2}"));
        let (ratio, cpu, distinct) = (told(row.ratio), told(row.cpu_ratio), told(row.distinct_ratio));
        let bytes = row.bytes_per_state.map_or("?".into(), |bytes| format!("{bytes:.0}"));
        let _ = writeln!(
            text,
            "{:14} {:>13} {:>13} {:>9.2} {:>12} {bytes:>8} {ratio:>8} {cpu:>8} {distinct:>8}{}",
            row.name,
            grouped(row.states),
            grouped(row.unique_states),
            row.seconds,
            grouped(row.states_per_second as usize),
            if row.complete { "" } else { "  INCOMPLETE" },
        );
    }
    let _ = writeln!(text, "\nprofile {}, {} threads, one process per search", bench.profile, bench.threads);
    text
}
