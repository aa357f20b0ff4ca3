//! From accept to `connection_ready`, and the end.

use std::collections::VecDeque;

use lockstep_model::connection::{CloseFrame, Connection, Input, Liveness, Output, State};
use lockstep_model::frame::{Control, ReadFrom};
use lockstep_model::{Auth, Bounds, Cause, Code, Frame, Handled, MessageId, Request, Resume, Timer, Verdict};

use super::*;
use crate::support::{no_trace, survives_json};

#[test]
fn an_accepted_connection_has_its_id_and_a_deadline() {
    let mut out = Vec::new();
    let mut connection: Connection<Tag> = Connection::accept(&SMALL, ID, &mut out);
    assert_eq!(out, [Output::Arm(Timer::Handshake, SMALL.handshake)]);
    assert_eq!((connection.id(), connection.state()), (ID, &State::Opening));
    assert_eq!(connection.auth(), &Auth::new());
    assert_eq!((connection.has_frame(), connection.pull()), (false, None));

    assert_eq!(step(&mut connection, Input::Opened), done(vec![]));
    let state = State::Authenticating { early: VecDeque::new(), resume: Resume::default() };
    assert_eq!(connection.state(), &state);
}

/// CONN-3 and the accessors: each state has its own rank, falling towards closed.
#[test]
fn each_state_is_nearer_to_closed_than_the_one_before() {
    let probing = then(live(), Input::Expired(Timer::Idle));
    let states = [
        (opening(), 7, false, false),
        (authenticating(), 6, false, false),
        (attaching(), 5, false, false),
        (live(), 4, true, false),
        (probing, 3, true, false),
        (draining(), 2, true, false),
        (closing(), 1, false, true),
        (closed(), 0, false, true),
    ];
    for (connection, rank, reads, ending) in states {
        let seen = (connection.rank(), connection.is_reading(), connection.is_closing());
        assert_eq!(seen, (rank, reads, ending), "{connection:?}");
        assert_eq!(connection.id(), ID);
        survives_json(&connection);
    }
}

#[test]
fn the_place_to_resume_is_that_of_the_first_credential_until_live() {
    assert_eq!(opening().resume(), None);
    assert_eq!(authenticating().resume(), Some(Resume::default()));
    assert_eq!(verifying().resume(), Some(EARLIEST));
    assert_eq!(then(verifying(), auth(2, Resume::default())).resume(), Some(EARLIEST));
    assert_eq!(attaching().resume(), Some(EARLIEST));
    let other = Resume { from: ReadFrom::Latest, replaces: None };
    assert_eq!(then(attaching(), auth(2, other)).resume(), Some(EARLIEST));
    for connection in [live(), draining(), closing(), closed()] {
        assert_eq!(connection.resume(), None);
    }
}

#[test]
fn a_verified_credential_attaches_with_what_has_queued_up() {
    let mut connection = then(then(verifying(), Input::Received(message(1))), Input::Received(Request::Ping));
    let verdict = Input::Verdict { attempt: attempt(1), verdict: valid(grant(7, 1, 0), 100) };
    let out = vec![
        Output::Attach(grant(7, 1, 0)),
        Output::Disarm(Timer::Verification),
        Output::Arm(Timer::Warning, core::time::Duration::from_secs(80)),
        Output::Arm(Timer::Credential, core::time::Duration::from_secs(100)),
    ];
    assert_eq!(step(&mut connection, verdict), done(out));
    let early = VecDeque::from([message(1), Request::Ping]);
    assert_eq!(connection.state(), &State::Attaching { early, resume: EARLIEST });
    assert_eq!(connection.auth().grant(), Some(grant(7, 1, 0)));
}

/// CONN-2: early requests are handled once, in order, after `connection_ready`.
#[test]
fn becoming_live_says_so_and_handles_what_was_early() {
    let mut connection = then(attaching(), Input::Received(message(1)));
    connection = then(connection, Input::Received(Request::Ping));
    connection = then(connection, Input::Received(cancel(2)));
    let out = vec![
        Output::Disarm(Timer::Handshake),
        Output::Arm(Timer::Idle, SMALL.idle),
        Output::Wake,
        Output::Wake,
        Output::Handle(message(1)),
        Output::Wake,
        Output::Handle(cancel(2)),
    ];
    assert_eq!(step(&mut connection, Input::Ready { ready: READY, reset: Some(RESET) }), done(out));
    assert_eq!(connection.state(), &State::Live { liveness: Liveness::Heard, allowance: SMALL.requests });
    assert_eq!(pulled(&mut connection), [READY, RESET, Control::Pong]);

    let mut quiet = attaching();
    let out = vec![Output::Disarm(Timer::Handshake), Output::Arm(Timer::Idle, SMALL.idle), Output::Wake];
    assert_eq!(step(&mut quiet, Input::Ready { ready: READY, reset: None }), done(out));
    assert_eq!(pulled(&mut quiet), [READY]);
}

/// LIM-1: the fourth early request closes, whatever it is; credentials do not count.
#[test]
fn early_requests_are_bounded() {
    for (start, last) in [(authenticating(), Request::Ping), (verifying(), INVALID), (attaching(), INVALID)] {
        let mut connection = start;
        for request in [message(1), Request::Pong, last] {
            assert_eq!(step(&mut connection, Input::Received(request)), done(vec![]));
        }
        let mut verified = connection.clone();
        assert_eq!(step(&mut verified, auth(9, Resume::default())).0, Handled::Done);
        assert!(!verified.is_closing());
        assert_eq!(step(&mut connection, Input::Received(cancel(1))), done(closes(Cause::TooEager)));
    }
}

/// AUTH-1: before a credential nothing is sent, so an invalid request closes at once. A valid one waits, and so does
/// everything after a credential.
#[test]
fn an_invalid_request_closes_unless_a_credential_was_presented() {
    for early in [vec![], vec![message(1), Request::Ping]] {
        let mut connection = authenticating();
        for request in early {
            assert_eq!(step(&mut connection, Input::Received(request)), done(vec![]));
        }
        let mut good = connection.clone();
        for message in [None, Some(MessageId(1))] {
            let invalid = Request::Invalid { code: Code::Malformed, message };
            let mut connection = connection.clone();
            let closes = closes(Cause::CredentialMissing);
            assert_eq!(step(&mut connection, Input::Received(invalid)), done(closes));
            assert_eq!(connection.pull(), Some(Frame::Close(Cause::CredentialMissing)), "and nothing before it");
        }
        assert_eq!(step(&mut good, auth(9, Resume::default())).0, Handled::Done);
        assert_eq!(step(&mut good, Input::Received(INVALID)), done(vec![]));
        assert!(!good.is_closing());
    }
}

/// Early requests that need more answers than the outbox holds close the connection; later ones are not handled.
#[test]
fn early_requests_cannot_overflow_the_outbox() {
    let bounds = Bounds { early: 5, outbox: 4, ..SMALL };
    for (invalid, closes) in [(2, false), (3, true)] {
        let mut connection = attaching();
        for request in core::iter::repeat_n(INVALID, invalid).chain([message(1)]) {
            assert_eq!(step_within(&bounds, &mut connection, Input::Received(request)).0, Handled::Done);
        }
        let (_, out) = step_within(&bounds, &mut connection, Input::Ready { ready: READY, reset: Some(RESET) });
        assert_eq!(out.contains(&Output::Closing(Cause::Slow)), closes, "{invalid}");
        assert_eq!(out.contains(&Output::Handle(message(1))), !closes, "{invalid}");
    }
}

#[test]
fn a_handshake_that_takes_too_long_closes_with_the_cause_of_its_state() {
    let cases = [
        (opening(), Cause::HandshakeTimeout),
        (authenticating(), Cause::CredentialMissing),
        (verifying(), Cause::HandshakeTimeout),
        (attaching(), Cause::HandshakeTimeout),
    ];
    for (mut connection, cause) in cases {
        assert_eq!(step(&mut connection, Input::Expired(Timer::Handshake)), done(closes(cause)));
        assert_eq!(connection.state(), &State::Closing { cause, frame: CloseFrame::Queued });
    }
}

#[test]
fn a_drain_or_an_order_closes_what_is_not_live_and_a_violation_closes_anything() {
    for mut connection in [opening(), authenticating(), verifying(), attaching()] {
        assert_eq!(step(&mut connection, DRAIN), done(closes(Cause::GoingAway)));
    }
    for connection in open() {
        let mut ordered = connection.clone();
        assert_eq!(step(&mut ordered, Input::Close(Cause::Superseded)), done(closes(Cause::Superseded)));
        let violation = Input::Received(Request::Violation(Cause::TooBig));
        let mut violating = connection;
        assert_eq!(step(&mut violating, violation), done(closes(Cause::TooBig)));
        assert_eq!(violating.auth().grant(), None, "a closing connection needs no credential");
    }
}

/// CONN-1: a lost socket chooses its cause, reports it and is closed in one step; nothing is left to pull.
#[test]
fn a_socket_that_is_gone_closes_at_once() {
    for mut connection in open() {
        let mut out = closes(Cause::Lost);
        out.extend([Output::Disarm(Timer::Close), Output::Closed(Cause::Lost)]);
        assert_eq!(step(&mut connection, Input::Gone(Cause::Lost)), done(out));
        assert_eq!(connection.state(), &State::Closed { cause: Cause::Lost });
        assert_eq!((connection.has_frame(), connection.pull()), (false, None));
    }
}

/// CONN-1: the first cause stays, and the close frame leaves once.
#[test]
fn a_closing_connection_tells_its_cause_once_and_keeps_it() {
    for last in [Input::Gone(Cause::Lost), Input::Expired(Timer::Close)] {
        let mut connection = closing();
        assert_eq!(connection.state(), &State::Closing { cause: Cause::Superseded, frame: CloseFrame::Queued });
        assert!(connection.has_frame());
        assert_eq!(connection.pull(), Some(Frame::Close(Cause::Superseded)));
        assert_eq!(connection.state(), &State::Closing { cause: Cause::Superseded, frame: CloseFrame::Sent });
        assert_eq!((connection.has_frame(), connection.pull()), (false, None));

        let out = vec![Output::Disarm(Timer::Close), Output::Closed(Cause::Superseded)];
        assert_eq!(step(&mut connection, last.clone()), done(out.clone()));
        assert_eq!(connection.state(), &State::Closed { cause: Cause::Superseded });
        assert_eq!(step(&mut closing(), last), done(out), "told or not");
    }
}

#[test]
fn what_waits_to_be_pulled_is_dropped_by_a_close() {
    let mut connection = then(live(), Input::Tell(Control::AuthOk));
    connection = then(connection, Input::Close(Cause::GoingAway));
    assert_eq!(connection.pull(), Some(Frame::Close(Cause::GoingAway)));
    assert_eq!(connection.pull(), None);
}

fn every_input() -> Vec<Input<Tag>> {
    let mut inputs = vec![
        Input::Opened,
        Input::Received(message(1)),
        Input::Received(Request::Ping),
        Input::Received(Request::Violation(Cause::TooBig)),
        auth(1, EARLIEST),
        Input::Verdict { attempt: attempt(1), verdict: valid(grant(7, 1, 0), 9) },
        Input::Verdict { attempt: attempt(1), verdict: Verdict::Rejected },
        Input::Ready { ready: READY, reset: Some(RESET) },
        Input::Tell(Control::Pong),
        Input::Revoked,
        DRAIN,
        Input::Close(Cause::GoingAway),
        Input::Gone(Cause::Lost),
    ];
    let timers = [Timer::Handshake, Timer::Idle, Timer::Allowance, Timer::Grace, Timer::Close];
    inputs.extend(timers.map(Input::Expired));
    inputs.extend([Timer::Verification, Timer::Warning, Timer::Credential, Timer::Linger].map(Input::Expired));
    inputs
}

fn ignores(before: &Connection<Tag>, inputs: impl IntoIterator<Item = Input<Tag>>) {
    for input in inputs {
        let mut connection = before.clone();
        let (handled, out) = step(&mut connection, input.clone());
        assert_eq!(handled, Handled::Ignored, "{input:?} in {before:?}");
        no_trace(before, &connection, &out);
    }
}

#[test]
fn nothing_but_the_end_of_the_socket_moves_a_closing_connection_and_nothing_a_closed_one() {
    let ends = [Input::Gone(Cause::Lost), Input::Expired(Timer::Close)];
    ignores(&closing(), every_input().into_iter().filter(|input| !ends.contains(input)));
    ignores(&closed(), every_input());
}

#[test]
fn what_means_nothing_in_a_state_is_ignored() {
    let expired = |timers: &[Timer]| timers.iter().copied().map(Input::Expired).collect::<Vec<_>>();
    let ready = Input::Ready { ready: READY, reset: None };
    let tell = Input::Tell(Control::Pong);
    let verdict = Input::Verdict { attempt: attempt(1), verdict: Verdict::Rejected };
    let credential = [Timer::Verification, Timer::Warning, Timer::Credential];
    let later = [Timer::Idle, Timer::Allowance, Timer::Grace, Timer::Close, Timer::Retry];

    let received = [message(1), Request::Ping, Request::Pong, INVALID].map(Input::Received);
    ignores(&opening(), received);
    ignores(&opening(), [auth(1, EARLIEST), verdict.clone(), ready.clone(), tell.clone(), Input::Revoked]);
    ignores(&opening(), expired(&[&later[..], &credential].concat()));

    ignores(&authenticating(), [Input::Opened, ready.clone(), tell.clone(), Input::Revoked, verdict.clone()]);
    ignores(&authenticating(), expired(&[&later[..], &credential].concat()));
    ignores(&verifying(), [Input::Opened, ready.clone(), tell.clone(), Input::Revoked]);
    ignores(&verifying(), expired(&[&later[..], &credential[1..]].concat()));

    ignores(&attaching(), [Input::Opened, tell, verdict.clone()]);
    ignores(&attaching(), expired(&[&later[..], &credential[..1]].concat()));

    ignores(&live(), [Input::Opened, ready.clone(), verdict.clone()]);
    ignores(&live(), expired(&[Timer::Handshake, Timer::Grace, Timer::Close, Timer::Verification]));

    ignores(&draining(), [Input::Opened, ready, DRAIN, verdict]);
    let past = [Timer::Handshake, Timer::Idle, Timer::Allowance, Timer::Close, Timer::Verification];
    ignores(&draining(), expired(&past));
}
