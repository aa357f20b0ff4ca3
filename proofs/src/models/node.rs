//! One process ([`lockstep_model::node`]), alone.
//!
//! Explores every input in every state: probes of any result, accepted and closed connections, closes that come twice,
//! sessions, pins, drains with and without a successor, aborted hand-overs, sessions whose runs begin to count and end,
//! any timer. A session opens only where a connection is admitted, because nothing else opens one. The number of open
//! sessions is bounded, because the machine only counts them.
//!
//! The oracle keeps the last few probes since the mode was entered or pinned, and evaluates the conditions of the
//! header on that list. It has no counters.

mod chart;

use core::time::Duration;

use lockstep_model::health::{Health, Measured, Probe, Reach};
use lockstep_model::node::{Input, Mode, Node, Output, State as Stage, Successor};
use lockstep_model::{Bounds, Cause, Handled, Timer};
use stateright::{Model, Property};

use crate::engine::profile::Profile;
use crate::engine::proof::{Promise, Proof};
use crate::models::harness::{Armed, checked, deadline, small, survives};

/// The model.
#[derive(Clone, Debug)]
pub struct Process {
    bounds: Bounds,
    sessions: u32,
}

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Process {
    let (sessions, connections, strikes, recovery) = match profile {
        Profile::Quick => (2, 2, 3, 2),
        Profile::Ci => (4, 4, 5, 4),
        Profile::Deep => (20, 20, 6, 7),
    };
    let bounds = Bounds { node_connections: connections, strikes, recovery, ..small() };
    assert_ne!(strikes, recovery, "or one could stand in for the other");
    Process { bounds, sessions }
}

/// The expected mode and stage of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Starting,
    Serving(Mode),
    Announcing(Successor),
    Finishing(Successor),
    Leaving,
    Stopping,
    Stopped,
}

/// A node and its oracle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    node: Node,
    place: Place,
    pinned: bool,
    /// Probes since the mode was entered or pinned, the newest last, at most as many as a decision can need.
    probes: Vec<u8>,
    connections: u32,
    sessions: u32,
    busy: u32,
    armed: Armed,
    broken: Option<&'static str>,
}

/// Every dimension of a process's health, with measurements at the edge of good, poor and critical, and the expected
/// result: the table in the header of [`lockstep_model::health`].
fn measurements(bounds: &Bounds) -> [(Measured, Health); 14] {
    let (second, well) = (Duration::from_secs(1), Measured::WELL);
    let files = |left: u64| Measured { file_limit: 100, files: 100 - left, ..well };
    [
        (well, Health::Good),
        (Measured { log: Probe::Answered(bounds.slow_log), waiting: bounds.slow_log, ..well }, Health::Good),
        (Measured { verifier: Reach::OutOfReach, ..well }, Health::Good),
        (Measured { memory: bounds.memory * 7 / 8 - 1, ..well }, Health::Good),
        (files(bounds.spare_files), Health::Good),
        (Measured { log: Probe::Refused, ..well }, Health::Poor),
        (Measured { log: Probe::Unanswered, ..well }, Health::Poor),
        (Measured { log: Probe::Answered(bounds.slow_log + second), ..well }, Health::Poor),
        (Measured { waiting: bounds.slow_log + second, ..well }, Health::Poor),
        (Measured { waiting: bounds.log_answer, ..well }, Health::Poor),
        (Measured { memory: bounds.memory * 7 / 8, ..well }, Health::Poor),
        (Measured { waiting: bounds.log_answer + second, log: Probe::Refused, ..well }, Health::Critical),
        (Measured { memory: bounds.memory, ..well }, Health::Critical),
        (files(bounds.spare_files - 1), Health::Critical),
    ]
}

/// Returns the expected health for a measurement.
fn meant(bounds: &Bounds, measured: Measured) -> Health {
    let known = measurements(bounds).into_iter().find(|(known, _)| *known == measured);
    known.map_or_else(|| unreachable!("{measured:?} is not measured here"), |(_, health)| health)
}

const GOOD: u8 = 0;
const POOR: u8 = 1;
const CRITICAL: u8 = 2;

checked![Process, State; "NODE-1", "NODE-2", "LIM-1"];

impl State {
    /// Whether the last `count` probes were all as `wanted`.
    fn streak(&self, count: u8, wanted: impl Fn(u8) -> bool) -> bool {
        let count = usize::from(count);
        self.probes.len() >= count && self.probes.iter().rev().take(count).all(|probe| wanted(*probe))
    }

    fn probed(&mut self, bounds: &Bounds, mode: Mode, health: Health) {
        self.probes.push(match health {
            Health::Good => GOOD,
            Health::Poor => POOR,
            Health::Critical => CRITICAL,
        });
        let next = match mode {
            Mode::Ready if self.streak(bounds.strikes, |probe| probe != GOOD) => Some(Mode::Degraded),
            Mode::Degraded if self.streak(bounds.recovery, |probe| probe == GOOD) => Some(Mode::Ready),
            Mode::Degraded if self.streak(bounds.strikes, |probe| probe == CRITICAL) => Some(Mode::Emergency),
            Mode::Emergency if self.streak(bounds.recovery, |probe| probe != CRITICAL) => Some(Mode::Degraded),
            Mode::Ready | Mode::Degraded | Mode::Emergency | Mode::HandingOver | Mode::Draining => None,
        };
        if let Some(next) = next {
            self.place = Place::Serving(next);
            self.probes.clear();
        }
        let kept = usize::from(bounds.strikes.max(bounds.recovery)) - 1;
        let surplus = self.probes.len().saturating_sub(kept);
        self.probes.drain(..surplus);
    }

    /// Returns the required outputs for an input; `None` if the input must be ignored.
    fn outputs(&mut self, bounds: &Bounds, input: Input) -> Option<Vec<Output>> {
        let probe = Output::Arm(Timer::Probe, bounds.probe);
        let drain = Output::Arm(Timer::Drain, bounds.drain);
        let grace = Output::Arm(Timer::Grace, bounds.grace);
        let mut outputs = Vec::new();
        let mode = self.mode();
        let mut left = None;
        match (input, self.place) {
            (Input::Accept, place) => {
                let refusal = match place {
                    Place::Leaving | Place::Stopping | Place::Stopped => Some(Cause::GoingAway),
                    Place::Announcing(Successor::Absent) | Place::Finishing(Successor::Absent) => {
                        Some(Cause::GoingAway)
                    }
                    Place::Starting | Place::Serving(Mode::Emergency) => Some(Cause::Overloaded),
                    _ if self.connections == bounds.node_connections => Some(Cause::Overloaded),
                    Place::Serving(_)
                    | Place::Announcing(Successor::Waiting)
                    | Place::Finishing(Successor::Waiting) => None,
                };
                self.connections += u32::from(refusal.is_none());
                return Some(vec![refusal.map_or(Output::Admit, Output::Refuse)]);
            }
            (Input::Closed, _) => self.connections = self.connections.saturating_sub(1),
            (Input::SessionOpened, _) => self.sessions += 1,
            (Input::SessionRetired, _) => self.sessions = self.sessions.saturating_sub(1),
            (Input::SessionBusy, _) => self.busy += 1,
            (Input::SessionQuiet, _) => self.busy = self.busy.saturating_sub(1),
            (Input::Started, Place::Starting) => {
                self.place = Place::Serving(Mode::Ready);
                outputs.push(probe);
            }
            (Input::Probed(measured), Place::Serving(mode)) if !self.pinned => {
                self.probed(bounds, mode, meant(bounds, measured));
            }
            (Input::Pin(None), Place::Serving(_)) => self.pinned = false,
            (Input::Drain { .. }, Place::Starting | Place::Serving(_))
            | (Input::Pin(Some(Mode::Draining)), Place::Serving(_)) => {
                let successor = if let Input::Drain { successor } = input {
                    successor
                } else {
                    self.pinned = false;
                    Successor::Absent
                };
                self.place = Place::Announcing(successor);
                self.probes.clear();
                outputs.extend([Output::Disarm(Timer::Probe), drain]);
            }
            (Input::Pin(Some(mode)), Place::Serving(_)) if mode != Mode::HandingOver => {
                (self.place, self.pinned) = (Place::Serving(mode), true);
                self.probes.clear();
            }
            (Input::Drain { successor: Successor::Absent }, Place::Announcing(Successor::Waiting)) => {
                self.place = Place::Announcing(Successor::Absent);
            }
            (Input::Drain { successor: Successor::Absent }, Place::Finishing(Successor::Waiting)) => {
                self.place = Place::Finishing(Successor::Absent);
            }
            (Input::HandoverAborted, Place::Announcing(Successor::Waiting) | Place::Finishing(Successor::Waiting)) => {
                (self.place, self.pinned) = (Place::Serving(Mode::Ready), false);
                outputs.extend([Output::Disarm(Timer::Drain), probe]);
            }
            (Input::Announced, Place::Announcing(successor)) => self.place = Place::Finishing(successor),
            (Input::Expired(Timer::Probe), Place::Serving(_)) => outputs.extend([Output::Probe, probe]),
            (Input::Expired(Timer::Drain), Place::Announcing(successor) | Place::Finishing(successor)) => {
                left = Some(successor);
            }
            (Input::Expired(Timer::Grace), Place::Stopping) if self.sessions == 0 => {
                self.place = Place::Stopped;
                return Some(vec![Output::Stopped]);
            }
            (Input::Expired(Timer::Grace), Place::Leaving | Place::Stopping) => outputs.extend([grace, Output::Stop]),
            _ => return None,
        }
        if let Place::Finishing(successor) = self.place
            && self.busy == 0
        {
            left = Some(successor);
        }
        if left.is_some() {
            self.place = Place::Leaving;
            outputs.extend([Output::Disarm(Timer::Drain), Output::Arm(Timer::Grace, bounds.close)]);
        }
        if self.mode() != mode {
            outputs.push(Output::Announce(self.mode()));
        }
        outputs.extend(left.map(Output::Leave));
        if self.place == Place::Leaving && self.sessions == 0 {
            self.place = Place::Stopping;
            outputs.extend([Output::Released, Output::Disarm(Timer::Grace), grace]);
        }
        if self.place == Place::Stopping && self.connections + self.sessions == 0 {
            self.place = Place::Stopped;
            outputs.extend([Output::Disarm(Timer::Grace), Output::Stopped]);
        }
        Some(outputs)
    }

    fn mode(&self) -> Mode {
        match self.place {
            Place::Starting => Mode::Emergency,
            Place::Serving(mode) => mode,
            Place::Announcing(Successor::Waiting) | Place::Finishing(Successor::Waiting) => Mode::HandingOver,
            Place::Announcing(Successor::Absent)
            | Place::Finishing(Successor::Absent)
            | Place::Leaving
            | Place::Stopping
            | Place::Stopped => Mode::Draining,
        }
    }

    /// Whether the node is on its way to its end.
    const fn is_going(&self) -> bool {
        match self.place {
            Place::Starting | Place::Serving(_) => false,
            Place::Announcing(_) | Place::Finishing(_) | Place::Leaving | Place::Stopping | Place::Stopped => true,
        }
    }

    fn feed(&mut self, bounds: &Bounds, input: Input) -> Handled {
        let before = self.node.clone();
        if let Input::Expired(timer) = input {
            self.armed.disarm(timer);
        }
        let expected = self.outputs(bounds, input);
        let mut out = Vec::new();
        let handled = self.node.step(bounds, input, &mut out);
        for output in &out {
            match output {
                Output::Arm(timer, after) => {
                    self.armed.arm(*timer);
                    // The times for its clients and its log are compared with the required outputs below.
                    let leaving = *timer == Timer::Grace && *after == bounds.close;
                    self.expect(leaving || deadline(bounds, *timer) == Some(*after), "NODE-1");
                }
                Output::Disarm(timer) => self.armed.disarm(*timer),
                Output::Probe
                | Output::Admit
                | Output::Refuse(_)
                | Output::Announce(_)
                | Output::Leave(_)
                | Output::Stop
                | Output::Released
                | Output::Stopped => {}
            }
        }
        let going = self.is_going();
        let property = if going { "NODE-2" } else { "NODE-1" };
        match expected {
            None => {
                let quiet = handled == Handled::Ignored && out.is_empty() && self.node == before;
                self.expect(quiet, property);
            }
            Some(outputs) => {
                let full = self.connections == bounds.node_connections && input == Input::Accept;
                self.expect(out == outputs, if full { "LIM-1" } else { property });
                self.expect(handled == Handled::Done, property);
            }
        }
        self.check(bounds);
        handled
    }

    fn check(&mut self, bounds: &Bounds) {
        if let Err(violation) = self.node.check(bounds) {
            self.violated(violation.0);
        }
        let counts = self.node.connections() == self.connections && self.node.sessions() == self.sessions;
        self.expect(self.node.busy() == self.busy, "NODE-2");
        self.expect(counts && self.connections <= bounds.node_connections, "LIM-1");
        let place = match self.node.state() {
            Stage::Starting => Place::Starting,
            Stage::Ready { .. } => Place::Serving(Mode::Ready),
            Stage::Degraded { .. } => Place::Serving(Mode::Degraded),
            Stage::Emergency { .. } => Place::Serving(Mode::Emergency),
            Stage::Announcing { successor } => Place::Announcing(successor),
            Stage::Finishing { successor } => Place::Finishing(successor),
            Stage::Leaving => Place::Leaving,
            Stage::Stopping => Place::Stopping,
            Stage::Stopped => Place::Stopped,
        };
        let serving = matches!(self.place, Place::Serving(_));
        self.expect(place == self.place && self.node.mode() == self.mode(), "NODE-1");
        self.expect(!serving || self.node.is_pinned() == self.pinned, "NODE-1");
        self.expect(self.armed.has(Timer::Probe) == serving, "NODE-1");
        let waits = matches!(self.place, Place::Announcing(_) | Place::Finishing(_));
        let leaves = matches!(self.place, Place::Leaving | Place::Stopping);
        self.expect(self.armed.has(Timer::Drain) == waits && self.armed.has(Timer::Grace) == leaves, "NODE-2");
        let reachable = self.recovers(bounds);
        self.expect(reachable, "NODE-1");
    }

    /// Ready is reachable from here: by starting, or by good probes once the operator's pin is removed.
    fn recovers(&self, bounds: &Bounds) -> bool {
        let (mut node, mut out) = (self.node.clone(), Vec::new());
        match self.place {
            Place::Starting => {
                let _ = node.step(bounds, Input::Started, &mut out);
            }
            Place::Serving(_) => {
                let _ = node.step(bounds, Input::Pin(None), &mut out);
                for _ in 0..2 * bounds.recovery {
                    let _ = node.step(bounds, Input::Probed(Measured::WELL), &mut out);
                }
            }
            Place::Announcing(Successor::Waiting) | Place::Finishing(Successor::Waiting) => {
                let _ = node.step(bounds, Input::HandoverAborted, &mut out);
            }
            Place::Announcing(Successor::Absent)
            | Place::Finishing(Successor::Absent)
            | Place::Leaving
            | Place::Stopping
            | Place::Stopped => return true,
        }
        node.mode() == Mode::Ready
    }
}

impl Model for Process {
    type State = State;
    type Action = Input;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            node: Node::new(),
            place: Place::Starting,
            pinned: false,
            probes: Vec::new(),
            connections: 0,
            sessions: 0,
            busy: 0,
            armed: Armed::default(),
            broken: None,
        };
        state.check(&self.bounds);
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Input>) {
        if state.broken.is_some() {
            return;
        }
        actions.extend([Input::Started, Input::Accept, Input::Closed, Input::SessionRetired, Input::SessionQuiet]);
        actions.extend([Successor::Absent, Successor::Waiting].map(|successor| Input::Drain { successor }));
        actions.extend([Input::Announced, Input::HandoverAborted]);
        actions.extend(measurements(&self.bounds).map(|(measured, _)| Input::Probed(measured)));
        let modes = Mode::ALL;
        actions.extend(modes.map(Some).into_iter().chain([None]).map(Input::Pin));
        if state.sessions < self.sessions && (state.connections > 0 || state.place == Place::Stopped) {
            actions.push(Input::SessionOpened);
        }
        if state.busy < state.sessions {
            actions.push(Input::SessionBusy);
        }
        actions.extend(Timer::ALL.map(Input::Expired));
    }

    fn next_state(&self, last: &State, input: Input) -> Option<State> {
        let mut next = last.clone();
        let _ = next.feed(&self.bounds, input);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = unbroken();
        all.extend([
            Property::sometimes("NODE-1.emergency", |_, state: &State| {
                state.place == Place::Serving(Mode::Emergency) && !state.pinned
            }),
            Property::sometimes("NODE-1.pinned", |_, state: &State| state.pinned),
            Property::sometimes("NODE-2.finishing", |_, state: &State| {
                state.place == Place::Finishing(Successor::Absent) && state.connections > 0 && state.sessions > 0
            }),
            Property::sometimes("NODE-2.handing over", |_, state: &State| {
                state.place == Place::Finishing(Successor::Waiting) && state.busy > 0
            }),
            Property::sometimes("NODE-2.released", |_, state: &State| {
                state.place == Place::Stopping && state.connections > 0
            }),
            Property::sometimes("NODE-2.stopped", |_, state: &State| state.place == Place::Stopped),
            Property::sometimes("LIM-1.full", |model: &Self, state: &State| {
                state.connections == model.bounds.node_connections
            }),
        ]);
        all
    }
}

impl Proof for Process {
    fn name(&self) -> &'static str {
        "node"
    }

    fn about(&self) -> &'static str {
        "one process: probes, pins, drains, connections and sessions in any order"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![
            ("connections", self.bounds.node_connections.to_string()),
            ("sessions", self.sessions.to_string()),
            ("strikes", self.bounds.strikes.to_string()),
            ("recovery", self.bounds.recovery.to_string()),
        ]
    }

    fn weight(&self, action: &Input) -> u32 {
        match action {
            Input::Drain { .. } | Input::Pin(Some(Mode::HandingOver | Mode::Draining)) => 1,
            Input::Pin(_) | Input::Expired(_) => 4,
            Input::Probed(_)
            | Input::Started
            | Input::Accept
            | Input::Closed
            | Input::SessionOpened
            | Input::SessionRetired
            | Input::SessionBusy
            | Input::SessionQuiet
            | Input::Announced
            | Input::HandoverAborted => 60,
        }
    }

    fn survives(&self, state: &State) -> bool {
        survives(&state.node)
    }

    fn fairness(&self, action: &Input) -> Option<u8> {
        match action {
            Input::Announced => Some(0),
            Input::SessionRetired => Some(1),
            Input::Expired(Timer::Drain) => Some(2),
            Input::Expired(Timer::Grace) => Some(3),
            Input::Closed => Some(4),
            Input::Started
            | Input::Probed(_)
            | Input::Accept
            | Input::SessionOpened
            | Input::SessionBusy
            | Input::SessionQuiet
            | Input::Pin(_)
            | Input::Drain { .. }
            | Input::HandoverAborted
            | Input::Expired(_) => None,
        }
    }

    fn promises(&self) -> Vec<Promise<Self>> {
        vec![Promise {
            id: "LIVE-4",
            pending: |_, state| {
                let ends = state.place != Place::Stopped && state.is_going();
                state.broken.is_none() && ends
            },
        }]
    }
}
