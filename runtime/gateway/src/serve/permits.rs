//! Limits on the number of sockets, in total and per address.

use lockstep::internal::lock;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use crate::config::{Limits, counted};

/// Sockets beyond the limits that are served without an upgrade, so that health, logins and operators keep working.
pub(super) const RESERVE: u32 = 64;
/// The reserve of one address.
const RESERVE_PER_ADDRESS: u32 = 8;

/// The limits and the current counts.
pub(super) struct Permits {
    most: u32,
    per_address: u32,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    open: u32,
    reserved: u32,
    of_address: HashMap<IpAddr, Count>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    open: u32,
    reserved: u32,
}

/// A limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// The limit on all sockets.
    Sockets,
    /// The limit of the socket's address.
    PerAddress,
}

impl Limit {
    pub(super) const ALL: [Self; 2] = [Self::Sockets, Self::PerAddress];

    /// The name of the setting.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sockets => "sockets",
            Self::PerAddress => "per_address",
        }
    }
}

impl Permits {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { most: limits.sockets, per_address: limits.per_address, taken: Mutex::default() }
    }

    /// Takes a permit for a socket. Without an address, for a trusted proxy, it counts only towards the total. A permit
    /// from the reserve comes with the limit that was reached.
    ///
    /// # Errors
    ///
    /// The limit that is reached, if the reserve is used up too.
    pub(super) fn take(permits: &Arc<Self>, address: Option<IpAddr>) -> Result<(Permit, Option<Limit>), Limit> {
        let address = address.map(counted);
        let Taken { open, reserved, of_address } = &mut *lock(&permits.taken);
        let count = address.and_then(|address| of_address.get(&address)).copied().unwrap_or_default();
        let limit = if count.open >= permits.per_address {
            Some(Limit::PerAddress)
        } else if *open >= permits.most {
            Some(Limit::Sockets)
        } else {
            None
        };
        if let Some(limit) = limit {
            if *reserved >= RESERVE || count.reserved >= RESERVE_PER_ADDRESS {
                return Err(limit);
            }
            *reserved += 1;
        } else {
            *open += 1;
        }
        let permit = Permit { permits: Arc::clone(permits), address, counts: true, reserved: limit.is_some() };
        if let Some(address) = address {
            permit.add(of_address.entry(address).or_default());
        }
        Ok((permit, limit))
    }

    /// Takes a permit for the client of a trusted proxy whose socket already has one. `None` if its address has none
    /// left.
    pub(super) fn claim(permits: &Arc<Self>, address: IpAddr) -> Option<Permit> {
        let address = counted(address);
        let of_address = &mut lock(&permits.taken).of_address;
        let count = of_address.entry(address).or_default();
        if count.open >= permits.per_address {
            return None;
        }
        count.open += 1;
        Some(Permit { permits: Arc::clone(permits), address: Some(address), counts: false, reserved: false })
    }
}

/// A permit, released when dropped.
pub(super) struct Permit {
    permits: Arc<Permits>,
    address: Option<IpAddr>,
    /// Whether it counts towards the total.
    counts: bool,
    reserved: bool,
}

impl Permit {
    const fn add(&self, count: &mut Count) {
        if self.reserved {
            count.reserved += 1;
        } else {
            count.open += 1;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Taken { open, reserved, of_address } = &mut *lock(&self.permits.taken);
        match (self.counts, self.reserved) {
            (true, true) => *reserved -= 1,
            (true, false) => *open -= 1,
            (false, _) => {}
        }
        let Some(address) = self.address else { return };
        if let Some(count) = of_address.get_mut(&address) {
            if self.reserved {
                count.reserved -= 1;
            } else {
                count.open -= 1;
            }
            if *count == Count::default() {
                of_address.remove(&address);
            }
        }
    }
}
