//! `prove races`

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use crate::cli::progress::Line;
use crate::cli::{Failure, Format, SearchLimits, emit, known};
use crate::engine::findings::Conclusion;
use crate::engine::race::refute;
use crate::engine::settings::Settings;
use crate::registry;
use crate::report::{self, RacesReport, html, junit, table};

/// Reproduce each known mistake and show that the checker refuses it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  prove races
  prove races A9 B14
  prove races --html target/races    # then open target/races/index.html

Exit codes: 0 each is refused as expected, 1 one is not, 2 usage, 3 not exhausted")]
pub(super) struct Args {
    /// Only these races (see `prove list`)
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    limits: SearchLimits,
    /// The format of the report
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Write each counterexample as a sequence diagram into this directory
    #[arg(long, value_name = "DIR")]
    html: Option<PathBuf>,
}

pub(super) fn run(args: &Args, settings: Settings, out: &mut dyn Write) -> Result<Conclusion, Failure> {
    let races = known::select("race", &args.ids, registry::races(), |race| race.id)?;
    let began = Instant::now();
    let (line, settings) = Line::attach(args.limits.apply(settings));
    let races = races.iter().map(|race| refute(race, &settings)).collect();
    drop(line);
    let report = RacesReport { races, seconds: began.elapsed().as_secs_f64() };
    let index = match &args.html {
        Some(directory) => Some(html::write_races(&report, directory)?),
        None => None,
    };
    let mut text = match args.format {
        Format::Table => table::races(&report),
        Format::Json => report::json(&report),
        Format::Junit => junit::races(&report).map_err(|error| Failure::World(error.to_string()))?,
    };
    if let (Some(path), Format::Table) = (index, args.format) {
        text.push_str(&format!("pictures: {}\n", path.display()));
    }
    emit(out, &text)?;
    Ok(report.verdict())
}
