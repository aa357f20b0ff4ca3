//! One run after another in a thread (RUN-4).
//!
//! A message whose thread has an open run is written to the log at once, and says there that its run is *queued*
//! ([`Schedule::Queued`]). In the step in which the last run before it ends, the session itself emits its `agent_started`;
//! as this follows that end in the log, it is durable only after it, and then the agent is launched. So a log says of a
//! queued run, wherever it is cut off by a crash, whether an agent may have had it:
//!
//! | the log has | after a restart |
//! | --- | --- |
//! | no `agent_started` of it | no agent had it: it is queued, in the order of the messages |
//! | its `agent_started` | an agent may have had it: it is interrupted, as any run that was under way |
//!
//! Its turn comes by itself: neither breaker nor a lower mode keeps back what was accepted. A node that is about to leave
//! begins no run ([`Mode::awaits_runs`](crate::Mode::awaits_runs)), waits for none that is queued and interrupts none: its
//! successor finds them in the log.

use alloc::vec::Vec;

use super::{Orders, Session};
use crate::bounds::{Bounds, Concurrency};
use crate::frame::Code;
use crate::id::{RunId, ThreadId};
use crate::piece::Piece;
use crate::run::{self, Run, Schedule};
use crate::stream::Stream;
use crate::{Violation, ensure};

impl<P: Piece> Session<P> {
    /// When the run of a message in this thread would begin.
    ///
    /// # Errors
    ///
    /// Why the message is refused.
    pub(super) fn schedule(&self, bounds: &Bounds, thread: ThreadId) -> Result<Schedule, Code> {
        let of_thread = self.runs.values().filter(|run| run.thread() == thread);
        let interrupted = match (bounds.concurrency, of_thread.clone().count()) {
            (Concurrency::Queue, 1..) if self.queued() >= bounds.queued => return Err(Code::QueueFull),
            (Concurrency::Queue, 1..) => return Ok(Schedule::Queued),
            (Concurrency::Reject, 1..) => return Err(Code::ThreadBusy),
            (Concurrency::Interrupt, 1..) => of_thread.filter(|run| !run.is_queued()).count(),
            (Concurrency::Queue | Concurrency::Reject | Concurrency::Interrupt, 0) | (Concurrency::Parallel, _) => 0,
        };
        if self.begun() - interrupted < bounds.runs {
            return Ok(Schedule::Immediate);
        }
        // Runs that a log holds up by not taking their beginnings are not the user's doing.
        let held_up = self.stream.as_ref().is_some_and(Stream::is_refused)
            && self.runs.keys().any(|run| !self.unsettled.contains_key(run));
        Err(if held_up { Code::Busy } else { Code::TooManyRuns })
    }

    /// Ends what is open in the thread of a message that interrupts.
    pub(super) fn interrupt(&mut self, bounds: &Bounds, thread: ThreadId, out: &mut Orders<P>) {
        if bounds.concurrency == Concurrency::Interrupt {
            self.cancel_thread(bounds, thread, out);
        }
    }

    /// Ends what is open in the thread.
    pub(super) fn cancel_thread(&mut self, bounds: &Bounds, thread: ThreadId, out: &mut Orders<P>) {
        let of_thread = self.runs.iter().filter(|(_, run)| run.thread() == thread);
        let open: Vec<RunId> = of_thread.map(|(id, _)| *id).collect();
        for run in open {
            let _ = self.run(bounds, run, run::Input::Cancel, None, out);
        }
    }

    /// Begins each queued run whose turn has come.
    pub(super) fn advance(&mut self, bounds: &Bounds, out: &mut Orders<P>) {
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

    /// Whether the run at this place of the queue waits, and no run before it in its thread is open.
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

    /// Open runs that wait for their turn.
    fn queued(&self) -> usize {
        self.runs.values().filter(|run| run.is_queued()).count()
    }

    /// Open runs that do not.
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
