//! Revocations, from their request to the sessions that enforce them.
//!
//! A session is known by its user's id, and a revocation names the user by its name at the issuer. Only the log maps
//! one to the other. It may be unavailable, so it is not used here:
//!
//! * A connection that has, or may get, a credential of the user is found by the names that its verdicts have found.
//! * A verification in progress has not found a name yet. The revocation is therefore kept until the last verification
//!   that began before it is over, and the verification that finds the name passes the revocation to the session before
//!   the verdict.
//!
//! So a revocation is in effect in this process when [`apply`] returns, whether or not it can be recorded.

use core::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep_model::fence::Scope;
use lockstep_model::{RevocationGeneration, UserId};

use super::{Core, Driver};
use crate::support::seam::ask;
use crate::sync::lock;
use crate::verify::{NotRevoked, Revocation};

/// How many revocations are kept for verifications in progress. One more drops them all, and the verdicts of all
/// verifications that began before are turned into "unavailable": their clients come back.
const MAX_KEPT: usize = 4_096;

/// How many revocations that could not be recorded are retried at a time.
const MAX_REPEATED: usize = 1_024;

/// The first and the longest pause before a revocation is recorded again.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(30)];

/// The revocations that are kept.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    kept: Mutex<Kept>,
    repeated: AtomicUsize,
}

#[derive(Debug, Default)]
struct Kept {
    revocations: Vec<(Arc<str>, Scope)>,
    /// Revocations may have been dropped for verifications that began before this.
    floor: RevocationGeneration,
}

/// The action that must precede the delivery of a verdict.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// The user's session must take these revocations.
    Revoke(Vec<Scope>),
    /// It is unknown whether the credential was revoked in the meantime.
    Unknown,
}

impl Revocations {
    /// Returns the action that must precede a verdict about this user, if its verification began at this generation.
    pub(crate) fn before(&self, subject: &str, began: RevocationGeneration) -> Before {
        let kept = lock(&self.kept);
        if began < kept.floor {
            return Before::Unknown;
        }
        let matching = kept.revocations.iter().filter(|(name, scope)| **name == *subject && began < scope.generation());
        Before::Revoke(matching.map(|(_, scope)| *scope).collect())
    }

    fn keep(&self, subject: &Arc<str>, scope: Scope, verified: RevocationGeneration) {
        let mut kept = lock(&self.kept);
        kept.revocations.retain(|(_, scope)| scope.generation() > verified);
        if kept.revocations.len() >= MAX_KEPT {
            kept.floor = scope.generation();
            kept.revocations.clear();
        }
        kept.revocations.push((Arc::clone(subject), scope));
    }
}

/// Revokes the credentials that `revocation` names. When this returns, none of them is live in this process, and none
/// can become live by a verification that began before.
pub(crate) fn apply(core: &Core, revocation: &Revocation) {
    let generation = core.revokes();
    let (subject, scope) = match revocation {
        Revocation::Subject(subject) => (subject, Scope::All(generation)),
        Revocation::Credential(subject, credential) => (subject, Scope::One(*credential, generation)),
    };
    // Kept first: a later verification sees the revocation, and an earlier one has found its user already.
    core.effects().revocations.keep(subject, scope, core.verified());
    for user in core.effects().users_named(subject) {
        core.revoke(user, scope);
    }
}

/// Retries until the verifier has recorded a revocation. Returns false if too many are being retried.
pub(crate) fn repeat(core: &Arc<Core>, revocation: Revocation) -> bool {
    let repeated = &core.effects().revocations.repeated;
    if repeated.fetch_add(1, Ordering::Relaxed) >= MAX_REPEATED {
        repeated.fetch_sub(1, Ordering::Relaxed);
        return false;
    }
    let weak = Arc::downgrade(core);
    core.effects().spawn(async move {
        let [mut pause, longest] = PAUSES;
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
            let Some(core) = weak.upgrade() else { return };
            let verifier = &core.effects().credentials.verifier;
            match ask(|| verifier.record(&revocation)).await {
                Some(Ok(())) => break,
                Some(Err(why)) => tracing::warn!(%why, "a revocation is not stored yet"),
                None => tracing::warn!("the verifier panicked, and a revocation is not stored yet"),
            }
        }
        if let Some(core) = weak.upgrade() {
            // A verifier that had forgotten the revocation may have admitted the credential in the meantime.
            apply(&core, &revocation);
            core.effects().revocations.repeated.fetch_sub(1, Ordering::Relaxed);
        }
    });
    true
}

impl Driver {
    /// Returns the users that verdicts on connections of this process have found under this name.
    fn users_named(&self, subject: &str) -> Vec<UserId> {
        let mut users = Vec::new();
        self.connections.each(|connections| users.extend(connections.values().filter_map(|one| one.named(subject))));
        users.sort_unstable();
        users.dedup();
        users
    }
}

/// Why a revocation is in effect but may not outlive the process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotRecorded {
    /// The verifier's error.
    pub why: NotRevoked,
    /// Whether the revocation is retried until the verifier has recorded it. If not, the caller must revoke again.
    pub repeated: bool,
}

impl fmt::Display for NotRecorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let next = if self.repeated { "storing it is retried" } else { "revoke again" };
        write!(f, "the revocation is in effect in this process, but not stored: {}; {next}", self.why)
    }
}

impl core::error::Error for NotRecorded {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.why)
    }
}

/// Which credentials a revocation covers: those that were issued until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AsOf {
    /// Until now.
    Now,
    /// Until this instant, in milliseconds since the Unix epoch.
    Millis(u64),
}

/// Revokes in this process, and then in all others of its cluster.
pub(crate) async fn everywhere(core: &Arc<Core>, revocation: Revocation) -> Result<(), NotRecorded> {
    let done = here(core, revocation.clone(), AsOf::Now).await;
    if let Some(membership) = &core.effects().membership {
        membership.publish(core, &revocation).await.map_err(|why| NotRecorded { why, repeated: false })?;
    }
    done
}

/// Revokes in this process.
pub(super) async fn here(core: &Arc<Core>, revocation: Revocation, as_of: AsOf) -> Result<(), NotRecorded> {
    let driver = core.effects();
    // Live connections must not wait for a disk.
    apply(core, &revocation);
    let panicked = || Err("the verifier panicked".into());
    let verifier = &driver.credentials.verifier;
    let written = ask(|| match as_of {
        AsOf::Now => verifier.revoke(&revocation),
        AsOf::Millis(at) => verifier.revoke_as_of(&revocation, at),
    });
    let written = written.await.unwrap_or_else(panicked);
    // This covers what was verified before the verifier knew of the revocation. The verifier rejects anything later.
    apply(core, &revocation);
    written.map_err(|why| NotRecorded { why, repeated: repeat(core, revocation) })
}
