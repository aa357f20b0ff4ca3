//! Registries that break SH-1.

use std::num::NonZeroUsize;

use lockstep_model::Generation;

use super::scenario::house::House;
use super::scenario::room::{Gauge, Input, Order, Room};
use super::scenario::sh1::{Closing, Rooms, Timed};
use super::shell::{Machine, Registry};
use super::sync::{Arc, Mutex, MutexGuard, lock};

type Cell = Arc<Mutex<Open>>;

/// A room and the gauge that counts it.
#[derive(Debug)]
pub struct Open(Room, Gauge);

impl Open {
    fn new(gauge: &Gauge) -> Cell {
        let mut orders = Vec::new();
        let open = Self(Room::open(&mut orders), gauge.clone());
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
pub struct Map(Mutex<Option<Cell>>);

impl Map {
    fn get_or_insert(&self, gauge: &Gauge) -> Cell {
        Arc::clone(lock(&self.0).get_or_insert_with(|| Open::new(gauge)))
    }

    fn find(&self) -> Option<Cell> {
        lock(&self.0).clone()
    }

    fn forget(&self, cell: &Cell) {
        forget(&mut lock(&self.0), cell);
    }

    /// Joins a live cell, as it should be done.
    fn join(&self, gauge: &Gauge, guest: usize) -> bool {
        loop {
            let cell = self.get_or_insert(gauge);
            let mut open = lock(&cell);
            if !open.0.is_over() {
                return open.step(Input::Join(guest));
            }
            drop(open);
            self.forget(&cell);
        }
    }

    fn leave(&self, guest: usize) {
        if let Some(cell) = self.find() {
            lock(&cell).step(Input::Leave(guest));
        }
    }

    /// Ends an empty room; whether it did.
    fn end(cell: &Cell) -> bool {
        let mut open = lock(cell);
        open.step(Input::Linger);
        open.0.is_over()
    }

    fn linger(&self) {
        if let Some(cell) = self.find()
            && Self::end(&cell)
        {
            self.forget(&cell);
        }
    }

    fn guests(&self) -> Vec<usize> {
        self.find().map(|cell| lock(&cell).0.guests()).unwrap_or_default()
    }
}

fn forget(place: &mut MutexGuard<'_, Option<Cell>>, cell: &Cell) {
    if place.as_ref().is_some_and(|there| Arc::ptr_eq(there, cell)) {
        **place = None;
    }
}

macro_rules! variant {
    ($(#[$doc:meta])* $name:ident { join: $join:expr, linger: $linger:expr }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name(Map);

        impl Rooms for $name {
            fn none() -> Self {
                Self(Map(Mutex::new(None)))
            }

            fn join(&self, gauge: &Gauge, guest: usize, _: Option<usize>) -> bool {
                let join: fn(&Map, &Gauge, usize) -> bool = $join;
                join(&self.0, gauge, guest)
            }

            fn leave(&self, guest: usize) {
                self.0.leave(guest);
            }

            fn linger(&self) {
                let linger: fn(&Map) = $linger;
                linger(&self.0);
            }

            fn spoil(&self) {}

            fn guests(&self) -> Vec<usize> {
                self.0.guests()
            }

            fn kept(&self) -> usize {
                usize::from(self.0.find().is_some())
            }
        }
    };
}

variant! {
    /// Looks whether the cell is over, and locks it again for the step.
    CheckThenLock {
        join: |map, gauge, guest| loop {
            let cell = map.get_or_insert(gauge);
            if !lock(&cell).0.is_over() {
                return lock(&cell).step(Input::Join(guest));
            }
            map.forget(&cell);
        },
        linger: Map::linger
    }
}

variant! {
    /// Takes out of the map what is there, whoever it is.
    RemoveWithoutGeneration {
        join: Map::join,
        linger: |map| {
            if map.find().is_some_and(|cell| Map::end(&cell)) {
                *lock(&map.0) = None;
            }
        }
    }
}

variant! {
    /// Makes a cell when it saw none, and puts it into the map whoever is there by then.
    LookThenInsert {
        join: |map, gauge, guest| {
            if map.find().is_none_or(|cell| lock(&cell).0.is_over()) {
                let cell = Open::new(gauge);
                *lock(&map.0) = Some(cell);
            }
            map.join(gauge, guest)
        },
        linger: Map::linger
    }
}

variant! {
    /// Holds two locks at once, in two orders.
    TwoLockOrders {
        join: |map, gauge, guest| loop {
            let mut place = lock(&map.0);
            let cell = Arc::clone(place.get_or_insert_with(|| Open::new(gauge)));
            let mut open = lock(&cell);
            if !open.0.is_over() {
                return open.step(Input::Join(guest));
            }
            drop(open);
            forget(&mut place, &cell);
        },
        linger: |map| {
            if let Some(cell) = map.find() {
                let mut open = lock(&cell);
                open.step(Input::Linger);
                if open.0.is_over() {
                    map.forget(&cell);
                }
            }
        }
    }
}

/// Production's registry, visited once to look at the limit and once to take the place (A8).
#[derive(Debug)]
pub struct CheckThenTake(Registry<Room, Gauge>);

impl Rooms for CheckThenTake {
    fn none() -> Self {
        Self(Registry::new(NonZeroUsize::MIN))
    }

    fn join(&self, gauge: &Gauge, guest: usize, limit: Option<usize>) -> bool {
        limit.is_none_or(|limit| self.guests().len() < limit) && Rooms::join(&self.0, gauge, guest, None)
    }

    fn leave(&self, guest: usize) {
        self.0.leave(guest);
    }

    fn linger(&self) {
        self.0.linger();
    }

    fn spoil(&self) {
        self.0.spoil();
    }

    fn guests(&self) -> Vec<usize> {
        self.0.guests()
    }

    fn kept(&self) -> usize {
        self.0.kept()
    }
}

/// A timer reaches the session that is there, whichever that is.
#[derive(Debug)]
pub struct AnyGeneration;

impl Timed for AnyGeneration {
    fn linger(house: &House, _: Generation) {
        if let Some(there) = house.look(|generation, _| generation) {
            house.linger(there);
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
    type Port = Ending;

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

/// Production's registry; what a room that broke has held is given back when its lock has been released.
#[derive(Debug)]
pub struct AbandonedLater(Registry<Room, Gauge>, Mutex<Option<Gauge>>);

impl Rooms for AbandonedLater {
    fn none() -> Self {
        Self(Registry::new(NonZeroUsize::MIN), Mutex::new(None))
    }

    fn join(&self, gauge: &Gauge, guest: usize, limit: Option<usize>) -> bool {
        lock(&self.1).get_or_insert_with(|| gauge.clone());
        self.0.join(gauge, guest, limit)
    }

    fn leave(&self, guest: usize) {
        self.0.leave(guest);
    }

    fn linger(&self) {
        self.0.linger();
    }

    /// The count of the broken room is put back under its lock, and taken away again when that is released.
    fn spoil(&self) {
        let gauge = lock(&self.1).clone();
        self.0.spoil();
        if let Some(gauge) = gauge {
            gauge.count(Order::Opened);
            gauge.count(Order::Ended);
        }
    }

    fn guests(&self) -> Vec<usize> {
        self.0.guests()
    }

    fn kept(&self) -> usize {
        self.0.kept()
    }
}
