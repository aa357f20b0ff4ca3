//! Ends logins when the command line changes accounts while the gateway runs.

use std::sync::Arc;
use std::time::Duration;

use lockstep::internal::lock;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Login, RevokeError};
use crate::accounts::Subjects;

/// How long a check of the accounts may delay a request. If the file system hangs, only one thread waits for it.
const LOOK: Duration = Duration::from_secs(2);
/// The time limit for erasing one user's data, after which it is retried.
const ERASURE: Duration = Duration::from_secs(60);

impl Login {
    /// Checks the accounts at this interval, forever. Each login whose account is gone or has another password ends,
    /// with its cookie, its tokens and, with a [`Revoker`](super::Revoker), its connections. Accounts that cannot be
    /// read end no login. Cancel safe.
    pub async fn watch(self: Arc<Self>, every: Duration) {
        let mut said = String::new();
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let looked = match self.look().await {
                Ok(()) => self.erase().await,
                Err(reason) => Err(format!("the accounts cannot be read; existing logins stay valid: {reason}")),
            };
            match looked {
                Ok(()) => said.clear(),
                // Log it once and not at each check.
                Err(reason) if reason != said => {
                    tracing::warn!(reason, "watching the accounts failed");
                    said = reason;
                }
                Err(_) => {}
            }
        }
    }

    /// Erases the data of users whose account is gone, once none of their connections is left. A failed erasure stays
    /// pending and is retried at the next check, even after a restart.
    async fn erase(self: &Arc<Self>) -> Result<(), String> {
        let known = self.known.lock().await.clone();
        let (Some(known), Some(revoker)) = (known, self.closes.revoker()) else { return Ok(()) };
        for subject in known.erasures() {
            self.closes.closed(None).await;
            let erased = timeout(ERASURE, revoker.erase(Arc::clone(&subject))).await;
            let late = |_| RevokeError::new("it took too long");
            let fail = |reason: RevokeError| {
                format!("the data of {subject}, whose account was removed, is not erased yet: {reason}")
            };
            erased.map_err(late).and_then(|erased| erased).map_err(fail)?;
            let (accounts, gone) = (Arc::clone(&self.accounts), Arc::clone(&subject));
            let noted = tokio::task::spawn_blocking(move || accounts.erased(&gone)).await;
            noted.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            tracing::info!(user = %subject, "the data of a removed account was erased");
        }
        Ok(())
    }

    /// Resolves an operator's input to subjects ([`Snapshot::meant`](crate::accounts::Snapshot::meant)). If
    /// the accounts cannot be read now, the last read is used, so that a revocation does not wait for a disk.
    pub(crate) async fn meant(self: &Arc<Self>, text: &str) -> Option<Subjects> {
        let _ = self.look().await;
        lock(&self.last).meant(text)
    }

    /// Reads the accounts, and tells the machine if they have changed.
    pub(super) async fn look(self: &Arc<Self>) -> Result<(), String> {
        let late = |_| "the accounts: the disk does not answer".to_owned();
        let mut known = timeout(LOOK, Arc::clone(&self.known).lock_owned()).await.map_err(late)?;
        let login = Arc::clone(self);
        let look = tokio::task::spawn_blocking(move || {
            let now = login.accounts.look().map_err(|error| error.to_string())?;
            if !known.as_ref().is_some_and(|known| known.is_same(&now)) {
                login.revocations.looked(now.versions());
                *lock(&login.last) = now.clone();
                *known = Some(now);
            }
            Ok(())
        });
        match timeout(LOOK, look).await {
            Ok(Ok(looked)) => looked,
            Ok(Err(error)) => Err(format!("the accounts: {error}")),
            Err(elapsed) => Err(late(elapsed)),
        }
    }
}
