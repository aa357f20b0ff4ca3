//! How a session ends: when it has nothing left to do, or when the log says so.

use alloc::vec::Vec;

use super::{Output, Outputs, Session, State};
use crate::Handled;
use crate::bounds::Bounds;
use crate::breaker::Breaker;
use crate::close::Cause;
use crate::connection;
use crate::id::{ConnectionId, RunId};
use crate::node::{Mode, Successor};
use crate::piece::Piece;
use crate::run;
use crate::stream::Stream;
use crate::tenure;
use crate::timer::{Owner, Timer};

impl<P: Piece> Session<P> {
    /// Whether the log has confirmed every accepted event.
    pub(super) fn is_written(&self) -> bool {
        self.stream.as_ref().is_none_or(|stream| stream.pending().is_empty())
    }

    /// Whether a verdict may be pending that only this session's fence can check. A draining node admits no connection,
    /// revoked or not.
    pub(super) fn is_fencing(&self) -> bool {
        self.fence.is_up() && self.mode != Mode::Draining
    }

    /// The log takes nothing more from this session: its connections close, its agents stop, and no pending event is
    /// reported as durable.
    pub(super) fn lose(
        &mut self,
        bounds: &Bounds,
        ending: tenure::Input,
        cause: Cause,
        out: &mut Outputs<P>,
    ) -> Handled {
        if let State::Leaving { .. } = self.state
            && self.stream.is_none()
        {
            return Handled::Ignored;
        }
        self.queue.clear();
        for (run, _) in core::mem::take(&mut self.runs) {
            let timers = [Timer::Silence, Timer::Deadline, Timer::Pause];
            out.list.extend(timers.map(|timer| Output::Disarm(Owner::Run(run), timer)));
            out.list.push(Output::Halt { run });
        }
        self.close(bounds, cause, out);
        out.list.extend(
            [Timer::Linger, Timer::Restore, Timer::Retry, Timer::LogAnswer, Timer::Breaker]
                .map(|timer| Output::Disarm(Owner::Session, timer)),
        );
        out.list.push(Output::Lose);
        self.known.clear();
        self.unsettled.clear();
        self.breaker = Breaker::default();
        self.stream = None;
        self.disown(bounds, ending, out);
        self.state = State::Leaving { cause };
        Handled::Done
    }

    /// The node leaves: runs with an agent end here, and every client is told to leave. Queued and paused runs stay in
    /// the log for the next process.
    pub(super) fn go(&mut self, bounds: &Bounds, successor: Successor, out: &mut Outputs<P>) -> Handled {
        let with_agent = self.runs.iter().filter(|(_, run)| run.has_agent());
        let runs: Vec<RunId> = with_agent.map(|(id, _)| *id).collect();
        for run in runs {
            let _ = self.run(bounds, run, run::Input::Interrupt, None, out);
        }
        self.mode = Mode::Draining;
        let told: Vec<ConnectionId> = self.members.keys().copied().collect();
        for connection in told {
            let _ = self.read_on(connection, out);
            let _ = self.connection(bounds, connection, connection::Input::Drain { successor }, out);
        }
        Handled::Done
    }

    fn close(&mut self, bounds: &Bounds, cause: Cause, out: &mut Outputs<P>) {
        let connections: Vec<ConnectionId> = self.members.keys().copied().collect();
        for connection in connections {
            let _ = self.connection(bounds, connection, connection::Input::Close(cause), out);
        }
    }

    /// Runs after each step: begins the runs that are due, becomes vacant when idle, and retires when it may.
    pub(super) fn settle(&mut self, bounds: &Bounds, out: &mut Outputs<P>) {
        self.advance(bounds, out);
        if self.is_idle() && self.state == State::Occupied {
            self.vacate(bounds, out);
        }
        let may_go = match self.state {
            State::Restoring => self.mode == Mode::Draining && self.members.is_empty(),
            State::Vacant => self.mode == Mode::Draining && self.is_written(),
            State::Leaving { .. } => self.is_written() && !self.is_fencing(),
            State::Occupied | State::Retired => false,
        };
        if may_go {
            self.retire(bounds, out);
        }
    }

    /// Whether there is no connection and nothing is under way. A queued or paused run is under way, unless this process
    /// no longer begins runs.
    pub(super) fn is_idle(&self) -> bool {
        let left = self.mode == Mode::Draining;
        self.members.is_empty() && self.runs.values().all(|run| left && !run.has_agent())
    }

    fn vacate(&mut self, bounds: &Bounds, out: &mut Outputs<P>) {
        self.state = State::Vacant;
        out.list.push(Output::Arm(Owner::Session, Timer::Linger, bounds.linger));
    }

    pub(super) fn retire(&mut self, bounds: &Bounds, out: &mut Outputs<P>) {
        self.state = State::Retired;
        self.disown(bounds, tenure::Input::Abandon, out);
        out.list.extend(
            [Timer::Linger, Timer::Restore, Timer::LogAnswer, Timer::Breaker]
                .map(|timer| Output::Disarm(Owner::Session, timer)),
        );
        // A run that waits for a reply, or for its turn, outlives this session.
        let paused = self.runs.iter().filter(|(_, run)| run.paused().is_some());
        out.list.extend(paused.map(|(run, _)| Output::Disarm(Owner::Run(*run), Timer::Pause)));
        let tenure = self.stream.as_ref().map(Stream::tenure);
        out.list.extend([Output::Relinquish { tenure }, Output::Retire]);
    }
}
