//! Slots that break SH-2.

use std::num::NonZeroUsize;

use lockstep_model::UserId;

use super::core::{Machine, Registry};
use super::scenario::bridge::{Fresh, Looking, Seen};
use super::scenario::fixture::Fixture;
use super::scenario::sh2::{Effect, Sequence, Writing};
use super::sync::{Mutex, lock};

/// Dispatches a step's outputs after the lock has been released.
#[derive(Debug)]
pub struct OrdersAfterUnlock(Mutex<Sequence>, Effect);

impl Writing for OrdersAfterUnlock {
    fn new(effect: Effect) -> Self {
        Self(Mutex::new(Sequence::default()), effect)
    }

    fn write(&self) {
        let mut outputs = Vec::new();
        lock(&self.0).step(&(), (), &mut outputs);
        for output in outputs {
            self.1.push(output);
        }
    }

    fn read(&self) -> (u32, Vec<u32>) {
        let sequence = lock(&self.0);
        (sequence.head(), sequence.entries().to_vec())
    }
}

/// Production's registry, locked once for the head and once for the entries (B20).
#[derive(Debug)]
pub struct TwoLooks(Registry<Sequence, Effect>, Effect);

impl TwoLooks {
    const USER: UserId = UserId(1);

    fn look<R>(&self, look: impl FnOnce(&Sequence) -> R) -> Option<R> {
        let slot = self.0.find(Self::USER)?;
        self.0.with(&(), &slot, |sequence| look(sequence.machine()))
    }
}

impl Writing for TwoLooks {
    fn new(effect: Effect) -> Self {
        Self(Registry::new(NonZeroUsize::MIN), effect)
    }

    fn write(&self) {
        self.0.with_or_open(
            &(),
            Self::USER,
            |_, _| (Sequence::default(), self.1.clone()),
            |sequence| sequence.step(()),
        );
    }

    fn read(&self) -> (u32, Vec<u32>) {
        let head = self.look(Sequence::head).unwrap_or_default();
        let entries = self.look(|sequence| sequence.entries().to_vec()).unwrap_or_default();
        (head, entries)
    }
}

/// Reads the generation under one lock and the session under the next.
#[derive(Debug)]
pub struct TornLook;

impl Looking for TornLook {
    fn look(fixture: &Fixture) -> Option<Seen> {
        let (generation, _) = Fresh::look(fixture)?;
        let (_, session) = Fresh::look(fixture)?;
        Some((generation, session))
    }
}
