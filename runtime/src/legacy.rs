//! The names of the earlier API, in which seven managers each owned part of the state. There is one owner now. Each
//! name leads to it, is deprecated, and counts its calls by call site, so that the last caller can be found.
//!
//! | earlier name | replacement |
//! | --- | --- |
//! | `UnifiedWebSocketManager`, `WebSocketConnectionManager` | [`Manager`] |
//! | `IsolatedWebSocketManager` | [`User`], from [`Manager::user`] |
//! | `WebSocketManagerFactory` | [`Manager::builder`] |
//! | `EmergencyWebSocketManager`, `DegradedWebSocketManager` | [`Manager::pin`], and the node's own modes |
//! | `WebSocketManagerAdapter` | the codec [`Legacy`](crate::wire::Codec::Legacy), and the methods here |
//! | the mock of the test framework | [`testing`](crate::testing) |
//! | the request-scoped tool dispatcher | [`Run`](crate::agent::Run) |
//!
//! `lockstep_deprecated_calls_total{name, site}` shows which call sites remain.

use core::panic::Location;
use std::time::Duration;

use lockstep_model::ConnectionId;

use crate::manager::{Broadcast, Health, Manager, NotSent, User};

/// The owner of all connections.
#[deprecated(note = "use lockstep::Manager")]
pub type UnifiedWebSocketManager = Manager;

/// The owner of all connections.
#[deprecated(note = "use lockstep::Manager")]
pub type WebSocketConnectionManager = Manager;

/// A handle to one user.
#[deprecated(note = "use lockstep::Manager::user")]
pub type IsolatedWebSocketManager = User;

/// Counts a call by its name and call site.
fn count(name: &'static str, site: &'static Location<'static>) {
    let site = format!("{}:{}", site.file(), site.line());
    metrics::counter!("lockstep_deprecated_calls_total", "name" => name, "site" => site).increment(1);
}

impl Manager {
    /// Counts a user's live connections here.
    #[deprecated(note = "use Manager::user(subject).connections()")]
    #[track_caller]
    pub fn get_user_connection_count(&self, subject: &str) -> impl Future<Output = usize> + Send + use<> {
        count("get_user_connection_count", Location::caller());
        let user = self.user(subject);
        async move { user.connections().await }
    }

    /// Whether a user has a live connection here.
    #[deprecated(note = "use Manager::user(subject).connections()")]
    #[track_caller]
    pub fn is_user_connected(&self, subject: &str) -> impl Future<Output = bool> + Send + use<> {
        count("is_user_connected", Location::caller());
        let user = self.user(subject);
        async move { user.connections().await > 0 }
    }

    /// Waits until a user has a live connection here.
    #[deprecated(note = "use Manager::user(subject).connected(within)")]
    #[track_caller]
    pub fn wait_for_connection(&self, subject: &str, within: Duration) -> impl Future<Output = bool> + Send + use<> {
        count("wait_for_connection", Location::caller());
        let user = self.user(subject);
        async move { user.connected(within).await }
    }

    /// Sends a user a notice outside any run.
    #[deprecated(note = "use Manager::user(subject).send(data)")]
    #[track_caller]
    pub fn send_to_user(
        &self,
        subject: &str,
        data: &serde_json::Value,
    ) -> impl Future<Output = Result<(), NotSent>> + Send + use<> {
        count("send_to_user", Location::caller());
        let (user, data) = (self.user(subject), data.clone());
        async move { user.send(&data).await }
    }

    /// Sends a user a notice in one of the user's threads.
    #[deprecated(note = "use Manager::user(subject).send_to_thread(thread, data)")]
    #[track_caller]
    pub fn send_to_thread(
        &self,
        subject: &str,
        thread: &str,
        data: &serde_json::Value,
    ) -> impl Future<Output = Result<(), NotSent>> + Send + use<> {
        count("send_to_thread", Location::caller());
        let (user, thread, data) = (self.user(subject), thread.to_owned(), data.clone());
        async move { user.send_to_thread(&thread, &data).await }
    }

    /// Sends one connection a notice.
    ///
    /// # Errors
    ///
    /// As [`Manager::notify`].
    #[deprecated(note = "use Manager::notify")]
    #[track_caller]
    pub fn send_to_connection(&self, connection: ConnectionId, data: &serde_json::Value) -> Result<bool, NotSent> {
        count("send_to_connection", Location::caller());
        self.notify(connection, data)
    }

    /// Sends every user a notice.
    #[deprecated(note = "use Manager::broadcast")]
    #[track_caller]
    pub fn broadcast_to_all(
        &self,
        data: &serde_json::Value,
    ) -> impl Future<Output = Result<Broadcast, NotSent>> + Send + use<> {
        count("broadcast_to_all", Location::caller());
        let (manager, data) = (self.clone(), data.clone());
        async move { manager.broadcast(&data).await }
    }

    /// Returns this process's current state.
    #[deprecated(note = "use Manager::health")]
    #[track_caller]
    #[must_use]
    pub fn get_stats(&self) -> Health {
        count("get_stats", Location::caller());
        self.health()
    }

    /// Drains the process.
    #[deprecated(note = "use Manager::drain")]
    #[track_caller]
    pub fn shutdown(&self) -> impl Future<Output = ()> + Send + use<> {
        count("shutdown", Location::caller());
        let manager = self.clone();
        async move { manager.drain().await }
    }
}
