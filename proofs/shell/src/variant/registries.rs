//! Registries that break SH-1.

use std::num::NonZeroUsize;

use lockstep_model::Generation;

use super::core::{Machine, Registry};
use super::scenario::fixture::Fixture;
use super::scenario::group::{Gauge, Group, Input, Order};
use super::scenario::sh1::{Closing, Groups, Timed};
use super::sync::{Arc, Mutex, MutexGuard, lock};

type Slot = Arc<Mutex<Open>>;

/// A group and the gauge that counts it.
#[derive(Debug)]
pub struct Open(Group, Gauge);

impl Open {
    fn new(gauge: &Gauge) -> Slot {
        let mut orders = Vec::new();
        let open = Self(Group::open(&mut orders), gauge.clone());
        orders.into_iter().for_each(|order| gauge.count(order));
        Arc::new(Mutex::new(open))
    }

    fn step(&mut self, input: Input) -> bool {
        let mut orders = Vec::new();
        let answer = self.0.step(&(), input, &mut orders);
        orders.into_iter().for_each(|order: Order| self.1.count(order));
        answer
    }
}

/// A map with one place, done right; the variants below use it wrongly.
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

    /// Joins a live slot, as it should be done.
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

    /// Ends an empty group; whether it did.
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
    if place.as_ref().is_some_and(|there| Arc::ptr_eq(there, slot)) {
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

            fn spoil(&self) {}

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
    /// Looks whether the slot is over, and locks it again for the step.
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
    /// Takes out of the map what is there, whoever it is.
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
    /// Makes a slot when it saw none, and puts it into the map whoever is there by then.
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

/// Production's registry, visited once to look at the limit and once to take the place (A8).
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

    fn spoil(&self) {
        self.0.spoil();
    }

    fn members(&self) -> Vec<usize> {
        self.0.members()
    }

    fn kept(&self) -> usize {
        self.0.kept()
    }
}

/// A timer reaches the session that is there, whichever that is.
#[derive(Debug)]
pub struct AnyGeneration;

impl Timed for AnyGeneration {
    fn linger(fixture: &Fixture, _: Generation) {
        if let Some(there) = fixture.look(|generation, _| generation) {
            fixture.linger(there);
        }
    }
}

/// Whether it was heard, and whether it is there.
#[derive(Debug)]
pub struct HeardTooSoon(Arc<(Mutex<bool>, Mutex<bool>)>);

/// Its task's end.
#[derive(Debug)]
pub struct Ending(Arc<(Mutex<bool>, Mutex<bool>)>);

impl Drop for Ending {
    fn drop(&mut self) {
        *lock(&self.0.0) = true;
        *lock(&self.0.1) = false;
    }
}

impl Closing for HeardTooSoon {
    type ConnectionHandle = Ending;

    fn open() -> (Self, Ending) {
        let both = Arc::new((Mutex::new(false), Mutex::new(true)));
        (Self(Arc::clone(&both)), Ending(both))
    }

    fn is_heard(&self) -> bool {
        *lock(&self.0.0)
    }

    fn is_there(&self) -> bool {
        *lock(&self.0.1)
    }
}

/// Production's registry; what a group that broke has held is given back when its lock has been released.
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

    /// The count of the broken group is put back under its lock, and taken away again when that is released.
    fn spoil(&self) {
        let gauge = lock(&self.1).clone();
        self.0.spoil();
        if let Some(gauge) = gauge {
            gauge.count(Order::Opened);
            gauge.count(Order::Ended);
        }
    }

    fn members(&self) -> Vec<usize> {
        self.0.members()
    }

    fn kept(&self) -> usize {
        self.0.kept()
    }
}
