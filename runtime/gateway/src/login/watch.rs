//! Ends logins when the command line changes accounts while the gateway runs.

use std::sync::Arc;
use std::time::Duration;

use lockstep::internal::lock;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::keeper::{Directory, Keeper};
use super::{Login, RevokeError};
use crate::accounts::{Snapshot, Subjects};

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
            let looked = match self.keep().await {
                Ok(accounts) => self.erase(&accounts).await,
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

    /// Reads the accounts, and ends the logins whose account is gone or has another password.
    async fn keep(&self) -> Result<Snapshot, String> {
        match &self.keeper {
            Keeper::Directory(directory) => look(directory).await.map(|()| lock(&directory.last).clone()),
            Keeper::Cluster(shared) => shared.keep().await.map_err(|error| error.to_string()),
        }
    }

    /// Erases the data of users whose account is gone, once none of their connections is left. A failed erasure stays
    /// pending and is retried at the next check, even after a restart.
    async fn erase(self: &Arc<Self>, known: &Snapshot) -> Result<(), String> {
        let Some(revoker) = self.closes.revoker() else { return Ok(()) };
        for subject in known.erasures() {
            let late = |_| RevokeError::new("it took too long");
            let fail = |reason: RevokeError| {
                format!("the data of {subject}, whose account was removed, is not erased yet: {reason}")
            };
            self.closed().await.map_err(fail)?;
            let erased = timeout(ERASURE, revoker.erase(Arc::clone(&subject))).await;
            erased.map_err(late).and_then(|erased| erased).map_err(fail)?;
            match &self.keeper {
                Keeper::Directory(Directory { accounts, .. }) => {
                    let (accounts, gone) = (Arc::clone(accounts), Arc::clone(&subject));
                    let noted = tokio::task::spawn_blocking(move || accounts.erased(&gone)).await;
                    noted.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
                }
                Keeper::Cluster(shared) => shared.erased(&subject).await.map_err(|error| error.to_string())?,
            }
            tracing::info!(user = %subject, "the data of a removed account was erased");
        }
        Ok(())
    }

    /// Waits until no connection of a login that has ended is left.
    async fn closed(&self) -> Result<(), RevokeError> {
        match &self.keeper {
            Keeper::Directory(_) => self.closes.closed(None).await,
            Keeper::Cluster(shared) => {
                let settled = timeout(ERASURE, shared.settle()).await;
                let settled = settled.map_err(|_| RevokeError::new("some gateways still serve the user"))?;
                settled.map_err(|error| RevokeError::because(error.to_string(), error))?;
            }
        }
        Ok(())
    }

    /// Resolves an operator's input to subjects ([`Snapshot::meant`](crate::accounts::Snapshot::meant)). If
    /// the accounts cannot be read now, the last read is used, so that a revocation does not wait for a disk.
    pub(crate) async fn meant(self: &Arc<Self>, text: &str) -> Option<Subjects> {
        match &self.keeper {
            Keeper::Directory(directory) => drop(look(directory).await),
            Keeper::Cluster(shared) => drop(timeout(LOOK, shared.accounts.look()).await),
        }
        self.keeper.last()?.meant(text)
    }

    /// Reads the accounts, so that the machine decides with them. A cluster's logins read them themselves.
    pub(super) async fn look(&self) -> Result<(), String> {
        match &self.keeper {
            Keeper::Directory(directory) => look(directory).await,
            Keeper::Cluster(_) => Ok(()),
        }
    }
}

/// Reads the accounts, and tells the machine if they have changed.
async fn look(directory: &Directory) -> Result<(), String> {
    let late = |_| "the accounts: the disk does not answer".to_owned();
    let Directory { accounts, known, last, revocations } = directory;
    let mut known = timeout(LOOK, Arc::clone(known).lock_owned()).await.map_err(late)?;
    let (accounts, last, revocations) = (Arc::clone(accounts), Arc::clone(last), Arc::clone(revocations));
    let look = tokio::task::spawn_blocking(move || {
        let now = accounts.look().map_err(|error| error.to_string())?;
        if !known.as_ref().is_some_and(|known| known.is_same(&now)) {
            revocations.looked(now.versions());
            *lock(&last) = now.clone();
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
