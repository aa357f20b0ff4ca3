//! A run's progress, and the tasks that wait for it.
//!
//! A task is woken only when the event that it waits for has happened, and not by earlier events: an agent that emits
//! many events at once waits for each of them.
//!
//! | what | who may touch it, and when |
//! | --- | --- |
//! | the progress and the waiting tasks | the driver and the run's handles, for a moment |
//!
//! No other lock is taken under this one, and no task is woken under it. Nor is a waker dropped under it: an executor of
//! the embedder may drop a task with its last waker, and with it a future that waits here.

use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::sync::{Arc, Mutex};

use crate::sync::lock;

/// A run's progress, as the driver reports it to the handle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The number of its durable events, not counting `message_received`.
    pub(crate) durable: u64,
    /// Whether its last event is durable.
    pub(crate) last: bool,
    /// Whether its machine has ended, so its agent must stop.
    pub(crate) halted: bool,
    /// Whether its session is lost.
    pub(crate) lost: bool,
}

/// The condition that a task waits for. Each is met when the session is lost.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// That many events are durable, or the last one is.
    Durable(u64),
    /// The last event is durable.
    Last,
    /// The run's machine has ended.
    Halted,
    /// The run's machine has ended, or the last event is durable.
    Over,
}

impl Until {
    const fn has_happened(self, progress: &Progress) -> bool {
        let Progress { durable, last, halted, lost } = *progress;
        match self {
            Self::Durable(number) => lost || last || durable >= number,
            Self::Last => lost || last,
            Self::Halted => lost || halted,
            Self::Over => lost || halted || last,
        }
    }
}

/// Reports a run's progress. When it is dropped, there are no further reports, and no task waits for one.
#[derive(Debug, Default)]
pub(crate) struct Reporter(Arc<Mutex<State>>);

/// Learns of a run's progress.
#[derive(Clone, Debug)]
pub(crate) struct Reports(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    progress: Progress,
    closed: bool,
    /// The number of the newest wait.
    waits: u64,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    until: Until,
    waker: Waker,
}

impl State {
    /// Takes a task that need not wait any longer.
    fn ready(&mut self) -> Option<Waker> {
        let Self { progress, closed, waiting, .. } = self;
        let ready = waiting.iter().position(|one| *closed || one.until.has_happened(progress))?;
        Some(waiting.remove(ready).waker)
    }
}

/// Wakes the tasks that need not wait any longer.
fn wake(state: &Mutex<State>) {
    // The lock is released before each task is woken.
    while let Some(waker) = { lock(state).ready() } {
        waker.wake();
    }
}

impl Reporter {
    /// Reports a change.
    pub(crate) fn report(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut lock(&self.0).progress);
        wake(&self.0);
    }

    pub(crate) fn reports(&self) -> Reports {
        Reports(Arc::clone(&self.0))
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        lock(&self.0).closed = true;
        wake(&self.0);
    }
}

impl Reports {
    /// The newest progress.
    pub(crate) fn newest(&self) -> Progress {
        lock(&self.0).progress
    }

    /// Waits, and returns the progress then; `None` if there are no further reports. Cancel safe.
    pub(crate) const fn wait(&self, until: Until) -> Wait<'_> {
        Wait { reports: self, until, number: None }
    }
}

/// The future of [`Reports::wait`].
pub(crate) struct Wait<'a> {
    reports: &'a Reports,
    until: Until,
    /// This wait's number, once it was polled.
    number: Option<u64>,
}

impl Future for Wait<'_> {
    type Output = Option<Progress>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Progress>> {
        let mut guard = lock(&self.reports.0);
        let state = &mut *guard;
        let known = state.waiting.iter().position(|one| Some(one.number) == self.number);
        let happened = self.until.has_happened(&state.progress);
        if happened || state.closed {
            let progress = happened.then_some(state.progress);
            let done = known.map(|known| state.waiting.remove(known));
            drop(guard);
            drop(done);
            self.number = None;
            return Poll::Ready(progress);
        }
        let waker = context.waker().clone();
        if let Some(known) = known {
            let before = core::mem::replace(&mut state.waiting[known].waker, waker);
            drop(guard);
            drop(before);
            return Poll::Pending;
        }
        state.waits += 1;
        let number = state.waits;
        state.waiting.push(Waiting { number, until: self.until, waker });
        drop(guard);
        self.number = Some(number);
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut state = lock(&self.reports.0);
        let known = state.waiting.iter().position(|one| one.number == number);
        let done = known.map(|known| state.waiting.remove(known));
        drop(state);
        drop(done);
    }
}
