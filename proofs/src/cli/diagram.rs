//! `prove diagram`

use std::io::Write;

use clap::ValueEnum;

use crate::cli::progress::Line;
use crate::cli::{Failure, emit, known};
use crate::engine::chart::Chart;
use crate::engine::checkable::Chartable;
use crate::engine::findings::Conclusion;
use crate::engine::settings::Settings;
use crate::registry;
use crate::report::diagram;

/// Print the state diagram of each machine, generated from the explored transitions
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  prove diagram                      every machine, as in its module header
  prove diagram connection --format svg > connection.svg
  prove diagram run --format dot | dot -Tpng > run.png")]
pub(super) struct Args {
    /// Only this machine (see `prove list`)
    machine: Option<String>,
    /// The format of the diagram
    #[arg(long, value_enum, default_value = "text")]
    format: DiagramFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DiagramFormat {
    /// Aligned text for a module header
    Text,
    /// Graphviz
    Dot,
    /// An SVG image; one machine at a time
    Svg,
}

pub(super) fn run(args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<Conclusion, Failure> {
    if args.format == DiagramFormat::Svg && args.machine.is_none() {
        return Err(Failure::Usage("an SVG shows one machine: name one".into()));
    }
    for (chart, several) in charts(args.machine.as_deref(), settings)? {
        let text = match args.format {
            DiagramFormat::Text => diagram::text(&chart),
            DiagramFormat::Dot => diagram::dot(&chart),
            DiagramFormat::Svg => diagram::svg(&chart),
        };
        if several && args.format == DiagramFormat::Text {
            emit(out, &format!("prove diagram {}\n\n{text}\n", chart.machine))?;
        } else {
            emit(out, &text)?;
        }
    }
    Ok(Conclusion::Holds)
}

/// Returns the charts of the requested machines, each with whether there are several.
pub(super) fn charts(machine: Option<&str>, settings: &Settings) -> Result<Vec<(Chart, bool)>, Failure> {
    let wanted: Vec<String> = machine.map(str::to_owned).into_iter().collect();
    let machines: Vec<Box<dyn Chartable>> =
        known::select("machine", &wanted, registry::machines(), |machine| machine.name())?;
    let several = machines.len() > 1;
    let (line, settings) = Line::attach(settings.clone());
    let charts = machines
        .iter()
        .map(|machine| {
            let chart = machine.chart(&settings);
            chart.map_err(|error| Failure::World(format!("{}: {error}", machine.name())))
        })
        .map(|chart| Ok((chart?, several)))
        .collect();
    drop(line);
    charts
}
