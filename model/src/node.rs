//! Admission and health of one process.
//!
//! ```text
#![doc = include_str!("diagram/node.txt")]
//! ```
//!
//! | mode | new connections | new runs | left when |
//! | --- | --- | --- | --- |
//! | ready | yes | yes | [`Bounds::strikes`] bad probes in a row |
//! | degraded | yes | no | as many good ones as [`Bounds::recovery`], or bad ones that are critical |
//! | emergency | no | no | as many probes that are not critical as [`Bounds::recovery`] |
//! | draining | no | no | never: it ends in stopped |
//!
//! What a bad probe is, and a critical one, [`Measured::health`] says: see [`health`](crate::health).
//!
//! In no mode is anything dropped that was accepted: open runs go on, connections go on reading.
//!
//! * **NODE-1** Modes change by these conditions alone, each needs several probes in a row, each change is announced, and
//!   ready can be reached again from every mode but draining. An operator may pin a mode; probes then count for nothing
//!   until it is unpinned.
//! * **NODE-2** A draining node admits nothing new, and has stopped when no connection and no session is left.
//! * **LIVE-4** While it drains, [`Timer::Drain`] is armed; its expiry ends whatever is still open, and arms it again.
//! * **LIM-1** At most [`Bounds::node_connections`] connections, counted in the step that admits one.

use alloc::vec::Vec;
use core::time::Duration;

use crate::bounds::Bounds;
use crate::close::Cause;
use crate::frame::Code;
use crate::health::{Health, Measured};
use crate::timer::Timer;
use crate::{Handled, Violation, ensure};

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
        /// Neither, and those who are here should go.
        Draining,
    }
}

impl Mode {
    /// With which cause a new connection is closed; `None` when it is admitted.
    #[must_use]
    pub const fn refuses_connections(self) -> Option<Cause> {
        match self {
            Self::Ready | Self::Degraded => None,
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
            Self::Draining => Some(Code::Draining),
        }
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
    /// Going.
    Draining,
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
    /// An operator pins a mode, or with `None` lets probes decide again.
    Pin(Option<Mode>),
    /// An operator drains the node.
    Drain,
    /// A timer fired: [`Timer::Probe`] or [`Timer::Drain`].
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
    /// Tell every session.
    Announce(Mode),
    /// The time for draining is over: stop every session.
    Stop,
    /// Nothing is left.
    Stopped,
    /// Set a timer.
    Arm(Timer, Duration),
    /// Call a timer off.
    Disarm(Timer),
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Node {
    state: State,
    pinned: bool,
    connections: u32,
    sessions: u32,
}

impl Node {
    /// A node that does not serve yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::Starting, pinned: false, connections: 0, sessions: 0 }
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether an operator holds the mode.
    #[must_use]
    pub const fn is_pinned(&self) -> bool {
        self.pinned
    }

    /// Admitted connections that are not closed.
    #[must_use]
    pub const fn connections(&self) -> u32 {
        self.connections
    }

    /// Sessions that have not retired.
    #[must_use]
    pub const fn sessions(&self) -> u32 {
        self.sessions
    }

    /// What it admits. A node that is starting admits as little as one in emergency.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        match self.state {
            State::Ready { .. } => Mode::Ready,
            State::Degraded { .. } => Mode::Degraded,
            State::Starting | State::Emergency { .. } => Mode::Emergency,
            State::Draining | State::Stopped => Mode::Draining,
        }
    }

    /// Takes one input. Total.
    pub fn step(&mut self, bounds: &Bounds, input: Input, out: &mut Vec<Output>) -> Handled {
        let before = self.mode();
        match (self.state, input) {
            (
                State::Starting
                | State::Ready { .. }
                | State::Degraded { .. }
                | State::Emergency { .. }
                | State::Draining
                | State::Stopped,
                Input::Accept,
            ) => {
                let refusal = self.mode().refuses_connections();
                let full = (self.connections >= bounds.node_connections).then_some(Cause::Overloaded);
                if let Some(cause) = refusal.or(full) {
                    out.push(Output::Refuse(cause));
                } else {
                    self.connections += 1;
                    out.push(Output::Admit);
                }
                return Handled::Done;
            }
            (State::Stopped, _) => return Handled::Ignored,

            (State::Starting, Input::Started) => {
                self.state = State::Ready { bad: 0 };
                out.push(Output::Arm(Timer::Probe, bounds.probe));
            }
            (State::Ready { .. } | State::Degraded { .. } | State::Emergency { .. }, Input::Expired(Timer::Probe)) => {
                out.extend([Output::Probe, Output::Arm(Timer::Probe, bounds.probe)]);
            }
            (State::Ready { .. } | State::Degraded { .. } | State::Emergency { .. }, Input::Probed(_))
                if self.pinned =>
            {
                return Handled::Ignored;
            }
            (State::Ready { bad }, Input::Probed(measured)) => {
                self.state = judge_ready(bounds, bad, measured.health(bounds));
            }
            (State::Degraded { bad, good }, Input::Probed(measured)) => {
                self.state = judge_degraded(bounds, bad, good, measured.health(bounds));
            }
            (State::Emergency { good }, Input::Probed(measured)) => {
                self.state = judge_emergency(bounds, good, measured.health(bounds));
            }

            (State::Ready { .. } | State::Degraded { .. } | State::Emergency { .. }, Input::Pin(Some(mode))) => {
                self.pinned = mode != Mode::Draining;
                match mode {
                    Mode::Ready => self.state = State::Ready { bad: 0 },
                    Mode::Degraded => self.state = State::Degraded { bad: 0, good: 0 },
                    Mode::Emergency => self.state = State::Emergency { good: 0 },
                    Mode::Draining => self.drain(bounds, out),
                }
            }
            (State::Ready { .. } | State::Degraded { .. } | State::Emergency { .. }, Input::Pin(None)) => {
                self.pinned = false;
            }
            (
                State::Starting | State::Ready { .. } | State::Degraded { .. } | State::Emergency { .. },
                Input::Drain,
            ) => self.drain(bounds, out),
            (State::Draining, Input::Expired(Timer::Drain)) => {
                out.extend([Output::Stop, Output::Arm(Timer::Drain, bounds.drain)]);
            }

            (_, Input::Closed) => self.connections = self.connections.saturating_sub(1),
            (_, Input::SessionOpened) => self.sessions += 1,
            (_, Input::SessionRetired) => self.sessions = self.sessions.saturating_sub(1),

            (State::Starting, Input::Probed(_) | Input::Pin(_) | Input::Expired(_))
            | (
                State::Ready { .. } | State::Degraded { .. } | State::Emergency { .. },
                Input::Started | Input::Expired(_),
            )
            | (State::Draining, Input::Started | Input::Probed(_) | Input::Pin(_) | Input::Drain | Input::Expired(_)) =>
            {
                return Handled::Ignored;
            }
        }
        if self.mode() != before {
            out.push(Output::Announce(self.mode()));
        }
        if self.state == State::Draining && self.connections == 0 && self.sessions == 0 {
            self.state = State::Stopped;
            out.extend([Output::Disarm(Timer::Drain), Output::Stopped]);
        }
        Handled::Done
    }

    /// Which property this value breaks, if any.
    ///
    /// # Errors
    ///
    /// The id of the property.
    pub fn check(&self, bounds: &Bounds) -> Result<(), Violation> {
        ensure(self.connections <= bounds.node_connections, "LIM-1")?;
        let counts = match self.state {
            State::Starting | State::Stopped => self.connections == 0 && self.sessions == 0,
            State::Ready { .. } | State::Degraded { .. } | State::Emergency { .. } => true,
            State::Draining => self.connections > 0 || self.sessions > 0,
        };
        ensure(counts, "NODE-2")?;
        let strikes = match self.state {
            State::Ready { bad } => bad < bounds.strikes,
            State::Degraded { bad, good } => bad < bounds.strikes && good < bounds.recovery,
            State::Emergency { good } => good < bounds.recovery,
            State::Starting | State::Draining | State::Stopped => true,
        };
        ensure(strikes, "NODE-1")
    }

    fn drain(&mut self, bounds: &Bounds, out: &mut Vec<Output>) {
        self.state = State::Draining;
        out.extend([Output::Disarm(Timer::Probe), Output::Arm(Timer::Drain, bounds.drain)]);
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

const fn judge_ready(bounds: &Bounds, bad: u8, health: Health) -> State {
    match health {
        Health::Good => State::Ready { bad: 0 },
        Health::Poor | Health::Critical if bad + 1 >= bounds.strikes => State::Degraded { bad: 0, good: 0 },
        Health::Poor | Health::Critical => State::Ready { bad: bad + 1 },
    }
}

const fn judge_degraded(bounds: &Bounds, bad: u8, good: u8, health: Health) -> State {
    match health {
        Health::Good if good + 1 >= bounds.recovery => State::Ready { bad: 0 },
        Health::Good => State::Degraded { bad: 0, good: good + 1 },
        Health::Poor => State::Degraded { bad: 0, good: 0 },
        Health::Critical if bad + 1 >= bounds.strikes => State::Emergency { good: 0 },
        Health::Critical => State::Degraded { bad: bad + 1, good: 0 },
    }
}

const fn judge_emergency(bounds: &Bounds, good: u8, health: Health) -> State {
    match health {
        Health::Critical => State::Emergency { good: 0 },
        Health::Good | Health::Poor if good + 1 >= bounds.recovery => State::Degraded { bad: 0, good: 0 },
        Health::Good | Health::Poor => State::Emergency { good: good + 1 },
    }
}
