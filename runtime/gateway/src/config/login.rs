//! The settings of the built-in login.

use std::time::Duration;

use super::error::{Broken, at_least};
use super::table::table;
use super::units;
use crate::login::{LoginConfig, Rate, ticket};

table! {
    /// The built-in login, and how often it may be tried. A rate is a number of attempts at once, and the milliseconds
    /// until one more is allowed; 0 milliseconds means no limit.
    pub struct Login {
        /// Seconds after which an unused login ends.
        pub idle_seconds: u64 ["units::seconds"] = 24 * 60 * 60,
        /// Seconds after which a login ends even if it is used; at most 30 days.
        pub longest_seconds: u64 ["units::seconds"] = 30 * 24 * 60 * 60,
        /// The number of wrong passwords at once for one account.
        pub account_burst: u32 = 10,
        /// Milliseconds until one more attempt for an account.
        pub account_refill_ms: u64 ["units::milliseconds"] = 30_000,
        /// The number of wrong passwords at once from one address. 64 bits of an IPv6 address are one address.
        pub address_burst: u32 = 20,
        /// Milliseconds until one more attempt from an address.
        pub address_refill_ms: u64 ["units::milliseconds"] = 5_000,
        /// The number of refreshes at once of one login.
        pub refresh_burst: u32 = 60,
        /// Milliseconds until one more refresh of a login.
        pub refresh_refill_ms: u64 ["units::milliseconds"] = 2_000,
        /// The number of tickets at once for one user, whichever issuer's tokens are used.
        pub ticket_burst: u32 = ticket::RATE.burst,
        /// Milliseconds until one more ticket for a user.
        pub ticket_refill_ms: u64 ["units::milliseconds"] = 1_000,
    }
}

const fn rate(burst: u32, refill_ms: u64) -> Rate {
    Rate { burst, refill: Duration::from_millis(refill_ms) }
}

impl Login {
    /// The settings in the login's own form.
    #[must_use]
    pub fn settings(&self) -> LoginConfig {
        LoginConfig {
            idle: Duration::from_secs(self.idle_seconds),
            longest: Duration::from_secs(self.longest_seconds),
            per_account: rate(self.account_burst, self.account_refill_ms),
            per_address: rate(self.address_burst, self.address_refill_ms),
            per_login: rate(self.refresh_burst, self.refresh_refill_ms),
            ..LoginConfig::default()
        }
    }

    /// The ticket rate of one user.
    #[must_use]
    pub const fn tickets(&self) -> Rate {
        rate(self.ticket_burst, self.ticket_refill_ms)
    }

    pub(super) fn validate(&self) -> Result<(), Broken> {
        at_least("login.idle_seconds", self.idle_seconds, 60)?;
        at_least("login.longest_seconds", self.longest_seconds, self.idle_seconds)?;
        if self.longest_seconds > 30 * 24 * 60 * 60 {
            return Err(Broken::new(
                "login.longest_seconds",
                "must be at most 2592000: revocations are remembered for 31 days",
            ));
        }
        for (field, burst) in [
            ("login.account_burst", self.account_burst),
            ("login.address_burst", self.address_burst),
            ("login.refresh_burst", self.refresh_burst),
            ("login.ticket_burst", self.ticket_burst),
        ] {
            at_least(field, burst.into(), 1)?;
        }
        Ok(())
    }
}
