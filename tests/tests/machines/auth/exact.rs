use core::time::Duration;

use lockstep_model::auth::{Auth, Ending, Input, Lifetime, Output, State};
use lockstep_model::{Bounds, Handled, Timer, Verdict};

use super::{DISARMED, absent, after, held, living, refreshing, step, verdict, verifying};
use crate::support::{SMALL, attempt, grant, no_trace, tampered, valid};

fn ended(ending: Ending) -> (Handled, Vec<Output>) {
    let mut out = DISARMED.to_vec();
    out.push(Output::Ended(ending));
    (Handled::Done, out)
}

#[test]
fn the_first_credential_is_verified_against_a_deadline() {
    let mut auth = Auth::new();
    assert_eq!(auth, Auth::default());
    assert_eq!((auth.state(), auth.newest(), auth.grant()), (&State::Absent, attempt(0), None));

    let out = vec![Output::Verify(attempt(1)), Output::Arm(Timer::Verification, SMALL.verification)];
    assert_eq!(step(&mut auth, Input::Presented), (Handled::Done, out));
    assert_eq!((auth.state(), auth.newest(), auth.grant()), (&State::Verifying { tries: 1 }, attempt(1), None));
}

#[test]
fn a_newer_credential_replaces_one_that_is_being_verified_up_to_the_bound() {
    let bounds = Bounds { attempts: 3, ..SMALL };
    let mut auth = Auth::new();
    for tries in 1..=3 {
        let mut out = Vec::new();
        assert_eq!(auth.step(&bounds, Input::Presented, &mut out), Handled::Done);
        let number = u32::from(tries);
        assert_eq!(out, [Output::Verify(attempt(number)), Output::Arm(Timer::Verification, bounds.verification)]);
        assert_eq!((auth.state(), auth.newest()), (&State::Verifying { tries }, attempt(number)));
    }
    let mut out = Vec::new();
    assert_eq!(auth.step(&bounds, Input::Presented, &mut out), Handled::Done);
    assert_eq!((Handled::Done, out), ended(Ending::Flooding));
    assert_eq!(auth.state(), &State::Ended { ending: Ending::Flooding });
    assert_eq!(auth.newest(), attempt(3), "a flooding credential is not verified");
}

#[test]
fn refreshes_are_bounded_as_the_first_credential_is_and_a_verdict_makes_room() {
    let mut auth = held();
    for tries in 1..=2 {
        let number = u32::from(tries) + 1;
        let out = vec![Output::Verify(attempt(number)), Output::Arm(Timer::Verification, SMALL.verification)];
        assert_eq!(step(&mut auth, Input::Presented), (Handled::Done, out));
        assert_eq!(auth.state(), &State::Refreshing { grant: grant(7, 1, 0), tries });
    }
    let mut flooded = auth.clone();
    assert_eq!(step(&mut flooded, Input::Presented), ended(Ending::Flooding));

    assert_eq!(step(&mut auth, verdict(3, Verdict::Unavailable)).0, Handled::Done);
    assert_eq!(step(&mut auth, Input::Presented).0, Handled::Done);
    assert_eq!(auth.state(), &State::Refreshing { grant: grant(7, 1, 0), tries: 1 });
}

#[test]
fn a_first_verdict_grants_for_its_lifetime_and_warns_after_four_fifths() {
    let mut auth = verifying();
    let out = vec![
        Output::Granted(grant(7, 1, 0)),
        Output::Disarm(Timer::Verification),
        Output::Arm(Timer::Warning, Duration::from_secs(80)),
        Output::Arm(Timer::Credential, Duration::from_secs(100)),
    ];
    assert_eq!(step(&mut auth, verdict(1, valid(grant(7, 1, 0), 100))), (Handled::Done, out));
    assert_eq!(auth.state(), &State::Valid { grant: grant(7, 1, 0) });
    assert_eq!(auth.grant(), Some(grant(7, 1, 0)));
}

/// AUTH-2: a refresh may change everything except the user.
#[test]
fn a_refresh_for_the_same_user_renews_and_for_another_ends() {
    let mut auth = refreshing();
    assert_eq!(auth.grant(), Some(grant(7, 1, 0)), "the older credential still counts");
    let out = vec![
        Output::Renewed,
        Output::Disarm(Timer::Verification),
        Output::Arm(Timer::Warning, Duration::from_secs(40)),
        Output::Arm(Timer::Credential, Duration::from_secs(50)),
    ];
    assert_eq!(step(&mut auth, verdict(2, valid(grant(7, 2, 3), 50))), (Handled::Done, out));
    assert_eq!(auth.state(), &State::Valid { grant: grant(7, 2, 3) });

    let mut auth = refreshing();
    assert_eq!(step(&mut auth, verdict(2, valid(grant(8, 1, 0), 50))), ended(Ending::OtherUser));
    assert_eq!(auth.grant(), None);
}

/// AUTH-3: only the newest attempt's verdict counts, and an attempt that was never made has none.
#[test]
fn a_verdict_on_another_attempt_than_the_newest_is_ignored() {
    let again = after(&[Input::Presented, Input::Presented]);
    let cases = [(verifying(), [0, 2]), (again, [1, 3]), (refreshing(), [1, 3]), (held(), [1, 2]), (absent(), [0, 1])];
    for (before, stale) in cases {
        for number in stale {
            for answer in [valid(grant(7, 9, 9), 9), Verdict::Rejected, Verdict::Unavailable] {
                let mut auth = before.clone();
                let (handled, out) = step(&mut auth, verdict(number, answer));
                assert_eq!(handled, Handled::Ignored, "{number} in {before:?}");
                no_trace(&before, &auth, &out);
            }
        }
    }
}

#[test]
fn a_rejection_ends_the_first_credential_and_a_refresh_alike() {
    for (mut auth, number) in [(verifying(), 1), (refreshing(), 2)] {
        assert_eq!(step(&mut auth, verdict(number, Verdict::Rejected)), ended(Ending::Rejected));
        assert_eq!(auth.state(), &State::Ended { ending: Ending::Rejected });
        assert_eq!(auth.grant(), None);
    }
}

/// AUTH-3: an unavailable or silent verifier admits no connection and closes none.
#[test]
fn an_unreachable_verifier_ends_a_first_verification_and_leaves_a_refresh_to_the_old_credential() {
    for input in [verdict(1, Verdict::Unavailable), Input::Expired(Timer::Verification)] {
        let mut auth = verifying();
        assert_eq!(step(&mut auth, input), ended(Ending::Unavailable));
        assert_eq!(auth.state(), &State::Ended { ending: Ending::Unavailable });
    }
    for input in [verdict(2, Verdict::Unavailable), Input::Expired(Timer::Verification)] {
        let mut auth = refreshing();
        let out = vec![Output::Disarm(Timer::Verification), Output::NotRenewed];
        assert_eq!(step(&mut auth, input), (Handled::Done, out));
        assert_eq!(auth.state(), &State::Valid { grant: grant(7, 1, 0) });
    }
}

#[test]
fn a_valid_credential_warns_expires_and_can_be_revoked_while_it_is_refreshed_too() {
    for before in [held(), refreshing()] {
        let mut auth = before.clone();
        let warned = step(&mut auth, Input::Expired(Timer::Warning));
        assert_eq!(warned, (Handled::Done, vec![Output::Expiring]));
        assert_eq!(auth, before, "a warning takes nothing away");

        let mut auth = before.clone();
        assert_eq!(step(&mut auth, Input::Expired(Timer::Credential)), ended(Ending::Expired));
        assert_eq!((auth.state(), auth.grant()), (&State::Ended { ending: Ending::Expired }, None));

        let mut auth = before;
        assert_eq!(step(&mut auth, Input::Revoked), ended(Ending::Revoked));
        assert_eq!((auth.state(), auth.grant()), (&State::Ended { ending: Ending::Revoked }, None));
    }
}

#[test]
fn an_abandoned_credential_ends_quietly_from_every_state() {
    for mut auth in living() {
        assert_eq!(step(&mut auth, Input::Abandoned), (Handled::Done, DISARMED.to_vec()));
        assert_eq!(auth.state(), &State::Ended { ending: Ending::Abandoned });
        assert_eq!(auth.grant(), None);
    }
}

#[test]
fn what_means_nothing_in_a_state_is_ignored() {
    let unowned = [Timer::Handshake, Timer::Idle, Timer::Silence, Timer::Probe, Timer::Connect, Timer::Retry];
    let unowned = unowned.map(Input::Expired);
    let early = [Input::Revoked, Input::Expired(Timer::Warning), Input::Expired(Timer::Credential)];
    let late = [Input::Expired(Timer::Verification)];
    let stale = [
        (absent(), [&early[..], &late[..]].concat()),
        (verifying(), early.to_vec()),
        (held(), late.to_vec()),
        (refreshing(), Vec::new()),
    ];
    for (before, inputs) in stale {
        for input in inputs.into_iter().chain(unowned) {
            let mut auth = before.clone();
            let (handled, out) = step(&mut auth, input);
            assert_eq!(handled, Handled::Ignored, "{input:?} in {before:?}");
            no_trace(&before, &auth, &out);
        }
    }
}

#[test]
fn nothing_wakes_a_credential_that_has_ended() {
    let mut inputs = vec![Input::Presented, Input::Revoked, Input::Abandoned];
    inputs.extend([Timer::Verification, Timer::Warning, Timer::Credential, Timer::Idle].map(Input::Expired));
    for number in 0..4 {
        inputs.extend(
            [valid(grant(7, 1, 0), 9), Verdict::Rejected, Verdict::Unavailable].map(|answer| verdict(number, answer)),
        );
    }
    for end in [Input::Revoked, Input::Expired(Timer::Credential), Input::Abandoned] {
        let mut before = refreshing();
        assert_eq!(step(&mut before, end).0, Handled::Done);
        for input in &inputs {
            let mut auth = before.clone();
            let (handled, out) = step(&mut auth, *input);
            assert_eq!(handled, Handled::Ignored, "{input:?} in {before:?}");
            no_trace(&before, &auth, &out);
        }
    }
}

#[test]
fn attempts_are_numbered_round_the_end_of_their_range() {
    let mut auth = tampered(&verifying(), "/newest", &u32::MAX);
    assert_eq!(step(&mut auth, Input::Presented).1[0], Output::Verify(attempt(0)));
    assert_eq!(auth.newest(), attempt(0));
}

#[test]
fn a_lifetime_is_never_zero() {
    assert_eq!(Lifetime::new(Duration::ZERO), None);
    let shortest = Duration::from_nanos(1);
    assert_eq!(Lifetime::new(shortest).map(Lifetime::left), Some(shortest));
    assert_eq!(Lifetime::new(Duration::from_secs(600)).map(Lifetime::left), Some(Duration::from_secs(600)));
}
