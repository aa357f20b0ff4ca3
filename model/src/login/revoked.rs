//! The revocations of another issuer's tokens.
//!
//! A token of another issuer carries its issue date at best. A revocation is remembered for the retention, measured in
//! the time that gateways have run. Then it is dropped, because no such token is valid any longer. Every dropped
//! revocation raises the *floor*, below which no token is accepted. A revoked token is therefore not accepted again,
//! even if its revocation was dropped too early, for lack of memory or because of a wrong clock.
//!
//! A subject's revocation is dated by the wall clock, but not before the latest issue date that was seen: if the clock
//! was set back, the tokens issued before are revoked all the same.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::io::{LoginLimits, Moment, Record};
use crate::id::CredentialId;
use crate::{Violation, ensure};

/// Why a token is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotGood {
    /// The token itself was revoked.
    Credential,
    /// All tokens of its subject were revoked after it was issued.
    Subject,
    /// It was issued before the floor and may have been revoked.
    Floor,
}

/// When a token was issued, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Issued {
    /// According to the token.
    pub at: Option<u64>,
    /// The earliest possible time, given the longest lifetime of a token.
    pub earliest: u64,
    /// How far the issuer's clock may be ahead.
    pub leeway: u64,
}

/// The revocations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Revoked<S: Ord> {
    subjects: BTreeMap<S, Marks>,
    count: usize,
    /// The count at which a sweep becomes worthwhile.
    sweep_at: usize,
    seen: u64,
    floor: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Marks {
    all: Option<Moment>,
    credentials: BTreeMap<CredentialId, Moment>,
}

impl Marks {
    fn len(&self) -> usize {
        self.credentials.len() + usize::from(self.all.is_some())
    }
}

impl<S: Ord> Default for Revoked<S> {
    fn default() -> Self {
        Self { subjects: BTreeMap::new(), count: 0, sweep_at: 0, seen: 0, floor: 0 }
    }
}

impl<S: Clone + Ord> Revoked<S> {
    /// How many revocations are remembered.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether nothing is revoked.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// No token that was issued until then is valid, of any subject. In milliseconds since the Unix epoch.
    #[must_use]
    pub const fn floor(&self) -> u64 {
        self.floor
    }

    /// The latest issue date that was seen.
    #[must_use]
    pub const fn seen(&self) -> u64 {
        self.seen
    }

    /// Tokens of this subject that were issued until then are not valid. `None` if the subject was not revoked as a
    /// whole.
    #[must_use]
    pub fn subject(&self, subject: &S) -> Option<u64> {
        self.subjects.get(subject)?.all.map(|at| at.wall)
    }

    /// Checks a token of another issuer.
    ///
    /// # Errors
    ///
    /// Why the token is not valid.
    pub fn check_token(&self, subject: &S, credential: CredentialId, issued: Issued) -> Result<(), NotGood> {
        if self.credential(subject, credential) {
            return Err(NotGood::Credential);
        }
        let after = |until: u64, at: u64| at > until.saturating_add(issued.leeway);
        if self.subject(subject).is_some_and(|until| !issued.at.is_some_and(|at| after(until, at))) {
            return Err(NotGood::Subject);
        }
        if self.floor > 0 && !after(self.floor, issued.at.unwrap_or(issued.earliest)) {
            return Err(NotGood::Floor);
        }
        Ok(())
    }

    /// Whether this one credential of the subject is revoked.
    #[must_use]
    pub fn credential(&self, subject: &S, credential: CredentialId) -> bool {
        self.subjects.get(subject).is_some_and(|marks| marks.credentials.contains_key(&credential))
    }

    /// Records the issue date of a valid token. Returns whether that must be written, because a minute has passed.
    pub(super) fn see(&mut self, issued: u64) -> bool {
        const STEP: u64 = 60_000;
        let before = self.seen;
        self.seen = before.max(issued);
        self.seen / STEP > before / STEP
    }

    /// Revokes, and returns the record to write.
    pub(super) fn revoke(
        &mut self,
        limits: &LoginLimits,
        subject: S,
        credential: Option<CredentialId>,
        now: Moment,
    ) -> Record<S> {
        let mut at = Moment { wall: now.wall.max(self.seen), age: now.age };
        let marks = self.subjects.get(&subject);
        let full = marks.filter(|marks| credential.is_some() && marks.credentials.len() >= limits.credentials);
        let credential = if let Some(marks) = full {
            // Revokes the subject as a whole, dated no earlier than any of its credentials' revocations.
            at.wall = marks.credentials.values().fold(at.wall, |latest, at| latest.max(at.wall));
            None
        } else {
            credential
        };
        let whole = full.is_some();
        self.note(subject.clone(), credential, at);
        if let Some(marks) = self.subjects.get_mut(&subject).filter(|_| whole) {
            self.count -= marks.credentials.len();
            marks.credentials.clear();
        }
        if self.count > limits.revocations.min(limits.records.max(self.sweep_at)) {
            self.sweep(limits, now.age);
        }
        Record::Revoked { subject, credential, at }
    }

    /// Applies a written revocation. The order does not matter.
    pub(super) fn note(&mut self, subject: S, credential: Option<CredentialId>, at: Moment) {
        let marks = self.subjects.entry(subject).or_default();
        let before = marks.len();
        let later = |known: Moment| Moment { age: known.age.max(at.age), wall: known.wall.max(at.wall) };
        match credential {
            Some(credential) => {
                marks.credentials.entry(credential).and_modify(|known| *known = later(*known)).or_insert(at);
            }
            None => marks.all = Some(marks.all.map_or(at, later)),
        }
        self.count = self.count - before + marks.len();
    }

    pub(super) fn note_mark(&mut self, seen: u64, floor: u64) {
        (self.seen, self.floor) = (self.seen.max(seen), self.floor.max(floor));
    }

    /// Drops the revocations that are older than any valid token and, if there are still too many, the oldest of the
    /// rest.
    pub(super) fn sweep(&mut self, limits: &LoginLimits, age: u64) {
        self.drop_before(age.saturating_sub(limits.retention));
        if self.count > limits.revocations {
            let mut ages: Vec<u64> = self.moments().map(|at| at.age).collect();
            ages.sort_unstable();
            let surplus = self.count - limits.revocations * 3 / 4;
            let oldest = ages.get(surplus - 1).copied().unwrap_or(u64::MAX);
            self.drop_before(oldest.saturating_add(1));
        }
        self.sweep_at = self.count * 2;
    }

    /// Drops the revocations made before that age, and accepts no token that was issued until then.
    fn drop_before(&mut self, age: u64) {
        let mut floor = self.floor;
        let mut keep = |at: &Moment| {
            if at.age < age {
                floor = floor.max(at.wall);
            }
            at.age >= age
        };
        for marks in self.subjects.values_mut() {
            marks.all = marks.all.filter(&mut keep);
            marks.credentials.retain(|_, at| keep(at));
        }
        self.floor = floor;
        self.subjects.retain(|_, marks| marks.len() > 0);
        self.count = self.subjects.values().map(Marks::len).sum();
    }

    fn moments(&self) -> impl Iterator<Item = Moment> {
        self.subjects.values().flat_map(|marks| marks.all.into_iter().chain(marks.credentials.values().copied()))
    }

    /// All revocations, as records.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<S>> {
        self.subjects.iter().flat_map(|(subject, marks)| {
            let record = |credential, at| Record::Revoked { subject: subject.clone(), credential, at };
            let all = marks.all.map(|at| record(None, at));
            all.into_iter().chain(marks.credentials.iter().map(move |(id, at)| record(Some(*id), *at)))
        })
    }

    pub(super) fn check(&self, limits: &LoginLimits) -> Result<(), Violation> {
        ensure(self.count <= limits.revocations, "LIM-1")?;
        ensure(self.subjects.values().all(|marks| marks.credentials.len() <= limits.credentials), "LIM-1")
    }
}
