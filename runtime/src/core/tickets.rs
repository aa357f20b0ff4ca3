//! Single-use tickets: a browser that cannot send a header exchanges its credential for one, and connects with it.
//!
//! | what | who may touch it, and when |
//! | --- | --- |
//! | the open tickets | whoever holds the one lock, for one issue or one redemption |
//!
//! The ticket itself, 256 random bits, is made at the edge and never kept: what is kept is its digest, so that neither a
//! look-up's timing nor a dump of memory gives one away. Time is the caller's, in milliseconds of one monotonic clock.
//!
//! * **SH-5** Looking a ticket up, judging its age and removing it are one critical section: of two who redeem the same
//!   ticket, one gets what it stands for.

use core::fmt;
use std::collections::BTreeMap;

use super::sync::{Mutex, lock};

/// The SHA-256 digest of a ticket. It does not show in logs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketDigest(pub [u8; 32]);

/// The open tickets of a process, each of which stands for a `T`.
pub struct Tickets<T> {
    bound: usize,
    open: Mutex<BTreeMap<TicketDigest, Open<T>>>,
}

struct Open<T> {
    expires: u64,
    stands_for: T,
}

impl<T> Tickets<T> {
    /// No ticket yet, and at most `bound` that are open at a time.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self { bound, open: Mutex::new(BTreeMap::new()) }
    }

    /// Opens a ticket that can be redeemed once, before `expires`.
    ///
    /// # Errors
    ///
    /// What it would have stood for, if as many tickets are open as may, or this one is.
    pub fn issue(&self, ticket: TicketDigest, stands_for: T, now: u64, expires: u64) -> Result<(), T> {
        let mut open = lock(&self.open);
        if open.len() >= self.bound {
            open.retain(|_, ticket| now < ticket.expires);
        }
        if open.len() >= self.bound || open.contains_key(&ticket) {
            return Err(stands_for);
        }
        open.insert(ticket, Open { expires, stands_for });
        Ok(())
    }

    /// What the ticket stands for, once. `None` for one that was redeemed, has expired, or never was.
    pub fn redeem(&self, ticket: TicketDigest, now: u64) -> Option<T> {
        let found = lock(&self.open).remove(&ticket)?;
        (now < found.expires).then_some(found.stands_for)
    }
}

impl fmt::Debug for TicketDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketDigest(..)")
    }
}

impl<T> fmt::Debug for Tickets<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("bound", &self.bound).finish_non_exhaustive()
    }
}
