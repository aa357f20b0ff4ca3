//! What a session remembers of revocations, so that a verification that began before one cannot outlive it.
//!
//! The verifier knows every revocation that came before it was asked. One that comes while it is at work is known to
//! the session alone, and only for as long as such a verification can last: [`Timer::Fence`](crate::Timer::Fence) is
//! longer than [`Timer::Verification`](crate::Timer::Verification), and lowers the fence again.

use alloc::collections::BTreeSet;

use crate::auth::Grant;
use crate::bounds::Bounds;
use crate::id::{CredentialId, Generation};

/// What is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Scope {
    /// All credentials of the user that are older than this generation, which the edge has raised before.
    All(Generation),
    /// One credential.
    One(CredentialId),
}

impl Scope {
    /// Whether it names this grant.
    #[must_use]
    pub fn covers(&self, grant: Grant) -> bool {
        match self {
            Self::All(oldest) => grant.generation < *oldest,
            Self::One(credential) => grant.credential == *credential,
        }
    }
}

/// The revocations that a grant must be held against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Fence {
    oldest: Generation,
    credentials: BTreeSet<CredentialId>,
    sealed: bool,
    up: bool,
}

impl Fence {
    /// Whether any revocation is remembered.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.up
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

    /// Remembers a revocation. With more than [`Bounds::revoked`] single ones nobody passes until the fence is lowered:
    /// forgetting one would let it in.
    pub fn raise(&mut self, bounds: &Bounds, scope: Scope) {
        self.up = true;
        match scope {
            Scope::All(oldest) => self.oldest = self.oldest.max(oldest),
            Scope::One(credential) if self.credentials.contains(&credential) => {}
            Scope::One(_) if self.credentials.len() >= bounds.revoked => self.sealed = true,
            Scope::One(credential) => {
                self.credentials.insert(credential);
            }
        }
    }

    /// Whether the grant passes.
    #[must_use]
    pub fn admits(&self, grant: Grant) -> bool {
        !self.sealed && grant.generation >= self.oldest && !self.credentials.contains(&grant.credential)
    }

    /// Forgets everything: the verifier knows it by now.
    pub fn lower(&mut self) {
        *self = Self::default();
    }
}
