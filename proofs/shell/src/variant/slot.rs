//! Mailboxes that break SH-6.

use super::scenario::sh6::{Posted, SLOTTED, Slot};
use super::sync::{Mutex, MutexGuard, lock};

/// Letters, done right but for what a variant does wrong.
#[derive(Debug)]
struct Letters {
    bound: usize,
    closed: bool,
    waiting: Vec<u32>,
}

impl Letters {
    fn new(bound: usize) -> Mutex<Self> {
        Mutex::new(Self { bound, closed: false, waiting: Vec::new() })
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= self.bound
    }

    fn post(&mut self, letter: u32) -> Posted {
        if self.closed {
            Posted::Closed
        } else if self.is_full() {
            Posted::Full
        } else {
            self.waiting.push(letter);
            Posted::Accepted
        }
    }

    fn close(mut letters: MutexGuard<'_, Self>) -> Vec<u32> {
        letters.closed = true;
        core::mem::take(&mut letters.waiting)
    }
}

/// Is emptied under one lock and closed under the next.
#[derive(Debug)]
pub struct EmptyThenClose(Mutex<Letters>);

impl Slot for EmptyThenClose {
    fn new(bound: usize) -> Self {
        Self(Letters::new(bound))
    }

    fn post(&self, letter: u32) -> Posted {
        lock(&self.0).post(letter)
    }

    fn take(&self) -> Vec<u32> {
        core::mem::take(&mut lock(&self.0).waiting)
    }

    fn close(&self) -> Vec<u32> {
        let rest = self.take();
        lock(&self.0).closed = true;
        rest
    }
}

/// Is looked at whether it is closed, and locked again to post.
#[derive(Debug)]
pub struct ClosedBeforeLock(Mutex<Letters>);

impl Slot for ClosedBeforeLock {
    fn new(bound: usize) -> Self {
        Self(Letters::new(bound))
    }

    fn post(&self, letter: u32) -> Posted {
        let closed = lock(&self.0).closed;
        if closed {
            return Posted::Closed;
        }
        let mut letters = lock(&self.0);
        if letters.is_full() {
            return Posted::Full;
        }
        letters.waiting.push(letter);
        Posted::Accepted
    }

    fn take(&self) -> Vec<u32> {
        core::mem::take(&mut lock(&self.0).waiting)
    }

    fn close(&self) -> Vec<u32> {
        Letters::close(lock(&self.0))
    }
}

/// Is counted under one lock and posted into under the next.
#[derive(Debug)]
pub struct CountThenPost(Mutex<Letters>);

impl Slot for CountThenPost {
    fn new(bound: usize) -> Self {
        Self(Letters::new(bound))
    }

    fn post(&self, letter: u32) -> Posted {
        let full = lock(&self.0).is_full();
        if full {
            return Posted::Full;
        }
        let mut letters = lock(&self.0);
        if letters.closed {
            return Posted::Closed;
        }
        letters.waiting.push(letter);
        Posted::Accepted
    }

    fn take(&self) -> Vec<u32> {
        core::mem::take(&mut lock(&self.0).waiting)
    }

    fn close(&self) -> Vec<u32> {
        Letters::close(lock(&self.0))
    }
}

/// Has the same places for all.
#[derive(Debug)]
pub struct SharedPlaces(Mutex<Letters>);

impl Slot for SharedPlaces {
    fn new(bound: usize) -> Self {
        Self(Letters::new(bound))
    }

    fn post(&self, letter: u32) -> Posted {
        lock(&self.0).post(letter)
    }

    fn take(&self) -> Vec<u32> {
        core::mem::take(&mut lock(&self.0).waiting)
    }

    fn close(&self) -> Vec<u32> {
        Letters::close(lock(&self.0))
    }
}

/// Keeps the letter that waits in a slot, whatever comes.
#[derive(Debug)]
pub struct FirstInSlot(Mutex<Letters>);

impl Slot for FirstInSlot {
    fn new(bound: usize) -> Self {
        Self(Letters::new(bound))
    }

    fn post(&self, letter: u32) -> Posted {
        let mut letters = lock(&self.0);
        if letter & SLOTTED == 0 || letters.closed {
            return letters.post(letter);
        }
        if letters.waiting.iter().all(|waiting| waiting & SLOTTED == 0) {
            letters.waiting.push(letter);
        }
        Posted::Accepted
    }

    fn take(&self) -> Vec<u32> {
        core::mem::take(&mut lock(&self.0).waiting)
    }

    fn close(&self) -> Vec<u32> {
        Letters::close(lock(&self.0))
    }
}
