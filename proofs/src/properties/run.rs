//! RUN-1: the grammar of a run.
//!
//! ```text
//! run  := received [ started ( progress | tool )* ] end  |  single
//! tool := opened(t) … closed(t)      one t at a time, none open at the end
//! end  := completed | failed
//! ```
//!
//! `completed` needs `started` before it; a run may fail at once. `single` stands alone under an id of its own.

use core::fmt::{self, Display};
use std::collections::BTreeSet;

use lockstep_model::ToolId;
use lockstep_model::run::Kind;

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
}

impl Wrong {
    /// Whether the event is wrong even if earlier events of the run were not seen.
    #[must_use]
    pub const fn is_certain(self) -> bool {
        match self {
            Self::AfterEnd | Self::SecondMessage | Self::InRun => true,
            Self::BeforeMessage
            | Self::SecondStart
            | Self::BeforeStart
            | Self::ToolOpen
            | Self::ToolNotOpen
            | Self::OverTool => false,
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
        })
    }
}

/// How far the events of one run were read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grammar<T> {
    received: bool,
    started: bool,
    ended: bool,
    tools: BTreeSet<T>,
}

impl<T> Default for Grammar<T> {
    fn default() -> Self {
        Self { received: false, started: false, ended: false, tools: BTreeSet::new() }
    }
}

impl<T: Copy + Ord> Grammar<T> {
    /// A run whose beginning was not seen. It has received its message, and may have started.
    #[must_use]
    pub fn joined() -> Self {
        Self { received: true, started: true, ..Self::default() }
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
        match word {
            Word::Received => ensure(!self.received, Wrong::SecondMessage),
            Word::Single => ensure(!self.received, Wrong::InRun),
            Word::Started => ensure(!self.started, Wrong::SecondStart),
            Word::Progress => Ok(()),
            Word::Opened(tool) => ensure(!self.tools.contains(&tool), Wrong::ToolOpen),
            Word::Closed(tool) => ensure(self.tools.contains(&tool), Wrong::ToolNotOpen),
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
            Word::Closed(tool) => drop(self.tools.remove(&tool)),
            Word::Completed | Word::Failed | Word::Single => self.ended = true,
        }
        allowed
    }
}
