//! Closes the connections of a login that has ended, before any request is told that it has ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use lockstep::internal::lock;
use lockstep::verify::Revocation;
use lockstep_model::CredentialId;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::Revoker;

/// The pause between two attempts to close connections.
const PAUSE: Duration = Duration::from_secs(1);
/// The time limit of one attempt.
const ATTEMPT: Duration = Duration::from_secs(5);

/// The logins whose connections are being closed.
#[derive(Default)]
pub(super) struct Closes {
    revoker: OnceLock<Arc<dyn Revoker>>,
    open: Mutex<(u64, BTreeMap<u64, CredentialId>)>,
    done: Notify,
}

impl Closes {
    pub(super) fn revoke_through(&self, revoker: Arc<dyn Revoker>) {
        let _ = self.revoker.set(revoker);
    }

    pub(super) fn revoker(&self) -> Option<Arc<dyn Revoker>> {
        self.revoker.get().cloned()
    }

    /// Begins to close a login's connections. Retries failures for as long as a token lives.
    pub(super) fn begin(self: &Arc<Self>, subject: Arc<str>, login: CredentialId, most: Duration) {
        let (Some(revoker), Ok(runtime)) = (self.revoker(), tokio::runtime::Handle::try_current()) else { return };
        let number = {
            let (next, open) = &mut *lock(&self.open);
            *next += 1;
            open.insert(*next, login);
            *next
        };
        let closes = Arc::clone(self);
        runtime.spawn(async move {
            let close = async {
                loop {
                    let closed = timeout(ATTEMPT, revoker.revoke(Revocation::Credential(Arc::clone(&subject), login)));
                    match closed.await {
                        Ok(Ok(())) => return,
                        Ok(Err(reason)) => {
                            tracing::warn!(user = %subject, %reason, "a login's connections could not be closed");
                        }
                        Err(_) => tracing::warn!(user = %subject, "closing a login's connections takes too long"),
                    }
                    sleep(PAUSE).await;
                }
            };
            let _ = timeout(most, close).await;
            lock(&closes.open).1.remove(&number);
            closes.done.notify_waiters();
        });
    }

    /// Waits until that login's connections are closed; with `None`, those of every login that has ended until now.
    pub(super) async fn closed(&self, login: Option<CredentialId>) {
        let until = lock(&self.open).0;
        loop {
            let done = self.done.notified();
            tokio::pin!(done);
            // Register before the check, so that no notification is missed.
            done.as_mut().enable();
            let meant =
                |(number, of): (&u64, &CredentialId)| *number <= until && login.is_none_or(|login| login == *of);
            if !lock(&self.open).1.iter().any(meant) {
                return;
            }
            done.await;
        }
    }
}
