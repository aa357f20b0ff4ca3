//! The states, inputs and outputs of a connection.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::auth::{Grant, Verdict};
use crate::close::Cause;
use crate::frame::{Control, Request, Resume};
use crate::id::{Incarnation, VerificationId};
use crate::node::Successor;
use crate::timer::Timer;

/// The states of a connection. Each state carries the data that is valid in it, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State<P> {
    /// Accepted; the upgrade is not complete.
    Opening,
    /// The socket is open; no credential is verified yet.
    Authenticating {
        /// Requests that arrived early, in order.
        early: VecDeque<Request<P>>,
        /// The resume request that came with the first credential.
        resume: Resume,
    },
    /// The credential is valid; the stream cannot be read yet.
    Attaching {
        /// Requests that arrived early, in order.
        early: VecDeque<Request<P>>,
        /// Where to start reading.
        resume: Resume,
    },
    /// `connection_ready` was queued.
    Live {
        /// Whether the peer was heard since the last probe.
        liveness: Liveness,
        /// Requests left in the current allowance.
        allowance: u16,
    },
    /// `going_away` was queued; the stream is still delivered, and no new run begins.
    Draining,
    /// Another process owns the user and serves the connection: bytes pass through this one, in both directions.
    Relayed {
        /// The owner's process.
        owner: Incarnation,
        /// How far the relay is.
        relay: Relay,
    },
    /// The cause is chosen. The close frame leaves next, and nothing after it.
    Closing {
        /// The cause.
        cause: Cause,
        /// Whether the close frame was pulled.
        frame: CloseFrame,
    },
    /// The connection is closed. Final.
    Closed {
        /// The cause.
        cause: Cause,
    },
}

/// How far a relay to the user's owner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Relay {
    /// The owner has not accepted the connection yet.
    Opening,
    /// Frames pass.
    Open {
        /// What is known of the client.
        client: Liveness,
        /// What is known of the owner's process.
        owner: Liveness,
    },
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Origin {
    /// A client.
    Client,
    /// Another process, which relays a client's connection to its user's owner (OWN-6).
    Member,
}

/// What is known of a live connection's peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Liveness {
    /// It was heard since the last probe, or none was sent.
    Heard,
    /// It was probed when it was idle, and has not been heard since.
    Probed,
}

/// The close frame of a closing connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum CloseFrame {
    /// It leaves next.
    Queued,
    /// It was pulled.
    Sent,
}

/// The inputs of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input<P> {
    /// The upgrade is complete: a client has connected.
    Opened,
    /// The upgrade is complete: another process relays a client's connection.
    OpenedByMember,
    /// The peer sent this request.
    Received(Request<P>),
    /// The verifier answered.
    Verdict {
        /// The attempt.
        attempt: VerificationId,
        /// The verifier's result.
        verdict: Verdict,
    },
    /// The stream can be read: go live.
    Ready {
        /// The `connection_ready` to send.
        ready: Control<P>,
        /// The `stream_reset` that follows it, if the requested position is gone.
        reset: Option<Control<P>>,
    },
    /// Send the peer a control frame: a reply, or a change of state.
    Tell(Control<P>),
    /// The embedding service has a notice for this connection alone. Ignored unless the connection is live or draining
    /// and has room: a peer that does not read a frame that it did not request is not closed for that.
    Notify(P),
    /// Another process owns the connection's user.
    Relay {
        /// The owner's process.
        owner: Incarnation,
    },
    /// The owner's process has accepted the relayed connection.
    RelayOpened,
    /// Something has arrived from the owner's process.
    RelayHeard,
    /// The credential was revoked.
    Revoked,
    /// Send `going_away`, and close after the time for leaving.
    Drain {
        /// What awaits a client that comes back.
        successor: Successor,
    },
    /// Close with this cause.
    Close(Cause),
    /// The socket is gone: the peer closed it, our closing handshake ended, or the transport failed.
    Gone(Cause),
    /// A timer fired.
    Expired(Timer),
}

/// The outputs of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output<P> {
    /// Ask the verifier about this credential.
    Verify {
        /// The attempt, which the verdict must carry.
        attempt: VerificationId,
        /// The credential.
        token: P,
    },
    /// Set a timer.
    Arm(Timer, Duration),
    /// Cancel a timer.
    Disarm(Timer),
    /// The credential is valid: move this connection to its user's session.
    Attach(Grant),
    /// Pass the connection on to its user's owner, from its first frame on.
    Relay {
        /// The owner's process.
        owner: Incarnation,
    },
    /// Handle this request now. Requests are emitted in order of arrival (CONN-2).
    Handle(Request<P>),
    /// There is something to pull.
    Wake,
    /// The cause is chosen: the connection no longer takes a place in its session.
    Closing(Cause),
    /// The socket can be dropped. Emitted exactly once (CONN-1).
    Closed(Cause),
}

impl<P> Request<P> {
    /// Whether the request counts against the allowance: every request that needs an answer does.
    pub(super) const fn is_counted(&self) -> bool {
        match self {
            Self::Message { .. }
            | Self::Cancel { .. }
            | Self::Reply { .. }
            | Self::Seek { .. }
            | Self::Delete { .. }
            | Self::Query { .. }
            | Self::Invalid { .. }
            | Self::Ping => true,
            Self::Auth { .. } | Self::Pong | Self::Violation(_) => false,
        }
    }
}
