//! `prove matrix`

use std::io::Write;

use crate::cli::{Failure, diagram, emit};
use crate::engine::findings::Conclusion;
use crate::engine::settings::Settings;
use crate::report::matrix;

/// Print what happens for each state and input of a machine
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{}\n\nExamples:\n  prove matrix\n  prove matrix connection", matrix::LEGEND))]
pub(super) struct Args {
    /// Only this machine (see `prove list`)
    machine: Option<String>,
}

pub(super) fn run(args: &Args, settings: &Settings, out: &mut dyn Write) -> Result<Conclusion, Failure> {
    for (chart, several) in diagram::charts(args.machine.as_deref(), settings)? {
        emit(out, &matrix::text(&chart))?;
        if several {
            emit(out, "\n")?;
        }
    }
    emit(out, &format!("{}\n", matrix::LEGEND))?;
    Ok(Conclusion::Holds)
}
