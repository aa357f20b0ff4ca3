//! The real machines over an in-memory socket, for an embedding service's own tests.
//!
//! Under tokio's paused clock (`tokio::time::pause`) every deadline of the machines is virtual: a test that waits for a
//! missed heartbeat takes no time.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
//! use lockstep::Manager;
//! use lockstep::testing::{AnyToken, Echo, TestClient};
//!
//! let manager = Manager::builder().verifier(AnyToken).agent(Echo).build().unwrap();
//! let mut ada = TestClient::connect(&manager);
//! ada.say(r#"{"type":"auth","token":"ada"}"#);
//! assert_eq!(ada.next().await["type"], "connection_ready");
//! ada.say(r#"{"type":"user_message","message_id":"m1","payload":{"text":"hello"}}"#);
//! assert_eq!(ada.until("agent_completed").await.last().unwrap()["data"]["text"], "hello");
//! # });
//! ```

pub mod log;
mod shared;

pub use shared::SharedLog;

use core::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tungstenite::Utf8Bytes;

use crate::BoxFuture;
use crate::Manager;
use crate::agent::{Agent, Message, Run};
use crate::manager::Opening;
use crate::payload::Token;
use crate::sync::{Mutex, lock};
use crate::transport::{Incoming, Outgoing, memory};
use crate::verify::{Identity, NotRevoked, NotVerified, Revocation, Verifier, credential_id};
use crate::wire::Codec;

/// Accepts a token as the name of its user, valid for an hour. The token `rejected` is rejected, and `unavailable` gets
/// no verdict. For tests only.
#[derive(Clone, Copy, Debug)]
pub struct AnyToken;

impl Verifier for AnyToken {
    fn verify<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<Identity, NotVerified>> {
        let name = token.expose();
        let identity =
            Identity { subject: name.into(), credential: credential_id(name), lifetime: Duration::from_secs(60 * 60) };
        let verdict = match name {
            "" | "rejected" => Err(NotVerified::Rejected("a test said so")),
            "unavailable" => Err(NotVerified::Unavailable("a test said so".to_owned())),
            _ => Ok(identity),
        };
        Box::pin(core::future::ready(verdict))
    }

    fn revoke<'a>(&'a self, _: &'a Revocation) -> BoxFuture<'a, Result<(), NotRevoked>> {
        Box::pin(core::future::ready(Ok(())))
    }
}

/// Answers each message with its text.
#[derive(Clone, Copy, Debug)]
pub struct Echo;

impl Agent for Echo {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let text = message.text().unwrap_or_default();
            // A run that has ended meanwhile needs no answer.
            let _ = run.complete(json!({ "text": text })).await;
        })
    }
}

/// Messages that may wait for a [`TestClient`] to read them; beyond that, the gateway sees a full socket.
const BUFFER: usize = 64;

/// The client end of a connection.
pub struct TestClient {
    up: Option<mpsc::UnboundedSender<Incoming>>,
    down: mpsc::Receiver<Outgoing>,
    watchers: Mutex<Vec<Watcher>>,
}

type Watcher = Box<dyn FnMut(Passed<'_>) + Send>;

/// An event at a [`TestClient`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed<'a> {
    /// The peer is about to send this.
    Sent(&'a Incoming),
    /// The peer has read this.
    Received(&'a Outgoing),
    /// The connection is over: the peer cut it, or has read everything that the gateway sent before it dropped the
    /// socket.
    Gone,
}

impl TestClient {
    /// Connects without a credential, as a browser does.
    #[must_use]
    pub fn connect(manager: &Manager) -> Self {
        Self::open(manager, Opening::new(Codec::V1))
    }

    /// Connects. A separate task serves the connection.
    #[must_use]
    pub fn open(manager: &Manager, opening: Opening) -> Self {
        let (up, down, socket) = memory::pair(BUFFER);
        tokio::spawn(manager.serve(opening, core::future::ready(Some(socket))));
        Self { up: Some(up), down, watchers: Mutex::default() }
    }

    /// Also reports every later event to `watcher`, in order: for tests that print the exchange before they fail, or
    /// check it. Called where the peer sends and reads, one call at a time.
    #[must_use]
    pub fn watched(self, watcher: impl FnMut(Passed<'_>) + Send + 'static) -> Self {
        lock(&self.watchers).push(Box::new(watcher));
        self
    }

    /// Sends a text message. Does nothing if the connection is closed.
    pub fn say(&self, text: &str) {
        self.send(Incoming::Text(Utf8Bytes::from(text)));
    }

    /// Sends anything that a socket can deliver.
    pub fn send(&self, incoming: Incoming) {
        if let Some(up) = &self.up {
            self.tell(Passed::Sent(&incoming));
            // A gateway that is gone receives nothing.
            let _ = up.send(incoming);
        }
    }

    /// Cuts the connection: data in flight is lost.
    pub fn cut(&mut self) {
        self.down.close();
        self.gone();
    }

    /// Returns the next message of any kind; `None` once the gateway has dropped the socket. Cancel safe.
    pub async fn receive(&mut self) -> Option<Outgoing> {
        let received = self.down.recv().await;
        match &received {
            Some(message) => self.tell(Passed::Received(message)),
            None => self.gone(),
        }
        received
    }

    /// Returns the next text message, as JSON; a close frame as `{"type": "close", "code": …}`. [`Value::Null`] once
    /// the gateway has dropped the socket.
    pub async fn next(&mut self) -> Value {
        loop {
            match self.receive().await {
                Some(Outgoing::Text(text)) => return serde_json::from_str(&text).unwrap_or(Value::Null),
                Some(Outgoing::Close(cause)) => return json!({ "type": "close", "code": cause.code() }),
                Some(Outgoing::LegacyClose(cause)) => {
                    return json!({ "type": "close", "code": Codec::Legacy.close(cause).0 });
                }
                Some(Outgoing::Binary(_)) => return Value::Null,
                Some(Outgoing::Ping) => self.send(Incoming::Alive),
                None => return Value::Null,
            }
        }
    }

    /// Returns all messages up to and including the first of this type, or up to the end.
    pub async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            let message = self.next().await;
            let last = message.is_null() || message["type"] == kind;
            seen.push(message);
            if last {
                return seen;
            }
        }
    }

    fn gone(&mut self) {
        if self.up.take().is_some() {
            self.tell(Passed::Gone);
        }
    }

    fn tell(&self, passed: Passed<'_>) {
        lock(&self.watchers).iter_mut().for_each(|watcher| watcher(passed));
    }
}

impl fmt::Debug for TestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClient").field("is_open", &self.up.is_some()).finish_non_exhaustive()
    }
}
