//! The timers that machines arm. A machine has at most one of each kind; arming again replaces the deadline.
//!
//! A machine has no clock: it orders `Arm(timer, duration)` and later hears `Expired(timer)`. An expiry that the
//! driver could not call back in time is harmless, for a machine ignores a timer that means nothing in its state.

use crate::id::{ConnectionId, RunId};

listed! {
    /// What a deadline is for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub enum Timer {
        /// Connection: from accept to `connection_ready`.
        Handshake,
        /// Connection: nothing was heard; the first expiry probes, the second closes.
        Idle,
        /// Connection: a new allowance of requests.
        Allowance,
        /// Connection: how long one that was told to go may stay. Node: how long leaving may take, and then closing.
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
        /// Run: it has had all the time that a run may take.
        Deadline,
        /// Session: nobody is here; it may retire.
        Linger,
        /// Session: the log could not restore the stream, or did not in time; ask it again.
        Restore,
        /// Session: the breaker closes again.
        Breaker,
        /// Stream: write again what the log refused.
        Retry,
        /// Session and stream: how long the log may take to answer. What it has not answered then, it may or may not have done.
        LogAnswer,
        /// Connection of a session: how long the log may take to look something up.
        Lookup,
        /// Node: look at the node's health again.
        Probe,
        /// Node: how long it waits for open runs before it leaves.
        Drain,
        /// Client: the pause before the next attempt to connect.
        Backoff,
        /// Client: from the first byte to `connection_ready`.
        Connect,
        /// Client: time for a heartbeat; a second expiry without an answer means that the gateway is gone.
        Heartbeat,
        /// Client: a connection that lasts for so long is worth starting over with short pauses.
        Stable,
        /// Client: how long a gateway that goes away is still read.
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
