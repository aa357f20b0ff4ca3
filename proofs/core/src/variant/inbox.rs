//! Inboxes that break SH-3.

use std::task::{Context, Poll, Waker};

use super::scenario::sh3::{Delivery, Kind, Reading, Signal};
use super::sync::{Condvar, Mutex, lock, wait};

/// Checks for content under one lock and registers its waker under another.
#[derive(Debug)]
pub struct WakerAfterLook {
    signal: Mutex<bool>,
    waker: Mutex<Option<Waker>>,
}

impl Signal for WakerAfterLook {
    fn new() -> Self {
        Self { signal: Mutex::new(false), waker: Mutex::new(None) }
    }

    fn signal(&self) {
        *lock(&self.signal) = true;
        if let Some(waker) = lock(&self.waker).take() {
            waker.wake();
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        if core::mem::take(&mut *lock(&self.signal)) {
            return Poll::Ready(());
        }
        *lock(&self.waker) = Some(context.waker().clone());
        Poll::Pending
    }

    fn close(&self) {
        *lock(&self.waker) = None;
    }
}

/// Calls the waker after releasing the lock under which it was taken.
#[derive(Debug)]
pub struct WakeAfterUnlock(Mutex<State>);

#[derive(Debug)]
struct State {
    signal: bool,
    closed: bool,
    waker: Option<Waker>,
}

impl Signal for WakeAfterUnlock {
    fn new() -> Self {
        Self(Mutex::new(State { signal: false, closed: false, waker: None }))
    }

    fn signal(&self) {
        let waker = {
            let mut state = lock(&self.0);
            state.signal = !state.closed;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.0);
        if core::mem::take(&mut state.signal) {
            return Poll::Ready(());
        }
        if !state.closed {
            state.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn close(&self) {
        let mut state = lock(&self.0);
        *state = State { signal: false, closed: true, waker: None };
    }
}

/// Wakes for items and notices, and not for a value that is handed over.
#[derive(Debug)]
pub struct SilentHandOver(Mutex<(Vec<Kind>, Option<Waker>)>);

impl Delivery for SilentHandOver {
    fn empty() -> Self {
        Self(Mutex::new((Vec::new(), None)))
    }

    fn deliver(&self, kind: Kind) {
        let (delivered, waker) = &mut *lock(&self.0);
        delivered.push(kind);
        if let (Kind::Item | Kind::Notice, Some(waker)) = (kind, waker) {
            waker.wake_by_ref();
        }
    }

    fn poll(&self, context: &Context<'_>, taken: &mut Vec<Kind>) -> Poll<()> {
        let (delivered, waker) = &mut *lock(&self.0);
        if delivered.is_empty() {
            *waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        taken.append(delivered);
        Poll::Ready(())
    }
}

/// Registers the first waker and never replaces it.
#[derive(Debug)]
pub struct FirstWaker(Mutex<State>);

impl Signal for FirstWaker {
    fn new() -> Self {
        Self(Mutex::new(State { signal: false, closed: false, waker: None }))
    }

    fn signal(&self) {
        let state = &mut *lock(&self.0);
        state.signal = true;
        if let Some(waker) = &state.waker {
            waker.wake_by_ref();
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let state = &mut *lock(&self.0);
        if core::mem::take(&mut state.signal) {
            return Poll::Ready(());
        }
        state.waker.get_or_insert_with(|| context.waker().clone());
        Poll::Pending
    }

    fn close(&self) {
        lock(&self.0).closed = true;
    }
}

/// Copies every event into a bounded queue per reader, and waits for space while it holds the user's lock (A26).
#[derive(Debug)]
pub struct WaitForTheSlow {
    user: Mutex<[usize; 2]>,
    queues: [Queue; 2],
}

/// A queue with space for one event.
#[derive(Debug)]
struct Queue {
    events: Mutex<usize>,
    changed: Condvar,
    signal: WakeAfterUnlock,
}

impl Queue {
    fn new() -> Self {
        Self { events: Mutex::new(0), changed: Condvar::new(), signal: WakeAfterUnlock::new() }
    }
}

impl Reading for WaitForTheSlow {
    fn new() -> Self {
        Self { user: Mutex::new([0; 2]), queues: [Queue::new(), Queue::new()] }
    }

    fn append(&self) {
        let user = lock(&self.user);
        for queue in &self.queues {
            let mut events = lock(&queue.events);
            while *events >= 1 {
                events = wait(&queue.changed, events);
            }
            *events += 1;
            drop(events);
            queue.signal.signal();
        }
        drop(user);
    }

    fn read(&self, reader: usize) -> usize {
        let mut user = lock(&self.user);
        let queue = &self.queues[reader];
        user[reader] += core::mem::take(&mut *lock(&queue.events));
        queue.changed.notify_one();
        user[reader]
    }

    fn poll(&self, reader: usize, context: &Context<'_>) -> Poll<()> {
        self.queues[reader].signal.poll(context)
    }
}
