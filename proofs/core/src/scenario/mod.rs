//! The races, as one source for three schedulers: it is compiled once beside each `sync`.
//!
//! A scenario is a function that starts threads, waits for them and asserts; each assertion names its obligation.
//! Scenarios that a broken variant must fail are generic over a small trait, which production implements here and the
//! variants elsewhere. The others run on the complete core with the real machines.

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

/// The size of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// The number of threads of the kind that may be many. The main thread, and threads of which there is one, are not
    /// counted.
    pub actors: usize,
    /// How often each thread repeats its step.
    pub rounds: usize,
}

impl Size {
    /// Two threads of each kind, once.
    pub const PAIR: Self = Self { actors: 2, rounds: 1 };
    /// One thread of each kind, once.
    pub const ONE: Self = Self { actors: 1, rounds: 1 };
}

/// One race, to be run under one scheduler.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The obligation's id, such as `SH-1`.
    pub obligation: &'static str,
    /// A unique name.
    pub name: &'static str,
    /// What races, and what must hold.
    pub about: &'static str,
    /// The size that an exhaustive scheduler can take; `None` if the scenario is itself random.
    pub exhaustible: Option<Size>,
    /// Whether the scenario can be run at other sizes.
    pub scales: bool,
    /// Runs the scenario.
    pub run: fn(Size),
}

/// Returns every scenario.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [sh1::ALL, sh2::ALL, sh3::ALL, sh4::ALL, sh5::ALL, sh6::ALL, bridge::ALL].concat()
}

/// A number that threads share. It is behind a lock of the scheduler, because loom omits interleavings that differ only
/// in the order of operations on different objects, and must know that counting is an operation.
#[derive(Debug, Default)]
pub struct Counter(Mutex<usize>);

impl Counter {
    /// Adds one, and returns the previous value.
    pub fn up(&self) -> usize {
        let mut count = lock(&self.0);
        *count += 1;
        *count - 1
    }

    /// Subtracts one, and returns the previous value.
    pub fn down(&self) -> usize {
        let mut count = lock(&self.0);
        let before = *count;
        *count = before.saturating_sub(1);
        before
    }

    /// Returns the current value.
    pub fn now(&self) -> usize {
        *lock(&self.0)
    }
}

/// Runs one closure per actor, the last one on this thread, and returns their results.
fn race<R: Send + 'static, F: FnOnce() -> R + Send + 'static>(actors: usize, act: impl Fn(usize) -> F) -> Vec<R> {
    let last = actors.saturating_sub(1);
    let others: Vec<_> = (0..last).map(|actor| thread::spawn(act(actor))).collect();
    let own = act(last)();
    let mut results: Vec<_> = others.into_iter().map(finish).collect();
    results.push(own);
    results
}

/// Joins a thread.
fn finish<R>(thread: thread::JoinHandle<R>) -> R {
    thread.join().expect("it did not panic")
}
