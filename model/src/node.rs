//! Admission and health of one process.
//!
//! ```text
#![doc = include_str!("diagram/node.txt")]
//! ```
//!
//! | mode | new connections | new runs | left when |
//! | --- | --- | --- | --- |
//! | ready | yes | yes | [`Bounds::strikes`] bad probes in a row |
//! | degraded | yes | no | [`Bounds::recovery`] good probes in a row, or [`Bounds::strikes`] critical ones |
//! | emergency | no | no | [`Bounds::recovery`] probes in a row that are not critical |
//! | handing over | yes | no | the hand-over is aborted (ready), or it is time to leave (draining) |
//! | draining | no | no | never: it ends in stopped |
//!
//! [`Measured::health`](crate::health::Measured::health) decides whether a probe is bad or critical: see
//! [`health`](crate::health).
//!
//! No mode drops anything that was accepted: open runs continue, and connections keep reading.
//!
//! # Planned shutdown
//!
//! | state | what happens | it ends when |
//! | --- | --- | --- |
//! | announcing | sessions are told the mode, and those with an open run report it | every session was told |
//! | finishing | no run begins; connections stay; open runs continue | no run is open, or [`Timer::Drain`] expires |
//! | leaving | every client is told to leave and when to come back; open runs are interrupted | no session is left |
//! | stopping | [`Output::Released`] releases the log; sockets close | no socket is left, or [`Timer::Grace`] expires |
//!
//! *All clients leave together.* The log has one writer, so a client that leaves early finds nothing that can serve it
//! until the last run has ended: it waits in the queue of a successor's socket, or is refused by a closed port.
//! Connections therefore stay while any user's run is open. Clients lose only the time between two steps: the leave,
//! and the successor's first step. The [`Successor`] decides what leaving clients are told, whether new connections are
//! admitted meanwhile (with a waiting successor they arrive through the shared socket and are served here), and whether
//! the shutdown can be aborted ([`Input::HandoverAborted`], until clients are told to leave).
//!
//! * **NODE-1** Modes change under these conditions alone. Each change needs several probes in a row and is announced,
//!   and ready can be reached again from every mode but draining. An operator may pin a mode; probes are then ignored
//!   until it is unpinned.
//! * **NODE-2** A draining node admits nothing new. It sends no client away while a run is open and time is left. It
//!   releases the log when no session is left, and stops when no connection is left that closes in time.
//! * **LIVE-4** [`Timer::Drain`] bounds announcing and finishing; [`Timer::Grace`] bounds leaving and stopping. While
//!   the node leaves, the log has as long as a peer has to close ([`Bounds::close`]) to take what is pending. Then
//!   every session is stopped, which ends it whatever the log does. After that, sockets whose peer does not answer the
//!   close are given up.
//! * **LIM-1** At most [`Bounds::node_connections`] connections are open, counted in the step that admits one.

use alloc::vec::Vec;

use crate::bounds::Bounds;
use crate::close::Cause;
use crate::health::Health;
use crate::timer::Timer;
use crate::{Handled, Violation, ensure};

mod io;

pub use self::io::{Input, Output, State};
pub use crate::mode::{Mode, Successor};

/// The state machine of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Node {
    state: State,
    pinned: bool,
    connections: u32,
    sessions: u32,
    busy: u32,
}

impl Node {
    /// Creates a node that does not serve yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::Starting, pinned: false, connections: 0, sessions: 0, busy: 0 }
    }

    /// The current state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether an operator has pinned the mode.
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

    /// Sessions that are known to have an open run. They are counted only while the node is about to leave.
    #[must_use]
    pub const fn busy(&self) -> u32 {
        self.busy
    }

    /// What the node admits. A node that is starting admits as little as one in emergency.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        match self.state {
            State::Ready { .. } => Mode::Ready,
            State::Degraded { .. } => Mode::Degraded,
            State::Starting | State::Emergency { .. } => Mode::Emergency,
            State::Announcing { successor: Successor::Waiting }
            | State::Finishing { successor: Successor::Waiting } => Mode::HandingOver,
            State::Announcing { successor: Successor::Absent }
            | State::Finishing { successor: Successor::Absent }
            | State::Leaving
            | State::Stopping
            | State::Stopped => Mode::Draining,
        }
    }

    /// Takes one input. Total.
    pub fn step(&mut self, bounds: &Bounds, input: Input, out: &mut Vec<Output>) -> Handled {
        let before = self.mode();
        let mut leaves = None;
        match (self.state, input) {
            (_, Input::Accept) => {
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
            (_, Input::Closed) => self.connections = self.connections.saturating_sub(1),
            (_, Input::SessionOpened) => self.sessions += 1,
            (_, Input::SessionRetired) => self.sessions = self.sessions.saturating_sub(1),
            (_, Input::SessionBusy) => self.busy += 1,
            (_, Input::SessionQuiet) => self.busy = self.busy.saturating_sub(1),
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
                match mode {
                    Mode::Ready => self.state = State::Ready { bad: 0 },
                    Mode::Degraded => self.state = State::Degraded { bad: 0, good: 0 },
                    Mode::Emergency => self.state = State::Emergency { good: 0 },
                    Mode::Draining => self.drain(bounds, Successor::Absent, out),
                    // Without a successor there is nothing to hand over to.
                    Mode::HandingOver => return Handled::Ignored,
                }
                self.pinned = mode != Mode::Draining;
            }
            (State::Ready { .. } | State::Degraded { .. } | State::Emergency { .. }, Input::Pin(None)) => {
                self.pinned = false;
            }
            (
                State::Starting | State::Ready { .. } | State::Degraded { .. } | State::Emergency { .. },
                Input::Drain { successor },
            ) => self.drain(bounds, successor, out),

            // The process must end, with or without the successor. Counts and armed timers stay.
            (
                State::Announcing { successor: Successor::Waiting },
                Input::Drain { successor: successor @ Successor::Absent },
            ) => self.state = State::Announcing { successor },
            (
                State::Finishing { successor: Successor::Waiting },
                Input::Drain { successor: successor @ Successor::Absent },
            ) => self.state = State::Finishing { successor },
            (
                State::Announcing { successor: Successor::Waiting }
                | State::Finishing { successor: Successor::Waiting },
                Input::HandoverAborted,
            ) => {
                (self.state, self.pinned) = (State::Ready { bad: 0 }, false);
                out.extend([Output::Disarm(Timer::Drain), Output::Arm(Timer::Probe, bounds.probe)]);
            }
            (State::Announcing { successor }, Input::Announced) => self.state = State::Finishing { successor },
            (State::Announcing { successor } | State::Finishing { successor }, Input::Expired(Timer::Drain)) => {
                leaves = Some(successor);
            }
            (State::Leaving, Input::Expired(Timer::Grace)) => {
                out.extend([Output::Arm(Timer::Grace, bounds.grace), Output::Stop]);
            }
            (State::Stopping, Input::Expired(Timer::Grace)) if self.sessions > 0 => {
                out.extend([Output::Arm(Timer::Grace, bounds.grace), Output::Stop]);
            }
            (State::Stopping, Input::Expired(Timer::Grace)) => {
                self.state = State::Stopped;
                out.push(Output::Stopped);
            }

            (State::Starting, Input::Probed(_) | Input::Pin(_) | Input::Expired(_))
            | (
                State::Ready { .. } | State::Degraded { .. } | State::Emergency { .. },
                Input::Started | Input::Expired(_),
            )
            | (
                State::Starting | State::Ready { .. } | State::Degraded { .. } | State::Emergency { .. },
                Input::Announced | Input::HandoverAborted,
            )
            | (
                State::Announcing { .. } | State::Finishing { .. } | State::Leaving | State::Stopping,
                Input::Started
                | Input::Probed(_)
                | Input::Pin(_)
                | Input::Drain { .. }
                | Input::Announced
                | Input::HandoverAborted
                | Input::Expired(_),
            ) => return Handled::Ignored,
        }
        if let State::Finishing { successor } = self.state
            && self.busy == 0
        {
            leaves = Some(successor);
        }
        if leaves.is_some() {
            self.state = State::Leaving;
            out.extend([Output::Disarm(Timer::Drain), Output::Arm(Timer::Grace, bounds.close)]);
        }
        if self.mode() != before {
            out.push(Output::Announce(self.mode()));
        }
        out.extend(leaves.map(Output::Leave));
        if self.state == State::Leaving && self.sessions == 0 {
            self.state = State::Stopping;
            // The close frames have only just been chosen: their time begins here.
            out.extend([Output::Released, Output::Disarm(Timer::Grace), Output::Arm(Timer::Grace, bounds.grace)]);
        }
        if self.state == State::Stopping && self.connections == 0 && self.sessions == 0 {
            self.state = State::Stopped;
            out.extend([Output::Disarm(Timer::Grace), Output::Stopped]);
        }
        Handled::Done
    }

    /// Checks the invariants of this value.
    ///
    /// # Errors
    ///
    /// The id of the property that the value violates.
    pub fn check(&self, bounds: &Bounds) -> Result<(), Violation> {
        ensure(self.connections <= bounds.node_connections, "LIM-1")?;
        let counts = match self.state {
            State::Starting => self.connections == 0 && self.sessions == 0,
            State::Ready { .. } | State::Degraded { .. } | State::Emergency { .. } => true,
            State::Announcing { .. } | State::Stopped => true,
            State::Finishing { .. } => self.busy > 0,
            State::Leaving => self.sessions > 0,
            State::Stopping => self.connections > 0 || self.sessions > 0,
        };
        ensure(counts, "NODE-2")?;
        let strikes = match self.state {
            State::Ready { bad } => bad < bounds.strikes,
            State::Degraded { bad, good } => bad < bounds.strikes && good < bounds.recovery,
            State::Emergency { good } => good < bounds.recovery,
            State::Starting
            | State::Announcing { .. }
            | State::Finishing { .. }
            | State::Leaving
            | State::Stopping
            | State::Stopped => true,
        };
        ensure(strikes, "NODE-1")
    }

    fn drain(&mut self, bounds: &Bounds, successor: Successor, out: &mut Vec<Output>) {
        self.state = State::Announcing { successor };
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
