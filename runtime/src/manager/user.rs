//! One user, as the embedding service sees it.

use core::fmt;
use std::sync::Arc;
use std::time::Duration;

use lockstep_model::{Cause, ConnectionId, UserId};
use serde::Serialize;
use serde_json::Value;

use super::{Manager, NotAnswered, NotRecorded, NotSent, Revocation};
use crate::driver::{looks, notices};
use crate::log::Log;
use crate::payload::Payload;

/// A notice that is in the user's stream, and who gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// The user's live connections in this process when the log had stored the notice. Each of them reads it unless it
    /// is lost first; then its client gets the notice when it comes back with its place. Zero: the user is absent, and
    /// the next connection that names no place reads it.
    pub connections: usize,
}

/// One user of a [`Manager`].
#[derive(Clone)]
pub struct User {
    pub(super) manager: Manager,
    pub(super) subject: Arc<str>,
}

impl User {
    /// The user's name at the issuer.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Counts the user's live connections here.
    pub async fn connections(&self) -> usize {
        self.manager.connections_of(&self.subject).await
    }

    /// Returns the user's live connections here, for [`Manager::notify`] and [`Manager::close`].
    pub async fn connection_ids(&self) -> Vec<ConnectionId> {
        match self.manager.inner.core.effects().log.user(&self.subject).await {
            Ok(user) => self.manager.live(user),
            Err(_) => Vec::new(),
        }
    }

    /// Puts a `notice` into the user's stream, in order with everything else. `data` is a JSON object. Returns when the
    /// log has stored it; waits while the log is behind or unavailable. Each reader gets this:
    ///
    /// * A live connection reads it, exactly once. The result counts these.
    /// * A client that comes back with its place reads it, if that is before the notice, exactly once.
    /// * A client that comes back without a place, such as a legacy client, starts after the furthest entry that any
    ///   connection of the user has read. It reads the notice if the user had no connection meanwhile, and not if another
    ///   connection of the user has read it.
    ///
    /// Cancel safe: if the future is dropped, the notice may still be in the stream.
    ///
    /// # Errors
    ///
    /// [`NotSent`].
    pub async fn send(&self, data: &impl Serialize) -> Result<Sent, NotSent> {
        self.put(notices::record(None, data)?).await
    }

    /// Like [`User::send`], for one of the user's threads: the notice carries its `thread_id`.
    ///
    /// # Errors
    ///
    /// [`NotSent`].
    pub async fn send_to_thread(&self, thread: &str, data: &impl Serialize) -> Result<Sent, NotSent> {
        self.put(notices::record(Some(thread), data)?).await
    }

    /// Deletes a thread; `None` is the thread of messages without one. The thread's open runs are cancelled, every
    /// connection of the user gets `thread_deleted`, and the thread's earlier content cannot be read again by
    /// connections or agents, even after a crash. Returns when the log has stored the deletion. Deleting a thread that
    /// does not exist succeeds. Cancel safe: if the future is dropped, the thread may still be deleted.
    ///
    /// # Errors
    ///
    /// [`NotSent`].
    pub async fn delete_thread(&self, thread: Option<&str>) -> Result<(), NotSent> {
        notices::delete(&self.manager.inner.core, self.number().await?, thread, None).await.map(|_| ())
    }

    async fn put(&self, payload: Payload) -> Result<Sent, NotSent> {
        let user = self.number().await?;
        notices::send(&self.manager.inner.core, user, &payload).await?;
        Ok(Sent { connections: self.manager.live(user).len() })
    }

    async fn number(&self) -> Result<UserId, NotSent> {
        let user = self.manager.inner.core.effects().log.user(&self.subject).await;
        user.map_err(|error| NotSent::Unavailable(error.to_string()))
    }

    /// Waits until the user has a live connection here. Returns false if that takes longer than `within`. Cancel safe.
    pub async fn connected(&self, within: Duration) -> bool {
        let arrivals = Arc::clone(&self.manager.inner.core.effects().arrivals);
        let arrived = async {
            loop {
                let mut arrival = core::pin::pin!(arrivals.notified());
                // Registered before the check, so that an arrival between the check and the wait is not missed.
                arrival.as_mut().enable();
                if self.connections().await > 0 {
                    return;
                }
                arrival.await;
            }
        };
        tokio::time::timeout(within, arrived).await.is_ok()
    }

    /// Describes the states of the machines of the user's session, for an operator: a JSON object whose members may
    /// change from version to version, without what users said. In a cluster, the user's owner is asked. Returns `None`
    /// if the user has no session.
    ///
    /// # Errors
    ///
    /// [`NotAnswered`].
    pub async fn describe(&self) -> Result<Option<Value>, NotAnswered> {
        looks::anywhere(&self.manager.inner.core, self.known().await?).await
    }

    /// Closes one connection of the user. In a cluster, the user's owner is asked. Returns false if the user has no such
    /// connection.
    ///
    /// # Errors
    ///
    /// [`NotAnswered`]. The connection may be closed.
    pub async fn close(&self, connection: ConnectionId, cause: Cause) -> Result<bool, NotAnswered> {
        looks::close_anywhere(&self.manager.inner.core, self.known().await?, connection, cause).await
    }

    async fn known(&self) -> Result<UserId, NotAnswered> {
        Ok(self.manager.inner.core.effects().log.user(&self.subject).await?)
    }

    /// Closes every connection of the user and rejects every credential issued until now: logout everywhere.
    ///
    /// # Errors
    ///
    /// As [`Manager::revoke`].
    pub async fn revoke(&self) -> Result<(), NotRecorded> {
        self.manager.revoke(&Revocation::Subject(Arc::clone(&self.subject))).await
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("User").field(&self.subject).finish()
    }
}
