//! The ownership machine: whether a session may write its user's log.

use lockstep_model::tenure::{Ending, Input, Output, Ownership, Request, State};
use lockstep_model::{AcquisitionId, ConfirmationId, Epoch, FencingToken, Handled, Incarnation, Tenure, Timer};
use proptest::prelude::*;

use crate::support::{SMALL, attempt, cases, no_trace, survives_json};

const TENURE: Tenure = Tenure { epoch: Epoch(3), token: FencingToken(7) };
const OWNER: Incarnation = Incarnation(5);

fn step(ownership: &mut Ownership, input: Input) -> (Handled, Vec<Output>) {
    let mut out = Vec::new();
    let handled = ownership.step(&SMALL, input, &mut out);
    (handled, out)
}

fn seeking() -> Ownership {
    Ownership::seek(&SMALL, &mut Vec::new())
}

fn then(mut ownership: Ownership, input: Input) -> Ownership {
    assert_eq!(step(&mut ownership, input).0, Handled::Done, "{input:?} in {ownership:?}");
    ownership
}

const fn acquired(number: u32) -> Input {
    Input::Acquired { attempt: AcquisitionId(number), tenure: TENURE }
}

const fn confirmed(number: u32) -> Input {
    Input::Confirmed { attempt: ConfirmationId(number) }
}

fn held() -> Ownership {
    then(seeking(), acquired(1))
}

fn leaving() -> Ownership {
    then(held(), Input::Release)
}

/// Each kind of state that can still change.
fn living() -> [Ownership; 6] {
    let lost = Input::NotAcquired { attempt: AcquisitionId(1) };
    [
        seeking(),
        then(seeking(), lost),
        held(),
        then(held(), Input::Confirm),
        leaving(),
        then(leaving(), Input::NotReleased),
    ]
}

fn ended(ending: Ending) -> (Handled, Vec<Output>) {
    let over = [Output::Disarm(Timer::LogAnswer), Output::Disarm(Timer::Restore), Output::Ended(ending)];
    (Handled::Done, over.to_vec())
}

#[test]
fn a_user_is_acquired_with_as_many_attempts_as_it_takes() {
    let asks =
        |number| vec![Output::Acquire { attempt: attempt(number) }, Output::Arm(Timer::LogAnswer, SMALL.log_answer)];
    let mut out = Vec::new();
    let mut ownership = Ownership::seek(&SMALL, &mut out);
    assert_eq!(out, asks(1));
    let pause = Output::Arm(Timer::Restore, SMALL.restore);
    let refused = vec![Output::Disarm(Timer::LogAnswer), pause];
    assert_eq!(step(&mut ownership, Input::NotAcquired { attempt: attempt(1) }), (Handled::Done, refused));
    assert_eq!(step(&mut ownership, acquired(1)), (Handled::Ignored, vec![]), "its answer has come");
    assert_eq!(step(&mut ownership, Input::Expired(Timer::Restore)), (Handled::Done, asks(2)));
    assert_eq!(step(&mut ownership, Input::Expired(Timer::LogAnswer)), (Handled::Done, vec![pause]));
    assert_eq!(step(&mut ownership, Input::Expired(Timer::Restore)), (Handled::Done, asks(3)));
    assert_eq!(ownership.tenure(), None);
    // OWN-1: a grant of an earlier attempt is fenced by the newer one, and grants nothing.
    assert_eq!(step(&mut ownership, acquired(2)), (Handled::Ignored, vec![]));
    let out = vec![Output::Disarm(Timer::LogAnswer), Output::Granted { tenure: TENURE }];
    assert_eq!(step(&mut ownership, acquired(3)), (Handled::Done, out));
    assert_eq!(ownership.tenure(), Some(TENURE));
}

/// OWN-6: the owner is named once, and the session is over.
#[test]
fn a_user_that_is_owned_elsewhere_ends_the_search() {
    let elsewhere = |number| Input::Elsewhere { attempt: AcquisitionId(number), owner: OWNER };
    let mut ownership = seeking();
    assert_eq!(step(&mut ownership, elsewhere(2)), (Handled::Ignored, vec![]));
    assert_eq!(step(&mut ownership, elsewhere(1)), ended(Ending::Elsewhere { owner: OWNER }));
    assert_eq!(ownership.state(), State::Over { ending: Ending::Elsewhere { owner: OWNER } });
}

/// OWN-3: only an answer to a confirmation that was asked for later counts, and it counts for all before.
#[test]
fn an_owner_confirms_with_a_request_of_its_own() {
    let asks = |number| {
        let confirm = Output::Confirm { tenure: TENURE, attempt: attempt(number) };
        vec![confirm, Output::Arm(Timer::Restore, SMALL.log_answer)]
    };
    let mut ownership = held();
    assert_eq!(ownership.unconfirmed(), None);
    assert_eq!(step(&mut ownership, Input::Confirm), (Handled::Done, asks(1)));
    assert_eq!(step(&mut ownership, Input::Confirm), (Handled::Done, asks(2)));
    assert_eq!(step(&mut ownership, confirmed(1)), (Handled::Done, vec![Output::Held { attempt: attempt(1) }]));
    assert_eq!(ownership.unconfirmed(), Some(attempt(2)));
    for stale in [confirmed(1), confirmed(3), Input::NotConfirmed { attempt: attempt(1) }] {
        assert_eq!(step(&mut ownership, stale), (Handled::Ignored, vec![]), "{stale:?}");
    }
    let pause = vec![Output::Arm(Timer::Restore, SMALL.restore)];
    assert_eq!(step(&mut ownership, Input::NotConfirmed { attempt: attempt(2) }), (Handled::Done, pause));
    assert_eq!(step(&mut ownership, Input::Expired(Timer::Restore)), (Handled::Done, asks(3)));
    let out = vec![Output::Disarm(Timer::Restore), Output::Held { attempt: attempt(3) }];
    assert_eq!(step(&mut ownership, confirmed(3)), (Handled::Done, out));
    assert_eq!(step(&mut ownership, Input::Expired(Timer::Restore)), (Handled::Ignored, vec![]));
    assert_eq!((ownership.tenure(), ownership.unconfirmed()), (Some(TENURE), None));
}

/// OWN-4: from its release on, there is no tenure to write with; the release is repeated until it is answered.
#[test]
fn a_user_is_released_until_the_log_says_so() {
    let asks = [Output::Release { tenure: TENURE }, Output::Arm(Timer::LogAnswer, SMALL.log_answer)];
    let mut ownership = held();
    let out = [&[Output::Disarm(Timer::Restore)], &asks[..]].concat();
    assert_eq!(step(&mut ownership, Input::Release), (Handled::Done, out));
    assert_eq!(ownership.tenure(), None);
    assert_eq!(step(&mut ownership, Input::Release), (Handled::Ignored, vec![]));
    let pause = Output::Arm(Timer::Restore, SMALL.restore);
    assert_eq!(step(&mut ownership, Input::Expired(Timer::LogAnswer)), (Handled::Done, vec![pause]));
    assert_eq!(step(&mut ownership, Input::Expired(Timer::Restore)), (Handled::Done, asks.to_vec()));
    let out = vec![Output::Disarm(Timer::LogAnswer), pause];
    assert_eq!(step(&mut ownership, Input::NotReleased), (Handled::Done, out));
    assert_eq!(ownership.state(), State::Leaving { tenure: TENURE, request: Request::Pausing });
    assert_eq!(step(&mut ownership, Input::Released), ended(Ending::Released), "an answer may be late");
}

/// LIVE-6: from every state, and once.
#[test]
fn a_fence_a_lost_lease_and_a_session_that_ends_are_final() {
    let endings = [(Input::Fenced, Ending::Fenced), (Input::Lost, Ending::Lost), (Input::Abandon, Ending::Released)];
    for ownership in living() {
        for (input, ending) in endings {
            let mut over = ownership;
            assert_eq!(step(&mut over, input), ended(ending), "{ownership:?}");
            assert_eq!((over.state(), over.tenure(), over.unconfirmed()), (State::Over { ending }, None, None));
            for late in [acquired(1), confirmed(1), Input::Released, Input::Fenced, Input::Lost, Input::Confirm] {
                assert_eq!(step(&mut over, late), (Handled::Ignored, vec![]));
            }
        }
    }
    assert_eq!(step(&mut seeking(), Input::Release), ended(Ending::Released), "it has nothing to release");
}

fn inputs() -> impl Strategy<Value = Input> {
    prop_oneof![
        (0..4_u32).prop_map(|number| Input::Acquired { attempt: attempt(number), tenure: TENURE }),
        (0..4_u32).prop_map(|number| Input::Elsewhere { attempt: attempt(number), owner: OWNER }),
        (0..4_u32).prop_map(|number| Input::NotAcquired { attempt: attempt(number) }),
        (0..4_u32).prop_map(|number| Input::Confirmed { attempt: attempt(number) }),
        (0..4_u32).prop_map(|number| Input::NotConfirmed { attempt: attempt(number) }),
        prop::sample::select(vec![
            Input::Confirm,
            Input::Release,
            Input::Released,
            Input::NotReleased,
            Input::Fenced,
            Input::Lost,
            Input::Abandon,
        ]),
        prop::sample::select(Timer::ALL.to_vec()).prop_map(Input::Expired),
    ]
}

proptest! {
    #![proptest_config(cases())]

    /// OWN-1, LIVE-6: whatever comes, one grant at most, no request without its timer, one end, and silence after it.
    #[test]
    fn an_ownership_is_granted_once_and_ends_once(inputs in prop::collection::vec(inputs(), 0..40)) {
        let (mut ownership, mut grants, mut ends) = (seeking(), 0, 0);
        for input in inputs {
            let before = ownership;
            let (handled, out) = step(&mut ownership, input);
            survives_json(&ownership);
            if handled == Handled::Ignored {
                no_trace(&before, &ownership, &out);
            }
            let count = |wanted: fn(&Output) -> bool| out.iter().filter(|output| wanted(output)).count();
            grants += count(|output| matches!(output, Output::Granted { .. }));
            ends += count(|output| matches!(output, Output::Ended(_)));
            let asked = count(|output| {
                matches!(output, Output::Acquire { .. } | Output::Confirm { .. } | Output::Release { .. })
            });
            prop_assert_eq!(asked, count(|output| matches!(output, Output::Arm(_, after) if *after == SMALL.log_answer)));
            prop_assert!(grants <= 1);
            prop_assert_eq!(ends, usize::from(matches!(ownership.state(), State::Over { .. })));
            prop_assert!(ownership.tenure().is_none() || (grants == 1 && ends == 0));
        }
    }
}
