//! RUN-1: the grammar of a run.
//!
//! ```text
//! run   := received [ started ( progress | tool | pause )* ] end  |  single
//! tool  := opened(t) … closed(t)      one t at a time, none open at the end
//! pause := paused(n) resumed(n)      n counts from 1; the run may also end instead of resuming
//! end   := completed | failed
//! ```
//!
//! `completed` needs `started` before it, and no pause; a run may fail at once. The end of a paused run closes its
//! tools first. `single` stands alone under an id of its own.

use core::fmt::{self, Display};
use std::collections::BTreeSet;

use lockstep_model::run::Kind;
use lockstep_model::{PauseId, ToolId};

/// An event, as far as the grammar distinguishes it. `T` names a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word<T> {
    /// `message_received`.
    Received,
    /// `agent_started`.
    Started,
    /// `agent_thinking` or `agent_delta`.
    Progress,
    /// `tool_executing`.
    Opened(T),
    /// `tool_completed`.
    Closed(T),
    /// `agent_paused`.
    Paused(PauseId),
    /// `agent_resumed`.
    Resumed(PauseId),
    /// `agent_completed`.
    Completed,
    /// `agent_error`.
    Failed,
    /// An event that belongs to no run: a notice or a deletion.
    Single,
}

impl From<Kind> for Word<ToolId> {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Received(_) => Self::Received,
            Kind::Started => Self::Started,
            Kind::Thinking | Kind::Delta(_) => Self::Progress,
            Kind::ToolExecuting(tool) => Self::Opened(tool),
            Kind::ToolCompleted(tool, _) => Self::Closed(tool),
            Kind::Paused(pause) => Self::Paused(pause),
            Kind::Resumed(pause) => Self::Resumed(pause),
            Kind::Completed => Self::Completed,
            Kind::Error(_) => Self::Failed,
            Kind::Notice | Kind::Deleted => Self::Single,
        }
    }
}

/// How an event breaks the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrong {
    /// The run has ended.
    AfterEnd,
    /// The run's message was not received.
    BeforeMessage,
    /// The run's message was received before.
    SecondMessage,
    /// An event that stands alone has the id of a run.
    InRun,
    /// The run has started.
    SecondStart,
    /// The run has not started.
    BeforeStart,
    /// The tool is open.
    ToolOpen,
    /// The tool is not open.
    ToolNotOpen,
    /// The run ends and a tool is open.
    OverTool,
    /// The run is paused.
    WhilePaused,
    /// The run does not wait for that reply.
    NotPaused,
    /// The pause has the number of an earlier one, or skips one.
    WrongPause,
}

impl Wrong {
    /// Whether the event is wrong even if earlier events of the run were not seen.
    #[must_use]
    pub const fn is_certain(self) -> bool {
        match self {
            Self::AfterEnd | Self::SecondMessage | Self::InRun | Self::WhilePaused => true,
            Self::BeforeMessage
            | Self::SecondStart
            | Self::BeforeStart
            | Self::ToolOpen
            | Self::ToolNotOpen
            | Self::OverTool
            | Self::NotPaused
            | Self::WrongPause => false,
        }
    }
}

impl Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AfterEnd => "an event after the end of its run",
            Self::BeforeMessage => "an event before the message of its run",
            Self::SecondMessage => "a run begins twice",
            Self::InRun => "a notice under the id of a run",
            Self::SecondStart => "a run starts twice",
            Self::BeforeStart => "an event before agent_started",
            Self::ToolOpen => "a tool begins twice",
            Self::ToolNotOpen => "a tool completes that does not execute",
            Self::OverTool => "a run ends with a tool that still executes",
            Self::WhilePaused => "an event of a run that waits for a reply",
            Self::NotPaused => "a run resumes that does not wait for that reply",
            Self::WrongPause => "a pause out of order",
        })
    }
}

/// How far the events of one run were read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grammar<T> {
    received: bool,
    started: bool,
    ended: bool,
    paused: bool,
    /// Whether it ends out of a pause, and closes its tools.
    ending: bool,
    /// The newest pause; `None` if it may not have been seen.
    pauses: Option<PauseId>,
    tools: BTreeSet<T>,
}

impl<T> Default for Grammar<T> {
    fn default() -> Self {
        let pauses = Some(PauseId(0));
        Self {
            received: false,
            started: false,
            ended: false,
            paused: false,
            ending: false,
            pauses,
            tools: BTreeSet::new(),
        }
    }
}

impl<T: Copy + Ord> Grammar<T> {
    /// A run whose beginning was not seen. It has received its message, and may have started.
    #[must_use]
    pub fn joined() -> Self {
        Self { received: true, started: true, pauses: None, ..Self::default() }
    }

    /// Whether the run has started.
    #[must_use]
    pub const fn has_started(&self) -> bool {
        self.started
    }

    /// Whether no further event may follow.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// The pause whose reply the run waits for.
    #[must_use]
    pub const fn paused(&self) -> Option<PauseId> {
        if self.paused && !self.ending { self.pauses } else { None }
    }

    /// The open tools.
    #[must_use]
    pub const fn tools(&self) -> &BTreeSet<T> {
        &self.tools
    }

    /// Whether the event may come next.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn allows(&self, word: Word<T>) -> Result<(), Wrong> {
        let ensure = |holds, wrong| if holds { Ok(()) } else { Err(wrong) };
        ensure(!self.ended, Wrong::AfterEnd)?;
        let begins = matches!(word, Word::Received | Word::Single);
        let starts = matches!(word, Word::Started | Word::Failed) || begins;
        ensure(begins || self.received, Wrong::BeforeMessage)?;
        ensure(starts || self.started, Wrong::BeforeStart)?;
        let ends_pause = matches!(word, Word::Resumed(_) | Word::Closed(_) | Word::Failed);
        ensure(begins || ends_pause || !self.paused, Wrong::WhilePaused)?;
        ensure(!self.ending || !matches!(word, Word::Resumed(_)), Wrong::WhilePaused)?;
        match word {
            Word::Received => ensure(!self.received, Wrong::SecondMessage),
            Word::Single => ensure(!self.received, Wrong::InRun),
            Word::Started => ensure(!self.started, Wrong::SecondStart),
            Word::Progress => Ok(()),
            Word::Opened(tool) => ensure(!self.tools.contains(&tool), Wrong::ToolOpen),
            Word::Closed(tool) => ensure(self.tools.contains(&tool), Wrong::ToolNotOpen),
            Word::Paused(pause) => ensure(self.pauses.is_none_or(|last| pause.0 == last.0 + 1), Wrong::WrongPause),
            Word::Resumed(pause) => {
                let unseen = self.pauses.is_none() && !self.paused;
                ensure(unseen || (self.paused && self.pauses == Some(pause)), Wrong::NotPaused)
            }
            Word::Completed | Word::Failed => ensure(self.tools.is_empty(), Wrong::OverTool),
        }
    }

    /// Reads the next event, even one that is wrong.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn take(&mut self, word: Word<T>) -> Result<(), Wrong> {
        let allowed = self.allows(word);
        match word {
            Word::Received => self.received = true,
            Word::Started => self.started = true,
            Word::Progress => {}
            Word::Opened(tool) => drop(self.tools.insert(tool)),
            Word::Closed(tool) => {
                self.tools.remove(&tool);
                self.ending = self.paused;
            }
            Word::Paused(pause) => (self.paused, self.pauses) = (true, Some(pause)),
            Word::Resumed(pause) => (self.paused, self.pauses) = (false, Some(pause)),
            Word::Completed | Word::Failed | Word::Single => {
                self.ended = true;
                self.paused = false;
            }
        }
        allowed
    }
}
