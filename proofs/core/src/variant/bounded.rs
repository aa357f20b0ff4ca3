//! Inboxes that break SH-6.

use super::scenario::sh6::{BoundedInbox, RESERVED, Sent};
use super::sync::{Mutex, MutexGuard, lock};

/// Correct items; each variant does one thing wrong.
#[derive(Debug)]
struct Items {
    bound: usize,
    closed: bool,
    waiting: Vec<u32>,
}

impl Items {
    fn new(bound: usize) -> Mutex<Self> {
        Mutex::new(Self { bound, closed: false, waiting: Vec::new() })
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= self.bound
    }

    fn send(&mut self, item: u32) -> Sent {
        if self.closed {
            Sent::Closed
        } else if self.is_full() {
            Sent::Full
        } else {
            self.waiting.push(item);
            Sent::Accepted
        }
    }

    fn close(mut items: MutexGuard<'_, Self>) -> Vec<u32> {
        items.closed = true;
        core::mem::take(&mut items.waiting)
    }
}

/// An inbox over [`Items`]. It is correct except for what the braces contain.
macro_rules! inbox {
    ($(#[$doc:meta])* $name:ident { $($wrong:item)* } $($right:ident)*) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name(Mutex<Items>);

        impl BoundedInbox for $name {
            fn new(bound: usize) -> Self {
                Self(Items::new(bound))
            }

            fn take(&self) -> Vec<u32> {
                core::mem::take(&mut lock(&self.0).waiting)
            }

            $($wrong)*
            $(inbox!(@ $right);)*
        }
    };
    (@ send) => {
        fn send(&self, item: u32) -> Sent {
            lock(&self.0).send(item)
        }
    };
    (@ close) => {
        fn close(&self) -> Vec<u32> {
            Items::close(lock(&self.0))
        }
    };
}

inbox! {
    /// Empties the inbox under one lock and closes it under the next.
    EmptyThenClose {
        fn close(&self) -> Vec<u32> {
            let rest = self.take();
            lock(&self.0).closed = true;
            rest
        }
    }
    send
}

inbox! {
    /// Checks whether the inbox is closed, and locks it again to send.
    ClosedBeforeLock {
        fn send(&self, item: u32) -> Sent {
            let closed = lock(&self.0).closed;
            if closed {
                return Sent::Closed;
            }
            let mut items = lock(&self.0);
            if items.is_full() {
                return Sent::Full;
            }
            items.waiting.push(item);
            Sent::Accepted
        }
    }
    close
}

inbox! {
    /// Counts under one lock and sends under the next.
    CountThenPost {
        fn send(&self, item: u32) -> Sent {
            let full = lock(&self.0).is_full();
            if full {
                return Sent::Full;
            }
            let mut items = lock(&self.0);
            if items.closed {
                return Sent::Closed;
            }
            items.waiting.push(item);
            Sent::Accepted
        }
    }
    close
}

inbox! {
    /// Has no reserved places.
    SharedPlaces {}
    send close
}

inbox! {
    /// Keeps the item that waits in a reserved place, even if the new one is newer.
    FirstInSlot {
        fn send(&self, item: u32) -> Sent {
            let mut items = lock(&self.0);
            if item & RESERVED == 0 || items.closed {
                return items.send(item);
            }
            if items.waiting.iter().all(|waiting| waiting & RESERVED == 0) {
                items.waiting.push(item);
            }
            Sent::Accepted
        }
    }
    close
}
