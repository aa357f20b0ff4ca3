//! Queries about a run's state.

use super::{Input, Run, State};
use crate::id::PauseId;

impl Run {
    /// Whether more events may follow.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        match self.state {
            State::Queued | State::Accepted | State::Started | State::Working { .. } | State::Paused { .. } => true,
            State::Completed | State::Failed | State::Cancelled | State::Interrupted => false,
        }
    }

    /// Whether an agent works on the run, or is about to. An open run without an agent outlives the process: the next
    /// process finds it in the log.
    #[must_use]
    pub const fn has_agent(&self) -> bool {
        match self.state {
            State::Accepted | State::Started | State::Working { .. } => true,
            State::Queued
            | State::Paused { .. }
            | State::Completed
            | State::Failed
            | State::Cancelled
            | State::Interrupted => false,
        }
    }

    /// The pause whose reply the run waits for.
    #[must_use]
    pub const fn paused(&self) -> Option<PauseId> {
        match self.state {
            State::Paused { pause, .. } => Some(pause),
            State::Queued
            | State::Accepted
            | State::Started
            | State::Working { .. }
            | State::Completed
            | State::Failed
            | State::Cancelled
            | State::Interrupted => None,
        }
    }

    /// Whether the run waits for earlier runs.
    #[must_use]
    pub const fn is_queued(&self) -> bool {
        match self.state {
            State::Queued => true,
            State::Accepted
            | State::Started
            | State::Working { .. }
            | State::Paused { .. }
            | State::Completed
            | State::Failed
            | State::Cancelled
            | State::Interrupted => false,
        }
    }

    /// How many events it takes to end the run now, including its start if it is queued, and its `agent_resumed` if it
    /// is paused. The stream reserves this much room, so these events are never refused for lack of it.
    #[must_use]
    pub fn reserve(&self) -> usize {
        match &self.state {
            State::Queued => 2,
            State::Accepted | State::Started => 1,
            State::Working { tools } => tools.len() + 1,
            State::Paused { tools, .. } => tools.len() + 2,
            State::Completed | State::Failed | State::Cancelled | State::Interrupted => 0,
        }
    }

    /// The most room that an input needs: see [`Run::needs`].
    pub const MAX_NEEDS: usize = 2;

    /// How much room in the stream an input needs beyond what the run has reserved.
    #[must_use]
    pub const fn needs(input: &Input) -> usize {
        match input {
            Input::OpenTool(_) | Input::Pause => 2,
            Input::Start | Input::Think | Input::Say(_) => 1,
            Input::Dequeue
            | Input::Alive
            | Input::Resume(_)
            | Input::CloseTool(..)
            | Input::Complete
            | Input::Fail
            | Input::Abandon
            | Input::Cancel
            | Input::Interrupt
            | Input::Expired(_) => 0,
        }
    }
}
