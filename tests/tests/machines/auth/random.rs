use lockstep_model::auth::{Auth, Input, Output, State};
use lockstep_model::{Attempt, Timer, Verdict};
use proptest::prelude::*;

use super::{Reference, verdict};
use crate::support::{SMALL, cases, grant, lawful, survives_json, valid};

fn answers() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        3 => (7..9u64, 1..4u64, 0..3u32, 1..500u64).prop_map(|(user, id, age, left)| valid(grant(user, id, age), left)),
        1 => Just(Verdict::Rejected),
        2 => Just(Verdict::Unavailable),
    ]
}

/// An input; a verdict says how many attempts it lags behind.
#[derive(Clone, Debug)]
enum Move {
    Verdict { lag: u32, verdict: Verdict },
    Other(Input),
}

fn moves() -> impl Strategy<Value = Move> {
    let timers = [Timer::Verification, Timer::Warning, Timer::Credential, Timer::Idle];
    prop_oneof![
        5 => Just(Move::Other(Input::Presented)),
        8 => (prop_oneof![4 => Just(0), 1 => 0..3u32], answers()).prop_map(|(lag, verdict)| Move::Verdict { lag, verdict }),
        1 => Just(Move::Other(Input::Revoked)),
        4 => prop::sample::select(timers.to_vec()).prop_map(|timer| Move::Other(Input::Expired(timer))),
        1 => Just(Move::Other(Input::Abandoned)),
    ]
}

fn follow(auth: &mut Auth, reference: &mut Reference, input: Input) {
    let (before, mut out) = (auth.clone(), Vec::new());
    let handled = auth.step(&SMALL, input, &mut out);
    assert_eq!(handled, reference.expect(input), "{input:?} in {before:?}");
    lawful(&before, auth, Ok(handled), &out);
    for output in &out {
        match *output {
            Output::Arm(timer, after) => {
                assert!(!after.is_zero(), "{timer:?} has no time");
                reference.armed.insert(timer);
            }
            Output::Disarm(timer) => {
                reference.armed.remove(&timer);
            }
            Output::Verify(attempt) => assert_eq!(attempt, Attempt(reference.presented)),
            Output::Granted(_) | Output::Renewed | Output::NotRenewed | Output::Expiring | Output::Ended(_) => {}
        }
    }
    if let Input::Expired(timer) = input {
        // A deadline that has passed is not armed any longer, whatever its effect was.
        if !out.iter().any(|output| matches!(output, Output::Arm(armed, _) if *armed == timer)) {
            reference.armed.remove(&timer);
        }
    }
    survives_json(auth);
    survives_json(&input);
    survives_json(&out);
}

proptest! {
    #![proptest_config(cases())]

    /// AUTH-1, AUTH-2, AUTH-3: there is a grant exactly while the reference has one; it is the newest verdict's, and
    /// its user is the first verdict's.
    #[test]
    fn a_credential_is_valid_exactly_when_the_newest_verdict_and_time_allow(
        moves in prop::collection::vec(moves(), 0..200)
    ) {
        let (mut auth, mut reference) = (Auth::new(), Reference::default());
        for step in moves {
            let input = match step {
                Move::Verdict { lag, verdict: answer } => verdict(auth.newest().0.saturating_sub(lag), answer),
                Move::Other(input) => input,
            };
            follow(&mut auth, &mut reference, input);
            prop_assert_eq!(auth.grant(), reference.valid);
            prop_assert_eq!(auth.grant().map(|grant| grant.user), reference.valid.and(reference.pinned));
            prop_assert_eq!(matches!(auth.state(), State::Ended { .. }), reference.over);
        }
    }

    /// LIVE-4, as far as one step shows it: a state that awaits or relies on a verdict has its deadline, and an end
    /// disarms it. Deadlines fire only when they are armed.
    #[test]
    fn whatever_waits_has_a_deadline_and_an_end_leaves_none(moves in prop::collection::vec(moves(), 0..200)) {
        let (mut auth, mut reference) = (Auth::new(), Reference::default());
        for step in moves {
            let input = match step {
                Move::Verdict { verdict: answer, .. } => verdict(auth.newest().0, answer),
                Move::Other(Input::Expired(timer)) if !reference.armed.contains(&timer) => continue,
                Move::Other(input) => input,
            };
            follow(&mut auth, &mut reference, input);
            let deadline = |timer| reference.armed.contains(&timer);
            match auth.state() {
                State::Absent => prop_assert!(reference.armed.is_empty()),
                State::Verifying { .. } => prop_assert!(deadline(Timer::Verification) && !deadline(Timer::Credential)),
                State::Valid { .. } => prop_assert!(deadline(Timer::Credential) && !deadline(Timer::Verification)),
                State::Refreshing { .. } => prop_assert!(deadline(Timer::Credential) && deadline(Timer::Verification)),
                State::Ended { .. } => prop_assert!(reference.armed.is_empty()),
            }
        }
    }
}
