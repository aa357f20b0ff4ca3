//! Mailboxes that break SH-6.

use super::scenario::sh6::{Posted, Reserved, SLOTTED};
use super::sync::{Mutex, MutexGuard, lock};

/// Items, done right but for what a variant does wrong.
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

    fn send(&mut self, item: u32) -> Posted {
        if self.closed {
            Posted::Closed
        } else if self.is_full() {
            Posted::Full
        } else {
            self.waiting.push(item);
            Posted::Accepted
        }
    }

    fn close(mut items: MutexGuard<'_, Self>) -> Vec<u32> {
        items.closed = true;
        core::mem::take(&mut items.waiting)
    }
}

/// A inbox over [`Items`]. What is not written in the braces, it does right.
macro_rules! inbox {
    ($(#[$doc:meta])* $name:ident { $($wrong:item)* } $($right:ident)*) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name(Mutex<Items>);

        impl Reserved for $name {
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
    (@ post) => {
        fn send(&self, item: u32) -> Posted {
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
    /// Is emptied under one lock and closed under the next.
    EmptyThenClose {
        fn close(&self) -> Vec<u32> {
            let rest = self.take();
            lock(&self.0).closed = true;
            rest
        }
    }
    post
}

inbox! {
    /// Is looked at whether it is closed, and locked again to post.
    ClosedBeforeLock {
        fn send(&self, item: u32) -> Posted {
            let closed = lock(&self.0).closed;
            if closed {
                return Posted::Closed;
            }
            let mut items = lock(&self.0);
            if items.is_full() {
                return Posted::Full;
            }
            items.waiting.push(item);
            Posted::Accepted
        }
    }
    close
}

inbox! {
    /// Is counted under one lock and posted into under the next.
    CountThenPost {
        fn send(&self, item: u32) -> Posted {
            let full = lock(&self.0).is_full();
            if full {
                return Posted::Full;
            }
            let mut items = lock(&self.0);
            if items.closed {
                return Posted::Closed;
            }
            items.waiting.push(item);
            Posted::Accepted
        }
    }
    close
}

inbox! {
    /// Has the same places for all.
    SharedPlaces {}
    post close
}

inbox! {
    /// Keeps the item that waits in a slot, whatever comes.
    FirstInSlot {
        fn send(&self, item: u32) -> Posted {
            let mut items = lock(&self.0);
            if item & SLOTTED == 0 || items.closed {
                return items.send(item);
            }
            if items.waiting.iter().all(|waiting| waiting & SLOTTED == 0) {
                items.waiting.push(item);
            }
            Posted::Accepted
        }
    }
    close
}
