//! Rate limiting by a monotonic clock. [`lockstep_model::login::attempts`] decides; a limiter adds the lock and the
//! clock.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use lockstep::internal::lock;
use lockstep::verify::clock::Clock;
pub use lockstep_model::login::attempts::Rate;
use lockstep_model::login::attempts::{Attempts, Buckets, Outcome, Tries};

/// Token buckets by key, at most `bound` of them.
#[derive(Debug)]
pub(crate) struct Limiter<K: Ord> {
    rate: Rate,
    bound: usize,
    clock: Clock,
    buckets: Mutex<Buckets<K>>,
}

impl<K: Ord + Clone> Limiter<K> {
    pub(crate) fn new(rate: Rate, bound: usize, clock: Clock) -> Self {
        Self { rate, bound, clock, buckets: Mutex::default() }
    }

    /// Takes one token.
    ///
    /// # Errors
    ///
    /// The time until there is one.
    pub(crate) fn take(&self, key: &K) -> Result<(), Duration> {
        let mut buckets = lock(&self.buckets);
        // Read the clock under the lock, so that it is not before the instant of another take.
        let now = self.clock.elapsed();
        buckets.take(self.rate, self.bound, key, now)
    }
}

/// The attempts to log in with a password.
#[derive(Debug)]
pub(super) struct PasswordAttempts {
    tries: Tries,
    clock: Clock,
    attempts: Mutex<Attempts<IpAddr, String>>,
}

impl PasswordAttempts {
    pub(super) fn new(tries: Tries, clock: Clock) -> Self {
        Self { tries, clock, attempts: Mutex::default() }
    }

    /// Begins an attempt from a network for an account.
    ///
    /// # Errors
    ///
    /// The time until another attempt may begin.
    pub(super) fn begin(&self, network: IpAddr, account: Option<String>) -> Result<Attempt<'_>, Duration> {
        let mut attempts = lock(&self.attempts);
        attempts.begin(&self.tries, &network, account.as_ref(), self.clock.elapsed())?;
        Ok(Attempt { of: self, network, account, outcome: Outcome::Wrong })
    }
}

/// An attempt in progress. It ends when it is dropped, as a wrong password unless it is [uncounted](Self::uncount):
/// a client that hangs up early gains nothing.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    of: &'a PasswordAttempts,
    network: IpAddr,
    account: Option<String>,
    outcome: Outcome,
}

impl Attempt<'_> {
    /// Ends an attempt that was no wrong password.
    pub(super) fn uncount(mut self) {
        self.outcome = Outcome::Uncounted;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut attempts = lock(&self.of.attempts);
        let (tries, now) = (&self.of.tries, self.of.clock.elapsed());
        attempts.end(tries, &self.network, self.account.as_ref(), self.outcome, now);
    }
}
