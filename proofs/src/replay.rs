//! Replays the traced steps of a production gateway in the model.
//!
//! `lockstep serve --trace DIR` records each step of each machine: its input, and digests of its answer, its outputs
//! and its next state ([`format`](mod@format) is the format, from the source file that the gateway compiles). A replay
//! feeds the same inputs to the same machines and compares. It thereby shows that a process behaved as the model: that
//! the trace contains every step, that the bounds were those in the header, and that the gateway's machines are the
//! checked ones.
//!
//! A trace is read as a stream. Memory holds only the sessions and connections that are alive at that point of the
//! trace. The first difference ends the replay of its process, because later steps no longer follow the model. The
//! trace is then read again for the steps that led there.
//!
//! A divergence is reported as a trace of the engine, with drawings. A replay uses no model and no other folder of
//! this crate.
//!
//! | trace | result |
//! | --- | --- |
//! | whole, and every step is the model's | it replays |
//! | one step differs | it diverges: where, in what, and the steps before it |
//! | begins in the middle, or has a gap | checked from its checkpoints; incomplete |
//! | cut off, changed, reordered, foreign | which of these, and where ([`Damage`]); earlier steps count |
//! | cut off, changed, in another order, of another version, no trace | which of these, and where ([`Damage`]); what comes before counts |

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lockstep_model::session;
use serde::Serialize;

use crate::engine::findings::Conclusion;
use crate::engine::proof::{Drawing, Kind, Lifeline};
use crate::engine::trace::{Counterexample, Step};

#[path = "../../runtime/src/trace/format.rs"]
pub mod format;
mod machines;
mod read;

pub use self::machines::{Counts, Difference, Who};
pub use self::read::{Damage, DamageKind};

use self::format::{EXTENSION, Header, Record, Tag};
use self::machines::Machines;
use self::read::Reader;

/// The number of steps of the same machine that are shown before a divergence.
pub const CONTEXT: usize = 16;

/// The maximum number of characters of a state that are shown.
const SHOWN: usize = 4_000;

/// The files of one process, in order.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The header of the first file.
    pub header: Header,
    /// All files.
    pub files: Vec<PathBuf>,
    numbers: Vec<u32>,
}

/// The result of replaying one process's trace.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The header of its first file.
    pub header: Header,
    /// The number of files.
    pub files: usize,
    /// The number of records that were read.
    pub records: u64,
    /// The counts of steps.
    pub counts: Counts,
    /// The first step that differs from the model.
    pub divergence: Option<Divergence>,
    /// Why it could not be read to its end.
    pub damage: Option<Damage>,
    /// Whether it begins with its process.
    pub from_the_beginning: bool,
    /// Whether it ends with its process.
    pub to_the_end: bool,
    /// The duration in seconds.
    pub seconds: f64,
}

/// A step that differs from the model.
#[derive(Clone, Debug)]
pub struct Divergence {
    /// Its record's number.
    pub sequence: u64,
    /// The file.
    pub path: PathBuf,
    /// The record, as text.
    pub record: String,
    /// What differs.
    pub difference: Difference,
    /// Steps of the same machine before it, followed by the step itself.
    pub before: Vec<(u64, Record)>,
}

impl Replayed {
    /// Returns the verdict on this trace.
    #[must_use]
    pub fn verdict(&self) -> Conclusion {
        if self.divergence.is_some() {
            Conclusion::Fails
        } else if self.damage.is_some() || !self.is_whole() {
            Conclusion::Incomplete
        } else {
            Conclusion::Holds
        }
    }

    /// Whether every step of the process was replayed.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.from_the_beginning && self.to_the_end && self.counts.dropped == 0 && self.counts.unchecked == 0
    }

    /// Notes that the process was killed, so that a trace without an end is incomplete and not an error.
    pub fn was_killed(&mut self) {
        self.damage = self.damage.take().filter(|damage| !matches!(damage.kind, DamageKind::Truncated(_)));
    }

    /// Returns the result in one word.
    #[must_use]
    pub const fn finding(&self) -> &'static str {
        if self.divergence.is_some() {
            "diverges"
        } else if let Some(damage) = &self.damage {
            damage.kind.word()
        } else if self.is_whole() {
            "replays"
        } else {
            "incomplete"
        }
    }
}

/// Collects the named files and the files in the named directories, by process. Also returns files that are not traces.
///
/// # Errors
///
/// A directory that cannot be read, or has no trace in it.
pub fn gather(paths: &[PathBuf]) -> Result<(Vec<Chain>, Vec<Damage>), String> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let fail = |error| format!("{}: {error}", path.display());
            let before = files.len();
            for entry in fs::read_dir(path).map_err(fail)? {
                let file = entry.map_err(fail)?.path();
                if file.extension().is_some_and(|extension| extension == EXTENSION) {
                    files.push(file);
                }
            }
            if files.len() == before {
                return Err(format!("{}: there is no trace in this directory (*.{EXTENSION})", path.display()));
            }
        } else {
            files.push(path.clone());
        }
    }
    let (mut headed, mut damaged) = (Vec::new(), Vec::new());
    for file in files {
        match Reader::open(&file, None) {
            Ok((_, header)) => headed.push((header, file)),
            Err(damage) => damaged.push(damage),
        }
    }
    headed.sort_by(|(one, _), (other, _)| {
        (one.began, one.process, one.file).cmp(&(other.began, other.process, other.file))
    });
    let mut chains: Vec<Chain> = Vec::new();
    for (header, file) in headed {
        match chains.last_mut().filter(|chain| chain.header.process == header.process) {
            // The same file may be named twice.
            Some(chain) if chain.numbers.last() == Some(&header.file) => {}
            Some(chain) => {
                chain.files.push(file);
                chain.numbers.push(header.file);
            }
            None => chains.push(Chain { numbers: vec![header.file], header, files: vec![file] }),
        }
    }
    Ok((chains, damaged))
}

/// Replays the trace of one process.
#[must_use]
pub fn replay(chain: &Chain) -> Replayed {
    let began = Instant::now();
    let from_the_beginning = chain.header.file == 0;
    let mut machines = Machines::new(chain.header.bounds, from_the_beginning);
    let mut replayed = Replayed {
        header: chain.header.clone(),
        files: chain.files.len(),
        records: 0,
        counts: Counts::default(),
        divergence: None,
        damage: None,
        from_the_beginning,
        to_the_end: false,
        seconds: 0.0,
    };
    let walked = walk(chain, |path, sequence, record| {
        replayed.records += 1;
        if let Record::End { last } = record {
            replayed.to_the_end = last;
        }
        // A step consumes its input. A record is shown only if it differs, and is then read again.
        match machines.take(record) {
            Ok(()) => true,
            Err(difference) => {
                replayed.divergence = Some(Divergence {
                    sequence,
                    path: path.to_owned(),
                    record: String::new(),
                    difference: *difference,
                    before: Vec::new(),
                });
                false
            }
        }
    });
    replayed.damage = walked.err();
    replayed.counts = machines.counts;
    replayed.seconds = began.elapsed().as_secs_f64();
    if let Some(divergence) = &mut replayed.divergence {
        divergence.before = context(chain, divergence.difference.who, divergence.sequence);
        divergence.record = divergence.before.last().map_or_else(String::new, |(_, record)| record.to_string());
    }
    replayed
}

/// Passes every record to the visitor, until it returns false.
fn walk(chain: &Chain, mut visitor: impl FnMut(&Path, u64, Record) -> bool) -> Result<(), Damage> {
    let mut after = None;
    for (index, path) in chain.files.iter().enumerate() {
        let expected = chain.numbers[0] + u32::try_from(index).unwrap_or(u32::MAX);
        if chain.numbers[index] != expected {
            return Err(Damage { path: path.clone(), kind: DamageKind::MissingFile(expected) });
        }
        let (mut reader, _) = Reader::open(path, after)?;
        loop {
            let (sequence, record) = reader.record()?;
            let ends = matches!(record, Record::End { .. });
            if !visitor(path, sequence, record) {
                return Ok(());
            }
            if ends {
                break;
            }
        }
        after = Some(reader.place());
    }
    Ok(())
}

/// Returns the last steps of a machine up to a record.
fn context(chain: &Chain, who: Who, last: u64) -> Vec<(u64, Record)> {
    let mut steps = VecDeque::new();
    // This was readable before.
    let _ = walk(chain, |_, sequence, record| {
        if sequence == last || concerns(&record, who) {
            if steps.len() > CONTEXT {
                steps.pop_front();
            }
            steps.push_back((sequence, record));
        }
        sequence < last
    });
    steps.into()
}

fn concerns(record: &Record, who: Who) -> bool {
    match record {
        Record::Header(_) | Record::End { .. } => false,
        Record::Hole { .. } => true,
        Record::Node { .. } | Record::NodeState { .. } => who == Who::Node,
        Record::Accepted { connection, .. }
        | Record::Connection { connection, .. }
        | Record::Pulled { connection, .. } => who == Who::Connection(*connection),
        Record::Session { user, generation, .. }
        | Record::Opened { user, generation, .. }
        | Record::SessionState { user, generation, .. }
        | Record::Fault { user, generation, .. } => who == Who::Session(*user, *generation),
    }
}

impl Divergence {
    /// Formats the divergence for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let Difference { who, what, expected, found, state } = &self.difference;
        let steps = self.before.iter().map(|(sequence, record)| format!("      {sequence:>9}  {record}\n"));
        format!(
            "record {}: {who}: the {what} is not the model's\n    {}\n    the gateway  {}\n    the model    {}\n    \
             the steps of {who} that lead there, ending with this one:\n{}    the model's machine after it:\n      {}\n",
            self.sequence,
            self.path.display(),
            clip(expected),
            clip(found),
            steps.collect::<String>(),
            clip(state),
        )
    }

    /// Returns the divergence as a run of steps that can be drawn.
    #[must_use]
    pub fn drawn(&self) -> Counterexample {
        let Difference { who, what, expected, found, state } = &self.difference;
        let last = self.before.len().saturating_sub(1);
        let steps = self.before.iter().enumerate().map(|(index, (sequence, record))| {
            let after = (index == last).then(|| clip(state));
            Step { action: format!("record {sequence}: {record}"), drawings: draw(record), after }
        });
        Counterexample {
            model: format!("replay-{}", self.sequence),
            property: "replay".into(),
            kind: Kind::Always,
            also: Vec::new(),
            start: format!("the steps of {who} before these are in the trace"),
            steps: steps.collect(),
            cycle: None,
            message: Some(format!("the {what}: the gateway {}, the model {}", clip(expected), clip(found))),
        }
    }
}

/// Cuts a text to a readable length.
fn clip(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// Draws a record as arrows and notes.
fn draw(record: &Record) -> Vec<Drawing> {
    let arrow = |from, to, label: String| vec![Drawing::Arrow { from, to, label, lost: false }];
    let note = |on| vec![Drawing::Note { on, text: record.to_string() }];
    match record {
        Record::Node { input, .. } => arrow(Lifeline::Operator, Lifeline::Node, format!("{input:?}")),
        Record::NodeState { .. } | Record::Header(_) | Record::Hole { .. } | Record::End { .. } => note(Lifeline::Node),
        Record::Accepted { .. } => note(Lifeline::Connection),
        Record::Connection { input, .. } => arrow(Lifeline::Socket, Lifeline::Connection, short(&format!("{input:?}"))),
        Record::Pulled { frames, .. } => arrow(Lifeline::Connection, Lifeline::Socket, format!("{frames} frames")),
        Record::Opened { .. } | Record::SessionState { .. } | Record::Fault { .. } => note(Lifeline::Session),
        Record::Session { input, .. } => arrow(source(input), Lifeline::Session, label(input)),
    }
}

const fn source(input: &session::Input<Tag>) -> Lifeline {
    match input {
        session::Input::Restored { .. }
        | session::Input::NotRestored { .. }
        | session::Input::Confirmed { .. }
        | session::Input::NotConfirmed { .. }
        | session::Input::Found { .. }
        | session::Input::NotFound { .. }
        | session::Input::Persisted { .. }
        | session::Input::Failed { .. }
        | session::Input::Elsewhere { .. }
        | session::Input::Fenced
        | session::Input::Broken => Lifeline::Log,
        session::Input::Join { .. } | session::Input::Connection { .. } | session::Input::Pull { .. } => {
            Lifeline::Connection
        }
        session::Input::Run { .. } | session::Input::Notice { .. } | session::Input::Delete { .. } => Lifeline::Agent,
        session::Input::Revoke(_) | session::Input::Verified(_) => Lifeline::Operator,
        session::Input::Lost | session::Input::Mode(_) | session::Input::Leave(_) | session::Input::Stop => {
            Lifeline::Node
        }
        session::Input::Expired(..) => Lifeline::Session,
    }
}

fn label(input: &session::Input<Tag>) -> String {
    match input {
        session::Input::Restored { snapshot, .. } => format!("Restored: {} entries", snapshot.entries.len()),
        session::Input::Join { connection, .. } => format!("Join {:016x}", connection.id().0),
        session::Input::NotRestored { .. }
        | session::Input::Confirmed { .. }
        | session::Input::NotConfirmed { .. }
        | session::Input::Found { .. }
        | session::Input::NotFound { .. }
        | session::Input::Connection { .. }
        | session::Input::Pull { .. }
        | session::Input::Run { .. }
        | session::Input::Notice { .. }
        | session::Input::Delete { .. }
        | session::Input::Persisted { .. }
        | session::Input::Failed { .. }
        | session::Input::Elsewhere { .. }
        | session::Input::Fenced
        | session::Input::Lost
        | session::Input::Broken
        | session::Input::Revoke(_)
        | session::Input::Verified(_)
        | session::Input::Mode(_)
        | session::Input::Leave(_)
        | session::Input::Stop
        | session::Input::Expired(..) => short(&format!("{input:?}")),
    }
}

/// Cuts a text to what fits beside an arrow.
fn short(text: &str) -> String {
    match text.char_indices().nth(72) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A trace in the JSON report.
#[derive(Debug, Serialize)]
pub struct Line {
    process: String,
    release: String,
    files: usize,
    records: u64,
    /// `replays`, `incomplete`, `diverges`, or the damage of the files.
    finding: &'static str,
    from_the_beginning: bool,
    to_the_end: bool,
    node_steps: u64,
    connection_steps: u64,
    session_steps: u64,
    whole_states: u64,
    checkpoints: u64,
    unchecked: u64,
    dropped: u64,
    steps_per_second: f64,
    seconds: f64,
    divergence: Option<DivergenceLine>,
    damage: Option<String>,
}

/// A divergence in the JSON report.
#[derive(Debug, Serialize)]
struct DivergenceLine {
    record: u64,
    file: String,
    machine: String,
    what: &'static str,
    gateway: String,
    model: String,
    steps: Vec<String>,
}

impl From<&Replayed> for Line {
    #[expect(clippy::cast_precision_loss, reason = "a rate, for people")]
    fn from(one: &Replayed) -> Self {
        Self {
            process: format!("{:016x}", one.header.process),
            release: one.header.release.clone(),
            files: one.files,
            records: one.records,
            finding: one.finding(),
            from_the_beginning: one.from_the_beginning,
            to_the_end: one.to_the_end,
            node_steps: one.counts.node,
            connection_steps: one.counts.connection,
            session_steps: one.counts.session,
            whole_states: one.counts.whole,
            checkpoints: one.counts.checkpoints,
            unchecked: one.counts.unchecked,
            dropped: one.counts.dropped,
            steps_per_second: one.counts.steps() as f64 / one.seconds.max(1e-9),
            seconds: one.seconds,
            divergence: one.divergence.as_ref().map(|divergence| DivergenceLine {
                record: divergence.sequence,
                file: divergence.path.display().to_string(),
                machine: divergence.difference.who.to_string(),
                what: divergence.difference.what,
                gateway: clip(&divergence.difference.expected),
                model: clip(&divergence.difference.found),
                steps: divergence.before.iter().map(|(sequence, record)| format!("{sequence} {record}")).collect(),
            }),
            damage: one.damage.as_ref().map(ToString::to_string),
        }
    }
}
