//! `prove history`

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::PathBuf;
use std::time::Instant;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use crate::cli::{Failure, Format, emit};
use crate::engine::findings::Verdict;
use crate::history::{Judgement, judge};
use crate::report::table::grouped;

/// Judge a deployment from what its clients sent and saw
#[derive(Debug, clap::Args)]
#[command(
    after_help = "\
Examples:
  prove history chat.jsonl
  prove history target/soak/*.jsonl --format junit",
    after_long_help = "\
A history is JSON Lines, one fact each, those of one socket in their order:

  client  text    which client; the proxy numbers sockets
  socket  number  which of the client's sockets (0 if left out)
  fact    text    open, sent, received or closed; an agent's is acked
  user    text    whose credential the client holds. Left out by who cannot know:
                  then the socket's first connection_ready says it
  frame   object  of sent and received, the frame of lockstep.v1, `***` for a token;
                  left out if it was none. Of acked, the event that the log has:
                  type, run_id, and of a tool data.tool_id
  code    number  of closed, the close code; not judged
  at      number  microseconds since the recording began; not judged

  {\"client\":\"1\",\"socket\":1,\"fact\":\"open\"}
  {\"client\":\"1\",\"socket\":1,\"fact\":\"received\",\"frame\":{\"type\":\"connection_ready\",…}}

A recording proxy in front of any gateway writes one, and so does any client that wants to:
  cargo run --release -p lockstep-tests --bin proxy -- --help

Judged are AUTH-1, ISO-1, STR-1, STR-2, RUN-1, RUN-2 and RUN-3; a contradiction names the
two lines that cannot both be right. What was not recorded is not judged.

Examples:
  prove history chat.jsonl
  prove history target/soak/*.jsonl --format junit

Exit codes: 0 no contradiction, 1 a contradiction, 2 usage, or a file that is no history"
)]
pub(super) struct Args {
    /// Histories, each judged by itself
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// How to write the report
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Serialize)]
struct Report {
    seconds: f64,
    histories: Vec<History>,
}

#[derive(Serialize)]
struct History {
    path: String,
    seconds: f64,
    #[serde(flatten)]
    judgement: Judgement,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let began = Instant::now();
    let mut histories = Vec::new();
    for path in &args.paths {
        let began = Instant::now();
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| Failure::Usage(format!("cannot open {name}: {error}")))?;
        let judgement = judge(BufReader::with_capacity(1 << 20, file));
        let judgement = judgement.map_err(|error| Failure::Usage(format!("{name}: {error}")))?;
        histories.push(History { path: name, seconds: began.elapsed().as_secs_f64(), judgement });
    }
    let report = Report { seconds: began.elapsed().as_secs_f64(), histories };
    let contradicted = report.histories.iter().any(|history| !history.judgement.contradictions.is_empty());
    let text = match args.format {
        Format::Table => table(&report),
        Format::Json => json(&report)?,
        Format::Junit => junit(&report)?,
    };
    emit(out, &text)?;
    Ok(if contradicted { Verdict::Fails } else { Verdict::Holds })
}

fn json(report: &Report) -> Result<String, Failure> {
    serde_json::to_string_pretty(report)
        .map(|text| text + "\n")
        .map_err(|error| Failure::World(format!("the report cannot be written as JSON: {error}")))
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    for History { path, seconds, judgement } in &report.histories {
        let said = if judgement.contradictions.is_empty() { "no contradiction" } else { "contradicted" };
        let rate = judgement.lines as f64 / seconds.max(1e-9);
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{path}: {said}; {} lines, {} sockets, {} events seen; {:.0} lines/s",
            grouped(judgement.lines as usize),
            grouped(judgement.sockets as usize),
            grouped(judgement.events as usize),
            rate
        );
        for contradiction in &judgement.contradictions {
            let [first, second] = contradiction.lines;
            let _ = writeln!(text, "  {}: lines {first} and {second}: {}", contradiction.property, contradiction.why);
        }
    }
    text
}

fn junit(report: &Report) -> Result<String, Failure> {
    let mut suite = TestSuite::new("history");
    for History { path, seconds, judgement } in &report.histories {
        let mut status = TestCaseStatus::success();
        if !judgement.contradictions.is_empty() {
            status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let told: Vec<String> = judgement
                .contradictions
                .iter()
                .map(|found| format!("{}: lines {:?}: {}", found.property, found.lines, found.why))
                .collect();
            status.set_message(told.join("\n"));
        }
        let mut case = TestCase::new(path.as_str(), status);
        case.set_time(std::time::Duration::from_secs_f64(*seconds));
        suite.add_test_case(case);
    }
    let mut junit = quick_junit::Report::new("prove history");
    junit.set_time(std::time::Duration::from_secs_f64(report.seconds));
    junit.add_test_suite(suite);
    junit.to_string().map_err(|error| Failure::World(format!("the report cannot be written as JUnit: {error}")))
}
