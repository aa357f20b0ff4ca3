//! Single-use tickets: a browser that cannot send a header exchanges its credential for one and connects with it.
//!
//! | what | who may touch it, and when |
//! | --- | --- |
//! | the open tickets | the holder of the one lock, for one issue or one redemption |
//!
//! The ticket itself, 256 random bits, is made at the edge and never stored. Only its digest is stored, so neither the
//! timing of a look-up nor a memory dump reveals a ticket. The caller supplies the time, in milliseconds of one
//! monotonic clock.
//!
//! * **SH-5** Looking a ticket up, checking its age and removing it are one critical section: of two callers that
//!   redeem the same ticket, one gets its value.

use core::fmt;
use std::collections::BTreeMap;

use super::sync::{Mutex, lock};

/// The SHA-256 digest of a ticket. Its `Debug` output does not contain it.
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
    /// Creates an empty set of at most `bound` open tickets.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self { bound, open: Mutex::new(BTreeMap::new()) }
    }

    /// Opens a ticket that can be redeemed once, before `expires`.
    ///
    /// # Errors
    ///
    /// `stands_for`, if too many tickets are open, or if this one is open already.
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

    /// Redeems a ticket and returns what it stands for. Returns `None` if the ticket was redeemed, has expired, or was
    /// never issued.
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
