//! `prove replay`

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use quick_junit::{NonSuccessKind, SerializeError, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use crate::cli::{Failure, Format, emit};
use crate::engine::findings::Verdict;
use crate::engine::trace::Trace;
use crate::replay::{self, Damage, Line, Replayed};
use crate::report::{self, html, table::grouped};

/// Take the steps of a production gateway again, through the model
#[derive(Debug, clap::Args)]
#[command(
    after_help = "\
Examples:
  lockstep serve --trace traces         a gateway that writes down its steps
  prove replay traces
  prove replay traces --html target/replay
  prove replay traces --format json | jq '.traces[] | {process, finding}'",
    after_long_help = "\
`lockstep serve --trace DIR` writes down each step of each machine. A replay gives the
same inputs to the model's machines and compares what they answer, emit and become.
The first step that differs is shown with the steps of that machine before it.

Files of one process belong together and are read in their order; name them, or the
directory that they are in. A trace whose oldest files were removed is checked from its
checkpoints on, and says that it is incomplete. So does one with a hole, where the
gateway's writer was behind and dropped records. A file that was cut off, changed,
reordered, or is of another version or no trace at all, is said to be that. The trace of
a process that was killed is one that was cut off, unless `--killed` says so.

Examples:
  lockstep serve --trace traces         a gateway that writes down its steps
  prove replay traces
  prove replay traces --html target/replay
  prove replay traces --format json | jq '.traces[] | {process, finding}'

Exit codes: 0 every step is the model's, 1 one is not, 2 usage, or a file that cannot be read
to its end, 3 incomplete: a hole, or a trace that begins or ends in the middle"
)]
pub(super) struct Args {
    /// Files of traces, or directories of them
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The processes were killed: a trace that ends in the air is incomplete, and no error
    #[arg(long)]
    killed: bool,
    /// How to write the report
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Write each divergence as a sequence diagram into this directory
    #[arg(long, value_name = "DIR")]
    html: Option<PathBuf>,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let (chains, unreadable) = replay::gather(&args.paths).map_err(Failure::World)?;
    let mut report = Report { traces: chains.iter().map(replay::replay).collect(), unreadable };
    if args.killed {
        report.traces.iter_mut().for_each(Replayed::was_killed);
    }
    if let Some(directory) = &args.html {
        let drawn: Vec<Trace> = report.divergences().map(|(_, divergence)| divergence.drawn()).collect();
        html::write_traces(&drawn, directory)?;
    }
    let text = match args.format {
        Format::Table => report.table(),
        Format::Json => report.json(),
        Format::Junit => report.junit().map_err(|error| Failure::World(error.to_string()))?,
    };
    emit(out, &text)?;
    let verdict = report.traces.iter().map(Replayed::verdict).fold(Verdict::Holds, Verdict::max);
    match report.damages().next() {
        Some(damage) if verdict != Verdict::Fails => Err(Failure::World(damage.to_string())),
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
                Verdict::Holds => '✓',
                Verdict::Incomplete => '?',
                Verdict::Fails => '✗',
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
                (!one.from_the_beginning, "it begins in the middle: its first files are not here".to_owned()),
                (
                    !one.to_the_end && one.damage.is_none() && one.divergence.is_none(),
                    "it ends in the middle: its last files are not here".to_owned(),
                ),
                (one.counts.dropped > 0, format!("{} records were dropped by the gateway", count(one.counts.dropped))),
                (
                    one.counts.unchecked > 0,
                    format!(
                        "{} steps of machines whose beginning or checkpoint is not in the trace were not checked",
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
            complete: self.unreadable.is_empty() && self.traces.iter().all(|one| one.verdict() == Verdict::Holds),
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
                (None, None) => failed(NonSuccessKind::Error, "not every step of the process could be taken again"),
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
