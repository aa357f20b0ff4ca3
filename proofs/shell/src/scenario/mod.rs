//! What races with what. One source for three schedulers: it is compiled once beside each `sync`.
//!
//! A scenario is a function that starts threads, waits for them and asserts; an assertion names its obligation. Those
//! that a broken variant must fail are generic over a small trait, which production implements here and the variant
//! elsewhere. The others run on the whole core with the real machines.

use super::{core, sync};

use sync::{Mutex, lock, thread};

pub mod bridge;
pub mod fixture;
pub mod group;
pub mod park;
pub mod sh1;
pub mod sh2;
pub mod sh3;
pub mod sh4;
pub mod sh5;
pub mod sh6;

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Threads of the kind that there may be many of; the main thread and those that there is one of come on top.
    pub actors: usize,
    /// How often each does what it does.
    pub rounds: usize,
}

impl Size {
    /// Two of each kind, once.
    pub const PAIR: Self = Self { actors: 2, rounds: 1 };
    /// One of each kind, once.
    pub const ONE: Self = Self { actors: 1, rounds: 1 };
}

/// One race, to be run under one scheduler.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// `SH-1`.
    pub obligation: &'static str,
    /// A name, unique among all.
    pub name: &'static str,
    /// Who races with whom, and what must hold.
    pub about: &'static str,
    /// How much of everything an exhaustive scheduler can take; `None` if it is random by itself.
    pub exhaustible: Option<Size>,
    /// Whether it means anything at another size.
    pub scales: bool,
    /// Runs it.
    pub run: fn(Size),
}

/// Every scenario.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [sh1::ALL, sh2::ALL, sh3::ALL, sh4::ALL, sh5::ALL, sh6::ALL, bridge::ALL].concat()
}

/// A number that threads share. It is behind a lock of the scheduler's: loom leaves out interleavings that differ in
/// nothing but the order of operations on different objects, and must know that counting is one.
#[derive(Debug, Default)]
pub struct Counter(Mutex<usize>);

impl Counter {
    /// Adds one, and returns what it was before.
    pub fn up(&self) -> usize {
        let mut count = lock(&self.0);
        *count += 1;
        *count - 1
    }

    /// Takes one away, and returns what it was before.
    pub fn down(&self) -> usize {
        let mut count = lock(&self.0);
        let before = *count;
        *count = before.saturating_sub(1);
        before
    }

    /// What it is now.
    pub fn now(&self) -> usize {
        *lock(&self.0)
    }
}

/// Runs one closure an actor, the last one on this thread, and returns what each returned.
fn race<R: Send + 'static, F: FnOnce() -> R + Send + 'static>(actors: usize, act: impl Fn(usize) -> F) -> Vec<R> {
    let last = actors.saturating_sub(1);
    let others: Vec<_> = (0..last).map(|actor| thread::spawn(act(actor))).collect();
    let own = act(last)();
    let mut results: Vec<_> = others.into_iter().map(finish).collect();
    results.push(own);
    results
}

/// Waits for a thread.
fn finish<R>(thread: thread::JoinHandle<R>) -> R {
    thread.join().expect("it did not panic")
}
