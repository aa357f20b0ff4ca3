//! The shared log: one user's rows on a primary, which a standby follows.
//!
//! Acquisitions, releases and entries are records of one sequence. Each is one transaction. The standby has the first
//! `durable` of them. With a synchronous standby an answer leaves once the standby has everything that the answer
//! depends on; a fail-over forgets the rest. With an asynchronous one it leaves at once, and a fail-over begins a new
//! epoch.
//!
//! Leases are not part of the sequence. Forgetting a renewal ends a lease early, which the adversary may do anyway.

use std::collections::BTreeMap;

use lockstep_model::{ConfirmationId, Epoch, FencingToken, Incarnation, Tenure};

use super::Mistake;

/// A transaction of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Record {
    /// The user is acquired.
    Acquired { tenure: Tenure, owner: Incarnation },
    /// The user is released, by the owner of this tenure.
    Released { tenure: Tenure },
    /// An entry is appended.
    Entry { token: FencingToken, content: u8 },
}

/// A call of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Acquire { incarnation: Incarnation },
    Restore { tenure: Tenure },
    Append { tenure: Tenure, after: u64, batch: Vec<u8> },
    Confirm { tenure: Tenure, attempt: ConfirmationId },
    Release { tenure: Tenure },
}

/// An answer of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Granted(Tenure),
    Elsewhere(Incarnation),
    /// The caller's lease has ended.
    NoMember,
    Held(Vec<u8>),
    Appended(Vec<u64>),
    Confirmed,
    Released,
    Fenced,
    /// The newest owner names an offset that the log does not have, or entries that are not its own.
    Broken,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Engine {
    pub(crate) records: Vec<Record>,
    pub(crate) durable: usize,
    pub(crate) epoch: u64,
    /// Whether each incarnation that ever joined has a lease.
    pub(crate) leases: BTreeMap<Incarnation, bool>,
    /// Whether the client's credential is revoked.
    pub(crate) revoked: bool,
    /// Whether the call that revoked it has returned.
    pub(crate) returned: bool,
}

impl Engine {
    pub(crate) const fn new() -> Self {
        Self { records: Vec::new(), durable: 0, epoch: 1, leases: BTreeMap::new(), revoked: false, returned: false }
    }

    /// The newest tenure, and its owner unless it was released.
    pub(crate) fn row(&self) -> (Tenure, Option<Incarnation>) {
        let mut row = (Tenure { epoch: Epoch(self.epoch), token: FencingToken(0) }, None);
        for record in &self.records {
            match record {
                Record::Acquired { tenure, owner } => row = (*tenure, Some(*owner)),
                Record::Released { .. } => row.1 = None,
                Record::Entry { .. } => {}
            }
        }
        row
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (FencingToken, u8)> {
        self.records.iter().filter_map(|record| match record {
            Record::Entry { token, content } => Some((*token, *content)),
            Record::Acquired { .. } | Record::Released { .. } => None,
        })
    }

    pub(crate) fn contents(&self) -> Vec<u8> {
        self.entries().map(|(_, content)| content).collect()
    }

    pub(crate) fn is_live(&self, incarnation: Incarnation) -> bool {
        self.leases.get(&incarnation) == Some(&true)
    }

    /// Renews a lease, or grants the first. A lease that has ended stays ended.
    pub(crate) fn renew(&mut self, incarnation: Incarnation, mistake: Option<Mistake>) -> bool {
        let lease = self.leases.entry(incarnation).or_insert(true);
        *lease |= mistake == Some(Mistake::RenewedLate);
        *lease
    }

    /// Whether this tenure may write.
    fn is_newest(&self, tenure: Tenure) -> bool {
        let (newest, owner) = self.row();
        owner.is_some() && newest == tenure && tenure.epoch.0 == self.epoch
    }

    /// Carries out a call. Returns the answer, and how many records the standby must have before it leaves.
    pub(crate) fn call(&mut self, call: &Call, mistake: Option<Mistake>) -> (Answer, usize) {
        let answer = match call {
            Call::Acquire { incarnation } => self.acquire(*incarnation, mistake),
            Call::Restore { tenure } if self.is_newest(*tenure) => Answer::Held(self.contents()),
            Call::Append { tenure, after, batch } => return self.append(*tenure, *after, batch, mistake),
            Call::Confirm { tenure, .. } if self.is_newest(*tenure) => Answer::Confirmed,
            Call::Release { tenure } if self.is_newest(*tenure) || mistake == Some(Mistake::ReleasesAny) => {
                self.records.push(Record::Released { tenure: *tenure });
                Answer::Released
            }
            Call::Restore { .. } | Call::Confirm { .. } | Call::Release { .. } => return (Answer::Fenced, 0),
        };
        let waits = match answer {
            Answer::Elsewhere(_) | Answer::NoMember => false,
            Answer::Granted(_) => mistake != Some(Mistake::GrantsBeforeDurable),
            Answer::Held(_)
            | Answer::Appended(_)
            | Answer::Confirmed
            | Answer::Released
            | Answer::Fenced
            | Answer::Broken => true,
        };
        (answer, if waits { self.records.len() } else { 0 })
    }

    fn acquire(&mut self, incarnation: Incarnation, mistake: Option<Mistake>) -> Answer {
        if !self.is_live(incarnation) {
            return Answer::NoMember;
        }
        let (newest, owner) = self.row();
        match owner {
            Some(other) if other != incarnation && self.is_live(other) => return Answer::Elsewhere(other),
            Some(same) if same == incarnation && mistake == Some(Mistake::KeepsToken) => {
                return Answer::Granted(newest);
            }
            Some(_) | None => {}
        }
        let tenure = Tenure { epoch: Epoch(self.epoch), token: FencingToken(newest.token.0 + 1) };
        self.records.push(Record::Acquired { tenure, owner: incarnation });
        Answer::Granted(tenure)
    }

    fn append(&mut self, tenure: Tenure, after: u64, batch: &[u8], mistake: Option<Mistake>) -> (Answer, usize) {
        let entries: Vec<_> = self.entries().collect();
        let head = entries.len() as u64;
        let fences = !matches!(mistake, Some(Mistake::NoFence | Mistake::ComparesHead));
        if fences && !self.is_newest(tenure) {
            return (Answer::Fenced, 0);
        }
        let there = usize::try_from(after).ok().and_then(|after| entries.get(after..));
        let taken = match (mistake, there) {
            (Some(Mistake::NoFence | Mistake::AppendsAgain), _) => return self.push(tenure, head, batch, 0, false),
            (Some(Mistake::ComparesHead), Some([])) => 0,
            (Some(Mistake::ComparesHead), _) | (_, None) => return (Answer::Broken, 0),
            (_, Some(there)) => {
                let own = there.iter().zip(batch).all(|(entry, content)| *entry == (tenure.token, *content));
                if !own || there.len() > batch.len() {
                    return (Answer::Broken, 0);
                }
                there.len()
            }
        };
        self.push(tenure, after, batch, taken, mistake == Some(Mistake::LooksUp))
    }

    /// Appends the entries that the log does not have. A repeated call waits for the standby too, unless it only looks.
    fn push(&mut self, tenure: Tenure, after: u64, batch: &[u8], taken: usize, looks: bool) -> (Answer, usize) {
        let entry = |content: &u8| Record::Entry { token: tenure.token, content: *content };
        self.records.extend(batch[taken..].iter().map(entry));
        let offsets = (1..=batch.len() as u64).map(|place| after + place).collect();
        let need = if looks && taken == batch.len() { 0 } else { self.records.len() };
        (Answer::Appended(offsets), need)
    }
}
