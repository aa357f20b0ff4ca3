//! The command line changes accounts while the gateway runs. Here their logins end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Login;
use crate::gateway::accounts::Snapshot;
use crate::verify::{Revocation, credential_id};

impl Login {
    /// Looks at the accounts so often, for ever, and ends each login whose account is gone or has another password:
    /// its cookie, its tokens and, with a [`Revoker`](super::Revoker), its connections. The first look also finds what was
    /// changed while no gateway ran. A login that begins meanwhile looks for itself, under the sessions' lock, so none
    /// slips through between its password and this look. Cancel safe.
    pub async fn watch(self: Arc<Self>, every: Duration) {
        let mut known = None;
        let mut said = String::new();
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.end_closed(&mut known).await {
                Ok(()) => said.clear(),
                // Once, and not at each look.
                Err(reason) if reason != said => {
                    tracing::warn!(reason, "the accounts cannot be looked at, or a login not be ended");
                    said = reason;
                }
                Err(_) => {}
            }
        }
    }

    /// Ends what is to be ended if the accounts are not those that are known.
    async fn end_closed(self: &Arc<Self>, known: &mut Option<Snapshot>) -> Result<(), String> {
        let accounts = Arc::clone(&self.accounts);
        let looked = tokio::task::spawn_blocking(move || accounts.look()).await;
        let now = looked.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        if known.as_ref().is_some_and(|known| known.is_same(&now)) {
            return Ok(());
        }
        let seen = now.clone();
        let ended = self.with_sessions(move |_, sessions| Ok(sessions.end_unless(|account| seen.has(account)))).await?;
        let mut written = Ok(());
        for (id, session) in ended {
            tracing::info!(user = %session.user, "the account has changed: a login has ended");
            // In effect also if it cannot be written, so that each has its turn.
            let revoked = self.revoke(Revocation::Credential(session.user, credential_id(&id))).await;
            written = written.and(revoked);
        }
        *known = Some(now);
        written
    }
}
