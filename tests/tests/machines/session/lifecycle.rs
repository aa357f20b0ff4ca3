//! Restoring, vacant, occupied, retired.

use lockstep_model::connection;
use lockstep_model::frame::ReadFrom;
use lockstep_model::run;
use lockstep_model::session::State;
use lockstep_model::tenure::Request as Asked;
use lockstep_model::{BatchId, RevocationGeneration, Scope, Stream, Successor};

use super::*;
use crate::support::{no_trace, survives_json};

const RESTORE: Output<Tag> = Output::Arm(Owner::Session, Timer::Restore, SMALL.restore);
const LINGER: Output<Tag> = Output::Arm(Owner::Session, Timer::Linger, SMALL.linger);

/// The outputs with which a session retires, with or without the ownership of its stream.
pub(super) fn retires(tenure: Option<Tenure>) -> Vec<Output<Tag>> {
    let mut out: Vec<_> = [Timer::Linger, Timer::Restore, Timer::LogAnswer, Timer::Breaker]
        .map(|timer| Output::Disarm(Owner::Session, timer))
        .into();
    out.extend([Output::Relinquish { tenure }, Output::Retire]);
    out
}

/// The outputs with which a session retires without its stream. Commands that wait for it go to the next session.
pub(super) fn retires_without_stream() -> Vec<Output<Tag>> {
    let mut out = retires(None);
    out.insert(out.len() - 1, Output::Room);
    out
}

fn ignores(before: &Session<Tag>, inputs: impl IntoIterator<Item = Input<Tag>>) {
    for input in inputs {
        let mut session = before.clone();
        let (handled, out) = step(&mut session, input.clone());
        assert_eq!(handled, Ok(Handled::Ignored), "{input:?} in {before:?}");
        no_trace(before, &session, &out);
    }
}

fn fenced(session: Session<Tag>) -> Session<Tag> {
    then(session, Input::Revoke(Scope::All(RevocationGeneration(0))))
}

fn retired() -> Session<Tag> {
    then(opened(), Input::NotRestored { attempt: attempt(1) })
}

fn not_restored(number: u32) -> Input<Tag> {
    Input::NotRestored { attempt: attempt(number) }
}

#[test]
fn an_opened_session_asks_the_log_first() {
    let mut outputs = Outputs::new();
    let session: Session<Tag> = Session::open(&SMALL, USER, Mode::Degraded, &mut outputs);
    assert_eq!(outputs.list, [Output::Restore { attempt: attempt(1) }, ASKED]);
    assert_eq!(session.user(), USER);
    assert_eq!(seeking(&session), (State::Restoring, Some((attempt(1), Asked::Requested))));
    assert_eq!((session.mode(), session.stream()), (Mode::Degraded, None));
    assert!(session.members().is_empty() && session.runs().is_empty() && session.known().is_empty());
    assert!(session.unsettled().is_empty() && !session.fence().is_up() && !session.breaker().is_open());
    survives_json(&session);
}

#[test]
fn a_restored_session_is_vacant_or_occupied_by_waiting_connections() {
    let mut session = opened();
    assert_eq!(step(&mut session, snapshot(3, &[])), done(vec![ANSWERED, LINGER, Output::Room]));
    assert_eq!(session.state(), State::Vacant);
    assert_eq!(session.stream().map(Stream::head), Some(Offset(3)));

    let mut session = then(opened(), join(1, ReadFrom::Latest));
    assert_eq!(seeking(&session), (State::Restoring, Some((attempt(1), Asked::Requested))));
    assert_eq!(session.members().len(), 1);
    let live = [Output::Disarm(owned(1), Timer::Handshake), Output::Arm(owned(1), Timer::Idle, SMALL.idle), wake(1)];
    assert_eq!(step(&mut session, snapshot(3, &[])), done([&[ANSWERED], &live[..], &[Output::Room]].concat()));
    assert_eq!(session.state(), State::Occupied);
    assert_eq!(pulled(&mut session, 1), [ready(3, 3, true)]);
}

#[test]
fn an_answer_to_another_attempt_is_ignored() {
    let second =
        then(then(then(opened(), join(1, ReadFrom::Latest)), not_restored(1)), expired(Owner::Session, Timer::Restore));
    for session in [&second, &fenced(second.clone())] {
        ignores(session, [snapshot(0, &[]), not_restored(1), not_restored(3)]);
    }
    ignores(&vacant(), [snapshot(5, &[]), not_restored(1)]);
    ignores(&occupied(), [snapshot(5, &[]), not_restored(1)]);
}

#[test]
fn a_failed_restore_is_retried_after_a_pause() {
    let mut session = then(opened(), join(1, ReadFrom::Latest));
    for number in 2..=3 {
        assert_eq!(step(&mut session, not_restored(number - 1)), done(vec![ANSWERED, RESTORE]));
        let out = vec![Output::Restore { attempt: attempt(number) }, ASKED];
        assert_eq!(step(&mut session, expired(Owner::Session, Timer::Restore)), done(out));
        assert_eq!(seeking(&session), (State::Restoring, Some((attempt(number), Asked::Requested))));
        ignores(&session, [expired(Owner::Session, Timer::Restore)]);
    }
    ignores(&vacant(), [expired(Owner::Session, Timer::Restore)]);
    ignores(&occupied(), [expired(Owner::Session, Timer::Restore)]);
}

/// SES-1: an unneeded session does not wait for a log that cannot answer.
#[test]
fn a_log_that_cannot_answer_ends_an_unneeded_session() {
    let mut session = opened();
    assert_eq!(step(&mut session, not_restored(1)), done(retires_without_stream()));
    assert_eq!(session.state(), State::Retired);
    for mut session in [then(opened(), join(1, ReadFrom::Latest)), fenced(opened())] {
        assert_eq!(step(&mut session, not_restored(1)), done(vec![ANSWERED, RESTORE]));
        assert_eq!(seeking(&session), (State::Restoring, Some((attempt(1), Asked::Pausing))));
        ignores(&session, [not_restored(1), snapshot(0, &[])]);
    }
}

#[test]
fn the_last_to_leave_makes_it_vacant_and_the_first_to_come_occupies_it() {
    let mut session = then(occupied(), join(2, ReadFrom::Latest));
    let gone = |id| on(id, connection::Input::Gone(Cause::Lost));
    let (_, out) = step(&mut session, gone(1));
    assert!(!out.contains(&LINGER) && session.state() == State::Occupied);
    let (_, out) = step(&mut session, gone(2));
    assert_eq!((out.last(), session.state()), (Some(&LINGER), State::Vacant));
    let (_, out) = step(&mut session, join(3, ReadFrom::Latest));
    assert_eq!((&out[0], session.state()), (&Output::Disarm(Owner::Session, Timer::Linger), State::Occupied));
    assert!(!step(&mut session, join(4, ReadFrom::Latest)).1.contains(&out[0]), "once");
}

/// SES-1: an open run keeps a session without connections; its end releases it.
#[test]
fn a_run_goes_on_without_a_connection() {
    let mut session = then(working(occupied(), 3), on(1, connection::Input::Close(Cause::Superseded)));
    assert_eq!(session.state(), State::Occupied);
    let (handled, out) = step(&mut session, emit(3, run::Input::Complete));
    assert_eq!((handled, out.last(), session.state()), (Ok(Handled::Done), Some(&LINGER), State::Vacant));
}

/// SES-1: a session does not retire with an unconfirmed event or a fence.
#[test]
fn a_lingering_session_retires_when_nothing_is_left_to_keep() {
    let linger = || expired(Owner::Session, Timer::Linger);
    let mut session = vacant();
    assert_eq!(step(&mut session, linger()), done(retires(Some(TENURE))));
    assert_eq!(session.state(), State::Retired);

    let mut guarding = fenced(vacant());
    assert_eq!(step(&mut guarding, linger()), done(vec![LINGER]));
    guarding = then(guarding, Input::Verified(RevocationGeneration(0)));
    assert_eq!(step(&mut guarding, linger()), done(retires(Some(TENURE))));

    let left = then(working(occupied(), 3), on(1, connection::Input::Close(Cause::Superseded)));
    let mut writing = then(left, emit(3, run::Input::Complete));
    assert_eq!(step(&mut writing, linger()), done(vec![LINGER]));
    writing = settled(writing);
    assert_eq!(writing.state(), State::Vacant);
    assert_eq!(step(&mut writing, linger()), done(retires(Some(TENURE))));

    ignores(&occupied(), [linger()]);
    ignores(&opened(), [linger()]);
}

/// NODE-2: a draining session retires as soon as it can.
#[test]
fn a_draining_session_retires_without_lingering() {
    let drain = || Input::Mode(Mode::Draining);
    let leave = || Input::Leave(Successor::Absent);
    for session in [opened(), vacant(), fenced(vacant())] {
        let mut session = session;
        let tenure = session.stream().map(Stream::tenure);
        let expected = tenure.map_or_else(retires_without_stream, |tenure| retires(Some(tenure)));
        assert_eq!(step(&mut session, drain()), done(expected));
        assert_eq!(session.state(), State::Retired);
    }
    let mut waiting = then(then(opened(), join(1, ReadFrom::Latest)), drain());
    assert_eq!(waiting.members().len(), 1, "no client is sent away before the node leaves");
    let (_, out) = step(&mut waiting, leave());
    assert_eq!(released(&out), [(1, Cause::GoingAway)]);
    assert_eq!(waiting.state(), State::Retired);

    let mut session = then(then(working(occupied(), 3), drain()), leave());
    let (_, out) = step(&mut session, on(1, connection::Input::Expired(Timer::Grace)));
    assert_eq!((released(&out), out.last()), (vec![(1, Cause::GoingAway)], Some(&LINGER)));
    assert_eq!(session.state(), State::Vacant, "the end of its run is not durable yet");
    let offset = session.stream().unwrap().head().0 + 1;
    let input = persist(&session, offset);
    let (_, out) = step(&mut session, input);
    let mut last = retires(Some(TENURE));
    last.insert(last.len() - 1, Output::Quiet);
    assert!(out.ends_with(&last));
}

/// NODE-2: while the node awaits runs, a session reports once that it has an open run, and once that it no longer has
/// one.
#[test]
fn an_open_run_holds_a_node_that_is_about_to_leave() {
    let holds = |out: &[Output<Tag>]| -> Vec<Output<Tag>> {
        out.iter().filter(|output| matches!(output, Output::Busy | Output::Quiet)).cloned().collect()
    };
    for mode in [Mode::HandingOver, Mode::Draining] {
        let mut session = working(working(occupied(), 3), 4);
        let (_, out) = step(&mut session, Input::Mode(mode));
        assert_eq!(holds(&out), [Output::Busy], "{mode:?}");
        for run in [3, 4] {
            let (_, out) = step(&mut session, emit(run, run::Input::Complete));
            assert_eq!(holds(&out), []);
        }
        let offset = session.stream().unwrap().head().0 + 1;
        let input = persist(&session, offset);
        assert_eq!(holds(&step(&mut session, input).1), [], "one end is durable");
        let input = persist(&session, offset + 1);
        assert_eq!(holds(&step(&mut session, input).1), [Output::Quiet], "both are");
    }
    let mut session = then(working(occupied(), 3), Input::Mode(Mode::HandingOver));
    assert_eq!(holds(&step(&mut session, Input::Mode(Mode::Ready)).1), [Output::Quiet], "the hand-over was aborted");
    for mode in [Mode::Degraded, Mode::Emergency] {
        assert_eq!(holds(&step(&mut session, Input::Mode(mode)).1), []);
    }
}

/// LIVE-4: when the node leaves, runs are interrupted; when that time is over, connections are closed without waiting
/// for the log.
#[test]
fn stopping_ends_every_run_and_every_connection() {
    let two = then(working(occupied(), 3), join(2, ReadFrom::Latest));
    let halts = |out: &[Output<Tag>]| -> Vec<Output<Tag>> {
        out.iter().filter(|output| matches!(output, Output::Halt { .. })).cloned().collect()
    };
    let halted = [Output::Halt { run: RunId(3) }, Output::Halt { run: RunId(4) }];
    let draining = then(working(two, 4), Input::Mode(Mode::Draining));
    let mut session = draining.clone();
    let (handled, out) = step(&mut session, Input::Leave(Successor::Absent));
    assert_eq!((handled, halts(&out)), (Ok(Handled::Done), halted.to_vec()));
    assert_eq!((session.members().len(), session.runs().len()), (2, 0));
    let interrupted = Kind::Error(run::Reason::Interrupted);
    let pending: Vec<_> = session.stream().unwrap().pending().iter().map(|event| event.kind).collect();
    assert_eq!(pending, [interrupted, interrupted]);
    // Whether the log has taken the ends or does not answer, the session ends.
    let halted_before = [(settled(session.clone()), vec![]), (session, vec![]), (draining, halted.to_vec())];
    for (mut session, halted) in halted_before {
        let (handled, out) = step(&mut session, Input::Stop);
        assert_eq!((handled, halts(&out)), (Ok(Handled::Done), halted));
        assert_eq!(released(&out), [(1, Cause::GoingAway), (2, Cause::GoingAway)]);
        assert_eq!(session.state(), State::Retired);
    }
}

#[test]
fn a_mode_is_told_once_and_draining_is_for_good() {
    let mut session = then(then(occupied(), join(2, ReadFrom::Latest)), pull(2, 9));
    assert_eq!(step(&mut session, Input::Mode(Mode::Emergency)), done(vec![wake(1), wake(2)]));
    assert_eq!(session.mode(), Mode::Emergency);
    for id in [1, 2] {
        assert_eq!(pulled(&mut session, id), [Frame::Control(Control::Mode(Mode::Emergency))]);
    }
    ignores(&session, [Input::Mode(Mode::Emergency)]);
    session = then(session, Input::Mode(Mode::Draining));
    for id in [1, 2] {
        assert_eq!(pulled(&mut session, id), [Frame::Control(Control::Mode(Mode::Draining))]);
    }
    assert_eq!(session.mode(), Mode::Draining);
    ignores(
        &session,
        [Mode::Ready, Mode::Degraded, Mode::Emergency, Mode::HandingOver, Mode::Draining].map(Input::Mode),
    );
}

#[test]
fn nothing_wakes_a_retired_session_and_our_own_commands_are_told() {
    let session = retired();
    let refused = [join(1, ReadFrom::Latest), emit(1, run::Input::Cancel), emit(1, run::Input::Start)];
    for input in refused {
        let mut same = session.clone();
        assert_eq!(step(&mut same, input), (Err(Refusal::Retired), vec![]));
        assert_eq!(same, session);
    }
    let (batch, offset) = (BatchId(0), Offset(9));
    ignores(
        &session,
        [
            snapshot(0, &[]),
            not_restored(1),
            on(1, connection::Input::Gone(Cause::Lost)),
            pull(1, 1),
            Input::Persisted { batch, offset, record: None },
            Input::Failed { batch },
            Input::Revoke(Scope::All(RevocationGeneration(9))),
            Input::Mode(Mode::Degraded),
            Input::Leave(Successor::Waiting),
            Input::Stop,
            expired(Owner::Session, Timer::Restore),
            expired(Owner::Session, Timer::Linger),
        ],
    );
}

#[test]
fn what_names_nothing_of_this_session_is_ignored() {
    let gone = on(9, connection::Input::Gone(Cause::Lost));
    let stranger = [gone, pull(9, 1), expired(owned(9), Timer::Idle), expired(Owner::Run(RunId(9)), Timer::Silence)];
    for session in [opened(), vacant(), occupied(), working(occupied(), 3)] {
        ignores(&session, stranger.clone());
        let timers = [Timer::Retry, Timer::Idle, Timer::Silence, Timer::Probe];
        ignores(&session, timers.map(|timer| expired(Owner::Session, timer)));
        ignores(&session, [Input::Failed { batch: BatchId(7) }]);
        ignores(&session, [expired(Owner::Run(RunId(3)), Timer::Idle), expired(owned(1), Timer::Grace)]);
    }
}
