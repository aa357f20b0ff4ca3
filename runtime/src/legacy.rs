//! The names of the earlier API, in which seven managers each owned part of the state. There is one owner now. Each
//! name leads to it, is deprecated, and counts its calls by call site, so that the last caller can be found. The first
//! call of each site is also logged as a warning that names the replacement.
//!
//! | earlier name | replacement |
//! | --- | --- |
//! | `UnifiedWebSocketManager`, `WebSocketConnectionManager` | [`Manager`] |
//! | `IsolatedWebSocketManager` | [`User`], from [`Manager::user`] |
//! | `WebSocketManagerFactory` | [`Manager::builder`] |
//! | `EmergencyWebSocketManager`, `DegradedWebSocketManager` | [`Manager::pin`], and the node's own modes |
//! | `WebSocketManagerAdapter` | the codec [`Legacy`](crate::wire::Codec::Legacy), and the methods here |
//! | the mock of the test framework | [`testing`](crate::testing) |
//! | `emit_critical_event`, the request-scoped tool dispatcher | [`Run`](crate::agent::Run) |
//!
//! Data is a [`serde_json::Value`] here, because callers of that API hold JSON. The replacements take anything that
//! serializes.
//!
//! `lockstep_deprecated_calls_total{name, site}` shows which call sites remain.

use core::panic::Location;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use lockstep_model::ConnectionId;
use serde_json::json;

use crate::manager::{Broadcast, Health, Manager, NotSent, Sent, User};
use crate::sync::lock;

/// The owner of all connections.
#[deprecated(note = "use lockstep::Manager")]
pub type UnifiedWebSocketManager = Manager;

/// The owner of all connections.
#[deprecated(note = "use lockstep::Manager")]
pub type WebSocketConnectionManager = Manager;

/// A handle to one user.
#[deprecated(note = "use lockstep::Manager::user")]
pub type IsolatedWebSocketManager = User;

/// Counts a call by its name and call site, and warns at the first call of a site.
fn count(name: &'static str, instead: &'static str, site: &'static Location<'static>) {
    // At most one entry for each call in the source.
    static SITES: Mutex<BTreeSet<(&str, &Location<'_>)>> = Mutex::new(BTreeSet::new());
    let label = format!("{}:{}", site.file(), site.line());
    if lock(&SITES).insert((name, site)) {
        tracing::warn!(name, site = label, instead, "a deprecated method is called");
    }
    metrics::counter!("lockstep_deprecated_calls_total", "name" => name, "site" => label).increment(1);
}

impl Manager {
    /// Counts a user's live connections here.
    #[deprecated(note = "use Manager::user(subject).connections()")]
    #[track_caller]
    pub fn get_user_connection_count(&self, subject: &str) -> impl Future<Output = usize> + Send + use<> {
        count("get_user_connection_count", "Manager::user(subject).connections()", Location::caller());
        let user = self.user(subject);
        async move { user.connections().await }
    }

    /// Whether a user has a live connection here.
    #[deprecated(note = "use Manager::user(subject).connections()")]
    #[track_caller]
    pub fn is_user_connected(&self, subject: &str) -> impl Future<Output = bool> + Send + use<> {
        count("is_user_connected", "Manager::user(subject).connections()", Location::caller());
        let user = self.user(subject);
        async move { user.connections().await > 0 }
    }

    /// Waits until a user has a live connection here.
    #[deprecated(note = "use Manager::user(subject).connected(within)")]
    #[track_caller]
    pub fn wait_for_connection(&self, subject: &str, within: Duration) -> impl Future<Output = bool> + Send + use<> {
        count("wait_for_connection", "Manager::user(subject).connected(within)", Location::caller());
        let user = self.user(subject);
        async move { user.connected(within).await }
    }

    /// Sends a user a notice outside any run. Returns how many live connections read it: see [`User::send`].
    #[deprecated(note = "use Manager::user(subject).send(data)")]
    #[track_caller]
    pub fn send_to_user(
        &self,
        subject: &str,
        data: &serde_json::Value,
    ) -> impl Future<Output = Result<Sent, NotSent>> + Send + use<> {
        count("send_to_user", "Manager::user(subject).send(data)", Location::caller());
        let (user, data) = (self.user(subject), data.clone());
        async move { user.send(&data).await }
    }

    /// Sends a user a notice in one of the user's threads. Returns how many live connections read it: see
    /// [`User::send`].
    #[deprecated(note = "use Manager::user(subject).send_to_thread(thread, data)")]
    #[track_caller]
    pub fn send_to_thread(
        &self,
        subject: &str,
        thread: &str,
        data: &serde_json::Value,
    ) -> impl Future<Output = Result<Sent, NotSent>> + Send + use<> {
        count("send_to_thread", "Manager::user(subject).send_to_thread(thread, data)", Location::caller());
        let (user, thread, data) = (self.user(subject), thread.to_owned(), data.clone());
        async move { user.send_to_thread(&thread, &data).await }
    }

    /// Sends a user a notice whose data is `{"event_type", "data"}`. An event of a run is not sent like this: only the
    /// run's handle emits it, in order and at most once. Returns how many live connections read the notice: see
    /// [`User::send`].
    #[deprecated(
        note = "use agent::Run for the events of a run, such as Run::thinking, Run::tool and Run::complete; for \
                         anything else use Manager::user(subject).send(data)"
    )]
    #[track_caller]
    pub fn emit_critical_event(
        &self,
        subject: &str,
        event_type: &str,
        data: &serde_json::Value,
    ) -> impl Future<Output = Result<Sent, NotSent>> + Send + use<> {
        count("emit_critical_event", "agent::Run, or Manager::user(subject).send(data)", Location::caller());
        let (user, data) = (self.user(subject), json!({ "event_type": event_type, "data": data }));
        async move { user.send(&data).await }
    }

    /// Sends one connection a notice.
    ///
    /// # Errors
    ///
    /// As [`Manager::notify`].
    #[deprecated(note = "use Manager::notify")]
    #[track_caller]
    pub fn send_to_connection(&self, connection: ConnectionId, data: &serde_json::Value) -> Result<bool, NotSent> {
        count("send_to_connection", "Manager::notify", Location::caller());
        self.notify(connection, data)
    }

    /// Sends every user a notice.
    #[deprecated(note = "use Manager::broadcast")]
    #[track_caller]
    pub fn broadcast_to_all(
        &self,
        data: &serde_json::Value,
    ) -> impl Future<Output = Result<Broadcast, NotSent>> + Send + use<> {
        count("broadcast_to_all", "Manager::broadcast", Location::caller());
        let (manager, data) = (self.clone(), data.clone());
        async move { manager.broadcast(&data).await }
    }

    /// Returns this process's current state.
    #[deprecated(note = "use Manager::health")]
    #[track_caller]
    #[must_use]
    pub fn get_stats(&self) -> Health {
        count("get_stats", "Manager::health", Location::caller());
        self.health()
    }

    /// Drains the process.
    #[deprecated(note = "use Manager::drain")]
    #[track_caller]
    pub fn shutdown(&self) -> impl Future<Output = ()> + Send + use<> {
        count("shutdown", "Manager::drain", Location::caller());
        let manager = self.clone();
        async move { manager.drain().await }
    }
}
