//! The modes, states, inputs and outputs of a node.

use core::time::Duration;

use crate::close::Cause;
use crate::health::Measured;
use crate::mode::{Mode, Successor};
use crate::timer::Timer;

/// The states of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// Not serving yet.
    Starting,
    /// Serving everything.
    Ready {
        /// Bad probes in a row.
        bad: u8,
    },
    /// Serving readers, but no new runs.
    Degraded {
        /// Critical probes in a row.
        bad: u8,
        /// Good probes in a row.
        good: u8,
    },
    /// Serving existing connections only.
    Emergency {
        /// Probes in a row that were not critical.
        good: u8,
    },
    /// The mode is being announced to the sessions; it is not known yet which of them have an open run.
    Announcing {
        /// What awaits the clients.
        successor: Successor,
    },
    /// Open runs continue to their ends.
    Finishing {
        /// What awaits the clients.
        successor: Successor,
    },
    /// Every client was told to leave.
    Leaving,
    /// No session is left; sockets are closing.
    Stopping,
    /// Stopped. Final.
    Stopped,
}

/// The inputs of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input {
    /// Everything that the node needs is ready: the log is open, the keys are loaded, the socket listens.
    Started,
    /// The result of a probe.
    Probed(Measured),
    /// A connection asks to be admitted. The answer is [`Output::Admit`] or [`Output::Refuse`].
    Accept,
    /// An admitted connection is closed.
    Closed,
    /// A session was opened.
    SessionOpened,
    /// A session has retired.
    SessionRetired,
    /// A session has an open run. It was told that the node is about to leave.
    SessionBusy,
    /// The runs of such a session have ended, and their ends are durable.
    SessionQuiet,
    /// Every session was told the mode that was announced last.
    Announced,
    /// An operator pins a mode or, with `None`, lets probes decide again.
    Pin(Option<Mode>),
    /// The process must end.
    Drain {
        /// What awaits the clients.
        successor: Successor,
    },
    /// The successor is gone or cannot start: continue as before.
    HandoverAborted,
    /// A timer fired: [`Timer::Probe`], [`Timer::Drain`] or [`Timer::Grace`].
    Expired(Timer),
}

/// The outputs of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output {
    /// Measure, and answer with [`Input::Probed`].
    Probe,
    /// Admit the connection.
    Admit,
    /// Refuse the connection.
    Refuse(Cause),
    /// Tell every session, and answer with [`Input::Announced`].
    Announce(Mode),
    /// Make every session end its open runs and tell its clients to leave.
    Leave(Successor),
    /// The time to leave is over: stop every session.
    Stop,
    /// No session is left: the log may be closed and handed to another process.
    Released,
    /// The process may end.
    Stopped,
    /// Set a timer.
    Arm(Timer, Duration),
    /// Cancel a timer.
    Disarm(Timer),
}
