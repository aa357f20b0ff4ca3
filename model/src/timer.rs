//! The timers that machines arm. A machine has at most one of each kind; arming it again replaces the deadline.
//!
//! A machine has no clock: it emits `Arm(timer, duration)` and later receives `Expired(timer)`. An expiry that the
//! driver could not cancel in time is harmless, because a machine ignores a timer that has no meaning in its state.

use crate::id::{ConnectionId, RunId};

listed! {
    /// The kinds of timers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub enum Timer {
        /// Connection: from accept to `connection_ready`.
        Handshake,
        /// Connection: nothing was received; the first expiry probes, the second closes.
        Idle,
        /// Connection: renews the allowance of requests.
        Allowance,
        /// Connection: how long it may stay after it was told to leave. Node: how long leaving may take, and then
        /// closing.
        Grace,
        /// Connection: how long a peer may take to answer our close.
        Close,
        /// Auth: how long the verifier may take.
        Verification,
        /// Auth: the credential will expire soon.
        Warning,
        /// Auth: the credential expires.
        Credential,
        /// Run: the agent has been silent.
        Silence,
        /// Run: the total time that a run may take.
        Deadline,
        /// Run: how long a paused run waits for a reply.
        Pause,
        /// Session: it has been vacant for this long, and may retire.
        Linger,
        /// Session: the log did not restore the stream, release or confirm its owner in time; ask it again.
        Restore,
        /// Session: the breaker closes again.
        Breaker,
        /// Stream: write a refused batch again.
        Retry,
        /// Session and stream: how long the log may take to answer. After that, it is unknown whether the log carried
        /// out the operation.
        LogAnswer,
        /// Connection of a session: how long the log may take to look something up.
        Lookup,
        /// Connection of a session: how long a reader that defers its position waits for the first request.
        Seek,
        /// Node: measure the node's health again.
        Probe,
        /// Node: how long it waits for open runs before it leaves.
        Drain,
        /// Client: the pause before the next attempt to connect.
        Backoff,
        /// Client: from the first byte to `connection_ready`.
        Connect,
        /// Client: a heartbeat is due; a second expiry without an answer means that the gateway is gone.
        Heartbeat,
        /// Client: a connection that lasts this long resets the pauses.
        Stable,
        /// Client: how long to keep reading from a gateway that goes away.
        Leave,
        /// Client: how long the oldest message may wait for its answer.
        Answer,
    }
}

/// Which machine of a session a timer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Owner {
    /// The session itself, or its stream.
    Session,
    /// One connection, or its credential.
    Connection(ConnectionId),
    /// One run.
    Run(RunId),
}
