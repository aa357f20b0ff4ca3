//! Sessions side by side: answers from outside, revocation, modes, drain.

use lockstep_model::Session;
use lockstep_model::session::Begin;
use lockstep_model::timer::Owner;
use lockstep_model::{BatchId, CredentialId, Mode, RevocationGeneration, Successor};

use super::*;
use crate::support::no_trace;

fn persisted(offset: u64) -> session::Input<Tag> {
    session::Input::Persisted { batch: BatchId(0), offset: Offset(offset), record: None }
}

const fn revoke(user: u64, credential: u64) -> Input<Tag> {
    Input::Revoke { user: UserId(user), credential: Some(CredentialId(credential)) }
}

/// Two users, 7 with connection 1 and 8 with connection 2, each with a live session.
fn neighbours() -> Gateway<Tag> {
    then(then(joined(serving(), 2, 8), to(8, 2, restored())), pull(2, 9))
}

fn slot(gateway: &Gateway<Tag>, user: u64) -> &lockstep_model::gateway::Slot<Session<Tag>> {
    gateway.slots().get(&UserId(user)).unwrap()
}

/// Each output of a session with its owner: the session itself, a connection, a run.
#[test]
fn outputs_of_a_session_have_its_user_and_generation() {
    let mut gateway = serving();
    let (_, out) = step(&mut gateway, message(1, 5));
    let run = Place::Run(UserId(7), Generation(1), RunId(5));
    let silence = Output::Arm(run, Timer::Silence, SMALL.silence);
    let deadline = Output::Arm(run, Timer::Deadline, SMALL.deadline);
    assert!(out.ends_with(&[silence.clone(), deadline]));
    let written = |output: &Output<Tag>| matches!(output, Output::Session { output: SessionOutput::Write { after, .. }, .. } if *after == Offset(0));
    assert!(out.iter().any(written));

    let (_, out) = step(&mut gateway, to(7, 1, persisted(1)));
    assert_eq!(out[0], ordered(7, 1, SessionOutput::Launch { run: RunId(5), payload: Some(0), begin: Begin::New }));
    assert_eq!(out[1], wake(1));
    let (_, out) = step(&mut gateway, emit(7, 1, 5, run::Input::Start));
    assert!(out.contains(&silence));
    let (_, out) = step(&mut gateway, to(7, 1, persisted(2)));
    assert_eq!(out[0], ordered(7, 1, SessionOutput::Durable { run: RunId(5), offset: Offset(2), last: false }));

    let (_, out) = step(&mut gateway, to(7, 1, session::Input::Expired(Owner::Run(RunId(5)), Timer::Silence)));
    assert!(out.contains(&Output::Disarm(run, Timer::Silence)));
    assert_eq!(out.last(), Some(&ordered(7, 1, SessionOutput::Halt { run: RunId(5) })));

    let refresh = Request::Auth { token: 4, resume: Resume::default() };
    let (_, out) = step(&mut gateway, on(1, connection::Input::Received(refresh)));
    let verify = Output::Verify {
        connection: ConnectionId(1),
        attempt: attempt(2),
        token: 4,
        generation: RevocationGeneration(0),
    };
    assert!(out.contains(&verify) && out.contains(&Output::Arm(of(1), Timer::Verification, SMALL.verification)));
}

#[test]
fn the_log_is_told_what_it_may_forget() {
    let bounds = Bounds { retained: 1, ..SMALL };
    let mut gateway = then(then(serving(), message(1, 5)), to(7, 1, persisted(1)));
    let _ = step_within(&bounds, &mut gateway, emit(7, 1, 5, run::Input::Fail));
    let (_, out) = step_within(&bounds, &mut gateway, to(7, 1, persisted(2)));
    assert!(out.contains(&ordered(7, 1, SessionOutput::Trim { tenure: TENURE, through: Offset(1) })), "{out:?}");
}

/// An answer to a retired session does not reach its successor.
#[test]
fn an_answer_of_another_generation_is_ignored_and_an_agent_is_told() {
    let gateway = then(neighbours(), message(1, 5));
    for (user, generation) in [(7, 0), (7, 2), (8, 1), (9, 1)] {
        for input in [persisted(1), session::Input::Expired(Owner::Session, Timer::Linger), session::Input::Stop] {
            let mut same = gateway.clone();
            let (handled, out) = step(&mut same, to(user, generation, input));
            assert_eq!(handled, Ok(Handled::Ignored));
            no_trace(&gateway, &same, &out);
        }
        let mut same = gateway.clone();
        let (handled, out) = step(&mut same, emit(user, generation, 5, run::Input::Start));
        assert_eq!(handled, Err(Refusal::Retired));
        no_trace(&gateway, &same, &out);
    }
    assert_eq!(step(&mut gateway.clone(), emit(7, 1, 5, run::Input::Start)).0, Ok(Handled::Done));
    assert_eq!(step(&mut gateway.clone(), emit(7, 1, 6, run::Input::Start)).0, Err(Refusal::RunEnded));
}

/// ISO-1: what happens to one user leaves the other's session unchanged.
#[test]
fn one_user_does_not_touch_another() {
    let gateway = then(neighbours(), message(1, 5));
    let inputs = [
        message(1, 6),
        gone(1),
        to(7, 1, persisted(1)),
        emit(7, 1, 5, run::Input::Fail),
        Input::Revoke { user: UserId(7), credential: None },
        to(7, 1, session::Input::Leave(Successor::Absent)),
    ];
    for input in inputs {
        let mut after = gateway.clone();
        let (handled, out) = step(&mut after, input.clone());
        assert_eq!(handled, Ok(Handled::Done));
        assert_ne!(slot(&after, 7), slot(&gateway, 7), "{input:?}");
        assert_eq!(slot(&after, 8), slot(&gateway, 8), "{input:?}");
        assert!(!out.contains(&wake(2)), "{input:?}");
    }
}

/// SES-1: a retired session is forgotten, and later connections get a new one with a later generation.
#[test]
fn a_retired_session_makes_room_for_a_new_one() {
    let mut gateway = then(serving(), gone(1));
    let linger = to(7, 1, session::Input::Expired(Owner::Session, Timer::Linger));
    let (handled, out) = step(&mut gateway, linger);
    assert_eq!(handled, Ok(Handled::Done));
    let off = [Timer::Linger, Timer::Restore, Timer::LogAnswer, Timer::Breaker];
    let (last, first) = out.split_last().unwrap();
    assert_eq!(first, off.map(|timer| Output::Disarm(session_of(7, 1), timer)));
    assert_eq!(*last, ordered(7, 1, SessionOutput::Relinquish { tenure: Some(TENURE) }));
    assert!(gateway.slots().is_empty() && gateway.node().sessions() == 0);
    let again = joined(gateway, 2, 7);
    assert_eq!(slot(&again, 7).generation, Generation(2));
}

/// AUTH-3: a revocation of an absent user is remembered against a verification under way.
#[test]
fn a_revocation_reaches_a_connection_under_verification() {
    let mut gateway = presented(presented(started(), 1), 2);
    let (handled, out) = step(&mut gateway, revoke(7, 1));
    assert_eq!(handled, Ok(Handled::Done));
    let expected = [
        ordered(7, 1, SessionOutput::Restore { attempt: attempt(1) }),
        Output::Arm(session_of(7, 1), Timer::LogAnswer, SMALL.log_answer),
    ];
    assert_eq!(out, expected);
    gateway = then(then(gateway, verdict(1, grant(7, 1, 0))), verdict(2, grant(7, 2, 0)));
    assert_eq!(gateway.user_of(ConnectionId(1)), None);
    assert_eq!(frames(&step(&mut gateway, pull(1, 1)).1, 1), [Frame::Close(Cause::CredentialRevoked)]);
    assert_eq!(gateway.user_of(ConnectionId(2)), Some(UserId(7)));

    let mut live = serving();
    let (_, out) = step(&mut live, revoke(7, 1));
    assert!(!slot(&live, 7).session.fence().is_up(), "SES-1: no verdict is awaited");
    assert_eq!((live.user_of(ConnectionId(1)), live.slots().len()), (None, 1));
    assert!(out.contains(&wake(1)));
}

/// NODE-1: each change of the mode reaches every connection, and new ones learn it with their `connection_ready`.
#[test]
fn a_mode_is_told_to_every_session() {
    let mut gateway = neighbours();
    let pin = Input::Node(node::Input::Pin(Some(Mode::Degraded)));
    assert_eq!(step(&mut gateway, pin), done(vec![wake(1), wake(2)]));
    for id in [1, 2] {
        let told = Frame::Control(Control::Mode(Mode::Degraded));
        assert_eq!(frames(&step(&mut gateway, pull(id, 9)).1, id), [told]);
    }
    let mut gateway = joined(gateway, 3, 7);
    assert_eq!(frames(&step(&mut gateway, pull(3, 1)).1, 3), [ready(Mode::Degraded)]);
    let opened = joined(gateway, 4, 9);
    assert_eq!(slot(&opened, 9).session.mode(), Mode::Degraded);
}

/// A notice opens an absent user's session, and is accepted once its stream is restored, but not while the node drains.
#[test]
fn a_notice_reaches_an_absent_user() {
    let notice = |number| Input::Notice { user: UserId(5), notice: RunId(number), thread: None, payload: 1 };
    let mut gateway = serving();
    let (handled, out) = step(&mut gateway, notice(1));
    assert_eq!(handled, Err(Refusal::Backpressure));
    let restores =
        |output: &Output<Tag>| matches!(output, Output::Session { output: SessionOutput::Restore { .. }, .. });
    assert!(gateway.slots().contains_key(&UserId(5)) && out.iter().any(restores));
    let generation = gateway.slots()[&UserId(5)].generation;
    let snapshot = Snapshot::empty(Tenure { epoch: Epoch(1), token: FencingToken(1) });
    let restored = session::Input::Restored { attempt: attempt(1), snapshot };
    gateway = then(gateway, Input::Session { user: UserId(5), generation, input: restored });
    assert_eq!(step(&mut gateway, notice(1)).0, Ok(Handled::Done));

    let mut draining = then(neighbours(), Input::Node(DRAIN));
    let slots = draining.slots().len();
    assert_eq!(step(&mut draining, notice(2)), (Err(Refusal::Retired), Vec::new()));
    assert_eq!(draining.slots().len(), slots);
}

const DRAIN: node::Input = node::Input::Drain { successor: Successor::Absent };

/// NODE-2: a drain closes unattached connections, tells every session, admits no connection, and stops when none is
/// left.
#[test]
fn a_drain_closes_unattached_connections_and_sessions() {
    let mut gateway = then(neighbours(), accept(3));
    let (handled, out) = step(&mut gateway, Input::Node(DRAIN));
    assert_eq!(handled, Ok(Handled::Done));
    let mut expected =
        vec![Output::Disarm(Place::Node, Timer::Probe), Output::Arm(Place::Node, Timer::Drain, SMALL.drain)];
    expected.extend(closes(3));
    expected.push(wake(3));
    expected.extend([1, 2].map(wake));
    expected.extend([Output::Disarm(Place::Node, Timer::Drain), Output::Arm(Place::Node, Timer::Grace, SMALL.close)]);
    expected.push(Output::Leaving);
    for id in [1, 2] {
        expected.extend([Timer::Idle, Timer::Allowance].map(|timer| Output::Disarm(of(id), timer)));
        expected.push(Output::Arm(of(id), Timer::Grace, SMALL.grace));
    }
    assert_eq!(out, expected);
    for id in [1, 2] {
        let told = [Control::Mode(Mode::Draining), Control::GoingAway(Successor::Absent)].map(Frame::Control);
        assert_eq!(frames(&step(&mut gateway, pull(id, 9)).1, id), told);
    }
    let refused = Output::Refused { connection: ConnectionId(9), cause: Cause::GoingAway };
    assert_eq!(step(&mut gateway, accept(9)), done(vec![refused]));
    for id in 1..=3 {
        assert_eq!(gateway.node().state(), node::State::Leaving);
        gateway = then(gateway, gone(id));
        if id == 2 {
            assert_eq!(gateway.node().state(), node::State::Stopping, "the log is free, a socket is closing");
            gateway = then(gateway, gone(3));
            break;
        }
    }
    assert!(gateway.slots().is_empty() && gateway.unattached().is_empty());
    assert_eq!(gateway.node().state(), node::State::Stopped);
}

/// NODE-2: while any user's run is open, no client is sent away, and readers get new events. Then every client is told
/// to go, and reads to the end first.
#[test]
fn a_drain_waits_for_every_open_run() {
    for (successor, mode) in [(Successor::Absent, Mode::Draining), (Successor::Waiting, Mode::HandingOver)] {
        let mut gateway = then(then(neighbours(), message(1, 5)), to(7, 1, persisted(1)));
        for id in [1, 2] {
            gateway = then(gateway, pull(id, 9));
        }
        gateway = then(gateway, Input::Node(node::Input::Drain { successor }));
        assert_eq!(gateway.node().state(), node::State::Finishing { successor });
        for id in [1, 2] {
            assert_eq!(frames(&step(&mut gateway, pull(id, 9)).1, id), [Frame::Control(Control::Mode(mode))]);
        }
        let run = |input| session::Input::Run { run: RunId(5), input, payload: None };
        gateway = then(then(gateway, to(7, 1, run(run::Input::Start))), to(7, 1, persisted(2)));
        assert_eq!(frames(&step(&mut gateway, pull(1, 9)).1, 1).len(), 1, "the answer goes on");
        gateway = then(gateway, to(7, 1, run(run::Input::Complete)));
        assert_eq!(gateway.node().state(), node::State::Finishing { successor }, "its end is not durable yet");
        gateway = then(gateway, to(7, 1, persisted(3)));
        assert_eq!(gateway.node().state(), node::State::Leaving);
        let sent = frames(&step(&mut gateway, pull(1, 9)).1, 1);
        assert!(sent.iter().any(|frame| matches!(frame, Frame::Event(_))));
        assert_eq!(sent.last(), Some(&Frame::Control(Control::GoingAway(successor))), "after the end of the answer");
    }
}

/// NODE-2: aborting a hand-over changes only the mode, which is announced.
#[test]
fn an_aborted_hand_over_leaves_every_connection_in_place() {
    let mut gateway = then(then(neighbours(), message(1, 5)), to(7, 1, persisted(1)));
    gateway = then(gateway, Input::Node(node::Input::Drain { successor: Successor::Waiting }));
    gateway = then(then(gateway, pull(1, 9)), pull(2, 9));
    let before: Vec<_> = gateway.slots().keys().copied().collect();
    gateway = then(gateway, Input::Node(node::Input::HandoverAborted));
    assert_eq!((gateway.node().mode(), gateway.node().busy()), (Mode::Ready, 0));
    assert_eq!(gateway.slots().keys().copied().collect::<Vec<_>>(), before);
    for id in [1, 2] {
        assert_eq!(frames(&step(&mut gateway, pull(id, 9)).1, id), [Frame::Control(Control::Mode(Mode::Ready))]);
    }
    let _ = joined(gateway, 3, 8);
}

#[test]
fn the_last_to_leave_a_draining_process_stops_it() {
    let mut gateway = then(then(serving(), pull(1, 9)), Input::Node(DRAIN));
    let (_, out) = step(&mut gateway, gone(1));
    let stops = [Output::Disarm(Place::Node, Timer::Grace), Output::Stopped];
    assert_eq!(out[out.len() - 2..], stops);
    assert!(out.contains(&Output::Released));

    let mut empty = started();
    let (_, out) = step(&mut empty, Input::Node(DRAIN));
    assert_eq!(out[out.len() - 2..], stops);
}

/// LIVE-4: when the time for open runs is over, they are interrupted and every client is told to go. When the time for
/// leaving is over too, every connection is closed without waiting for the log.
#[test]
fn a_drain_that_takes_too_long_closes_every_connection() {
    let mut gateway = then(then(neighbours(), message(1, 5)), Input::Node(DRAIN));
    let (handled, out) = step(&mut gateway, Input::Node(node::Input::Expired(Timer::Drain)));
    assert_eq!(handled, Ok(Handled::Done));
    assert!(out.contains(&ordered(7, 1, SessionOutput::Halt { run: RunId(5) })));
    let (handled, out) = step(&mut gateway, Input::Node(node::Input::Expired(Timer::Grace)));
    assert_eq!(handled, Ok(Handled::Done));
    assert!(out.contains(&wake(1)) && out.contains(&wake(2)));
    assert_eq!(out.first(), Some(&Output::Arm(Place::Node, Timer::Grace, SMALL.grace)));
    assert_eq!(gateway.unattached().len(), 2);
    assert!(gateway.slots().is_empty() && out.contains(&Output::Released), "though a run's end is not durable");
}
