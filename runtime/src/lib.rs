//! The session layer of an AI chat gateway, for embedding in a service.
//!
//! Every decision is made by a pure state machine of [`lockstep_model`], whose reachable states a model checker has
//! visited. This crate runs those machines behind locks and connects them to sockets, logs and agents:
//!
//! | module | what it is |
//! | --- | --- |
//! | [`core`] | the core: steps each machine under its lock, and decides when its outputs take effect |
//! | [`payload`] | the data that passes through the machines unread |
//! | [`verify`] | verification of credentials |
//! | [`log`] | storage of streams |
//! | [`agent`] | the agents that answer |
//! | [`wire`] | frames as JSON |
//! | [`transport`] | sockets |
//! | [`pool`] | a bounded pool for work that computes or blocks |
//! | [`manager`] | the owner of a process's connections |
//! | [`upgrade`] | from an HTTP request to a WebSocket |
//! | [`legacy`] | names of the earlier API, deprecated and counted |
//! | [`testing`] | the real machines over an in-memory socket |
//! | [`trace`] | a record of every step, for `prove replay` |
//!
//! Counters and histograms go to the recorder of the `metrics` crate that is installed when a [`Manager`] is built.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use lockstep::core::{Effects, Fault, ConnectionHandle, Core};
//! use lockstep_model::{Bounds, ConnectionId, Generation, UserId, connection, gateway, node};
//!
//! /// Records every output. A gateway would pass them to its log, verifier, timers and agents.
//! #[derive(Default)]
//! struct Notes(Mutex<Vec<gateway::Output<u8>>>);
//!
//! impl Effects<u8> for Notes {
//!     fn apply(&self, output: gateway::Output<u8>) {
//!         self.0.lock().unwrap().push(output);
//!     }
//!     fn quiet(&self) {}
//!
//!     fn fault(&self, _: UserId, _: Generation, fault: Fault) {
//!         panic!("a session broke an invariant: {fault:?}");
//!     }
//! }
//!
//! let core = Arc::new(Core::new(Bounds::DEFAULT, Notes::default()));
//! core.steer(node::Input::Started).expect("a fact about the node");
//! let mut handle = ConnectionHandle::accept(&core, ConnectionId(1)).expect("the node admits connections");
//! let _ = handle.step(connection::Input::Opened);
//! ```

#![forbid(unsafe_code)]

pub mod agent;
pub mod core;
mod driver;
#[cfg(feature = "gateway")]
pub mod gateway;
pub mod legacy;
pub mod log;
pub mod manager;
pub mod payload;
pub mod pool;
mod private;
mod seam;
mod seldom;
mod sync;
pub mod testing;
mod timers;
pub mod trace;
pub mod transport;
pub mod upgrade;
pub mod verify;
pub mod wire;

pub use manager::Manager;

/// Returns 64 bits from the system's random number generator.
pub(crate) fn random() -> Result<u64, String> {
    random_bytes().map(u64::from_ne_bytes)
}

/// Returns `N` bytes from the system's random number generator.
///
/// # Errors
///
/// A message, if the system has no randomness.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system provides no random bytes: {error}"))?;
    Ok(bytes)
}
