//! The accounts: names, passwords, and who has each name.
//!
//! A name that is removed and added again belongs to a different holder. Each name therefore counts the holders who had
//! it. The *subject*, under which logins, chats and revocations are stored, is the name together with that number. A
//! removed holder leaves a subject behind, whose data must all be erased.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// A holder: a name, and the number of holders who have had it including this one, from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Holder<N> {
    /// The name.
    pub name: N,
    /// The number of this holder among those who had the name.
    pub incarnation: u32,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Account<H> {
    /// The hash that a password is compared with.
    pub hash: H,
    /// The version of the password, different from that of every other password of this holder.
    pub version: u64,
    /// The number of this holder among those who had the name.
    pub incarnation: u32,
}

/// The holders that a name refers to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holders<N> {
    /// The holder who has the name now, if there is one.
    pub now: Option<Holder<N>>,
    /// The holders who had the name and are not fully erased, newest first. They may still have connections.
    pub earlier: Vec<Holder<N>>,
}

/// Why an account was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotChanged {
    /// The name has an account already.
    Exists,
    /// The name has no account.
    Unknown,
}

/// All accounts of a gateway, and the records of removed ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Roster<N: Ord, H> {
    accounts: BTreeMap<N, Account<H>>,
    /// How many holders had each name that has no account.
    past: BTreeMap<N, u32>,
    erasures: BTreeSet<Holder<N>>,
}

impl<N: Ord, H> Default for Roster<N, H> {
    fn default() -> Self {
        Self { accounts: BTreeMap::new(), past: BTreeMap::new(), erasures: BTreeSet::new() }
    }
}

impl<N: Clone + Ord, H> Roster<N, H> {
    /// Restores a roster from what was written.
    #[must_use]
    pub const fn new(accounts: BTreeMap<N, Account<H>>, past: BTreeMap<N, u32>, erasures: BTreeSet<Holder<N>>) -> Self {
        Self { accounts, past, erasures }
    }

    /// The accounts by name.
    #[must_use]
    pub const fn accounts(&self) -> &BTreeMap<N, Account<H>> {
        &self.accounts
    }

    /// How many holders had each name that has no account now.
    #[must_use]
    pub const fn past(&self) -> &BTreeMap<N, u32> {
        &self.past
    }

    /// The removed holders that are not fully erased.
    #[must_use]
    pub const fn erasures(&self) -> &BTreeSet<Holder<N>> {
        &self.erasures
    }

    /// The holders that a name refers to.
    #[must_use]
    pub fn holders(&self, name: &N) -> Holders<N> {
        let holder = |incarnation| Holder { name: name.clone(), incarnation };
        let now = self.accounts.get(name).map(|account| holder(account.incarnation));
        let earlier = self.erasures.range(holder(0)..=holder(u32::MAX)).rev().cloned().collect();
        Holders { now, earlier }
    }

    /// Adds an account. `at` is the wall clock's time in milliseconds.
    ///
    /// # Errors
    ///
    /// [`NotChanged::Exists`].
    pub fn add(&mut self, name: N, hash: H, at: u64) -> Result<(), NotChanged> {
        if self.accounts.contains_key(&name) {
            return Err(NotChanged::Exists);
        }
        let incarnation = self.past.remove(&name).unwrap_or(0).saturating_add(1);
        self.accounts.insert(name, Account { hash, version: at, incarnation });
        Ok(())
    }

    /// Sets another password.
    ///
    /// # Errors
    ///
    /// [`NotChanged::Unknown`].
    pub fn change(&mut self, name: &N, hash: H, at: u64) -> Result<(), NotChanged> {
        let account = self.accounts.get_mut(name).ok_or(NotChanged::Unknown)?;
        (account.hash, account.version) = (hash, at.max(account.version.saturating_add(1)));
        Ok(())
    }

    /// Removes an account. All data of its subject must be erased.
    ///
    /// # Errors
    ///
    /// [`NotChanged::Unknown`].
    pub fn remove(&mut self, name: &N) -> Result<(), NotChanged> {
        let account = self.accounts.remove(name).ok_or(NotChanged::Unknown)?;
        self.past.insert(name.clone(), account.incarnation);
        self.erasures.insert(Holder { name: name.clone(), incarnation: account.incarnation });
        Ok(())
    }

    /// The data of a removed holder is erased.
    pub fn erased(&mut self, holder: &Holder<N>) {
        self.erasures.remove(holder);
    }

    /// The version of each holder's password: the content of [`Input::Looked`](super::Input::Looked), once holders are
    /// mapped to subjects.
    pub fn versions(&self) -> impl Iterator<Item = (Holder<N>, u64)> {
        let holder = |(name, account): (&N, &Account<H>)| {
            (Holder { name: name.clone(), incarnation: account.incarnation }, account.version)
        };
        self.accounts.iter().map(holder)
    }
}
