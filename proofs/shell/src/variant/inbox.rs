//! Mailboxes that break SH-3.

use std::task::{Context, Poll, Waker};

use super::scenario::sh3::{Bell, Bringing, Kind, Reading};
use super::sync::{Condvar, Mutex, lock, wait};

/// Looks under one lock and leaves its waker under another.
#[derive(Debug)]
pub struct WakerAfterLook {
    signal: Mutex<bool>,
    waker: Mutex<Option<Waker>>,
}

impl Bell for WakerAfterLook {
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

/// Calls the waker when the lock that it was taken under has been released.
#[derive(Debug)]
pub struct WakeAfterUnlock(Mutex<Ringing>);

#[derive(Debug)]
struct Ringing {
    signal: bool,
    closed: bool,
    waker: Option<Waker>,
}

impl Bell for WakeAfterUnlock {
    fn new() -> Self {
        Self(Mutex::new(Ringing { signal: false, closed: false, waker: None }))
    }

    fn signal(&self) {
        let waker = {
            let mut ringing = lock(&self.0);
            ringing.signal = !ringing.closed;
            ringing.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut ringing = lock(&self.0);
        if core::mem::take(&mut ringing.signal) {
            return Poll::Ready(());
        }
        if !ringing.closed {
            ringing.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn close(&self) {
        let mut ringing = lock(&self.0);
        *ringing = Ringing { signal: false, closed: true, waker: None };
    }
}

/// Wakes for what is posted, and not for what is handed over.
#[derive(Debug)]
pub struct SilentHandOver(Mutex<(Vec<Kind>, Option<Waker>)>);

impl Bringing for SilentHandOver {
    fn empty() -> Self {
        Self(Mutex::new((Vec::new(), None)))
    }

    fn bring(&self, kind: Kind) {
        let (brought, waker) = &mut *lock(&self.0);
        brought.push(kind);
        if let (Kind::Item | Kind::Notice, Some(waker)) = (kind, waker) {
            waker.wake_by_ref();
        }
    }

    fn poll(&self, context: &Context<'_>, taken: &mut Vec<Kind>) -> Poll<()> {
        let (brought, waker) = &mut *lock(&self.0);
        if brought.is_empty() {
            *waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        taken.append(brought);
        Poll::Ready(())
    }
}

/// Leaves its waker once, and for good.
#[derive(Debug)]
pub struct FirstWaker(Mutex<Ringing>);

impl Bell for FirstWaker {
    fn new() -> Self {
        Self(Mutex::new(Ringing { signal: false, closed: false, waker: None }))
    }

    fn signal(&self) {
        let ringing = &mut *lock(&self.0);
        ringing.signal = true;
        if let Some(waker) = &ringing.waker {
            waker.wake_by_ref();
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let ringing = &mut *lock(&self.0);
        if core::mem::take(&mut ringing.signal) {
            return Poll::Ready(());
        }
        ringing.waker.get_or_insert_with(|| context.waker().clone());
        Poll::Pending
    }

    fn close(&self) {
        lock(&self.0).closed = true;
    }
}

/// Copies every event into a queue for each tab, and waits for group while it holds the user's lock (A26).
#[derive(Debug)]
pub struct WaitForTheSlow {
    user: Mutex<[usize; 2]>,
    queues: [Queue; 2],
}

/// Group for one event.
#[derive(Debug)]
struct Queue {
    events: Mutex<usize>,
    changed: Condvar,
    bell: WakeAfterUnlock,
}

impl Queue {
    fn new() -> Self {
        Self { events: Mutex::new(0), changed: Condvar::new(), bell: WakeAfterUnlock::new() }
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
            queue.bell.signal();
        }
        drop(user);
    }

    fn read(&self, tab: usize) -> usize {
        let mut user = lock(&self.user);
        let queue = &self.queues[tab];
        user[tab] += core::mem::take(&mut *lock(&queue.events));
        queue.changed.notify_one();
        user[tab]
    }

    fn poll(&self, tab: usize, context: &Context<'_>) -> Poll<()> {
        self.queues[tab].bell.poll(context)
    }
}
