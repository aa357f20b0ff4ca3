//! The mistakes, and the bounds.

use super::Pair;
use crate::engine::profile::Profile;

/// A mistake of the log or of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// The log appends what an earlier owner sends.
    NoFence,
    /// The driver answers a confirmation without the log.
    ConfirmsItself,
    /// The driver restores what it read before it acquired the user.
    ReadsFirst,
    /// A relay begins at the newest entry instead of the position that the client presented.
    ForgetsPosition,
}

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Messages of the client.
    pub messages: u8,
    /// Times that the client is cut.
    pub cuts: u8,
    /// Calls and answers that are lost or late.
    pub losses: u8,
    /// Leases that end while their process lives.
    pub expiries: u8,
    /// Crashes of a process.
    pub crashes: u8,
    /// Processes that drain.
    pub drains: u8,
    /// Sockets that the client opens.
    pub sockets: u8,
}

impl Budget {
    /// One message, a client that is cut once, and no fault.
    pub const CALM: Self = Self { messages: 1, cuts: 1, losses: 0, expiries: 0, crashes: 0, drains: 0, sockets: 3 };
}

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Pair {
    let calm = Budget::CALM;
    let budgets = match profile {
        Profile::Quick => vec![
            Budget { losses: 1, ..calm },
            Budget { expiries: 1, cuts: 2, ..calm },
            Budget { drains: 1, ..calm },
            Budget { crashes: 1, ..calm },
        ],
        Profile::Ci => vec![
            Budget { losses: 1, expiries: 1, cuts: 2, ..calm },
            Budget { losses: 1, drains: 1, ..calm },
            Budget { expiries: 1, crashes: 1, ..calm },
            Budget { expiries: 1, drains: 1, ..calm },
            Budget { messages: 2, expiries: 1, cuts: 2, ..calm },
        ],
        Profile::Deep => vec![
            Budget { losses: 2, expiries: 1, cuts: 2, ..calm },
            Budget { messages: 2, losses: 1, expiries: 1, cuts: 2, sockets: 4, ..calm },
            Budget { expiries: 2, crashes: 1, cuts: 2, sockets: 4, ..calm },
            Budget { losses: 1, expiries: 1, drains: 1, cuts: 2, ..calm },
            Budget { losses: 1, expiries: 1, crashes: 1, ..calm },
        ],
    };
    Pair { budgets, mistake: None }
}
