//! Internals for the crate `lockstep-gateway`. Not part of the public API: they may change at any time.

/// Files that only their owner can read.
pub mod private {
    pub use crate::support::private_file::{options, replace, write};
}

/// The state that gateways keep beside a log in PostgreSQL.
#[cfg(feature = "postgres")]
pub mod gateways {
    pub use crate::log::postgres::gateways::{Change, LoginsOf, Shared};
}

pub use crate::core::{TicketDigest, Tickets};
/// The statement that appends to PostgreSQL, to be measured alone.
#[cfg(feature = "postgres")]
pub use crate::log::postgres::statements::APPEND;
pub use crate::sentence;
pub use crate::support::random::{NoRandomness, random_bytes};
pub use crate::support::seldom::Seldom;
pub use crate::sync::lock;
#[cfg(feature = "jwt")]
pub use crate::verify::clock::millis;
pub use crate::wire::{limit, offset_of, place, title_of};

use serde::Serialize;

use crate::log::conversations::{Threads, Turns};
use crate::wire::Answer;

/// The body of the response to a request for a user's threads.
pub fn threads_page(found: &Threads) -> impl Serialize {
    Answer::threads(found)
}

/// The body of the response to a request for a thread's turns.
pub fn turns_page(found: &Turns) -> impl Serialize {
    Answer::turns(found)
}
