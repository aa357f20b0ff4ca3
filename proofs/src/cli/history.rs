//! `prove history`

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::PathBuf;
use std::time::Instant;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use crate::cli::{Failure, Format, emit};
use crate::engine::findings::Conclusion;
use crate::history::{Findings, check};
use crate::report::table::grouped;

/// Check a deployment from what its clients sent and received
#[derive(Debug, clap::Args)]
#[command(
    after_help = "\
Examples:
  prove history chat.jsonl
  prove history target/soak/*.jsonl --format junit",
    after_long_help = "\
A history is JSON Lines, one fact per line, with the facts of a socket in order:

  client  text    the client; the proxy numbers sockets instead
  socket  number  which of the client's sockets (0 if omitted)
  fact    text    open, sent, received or closed; acked for an agent
  user    text    the user of the client's credential. Omitted if unknown: then the
                  socket's first connection_ready names the user
  frame   object  for sent and received, the frame of lockstep.v1 or of the older jwt-auth,
                  with `***` for a token; omitted if it was not a frame. For acked, the
                  event in the log: type, run_id, and for a tool data.tool_id
  code    number  for closed, the close code; not checked
  at      number  microseconds since the recording began; not checked

  {\"client\":\"1\",\"socket\":1,\"fact\":\"open\"}
  {\"client\":\"1\",\"socket\":1,\"fact\":\"received\",\"frame\":{\"type\":\"connection_ready\",…}}

A recording proxy in front of any gateway writes a history, and any client can do so:
  cargo run --release -p lockstep-tests --bin proxy -- --help

AUTH-1, ISO-1, STR-1 to STR-3, RET-1, RUN-1 to RUN-4, OWN-2 and OWN-3 are checked. A
contradiction names the two lines that cannot both be right. Facts that were not recorded
are not checked. Events of a gateway that this one replaces have no place in a stream: of
these, the grammar of runs, repetitions and users are checked, for each socket.

Examples:
  prove history chat.jsonl
  prove history target/soak/*.jsonl --format junit

Exit codes: 0 no contradiction, 1 a contradiction, 2 usage, or a file that is not a history"
)]
pub(super) struct Args {
    /// Histories, each checked separately
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The format of the report
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
    findings: Findings,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<Conclusion, Failure> {
    let began = Instant::now();
    let mut histories = Vec::new();
    for path in &args.paths {
        let began = Instant::now();
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| Failure::Usage(format!("cannot open {name}: {error}")))?;
        let findings = check(BufReader::with_capacity(1 << 20, file));
        let findings = findings.map_err(|error| Failure::Usage(format!("{name}: {error}")))?;
        histories.push(History { path: name, seconds: began.elapsed().as_secs_f64(), findings });
    }
    let report = Report { seconds: began.elapsed().as_secs_f64(), histories };
    let contradicted = report.histories.iter().any(|history| !history.findings.contradictions.is_empty());
    let text = match args.format {
        Format::Table => table(&report),
        Format::Json => json(&report)?,
        Format::Junit => junit(&report)?,
    };
    emit(out, &text)?;
    Ok(if contradicted { Conclusion::Fails } else { Conclusion::Holds })
}

fn json(report: &Report) -> Result<String, Failure> {
    serde_json::to_string_pretty(report)
        .map(|text| text + "\n")
        .map_err(|error| Failure::World(format!("the report cannot be written as JSON: {error}")))
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    for History { path, seconds, findings } in &report.histories {
        let result = if findings.contradictions.is_empty() { "no contradiction" } else { "contradicted" };
        let rate = findings.lines as f64 / seconds.max(1e-9);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{path}: {result}; {} lines, {} sockets, {} events seen; {:.0} lines/s",
            grouped(findings.lines as usize),
            grouped(findings.sockets as usize),
            grouped(findings.events as usize),
            rate
        );
        for contradiction in &findings.contradictions {
            let [first, second] = contradiction.lines;
            let _ = writeln!(text, "  {}: lines {first} and {second}: {}", contradiction.property, contradiction.why);
        }
    }
    text
}

fn junit(report: &Report) -> Result<String, Failure> {
    let mut suite = TestSuite::new("history");
    for History { path, seconds, findings } in &report.histories {
        let mut status = TestCaseStatus::success();
        if !findings.contradictions.is_empty() {
            status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let told: Vec<String> = findings
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
