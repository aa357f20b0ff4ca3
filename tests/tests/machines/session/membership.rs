//! Joining, superseding, revoking.

use core::time::Duration;

use lockstep_model::connection;
use lockstep_model::frame::ReadFrom;
use lockstep_model::session::State;
use lockstep_model::tenure::Request as Asked;
use lockstep_model::{CredentialId, RevocationGeneration, Scope};

use super::*;
use crate::support::no_trace;

fn join_as(id: u64, grant: Grant, mode: Mode) -> Input<Tag> {
    Input::Join { connection: attaching(id, ReadFrom::Latest, None, grant), mode }
}

fn replacing(id: u64, older: u64) -> Input<Tag> {
    let connection = attaching(id, ReadFrom::Latest, Some(older), grant(7, id, 0));
    Input::Join { connection, mode: Mode::Ready }
}

fn ids(session: &Session<Tag>) -> Vec<u64> {
    session.members().iter().map(|(id, _)| id.0).collect()
}

/// The outputs of sending a connection away that never was a member.
fn sent_away(session: &Session<Tag>, input: Input<Tag>, id: u64, cause: Cause) {
    let mut refusing = session.clone();
    let (handled, out) = step(&mut refusing, input);
    assert_eq!(handled, Ok(Handled::Done));
    assert_eq!(released(&out), [(id, cause)]);
    assert_eq!(out[..8], closes(id));
    assert_eq!((ids(&refusing), out.len()), (ids(session), 9));
}

#[test]
fn a_joining_connection_is_ready_at_its_requested_position() {
    let entries = [entry(3, 4, received(1)), entry(4, 9, event(1, Kind::Error(run::Reason::Failed), None))];
    let session = then(opened(), snapshot(3, &entries));
    let reset = |from, to| Frame::Control(Control::StreamReset { from: Offset(from), to: Offset(to) });
    let cases = [
        (ReadFrom::Latest, 9, vec![ready(9, 9, true)], 0),
        (ReadFrom::Earliest, 3, vec![ready(3, 9, true)], 2),
        (after(3), 3, vec![ready(3, 9, true)], 2),
        (after(4), 4, vec![ready(4, 9, true)], 1),
        (after(9), 9, vec![ready(9, 9, true)], 0),
        (after(2), 3, vec![ready(3, 9, false), reset(2, 3)], 2),
    ];
    for (from, start, controls, behind) in cases {
        let mut session = session.clone();
        let mut out = vec![
            Output::Disarm(Owner::Session, Timer::Linger),
            Output::Disarm(owned(1), Timer::Handshake),
            Output::Arm(owned(1), Timer::Idle, SMALL.idle),
        ];
        out.push(wake(1));
        assert_eq!(step(&mut session, join(1, from)), done(out), "{from:?}");
        let member = &session.members().get(&ConnectionId(1)).unwrap();
        assert_eq!(member.cursor.map(|cursor| cursor.at()), Some(Offset(start)));
        assert!(!member.parked);
        let frames = pulled(&mut session, 1);
        assert_eq!(frames[..controls.len()], controls);
        let events = entries.iter().skip(2 - behind).cloned().map(Frame::Event);
        assert_eq!(frames[controls.len()..], events.collect::<Vec<_>>());
        assert!(session.members().get(&ConnectionId(1)).unwrap().parked);
    }
}

#[test]
fn the_mode_of_the_node_comes_with_a_connection() {
    let mut session = then(vacant(), join_as(1, grant(7, 1, 0), Mode::Degraded));
    assert_eq!(session.mode(), Mode::Degraded);
    let Some(Frame::Control(Control::Ready { mode, .. })) = pulled(&mut session, 1).into_iter().next() else {
        panic!("ready comes first")
    };
    assert_eq!(mode, Mode::Degraded);

    let draining = then(occupied(), Input::Mode(Mode::Draining));
    sent_away(&draining, join(2, ReadFrom::Latest), 2, Cause::GoingAway);
    let mut draining = draining;
    let _ = step(&mut draining, join(2, ReadFrom::Latest));
    assert_eq!(draining.mode(), Mode::Draining, "it cannot be taken back");
}

#[test]
fn a_connection_that_may_not_stay_is_closed_for_the_first_applicable_cause() {
    let emergency = join_as(2, grant(7, 2, 0), Mode::Emergency);
    sent_away(&vacant(), emergency.clone(), 2, Cause::Overloaded);
    let revoked = then(vacant(), Input::Revoke(Scope::One(CredentialId(2), RevocationGeneration(1))));
    sent_away(&revoked, emergency, 2, Cause::CredentialRevoked);
    sent_away(&revoked, join(2, ReadFrom::Latest), 2, Cause::CredentialRevoked);
    assert_eq!(ids(&then(revoked, join(3, ReadFrom::Latest))), [3]);
}

/// LIM-1: three connections; a fourth is sent away unless it replaces its client's older one.
#[test]
fn connections_are_bounded_and_one_may_take_its_older_ones_place() {
    let full = (2..=3).fold(occupied(), |session, id| then(session, join(id, ReadFrom::Latest)));
    sent_away(&full, join(4, ReadFrom::Latest), 4, Cause::TooManyConnections);
    sent_away(&full, replacing(4, 9), 4, Cause::TooManyConnections);

    let mut session = full;
    let (handled, out) = step(&mut session, replacing(4, 2));
    assert_eq!(handled, Ok(Handled::Done));
    assert_eq!(released(&out), [(2, Cause::Superseded)]);
    assert_eq!(out[..8], closes(2), "the older one leaves first");
    assert_eq!(ids(&session), [1, 3, 4]);

    let mut session = then(occupied(), join(2, ReadFrom::Latest));
    let (_, out) = step(&mut session, replacing(3, 1));
    assert_eq!(released(&out), [(1, Cause::Superseded)]);
    assert_eq!(ids(&session), [2, 3], "also when there is room");
}

/// ISO-1, CONN-1: a connection that cannot be a member is our fault, and nothing changes.
#[test]
fn only_a_new_attaching_connection_of_this_user_may_join() {
    let mut live = attaching(2, ReadFrom::Latest, None, grant(7, 2, 0));
    let ready = connection::Input::Ready { ready: Control::Pong, reset: None };
    assert_eq!(live.step(&SMALL, ready, &mut Vec::new()), Handled::Done);
    let opening = Box::new(Connection::accept(&SMALL, ConnectionId(2), &mut Vec::new()));
    let mut authenticating = opening.clone();
    assert_eq!(authenticating.step(&SMALL, connection::Input::Opened, &mut Vec::new()), Handled::Done);
    let stranger = attaching(2, ReadFrom::Latest, None, grant(8, 2, 0));
    let twice = attaching(1, ReadFrom::Latest, None, grant(7, 2, 0));
    for connection in [live, opening, authenticating, stranger, twice] {
        let mut session = occupied();
        let before = session.clone();
        let (handled, out) = step(&mut session, Input::Join { connection, mode: Mode::Degraded });
        assert_eq!(handled, Err(Refusal::Misuse));
        no_trace(&before, &session, &out);
    }
}

/// AUTH-1: exactly the connections whose credential is revoked leave, in the step that revokes it.
#[test]
fn revoking_closes_what_it_covers_and_nothing_else() {
    let grants = [grant(7, 1, 0), grant(7, 2, 1), grant(7, 1, 2)];
    let three = (1..).zip(grants).fold(vacant(), |session, (id, grant)| then(session, join_as(id, grant, Mode::Ready)));
    let cases = [
        (Scope::One(CredentialId(1), RevocationGeneration(1)), vec![1, 3]),
        (Scope::One(CredentialId(9), RevocationGeneration(1)), vec![]),
        (Scope::All(RevocationGeneration(1)), vec![1]),
        (Scope::All(RevocationGeneration(2)), vec![1, 2]),
        (Scope::All(RevocationGeneration(3)), vec![1, 2, 3]),
        (Scope::All(RevocationGeneration(0)), vec![]),
    ];
    for (scope, leaving) in cases {
        let mut session = three.clone();
        let (handled, out) = step(&mut session, Input::Revoke(scope));
        assert_eq!(handled, Ok(Handled::Done));
        let causes: Vec<_> = leaving.iter().map(|id| (*id, Cause::CredentialRevoked)).collect();
        assert_eq!(released(&out), causes, "{scope:?}");
        assert!(session.fence().is_up());
        assert_eq!(ids(&session), (1..=3).filter(|id| !leaving.contains(id)).collect::<Vec<_>>());
        // AUTH-3: neither a deadline lowers the fence, nor the end of verifications that began after the revocation.
        for timer in Timer::ALL {
            let _ = step(&mut session, expired(Owner::Session, timer));
        }
        let RevocationGeneration(raised) = scope.generation();
        if let Some(earlier) = raised.checked_sub(1) {
            let verified = Input::Verified(RevocationGeneration(earlier));
            assert_eq!(step(&mut session, verified).0, Ok(Handled::Ignored), "AUTH-3: an older verdict is awaited");
        }
        assert!(session.fence().is_up());
        session = then(session, Input::Verified(RevocationGeneration(raised)));
        assert!(!session.fence().is_up());
    }
}

#[test]
fn a_connection_that_waits_for_the_stream_is_revoked_too() {
    let mut session = then(opened(), join(1, ReadFrom::Latest));
    let (_, out) = step(&mut session, Input::Revoke(Scope::One(CredentialId(1), RevocationGeneration(1))));
    assert_eq!(released(&out), [(1, Cause::CredentialRevoked)]);
    assert_eq!(seeking(&session), (State::Restoring, Some((attempt(1), Asked::Requested))));
    assert_eq!(then(session, snapshot(0, &[])).state(), State::Vacant);
}

/// AUTH-3: a refresh that was verified before its credential was revoked is a rejection.
#[test]
fn a_verdict_is_held_against_the_fence() {
    let refresh = on(1, connection::Input::Received(Request::Auth { token: 5, resume: Resume::default() }));
    let mut session = occupied();
    let out = vec![
        Output::Arm(owned(1), Timer::Idle, SMALL.idle),
        Output::Verify { connection: ConnectionId(1), attempt: attempt(2), token: 5 },
        Output::Arm(owned(1), Timer::Verification, SMALL.verification),
    ];
    assert_eq!(step(&mut session, refresh), done(out));
    let verdict = |verdict| on(1, connection::Input::Verdict { attempt: attempt(2), verdict });
    let fenced = then(session.clone(), Input::Revoke(Scope::One(CredentialId(5), RevocationGeneration(1))));

    let mut late = fenced.clone();
    let (_, out) = step(&mut late, verdict(valid(grant(7, 5, 0), 60)));
    assert_eq!(released(&out), [(1, Cause::CredentialRejected)]);

    let mut other = fenced;
    let out = vec![
        wake(1),
        Output::Disarm(owned(1), Timer::Verification),
        Output::Arm(owned(1), Timer::Warning, Duration::from_secs(48)),
        Output::Arm(owned(1), Timer::Credential, Duration::from_secs(60)),
    ];
    assert_eq!(step(&mut other, verdict(valid(grant(7, 6, 0), 60))), done(out.clone()));
    assert_eq!(pulled(&mut other, 1), [Frame::Control(Control::AuthOk)]);
    assert_eq!(step(&mut session, verdict(valid(grant(7, 5, 0), 60))), done(out));
}

#[test]
fn a_connection_that_closes_leaves_in_the_same_step() {
    for (input, cause) in [
        (connection::Input::Close(Cause::Fault), Cause::Fault),
        (connection::Input::Received(Request::Violation(Cause::TooBig)), Cause::TooBig),
        (connection::Input::Expired(Timer::Credential), Cause::CredentialExpired),
    ] {
        let mut session = then(occupied(), join(2, ReadFrom::Latest));
        let (_, out) = step(&mut session, on(1, input));
        assert_eq!(released(&out), [(1, cause)]);
        assert_eq!(ids(&session), [2]);
    }
    let mut session = occupied();
    let (_, out) = step(&mut session, expired(owned(1), Timer::Credential));
    assert_eq!(released(&out), [(1, Cause::CredentialExpired)]);
    let Some(Output::Release { connection }) = step(&mut occupied(), on(1, connection::Input::Gone(Cause::Lost)))
        .1
        .into_iter()
        .find(|output| matches!(output, Output::Release { .. }))
    else {
        panic!("a connection that is gone is released")
    };
    assert_eq!(connection.state(), &connection::State::Closed { cause: Cause::Lost });
}
