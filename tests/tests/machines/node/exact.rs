use lockstep_model::health::{Measured, Probe};
use lockstep_model::node::{Input, Mode, Output, State, Successor};
use lockstep_model::{Cause, Code, Handled, Node, Timer};

use super::{after, step};
use crate::support::{SMALL, no_trace, survives_json, tampered, violates};

const GOOD: Input = Input::Probed(Measured::WELL);
const POOR: Input = Input::Probed(Measured { log: Probe::Refused, ..Measured::WELL });
const CRITICAL: Input = Input::Probed(Measured { memory: SMALL.memory, ..Measured::WELL });
const DRAIN: Input = Input::Drain { successor: Successor::Absent };
const HAND_OVER: Input = Input::Drain { successor: Successor::Waiting };

fn pinned(mode: Mode) -> Node {
    after(&[Input::Started, Input::Pin(Some(mode))])
}

/// A node in this mode that follows its probes.
fn probed(mode: Mode) -> Node {
    after(&[Input::Started, Input::Pin(Some(mode)), Input::Pin(None)])
}

fn serving() -> [Node; 3] {
    [Mode::Ready, Mode::Degraded, Mode::Emergency].map(probed)
}

/// A node that waits for the end of one run, with one connection and one session.
fn finishing(drain: Input) -> Node {
    after(&[Input::Started, Input::Accept, Input::SessionOpened, drain, Input::SessionBusy, Input::Announced])
}

fn leaving() -> Node {
    after(&[Input::Started, Input::Accept, Input::SessionOpened, DRAIN, Input::Announced])
}

fn stopping() -> Node {
    after(&[Input::Started, Input::Accept, DRAIN, Input::Announced])
}

fn stopped() -> Node {
    after(&[DRAIN, Input::Announced])
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
        (Mode::HandingOver, None, Some(Code::Draining)),
        (Mode::Draining, Some(Cause::GoingAway), Some(Code::Draining)),
    ];
    for (mode, connections, runs) in table {
        assert_eq!((mode.refuses_connections(), mode.refuses_runs()), (connections, runs), "{mode:?}");
        survives_json(&mode);
    }
    let going = [finishing(DRAIN), leaving(), stopping(), stopped()].map(|node| (node, Cause::GoingAway));
    for (node, cause) in [(probed(Mode::Emergency), Cause::Overloaded)].into_iter().chain(going) {
        let mut refusing = node.clone();
        assert_eq!(step(&mut refusing, Input::Accept), (Handled::Done, vec![Output::Refuse(cause)]));
        assert_eq!(refusing, node);
    }
}

/// LIM-1: a connection is counted in the step that admits it.
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
    let mut full = finishing(DRAIN);
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

/// NODE-1: strikes (2) lower the mode, recovery (3) raises it, and a different probe resets the row.
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
fn pinning_resets_the_row_of_probes() {
    let mut node = after(&[Input::Started, POOR, Input::Pin(Some(Mode::Ready)), Input::Pin(None)]);
    assert_eq!(step(&mut node, POOR), (Handled::Done, vec![]));
    assert_eq!(node.state(), State::Ready { bad: 1 });
}

fn leaves(successor: Successor) -> Vec<Output> {
    vec![Output::Disarm(Timer::Drain), Output::Arm(Timer::Grace, SMALL.close), Output::Leave(successor)]
}

/// NODE-2: an end is announced and has a deadline. Without an open run every client is told to go at once.
#[test]
fn a_node_without_runs_leaves_when_its_sessions_have_been_told() {
    for drain in [DRAIN, Input::Pin(Some(Mode::Draining))] {
        for before in serving() {
            let mut node = before.clone();
            let begun = [
                Output::Disarm(Timer::Probe),
                Output::Arm(Timer::Drain, SMALL.drain),
                Output::Announce(Mode::Draining),
            ];
            assert_eq!(step(&mut node, Input::SessionOpened), (Handled::Done, vec![]));
            assert_eq!(step(&mut node, drain), (Handled::Done, begun.to_vec()));
            assert_eq!(node.state(), State::Announcing { successor: Successor::Absent });
            assert_eq!((node.mode(), node.is_pinned()), (Mode::Draining, false));
            assert_eq!(step(&mut node, Input::Announced), (Handled::Done, leaves(Successor::Absent)));
            assert_eq!(node.state(), State::Leaving);
        }
    }
}

/// NODE-2: while a run is open no client is told to go. A waiting successor shares the socket, so new clients are still
/// admitted here; without one the port is about to close.
#[test]
fn a_node_waits_for_open_runs() {
    for (drain, successor, mode) in
        [(DRAIN, Successor::Absent, Mode::Draining), (HAND_OVER, Successor::Waiting, Mode::HandingOver)]
    {
        let mut node = finishing(drain);
        assert_eq!((node.state(), node.mode(), node.busy()), (State::Finishing { successor }, mode, 1));
        let admits = step(&mut node.clone(), Input::Accept).1 == [Output::Admit];
        assert_eq!(admits, successor == Successor::Waiting);
        assert_eq!(step(&mut node, Input::SessionBusy), (Handled::Done, vec![]));
        assert_eq!(step(&mut node, Input::SessionQuiet), (Handled::Done, vec![]));
        let mut out = leaves(successor);
        if mode == Mode::HandingOver {
            out.insert(2, Output::Announce(Mode::Draining));
        }
        let mut overdue = node.clone();
        for (node, input) in [(&mut node, Input::SessionQuiet), (&mut overdue, Input::Expired(Timer::Drain))] {
            assert_eq!(step(node, input), (Handled::Done, out.clone()), "the last run ends, or its time is over");
            assert_eq!((node.state(), node.mode()), (State::Leaving, Mode::Draining));
        }
    }
}

/// NODE-2: the log is released when no session is left, and the node stops when no connection is.
#[test]
fn a_node_stops_when_nothing_is_left() {
    let released = [Output::Released, Output::Disarm(Timer::Grace), Output::Arm(Timer::Grace, SMALL.grace)];
    let over = [Output::Disarm(Timer::Grace), Output::Stopped];
    let mut node = leaving();
    let mut last = node.clone();
    assert_eq!(step(&mut node, Input::SessionRetired), (Handled::Done, released.to_vec()));
    assert_eq!(node.state(), State::Stopping);
    assert_eq!(step(&mut node, Input::Closed), (Handled::Done, over.to_vec()));
    assert_eq!(node.state(), State::Stopped);
    assert_eq!(step(&mut last, Input::Closed), (Handled::Done, vec![]));
    assert_eq!(step(&mut last, Input::SessionRetired), (Handled::Done, [&released[..], &over].concat()));
    assert_eq!(last.state(), State::Stopped);
}

#[test]
fn a_node_that_never_started_can_be_drained() {
    let mut node = after(&[DRAIN]);
    let (handled, out) = step(&mut node, Input::Announced);
    assert_eq!((handled, node.state()), (Handled::Done, State::Stopped));
    assert_eq!(out.last(), Some(&Output::Stopped));
}

/// LIVE-4: a leave that takes too long stops the sessions, repeatedly; a close that takes too long abandons the
/// sockets.
#[test]
fn leaving_and_closing_have_a_deadline() {
    let again = vec![Output::Arm(Timer::Grace, SMALL.grace), Output::Stop];
    let mut node = leaving();
    for _ in 0..3 {
        assert_eq!(step(&mut node, Input::Expired(Timer::Grace)), (Handled::Done, again.clone()));
        assert_eq!(node.state(), State::Leaving);
    }
    let mut late = stopping();
    assert_eq!(
        step(&mut late, Input::SessionOpened),
        (Handled::Done, vec![]),
        "a revocation of a user who is not here, say"
    );
    assert_eq!(step(&mut late, Input::Expired(Timer::Grace)), (Handled::Done, again));
    assert_eq!(late.state(), State::Stopping);
    let mut node = stopping();
    assert_eq!(step(&mut node, Input::Expired(Timer::Grace)), (Handled::Done, vec![Output::Stopped]));
    assert_eq!((node.state(), node.connections()), (State::Stopped, 1));
}

/// A hand-over can be aborted until every client is told to go; the node is then as after its start.
#[test]
fn a_hand_over_that_is_aborted_leaves_the_node_ready() {
    let waiting = after(&[Input::Started, Input::Accept, Input::SessionOpened, HAND_OVER]);
    for before in [waiting, finishing(HAND_OVER)] {
        let mut node = before;
        let out =
            vec![Output::Disarm(Timer::Drain), Output::Arm(Timer::Probe, SMALL.probe), Output::Announce(Mode::Ready)];
        assert_eq!(step(&mut node, Input::HandoverAborted), (Handled::Done, out));
        assert_eq!((node.state(), node.mode()), (State::Ready { bad: 0 }, Mode::Ready));
        assert_eq!(step(&mut node, Input::Accept), (Handled::Done, vec![Output::Admit]));
    }
}

/// NODE-1: what an operator pinned before a hand-over no longer holds once it is aborted.
#[test]
fn an_aborted_hand_over_forgets_the_pin() {
    let mut node = pinned(Mode::Degraded);
    assert_eq!(step(&mut node, HAND_OVER).0, Handled::Done);
    assert_eq!(step(&mut node, Input::HandoverAborted).0, Handled::Done);
    assert_eq!(step(&mut node, POOR), (Handled::Done, vec![]));
    assert_eq!(node.state(), State::Ready { bad: 1 });
}

/// NODE-2: a session that was opened while the node stops keeps it from stopping.
#[test]
fn a_late_session_is_waited_for() {
    let mut node = stopping();
    assert_eq!(step(&mut node, Input::SessionOpened).0, Handled::Done);
    assert_eq!(step(&mut node, Input::Closed), (Handled::Done, vec![]));
    assert_eq!(node.state(), State::Stopping);
    let out = vec![Output::Disarm(Timer::Grace), Output::Stopped];
    assert_eq!(step(&mut node, Input::SessionRetired), (Handled::Done, out));
}

/// A process that is told to end while a successor waits ends, whatever the successor does.
#[test]
fn a_drain_takes_precedence_over_a_hand_over() {
    let mut node = finishing(HAND_OVER);
    assert_eq!(step(&mut node, DRAIN), (Handled::Done, vec![Output::Announce(Mode::Draining)]));
    assert_eq!(node.state(), State::Finishing { successor: Successor::Absent });
    for input in [HAND_OVER, DRAIN, Input::HandoverAborted] {
        let before = node.clone();
        let (handled, out) = step(&mut node, input);
        assert_eq!(handled, Handled::Ignored);
        no_trace(&before, &node, &out);
    }
    let mut early = after(&[Input::Started, HAND_OVER]);
    assert_eq!(step(&mut early, DRAIN), (Handled::Done, vec![Output::Announce(Mode::Draining)]));
    assert_eq!(early.state(), State::Announcing { successor: Successor::Absent });
}

#[test]
fn what_means_nothing_in_a_state_is_ignored() {
    let probes = [GOOD, POOR, CRITICAL];
    let modes = [Mode::Ready, Mode::Degraded, Mode::Emergency, Mode::HandingOver, Mode::Draining];
    let pins: Vec<_> = modes.map(Some).into_iter().chain([None]).map(Input::Pin).collect();
    let timers = [Timer::Drain, Timer::Probe, Timer::Grace, Timer::Idle, Timer::Linger].map(Input::Expired);
    let but = |own: Timer| timers.into_iter().filter(move |timer| *timer != Input::Expired(own));
    let answers = [Input::Announced, Input::HandoverAborted];
    let ends = [Input::Started, DRAIN, HAND_OVER];
    let mut stale = vec![(Node::new(), [&probes[..], &pins, &timers, &answers].concat())];
    for node in serving() {
        let pin = [Input::Pin(Some(Mode::HandingOver))];
        let other: Vec<_> = but(Timer::Probe).collect();
        stale.push((node, [&[Input::Started][..], &other, &answers, &pin].concat()));
    }
    for (node, own) in [(finishing(DRAIN), Timer::Drain), (leaving(), Timer::Grace), (stopping(), Timer::Grace)] {
        let other: Vec<_> = but(own).collect();
        stale.push((node, [&ends[..], &probes, &pins, &other, &answers].concat()));
    }
    stale.push((stopped(), [&ends[..], &probes, &pins, &timers, &answers].concat()));
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
        assert_eq!(tampered(&Node::new(), place, &1).check(&SMALL), violates("NODE-2"));
        assert_eq!(tampered(&probed(Mode::Ready), place, &1).check(&SMALL), Ok(()));
    }
    for (node, held) in [(finishing(DRAIN), "/busy"), (leaving(), "/sessions"), (stopping(), "/connections")] {
        assert_eq!(node.check(&SMALL), Ok(()));
        assert_eq!(tampered(&node, held, &0).check(&SMALL), violates("NODE-2"), "{held}");
    }

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
