//! How a session ends that has lost its user to another owner.

use lockstep_model::frame::ReadFrom;
use lockstep_model::run;
use lockstep_model::session::State;
use lockstep_model::{CredentialId, Incarnation, RevocationGeneration, Scope, Successor};

use super::lifecycle::{retires, retires_without_stream};
use super::*;

/// A run with an event that is not durable, and two connections.
fn busy() -> Session<Tag> {
    then(then(working(occupied(), 3), join(2, ReadFrom::Latest)), emit(3, run::Input::Think))
}

fn causes(out: &[Output<Tag>]) -> Vec<(u64, Cause)> {
    released(out)
}

/// OWN-1: the session ends at once, with an error to its clients, and nothing pending is confirmed.
#[test]
fn a_fenced_session_ends_with_its_connections_and_runs() {
    for (input, cause) in [(Input::Fenced, Cause::Moved), (Input::Lost, Cause::Moved), (Input::Broken, Cause::Fault)] {
        let mut session = busy();
        let batch = session.stream().unwrap().batch();
        let (handled, out) = step(&mut session, input);
        assert_eq!((handled, session.state()), (Ok(Handled::Done), State::Retired));
        assert_eq!(causes(&out), [(1, cause), (2, cause)]);
        let halted = out.iter().position(|output| *output == Output::Halt { run: RunId(3) }).unwrap();
        let lost = out.iter().position(|output| *output == Output::Lose).unwrap();
        assert!(halted < lost, "RUN-3: its agent is stopped, and what it waits for is lost");
        assert!(!out.iter().any(|output| matches!(output, Output::Durable { .. } | Output::Write { .. })), "{out:?}");
        for timer in [Timer::Linger, Timer::Restore, Timer::Retry, Timer::LogAnswer, Timer::Breaker] {
            assert!(out.contains(&Output::Disarm(Owner::Session, timer)), "{timer:?}");
        }
        assert_eq!(out[out.len() - 6..], retires(None));
        let late = Input::Persisted { batch, offset: Offset(9), record: None };
        assert_eq!(step(&mut session, late), (Ok(Handled::Ignored), vec![]), "what the log says late changes nothing");
        assert_eq!(step(&mut session, emit(3, run::Input::Think)), (Err(Refusal::Retired), vec![]));
    }
}

#[test]
fn a_session_that_waits_for_its_stream_may_be_fenced() {
    let elsewhere = |number| Input::Elsewhere { attempt: attempt(number), owner: Incarnation(4) };
    for input in [Input::Fenced, Input::Lost] {
        let mut session = then(opened(), join(1, ReadFrom::Latest));
        assert_eq!(step(&mut session, elsewhere(2)), (Ok(Handled::Ignored), vec![]), "another attempt");
        let (handled, out) = step(&mut session, input);
        assert_eq!((handled, session.state()), (Ok(Handled::Done), State::Retired));
        assert_eq!(causes(&out), [(1, Cause::Moved)]);
    }
    let mut session = occupied();
    assert_eq!(step(&mut session, elsewhere(1)), (Ok(Handled::Ignored), vec![]), "it has acquired its user");
}

/// OWN-6, LIVE-6: the owner's process serves the connections of a user that it owns.
#[test]
fn a_session_whose_user_has_another_owner_passes_its_connections_on() {
    let owner = Incarnation(4);
    let mut session = then(then(opened(), join(1, ReadFrom::Latest)), join(2, ReadFrom::Latest));
    let (handled, out) = step(&mut session, Input::Elsewhere { attempt: attempt(1), owner });
    assert_eq!((handled, session.state()), (Ok(Handled::Done), State::Retired));
    for id in [1, 2] {
        assert!(out.contains(&Output::Relay { connection: ConnectionId(id), owner }), "{out:?}");
    }
    let released = |output: &Output<Tag>| {
        let Output::Release { connection } = output else { return None };
        Some((connection.id().0, connection.relayed_to()))
    };
    assert!(out.iter().filter_map(released).eq([(1, Some(owner)), (2, Some(owner))]), "{out:?}");
    assert!(out.contains(&Output::Elsewhere { owner }) && out.contains(&Output::Relinquish { tenure: None }));
    assert_eq!(out.last(), Some(&Output::Retire));
}

/// AUTH-3: a fenced session still guards against verifications under way; later connections are sent away.
#[test]
fn a_fenced_session_keeps_its_revocations_until_they_may_be_forgotten() {
    let mut session = then(occupied(), Input::Revoke(Scope::One(CredentialId(9), RevocationGeneration(1))));
    let (_, out) = step(&mut session, Input::Fenced);
    assert_eq!(session.state(), State::Leaving { cause: Cause::Moved });
    assert!(!out.contains(&Output::Retire));
    let (handled, out) = step(&mut session, join(2, ReadFrom::Latest));
    assert_eq!((handled, causes(&out)), (Ok(Handled::Done), vec![(2, Cause::Moved)]));
    assert_eq!(step(&mut session, Input::Fenced), (Ok(Handled::Ignored), vec![]));
    let notice = Input::Notice { notice: RunId(8), thread: None, payload: 1 };
    assert_eq!(step(&mut session, notice), (Err(Refusal::Backpressure), vec![]), "the next session will take it");
    assert_eq!(step(&mut session, Input::Verified(RevocationGeneration(1))), done(retires_without_stream()));
}

/// LIVE-4: while its node leaves, the log has time to take what is pending; then the session ends without it.
#[test]
fn a_stopped_session_does_not_wait_for_its_log() {
    let draining = then(working(occupied(), 3), Input::Mode(Mode::Draining));
    let mut session = then(draining, Input::Leave(Successor::Absent));
    assert_eq!(causes(&step(&mut session, join(2, ReadFrom::Latest)).1), [(2, Cause::GoingAway)]);
    let closed = then(session.clone(), expired(Owner::Connection(ConnectionId(1)), Timer::Grace));
    assert_eq!(closed.state(), State::Vacant, "what is pending keeps it");
    assert_eq!(settled(closed.clone()).state(), State::Retired, "the log took it in time");

    for mut session in [session, closed] {
        let (handled, out) = step(&mut session, Input::Stop);
        assert_eq!((handled, session.state()), (Ok(Handled::Done), State::Retired));
        assert!(!out.iter().any(|output| matches!(output, Output::Durable { .. })), "{out:?}");
        let lost = out.iter().position(|output| *output == Output::Lose);
        let retires = out.iter().position(|output| *output == Output::Retire);
        assert!(lost.is_some() && lost < retires, "RUN-3: who waits is told before the session goes: {out:?}");
        assert_eq!(step(&mut session, Input::Stop), (Ok(Handled::Ignored), vec![]));
    }
}

/// Neither does a pending last event keep a session that was vacant.
#[test]
fn a_vacant_session_that_is_stopped_does_not_linger() {
    let left = then(working(occupied(), 3), on(1, connection::Input::Close(Cause::Superseded)));
    let session = then(left, emit(3, run::Input::Complete));
    assert_eq!(session.state(), State::Vacant);
    assert_eq!(then(session, Input::Stop).state(), State::Retired);
}

/// LIVE-4: a request that the log does not answer in time is retried after a pause, whatever it was.
#[test]
fn a_restore_that_is_not_answered_is_retried() {
    let mut session = then(opened(), join(1, ReadFrom::Latest));
    let (handled, out) = step(&mut session, expired(Owner::Session, Timer::LogAnswer));
    let pause = Output::Arm(Owner::Session, Timer::Restore, SMALL.restore);
    assert_eq!((handled, out.last()), (Ok(Handled::Done), Some(&pause)));
    assert_eq!(step(&mut session, snapshot(0, &[])), (Ok(Handled::Ignored), vec![]), "it was given up");
    let asked = vec![Output::Restore { attempt: attempt(2) }, ASKED];
    assert_eq!(step(&mut session, expired(Owner::Session, Timer::Restore)), done(asked));
}
