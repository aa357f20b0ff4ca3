//! The grammar of runs, implemented independently of the machine, because the checker must not rely on what it checks.

use std::collections::{HashMap, HashSet};

use ahash::RandomState;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::line::Text;

/// The kind of an event, with tools and messages as digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Received(u64),
    Started,
    Thinking,
    Delta,
    Executing(u64),
    Completed(u64),
    End,
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
}

impl Kind {
    /// Returns `None` for anything that is not an event of a run.
    pub(super) fn of(name: &str, data: Option<&RawValue>, hasher: &RandomState) -> Option<Self> {
        let data = || serde_json::from_str::<Data<'_>>(data?.get()).ok();
        let message = || Some(hasher.hash_one(&*data()?.message_id?.0));
        let tool = || Some(hasher.hash_one(&*data()?.tool_id?.0));
        Some(match name {
            "message_received" => Self::Received(message()?),
            "agent_started" => Self::Started,
            "agent_thinking" => Self::Thinking,
            "agent_delta" => Self::Delta,
            "tool_executing" => Self::Executing(tool()?),
            "tool_completed" => Self::Completed(tool()?),
            "agent_completed" | "agent_error" => Self::End,
            "notice" => Self::Notice,
            "thread_deleted" => Self::Deleted,
            _ => return None,
        })
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
    line: u64,
    started: bool,
    tools: HashSet<u64, RandomState>,
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

impl Open {
    fn new(line: u64, whole: bool, gaps: u64, hasher: &RandomState) -> Self {
        let (tools, counts) = (HashSet::with_hasher(hasher.clone()), HashMap::with_hasher(hasher.clone()));
        // Without its beginning it is unknown whether the run has started.
        Self { line, started: !whole, tools, whole, counts, gaps }
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
            return Err((*ended, "an event after the end of its run".to_owned()));
        }
        if matches!(kind, Kind::Notice | Kind::Deleted) {
            if let Some(open) = self.open.get(&run) {
                return Err((open.line, "a notice under the id of a run".to_owned()));
            }
            self.ended.insert(run, line);
            let mut counts = HashMap::with_hasher(self.hasher.clone());
            counts.insert(kind, 1);
            self.done.push((run, Whole { counts, ended: line }));
            return Ok(());
        }
        let gaps = self.gaps;
        if let Kind::Received(_) = kind {
            if let Some(open) = self.open.get(&run) {
                return Err((open.line, "a run begins twice".to_owned()));
            }
            let mut open = Open::new(line, true, gaps, &self.hasher);
            open.counts.insert(kind, 1);
            self.open.insert(run, open);
            return Ok(());
        }
        // The run's beginning was not seen, because the history or the retained part begins in its middle.
        let open = self.open.entry(run).or_insert_with(|| Open::new(line, false, gaps, &self.hasher));
        open.whole &= open.gaps == gaps;
        *open.counts.entry(kind).or_default() += 1;
        let (before, knows) = (core::mem::replace(&mut open.line, line), open.whole);
        let wrong = |why: &str| Err((before, why.to_owned()));
        match kind {
            Kind::Received(_) | Kind::Notice | Kind::Deleted => {}
            Kind::Started if open.started && knows => return wrong("a run starts twice"),
            Kind::Started => open.started = true,
            Kind::Thinking | Kind::Delta | Kind::Executing(_) | Kind::Completed(_) if !open.started && knows => {
                return wrong("an event before agent_started");
            }
            Kind::Thinking | Kind::Delta => {}
            Kind::Executing(tool) => {
                if !open.tools.insert(tool) && knows {
                    return wrong("a tool begins twice");
                }
            }
            Kind::Completed(tool) => {
                if !open.tools.remove(&tool) && knows {
                    return wrong("a tool completes that does not execute");
                }
            }
            Kind::End => {
                let left = open.tools.len();
                if let Some(open) = self.open.remove(&run) {
                    self.ended.insert(run, line);
                    if open.whole {
                        self.done.push((run, Whole { counts: open.counts, ended: line }));
                    }
                }
                if left > 0 && knows {
                    return wrong("a run ends with a tool that still executes");
                }
            }
        }
        Ok(())
    }

    /// Returns the completely observed runs.
    pub(super) fn whole(self) -> Vec<(u64, Whole)> {
        self.done
    }
}
