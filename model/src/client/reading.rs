//! How a client handles the gateway's frames.

use alloc::vec::Vec;

use super::io::{Heartbeat, Output, State};
use super::{Client, MAX_RUNS};
use crate::Handled;
use crate::bounds::Bounds;
use crate::frame::{Control, Frame, ReadFrom};
use crate::id::{ConnectionId, Position};
use crate::run::Kind;
use crate::stream::{Entry, Event};
use crate::timer::Timer;

impl<P: Clone> Client<P> {
    /// Handles a frame on the newest socket. Every frame is a sign of life.
    pub(super) fn frame(
        &mut self,
        bounds: &Bounds,
        connection: ConnectionId,
        frame: Frame<P>,
        out: &mut Vec<Output<P>>,
    ) -> Handled {
        let heard = match &mut self.state {
            State::Live { heartbeat } | State::Holding { heartbeat } | State::Leaving { heartbeat } => {
                core::mem::replace(heartbeat, Heartbeat::Answered) == Heartbeat::Awaited
            }
            State::Idle | State::Backoff | State::Connecting | State::Authenticating | State::Stopped { .. } => false,
        };
        match (self.state, frame) {
            (State::Authenticating, Frame::Control(Control::Ready { epoch, offset, resumed, .. })) => {
                if !resumed {
                    self.give_up(out);
                    self.runs.clear();
                }
                self.state = State::Live { heartbeat: Heartbeat::Answered };
                self.begin = ReadFrom::After(Position { epoch, offset });
                self.connection = Some(connection);
                self.succession = false;
                out.extend([Output::Disarm(Timer::Connect), Output::Arm(Timer::Stable, bounds.stable)]);
                self.flush(out);
            }
            (State::Live { .. } | State::Holding { .. } | State::Leaving { .. }, Frame::Event(entry)) => {
                if self.event(bounds, entry, out) == Handled::Ignored && !heard {
                    return Handled::Ignored;
                }
            }
            (State::Live { .. } | State::Holding { .. } | State::Leaving { .. }, Frame::Control(control)) => {
                self.control(bounds, control, out);
            }
            (
                State::Live { .. } | State::Holding { .. } | State::Leaving { .. } | State::Authenticating,
                Frame::Close(cause),
            ) => self.closed(bounds, cause.code(), out),
            (
                State::Authenticating | State::Idle | State::Backoff | State::Connecting | State::Stopped { .. },
                Frame::Event(_) | Frame::Control(_) | Frame::Close(_),
            ) => return Handled::Ignored,
        }
        Handled::Done
    }

    fn event(&mut self, bounds: &Bounds, entry: Entry<P>, out: &mut Vec<Output<P>>) -> Handled {
        let ReadFrom::After(position) = &mut self.begin else { return Handled::Ignored };
        if entry.offset <= position.offset {
            return Handled::Ignored;
        }
        if entry.previous > position.offset {
            // An entry is missing without a `stream_reset`: reconnect after the last entry that was read without a gap.
            self.pause(bounds, out);
            return Handled::Done;
        }
        position.offset = entry.offset;
        if let Kind::Received(received) = entry.event.kind {
            self.answered(received.message, entry.event.run, out);
        }
        self.follow(&entry.event);
        out.push(Output::Deliver(entry));
        Handled::Done
    }

    /// Tracks the runs that go on without the user.
    fn follow(&mut self, event: &Event<P>) {
        if event.kind == Kind::Deleted {
            // The ends of the thread's runs may be gone too.
            self.runs.retain(|_, thread| *thread != event.thread);
        } else if event.kind.is_terminal() || matches!(event.kind, Kind::Paused(_)) {
            self.runs.remove(&event.run);
        } else if self.runs.len() < MAX_RUNS {
            self.runs.insert(event.run, event.thread);
        }
    }

    fn control(&mut self, bounds: &Bounds, control: Control<P>, out: &mut Vec<Output<P>>) {
        match control {
            Control::StreamReset { from, to } => {
                if let ReadFrom::After(position) = &mut self.begin
                    && to > position.offset
                {
                    // Reading never goes back: earlier entries were shown already, and any that still arrive are
                    // ignored.
                    position.offset = to;
                    self.give_up(out);
                    self.runs.clear();
                }
                out.push(Output::Reset { from, to });
            }
            Control::Known { message, run, .. } => self.answered(message, run, out),
            Control::Refused { message, code } => self.refused(message, code, out),
            Control::Error(code) => out.push(Output::Error(code)),
            Control::Notice(payload) => out.push(Output::Notice(payload)),
            Control::AuthExpiring => self.ask(out),
            Control::GoingAway(_) => {
                self.state = State::Leaving { heartbeat: Heartbeat::Answered };
                self.expect_successor();
                out.push(Output::Arm(Timer::Leave, bounds.backoff));
            }
            Control::Mode(mode) if !mode.awaits_runs() => self.release(out),
            Control::Ready { .. } | Control::AuthOk | Control::Mode(_) | Control::Pong | Control::Probe => {}
            // Answers are for the caller that sent the query on this socket. A query is not a message and is not
            // repeated.
            Control::Answer(_) | Control::Unanswered { .. } => {}
        }
    }
}
