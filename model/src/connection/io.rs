//! What a connection is made of, what happens to it and what it orders.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::auth::{Grant, Verdict};
use crate::close::Cause;
use crate::frame::{Control, Request, Resume};
use crate::id::Attempt;
use crate::node::Successor;
use crate::timer::Timer;

/// Where the connection is in its life. Each state carries what is valid in it, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State<P> {
    /// Accepted; the upgrade is not complete.
    Opening,
    /// The socket is open; no verified credential yet.
    Authenticating {
        /// What arrived too early, in order.
        early: VecDeque<Request<P>>,
        /// What the first credential came with.
        resume: Resume,
    },
    /// The credential is valid; the stream is not yet there to be read.
    Attaching {
        /// What arrived too early, in order.
        early: VecDeque<Request<P>>,
        /// Where to begin reading.
        resume: Resume,
    },
    /// `connection_ready` was said.
    Live {
        /// Whether a first idle expiry has asked for a sign of life.
        probing: bool,
        /// Requests left in this allowance.
        allowance: u16,
    },
    /// `going_away` was said; the stream is still delivered, no new run begins.
    Draining,
    /// The cause is chosen; the close frame leaves next, and nothing after it.
    Closing {
        /// The cause.
        cause: Cause,
        /// Whether the close frame was pulled.
        told: bool,
    },
    /// Over. Final.
    Closed {
        /// The cause.
        cause: Cause,
    },
}

/// What happens to a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input<P> {
    /// The upgrade is complete.
    Opened,
    /// The peer sent this.
    Received(Request<P>),
    /// The verifier answered.
    Verdict {
        /// Which attempt.
        attempt: Attempt,
        /// What it found.
        verdict: Verdict,
    },
    /// The stream is there: go live.
    Ready {
        /// The `connection_ready` to say.
        ready: Control<P>,
        /// The `stream_reset` that comes with it, if the place asked for is gone.
        reset: Option<Control<P>>,
    },
    /// Tell the peer something: a reply, or what has changed.
    Tell(Control<P>),
    /// The embedding service has something for this connection alone. Ignored unless it is live and has room: nobody
    /// is closed for not reading what they did not ask for.
    Notify(P),
    /// The credential was revoked.
    Revoked,
    /// Say `going_away`, and close after the grace.
    Drain {
        /// What is there to come back to.
        successor: Successor,
    },
    /// Close for this cause.
    Close(Cause),
    /// The socket is gone: the peer's close, the end of our closing handshake, or a failure of the transport.
    Gone(Cause),
    /// A timer fired.
    Expired(Timer),
}

/// What must be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output<P> {
    /// Ask the verifier about this credential.
    Verify {
        /// To be quoted with the verdict.
        attempt: Attempt,
        /// The credential.
        token: P,
    },
    /// Set a timer.
    Arm(Timer, Duration),
    /// Call a timer off.
    Disarm(Timer),
    /// The credential is valid: take this connection to its user's session.
    Attach(Grant),
    /// Handle this request now; they come in the order of arrival (CONN-2).
    Handle(Request<P>),
    /// There is something to pull.
    Wake,
    /// The cause is chosen: no place is taken any more.
    Closing(Cause),
    /// The socket can be dropped. Emitted exactly once (CONN-1).
    Closed(Cause),
}
