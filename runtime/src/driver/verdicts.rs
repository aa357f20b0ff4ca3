//! Credentials: tickets are redeemed, and the verifier's answer becomes a verdict.

use std::sync::{Arc, Weak};

use lockstep_model::{Grant, Lifetime, RevocationGeneration, Verdict};

use super::revocations::Before;
use super::{Core, Shared};
use crate::log::Log;
use crate::log::guarded::Guarded;
use crate::payload::Token;
use crate::support::seam::ask;
use crate::sync::lock;
use crate::verify::Redeem;
use crate::verify::{Identity, NotVerified, Reports, Verifier};

/// Finds the user of a presented credential.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) verifier: Arc<dyn Verifier>,
    pub(crate) tickets: Option<Arc<dyn Redeem>>,
}

impl Credentials {
    /// Redeems the token if it is a ticket.
    async fn redeem(&self, token: &Token) -> Result<Option<Token>, NotVerified> {
        let redeemed = match (token.as_ticket(), &self.tickets) {
            (None, _) => None,
            (Some(ticket), Some(tickets)) => Some(
                ask(|| tickets.redeem(ticket))
                    .await
                    .unwrap_or_else(|| Err(NotVerified::Unavailable("redeeming a ticket panicked".to_owned())))?,
            ),
            (Some(_), None) => Some(None),
        };
        // An unknown ticket is a bad credential, not a missing one.
        Ok(redeemed.map(|credential| credential.unwrap_or_else(|| Token::new(""))))
    }

    async fn verify(&self, token: &Token) -> Result<Identity, NotVerified> {
        let panicked = || Err(NotVerified::Unavailable("the verifier panicked".to_owned()));
        ask(|| self.verifier.verify(token)).await.unwrap_or_else(panicked)
    }
}

/// Turns the verifier's answer into a verdict.
pub(super) async fn verdict_for(
    core: &Weak<Core>,
    credentials: &Credentials,
    log: &Guarded,
    token: &Token,
    generation: RevocationGeneration,
    shared: Option<&Shared>,
    reports: &Reports,
) -> Verdict {
    let verified = async {
        let redeemed = credentials.redeem(token).await?;
        let token = redeemed.as_ref().unwrap_or(token);
        credentials.verify(token).await.map(|identity| (identity, token.clone()))
    };
    let (identity, token) = match verified.await {
        Ok(verified) => verified,
        Err(not) => {
            reports.take(&not);
            return match not {
                NotVerified::Rejected(_) => Verdict::Rejected,
                NotVerified::Unavailable(_) => Verdict::Unavailable,
            };
        }
    };
    let Some(lifetime) = Lifetime::new(identity.lifetime) else { return Verdict::Rejected };
    let user = match log.user(&identity.subject).await {
        Ok(user) => user,
        Err(error) => {
            if let Some(times) = log.refusals.say(&"user") {
                tracing::warn!(%error, times, "users cannot be looked up");
            }
            return Verdict::Unavailable;
        }
    };
    if let Some(shared) = shared {
        shared.found(user, Arc::clone(&identity.subject));
    }
    let Some(core) = core.upgrade() else { return Verdict::Unavailable };
    if let Some(shared) = shared.filter(|_| core.effects().keeps_credentials()) {
        *lock(&shared.credential) = Some(token);
    }
    match core.effects().revocations.before(&identity.subject, generation) {
        Before::Revoke(scopes) => scopes.into_iter().for_each(|scope| core.revoke(user, scope)),
        Before::Unknown => return Verdict::Unavailable,
    }
    Verdict::Valid { grant: Grant { user, credential: identity.credential, generation }, lifetime }
}
