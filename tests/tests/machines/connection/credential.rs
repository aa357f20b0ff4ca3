//! How a connection follows its credential.

use core::time::Duration;

use lockstep_model::connection::{Input, Output};
use lockstep_model::frame::Control;
use lockstep_model::{Cause, Code, Frame, Handled, Timer, Verdict};

use super::*;

const IDLE: Output<Tag> = Output::Arm(Timer::Idle, SMALL.idle);

fn verify(number: u32, token: Tag) -> [Output<Tag>; 2] {
    let verify = Output::Verify { attempt: attempt(number), token };
    [verify, Output::Arm(Timer::Verification, SMALL.verification)]
}

fn verdict(number: u32, verdict: Verdict) -> Input<Tag> {
    Input::Verdict { attempt: attempt(number), verdict }
}

/// Connections with a verified credential, and their first outputs when the peer sends something.
fn verified() -> [(Connection<Tag>, Vec<Output<Tag>>); 3] {
    [(attaching(), vec![]), (live(), vec![IDLE]), (draining(), vec![])]
}

fn refreshing() -> [Connection<Tag>; 3] {
    verified().map(|(connection, _)| then(connection, auth(2, Resume::default())))
}

#[test]
fn a_credential_is_verified_by_its_token_in_every_state_that_takes_one() {
    let mut connection = authenticating();
    assert_eq!(step(&mut connection, auth(1, EARLIEST)), done(verify(1, 1).to_vec()));
    assert_eq!(step(&mut connection, auth(8, EARLIEST)), done(verify(2, 8).to_vec()));
    for (mut connection, heard) in verified() {
        assert_eq!(step(&mut connection, auth(2, EARLIEST)), done([&heard[..], &verify(2, 2)].concat()));
    }
}

#[test]
fn unanswered_credentials_flood() {
    let mut connection = then(verifying(), auth(2, EARLIEST));
    assert_eq!(step(&mut connection, auth(3, EARLIEST)), done(ends(Cause::Flooding)));
    for (connection, heard) in verified() {
        let mut connection = then(then(connection, auth(2, EARLIEST)), auth(3, EARLIEST));
        let out = [heard, ends(Cause::Flooding)].concat();
        assert_eq!(step(&mut connection, auth(4, EARLIEST)), done(out));
    }
}

/// AUTH-3: a rejection, or a missing verdict, admits no connection.
#[test]
fn a_first_verdict_that_is_not_good_closes_for_its_cause() {
    let cases = [
        (verdict(1, Verdict::Rejected), Cause::CredentialRejected),
        (verdict(1, Verdict::Unavailable), Cause::VerifierUnavailable),
        (Input::Expired(Timer::Verification), Cause::VerifierUnavailable),
    ];
    for (input, cause) in cases {
        let mut connection = verifying();
        assert_eq!(step(&mut connection, input), done(ends(cause)));
        assert_eq!(connection.pull(), Some(Frame::Close(cause)));
    }
}

/// AUTH-1, AUTH-2: a credential that ends closes its connection, before and after `connection_ready`.
#[test]
fn a_credential_that_ends_closes_for_its_cause() {
    let other = valid(grant(8, 2, 0), 9);
    let cases = [
        (verdict(2, Verdict::Rejected), Cause::CredentialRejected),
        (verdict(2, other), Cause::UserMismatch),
        (Input::Revoked, Cause::CredentialRevoked),
        (Input::Expired(Timer::Credential), Cause::CredentialExpired),
    ];
    for (input, cause) in cases {
        for mut connection in refreshing() {
            assert_eq!(step(&mut connection, input.clone()), done(ends(cause)));
            assert_eq!(connection.auth().grant(), None);
            assert_eq!(connection.pull(), Some(Frame::Close(cause)), "and no application frame");
            assert_eq!(connection.pull(), None);
        }
    }
    for input in [Input::Revoked, Input::Expired(Timer::Credential)] {
        for (mut connection, _) in verified() {
            assert_eq!(step(&mut connection, input.clone()).0, Handled::Done);
            assert!(connection.is_closing());
        }
    }
}

/// A notice wakes a reading connection's writer; before that it is ignored.
#[test]
fn a_refresh_and_a_warning_are_told_to_a_connection_that_reads() {
    let renewed = || {
        vec![
            Output::Disarm(Timer::Verification),
            Output::Arm(Timer::Warning, Duration::from_secs(40)),
            Output::Arm(Timer::Credential, Duration::from_secs(50)),
        ]
    };
    let [waiting, reading @ ..] = refreshing();
    for mut connection in reading {
        let mut warned = connection.clone();
        assert_eq!(step(&mut warned, Input::Expired(Timer::Warning)), done(vec![Output::Wake]));
        assert_eq!(pulled(&mut warned), [Control::AuthExpiring]);

        for unavailable in [verdict(2, Verdict::Unavailable), Input::Expired(Timer::Verification)] {
            let mut told = connection.clone();
            let out = vec![Output::Disarm(Timer::Verification), Output::Wake];
            assert_eq!(step(&mut told, unavailable), done(out));
            assert_eq!(pulled(&mut told), [Control::Error(Code::VerifierUnavailable)]);
            assert_eq!(told.auth().grant(), Some(grant(7, 1, 0)));
        }

        let (handled, out) = step(&mut connection, verdict(2, valid(grant(7, 2, 0), 50)));
        assert_eq!((handled, out), done([vec![Output::Wake], renewed()].concat()));
        assert_eq!(pulled(&mut connection), [Control::AuthOk]);
        assert_eq!(connection.auth().grant(), Some(grant(7, 2, 0)));
    }
    let mut connection = waiting.clone();
    assert_eq!(step(&mut connection, verdict(2, valid(grant(7, 2, 0), 50))), done(renewed()));
    assert_eq!(connection.resume(), Some(EARLIEST), "it attaches as it was");
    let mut connection = waiting;
    assert_eq!(step(&mut connection, Input::Expired(Timer::Warning)), done(vec![]));
}

#[test]
fn a_stale_verdict_is_ignored() {
    for before in refreshing().into_iter().chain([verifying()]) {
        for number in [0, 3] {
            let mut connection = before.clone();
            assert_eq!(step(&mut connection, verdict(number, Verdict::Rejected)), (Handled::Ignored, vec![]));
            assert_eq!(connection, before);
        }
    }
}
