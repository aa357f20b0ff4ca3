//! Who a credential belongs to: the seam between the session layer and whatever issues credentials.
//!
//! The machines decide what follows from a verdict; a [`Verifier`] only finds it. It knows every revocation that came
//! before it was asked; one that comes while it is at work is the session's to remember ([`lockstep_model::fence`]).

use std::sync::Arc;
use std::time::Duration;

use lockstep_model::CredentialId;
use sha2::{Digest, Sha256};

use crate::payload::Token;
use crate::seldom::Seldom;

#[cfg(feature = "gateway")]
pub mod clock;
#[cfg(feature = "gateway")]
pub mod jwks;
#[cfg(feature = "gateway")]
pub mod jwt;
#[cfg(feature = "gateway")]
pub mod keys;
#[cfg(feature = "gateway")]
pub mod revoked;

#[cfg(feature = "gateway")]
pub(crate) mod journal;

/// A future on the heap, so that the traits of this crate can be used as objects.
pub use futures_util::future::BoxFuture;

/// What a good credential says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's name at the issuer (`sub`).
    pub subject: Arc<str>,
    /// The credential's own name (`jti`), or its digest where it has none: what [`Revocation::Credential`] names.
    pub credential: CredentialId,
    /// For how long it is still valid, with the issuer's leeway. Zero is treated as rejected.
    pub lifetime: Duration,
}

/// Why there is no identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotVerified {
    /// The credential is not good. The reason is for the operator's log; the peer is told only that it was rejected. It
    /// never quotes the credential.
    Rejected(&'static str),
    /// It could not be found out. Nobody is admitted, and nobody is told that the credential is bad.
    Unavailable(String),
}

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Everything that was issued for this subject until now.
    Subject(Arc<str>),
    /// One credential of this subject.
    Credential(Arc<str>, CredentialId),
}

/// Counts credentials that were not verified, and says why in the operator's log: each reason at once, and then once a minute
/// with how often it was met since. Anybody can present bad credentials, and must not be able to fill a log with them.
pub(crate) struct Reports(Seldom<&'static str>);

impl Reports {
    pub(crate) const fn new() -> Self {
        Self(Seldom::new(Duration::from_mins(1)))
    }

    pub(crate) fn take(&self, not: &NotVerified) {
        match not {
            NotVerified::Rejected(reason) => {
                metrics::counter!("lockstep_credentials_rejected_total", "reason" => *reason).increment(1);
                tracing::debug!(reason, "a credential was rejected");
                if let Some(times) = self.0.say(reason) {
                    tracing::info!(reason, times, "credentials were rejected");
                }
            }
            NotVerified::Unavailable(why) => {
                tracing::debug!(%why, "a credential could not be verified");
                if let Some(times) = self.0.say(&"") {
                    tracing::warn!(%why, times, "credentials could not be verified");
                }
            }
        }
    }
}

/// Finds out whose a credential is.
pub trait Verifier: Send + Sync + 'static {
    /// Judges a credential. Cancel safe: the future is dropped when the answer is not wanted any more.
    fn verify<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<Identity, NotVerified>>;

    /// From when the future returns, [`Verifier::verify`] rejects what is revoked, also after a restart if the verifier
    /// can do that.
    ///
    /// # Errors
    ///
    /// A sentence for the operator, if that could not be written down.
    fn revoke<'a>(&'a self, revocation: &'a Revocation) -> BoxFuture<'a, Result<(), String>>;

    /// Writes a revocation down that [`Verifier::revoke`] could not: the same instant, so that what was issued since is as good
    /// as before. Asked again until it succeeds. A verifier that cannot tell the two apart revokes again.
    ///
    /// # Errors
    ///
    /// As [`Verifier::revoke`].
    fn record<'a>(&'a self, revocation: &'a Revocation) -> BoxFuture<'a, Result<(), String>> {
        self.revoke(revocation)
    }
}

/// The id of a credential: the first 64 bits of the SHA-256 digest of its name (`jti`), or of the token itself.
#[must_use]
pub fn credential_id(name: &str) -> CredentialId {
    CredentialId(digest64(name.as_bytes()))
}

/// The first 64 bits of a SHA-256 digest.
#[must_use]
pub(crate) fn digest64(bytes: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}
