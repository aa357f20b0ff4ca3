//! The smallest machine that a slot can hold: members come and go, and an empty group may end.

use std::collections::BTreeSet;

use lockstep_model::Violation;

use super::Counter;
use super::core::{Dispatch, Fault, Machine};
use super::sync::Arc;

/// A group for members.
#[derive(Debug, Default)]
pub struct Group {
    members: BTreeSet<usize>,
    over: bool,
    spoiled: bool,
}

/// What happens to a group.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    /// A client comes.
    Join(usize),
    /// A client goes.
    Leave(usize),
    /// Nobody came for a while.
    Linger,
    /// A bug of ours: from now on it is not sound.
    Spoil,
}

/// What a group wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Count it.
    Opened,
    /// Forget it.
    Ended,
}

impl Group {
    /// A new group.
    pub fn open(orders: &mut Vec<Order>) -> Self {
        orders.push(Order::Opened);
        Self::default()
    }

    /// Who is in it.
    #[must_use]
    pub fn members(&self) -> Vec<usize> {
        self.members.iter().copied().collect()
    }
}

impl Machine for Group {
    type Bounds = ();
    type Input = Input;
    type Order = Order;
    type Orders = Vec<Order>;
    /// Whether the client was taken in, or the group was still there.
    type Answer = bool;

    fn step(&mut self, (): &(), input: Input, out: &mut Vec<Order>) -> bool {
        if self.over {
            return false;
        }
        match input {
            Input::Join(client) => self.members.insert(client),
            Input::Leave(client) => self.members.remove(&client),
            Input::Linger => {
                if self.members.is_empty() {
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
        if self.spoiled || (self.over && !self.members.is_empty()) { Err(Violation("SES-1")) } else { Ok(()) }
    }
}

/// Counts the live registries of one user: one at most.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<Counter>);

impl Gauge {
    /// Groups that are live.
    #[must_use]
    pub fn live(&self) -> usize {
        self.0.now()
    }

    /// What a dispatcher of a group does.
    pub fn count(&self, order: Order) {
        match order {
            Order::Opened => assert_eq!(self.0.up(), 0, "SH-1: two live slots for one user"),
            Order::Ended => assert_eq!(self.0.down(), 1, "SH-1: ended twice"),
        }
    }
}

impl Dispatch<Group> for Gauge {
    fn dispatch(&mut self, (): &(), order: Order) {
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
