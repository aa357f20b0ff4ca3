//! How the built-in login behaves.

use std::time::Duration;

use super::error::{Broken, at_least};
use super::table::table;
use crate::gateway::login::{LoginConfig, Rate, ticket};

table! {
    /// How the built-in login behaves, and how often it may be tried. A rate is a number of tries at once, and the
    /// milliseconds until once more; zero milliseconds are no limit.
    pub struct Login {
        /// For how long a login lasts that is not used, in seconds.
        pub idle_seconds: u64 = 24 * 60 * 60,
        /// For how long a login lasts that is used, in seconds; 30 days at most.
        pub longest_seconds: u64 = 30 * 24 * 60 * 60,
        /// How often at once an account may be tried with a wrong password.
        pub account_burst: u32 = 10,
        /// Milliseconds until an account may be tried once more.
        pub account_refill_ms: u64 = 30_000,
        /// How often at once an address may try with a wrong password. 64 bits of an IPv6 address are one address.
        pub address_burst: u32 = 20,
        /// Milliseconds until an address may try once more.
        pub address_refill_ms: u64 = 5_000,
        /// How often at once one login may be refreshed.
        pub refresh_burst: u32 = 60,
        /// Milliseconds until a login may be refreshed once more.
        pub refresh_refill_ms: u64 = 2_000,
        /// How often at once one user may take a ticket, whoever issues the tokens.
        pub ticket_burst: u32 = ticket::RATE.burst,
        /// Milliseconds until a user may take one ticket more.
        pub ticket_refill_ms: u64 = 1_000,
    }
}

const fn rate(burst: u32, refill_ms: u64) -> Rate {
    Rate { burst, refill: Duration::from_millis(refill_ms) }
}

impl Login {
    /// What the login is made with.
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

    /// How often one user may take a ticket.
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
