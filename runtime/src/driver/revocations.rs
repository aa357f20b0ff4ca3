//! Orders of revocation, from the one who gives them to the sessions that keep them.
//!
//! A session is known by its user's number, and an order names the user by its name at the issuer. The log knows both, and may
//! be out of reach, so it is not asked:
//!
//! * Each connection that has, or may get, a credential of the user is found by the name that its verdicts have found.
//! * What is still being verified has no name yet. So the order is kept until the last verification that began before it is
//!   over, and whoever finds the name hands the order to the session before the verdict.
//!
//! So an order is in effect here when [`order`] returns, whatever becomes of writing it down.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep_model::fence::Scope;
use lockstep_model::{RevocationGeneration, UserId};

use super::{Core, Driver};
use crate::seam::ask;
use crate::sync::lock;
use crate::verify::Revocation;

/// Orders that are kept for verifications under way. With one more, the verdicts of all that began before are refused as
/// unavailable: their clients come back.
const MAX_KEPT: usize = 4_096;

/// Orders that could not be written down, and are tried again at once.
const MAX_REPEATED: usize = 1_024;

/// The pause before an order is written down again: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(30)];

/// What is kept of orders.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    kept: Mutex<Kept>,
    repeated: AtomicUsize,
}

#[derive(Debug, Default)]
struct Kept {
    orders: Vec<(Arc<str>, Scope)>,
    /// Of what began before this, the order may have been dropped.
    floor: RevocationGeneration,
}

/// What must be done before a verdict is delivered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// The session of the user is given these.
    Orders(Vec<Scope>),
    /// It cannot be told whether it was revoked meanwhile.
    Unknown,
}

impl Revocations {
    /// What a verdict about this user waits for, if its verification began at this generation.
    pub(crate) fn before(&self, subject: &str, began: RevocationGeneration) -> Before {
        let kept = lock(&self.kept);
        if began < kept.floor {
            return Before::Unknown;
        }
        let meant = kept.orders.iter().filter(|(name, scope)| **name == *subject && began < scope.generation());
        Before::Orders(meant.map(|(_, scope)| *scope).collect())
    }

    fn keep(&self, subject: &Arc<str>, scope: Scope, verified: RevocationGeneration) {
        let mut kept = lock(&self.kept);
        kept.orders.retain(|(_, scope)| scope.generation() > verified);
        if kept.orders.len() >= MAX_KEPT {
            kept.floor = scope.generation();
            kept.orders.clear();
        }
        kept.orders.push((Arc::clone(subject), scope));
    }
}

/// Carries an order out: when this returns, nothing that it names is live here, nor becomes live by a verification that began
/// before.
pub(crate) fn order(core: &Core, revocation: &Revocation) {
    let generation = core.revokes();
    let (subject, scope) = match revocation {
        Revocation::Subject(subject) => (subject, Scope::All(generation)),
        Revocation::Credential(subject, credential) => (subject, Scope::One(*credential, generation)),
    };
    // Kept first: a verification that finds the name from here on is told, one that has found it is found.
    core.effects().revocations.keep(subject, scope, core.verified());
    for user in core.effects().users_named(subject) {
        core.revoke(user, scope);
    }
}

/// Has the verifier write an order down, again and again until it has. False if too many are tried already.
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
            let verifier = &core.effects().verifier;
            match ask(|| verifier.record(&revocation)).await {
                Some(Ok(())) => break,
                Some(Err(why)) => tracing::warn!(%why, "a revocation is not written down yet"),
                None => tracing::warn!("the verifier panicked, and a revocation is not written down yet"),
            }
        }
        if let Some(core) = weak.upgrade() {
            // What was verified by a verifier that had forgotten the order is not live either.
            order(&core, &revocation);
            core.effects().revocations.repeated.fetch_sub(1, Ordering::Relaxed);
        }
    });
    true
}

impl Driver {
    /// The users whom verdicts on connections here have found under this name.
    fn users_named(&self, subject: &str) -> Vec<UserId> {
        let mut users = Vec::new();
        self.connections.each(|connections| users.extend(connections.values().filter_map(|one| one.named(subject))));
        users.sort_unstable();
        users.dedup();
        users
    }
}
