//! The kinds of events of a run.

use crate::id::{MessageId, Offset, PartId, PauseId, ThreadId, ToolId};

/// How a tool ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum ToolEnd {
    /// The tool returned.
    Success,
    /// The tool failed: an error, a panic, a timeout.
    Failure,
    /// The run ended first, in this way.
    Abandoned(Ending),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Ending {
    /// With an answer.
    Completed,
    /// Without an answer.
    Error(Reason),
}

/// Why a run ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Reason {
    /// The agent reported a failure.
    Failed,
    /// The agent was lost: its handle was dropped, or it panicked.
    Abandoned,
    /// The agent was silent for too long.
    Silent,
    /// The run exceeded its deadline.
    TimedOut,
    /// The user cancelled it.
    Cancelled,
    /// The process ended while the run was open.
    Interrupted,
    /// The run was paused, and the user did not reply in time.
    NoReply,
}

impl Ending {
    /// The terminal event for this ending.
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
    /// When the earlier runs of its thread have ended.
    Queued,
}

/// The content of `message_received`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Received {
    /// The message.
    pub message: MessageId,
    /// Its thread.
    pub thread: ThreadId,
    /// When its run begins. This is logged because after a restart the earlier runs may be trimmed and the policy may
    /// be different.
    pub schedule: Schedule,
    /// The thread's turns from this offset on are superseded: they are kept, but agents do not see them.
    pub replaces: Option<Offset>,
}

impl Received {
    /// For a message whose run begins at once.
    #[must_use]
    pub const fn immediate(message: MessageId, thread: ThreadId) -> Self {
        Self { message, thread, schedule: Schedule::Immediate, replaces: None }
    }
}

/// The kind of an event.
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
    /// `agent_paused`: the agent asks the user for something, and the run waits for the reply.
    Paused(PauseId),
    /// `agent_resumed`: the user's reply to that pause.
    Resumed(PauseId),
    /// `agent_completed`.
    Completed,
    /// `agent_error`.
    Error(Reason),
    /// `notice`: an event of the embedding service, outside any run. It is the only event under its id.
    Notice,
    /// `thread_deleted`: no earlier entry of the thread can be read again. It is the only event under its id.
    Deleted,
}

impl Kind {
    /// Whether no event of the run may follow.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        match self {
            Self::Completed | Self::Error(_) | Self::Notice | Self::Deleted => true,
            Self::Received(_)
            | Self::Started
            | Self::Thinking
            | Self::Delta(_)
            | Self::ToolExecuting(_)
            | Self::ToolCompleted(..)
            | Self::Paused(_)
            | Self::Resumed(_) => false,
        }
    }
}
