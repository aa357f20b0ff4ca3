use lockstep_model::health::{Measured, Probe};
use lockstep_model::node::{Input, Mode, Output, State};
use lockstep_model::{Cause, Code, Handled, Node, Timer};

use super::{after, step};
use crate::support::{SMALL, no_trace, survives_json, tampered, violates};

const GOOD: Input = Input::Probed(Measured::WELL);
const POOR: Input = Input::Probed(Measured { log: Probe::Refused, ..Measured::WELL });
const CRITICAL: Input = Input::Probed(Measured { memory: SMALL.memory, ..Measured::WELL });

fn pinned(mode: Mode) -> Node {
    after(&[Input::Started, Input::Pin(Some(mode))])
}

/// In this mode, and left to the probes.
fn probed(mode: Mode) -> Node {
    after(&[Input::Started, Input::Pin(Some(mode)), Input::Pin(None)])
}

fn serving() -> [Node; 3] {
    [Mode::Ready, Mode::Degraded, Mode::Emergency].map(probed)
}

fn draining() -> Node {
    after(&[Input::Started, Input::Accept, Input::Drain])
}

fn stopped() -> Node {
    after(&[Input::Drain])
}

#[test]
fn a_node_serves_once_it_has_started_and_says_so() {
    let mut node = Node::new();
    assert_eq!(node, Node::default());
    assert_eq!((node.state(), node.mode(), node.is_pinned()), (State::Starting, Mode::Emergency, false));
    assert_eq!((node.connections(), node.sessions()), (0, 0));
    assert_eq!(step(&mut node, Input::Accept), (Handled::Done, vec![Output::Refuse(Cause::Overloaded)]));

    let out = vec![Output::Arm(Timer::Probe, SMALL.probe), Output::Announce(Mode::Ready)];
    assert_eq!(step(&mut node, Input::Started), (Handled::Done, out));
    assert_eq!((node.state(), node.mode()), (State::Ready { bad: 0 }, Mode::Ready));
}

/// NODE-1: what each mode admits.
#[test]
fn modes_differ_in_what_they_admit() {
    let table = [
        (Mode::Ready, None, None),
        (Mode::Degraded, None, Some(Code::Degraded)),
        (Mode::Emergency, Some(Cause::Overloaded), Some(Code::Degraded)),
        (Mode::Draining, Some(Cause::GoingAway), Some(Code::Draining)),
    ];
    for (mode, connections, runs) in table {
        assert_eq!((mode.refuses_connections(), mode.refuses_runs()), (connections, runs), "{mode:?}");
        survives_json(&mode);
    }
    for (node, cause) in
        [(probed(Mode::Emergency), Cause::Overloaded), (draining(), Cause::GoingAway), (stopped(), Cause::GoingAway)]
    {
        let mut refusing = node.clone();
        assert_eq!(step(&mut refusing, Input::Accept), (Handled::Done, vec![Output::Refuse(cause)]));
        assert_eq!(refusing, node);
    }
}

/// LIM-1: the step that admits is the step that counts.
#[test]
fn connections_are_admitted_up_to_the_bound_in_ready_and_degraded() {
    for mode in [Mode::Ready, Mode::Degraded] {
        let mut node = probed(mode);
        for count in 1..=SMALL.node_connections {
            assert_eq!(step(&mut node, Input::Accept), (Handled::Done, vec![Output::Admit]));
            assert_eq!(node.connections(), count);
        }
        assert_eq!(step(&mut node, Input::Accept), (Handled::Done, vec![Output::Refuse(Cause::Overloaded)]));
        assert_eq!(node.connections(), SMALL.node_connections);
        assert_eq!(step(&mut node, Input::Closed), (Handled::Done, vec![]));
        assert_eq!(node.connections(), SMALL.node_connections - 1);
        assert_eq!(step(&mut node, Input::Accept), (Handled::Done, vec![Output::Admit]));
    }
    let mut full = after(&[Input::Started, Input::Accept, Input::Drain]);
    for _ in 0..SMALL.node_connections {
        let refused = (Handled::Done, vec![Output::Refuse(Cause::GoingAway)]);
        assert_eq!(step(&mut full, Input::Accept), refused, "the mode's cause comes before that of the bound");
    }
}

#[test]
fn counts_follow_what_opens_and_closes_and_stop_at_zero() {
    let mut node = after(&[Input::Started, Input::SessionOpened, Input::SessionOpened, Input::Accept]);
    assert_eq!((node.connections(), node.sessions()), (1, 2));
    assert_eq!(step(&mut node, Input::SessionRetired), (Handled::Done, vec![]));
    assert_eq!(step(&mut node, Input::Closed), (Handled::Done, vec![]));
    assert_eq!((node.connections(), node.sessions()), (0, 1));
    for _ in 0..2 {
        assert_eq!(step(&mut node, Input::SessionRetired).0, Handled::Done);
        assert_eq!(step(&mut node, Input::Closed).0, Handled::Done);
        assert_eq!((node.connections(), node.sessions()), (0, 0));
    }
}

#[test]
fn a_serving_node_probes_in_its_rhythm_whether_pinned_or_not() {
    for mut node in serving().into_iter().chain([pinned(Mode::Degraded)]) {
        let before = node.clone();
        let out = vec![Output::Probe, Output::Arm(Timer::Probe, SMALL.probe)];
        assert_eq!(step(&mut node, Input::Expired(Timer::Probe)), (Handled::Done, out));
        assert_eq!(node, before);
    }
}

/// NODE-1: strikes (2) lower, recovery (3) raises, and what breaks a row starts it anew.
#[test]
fn rows_of_probes_move_a_ready_node() {
    for bad in [POOR, CRITICAL] {
        let mut node = probed(Mode::Ready);
        assert_eq!(step(&mut node, bad), (Handled::Done, vec![]));
        assert_eq!(node.state(), State::Ready { bad: 1 });
        assert_eq!(step(&mut node, GOOD), (Handled::Done, vec![]));
        assert_eq!(node.state(), State::Ready { bad: 0 });
        assert_eq!(step(&mut node, bad).1, []);
        assert_eq!(step(&mut node, bad), (Handled::Done, vec![Output::Announce(Mode::Degraded)]));
        assert_eq!(node.state(), State::Degraded { bad: 0, good: 0 });
    }
}

#[test]
fn rows_of_probes_move_a_degraded_node() {
    let mut node = probed(Mode::Degraded);
    assert_eq!(step(&mut node, CRITICAL), (Handled::Done, vec![]));
    assert_eq!(node.state(), State::Degraded { bad: 1, good: 0 });
    assert_eq!(step(&mut node, GOOD), (Handled::Done, vec![]));
    assert_eq!(node.state(), State::Degraded { bad: 0, good: 1 });
    assert_eq!(step(&mut node, GOOD), (Handled::Done, vec![]));
    assert_eq!(node.state(), State::Degraded { bad: 0, good: 2 });
    let mut poorer = node.clone();
    assert_eq!(step(&mut poorer, POOR), (Handled::Done, vec![]));
    assert_eq!(poorer.state(), State::Degraded { bad: 0, good: 0 });
    assert_eq!(step(&mut poorer, CRITICAL).1, []);
    assert_eq!(step(&mut poorer, POOR).1, []);
    assert_eq!(poorer.state(), State::Degraded { bad: 0, good: 0 }, "a poor probe is not critical");
    let mut worse = node.clone();
    assert_eq!(step(&mut worse, CRITICAL).1, []);
    assert_eq!(worse.state(), State::Degraded { bad: 1, good: 0 });
    assert_eq!(step(&mut worse, CRITICAL), (Handled::Done, vec![Output::Announce(Mode::Emergency)]));
    assert_eq!(worse.state(), State::Emergency { good: 0 });

    assert_eq!(step(&mut node, GOOD), (Handled::Done, vec![Output::Announce(Mode::Ready)]));
    assert_eq!(node.state(), State::Ready { bad: 0 });
}

#[test]
fn rows_of_probes_move_a_node_in_emergency() {
    let mut node = probed(Mode::Emergency);
    assert_eq!(step(&mut node, GOOD), (Handled::Done, vec![]));
    assert_eq!(step(&mut node, POOR), (Handled::Done, vec![]));
    assert_eq!(node.state(), State::Emergency { good: 2 });
    let mut worse = node.clone();
    assert_eq!(step(&mut worse, CRITICAL), (Handled::Done, vec![]));
    assert_eq!(worse.state(), State::Emergency { good: 0 });
    assert_eq!(step(&mut node, POOR), (Handled::Done, vec![Output::Announce(Mode::Degraded)]));
    assert_eq!(node.state(), State::Degraded { bad: 0, good: 0 });
}

#[test]
fn a_pinned_mode_holds_against_probes_until_it_is_unpinned() {
    let modes = [
        (Mode::Ready, State::Ready { bad: 0 }),
        (Mode::Degraded, State::Degraded { bad: 0, good: 0 }),
        (Mode::Emergency, State::Emergency { good: 0 }),
    ];
    for (mode, state) in modes {
        for from in serving() {
            let announced = if from.mode() == mode { vec![] } else { vec![Output::Announce(mode)] };
            let mut node = from;
            assert_eq!(step(&mut node, Input::Pin(Some(mode))), (Handled::Done, announced));
            assert_eq!((node.state(), node.is_pinned()), (state, true));
            let before = node.clone();
            for probe in [GOOD, POOR, CRITICAL] {
                let (handled, out) = step(&mut node, probe);
                assert_eq!(handled, Handled::Ignored);
                no_trace(&before, &node, &out);
            }
            assert_eq!(step(&mut node, Input::Pin(None)), (Handled::Done, vec![]));
            assert_eq!((node.state(), node.is_pinned()), (state, false));
        }
    }
}

#[test]
fn pinning_starts_a_row_anew() {
    let mut node = after(&[Input::Started, POOR, Input::Pin(Some(Mode::Ready)), Input::Pin(None)]);
    assert_eq!(step(&mut node, POOR), (Handled::Done, vec![]));
    assert_eq!(node.state(), State::Ready { bad: 1 });
}

/// NODE-2: a drain is announced, has a deadline, and ends when the last of both counts is gone.
#[test]
fn a_drain_ends_when_nothing_is_left() {
    let begun =
        [Output::Disarm(Timer::Probe), Output::Arm(Timer::Drain, SMALL.drain), Output::Announce(Mode::Draining)];
    let over = [Output::Disarm(Timer::Drain), Output::Stopped];
    for drain in [Input::Drain, Input::Pin(Some(Mode::Draining))] {
        for before in serving() {
            let mut node = before.clone();
            assert_eq!(step(&mut node, drain), (Handled::Done, [&begun[..], &over].concat()));
            assert_eq!((node.state(), node.mode(), node.is_pinned()), (State::Stopped, Mode::Draining, false));

            for held in [Input::Accept, Input::SessionOpened] {
                let mut node = before.clone();
                let kept = step(&mut node, held).1 != [Output::Refuse(Cause::Overloaded)];
                let out = step(&mut node, drain);
                let ends = if kept { begun.to_vec() } else { [&begun[..], &over].concat() };
                assert_eq!(out, (Handled::Done, ends));
                assert_eq!(node.state(), if kept { State::Draining } else { State::Stopped });
            }
        }
    }
    let mut node = after(&[Input::Started, Input::Accept, Input::SessionOpened, Input::Drain]);
    let mut last = node.clone();
    assert_eq!(step(&mut node, Input::Closed), (Handled::Done, vec![]));
    assert_eq!(step(&mut node, Input::SessionRetired), (Handled::Done, over.to_vec()));
    assert_eq!(node.state(), State::Stopped);
    assert_eq!(step(&mut last, Input::SessionRetired), (Handled::Done, vec![]));
    assert_eq!(last.state(), State::Draining);
    assert_eq!(step(&mut last, Input::Closed), (Handled::Done, over.to_vec()));
    assert_eq!(last.state(), State::Stopped);
}

#[test]
fn a_node_that_never_started_can_be_drained() {
    let mut node = Node::new();
    let (handled, out) = step(&mut node, Input::Drain);
    assert_eq!((handled, node.state()), (Handled::Done, State::Stopped));
    assert_eq!(out[2..], [Output::Announce(Mode::Draining), Output::Disarm(Timer::Drain), Output::Stopped]);
}

#[test]
fn a_drain_that_takes_too_long_stops_the_sessions_again_and_again() {
    let mut node = draining();
    for _ in 0..3 {
        let out = vec![Output::Stop, Output::Arm(Timer::Drain, SMALL.drain)];
        assert_eq!(step(&mut node, Input::Expired(Timer::Drain)), (Handled::Done, out));
        assert_eq!(node.state(), State::Draining);
    }
}

#[test]
fn what_means_nothing_in_a_state_is_ignored() {
    let probes = [GOOD, POOR, CRITICAL];
    let pins = [None, Some(Mode::Ready), Some(Mode::Degraded), Some(Mode::Emergency), Some(Mode::Draining)];
    let pins = pins.map(Input::Pin);
    let timers = [Timer::Drain, Timer::Probe, Timer::Idle, Timer::Linger].map(Input::Expired);
    let counts = [Input::Closed, Input::SessionOpened, Input::SessionRetired];
    let mut stale = vec![(Node::new(), [&probes[..], &pins, &timers].concat())];
    for node in serving() {
        stale.push((node, [&[Input::Started][..], &timers[..1], &timers[2..]].concat()));
    }
    stale.push((draining(), [&[Input::Started, Input::Drain][..], &probes, &pins, &timers[1..]].concat()));
    stale.push((stopped(), [&[Input::Started, Input::Drain][..], &probes, &pins, &timers, &counts].concat()));
    for (before, inputs) in stale {
        for input in inputs {
            let mut node = before.clone();
            let (handled, out) = step(&mut node, input);
            assert_eq!(handled, Handled::Ignored, "{input:?} in {before:?}");
            no_trace(&before, &node, &out);
        }
    }
}

#[test]
fn check_names_what_a_broken_node_breaks() {
    let full = {
        let mut node = probed(Mode::Ready);
        while step(&mut node, Input::Accept).1 == [Output::Admit] {}
        node
    };
    assert_eq!(full.check(&SMALL), Ok(()));
    let crowded = tampered(&full, "/connections", &(SMALL.node_connections + 1));
    assert_eq!(crowded.check(&SMALL), violates("LIM-1"));

    for place in ["/connections", "/sessions"] {
        assert_eq!(tampered(&stopped(), place, &1).check(&SMALL), violates("NODE-2"));
        assert_eq!(tampered(&probed(Mode::Ready), place, &1).check(&SMALL), Ok(()));
    }
    let left = tampered(&draining(), "/connections", &0);
    assert_eq!(left.check(&SMALL), violates("NODE-2"));
    assert_eq!(tampered(&left, "/sessions", &1).check(&SMALL), Ok(()));

    let rows = [
        (State::Ready { bad: 1 }, State::Ready { bad: 2 }),
        (State::Degraded { bad: 1, good: 0 }, State::Degraded { bad: 2, good: 0 }),
        (State::Degraded { bad: 0, good: 2 }, State::Degraded { bad: 0, good: 3 }),
        (State::Emergency { good: 2 }, State::Emergency { good: 3 }),
    ];
    for (last, beyond) in rows {
        assert_eq!(tampered(&probed(Mode::Ready), "/state", &last).check(&SMALL), Ok(()), "{last:?}");
        assert_eq!(tampered(&probed(Mode::Ready), "/state", &beyond).check(&SMALL), violates("NODE-1"), "{beyond:?}");
    }
}
