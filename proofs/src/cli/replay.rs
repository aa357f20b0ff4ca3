//! `prove replay`

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use quick_junit::{NonSuccessKind, SerializeError, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use crate::cli::{Failure, Format, emit};
use crate::engine::findings::Conclusion;
use crate::engine::trace::Counterexample;
use crate::replay::{self, Damage, Line, Replayed};
use crate::report::{self, html, table::grouped};

/// Replay the traced steps of a production gateway in the model
#[derive(Debug, clap::Args)]
#[command(
    after_help = "\
Examples:
  lockstep serve --trace traces         a gateway that records its steps
  prove replay traces
  prove replay traces --html target/replay
  prove replay traces --format json | jq '.traces[] | {process, finding}'",
    after_long_help = "\
`lockstep serve --trace DIR` records each step of each machine. A replay feeds the same
inputs to the model's machines and compares their answers, outputs and states. The first
step that differs is shown after the preceding steps of that machine.

The files of one process belong together and are read in order. Name them, or their
directory. A trace whose oldest files were removed is checked from its checkpoints on, and
is reported as incomplete. So is a trace with a gap, where the gateway's writer was behind
and dropped records. A file that was cut off, changed or reordered, or that is of another
version or not a trace, is reported as such. The trace of a killed process counts as cut
off, unless `--killed` is given.

Examples:
  lockstep serve --trace traces         a gateway that records its steps
  prove replay traces
  prove replay traces --html target/replay
  prove replay traces --format json | jq '.traces[] | {process, finding}'

Exit codes: 0 every step is the model's, 1 one is not, 2 usage, or a file that cannot be read
to its end, 3 incomplete: a gap, or a trace that begins or ends in the middle"
)]
pub(super) struct Args {
    /// Trace files, or directories with trace files
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The processes were killed: treat a trace without an end as incomplete, not as an error
    #[arg(long)]
    killed: bool,
    /// The format of the report
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Write each divergence as a sequence diagram into this directory
    #[arg(long, value_name = "DIR")]
    html: Option<PathBuf>,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Conclusion, Failure> {
    let (chains, unreadable) = replay::gather(&args.paths).map_err(Failure::World)?;
    let mut report = Report { traces: chains.iter().map(replay::replay).collect(), unreadable };
    if args.killed {
        report.traces.iter_mut().for_each(Replayed::was_killed);
    }
    if let Some(directory) = &args.html {
        let drawn: Vec<Counterexample> = report.divergences().map(|(_, divergence)| divergence.drawn()).collect();
        html::write_traces(&drawn, directory)?;
    }
    let text = match args.format {
        Format::Table => report.table(),
        Format::Json => report.json(),
        Format::Junit => report.junit().map_err(|error| Failure::World(error.to_string()))?,
    };
    emit(out, &text)?;
    let verdict = report.traces.iter().map(Replayed::verdict).fold(Conclusion::Holds, Conclusion::max);
    match report.damages().next() {
        Some(damage) if verdict != Conclusion::Fails => Err(Failure::World(damage.to_string())),
        Some(_) | None => Ok(verdict),
    }
}

struct Report {
    traces: Vec<Replayed>,
    unreadable: Vec<Damage>,
}

impl Report {
    fn damages(&self) -> impl Iterator<Item = &Damage> {
        self.unreadable.iter().chain(self.traces.iter().filter_map(|one| one.damage.as_ref()))
    }

    fn divergences(&self) -> impl Iterator<Item = (&Replayed, &replay::Divergence)> {
        self.traces.iter().filter_map(|one| Some((one, one.divergence.as_ref()?)))
    }

    fn table(&self) -> String {
        let mut text = String::new();
        for one in &self.traces {
            let sign = match one.verdict() {
                Conclusion::Holds => '✓',
                Conclusion::Incomplete => '?',
                Conclusion::Fails => '✗',
            };
            let _ = writeln!(
                text,
                "{sign} process {:016x}, release {}, {} files: {}\n  {} steps in {:.2} s ({} a second): {} of sessions, {} of \
                 connections, {} of the node; {} whole states, {} checkpoints",
                one.header.process,
                one.header.release,
                one.files,
                one.finding(),
                count(one.counts.steps()),
                one.seconds,
                rate(one),
                count(one.counts.session),
                count(one.counts.connection),
                count(one.counts.node),
                count(one.counts.whole),
                count(one.counts.checkpoints),
            );
            let notes = [
                (!one.from_the_beginning, "it begins in the middle: its first files are missing".to_owned()),
                (
                    !one.to_the_end && one.damage.is_none() && one.divergence.is_none(),
                    "it ends in the middle: its last files are missing".to_owned(),
                ),
                (one.counts.dropped > 0, format!("{} records were dropped by the gateway", count(one.counts.dropped))),
                (
                    one.counts.unchecked > 0,
                    format!(
                        "{} steps were not checked, because their machine's beginning or checkpoint is not in the trace",
                        count(one.counts.unchecked)
                    ),
                ),
            ];
            for (_, note) in notes.iter().filter(|(holds, _)| *holds) {
                let _ = writeln!(text, "  {note}");
            }
            if let Some(damage) = &one.damage {
                let _ = writeln!(text, "  {damage}");
            }
            if let Some(divergence) = &one.divergence {
                let _ = write!(text, "  {}", divergence.text());
            }
        }
        for damage in &self.unreadable {
            let _ = writeln!(text, "✗ {damage}");
        }
        text
    }

    fn json(&self) -> String {
        #[derive(Serialize)]
        struct Json {
            complete: bool,
            traces: Vec<Line>,
            unreadable: Vec<String>,
        }
        report::json(&Json {
            complete: self.unreadable.is_empty() && self.traces.iter().all(|one| one.verdict() == Conclusion::Holds),
            traces: self.traces.iter().map(Line::from).collect(),
            unreadable: self.unreadable.iter().map(ToString::to_string).collect(),
        })
    }

    fn junit(&self) -> Result<String, SerializeError> {
        let mut suite = TestSuite::new("replay");
        for one in &self.traces {
            let failed = |kind, text: &str| {
                let mut status = TestCaseStatus::non_success(kind);
                status.set_message(one.finding()).set_description(text);
                status
            };
            let status = match (&one.divergence, &one.damage) {
                (Some(divergence), _) => failed(NonSuccessKind::Failure, &divergence.text()),
                (None, Some(damage)) => failed(NonSuccessKind::Error, &damage.to_string()),
                (None, None) if one.is_whole() => TestCaseStatus::success(),
                (None, None) => failed(NonSuccessKind::Error, "not every step of the process could be replayed"),
            };
            let mut case = TestCase::new(format!("process {:016x}", one.header.process), status);
            case.set_classname("replay").set_time(Duration::from_secs_f64(one.seconds));
            suite.add_test_case(case);
        }
        for damage in &self.unreadable {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_message(damage.kind.word()).set_description(damage.to_string());
            suite.add_test_case(TestCase::new(damage.path.display().to_string(), status));
        }
        let mut junit = quick_junit::Report::new("prove replay");
        junit.add_test_suite(suite);
        junit.to_string()
    }
}

fn count(number: u64) -> String {
    grouped(usize::try_from(number).unwrap_or(usize::MAX))
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for people")]
fn rate(one: &Replayed) -> String {
    count((one.counts.steps() as f64 / one.seconds.max(1e-6)) as u64)
}
