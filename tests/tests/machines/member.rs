//! The member machine: one process among many, and its lease.

use core::time::Duration;

use lockstep_model::member::{Deadline, Input, LeaseTimes, Membership, Output, State};
use lockstep_model::{Handled, Incarnation, RenewalId};
use proptest::prelude::*;

use crate::support::{attempt, cases, no_trace, survives_json};

const LIMITS: LeaseTimes = LeaseTimes { lease: Duration::from_secs(9), margin: Duration::from_secs(1) };
const ONE: Incarnation = Incarnation(1);
const TWO: Incarnation = Incarnation(2);

fn step(member: &mut Membership, input: Input) -> (Handled, Vec<Output>) {
    let mut out = Vec::new();
    let handled = member.step(&LIMITS, input, &mut out);
    (handled, out)
}

fn after(inputs: &[Input]) -> Membership {
    let mut member = Membership::new();
    for input in inputs {
        assert_eq!(step(&mut member, *input).0, Handled::Done, "{input:?} in {member:?}");
    }
    member
}

const fn renewed(incarnation: Incarnation, attempt: u32, seconds: u64) -> Input {
    Input::Renewed { incarnation, attempt: RenewalId(attempt), elapsed: Duration::from_secs(seconds) }
}

const JOIN: Input = Input::Join { incarnation: ONE };

fn joining() -> Membership {
    after(&[JOIN])
}

fn member() -> Membership {
    after(&[JOIN, renewed(ONE, 1, 0)])
}

const OVER: [Output; 2] = [Output::Disarm(Deadline::Renewal), Output::Disarm(Deadline::Lease)];

#[test]
fn a_process_joins_and_its_lease_counts_from_before_it_asked() {
    let mut joined = Membership::new();
    assert_eq!((joined.clone(), joined.incarnation()), (Membership::default(), None));
    let sent = |number| {
        let renew = Output::Renew { incarnation: ONE, attempt: attempt(number) };
        vec![renew, Output::Arm(Deadline::Renewal, Duration::from_secs(3))]
    };
    assert_eq!(step(&mut joined, JOIN), (Handled::Done, sent(1)));
    assert_eq!((joined.state(), joined.incarnation()), (State::Joining { incarnation: ONE }, None));
    assert_eq!(step(&mut joined, Input::Expired(Deadline::Renewal)), (Handled::Done, sent(2)), "it asks again");
    // Nine seconds, less a margin of one, less the two that the answer took.
    let lease = Output::Arm(Deadline::Lease, Duration::from_secs(6));
    let out = vec![Output::Joined { incarnation: ONE }, lease];
    assert_eq!(step(&mut joined, renewed(ONE, 2, 2)), (Handled::Done, out));
    assert_eq!(joined.incarnation(), Some(ONE));
    assert_eq!(step(&mut joined, Input::Expired(Deadline::Renewal)), (Handled::Done, sent(3)));
    let out = vec![Output::Arm(Deadline::Lease, Duration::from_secs(1))];
    assert_eq!(step(&mut joined, renewed(ONE, 3, 7)), (Handled::Done, out), "it is told once that it has joined");
}

/// OWN-5: a renewal that took as long as the lease renews nothing, and an older answer does not shorten a newer lease.
#[test]
fn an_answer_that_is_late_or_old_renews_nothing() {
    let late = renewed(ONE, 1, 8);
    let mut renewing = after(&[JOIN, Input::Expired(Deadline::Renewal), renewed(ONE, 2, 0)]);
    for (mut member, input) in [
        (joining(), late),
        (joining(), renewed(TWO, 1, 0)),
        (joining(), renewed(ONE, 2, 0)),
        (member(), renewed(ONE, 1, 0)),
        (renewing.clone(), renewed(ONE, 1, 0)),
    ] {
        let before = member.clone();
        let (handled, out) = step(&mut member, input);
        assert_eq!(handled, Handled::Ignored, "{input:?}");
        no_trace(&before, &member, &out);
    }
    assert_eq!(step(&mut renewing, Input::Expired(Deadline::Renewal)).0, Handled::Done);
}

/// OWN-5, LIVE-5: with the lease every session ends, and the process comes back under another incarnation.
#[test]
fn a_lease_that_ends_stops_the_sessions_and_never_comes_back() {
    for input in [Input::Expired(Deadline::Lease), Input::Refused { incarnation: ONE }] {
        let mut lost = member();
        assert_eq!(step(&mut lost, input), (Handled::Done, [&[Output::Stop], &OVER[..]].concat()));
        assert_eq!((lost.state(), lost.incarnation()), (State::Lost, None));
        for stale in [renewed(ONE, 1, 0), Input::Refused { incarnation: ONE }, Input::Expired(Deadline::Renewal)] {
            assert_eq!(step(&mut lost, stale), (Handled::Ignored, vec![]));
        }
        assert_eq!(step(&mut lost, Input::Join { incarnation: TWO }).0, Handled::Done);
        assert_eq!(step(&mut lost, renewed(ONE, 1, 0)).0, Handled::Ignored, "the earlier one is over");
        assert_eq!(step(&mut lost, Input::Refused { incarnation: ONE }).0, Handled::Ignored);
        assert_eq!(step(&mut lost, renewed(TWO, 1, 0)).0, Handled::Done);
        assert_eq!(lost.incarnation(), Some(TWO));
    }
    let mut refused = joining();
    let out = OVER.to_vec();
    assert_eq!(step(&mut refused, Input::Refused { incarnation: ONE }), (Handled::Done, out), "it has no session yet");
}

#[test]
fn a_process_that_leaves_waits_for_an_answer_but_not_for_long() {
    for begun in [joining(), member()] {
        let mut leaving = begun;
        let out = vec![
            Output::Depart { incarnation: ONE },
            Output::Disarm(Deadline::Lease),
            Output::Arm(Deadline::Renewal, LIMITS.renewal()),
        ];
        assert_eq!(step(&mut leaving, Input::Leave), (Handled::Done, out));
        assert_eq!(leaving.incarnation(), None);
        let mut silent = leaving.clone();
        assert_eq!(step(&mut silent, Input::Expired(Deadline::Renewal)), (Handled::Done, vec![]));
        assert_eq!(silent.state(), State::Gone);
        assert_eq!(step(&mut leaving, Input::Departed { incarnation: TWO }).0, Handled::Ignored);
        let out = vec![Output::Disarm(Deadline::Renewal)];
        assert_eq!(step(&mut leaving, Input::Departed { incarnation: ONE }), (Handled::Done, out));
        assert_eq!(leaving.state(), State::Gone);
    }
    let lost = after(&[JOIN, renewed(ONE, 1, 0), Input::Expired(Deadline::Lease)]);
    for mut apart in [Membership::new(), lost] {
        assert_eq!(step(&mut apart, Input::Leave), (Handled::Done, vec![]));
        assert_eq!(apart.state(), State::Gone);
    }
}

#[test]
fn the_rest_of_a_lease_is_never_zero() {
    assert_eq!(LIMITS.left(Duration::from_secs(8)), None);
    assert_eq!(LIMITS.left(Duration::MAX), None);
    assert_eq!(LIMITS.left(Duration::from_millis(7_999)), Some(Duration::from_millis(1)));
    let short = LeaseTimes { lease: Duration::from_secs(1), margin: Duration::from_secs(2) };
    assert_eq!(short.left(Duration::ZERO), None);
    assert!(LeaseTimes::DEFAULT.renewal() * 3 < LeaseTimes::DEFAULT.lease + Duration::from_secs(1));
}

fn inputs() -> impl Strategy<Value = Input> {
    let incarnation = (1..3_u64).prop_map(Incarnation);
    prop_oneof![
        incarnation.clone().prop_map(|incarnation| Input::Join { incarnation }),
        (incarnation.clone(), 0..4_u32, 0..10_u64).prop_map(|(of, attempt, seconds)| renewed(of, attempt, seconds)),
        incarnation.clone().prop_map(|incarnation| Input::Refused { incarnation }),
        incarnation.prop_map(|incarnation| Input::Departed { incarnation }),
        Just(Input::Leave),
        Just(Input::Expired(Deadline::Renewal)),
        Just(Input::Expired(Deadline::Lease)),
    ]
}

proptest! {
    #![proptest_config(cases())]

    /// OWN-5: whatever comes, a process that counts on a lease has armed its end, and one that stops counting on it
    /// stops its sessions or leaves.
    #[test]
    fn a_lease_has_an_end(inputs in prop::collection::vec(inputs(), 0..40)) {
        let (mut member, mut armed) = (Membership::new(), false);
        for input in inputs {
            let before = member.clone();
            let (handled, out) = step(&mut member, input);
            survives_json(&member);
            if handled == Handled::Ignored {
                no_trace(&before, &member, &out);
            }
            armed &= input != Input::Expired(Deadline::Lease);
            for output in &out {
                match output {
                    Output::Arm(Deadline::Lease, left) => armed = !left.is_zero(),
                    Output::Disarm(Deadline::Lease) => armed = false,
                    Output::Arm(..) | Output::Disarm(_) | Output::Renew { .. } | Output::Depart { .. }
                    | Output::Joined { .. } | Output::Stop => {}
                }
            }
            prop_assert_eq!(member.incarnation().is_some(), armed);
            let ended = before.incarnation().is_some() && member.incarnation().is_none();
            prop_assert_eq!(ended && input != Input::Leave, out.contains(&Output::Stop));
        }
    }
}
