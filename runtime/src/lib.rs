//! The session layer of an AI chat gateway, to be embedded in a service.
//!
//! Every decision is made by a pure machine of [`lockstep_model`], whose reachable states a model checker has visited.
//! This crate puts those machines behind locks, and does nothing else that matters:
//!
//! | module | what it is |
//! | --- | --- |
//! | [`core`] | the concurrent core: which machine is stepped under which lock, and when its orders take effect |
//! | [`payload`] | what goes through the machines without their looking into it |
//! | [`verify`] | whose a credential is |
//! | [`log`] | where streams are kept |
//! | [`agent`] | who answers |
//! | [`wire`] | frames as JSON |
//! | [`transport`] | sockets |
//! | [`pool`] | a bounded place for work that computes or blocks |
//! | [`manager`] | the one owner of a process's connections |
//! | [`upgrade`] | from an HTTP request to a WebSocket |
//! | [`legacy`] | the names from before, deprecated and counted |
//! | [`testing`] | the real machines over an in-memory socket |
//! | [`trace`] | every step, written down for `prove replay` |
//!
//! Counters and histograms go to the recorder of the crate `metrics` that is installed when a [`Manager`] is built.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use lockstep::core::{Effects, Fault, ConnectionHandle, Core};
//! use lockstep_model::{Bounds, ConnectionId, Generation, UserId, connection, gateway, node};
//!
//! /// Writes down what it is told to do. A gateway would hand it to its log, its verifier, its timers, its agents.
//! #[derive(Default)]
//! struct Notes(Mutex<Vec<gateway::Output<u8>>>);
//!
//! impl Effects<u8> for Notes {
//!     fn apply(&self, order: gateway::Output<u8>) {
//!         self.0.lock().unwrap().push(order);
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

/// 64 bits of the system's randomness.
pub(crate) fn random() -> Result<u64, String> {
    random_bytes().map(u64::from_ne_bytes)
}

/// So many bytes of the system's randomness.
///
/// # Errors
///
/// A sentence, if there is none.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system has no randomness: {error}"))?;
    Ok(bytes)
}
