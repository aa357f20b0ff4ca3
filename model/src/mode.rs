//! What a node admits, and what clients find when it leaves.

use crate::close::Cause;
use crate::code::Code;

listed! {
    /// What the node admits, as it tells sessions and clients.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    #[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
    pub enum Mode {
        /// Everything.
        Ready,
        /// Connections, but no new runs.
        Degraded,
        /// Neither.
        Emergency,
        /// Connections, but no new runs: a successor waits until the open runs have ended.
        HandingOver,
        /// Neither: the process is about to end.
        Draining,
    }
}

impl Mode {
    /// The cause with which a new connection is closed; `None` if it is admitted.
    #[must_use]
    pub const fn refuses_connections(self) -> Option<Cause> {
        match self {
            Self::Ready | Self::Degraded | Self::HandingOver => None,
            Self::Emergency => Some(Cause::Overloaded),
            Self::Draining => Some(Cause::GoingAway),
        }
    }

    /// The code with which a new message is refused; `None` if it is accepted.
    #[must_use]
    pub const fn refuses_runs(self) -> Option<Code> {
        match self {
            Self::Ready => None,
            Self::Degraded | Self::Emergency => Some(Code::Degraded),
            Self::HandingOver | Self::Draining => Some(Code::Draining),
        }
    }

    /// Whether the node is about to leave and waits for open runs.
    #[must_use]
    pub const fn awaits_runs(self) -> bool {
        match self {
            Self::Ready | Self::Degraded | Self::Emergency => false,
            Self::HandingOver | Self::Draining => true,
        }
    }
}

listed! {
    /// What awaits the clients of a node that leaves.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub enum Successor {
        /// Nothing listens here until this process has ended and another has started.
        Absent,
        /// Another process holds the listening socket too, and serves once this one has released the log.
        Waiting,
    }
}
