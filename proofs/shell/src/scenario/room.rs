//! A machine as small as a session can be: guests come and go, and an empty room may end.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockstep_model::Violation;

use super::shell::{Carry, Fault, Machine};
use super::sync::Arc;

/// A room for guests.
#[derive(Debug, Default)]
pub struct Room {
    guests: BTreeSet<usize>,
    over: bool,
}

/// What happens to a room.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    /// A guest comes.
    Join(usize),
    /// A guest goes.
    Leave(usize),
    /// Nobody came for a while.
    Linger,
}

/// What a room wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Count it.
    Opened,
    /// Forget it.
    Ended,
}

impl Room {
    /// A new room.
    pub fn open(orders: &mut Vec<Order>) -> Self {
        orders.push(Order::Opened);
        Self::default()
    }

    /// Who is in it.
    #[must_use]
    pub fn guests(&self) -> Vec<usize> {
        self.guests.iter().copied().collect()
    }
}

impl Machine for Room {
    type Bounds = ();
    type Input = Input;
    type Order = Order;
    type Orders = Vec<Order>;
    /// Whether the guest was taken in, or the room was still there.
    type Answer = bool;

    fn step(&mut self, (): &(), input: Input, out: &mut Vec<Order>) -> bool {
        if self.over {
            return false;
        }
        match input {
            Input::Join(guest) => self.guests.insert(guest),
            Input::Leave(guest) => self.guests.remove(&guest),
            Input::Linger => {
                if self.guests.is_empty() {
                    self.over = true;
                    out.push(Order::Ended);
                }
                true
            }
        }
    }

    fn orders(out: &mut Vec<Order>) -> &mut Vec<Order> {
        out
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn check(&self, (): &()) -> Result<(), Violation> {
        if self.over && !self.guests.is_empty() { Err(Violation("SES-1")) } else { Ok(()) }
    }
}

/// Counts the live rooms of one user: one at most. Its counter is that of `std`, so that counting is no event of a race.
#[derive(Clone, Debug)]
pub struct Gauge(Arc<AtomicUsize>);

impl Gauge {
    /// None is live.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(0)))
    }

    /// What a carrier of a room does.
    pub fn count(&self, order: Order) {
        match order {
            Order::Opened => assert_eq!(self.0.fetch_add(1, Ordering::SeqCst), 0, "SH-1: two live cells for one user"),
            Order::Ended => assert_eq!(self.0.fetch_sub(1, Ordering::SeqCst), 1, "SH-1: ended twice"),
        }
    }
}

impl Default for Gauge {
    fn default() -> Self {
        Self::new()
    }
}

impl Carry<Room> for Gauge {
    fn carry(&mut self, (): &(), order: Order) {
        self.count(order);
    }

    fn abandon(&mut self, (): &(), fault: Fault) {
        panic!("a room broke: {fault:?}");
    }
}
