//! `prove check`

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use crate::cli::progress::Line;
use crate::cli::{Failure, Format, SearchLimits, emit, known};
use crate::engine::findings::Conclusion;
use crate::engine::profile::Profile;
use crate::engine::settings::Settings;
use crate::registry;
use crate::report::{self, CheckReport, html, junit, pins, table};

/// Explore every reachable state and decide every property
#[derive(Debug, clap::Args)]
#[command(
    after_help = "\
Examples:
  prove check --profile ci
  prove check --model session node --threads 2
  prove check --format json | jq '.models[] | {name, unique_states}'",
    after_long_help = "\
stateright explores each model exhaustively. A violated `always` is reported
with the shortest run that violates it, a violated `eventually` with a run that
repeats for ever. A run that is stopped early reports `incomplete`, never `holds`.

Examples:
  prove check --profile ci
  prove check --model session node --threads 2
  prove check --format json | jq '.models[] | {name, unique_states}'

Exit codes: 0 all hold, 1 a counterexample, 2 usage, 3 not exhausted"
)]
pub(super) struct Args {
    /// How much to check
    #[arg(long, value_enum, default_value = "quick")]
    profile: Profile,
    /// Only these models (see `prove list`)
    #[arg(long, value_name = "MODEL", num_args = 1.., value_delimiter = ',')]
    model: Vec<String>,
    #[command(flatten)]
    limits: SearchLimits,
    /// Continue after the first violated property
    #[arg(long)]
    keep_going: bool,
    /// Also fail if a model's state counts differ from proofs/pins.txt, which shows a change of behaviour
    #[arg(long)]
    pinned: bool,
    /// The format of the report
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Write each counterexample as a sequence diagram into this directory
    #[arg(long, value_name = "DIR")]
    html: Option<PathBuf>,
}

pub(super) fn run(args: &Args, settings: Settings, out: &mut dyn Write) -> Result<Conclusion, Failure> {
    let models = known::select("model", &args.model, registry::models(args.profile), |model| model.name())?;
    let began = Instant::now();
    let mut report =
        CheckReport { profile: args.profile.name().into(), complete: true, seconds: 0.0, models: Vec::new() };
    let (line, mut settings) = Line::attach(args.limits.apply(settings));
    settings.keep_going = args.keep_going;
    for model in models {
        let checked = model.check(&settings);
        report.complete &= checked.complete;
        report.models.push(checked);
    }
    drop(line);
    if args.pinned {
        pins::hold_against(&mut report);
    }
    report.seconds = began.elapsed().as_secs_f64();
    if let Some(directory) = &args.html {
        html::write_traces(report.traces(), directory)?;
    }
    let text = match args.format {
        Format::Table => table::check(&report),
        Format::Json => report::json(&report),
        Format::Junit => junit::check(&report).map_err(|error| Failure::World(error.to_string()))?,
    };
    emit(out, &text)?;
    Ok(report.verdict())
}
