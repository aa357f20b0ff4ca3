//! What the events of a run are.

use crate::id::{MessageId, Offset, PartId, ThreadId, ToolId};

/// How a tool ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum ToolEnd {
    /// It returned.
    Success,
    /// It failed: an error, a panic, a timeout.
    Failure,
    /// The run ended first, and how.
    Abandoned(Ending),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Ending {
    /// With an answer.
    Completed,
    /// Without one.
    Error(Reason),
}

/// Why a run ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Reason {
    /// The agent said so.
    Failed,
    /// The agent was gone: its handle was dropped, or it panicked.
    Abandoned,
    /// The agent was silent for too long.
    Silent,
    /// The run took longer than a run may.
    TimedOut,
    /// The user cancelled it.
    Cancelled,
    /// The process went down while it was under way.
    Interrupted,
}

impl Ending {
    /// The event that says so.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Completed => Kind::Completed,
            Self::Error(reason) => Kind::Error(reason),
        }
    }
}

/// When a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Schedule {
    /// As soon as its message is durable.
    Immediate,
    /// When the runs before it in its thread have ended.
    Queued,
}

/// What `message_received` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Received {
    /// The message.
    pub message: MessageId,
    /// Its thread.
    pub thread: ThreadId,
    /// When its run begins. The log has to know it: what a restart finds of the runs before may be trimmed, and the policy
    /// may be another one.
    pub schedule: Schedule,
    /// What the thread had from this place on is superseded: it is kept, and no agent is told of it.
    pub replaces: Option<Offset>,
}

impl Received {
    /// Of a message whose run begins at once.
    #[must_use]
    pub const fn immediate(message: MessageId, thread: ThreadId) -> Self {
        Self { message, thread, schedule: Schedule::Immediate, replaces: None }
    }
}

/// What an event of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Kind {
    /// `message_received`.
    Received(Received),
    /// `agent_started`.
    Started,
    /// `agent_thinking`.
    Thinking,
    /// `agent_delta`: the next piece of a part of the answer.
    Delta(PartId),
    /// `tool_executing`.
    ToolExecuting(ToolId),
    /// `tool_completed`.
    ToolCompleted(ToolId, ToolEnd),
    /// `agent_completed`.
    Completed,
    /// `agent_error`.
    Error(Reason),
    /// `notice`: of no run, but of the service that embeds the gateway. It stands alone under an id of its own.
    Notice,
    /// `thread_deleted`: nothing that its thread had before can be read again. It stands alone, as a notice does.
    Deleted,
}

impl Kind {
    /// Whether nothing of the run may follow.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        match self {
            Self::Completed | Self::Error(_) | Self::Notice | Self::Deleted => true,
            Self::Received(_)
            | Self::Started
            | Self::Thinking
            | Self::Delta(_)
            | Self::ToolExecuting(_)
            | Self::ToolCompleted(..) => false,
        }
    }
}
