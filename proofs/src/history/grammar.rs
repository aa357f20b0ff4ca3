//! The grammar of runs ([`Grammar`]) over the events that clients saw. A run may be seen in part.

use std::collections::HashMap;

use ahash::RandomState;
use lockstep_model::PauseId;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::line::Text;
use crate::properties::run::{Grammar, Word, Wrong};

/// The kind of an event, with tools and messages as digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Received(u64),
    Started,
    Thinking,
    Delta,
    Executing(u64),
    Completed(u64),
    Paused(PauseId),
    Resumed(PauseId),
    End,
    Failed,
    /// Belongs to no run: it stands alone under its own id.
    Notice,
    /// `thread_deleted`.
    Deleted,
}

/// The part of an event's data that determines its kind.
#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow, default)]
    message_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    tool_id: Option<Text<'a>>,
    #[serde(default)]
    pause: Option<u32>,
}

impl Kind {
    /// Returns `None` for anything that is not an event of a run.
    pub(super) fn of(name: &str, data: Option<&RawValue>, hasher: &RandomState) -> Option<Self> {
        let data = || serde_json::from_str::<Data<'_>>(data?.get()).ok();
        let message = || Some(hasher.hash_one(&*data()?.message_id?.0));
        let tool = || Some(hasher.hash_one(&*data()?.tool_id?.0));
        let pause = || data()?.pause.map(PauseId);
        Some(match name {
            "message_received" => Self::Received(message()?),
            "agent_started" => Self::Started,
            "agent_thinking" => Self::Thinking,
            "agent_delta" => Self::Delta,
            "tool_executing" => Self::Executing(tool()?),
            "tool_completed" => Self::Completed(tool()?),
            "agent_paused" => Self::Paused(pause()?),
            "agent_resumed" => Self::Resumed(pause()?),
            "agent_completed" => Self::End,
            "agent_error" => Self::Failed,
            "notice" => Self::Notice,
            "thread_deleted" => Self::Deleted,
            _ => return None,
        })
    }

    const fn word(self) -> Word<u64> {
        match self {
            Self::Received(_) => Word::Received,
            Self::Started => Word::Started,
            Self::Thinking | Self::Delta => Word::Progress,
            Self::Executing(tool) => Word::Opened(tool),
            Self::Completed(tool) => Word::Closed(tool),
            Self::Paused(pause) => Word::Paused(pause),
            Self::Resumed(pause) => Word::Resumed(pause),
            Self::End => Word::Completed,
            Self::Failed => Word::Failed,
            Self::Notice | Self::Deleted => Word::Single,
        }
    }
}

/// The runs of one stream, read in order.
pub(super) struct Runs {
    hasher: RandomState,
    open: HashMap<u64, Open, RandomState>,
    ended: HashMap<u64, u64, RandomState>,
    done: Vec<(u64, Whole)>,
    /// The number of gaps so far. After a gap the past of an unknown run is unknown, too.
    gaps: u64,
}

struct Open {
    /// The line of its last event.
    line: u64,
    grammar: Grammar<u64>,
    /// Whether all its events were seen.
    whole: bool,
    counts: HashMap<Kind, u64, RandomState>,
    gaps: u64,
}

/// A completely observed run: the count of each kind of event, less the acknowledged ones.
pub(super) struct Whole {
    counts: HashMap<Kind, u64, RandomState>,
    /// The line in which it ends.
    pub(super) ended: u64,
}

impl Whole {
    /// Counts an acknowledged event. Returns false if fewer of its kind were seen than acknowledged.
    pub(super) fn take(&mut self, kind: Kind) -> bool {
        // Frames join the pieces of a part, so fewer frames may be seen than were acknowledged.
        if kind == Kind::Delta {
            return self.counts.contains_key(&kind);
        }
        match self.counts.get_mut(&kind) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            Some(_) | None => false,
        }
    }
}

impl Runs {
    pub(super) fn new(hasher: &RandomState) -> Self {
        let (open, ended) = (HashMap::with_hasher(hasher.clone()), HashMap::with_hasher(hasher.clone()));
        Self { hasher: hasher.clone(), open, ended, done: Vec::new(), gaps: 0 }
    }

    /// Records that a part of the stream was not seen.
    pub(super) fn gap(&mut self) {
        self.gaps += 1;
    }

    /// Takes the next event. An error names the line that it contradicts.
    pub(super) fn take(&mut self, run: u64, kind: Kind, line: u64) -> Result<(), (u64, String)> {
        if let Some(ended) = self.ended.get(&run) {
            return Err((*ended, Wrong::AfterEnd.to_string()));
        }
        let (gaps, hasher) = (self.gaps, &self.hasher);
        let open = self.open.entry(run).or_insert_with(|| {
            // The run's beginning was not seen, because the history or the retained part begins in its middle.
            let whole = matches!(kind, Kind::Received(_) | Kind::Notice | Kind::Deleted);
            let grammar = if whole { Grammar::default() } else { Grammar::joined() };
            Open { line, grammar, whole, counts: HashMap::with_hasher(hasher.clone()), gaps }
        });
        open.whole &= open.gaps == gaps;
        *open.counts.entry(kind).or_default() += 1;
        let before = core::mem::replace(&mut open.line, line);
        let (wrong, knows) = (open.grammar.take(kind.word()).err(), open.whole);
        if open.grammar.has_ended()
            && let Some(open) = self.open.remove(&run)
        {
            self.ended.insert(run, line);
            if open.whole {
                self.done.push((run, Whole { counts: open.counts, ended: line }));
            }
        }
        match wrong.filter(|wrong| knows || wrong.is_certain()) {
            Some(wrong) => Err((before, wrong.to_string())),
            None => Ok(()),
        }
    }

    /// Returns the completely observed runs.
    pub(super) fn whole(self) -> Vec<(u64, Whole)> {
        self.done
    }
}
