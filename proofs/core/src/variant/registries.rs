//! Registries that break SH-1.

use std::num::NonZeroUsize;

use lockstep_model::Generation;

use super::core::{Machine, Registry};
use super::scenario::fixture::Fixture;
use super::scenario::group::{Gauge, Group, Input, Output};
use super::scenario::sh1::{Closing, Groups, Timed};
use super::sync::{Arc, Mutex, MutexGuard, lock};

type Slot = Arc<Mutex<Open>>;

/// A group and the gauge that counts it.
#[derive(Debug)]
pub struct Open(Group, Gauge);

impl Open {
    fn new(gauge: &Gauge) -> Slot {
        let mut outputs = Vec::new();
        let open = Self(Group::open(&mut outputs), gauge.clone());
        outputs.into_iter().for_each(|output| gauge.count(output));
        Arc::new(Mutex::new(open))
    }

    fn step(&mut self, input: Input) -> bool {
        let mut outputs = Vec::new();
        let answer = self.0.step(&(), input, &mut outputs);
        outputs.into_iter().for_each(|output: Output| self.1.count(output));
        answer
    }
}

/// A correct map with one entry; the variants below use it wrongly.
#[derive(Debug)]
pub struct Map(Mutex<Option<Slot>>);

impl Map {
    fn get_or_insert(&self, gauge: &Gauge) -> Slot {
        Arc::clone(lock(&self.0).get_or_insert_with(|| Open::new(gauge)))
    }

    fn find(&self) -> Option<Slot> {
        lock(&self.0).clone()
    }

    fn forget(&self, slot: &Slot) {
        forget(&mut lock(&self.0), slot);
    }

    /// Joins a live slot, correctly.
    fn join(&self, gauge: &Gauge, client: usize) -> bool {
        loop {
            let slot = self.get_or_insert(gauge);
            let mut open = lock(&slot);
            if !open.0.is_over() {
                return open.step(Input::Join(client));
            }
            drop(open);
            self.forget(&slot);
        }
    }

    fn leave(&self, client: usize) {
        if let Some(slot) = self.find() {
            lock(&slot).step(Input::Leave(client));
        }
    }

    /// Ends an empty group, and returns whether it has ended.
    fn end(slot: &Slot) -> bool {
        let mut open = lock(slot);
        open.step(Input::Linger);
        open.0.is_over()
    }

    fn linger(&self) {
        if let Some(slot) = self.find()
            && Self::end(&slot)
        {
            self.forget(&slot);
        }
    }

    fn members(&self) -> Vec<usize> {
        self.find().map(|slot| lock(&slot).0.members()).unwrap_or_default()
    }
}

fn forget(place: &mut MutexGuard<'_, Option<Slot>>, slot: &Slot) {
    if place.as_ref().is_some_and(|current| Arc::ptr_eq(current, slot)) {
        **place = None;
    }
}

macro_rules! variant {
    ($(#[$doc:meta])* $name:ident { join: $join:expr, linger: $linger:expr }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name(Map);

        impl Groups for $name {
            fn none() -> Self {
                Self(Map(Mutex::new(None)))
            }

            fn join(&self, gauge: &Gauge, client: usize, _: Option<usize>) -> bool {
                let join: fn(&Map, &Gauge, usize) -> bool = $join;
                join(&self.0, gauge, client)
            }

            fn leave(&self, client: usize) {
                self.0.leave(client);
            }

            fn linger(&self) {
                let linger: fn(&Map) = $linger;
                linger(&self.0);
            }

            fn corrupt(&self) {}

            fn members(&self) -> Vec<usize> {
                self.0.members()
            }

            fn kept(&self) -> usize {
                usize::from(self.0.find().is_some())
            }
        }
    };
}

variant! {
    /// Checks whether the slot has ended, and locks it again for the step.
    CheckThenLock {
        join: |map, gauge, client| loop {
            let slot = map.get_or_insert(gauge);
            if !lock(&slot).0.is_over() {
                return lock(&slot).step(Input::Join(client));
            }
            map.forget(&slot);
        },
        linger: Map::linger
    }
}

variant! {
    /// Removes whatever slot is in the map.
    RemoveWithoutGeneration {
        join: Map::join,
        linger: |map| {
            if map.find().is_some_and(|slot| Map::end(&slot)) {
                *lock(&map.0) = None;
            }
        }
    }
}

variant! {
    /// Creates a slot when it saw none, and overwrites the slot that may be in the map by then.
    LookThenInsert {
        join: |map, gauge, client| {
            if map.find().is_none_or(|slot| lock(&slot).0.is_over()) {
                let slot = Open::new(gauge);
                *lock(&map.0) = Some(slot);
            }
            map.join(gauge, client)
        },
        linger: Map::linger
    }
}

variant! {
    /// Holds two locks at once, in two orders.
    TwoLockOrders {
        join: |map, gauge, client| loop {
            let mut place = lock(&map.0);
            let slot = Arc::clone(place.get_or_insert_with(|| Open::new(gauge)));
            let mut open = lock(&slot);
            if !open.0.is_over() {
                return open.step(Input::Join(client));
            }
            drop(open);
            forget(&mut place, &slot);
        },
        linger: |map| {
            if let Some(slot) = map.find() {
                let mut open = lock(&slot);
                open.step(Input::Linger);
                if open.0.is_over() {
                    map.forget(&slot);
                }
            }
        }
    }
}

/// Production's registry, locked once to check the limit and once to take the place (A8).
#[derive(Debug)]
pub struct CheckThenTake(Registry<Group, Gauge>);

impl Groups for CheckThenTake {
    fn none() -> Self {
        Self(Registry::new(NonZeroUsize::MIN))
    }

    fn join(&self, gauge: &Gauge, client: usize, limit: Option<usize>) -> bool {
        limit.is_none_or(|limit| self.members().len() < limit) && Groups::join(&self.0, gauge, client, None)
    }

    fn leave(&self, client: usize) {
        self.0.leave(client);
    }

    fn linger(&self) {
        self.0.linger();
    }

    fn corrupt(&self) {
        self.0.corrupt();
    }

    fn members(&self) -> Vec<usize> {
        self.0.members()
    }

    fn kept(&self) -> usize {
        self.0.kept()
    }
}

/// A timer reaches the current session, whatever its generation.
#[derive(Debug)]
pub struct AnyGeneration;

impl Timed for AnyGeneration {
    fn linger(fixture: &Fixture, _: Generation) {
        if let Some(current) = fixture.look(|generation, _| generation) {
            fixture.linger(current);
        }
    }
}

/// Whether the close was reported, and whether the connection can be found.
#[derive(Debug)]
pub struct HeardTooSoon(Arc<(Mutex<bool>, Mutex<bool>)>);

/// The end of the connection's task.
#[derive(Debug)]
pub struct Ending(Arc<(Mutex<bool>, Mutex<bool>)>);

impl Drop for Ending {
    fn drop(&mut self) {
        *lock(&self.0.0) = true;
        *lock(&self.0.1) = false;
    }
}

impl Closing for HeardTooSoon {
    type Handle = Ending;

    fn open() -> (Self, Ending) {
        let shared = Arc::new((Mutex::new(false), Mutex::new(true)));
        (Self(Arc::clone(&shared)), Ending(shared))
    }

    fn is_reported(&self) -> bool {
        *lock(&self.0.0)
    }

    fn is_present(&self) -> bool {
        *lock(&self.0.1)
    }
}

/// Production's registry. A broken group is abandoned after its lock has been released.
#[derive(Debug)]
pub struct AbandonedLater(Registry<Group, Gauge>, Mutex<Option<Gauge>>);

impl Groups for AbandonedLater {
    fn none() -> Self {
        Self(Registry::new(NonZeroUsize::MIN), Mutex::new(None))
    }

    fn join(&self, gauge: &Gauge, client: usize, limit: Option<usize>) -> bool {
        lock(&self.1).get_or_insert_with(|| gauge.clone());
        self.0.join(gauge, client, limit)
    }

    fn leave(&self, client: usize) {
        self.0.leave(client);
    }

    fn linger(&self) {
        self.0.linger();
    }

    /// The broken group is counted again, and uncounted after its lock has been released.
    fn corrupt(&self) {
        let gauge = lock(&self.1).clone();
        self.0.corrupt();
        if let Some(gauge) = gauge {
            gauge.count(Output::Opened);
            gauge.count(Output::Ended);
        }
    }

    fn members(&self) -> Vec<usize> {
        self.0.members()
    }

    fn kept(&self) -> usize {
        self.0.kept()
    }
}
