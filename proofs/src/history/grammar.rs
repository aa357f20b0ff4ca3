//! The grammar of runs, told again without the machine: this judge must not believe what it judges.

use std::collections::{HashMap, HashSet};

use ahash::RandomState;
use serde_json::Value;
use serde_json::value::RawValue;

/// What an event is; tools and messages by digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Received(u64),
    Started,
    Thinking,
    Executing(u64),
    Completed(u64),
    End,
}

impl Kind {
    /// `None` for what is no event of a run.
    pub(super) fn of(name: &str, data: Option<&RawValue>, hasher: &RandomState) -> Option<Self> {
        let field = |name: &str| {
            let data: Value = serde_json::from_str(data?.get()).ok()?;
            Some(hasher.hash_one(data.get(name)?.as_str()?))
        };
        Some(match name {
            "message_received" => Self::Received(field("message_id")?),
            "agent_started" => Self::Started,
            "agent_thinking" => Self::Thinking,
            "tool_executing" => Self::Executing(field("tool_id")?),
            "tool_completed" => Self::Completed(field("tool_id")?),
            "agent_completed" | "agent_error" => Self::End,
            _ => return None,
        })
    }
}

/// The runs of one stream, read in its order.
#[derive(Default)]
pub(super) struct Runs {
    open: HashMap<u64, Open>,
    ended: HashMap<u64, u64>,
    done: Vec<(u64, Whole)>,
    /// After a gap, what an unknown run did before is not known either.
    gaps: u64,
}

struct Open {
    line: u64,
    started: bool,
    tools: HashSet<u64>,
    /// Whether all of it was seen.
    whole: bool,
    counts: HashMap<Kind, u64>,
    gaps: u64,
}

/// A run that was seen whole: how often each kind of event is in it, less what was acknowledged.
pub(super) struct Whole {
    counts: HashMap<Kind, u64>,
    /// Where it ends.
    pub(super) ended: u64,
}

impl Whole {
    /// Counts an acknowledged event; false if there are fewer of its kind than were acknowledged.
    pub(super) fn take(&mut self, kind: Kind) -> bool {
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
    /// Part of the stream was not seen.
    pub(super) fn gap(&mut self) {
        self.gaps += 1;
    }

    /// The next event. An error names the line that it contradicts.
    pub(super) fn take(&mut self, run: u64, kind: Kind, line: u64) -> Result<(), (u64, String)> {
        if let Some(ended) = self.ended.get(&run) {
            return Err((*ended, "an event after the end of its run".to_owned()));
        }
        let gaps = self.gaps;
        if let Kind::Received(_) = kind {
            if let Some(open) = self.open.get(&run) {
                return Err((open.line, "a run begins twice".to_owned()));
            }
            let counts = HashMap::from([(kind, 1)]);
            let open = Open { line, started: false, tools: HashSet::new(), whole: true, counts, gaps };
            self.open.insert(run, open);
            return Ok(());
        }
        // A run whose beginning was not seen: the history, or what is retained, begins in its middle.
        let open = self.open.entry(run).or_insert_with(|| Open {
            line,
            started: true,
            tools: HashSet::new(),
            whole: false,
            counts: HashMap::new(),
            gaps,
        });
        open.whole &= open.gaps == gaps;
        *open.counts.entry(kind).or_default() += 1;
        let (before, knows) = (core::mem::replace(&mut open.line, line), open.whole);
        let wrong = |why: &str| Err((before, why.to_owned()));
        match kind {
            Kind::Received(_) => {}
            Kind::Started if open.started && knows => return wrong("a run starts twice"),
            Kind::Started => open.started = true,
            Kind::Thinking | Kind::Executing(_) | Kind::Completed(_) if !open.started && knows => {
                return wrong("an event before agent_started");
            }
            Kind::Thinking => {}
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

    /// The runs that were seen whole.
    pub(super) fn whole(self) -> Vec<(u64, Whole)> {
        self.done
    }
}
