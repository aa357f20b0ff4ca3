//! Fences remember revocations, so that the verdict of a verification that began before a revocation does not admit the
//! revoked credential.
//!
//! The verifier knows every revocation that happened before it was asked. A revocation that happens during a
//! verification is known to the session alone, which checks the verdict against its [`Fence`]. The session may forget
//! the revocation once no verdict is awaited that began before it. No deadline bounds that time, because a process may
//! be stopped for hours between any two steps. [`Verifications`] therefore counts the verdicts. It belongs to the
//! process, because before the verdict the credential's user is unknown.
//!
//! * **AUTH-3** Each revocation has a [`RevocationGeneration`] of its own, and so has the beginning of each verification. A fence
//!   falls when every awaited verification began after the fence's newest revocation.
//! * **LIVE-1** Each connection awaits only its newest verdict, and its machine bounds the wait, so every fence falls.

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
    /// Whether this grant is revoked.
    #[must_use]
    pub fn covers(&self, grant: Grant) -> bool {
        match self {
            Self::All(oldest) => grant.generation < *oldest,
            Self::One(credential, _) => grant.credential == *credential,
        }
    }

    /// The generation of the revocation: verifications that begin from then on know it.
    #[must_use]
    pub const fn generation(&self) -> RevocationGeneration {
        match self {
            Self::All(generation) | Self::One(_, generation) => *generation,
        }
    }
}

/// The revocations that a grant must be checked against.
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

    /// The number of single credentials that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.credentials.len()
    }

    /// Whether no single credential is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.credentials.is_empty()
    }

    /// Remembers a revocation. If [`Bounds::revoked`] single credentials are remembered already, the fence refuses
    /// every grant that was verified before, because forgetting a credential would admit it.
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

    /// Whether the grant is not revoked.
    #[must_use]
    pub fn admits(&self, grant: Grant) -> bool {
        grant.generation >= self.oldest && !self.credentials.contains(&grant.credential)
    }

    /// Lowers the fence because no awaited verification began before `oldest`. Forgets everything, unless a remembered
    /// revocation is later than that: the verifier knows all earlier ones by now. Returns whether anything changed.
    pub fn lower(&mut self, oldest: RevocationGeneration) -> bool {
        let falls = self.raised.is_some_and(|raised| raised <= oldest);
        if falls {
            *self = Self::default();
        }
        falls
    }
}

/// The verdicts that a process awaits, and the fences that stand until they have come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Verifications {
    newest: RevocationGeneration,
    awaited: BTreeMap<ConnectionId, RevocationGeneration>,
    oldest: BTreeSet<(RevocationGeneration, ConnectionId)>,
    fences: BTreeMap<UserId, RevocationGeneration>,
}

impl Verifications {
    /// Creates a value without verifications and revocations.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            newest: RevocationGeneration(0),
            awaited: BTreeMap::new(),
            oldest: BTreeSet::new(),
            fences: BTreeMap::new(),
        }
    }

    /// Begins a verification and returns its generation. The verdict of an earlier verification of this connection is
    /// stale from now on.
    pub fn begin(&mut self, connection: ConnectionId) -> RevocationGeneration {
        self.forget(connection);
        self.awaited.insert(connection, self.newest);
        self.oldest.insert((self.newest, connection));
        self.newest
    }

    /// Ends a connection's verification: its machine no longer awaits a verdict, and the last one has taken effect.
    /// Returns the users whose fences may fall, and the generation up to which they may.
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

    /// Begins a revocation that every later verification knows, and returns its generation.
    pub fn revoke(&mut self) -> RevocationGeneration {
        self.newest = self.newest.next();
        self.newest
    }

    /// Registers a user's fence that was raised for the revocation of this generation. If it may fall at once, returns
    /// the generation up to which it may.
    pub fn fence(&mut self, user: UserId, raised: RevocationGeneration) -> Option<RevocationGeneration> {
        let oldest = self.oldest();
        if raised <= oldest {
            return Some(oldest);
        }
        let fence = self.fences.entry(user).or_insert(raised);
        *fence = raised.max(*fence);
        None
    }

    /// Whether a revocation of this generation needs a fence, because a verification that began before it may still
    /// accept the credential. If not, only live connections are affected.
    #[must_use]
    pub fn must_fence(&self, revocation: RevocationGeneration) -> bool {
        self.oldest() < revocation
    }

    /// Returns a generation: every verification that began before it is over.
    #[must_use]
    pub fn oldest(&self) -> RevocationGeneration {
        self.oldest.first().map_or(self.newest, |(generation, _)| *generation)
    }

    /// Whether a verdict is awaited for this connection.
    #[must_use]
    pub fn awaits(&self, connection: ConnectionId) -> bool {
        self.awaited.contains_key(&connection)
    }

    /// The connections for which a verdict is awaited.
    pub fn awaited(&self) -> impl Iterator<Item = ConnectionId> {
        self.awaited.keys().copied()
    }

    fn forget(&mut self, connection: ConnectionId) {
        if let Some(generation) = self.awaited.remove(&connection) {
            self.oldest.remove(&(generation, connection));
        }
    }
}
