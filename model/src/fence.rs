//! What is remembered of revocations, so that a verification that began before one cannot outlive it.
//!
//! The verifier knows every revocation that came before it was asked. One that comes while it is at work is known to the
//! session alone, which holds the verdict against its [`Fence`]. It may forget the revocation when no verdict is awaited any
//! more that began before it, however long that takes: a process may be stopped for hours between any two steps, so no
//! deadline says when. [`Verifications`] counts them. It belongs to the process, for before its verdict nobody knows whose a
//! credential is.
//!
//! * **AUTH-3** A revocation has a [`RevocationGeneration`] of its own, and so has the beginning of each verification. A fence falls
//!   when every verification that is awaited began after the newest revocation that it knows.
//! * **LIVE-1** Each connection awaits its newest verdict alone, and its machine bounds how long, so every fence falls.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::auth::Grant;
use crate::bounds::Bounds;
use crate::id::{ConnectionId, CredentialId, RevocationGeneration, UserId};

/// What is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Scope {
    /// All credentials of the user whose verification began before this generation.
    All(RevocationGeneration),
    /// One credential, and the generation of its revocation.
    One(CredentialId, RevocationGeneration),
}

impl Scope {
    /// Whether it names this grant.
    #[must_use]
    pub fn covers(&self, grant: Grant) -> bool {
        match self {
            Self::All(oldest) => grant.generation < *oldest,
            Self::One(credential, _) => grant.credential == *credential,
        }
    }

    /// The generation of the revocation: what is verified from then on is verified by one who knows it.
    #[must_use]
    pub const fn generation(&self) -> RevocationGeneration {
        match self {
            Self::All(generation) | Self::One(_, generation) => *generation,
        }
    }
}

/// The revocations that a grant must be held against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Fence {
    oldest: RevocationGeneration,
    credentials: BTreeSet<CredentialId>,
    raised: Option<RevocationGeneration>,
}

impl Fence {
    /// Whether any revocation is remembered.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.raised.is_some()
    }

    /// How many single credentials are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.credentials.len()
    }

    /// Whether no single credential is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.credentials.is_empty()
    }

    /// Remembers a revocation. One more than [`Bounds::revoked`] single ones keeps out whatever was verified before:
    /// forgetting one would let it in.
    pub fn raise(&mut self, bounds: &Bounds, scope: Scope) {
        self.raised = self.raised.max(Some(scope.generation()));
        match scope {
            Scope::All(oldest) => self.oldest = self.oldest.max(oldest),
            Scope::One(credential, _) if self.credentials.contains(&credential) => {}
            Scope::One(_, generation) if self.credentials.len() >= bounds.revoked => {
                self.oldest = self.oldest.max(generation);
            }
            Scope::One(credential, _) => {
                self.credentials.insert(credential);
            }
        }
    }

    /// Whether the grant passes.
    #[must_use]
    pub fn admits(&self, grant: Grant) -> bool {
        grant.generation >= self.oldest && !self.credentials.contains(&grant.credential)
    }

    /// No verdict is awaited that began before `oldest`. Forgets everything, unless it knows a later revocation: the verifier
    /// knows it by now. False if nothing changes.
    pub fn lower(&mut self, oldest: RevocationGeneration) -> bool {
        let falls = self.raised.is_some_and(|raised| raised <= oldest);
        if falls {
            *self = Self::default();
        }
        falls
    }
}

/// Which verdicts a process awaits, and which fences stand until they have come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Verifications {
    newest: RevocationGeneration,
    awaited: BTreeMap<ConnectionId, RevocationGeneration>,
    oldest: BTreeSet<(RevocationGeneration, ConnectionId)>,
    fences: BTreeMap<UserId, RevocationGeneration>,
}

impl Verifications {
    /// None, and nothing was revoked.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            newest: RevocationGeneration(0),
            awaited: BTreeMap::new(),
            oldest: BTreeSet::new(),
            fences: BTreeMap::new(),
        }
    }

    /// A verification begins. The verdict on an earlier one of this connection is stale from now on.
    pub fn begin(&mut self, connection: ConnectionId) -> RevocationGeneration {
        self.forget(connection);
        self.awaited.insert(connection, self.newest);
        self.oldest.insert((self.newest, connection));
        self.newest
    }

    /// The connection's machine awaits no verdict any more: what came of the last one has taken effect. Returns the users whose
    /// fences may fall, and how far.
    pub fn end(&mut self, connection: ConnectionId) -> Vec<(UserId, RevocationGeneration)> {
        self.forget(connection);
        let oldest = self.oldest();
        let fallen: Vec<UserId> =
            self.fences.iter().filter(|(_, raised)| **raised <= oldest).map(|(user, _)| *user).collect();
        for user in &fallen {
            self.fences.remove(user);
        }
        fallen.into_iter().map(|user| (user, oldest)).collect()
    }

    /// Credentials are revoked, which whoever verifies from now on knows. The generation of the revocation.
    pub fn revoke(&mut self) -> RevocationGeneration {
        self.newest = self.newest.next();
        self.newest
    }

    /// A user's fence was raised for the revocation of this generation. How far it may fall at once, if it may.
    pub fn fence(&mut self, user: UserId, raised: RevocationGeneration) -> Option<RevocationGeneration> {
        let oldest = self.oldest();
        if raised <= oldest {
            return Some(oldest);
        }
        let fence = self.fences.entry(user).or_insert(raised);
        *fence = raised.max(*fence);
        None
    }

    /// Whether a revocation of this generation needs a fence: a verification that began before it may still find the
    /// credential good. Without one, only the connections that are live already are concerned.
    #[must_use]
    pub fn must_fence(&self, revocation: RevocationGeneration) -> bool {
        self.oldest() < revocation
    }

    /// Every verification that began before this generation is over.
    #[must_use]
    pub fn oldest(&self) -> RevocationGeneration {
        self.oldest.first().map_or(self.newest, |(generation, _)| *generation)
    }

    /// Whether a verdict is awaited for this connection.
    #[must_use]
    pub fn awaits(&self, connection: ConnectionId) -> bool {
        self.awaited.contains_key(&connection)
    }

    /// The connections for which verdicts are awaited.
    pub fn awaited(&self) -> impl Iterator<Item = ConnectionId> {
        self.awaited.keys().copied()
    }

    fn forget(&mut self, connection: ConnectionId) {
        if let Some(generation) = self.awaited.remove(&connection) {
            self.oldest.remove(&(generation, connection));
        }
    }
}
