//! The shared log: one user's row, its entries, and the leases of processes. Each call is one transaction.

use std::collections::BTreeSet;

use lockstep_model::stream::{Entry, Event};
use lockstep_model::{
    AcquisitionId, BatchId, ConfirmationId, Epoch, FencingToken, Generation, Incarnation, Offset, Tenure,
};

use super::{Mistake, Payload};

/// A call of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Call {
    Acquire { generation: Generation, attempt: AcquisitionId, who: Incarnation },
    Read { generation: Generation, attempt: AcquisitionId, tenure: Tenure },
    Append { generation: Generation, tenure: Tenure, batch: BatchId, after: u64, events: Vec<Event<Payload>> },
    Confirm { generation: Generation, tenure: Tenure, attempt: ConfirmationId },
    Release { tenure: Tenure },
}

/// An answer of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    Granted(Tenure),
    Elsewhere(Incarnation),
    /// The caller's lease has ended.
    NoMember,
    Held(Vec<Entry<Payload>>),
    Appended,
    Confirmed,
    Released,
    Fenced,
    /// The newest owner names an offset that the log does not have, or entries that are not its own.
    Broken,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Engine {
    /// The newest fencing token.
    pub(super) token: u32,
    /// The owner, unless it has released the user.
    pub(super) owner: Option<Incarnation>,
    pub(super) leases: BTreeSet<Incarnation>,
    /// Offset `n` is entry `n - 1`.
    pub(super) entries: Vec<(FencingToken, Event<Payload>)>,
}

impl Call {
    /// The session that waits for the answer.
    pub(super) const fn generation(&self) -> Option<Generation> {
        match self {
            Self::Acquire { generation, .. }
            | Self::Read { generation, .. }
            | Self::Append { generation, .. }
            | Self::Confirm { generation, .. } => Some(*generation),
            Self::Release { .. } => None,
        }
    }
}

impl Engine {
    pub(super) const fn new() -> Self {
        Self { token: 0, owner: None, leases: BTreeSet::new(), entries: Vec::new() }
    }

    /// The stream, as a restore returns it.
    pub(super) fn read(&self) -> Vec<Entry<Payload>> {
        let entry = |(index, (_, event)): (usize, &(FencingToken, Event<Payload>))| Entry {
            offset: Offset(index as u64 + 1),
            previous: Offset(index as u64),
            event: event.clone(),
        };
        self.entries.iter().enumerate().map(entry).collect()
    }

    /// Whether the owner of this tenure may still write.
    pub(super) fn is_newest(&self, tenure: Tenure) -> bool {
        self.owner.is_some() && tenure.token == FencingToken(self.token)
    }

    /// Carries out a call.
    pub(super) fn call(&mut self, call: &Call, mistake: Option<Mistake>) -> Answer {
        match call {
            Call::Acquire { who, .. } => self.acquire(*who),
            Call::Read { tenure, .. } if self.is_newest(*tenure) => Answer::Held(self.read()),
            Call::Confirm { tenure, .. } if self.is_newest(*tenure) => Answer::Confirmed,
            Call::Append { tenure, after, events, .. } => {
                if self.is_newest(*tenure) || mistake == Some(Mistake::NoFence) {
                    self.append(tenure.token, *after, events)
                } else {
                    Answer::Fenced
                }
            }
            Call::Release { tenure } => {
                if self.is_newest(*tenure) {
                    self.owner = None;
                }
                Answer::Released
            }
            Call::Read { .. } | Call::Confirm { .. } => Answer::Fenced,
        }
    }

    fn acquire(&mut self, who: Incarnation) -> Answer {
        if !self.leases.contains(&who) {
            return Answer::NoMember;
        }
        match self.owner {
            Some(owner) if owner != who && self.leases.contains(&owner) => Answer::Elsewhere(owner),
            Some(_) | None => {
                self.token += 1;
                self.owner = Some(who);
                Answer::Granted(Tenure { epoch: Epoch(1), token: FencingToken(self.token) })
            }
        }
    }

    /// Appends the entries that the log does not have. Those that it has must be the same owner's.
    fn append(&mut self, token: FencingToken, after: u64, events: &[Event<Payload>]) -> Answer {
        for (at, event) in (after..).zip(events) {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            match self.entries.get(at) {
                Some((by, there)) if *by == token && there == event => {}
                Some(_) => return Answer::Broken,
                None if at == self.entries.len() => self.entries.push((token, event.clone())),
                None => return Answer::Broken,
            }
        }
        Answer::Appended
    }
}
