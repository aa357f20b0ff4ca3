//! Methods for the process around a manager: its progress, a successor that takes over, files that must be closed, and
//! the state of its sessions.

use core::future::Future;
use std::net::IpAddr;

use lockstep_model::{ConnectionId, Generation, Handled, Session, Successor, UserId, node};
use serde_json::Value;
use tokio::sync::watch;

use super::{Manager, Phase};
use crate::driver::looks::{self, NotAnswered};
use crate::log::Log;
use crate::payload::Payload;

/// Whether a process drains: from [`Manager::draining`]. It does not keep the manager alive.
#[derive(Clone, Debug)]
pub struct Draining(watch::Receiver<bool>);

impl Draining {
    /// Whether the drain has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the drain begins. Never returns if the manager is dropped before. Cancel safe.
    pub async fn begun(&self) {
        if self.0.clone().wait_for(|draining| *draining).await.is_err() {
            core::future::pending::<()>().await;
        }
    }
}

impl Manager {
    /// Returns the log, from which agents and HTTP routes read conversations. Calls after [`Manager::close_log`] are
    /// refused.
    #[must_use]
    pub fn log(&self) -> &dyn Log {
        &*self.inner.core.effects().log
    }

    /// Waits until the node is in this phase or a later one. Cancel safe. The future does not keep the manager alive,
    /// and also returns when the manager is gone.
    pub fn reached(&self, phase: Phase) -> impl Future<Output = ()> + Send + use<> {
        let mut phases = self.inner.core.effects().phase();
        async move {
            let _ = phases.wait_for(|now| *now >= phase).await;
        }
    }

    /// Tells when the process drains: when [`Manager::drain`] is called, and in a hand-over when every client has been
    /// told to leave. From then on, HTTP connections should end with their current request.
    #[must_use]
    pub fn draining(&self) -> Draining {
        Draining(self.inner.draining.subscribe())
    }

    /// Begins to hand over to another process: open runs end first, as in [`Manager::drain`], while new connections are
    /// still admitted. [`Phase::Leaving`] follows.
    pub fn begin_handover(&self) {
        let _ = self.inner.core.steer(node::Input::Drain { successor: Successor::Waiting });
    }

    /// Goes on as before, because the successor is gone. Returns false if that is no longer possible, since clients
    /// have been told to leave.
    pub fn abort_handover(&self) -> bool {
        self.inner.core.steer(node::Input::HandoverAborted) == Ok(Handled::Done)
    }

    /// Completes a hand-over after [`Phase::Leaving`]: ends HTTP connections ([`Manager::draining`]), and returns when
    /// no session is left, so that nothing is written any longer ([`Phase::Released`]). The machines' deadlines bound
    /// it. Cancel safe.
    pub async fn finish_handover(&self) {
        self.inner.draining.send_replace(true);
        self.reached(Phase::Released).await;
    }

    /// Waits until the log has done the remaining work of sessions, such as the release of their users, and until this
    /// process has left its cluster. Then drops the log, so that another process can open it. Later calls are refused.
    /// The log bounds how long this takes. For after [`Phase::Released`].
    pub async fn close_log(&self) {
        let driver = self.inner.core.effects();
        driver.rests().await;
        driver.log.close().await;
    }

    /// Closes the trace, if there is one, and waits until it is written. Later steps are not recorded. Blocks on the
    /// disk.
    pub fn close_trace(&self) {
        self.inner.core.effects().close_trace();
    }

    /// Returns the users who have a session in this process.
    #[must_use]
    pub fn sessions(&self) -> Vec<UserId> {
        self.inner.core.users()
    }

    /// Describes all sessions, for an operator: a JSON object for each, whose members may change from version to version,
    /// without what users said. In a cluster, these are the sessions of all its processes; those that do not answer
    /// within a few seconds are named beside.
    ///
    /// # Errors
    ///
    /// [`NotAnswered::Unavailable`]: the log cannot tell which processes there are.
    pub async fn describe_sessions(&self) -> Result<(Vec<Value>, Vec<NotAnswered>), NotAnswered> {
        looks::everywhere(&self.inner.core).await
    }

    /// Returns the address of a connection's client, if the server of its upgrade has told it
    /// ([`ClientAddress`](crate::upgrade::ClientAddress)). For a relayed connection, the process that accepted it has
    /// reported the address.
    #[must_use]
    pub fn client(&self, connection: ConnectionId) -> Option<IpAddr> {
        self.inner.core.effects().client(connection)
    }

    /// Reads a user's session; returns `None` if the user has none here. `look` runs under the session's lock: it must
    /// not block, and must not call the manager.
    pub fn inspect<R>(&self, user: UserId, look: impl FnOnce(Generation, &Session<Payload>) -> R) -> Option<R> {
        self.inner.core.look(user, look)
    }
}
