//! The codec's memory of a connection, bounded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use lockstep_model::{RunId, ToolId};

/// Open runs that a legacy connection's codec knows of. Of an older run it does not know the beginning.
pub const MAX_OPEN: usize = 64;

/// Open tools of a run whose names and times the codec remembers.
pub const MAX_TOOLS: usize = 64;

/// Bytes of streamed text that the codec keeps for one connection, over all of its open runs. The text of a run that
/// exceeds this is not repeated at its end.
pub const MAX_TEXT: usize = 1 << 19;

/// Heartbeats that wait for their answer.
pub const MAX_HEARTBEATS: usize = 64;

/// How a client asked for a sign of life, which decides what it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) enum Heartbeat {
    /// `ping`: `pong`.
    Ping,
    /// `heartbeat`: `heartbeat_ack`.
    Heartbeat,
}

/// The memory of one connection.
#[derive(Debug, Default)]
pub(in crate::wire) struct Memory {
    /// The thread that the client spoke of last.
    pub(super) thread: Option<Arc<str>>,
    heartbeats: VecDeque<Heartbeat>,
    /// In the order in which they were first seen.
    runs: VecDeque<(RunId, Open)>,
    /// Bytes of text, over all runs.
    text: usize,
}

/// An open run, as far as this connection has seen it.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// When it started, in milliseconds since the Unix epoch.
    pub(super) started: Option<u64>,
    /// Its text since the beginning, if all of it was seen.
    text: Option<String>,
    /// Steps that were told.
    pub(super) steps: u32,
    tools: BTreeMap<ToolId, Tool>,
}

/// An open tool.
#[derive(Debug)]
pub(super) struct Tool {
    pub(super) name: String,
    /// When it began, in milliseconds since the Unix epoch.
    pub(super) at: u64,
}

impl Memory {
    /// The client asked for a sign of life.
    pub(super) fn asked(&mut self, how: Heartbeat) {
        if self.heartbeats.len() == MAX_HEARTBEATS {
            self.heartbeats.pop_front();
        }
        self.heartbeats.push_back(how);
    }

    /// How the client asked for the present answer. Answers are in the order of the requests.
    pub(in crate::wire) fn answered(&mut self) -> Heartbeat {
        self.heartbeats.pop_front().unwrap_or(Heartbeat::Ping)
    }

    /// The beginning of a run is told.
    pub(super) fn begin(&mut self, run: RunId) {
        self.end(run);
        if self.runs.len() == MAX_OPEN
            && let Some((_, oldest)) = self.runs.pop_front()
        {
            self.text -= oldest.text.map_or(0, |text| text.len());
        }
        self.runs.push_back((run, Open { text: Some(String::new()), ..Open::default() }));
    }

    /// The open run; a new one without a beginning if the connection began inside it.
    pub(super) fn open(&mut self, run: RunId) -> &mut Open {
        let place = self.runs.iter().position(|(of, _)| *of == run).unwrap_or_else(|| {
            self.begin(run);
            let last = self.runs.len() - 1;
            self.runs[last].1.text = None;
            last
        });
        &mut self.runs[place].1
    }

    /// Text of the run is told.
    pub(super) fn say(&mut self, run: RunId, piece: &str) {
        let (kept, open) = (self.text, self.open(run));
        let Some(text) = &mut open.text else { return };
        if kept + piece.len() > MAX_TEXT {
            let dropped = text.len();
            open.text = None;
            self.text -= dropped;
        } else {
            text.push_str(piece);
            self.text += piece.len();
        }
    }

    /// The end of a run is told: what is known of it, if anything.
    pub(super) fn end(&mut self, run: RunId) -> Option<Open> {
        let place = self.runs.iter().position(|(of, _)| *of == run)?;
        let (_, open) = self.runs.remove(place)?;
        self.text -= open.text.as_ref().map_or(0, String::len);
        Some(open)
    }

    /// Entries were skipped: the whole text of each open run is no longer known.
    pub(in crate::wire) fn skip(&mut self) {
        for (_, open) in &mut self.runs {
            open.text = None;
        }
        self.text = 0;
    }
}

impl Open {
    /// The whole text, if this connection was told all of it.
    pub(super) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Counts a step, and returns its number.
    pub(super) const fn step(&mut self) -> u32 {
        self.steps = self.steps.saturating_add(1);
        self.steps
    }

    /// The beginning of a tool is told.
    pub(super) fn execute(&mut self, tool: ToolId, name: &str, at: u64) {
        if self.tools.len() < MAX_TOOLS {
            self.tools.insert(tool, Tool { name: name.to_owned(), at });
        }
    }

    /// The end of a tool is told.
    pub(super) fn complete(&mut self, tool: ToolId) -> Option<Tool> {
        self.tools.remove(&tool)
    }
}
