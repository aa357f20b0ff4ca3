//! What a node admits, and what it takes and orders.

use core::time::Duration;

use crate::close::Cause;
use crate::frame::Code;
use crate::health::Measured;
use crate::timer::Timer;

listed! {
    /// What the node admits, as sessions and clients are told.
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
        /// Connections, but no new runs: a successor waits for the open ones to end.
        HandingOver,
        /// Neither: the process is about to end.
        Draining,
    }
}

impl Mode {
    /// With which cause a new connection is closed; `None` when it is admitted.
    #[must_use]
    pub const fn refuses_connections(self) -> Option<Cause> {
        match self {
            Self::Ready | Self::Degraded | Self::HandingOver => None,
            Self::Emergency => Some(Cause::Overloaded),
            Self::Draining => Some(Cause::GoingAway),
        }
    }

    /// With which code a new message is refused; `None` when it is accepted.
    #[must_use]
    pub const fn refuses_runs(self) -> Option<Code> {
        match self {
            Self::Ready => None,
            Self::Degraded | Self::Emergency => Some(Code::Degraded),
            Self::HandingOver | Self::Draining => Some(Code::Draining),
        }
    }

    /// Whether the node is about to leave, and waits for open runs.
    #[must_use]
    pub const fn awaits_runs(self) -> bool {
        match self {
            Self::Ready | Self::Degraded | Self::Emergency => false,
            Self::HandingOver | Self::Draining => true,
        }
    }
}

listed! {
    /// What is there for the clients of a node that leaves.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub enum Successor {
        /// Nothing listens here until this process has ended and another one has started.
        Absent,
        /// Another process holds the listening socket too, and serves as soon as this one has released the log.
        Waiting,
    }
}

/// Where the node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// Not serving yet.
    Starting,
    /// Serving all.
    Ready {
        /// Bad probes in a row.
        bad: u8,
    },
    /// Serving those who read.
    Degraded {
        /// Critical probes in a row.
        bad: u8,
        /// Good probes in a row.
        good: u8,
    },
    /// Serving those who are here.
    Emergency {
        /// Probes in a row that were not critical.
        good: u8,
    },
    /// The mode is on its way to the sessions: which of them have an open run is not known yet.
    Announcing {
        /// What is there for clients.
        successor: Successor,
    },
    /// Open runs go on to their ends.
    Finishing {
        /// What is there for clients.
        successor: Successor,
    },
    /// Every client was told to go.
    Leaving,
    /// No session is left; sockets are closing.
    Stopping,
    /// Gone. Final.
    Stopped,
}

/// What happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input {
    /// What it needs is there: the log is open, the keys are loaded, the socket listens.
    Started,
    /// What a probe measured.
    Probed(Measured),
    /// A connection asks to be admitted. The answer is [`Output::Admit`] or [`Output::Refuse`].
    Accept,
    /// An admitted connection is closed.
    Closed,
    /// A session was opened.
    SessionOpened,
    /// A session has retired.
    SessionRetired,
    /// A session that knows that the node is about to leave has an open run.
    SessionBusy,
    /// The runs of such a session have ended, and their ends are durable.
    SessionQuiet,
    /// Every session has been told the mode that was announced last.
    Announced,
    /// An operator pins a mode, or with `None` lets probes decide again.
    Pin(Option<Mode>),
    /// The process is to end.
    Drain {
        /// What is there for clients.
        successor: Successor,
    },
    /// The successor is gone, or cannot start: go on as before.
    HandoverAborted,
    /// A timer fired: [`Timer::Probe`], [`Timer::Drain`] or [`Timer::Grace`].
    Expired(Timer),
}

/// What must be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output {
    /// Measure, and answer with [`Input::Probed`].
    Probe,
    /// The connection may open.
    Admit,
    /// The connection may not open.
    Refuse(Cause),
    /// Tell every session, and answer with [`Input::Announced`].
    Announce(Mode),
    /// Every session is to end what is open, and tell its clients to go.
    Leave(Successor),
    /// The time for leaving is over: stop every session.
    Stop,
    /// No session is left: the log may be closed and given to another process.
    Released,
    /// The process may end.
    Stopped,
    /// Set a timer.
    Arm(Timer, Duration),
    /// Call a timer off.
    Disarm(Timer),
}
