//! Revocations and tickets that break SH-5.

use std::collections::BTreeSet;

use super::scenario::sh5::{Redeem, Revocable};
use super::sync::{Mutex, lock};

/// Checks a credential against the revocations before it locks the session.
#[derive(Debug)]
pub struct FenceBeforeLock {
    revoked: Mutex<BTreeSet<u64>>,
    live: Mutex<BTreeSet<u64>>,
}

impl Revocable for FenceBeforeLock {
    fn new() -> Self {
        Self { revoked: Mutex::new(BTreeSet::new()), live: Mutex::new(BTreeSet::new()) }
    }

    fn join(&self, credential: u64) {
        let passes = !lock(&self.revoked).contains(&credential);
        if passes {
            lock(&self.live).insert(credential);
        }
    }

    fn revoke(&self, credential: u64) {
        lock(&self.revoked).insert(credential);
        lock(&self.live).remove(&credential);
    }

    fn is_live(&self, credential: u64) -> bool {
        lock(&self.live).contains(&credential)
    }
}

/// Closes live connections, and remembers nothing for verifications in progress.
#[derive(Debug)]
pub struct NobodyThere(Mutex<BTreeSet<u64>>);

impl Revocable for NobodyThere {
    fn new() -> Self {
        Self(Mutex::new(BTreeSet::new()))
    }

    fn join(&self, credential: u64) {
        lock(&self.0).insert(credential);
    }

    fn revoke(&self, credential: u64) {
        lock(&self.0).remove(&credential);
    }

    fn is_live(&self, credential: u64) -> bool {
        lock(&self.0).contains(&credential)
    }
}

/// Looks a ticket up, and deletes it afterwards (A25).
#[derive(Debug)]
pub struct GetThenDelete(Mutex<BTreeSet<usize>>);

impl Redeem for GetThenDelete {
    fn new(tickets: usize) -> Self {
        Self(Mutex::new((0..tickets).collect()))
    }

    fn issue(&self, ticket: usize) -> bool {
        lock(&self.0).insert(ticket)
    }

    fn redeem(&self, ticket: usize) -> Option<u64> {
        let found = lock(&self.0).contains(&ticket);
        if found {
            lock(&self.0).remove(&ticket);
        }
        found.then_some(ticket as u64)
    }
}
