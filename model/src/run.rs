//! One AI request: its events, its tools and its end.
//!
//! ```text
#![doc = include_str!("diagram/run.txt")]
//! ```
//!
//! * **RUN-1** A run's events follow one grammar: `message_received`, `agent_started`, then any number of
//!   `agent_thinking`, `agent_delta`, pauses and tools, each `tool_executing` closed by one `tool_completed`, then one
//!   terminal event, then nothing. An `agent_paused` is followed by its `agent_resumed` or by the end. Whatever ends the
//!   run (success, error, cancel, panic, silence, loss of the agent, a restart) closes the open tools first.
//! * **RUN-4** A queued run has no agent and no timer. It begins with [`Input::Dequeue`], which emits its
//!   `agent_started`. A log that has this event of a queued run therefore knows that the run is no longer queued.
//! * **RUN-5** A paused run has no agent either: it waits for a reply of the user. The first reply to a pause resumes the
//!   run, and no other does anything: pauses are numbered, and a reply names its pause. A log that has an `agent_paused`
//!   without its `agent_resumed` therefore knows that no agent has had a reply.
//! * **RUN-3** A refused command emits nothing and returns the reason.
//! * **LIVE-2** While a run has an agent, [`Timer::Silence`] and [`Timer::Deadline`] are armed, and the expiry of either
//!   ends it. Each emit and each sign of life renews the first, because an agent that waits for a slow model is not
//!   dead; while a tool executes, the first is longer. Only a reply renews the second, so an agent that stays alive
//!   forever ends too. While a run is paused, [`Timer::Pause`] is armed instead of both, and its expiry ends the run.
//! * **LIM-1** At most [`Bounds::tools`] tools are open and at most [`Bounds::events`] events are emitted.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use crate::bounds::Bounds;
use crate::id::{MessageId, PartId, PauseId, ThreadId, ToolId};
use crate::timer::Timer;
use crate::{Handled, Refusal, Violation, ensure};

mod event;
mod query;

pub use self::event::{Ending, Kind, Reason, Received, Schedule, ToolEnd};

/// The states of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// The message was accepted; earlier runs of its thread are open.
    Queued,
    /// The message was accepted; the agent has emitted nothing.
    Accepted,
    /// `agent_started`.
    Started,
    /// The agent has emitted an event after `agent_started`.
    Working {
        /// Tools that are executing.
        tools: BTreeSet<ToolId>,
    },
    /// `agent_paused`: the run waits for a reply.
    Paused {
        /// The pause that a reply must name.
        pause: PauseId,
        /// Tools that are executing.
        tools: BTreeSet<ToolId>,
    },
    /// `agent_completed`. Final.
    Completed,
    /// `agent_error` because the agent failed, was silent, or ran out of time. Final.
    Failed,
    /// `agent_error` because the user cancelled, or did not reply. Final.
    Cancelled,
    /// `agent_error` because the process went down. Final.
    Interrupted,
}

/// The inputs of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input {
    /// The run is queued and may begin.
    Dequeue,
    /// The agent begins. A run that was queued has begun already.
    Start,
    /// The agent thinks.
    Think,
    /// The agent emits the next piece of a part.
    Say(PartId),
    /// The agent has nothing to show yet but is working: it waits for a model or a tool.
    Alive,
    /// The agent calls a tool.
    OpenTool(ToolId),
    /// A tool returned or failed.
    CloseTool(ToolId, ToolEnd),
    /// The agent asks the user for something and stops. The reply is given to another agent.
    Pause,
    /// The user replies to this pause.
    Resume(PauseId),
    /// The agent has answered.
    Complete,
    /// The agent gives up.
    Fail,
    /// The agent's handle is gone before the run ended: it was dropped, or the agent panicked or was killed.
    Abandon,
    /// The user cancels.
    Cancel,
    /// The process went down while the run was open.
    Interrupt,
    /// [`Timer::Silence`], [`Timer::Deadline`] or [`Timer::Pause`] fired.
    Expired(Timer),
}

/// The outputs of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output {
    /// Append this event to the user's stream.
    Emit(Kind),
    /// Tell the agent to stop. Anything that it still emits is refused.
    Stop,
    /// Set a timer.
    Arm(Timer, Duration),
    /// Cancel a timer.
    Disarm(Timer),
}

/// The state machine of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Run {
    message: MessageId,
    thread: ThreadId,
    state: State,
    events: u32,
    pauses: PauseId,
}

impl Run {
    /// Creates the run of a message that was just accepted, and emits `message_received`.
    pub fn accept(bounds: &Bounds, received: Received, out: &mut Vec<Output>) -> Self {
        out.push(Output::Emit(Kind::Received(received)));
        if received.schedule == Schedule::Immediate {
            out.push(Output::Arm(Timer::Silence, bounds.silence));
            out.push(Output::Arm(Timer::Deadline, bounds.deadline));
        }
        Self::recall(received)
    }

    /// Creates a run from the log's `message_received`, ready to [replay](Run::replay) the events that follow it.
    #[must_use]
    pub const fn recall(received: Received) -> Self {
        let Received { message, thread, schedule, .. } = received;
        let state = match schedule {
            Schedule::Immediate => State::Accepted,
            Schedule::Queued => State::Queued,
        };
        Self { message, thread, state, events: 0, pauses: PauseId(0) }
    }

    /// Applies an event that the log has, without emitting it again.
    pub fn replay(&mut self, kind: Kind) {
        self.events = self.events.saturating_add(1);
        match kind {
            Kind::Received(_) | Kind::Notice | Kind::Deleted => {}
            Kind::Started => self.state = State::Started,
            Kind::Thinking | Kind::Delta(_) => self.work(|_| {}),
            Kind::ToolExecuting(tool) => self.work(|tools| {
                tools.insert(tool);
            }),
            Kind::ToolCompleted(tool, _) => self.work(|tools| {
                tools.remove(&tool);
            }),
            Kind::Paused(pause) => self.pause(pause),
            Kind::Resumed(_) => self.work(|_| {}),
            Kind::Completed => self.state = State::Completed,
            Kind::Error(Reason::Cancelled | Reason::NoReply) => self.state = State::Cancelled,
            Kind::Error(Reason::Interrupted) => self.state = State::Interrupted,
            Kind::Error(Reason::Failed | Reason::Abandoned | Reason::Silent | Reason::TimedOut) => {
                self.state = State::Failed;
            }
        }
    }

    /// A restart found the run paused: its timer begins again.
    pub fn recover(&self, bounds: &Bounds, out: &mut Vec<Output>) {
        if let State::Paused { .. } = self.state {
            out.push(Output::Arm(Timer::Pause, bounds.pause));
        }
    }

    /// The message that started the run.
    #[must_use]
    pub const fn message(&self) -> MessageId {
        self.message
    }

    /// The thread of that message.
    #[must_use]
    pub const fn thread(&self) -> ThreadId {
        self.thread
    }

    /// The current state.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Takes one input.
    ///
    /// # Errors
    ///
    /// An agent's emit that is not allowed here is refused. A refused emit changes nothing and emits nothing.
    pub fn step(&mut self, bounds: &Bounds, input: Input, out: &mut Vec<Output>) -> Result<Handled, Refusal> {
        match (&self.state, input) {
            // There is no agent yet, or no longer one.
            (
                State::Queued
                | State::Paused { .. }
                | State::Completed
                | State::Failed
                | State::Cancelled
                | State::Interrupted,
                Input::Start
                | Input::Think
                | Input::Say(_)
                | Input::Alive
                | Input::OpenTool(_)
                | Input::CloseTool(..)
                | Input::Pause
                | Input::Complete
                | Input::Fail,
            ) => return Err(if self.is_open() { Refusal::OutOfOrder } else { Refusal::RunEnded }),
            (
                State::Completed | State::Failed | State::Cancelled | State::Interrupted,
                Input::Dequeue
                | Input::Resume(_)
                | Input::Abandon
                | Input::Cancel
                | Input::Interrupt
                | Input::Expired(_),
            )
            | (State::Accepted | State::Started | State::Working { .. }, Input::Dequeue | Input::Resume(_))
            | (State::Queued, Input::Resume(_) | Input::Abandon | Input::Expired(_))
            | (State::Paused { .. }, Input::Dequeue | Input::Abandon) => return Ok(Handled::Ignored),

            (State::Queued, Input::Dequeue) => {
                self.state = State::Started;
                out.push(Output::Arm(Timer::Deadline, bounds.deadline));
                self.emit(bounds, Kind::Started, out);
            }

            (State::Accepted, Input::Start) => {
                self.state = State::Started;
                self.emit(bounds, Kind::Started, out);
            }
            (
                State::Accepted,
                Input::Think
                | Input::Say(_)
                | Input::Alive
                | Input::OpenTool(_)
                | Input::CloseTool(..)
                | Input::Pause
                | Input::Complete,
            )
            | (State::Started | State::Working { .. }, Input::Start) => return Err(Refusal::OutOfOrder),

            (
                State::Started | State::Working { .. },
                Input::Think | Input::Say(_) | Input::OpenTool(_) | Input::Pause,
            ) if self.events >= bounds.events => {
                return Err(Refusal::TooManyEvents);
            }
            (State::Started | State::Working { .. }, Input::Think) => {
                self.work(|_| {});
                self.emit(bounds, Kind::Thinking, out);
            }
            (State::Started | State::Working { .. }, Input::Say(part)) => {
                self.work(|_| {});
                self.emit(bounds, Kind::Delta(part), out);
            }
            (State::Started | State::Working { .. }, Input::Alive) => self.watch(bounds, out),
            (State::Working { tools }, Input::OpenTool(tool)) if tools.contains(&tool) => {
                return Err(Refusal::ToolOpen);
            }
            (State::Working { tools }, Input::OpenTool(_)) if tools.len() >= bounds.tools => {
                return Err(Refusal::TooManyTools);
            }
            (State::Started | State::Working { .. }, Input::OpenTool(tool)) => {
                self.work(|tools| {
                    tools.insert(tool);
                });
                self.emit(bounds, Kind::ToolExecuting(tool), out);
            }
            (State::Working { tools }, Input::CloseTool(tool, end)) if tools.contains(&tool) => {
                self.work(|tools| {
                    tools.remove(&tool);
                });
                self.emit(bounds, Kind::ToolCompleted(tool, end), out);
            }
            (State::Started | State::Working { .. }, Input::CloseTool(..)) => return Err(Refusal::ToolNotOpen),

            (State::Started | State::Working { .. }, Input::Pause) => {
                let pause = self.pauses.next();
                self.pause(pause);
                self.events = self.events.saturating_add(1);
                out.push(Output::Emit(Kind::Paused(pause)));
                out.extend([Timer::Silence, Timer::Deadline].map(Output::Disarm));
                out.push(Output::Arm(Timer::Pause, bounds.pause));
                out.push(Output::Stop);
            }
            (State::Paused { pause, .. }, Input::Resume(named)) if *pause == named => {
                self.work(|_| {});
                out.push(Output::Disarm(Timer::Pause));
                out.push(Output::Arm(Timer::Deadline, bounds.deadline));
                self.emit(bounds, Kind::Resumed(named), out);
            }
            (State::Paused { .. }, Input::Resume(_)) => return Ok(Handled::Ignored),
            (State::Paused { .. }, Input::Expired(Timer::Pause)) => {
                self.end(State::Cancelled, Ending::Error(Reason::NoReply), out);
            }
            (State::Paused { .. }, Input::Expired(_)) => return Ok(Handled::Ignored),

            (State::Started | State::Working { .. }, Input::Complete) => {
                self.end(State::Completed, Ending::Completed, out);
            }
            (State::Accepted | State::Started | State::Working { .. }, Input::Fail) => {
                self.end(State::Failed, Ending::Error(Reason::Failed), out);
            }
            (State::Accepted | State::Started | State::Working { .. }, Input::Abandon) => {
                self.end(State::Failed, Ending::Error(Reason::Abandoned), out);
            }
            (State::Accepted | State::Started | State::Working { .. }, Input::Expired(Timer::Silence)) => {
                self.end(State::Failed, Ending::Error(Reason::Silent), out);
            }
            (State::Accepted | State::Started | State::Working { .. }, Input::Expired(Timer::Deadline)) => {
                self.end(State::Failed, Ending::Error(Reason::TimedOut), out);
            }
            (
                State::Queued | State::Accepted | State::Started | State::Working { .. } | State::Paused { .. },
                Input::Cancel,
            ) => {
                self.end(State::Cancelled, Ending::Error(Reason::Cancelled), out);
            }
            (
                State::Queued | State::Accepted | State::Started | State::Working { .. } | State::Paused { .. },
                Input::Interrupt,
            ) => {
                self.end(State::Interrupted, Ending::Error(Reason::Interrupted), out);
            }
            (State::Accepted | State::Started | State::Working { .. }, Input::Expired(_)) => {
                return Ok(Handled::Ignored);
            }
        }
        Ok(Handled::Done)
    }

    /// Checks the invariants of this value.
    ///
    /// # Errors
    ///
    /// The id of the property that the value violates.
    pub fn check(&self, bounds: &Bounds) -> Result<(), Violation> {
        let tools = match &self.state {
            State::Working { tools } | State::Paused { tools, .. } => tools.len(),
            State::Queued
            | State::Accepted
            | State::Started
            | State::Completed
            | State::Failed
            | State::Cancelled
            | State::Interrupted => 0,
        };
        ensure(tools <= bounds.tools, "LIM-1")
    }

    /// Takes the open tools out of the state, which is about to change.
    fn take_tools(&mut self) -> BTreeSet<ToolId> {
        match &mut self.state {
            State::Working { tools } | State::Paused { tools, .. } => core::mem::take(tools),
            State::Queued
            | State::Accepted
            | State::Started
            | State::Completed
            | State::Failed
            | State::Cancelled
            | State::Interrupted => BTreeSet::new(),
        }
    }

    fn pause(&mut self, pause: PauseId) {
        self.pauses = pause;
        self.state = State::Paused { pause, tools: self.take_tools() };
    }

    /// Enters or stays in the working state, and changes its open tools.
    fn work(&mut self, change: impl FnOnce(&mut BTreeSet<ToolId>)) {
        if !matches!(self.state, State::Working { .. }) {
            self.state = State::Working { tools: self.take_tools() };
        }
        if let State::Working { tools } = &mut self.state {
            change(tools);
        }
    }

    fn emit(&mut self, bounds: &Bounds, kind: Kind, out: &mut Vec<Output>) {
        self.events = self.events.saturating_add(1);
        out.push(Output::Emit(kind));
        self.watch(bounds, out);
    }

    /// Restarts the silence timer. It is longer while a tool executes.
    fn watch(&self, bounds: &Bounds, out: &mut Vec<Output>) {
        let executing = matches!(&self.state, State::Working { tools } if !tools.is_empty());
        out.push(Output::Arm(Timer::Silence, if executing { bounds.execution } else { bounds.silence }));
    }

    /// Closes the open tools, then the run.
    fn end(&mut self, state: State, ending: Ending, out: &mut Vec<Output>) {
        let armed: &[Timer] =
            if self.paused().is_some() { &[Timer::Pause] } else { &[Timer::Silence, Timer::Deadline] };
        let end = ToolEnd::Abandoned(ending);
        out.extend(self.take_tools().into_iter().map(|tool| Output::Emit(Kind::ToolCompleted(tool, end))));
        self.state = state;
        out.push(Output::Emit(ending.kind()));
        out.extend(armed.iter().copied().map(Output::Disarm));
        out.push(Output::Stop);
    }
}
