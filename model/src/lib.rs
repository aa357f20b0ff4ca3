//! The pure state machines of the Lockstep session layer.
//!
//! Nothing in this crate has a clock, a socket, randomness, a thread or a log. A machine is a value. Its
//! [`step`](Session::step) takes one input, changes the value, and pushes the outputs for the outside world into a
//! buffer that the caller owns and reuses. The same value and the same input always give the same result. A model
//! checker can therefore visit every reachable state of the very types that a gateway runs.
//!
//! | machine | owns |
//! | --- | --- |
//! | [`Auth`] | one connection's credential |
//! | [`Connection`] | one socket, from accept to close |
//! | [`Stream`] | one user's ordered, durable log and the cursors into it |
//! | [`Run`] | one AI request: its events, its tools, its end |
//! | [`Session`] | one user: connections, stream, runs, limits |
//! | [`Node`] | admission and health of one process |
//! | [`Ownership`] | which of many processes may write a user's log |
//! | [`Membership`] | one process among many, and its lease |
//! | [`Gateway`] | a node with its sessions, composed |
//! | [`Client`] | the peer of a gateway: its socket, its position, its unsettled messages |
//!
//! ```
//! use lockstep_model::{auth, VerificationId, Auth, Bounds, CredentialId, Grant, RevocationGeneration, Lifetime, UserId, Verdict};
//! use core::time::Duration;
//!
//! let (mut auth, mut out) = (Auth::new(), Vec::new());
//! auth.step(&Bounds::DEFAULT, auth::Input::Presented, &mut out);
//! assert!(out.contains(&auth::Output::Verify(VerificationId(1))));
//!
//! let grant = Grant { user: UserId(7), credential: CredentialId(1), generation: RevocationGeneration(0) };
//! let lifetime = Lifetime::new(Duration::from_secs(600)).expect("not zero");
//! let verdict = Verdict::Valid { grant, lifetime };
//! auth.step(&Bounds::DEFAULT, auth::Input::Verdict { attempt: VerificationId(1), verdict }, &mut out);
//! assert_eq!(auth.grant(), Some(grant));
//! ```
//!
//! # Rules that every machine follows
//!
//! * `step` is total. A peer, a timer or a transport cannot make it fail. A late verdict, expiry or close is
//!   [`Handled::Ignored`]. Only a command from our own side can be refused, with a [`Refusal`], and a refused command
//!   changes nothing.
//! * Time enters as `Expired(Timer)` and leaves as `Arm(Timer, Duration)`. An armed timer may fire at any moment.
//! * Ids, token lifetimes and jitter are created at the edge and passed in as data.
//! * States, inputs and outputs are exhaustive, because a driver must decide about each of them: a new one is a breaking
//!   release, like a new field of [`Bounds`].
//! * Every queue has a bound in [`Bounds`]. After a step, `check` returns the property that the value violates, if any.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

/// Declares an enum together with `ALL`, the list of its values, which is therefore always complete.
macro_rules! listed {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$doc:meta])* $value:ident,)* }) => {
        $(#[$meta])*
        pub enum $name { $($(#[$doc])* $value,)* }

        impl $name {
            /// Every value, in the order of the declaration.
            pub const ALL: [Self; [$(stringify!($value)),*].len()] = [$(Self::$value),*];
        }
    };
}

pub mod auth;
pub mod bounds;
pub mod breaker;
pub mod client;
pub mod close;
pub mod code;
pub mod connection;
pub mod event;
pub mod fence;
pub mod frame;
pub mod gateway;
pub mod health;
pub mod id;
pub mod login;
pub mod member;
pub mod mode;
pub mod node;
pub mod piece;
pub mod run;
pub mod session;
pub mod stream;
pub mod tenure;
pub mod timer;

pub use auth::{Auth, Grant, Lifetime, Verdict};
pub use bounds::{Bounds, Concurrency};
pub use breaker::Breaker;
pub use client::Client;
pub use close::Cause;
pub use connection::Connection;
pub use fence::{Fence, Scope, Verifications};
pub use frame::{Cancel, Code, Control, Frame, Request, Resume};
pub use gateway::Gateway;
pub use health::{Health, Measured};
pub use id::{
    AcquisitionId, BatchId, ConfirmationId, ConnectionId, CredentialId, Epoch, FencingToken, Generation, Incarnation,
    LookupId, MessageId, Offset, PartId, PauseId, Position, RenewalId, RevocationGeneration, RunId, SocketId, Tenure,
    ThreadId, TokenRequestId, ToolId, UserId, VerificationId,
};
pub use login::Logins;
pub use member::Membership;
pub use node::{Mode, Node, Successor};
pub use piece::Piece;
pub use run::Run;
pub use session::Session;
pub use stream::{Entry, Event, Stream};
pub use tenure::Ownership;
pub use timer::Timer;

/// The result of an input that cannot fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a stale input changes nothing, and the caller may want to know"]
pub enum Handled {
    /// The input applied in this state; the state or the outputs show its effect.
    Done,
    /// The input came too late, or concerned something that no longer exists. Nothing changed and nothing was emitted.
    Ignored,
}

/// Why a command from our own side was refused. The machine did not change and emitted nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Refusal {
    /// The run is not open: it has ended or was never accepted.
    RunEnded,
    /// The event is not allowed here: it precedes `agent_started`, or is a second `agent_started`.
    OutOfOrder,
    /// The tool is already open in this run.
    ToolOpen,
    /// The tool is not open in this run.
    ToolNotOpen,
    /// The run has as many open tools as [`Bounds::tools`] allows.
    TooManyTools,
    /// The run has emitted as many events as [`Bounds::events`] allows; it can only end.
    TooManyEvents,
    /// The log is behind: [`Bounds::pending`] events are not durable yet, or the log has not restored the stream yet.
    /// Try again later.
    Backpressure,
    /// The state has changed since the caller read it, so the operation no longer applies.
    Changed,
    /// The session has retired. There is a newer one, or none.
    Retired,
    /// The id is in use, or the named object does not exist: a bug in the caller.
    Misuse,
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::RunEnded => "the run has ended",
            Self::OutOfOrder => "the event is out of order: `agent_started` must come first, and only once",
            Self::ToolOpen => "the tool is already executing",
            Self::ToolNotOpen => "the tool is not executing",
            Self::TooManyTools => "the run has reached its limit of executing tools",
            Self::TooManyEvents => "the run has reached its limit of events; it can only end",
            Self::Backpressure => "the log is behind; the event was not accepted",
            Self::Changed => "the state changed in the meantime",
            Self::Retired => "the session has retired",
            Self::Misuse => "the id is in use or unknown",
        })
    }
}

impl core::error::Error for Refusal {}

/// The id of a property that a value violates, as `check` reports it. The header of the machine that names it explains
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Violation(pub &'static str);

/// Returns `Ok` if `holds`, and the [`Violation`] of `property` otherwise.
pub(crate) const fn ensure(holds: bool, property: &'static str) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation(property)) }
}
