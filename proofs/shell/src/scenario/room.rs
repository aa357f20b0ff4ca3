//! A machine as small as a session can be: guests come and go, and an empty room may end.

use std::collections::BTreeSet;

use lockstep_model::Violation;

use super::Counter;
use super::shell::{Carry, Fault, Machine};
use super::sync::Arc;

/// A room for guests.
#[derive(Debug, Default)]
pub struct Room {
    guests: BTreeSet<usize>,
    over: bool,
    spoiled: bool,
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
    /// A bug of ours: from now on it is not sound.
    Spoil,
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
            Input::Spoil => {
                self.spoiled = true;
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
        if self.spoiled || (self.over && !self.guests.is_empty()) { Err(Violation("SES-1")) } else { Ok(()) }
    }
}

/// Counts the live rooms of one user: one at most.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<Counter>);

impl Gauge {
    /// Rooms that are live.
    #[must_use]
    pub fn live(&self) -> usize {
        self.0.now()
    }

    /// What a carrier of a room does.
    pub fn count(&self, order: Order) {
        match order {
            Order::Opened => assert_eq!(self.0.up(), 0, "SH-1: two live cells for one user"),
            Order::Ended => assert_eq!(self.0.down(), 1, "SH-1: ended twice"),
        }
    }
}

impl Carry<Room> for Gauge {
    fn carry(&mut self, (): &(), order: Order) {
        self.count(order);
    }

    fn abandon(&mut self, (): &(), fault: Fault) {
        match fault {
            Fault::Broken(_) => self.count(Order::Ended),
            // An assertion of a scenario failed, and is on its way up.
            Fault::Panicked => {}
        }
    }
}
