//! The reference keeps the probes since the mode was entered as a list, and reads the rows at its end.

use lockstep_model::health::{Health, Measured, Probe};
use lockstep_model::node::{Input, Mode, Output, State, Successor};
use lockstep_model::{Cause, Handled, Node, Timer};
use proptest::prelude::*;

use crate::support::{SMALL, cases, lawful, survives_json};

/// Measurements that yield this health, for one reason.
fn measured(health: Health) -> Measured {
    match health {
        Health::Good => Measured::WELL,
        Health::Poor => Measured { log: Probe::Unanswered, ..Measured::WELL },
        Health::Critical => Measured { file_limit: 9, files: 9, ..Measured::WELL },
    }
}

const DRAIN: Input = Input::Drain { successor: Successor::Absent };
const HAND_OVER: Input = Input::Drain { successor: Successor::Waiting };

fn inputs() -> impl Strategy<Value = Input> {
    let health = prop_oneof![4 => Just(Health::Good), 2 => Just(Health::Poor), 4 => Just(Health::Critical)];
    let modes = [None, None, Some(Mode::Ready), Some(Mode::Degraded), Some(Mode::Emergency)];
    prop_oneof![
        1 => Just(Input::Started),
        12 => health.prop_map(|health| Input::Probed(measured(health))),
        6 => Just(Input::Accept),
        4 => Just(Input::Closed),
        3 => Just(Input::SessionOpened),
        3 => Just(Input::SessionRetired),
        2 => prop::sample::select(modes.to_vec()).prop_map(Input::Pin),
        1 => prop::sample::select(vec![Timer::Probe, Timer::Drain, Timer::Grace, Timer::Idle]).prop_map(Input::Expired),
        2 => prop::sample::select(vec![Input::SessionBusy, Input::SessionQuiet, Input::SessionQuiet]),
        1 => prop::sample::select(vec![Input::Announced, Input::HandoverAborted]),
    ]
}

/// A random run: the node may be drained at some point, and then everything leaves.
fn lives() -> impl Strategy<Value = Vec<Input>> {
    let drain = prop_oneof![Just(DRAIN), Just(HAND_OVER), Just(Input::Pin(Some(Mode::Draining)))];
    (prop::collection::vec(inputs(), 0..200), prop::option::of((drain, prop::collection::vec(inputs(), 0..40))))
        .prop_map(|(mut life, end)| {
            life.insert(0, Input::Started);
            if let Some((drain, after)) = end {
                life.push(drain);
                life.extend(after);
            }
            life
        })
}

struct Reference {
    mode: Mode,
    started: bool,
    /// Whether every session was told that the end is near.
    told: bool,
    /// Whether every client was told to go.
    left: bool,
    stopped: bool,
    pinned: bool,
    since: Vec<Health>,
    connections: u32,
    sessions: u32,
    busy: u32,
}

impl Reference {
    const fn new() -> Self {
        Self {
            mode: Mode::Emergency,
            started: false,
            told: false,
            left: false,
            stopped: false,
            pinned: false,
            since: Vec::new(),
            connections: 0,
            sessions: 0,
            busy: 0,
        }
    }

    fn enter(&mut self, mode: Mode) {
        self.mode = mode;
        self.since.clear();
    }

    fn row(&self, belongs: fn(Health) -> bool) -> usize {
        self.since.iter().rev().take_while(|health| belongs(**health)).count()
    }

    fn probe(&mut self, health: Health) {
        self.since.push(health);
        let (strikes, recovery) = (usize::from(SMALL.strikes), usize::from(SMALL.recovery));
        match self.mode {
            Mode::Ready if self.row(|health| health != Health::Good) == strikes => self.enter(Mode::Degraded),
            Mode::Degraded if self.row(|health| health == Health::Good) == recovery => self.enter(Mode::Ready),
            Mode::Degraded if self.row(|health| health == Health::Critical) == strikes => self.enter(Mode::Emergency),
            Mode::Emergency if self.row(|health| health != Health::Critical) == recovery => self.enter(Mode::Degraded),
            Mode::Ready | Mode::Degraded | Mode::Emergency | Mode::HandingOver | Mode::Draining => {}
        }
    }

    fn follow(&mut self, input: Input) {
        let ends = [Mode::HandingOver, Mode::Draining].contains(&self.mode);
        let serves = self.started && !ends;
        match input {
            Input::Started if !self.started && !ends => {
                self.started = true;
                self.enter(Mode::Ready);
            }
            Input::Probed(measured) if serves && !self.pinned => self.probe(measured.health(&SMALL)),
            Input::Accept
                if self.started
                    && [Mode::Ready, Mode::Degraded, Mode::HandingOver].contains(&self.mode)
                    && self.connections < SMALL.node_connections =>
            {
                self.connections += 1;
            }
            Input::Closed => self.connections = self.connections.saturating_sub(1),
            Input::SessionOpened => self.sessions += 1,
            Input::SessionRetired => self.sessions = self.sessions.saturating_sub(1),
            Input::SessionBusy => self.busy += 1,
            Input::SessionQuiet => self.busy = self.busy.saturating_sub(1),
            Input::Pin(Some(Mode::Draining)) if serves => self.enter(Mode::Draining),
            DRAIN => self.enter(Mode::Draining),
            HAND_OVER if !ends => self.enter(Mode::HandingOver),
            Input::HandoverAborted if self.mode == Mode::HandingOver => {
                (self.started, self.told, self.pinned) = (true, false, false);
                self.enter(Mode::Ready);
            }
            Input::Announced if ends => self.told = true,
            Input::Expired(Timer::Drain) if ends => self.left = true,
            Input::Expired(Timer::Grace) if self.left && self.sessions == 0 => self.stopped = true,
            Input::Pin(Some(mode)) if serves && mode != Mode::HandingOver => {
                self.pinned = true;
                self.enter(mode);
            }
            Input::Pin(None) if serves => self.pinned = false,
            Input::Started | Input::Probed(_) | Input::Accept | Input::Pin(_) | Input::Expired(_) => {}
            Input::Drain { .. } | Input::Announced | Input::HandoverAborted => {}
        }
        let ends = [Mode::HandingOver, Mode::Draining].contains(&self.mode);
        self.left |= ends && self.told && self.busy == 0;
        if self.left && self.mode == Mode::HandingOver {
            self.enter(Mode::Draining);
        }
        self.stopped |= self.left && self.connections == 0 && self.sessions == 0;
    }
}

proptest! {
    #![proptest_config(cases())]

    /// NODE-1, NODE-2, LIM-1: modes, counts and answers are those of the reference; each change is announced once, in
    /// its step; admitted connections are counted; a drained node stops once.
    #[test]
    fn modes_follow_rows_of_probes_and_admission_follows_modes_and_counts(life in lives()) {
        let (mut node, mut reference) = (Node::new(), Reference::new());
        let (mut admitted, mut stops) = (0, 0);
        for input in life {
            let (before, mode, left, mut out) = (node.clone(), reference.mode, reference.left, Vec::new());
            let handled = node.step(&SMALL, input, &mut out);
            reference.follow(input);
            lawful(&before, &node, Ok(handled), &out);
            prop_assert_eq!(node.mode(), reference.mode, "{:?} in {:?}", input, before);
            prop_assert_eq!((node.connections(), node.sessions()), (reference.connections, reference.sessions));
            prop_assert_eq!(out.iter().any(|output| matches!(output, Output::Leave(_))), reference.left && !left, "NODE-2");
            prop_assert_eq!(node.state() == State::Stopped, reference.stopped);

            let announced: Vec<Mode> = out
                .iter()
                .filter_map(|output| if let Output::Announce(mode) = output { Some(*mode) } else { None })
                .collect();
            prop_assert_eq!(announced, if mode == reference.mode { vec![] } else { vec![reference.mode] });
            if input == Input::Accept {
                let refused = match reference.mode {
                    Mode::Ready | Mode::Degraded | Mode::HandingOver => Cause::Overloaded,
                    Mode::Emergency => Cause::Overloaded,
                    Mode::Draining => Cause::GoingAway,
                };
                let admits = reference.connections > before.connections();
                admitted += u32::from(admits);
                prop_assert_eq!(&out, &[if admits { Output::Admit } else { Output::Refuse(refused) }]);
            }
            stops += out.iter().filter(|output| **output == Output::Stopped).count();
            prop_assert!(node.connections() <= SMALL.node_connections.min(admitted), "LIM-1");
            if reference.started || node.sessions() == 0 {
                prop_assert_eq!(node.check(&SMALL), Ok(()));
            }
            survives_json(&node);
            survives_json(&input);
            survives_json(&out);
        }
        prop_assert_eq!(stops, usize::from(reference.stopped));
    }

    /// NODE-1: good probes alone lead back to ready from wherever probes and operators have led.
    #[test]
    fn ready_is_reached_from_every_mode_but_draining(life in prop::collection::vec(inputs(), 0..100)) {
        let mut node = Node::new();
        let mut out = Vec::new();
        for input in [Input::Started].into_iter().chain(life).chain([Input::HandoverAborted, Input::Pin(None)]) {
            let _ = node.step(&SMALL, input, &mut out);
        }
        for _ in 0..2 * SMALL.recovery {
            let _ = node.step(&SMALL, Input::Probed(Measured::WELL), &mut out);
        }
        prop_assert_eq!(node.mode(), Mode::Ready);
    }

    /// NODE-2 and LIVE-4: once draining, with no new connections and all others leaving in any order, it stops.
    #[test]
    fn a_drained_node_stops_when_the_last_has_left(life in lives(), sessions_first in any::<bool>()) {
        let (mut node, mut out) = (Node::new(), Vec::new());
        for input in life.into_iter().chain([DRAIN, Input::Announced, Input::Expired(Timer::Drain)]) {
            let _ = node.step(&SMALL, input, &mut out);
        }
        let leave = |node: &mut Node, input, count: fn(&Node) -> u32| {
            while count(node) > 0 {
                assert_eq!(node.step(&SMALL, input, &mut Vec::new()), Handled::Done);
            }
        };
        if sessions_first {
            leave(&mut node, Input::SessionRetired, Node::sessions);
        }
        leave(&mut node, Input::Closed, Node::connections);
        leave(&mut node, Input::SessionRetired, Node::sessions);
        prop_assert_eq!(node.state(), State::Stopped);
    }
}
