//! Attempts to log in: how many wrong passwords one network and one account may have.
//!
//! Each key has a [`Bucket`]: `burst` tokens, and one more every `refill`. An attempt *holds* one token of its network
//! and one of its account while its password is verified. A wrong password spends both. Any other result returns them
//! as if the attempt had never begun, even after a long time.
//!
//! * **ISO-1** An attempt is refused only if its own network or its own account has no token left. A refused attempt
//!   spends nothing, so an account's refusals do not count against the network, nor the other way round.
//! * **LIM-1** In any time, a key has at most `burst` wrong passwords and one more per `refill`. Attempts in progress
//!   count as wrong, so simultaneous attempts cannot exceed the bound. The buckets outlive the requests; there are at
//!   most [`Tries::keys`] of each kind, and the one nearest to full is dropped first, because that loses the least.

use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::{Violation, ensure};

/// A rate: `burst` times at once, and once more every `refill`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// The number of times at once.
    pub burst: u32,
    /// The time until one more. Zero means no limit.
    pub refill: Duration,
}

impl Rate {
    fn refill_ms(self) -> u64 {
        u64::try_from(self.refill.as_millis()).unwrap_or(u64::MAX)
    }

    /// The milliseconds that an empty bucket takes to be full.
    fn span_ms(self) -> u64 {
        self.refill_ms().saturating_mul(u64::from(self.burst))
    }
}

/// The tokens of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// The time in milliseconds at which it is full again, if nothing holds a token.
    full_at: u64,
    /// The attempts in progress that hold a token.
    held: u32,
}

impl Bucket {
    /// How long it would take to be full again if every held token were spent now.
    fn debt(&self, refill: u64, now: u64) -> u64 {
        (self.full_at.saturating_sub(now)).saturating_add(refill.saturating_mul(u64::from(self.held)))
    }
}

/// The buckets of one kind of key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Buckets<K: Ord>(BTreeMap<K, Bucket>);

impl<K: Ord> Default for Buckets<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Buckets<K> {
    /// Creates the buckets, all full.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of buckets that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether every bucket is full.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key has a token at this time, in milliseconds of a clock that never goes back.
    ///
    /// # Errors
    ///
    /// The time until there is one, if no held token is returned.
    pub fn check(&self, rate: Rate, key: &K, now: u64) -> Result<(), Duration> {
        let refill = rate.refill_ms();
        let span = rate.span_ms();
        let debt = self.0.get(key).copied().unwrap_or_default().debt(refill, now).saturating_add(refill);
        if refill == 0 || debt <= span { Ok(()) } else { Err(Duration::from_millis(debt - span)) }
    }

    /// Takes one token for good.
    ///
    /// # Errors
    ///
    /// As [`Buckets::check`].
    pub fn take(&mut self, rate: Rate, keys: usize, key: &K, now: u64) -> Result<(), Duration> {
        self.hold(rate, keys, key, now)?;
        self.spend(rate, keys, key, now);
        Ok(())
    }

    /// Holds one token until [`Buckets::spend`] or [`Buckets::release`].
    ///
    /// # Errors
    ///
    /// As [`Buckets::check`].
    pub fn hold(&mut self, rate: Rate, keys: usize, key: &K, now: u64) -> Result<(), Duration> {
        self.check(rate, key, now)?;
        if rate.refill_ms() > 0 {
            self.entry(rate, keys, key, now).held += 1;
        }
        Ok(())
    }

    /// Spends a held token. A bucket that was dropped meanwhile has begun again as full, and may have no token left to
    /// spend. It then stays empty, so its key waits no longer than its rate says.
    pub fn spend(&mut self, rate: Rate, keys: usize, key: &K, now: u64) {
        let refill = rate.refill_ms();
        if refill > 0 {
            let bucket = self.entry(rate, keys, key, now);
            bucket.held = bucket.held.saturating_sub(1);
            let full_at = bucket.full_at.max(now).saturating_add(refill);
            bucket.full_at = full_at.min(now.saturating_add(rate.span_ms()));
        }
    }

    /// Returns a held token.
    pub fn release(&mut self, key: &K) {
        if let Some(bucket) = self.0.get_mut(key) {
            bucket.held = bucket.held.saturating_sub(1);
        }
    }

    fn entry(&mut self, rate: Rate, keys: usize, key: &K, now: u64) -> &mut Bucket {
        if !self.0.contains_key(key) && self.0.len() >= keys.max(1) {
            self.make_room(rate, keys.max(1), now);
        }
        self.0.entry(key.clone()).or_default()
    }

    /// Drops the buckets that are full or, if none is, the one that is nearest to it.
    fn make_room(&mut self, rate: Rate, keys: usize, now: u64) {
        let refill = rate.refill_ms();
        self.0.retain(|_, bucket| bucket.debt(refill, now) > 0);
        while self.0.len() >= keys {
            let nearest = self.0.iter().min_by_key(|(_, bucket)| bucket.debt(refill, now)).map(|(key, _)| key.clone());
            let Some(nearest) = nearest else { return };
            self.0.remove(&nearest);
        }
    }
}

/// The limits of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tries {
    /// The rate of wrong passwords from one network.
    pub per_network: Rate,
    /// The rate of wrong passwords for one account.
    pub per_account: Rate,
    /// The most networks, and the most accounts, whose buckets are kept.
    pub keys: usize,
}

/// The outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The password was wrong, or the request was given up.
    Wrong,
    /// The password was right, or could not be verified.
    Uncounted,
}

/// The attempts to log in of all networks `N` and accounts `A`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attempts<N: Ord, A: Ord> {
    networks: Buckets<N>,
    accounts: Buckets<A>,
}

impl<N: Ord, A: Ord> Default for Attempts<N, A> {
    fn default() -> Self {
        Self { networks: Buckets::default(), accounts: Buckets::default() }
    }
}

impl<N: Ord + Clone, A: Ord + Clone> Attempts<N, A> {
    /// Creates the machine, without wrong passwords.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins an attempt at `now`, in milliseconds of a clock that never goes back. A name that no account can have
    /// counts against its network alone. Each attempt that begins must [end](Self::end).
    ///
    /// # Errors
    ///
    /// The time until another attempt may begin. Nothing changes.
    pub fn begin(&mut self, tries: &Tries, network: &N, account: Option<&A>, now: u64) -> Result<(), Duration> {
        self.networks.check(tries.per_network, network, now)?;
        if let Some(account) = account {
            self.accounts.hold(tries.per_account, tries.keys, account, now)?;
        }
        self.networks.hold(tries.per_network, tries.keys, network, now)
    }

    /// Ends an attempt that began with these keys.
    pub fn end(&mut self, tries: &Tries, network: &N, account: Option<&A>, outcome: Outcome, now: u64) {
        match outcome {
            Outcome::Wrong => {
                self.networks.spend(tries.per_network, tries.keys, network, now);
                if let Some(account) = account {
                    self.accounts.spend(tries.per_account, tries.keys, account, now);
                }
            }
            Outcome::Uncounted => {
                self.networks.release(network);
                if let Some(account) = account {
                    self.accounts.release(account);
                }
            }
        }
    }

    /// Checks the invariants of this value.
    ///
    /// # Errors
    ///
    /// The id of the property that the value violates.
    pub fn check(&self, tries: &Tries) -> Result<(), Violation> {
        ensure(self.networks.len() <= tries.keys.max(1) && self.accounts.len() <= tries.keys.max(1), "LIM-1")
    }
}
