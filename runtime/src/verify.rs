//! Verifying credentials: the seam between the session layer and whatever issues credentials.
//!
//! The machines decide what follows from a verdict; a [`Verifier`] only produces it. A verifier knows every revocation
//! that came before the call; the session remembers those that come while the call is in progress
//! ([`lockstep_model::fence`]).

use std::sync::Arc;
use std::time::Duration;

use lockstep_model::CredentialId;

use crate::payload::Token;
use crate::sentence;
use crate::support::BoxFuture;
use crate::support::digest64;
use crate::support::seldom::Seldom;

#[cfg(feature = "jwt")]
pub mod clock;
#[cfg(feature = "jwt")]
pub mod jwks;
#[cfg(feature = "jwt")]
pub mod jwt;
#[cfg(feature = "jwt")]
pub mod keys;
#[cfg(feature = "jwt")]
pub mod revoked;

#[cfg(feature = "jwt")]
pub(crate) mod line_file;

/// The content of a valid credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's name at the issuer (`sub`).
    pub subject: Arc<str>,
    /// The credential's own name (`jti`), or its digest if it has none: what [`Revocation::Credential`] names.
    pub credential: CredentialId,
    /// How long it remains valid, including the issuer's leeway. Zero is treated as rejected.
    pub lifetime: Duration,
}

/// Why there is no identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotVerified {
    /// The credential is not valid. The reason is for the operator's log and never quotes the credential; the peer is
    /// told only that it was rejected.
    Rejected(&'static str),
    /// The verifier could not decide. The client is not admitted, and is not told that its credential is bad.
    Unavailable(String),
}

sentence! {
    /// Why a verifier could not record a revocation: a sentence for the operator.
    NotRevoked
}

/// The credentials that a revocation covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Every credential that was issued for this subject until now.
    Subject(Arc<str>),
    /// One credential of this subject.
    Credential(Arc<str>, CredentialId),
}

/// Counts credentials that were not verified, and logs why for the operator: each reason at once, then once a minute
/// with the number of times that it has occurred since. Bad credentials are free to present, so they must not fill a
/// log.
#[derive(Debug)]
pub struct Reports(Seldom<&'static str>);

impl Reports {
    /// Returns a counter that has logged nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Seldom::new(Duration::from_mins(1)))
    }

    /// Counts one credential, and logs it if its line is due.
    pub fn take(&self, not: &NotVerified) {
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

impl Default for Reports {
    fn default() -> Self {
        Self::new()
    }
}

/// Finds out which user a credential belongs to.
pub trait Verifier: Send + Sync + 'static {
    /// Verifies a credential. Cancel safe: the future is dropped when the result is no longer needed.
    fn verify<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<Identity, NotVerified>>;

    /// After the future returns, [`Verifier::verify`] rejects the revoked credentials, even after a restart if the
    /// verifier supports that.
    ///
    /// # Errors
    ///
    /// [`NotRevoked`], if the revocation could not be recorded.
    fn revoke<'a>(&'a self, revocation: &'a Revocation) -> BoxFuture<'a, Result<(), NotRevoked>>;

    /// Records a revocation that [`Verifier::revoke`] failed to record, with its original instant: credentials issued
    /// since then stay valid. Called again until it succeeds. A verifier that cannot tell the two apart revokes again.
    ///
    /// # Errors
    ///
    /// As [`Verifier::revoke`].
    fn record<'a>(&'a self, revocation: &'a Revocation) -> BoxFuture<'a, Result<(), NotRevoked>> {
        self.revoke(revocation)
    }

    /// Revokes as of an instant in the past, in milliseconds since the Unix epoch: another process of the cluster has
    /// revoked then. Credentials issued since then stay valid. A verifier that cannot tell the two apart revokes as of
    /// now.
    ///
    /// # Errors
    ///
    /// As [`Verifier::revoke`].
    fn revoke_as_of<'a>(&'a self, revocation: &'a Revocation, _: u64) -> BoxFuture<'a, Result<(), NotRevoked>> {
        self.revoke(revocation)
    }
}

impl<V: Verifier + ?Sized> Verifier for Arc<V> {
    fn verify<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<Identity, NotVerified>> {
        (**self).verify(token)
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation) -> BoxFuture<'a, Result<(), NotRevoked>> {
        (**self).revoke(revocation)
    }

    fn record<'a>(&'a self, revocation: &'a Revocation) -> BoxFuture<'a, Result<(), NotRevoked>> {
        (**self).record(revocation)
    }

    fn revoke_as_of<'a>(&'a self, revocation: &'a Revocation, at: u64) -> BoxFuture<'a, Result<(), NotRevoked>> {
        (**self).revoke_as_of(revocation, at)
    }
}

/// Exchanges tickets for their credentials. Each ticket is valid once.
pub trait Redeem: Send + Sync + 'static {
    /// Redeems a ticket, when its connection verifies it. `None` if the ticket was already redeemed, has expired, or
    /// never existed: the client is told that its credential was rejected. The credential is verified like any other.
    ///
    /// # Errors
    ///
    /// [`NotVerified::Unavailable`], if the tickets are out of reach. The client is told to come back.
    fn redeem<'a>(&'a self, ticket: &'a str) -> BoxFuture<'a, Result<Option<Token>, NotVerified>>;
}

impl<R: Redeem + ?Sized> Redeem for Arc<R> {
    fn redeem<'a>(&'a self, ticket: &'a str) -> BoxFuture<'a, Result<Option<Token>, NotVerified>> {
        (**self).redeem(ticket)
    }
}

/// The id of a credential: the first 64 bits of the SHA-256 digest of its name (`jti`), or of the token itself.
#[must_use]
pub fn credential_id(name: &str) -> CredentialId {
    CredentialId(digest64(name.as_bytes()))
}
