//! The accounts: who has which name, with which password.
//!
//! A name that is removed and added again is another person's. So each name remembers how many persons had it, and the
//! *subject*, under which logins, chats and revocations are kept, is the name together with that number. Who is removed
//! leaves a subject behind, of which everything must be erased.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// A person: a name, and how many had it before and including this one, from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Person<N> {
    /// The name.
    pub name: N,
    /// Which of those who had it.
    pub incarnation: u32,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Account<H> {
    /// What the password is compared with.
    pub hash: H,
    /// The version of the password: no other password of this person has the same.
    pub version: u64,
    /// Which of those who had the name.
    pub incarnation: u32,
}

/// Whom a name means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holders<N> {
    /// The person who has it now, if there is one.
    pub now: Option<Person<N>>,
    /// The persons who had it and of whom not everything is erased, newest first: something of theirs may be connected.
    pub earlier: Vec<Person<N>>,
}

/// Why an account was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotChanged {
    /// There is one of that name.
    Exists,
    /// There is none of that name.
    Unknown,
}

/// All accounts of a gateway, and what is left of those that are gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Roster<N: Ord, H> {
    accounts: BTreeMap<N, Account<H>>,
    /// How many had the name, for names without an account.
    past: BTreeMap<N, u32>,
    erasures: BTreeSet<Person<N>>,
}

impl<N: Ord, H> Default for Roster<N, H> {
    fn default() -> Self {
        Self { accounts: BTreeMap::new(), past: BTreeMap::new(), erasures: BTreeSet::new() }
    }
}

impl<N: Clone + Ord, H> Roster<N, H> {
    /// What was written.
    #[must_use]
    pub const fn new(accounts: BTreeMap<N, Account<H>>, past: BTreeMap<N, u32>, erasures: BTreeSet<Person<N>>) -> Self {
        Self { accounts, past, erasures }
    }

    /// The accounts by name.
    #[must_use]
    pub const fn accounts(&self) -> &BTreeMap<N, Account<H>> {
        &self.accounts
    }

    /// How many had each name that has no account now.
    #[must_use]
    pub const fn past(&self) -> &BTreeMap<N, u32> {
        &self.past
    }

    /// Those who are gone, and of whom not everything is erased.
    #[must_use]
    pub const fn erasures(&self) -> &BTreeSet<Person<N>> {
        &self.erasures
    }

    /// Whom a name means.
    #[must_use]
    pub fn holders(&self, name: &N) -> Holders<N> {
        let person = |incarnation| Person { name: name.clone(), incarnation };
        let now = self.accounts.get(name).map(|account| person(account.incarnation));
        let earlier = self.erasures.range(person(0)..=person(u32::MAX)).rev().cloned().collect();
        Holders { now, earlier }
    }

    /// Opens an account. `at` is the time on the wall, in milliseconds.
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

    /// Closes an account. Everything of its subject must be erased.
    ///
    /// # Errors
    ///
    /// [`NotChanged::Unknown`].
    pub fn remove(&mut self, name: &N) -> Result<(), NotChanged> {
        let account = self.accounts.remove(name).ok_or(NotChanged::Unknown)?;
        self.past.insert(name.clone(), account.incarnation);
        self.erasures.insert(Person { name: name.clone(), incarnation: account.incarnation });
        Ok(())
    }

    /// Everything of one who is gone is erased.
    pub fn erased(&mut self, person: &Person<N>) {
        self.erasures.remove(person);
    }

    /// The version of each person's password: what [`Input::Looked`](super::Input::Looked) needs, once a person is named.
    pub fn versions(&self) -> impl Iterator<Item = (Person<N>, u64)> {
        let person = |(name, account): (&N, &Account<H>)| {
            (Person { name: name.clone(), incarnation: account.incarnation }, account.version)
        };
        self.accounts.iter().map(person)
    }
}
