//! Sequential runs within a thread (RUN-4).
//!
//! A message may *replace* a turn of its thread and all later ones. The step that accepts the message ends the open
//! runs of these turns, so the log has their ends before it has the message.
//!
//! A message whose thread has an open run is written to the log at once, marked as *queued* ([`Schedule::Queued`]).
//! When the last earlier run ends, the session itself emits the queued run's `agent_started` in the same step. This
//! event follows that end in the log, so it becomes durable only after it, and then the agent is launched. So after any
//! crash the log shows whether an agent may have had a queued run:
//!
//! | the log has | after a restart |
//! | --- | --- |
//! | no `agent_started` of the run | no agent had it: the run stays queued, in message order |
//! | the run's `agent_started` | an agent may have had it: the run is interrupted, as any open run |
//!
//! A queued run begins without a further decision: neither the breaker nor a lower mode holds back an accepted message.
//! A node that is about to leave begins no run ([`Mode::awaits_runs`](crate::Mode::awaits_runs)). It neither waits for
//! queued runs nor interrupts them: its successor finds them in the log.

use alloc::vec::Vec;

use super::{Outputs, Session};
use crate::bounds::{Bounds, Concurrency};
use crate::frame::{Cancel, Code};
use crate::id::{Offset, RunId, ThreadId};
use crate::piece::Piece;
use crate::run::{self, Run, Schedule};
use crate::stream::Stream;
use crate::{Violation, ensure};

impl<P: Piece> Session<P> {
    /// Decides when the run of a message in this thread begins. `replaces` is the offset from which the message
    /// replaces the thread's turns.
    ///
    /// # Errors
    ///
    /// The code with which the message is refused.
    pub(super) fn schedule(
        &self,
        bounds: &Bounds,
        thread: ThreadId,
        replaces: Option<Offset>,
    ) -> Result<Schedule, Code> {
        if replaces > self.stream.as_ref().map(Stream::head) {
            return Err(Code::InvalidField);
        }
        let stays = |run: &&Run| !self.gives_way(bounds, run, thread, replaces);
        let staying = || self.runs.values().filter(stays);
        let is_behind = staying().any(|run| run.thread() == thread);
        match bounds.concurrency {
            Concurrency::Queue if is_behind => {
                let queued = staying().filter(|run| run.is_queued()).count();
                return if queued < bounds.queued { Ok(Schedule::Queued) } else { Err(Code::QueueFull) };
            }
            Concurrency::Reject if is_behind => return Err(Code::ThreadBusy),
            Concurrency::Queue | Concurrency::Reject | Concurrency::Interrupt | Concurrency::Parallel => {}
        }
        if staying().filter(|run| !run.is_queued()).count() < bounds.runs {
            return Ok(Schedule::Immediate);
        }
        // If runs wait because the log does not take their beginnings, that is not the user's fault.
        let held_up = self.stream.as_ref().is_some_and(Stream::is_refused)
            && self.runs.keys().any(|run| !self.unsettled.contains_key(run));
        Err(if held_up { Code::Busy } else { Code::TooManyRuns })
    }

    /// Whether a message in this thread ends the run, because it interrupts open runs or replaces the run's turn.
    fn gives_way(&self, bounds: &Bounds, run: &Run, thread: ThreadId, replaces: Option<Offset>) -> bool {
        let begin = self.known.get(&run.message()).and_then(|known| known.offset);
        let replaced = replaces.is_some_and(|from| begin.is_none_or(|begin| begin >= from));
        run.thread() == thread && (replaced || bounds.concurrency == Concurrency::Interrupt)
    }

    /// Ends the runs that a message in this thread ends.
    pub(super) fn make_way(
        &mut self,
        bounds: &Bounds,
        thread: ThreadId,
        replaces: Option<Offset>,
        out: &mut Outputs<P>,
    ) {
        let runs = self.runs.iter().filter(|(_, run)| self.gives_way(bounds, run, thread, replaces));
        let runs: Vec<RunId> = runs.map(|(id, _)| *id).collect();
        self.cancel(bounds, &runs, out);
    }

    /// Ends those of the runs that are open.
    pub(super) fn cancel_all(&mut self, bounds: &Bounds, runs: Cancel, out: &mut Outputs<P>) {
        let is_chosen = |id: &RunId, run: &Run| match runs {
            Cancel::Run(only) => *id == only,
            Cancel::Thread(thread) => run.thread() == thread,
            Cancel::All => true,
        };
        let runs: Vec<RunId> = self.runs.iter().filter(|(id, run)| is_chosen(id, run)).map(|(id, _)| *id).collect();
        self.cancel(bounds, &runs, out);
    }

    fn cancel(&mut self, bounds: &Bounds, runs: &[RunId], out: &mut Outputs<P>) {
        for run in runs {
            let _ = self.run(bounds, *run, run::Input::Cancel, None, out);
        }
    }

    /// Begins each queued run that is due.
    pub(super) fn advance(&mut self, bounds: &Bounds, out: &mut Outputs<P>) {
        if self.mode.awaits_runs() {
            return;
        }
        for index in 0..self.queue.len() {
            let run = self.queue[index].run;
            if self.is_due(index) && self.begun() < bounds.runs {
                let _ = self.run(bounds, run, run::Input::Dequeue, None, out);
            }
        }
    }

    /// Whether the run at this index of the queue is queued, and no earlier run of its thread is open.
    fn is_due(&self, index: usize) -> bool {
        let run = |id: &RunId| self.runs.get(id);
        let Some(due) = self.queue.get(index).and_then(|waiting| run(&waiting.run)).filter(|due| due.is_queued())
        else {
            return false;
        };
        let earlier = self.queue.iter().take(index).filter_map(|waiting| run(&waiting.run));
        let begun = self.runs.values().filter(|run| !run.is_queued());
        !earlier.chain(begun).any(|other| other.thread() == due.thread())
    }

    /// The number of open runs that are queued.
    fn queued(&self) -> usize {
        self.runs.values().filter(|run| run.is_queued()).count()
    }

    /// The number of open runs that are not queued.
    fn begun(&self) -> usize {
        self.runs.len() - self.queued()
    }

    pub(super) fn check_queue(&self, bounds: &Bounds) -> Result<(), Violation> {
        ensure(self.begun() <= bounds.runs, "LIM-1")?;
        ensure(self.queued() <= bounds.queued, "LIM-1")?;
        let waits = |run: &RunId| self.queue.iter().filter(|waiting| waiting.run == *run).count();
        for (id, run) in &self.runs {
            ensure(!run.is_queued() || waits(id) == 1, "RUN-4")?;
        }
        let due = |index| self.is_due(index) && !self.mode.awaits_runs() && self.begun() < bounds.runs;
        ensure(!(0..self.queue.len()).any(due), "RUN-4")?;
        ensure(self.queue.iter().all(|waiting| self.runs.get(&waiting.run).is_some_and(Run::is_open)), "RUN-4")
    }
}
