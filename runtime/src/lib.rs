//! The session layer of an AI chat gateway, to be embedded in a service.
//!
//! A [`Manager`] owns every WebSocket connection of a process. Users log in, send messages and see answers as they are
//! made, over connections that may be cut, duplicated, expired or slow. Nothing is lost, repeated, reordered or shown
//! to another user. The pure machines of [`lockstep_model`] decide about users, messages and answers, and a model
//! checker has visited their reachable states. This crate puts the machines behind locks and connects them to sockets,
//! clocks, logs and agents.
//!
//! # A service
//!
//! ```no_run
//! use hyper::{server::conn::http1, service::service_fn};
//! use hyper_util::rt::TokioIo;
//! use lockstep::Manager;
//! use lockstep::testing::{AnyToken, Echo};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // A token is its user's name, and the agent repeats the message: replace both.
//!     let manager = Manager::builder().verifier(AnyToken).agent(Echo).build()?;
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:8081").await?;
//!     loop {
//!         let (stream, _) = listener.accept().await?;
//!         let manager = manager.clone();
//!         tokio::spawn(async move {
//!             let service = service_fn(|request| {
//!                 let response = manager.upgrade(request);
//!                 async move { Ok::<_, std::convert::Infallible>(response) }
//!             });
//!             let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
//!             let _ = connection.with_upgrades().await;
//!         });
//!     }
//! }
//! ```
//!
//! The [`guide`] continues from here: [embedding](guide::embedding), [operating](guide::operating) the ready-made
//! gateway, the [protocol](guide::protocol), the [proofs](guide::proofs), [contributing](guide::contributing), and a
//! [glossary](guide::glossary).
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `disk` | no | [`DiskLog`](log::DiskLog), a log on disk |
//! | `kept` | no | [`KeptLog`](log::KeptLog), a log on disk that also keeps conversations; builds SQLite |
//! | `postgres` | no | [`PostgresLog`](log::PostgresLog), a log in PostgreSQL that several gateways share |
//! | `jwt` | no | [`JwtVerifier`](verify::jwt::JwtVerifier): JSON Web Tokens, keys from a file or over HTTP |
//! | `openai` | no | [`OpenAi`](agent::openai::OpenAi): models behind an OpenAI-compatible API |
//! | `agui` | no | [`AgUi`](agent::agui::AgUi): agents that speak AG-UI; [`agui`]: front ends that do |
//! | `testing` | no | [`testing`] and [`agent::testing`], for tests |
//! | `legacy` | no | [`legacy`] |
//! | `core` | no | [`core`], for a driver of your own |
//!
//! Without any feature, the crate is the session layer itself, with [`MemoryLog`](log::MemoryLog). The ready-made
//! gateway is the crate `lockstep-gateway`, which enables what it needs.
//!
//! # Modules
//!
//! | module | content |
//! | --- | --- |
//! | [`manager`] | the owner of a process's connections |
//! | [`verify`] | whose a credential is |
//! | [`agent`] | what answers a message |
//! | [`agui`] | front ends that speak AG-UI |
//! | [`log`] | where streams are kept |
//! | [`cluster`] | several processes that share a log |
//! | [`upgrade`] | from an HTTP request to a WebSocket |
//! | [`transport`] | sockets |
//! | [`wire`] | frames as JSON |
//! | [`payload`] | content that passes through the machines unread |
//! | [`core`] | the concurrent core: which machine steps under which lock, and when its outputs take effect |
//! | [`pool`] | a bounded place for work that computes or blocks |
//! | [`trace`] | a record of every step, for `prove replay` |
//! | [`testing`] | the real machines over an in-memory socket |
//! | [`legacy`] | names of an earlier API, deprecated and counted |
//!
//! The types of [`lockstep_model`] that signatures name are here too, and all of them are in [`model`].
//!
//! Enums that an embedder must match, such as [`log::LogError`], are exhaustive, like those of the machines: a new
//! variant is a breaking release. Structs that this crate fills and an embedder reads are `#[non_exhaustive]`.
//!
//! Counters and histograms go to the recorder of the crate `metrics` that is installed when a [`Manager`] is built.

#![forbid(unsafe_code)]

pub mod agent;
#[cfg(feature = "agui")]
pub mod agui;
pub mod cluster;
#[cfg(feature = "core")]
pub mod core;
// The driver uses a part of it.
#[cfg(not(feature = "core"))]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod core;
mod driver;
pub mod guide;
#[doc(hidden)]
pub mod internal;
#[cfg(feature = "legacy")]
pub mod legacy;
pub mod log;
pub mod manager;
pub mod payload;
pub mod pool;
mod support;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod timers;
pub mod trace;
pub mod transport;
pub mod upgrade;
pub mod verify;
pub mod wire;

pub use lockstep_model as model;
#[doc(no_inline)]
pub use lockstep_model::{
    Bounds, Cause, ConnectionId, CredentialId, FencingToken, Generation, MessageId, Mode, Offset, Refusal, RunId,
    Tenure, UserId, health::Trouble,
};
pub use manager::Manager;
pub use support::BoxFuture;
pub(crate) use support::random::random;

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
