//! Every `always` has its `sometimes`: the random runs reach the premises of their properties.

use std::collections::BTreeSet;

use lockstep_model::run::{Kind, Reason};
use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::moves::moves;
use super::world::World;

/// What happens in a fixed set of random runs; stops once everything expected has happened.
fn happened(lives: usize, expected: &BTreeSet<String>) -> BTreeSet<String> {
    let (mut runner, lives_of) = (TestRunner::deterministic(), vec(moves(), 400..800));
    let mut seen = BTreeSet::new();
    for _ in 0..lives {
        let life = lives_of.new_tree(&mut runner).unwrap().current();
        let mut world = World::new(&[7, 7, 8, 9]);
        world.calm_down();
        for step in life {
            world.play(step);
        }
        for store in world.stores.values() {
            let kinds = store.log.history().iter().map(|entry| entry.event.kind);
            seen.extend(kinds.filter(Kind::is_terminal).map(|kind| format!("ended {kind:?}")));
        }
        seen.extend(world.seen);
        if seen.is_superset(expected) {
            break;
        }
    }
    seen
}

#[test]
fn random_lives_reach_what_their_properties_speak_of() {
    let reasons =
        [Reason::Failed, Reason::Abandoned, Reason::Silent, Reason::TimedOut, Reason::Cancelled, Reason::Interrupted];
    let ends = reasons.map(Kind::Error).into_iter().chain([Kind::Completed]);
    let expected: BTreeSet<String> = [
        "closed CredentialExpired",
        "closed CredentialRejected",
        "closed CredentialRevoked",
        "closed GoingAway",
        "closed HandshakeTimeout",
        "closed HeartbeatLost",
        "closed Lost",
        "closed PeerClosed",
        "closed Slow",
        "closed Superseded",
        "closed TooManyConnections",
        "closed VerifierUnavailable",
        "known",
        "not resumed",
        "refused BreakerOpen",
        "refused Busy",
        "refused Degraded",
        "refused Draining",
        "refused Forgotten",
        "refused GoingAway",
        "refused Overloaded",
        "refused QueueFull",
        "refused TooManyRuns",
        "reset",
        "resumed",
        "stopped",
        "trimmed",
        "unknown",
    ]
    .map(String::from)
    .into_iter()
    .chain(ends.map(|end| format!("ended {end:?}")))
    .collect();
    let seen = happened(600, &expected);
    let missing: Vec<_> = expected.difference(&seen).collect();
    assert!(missing.is_empty(), "never: {missing:?}; seen: {seen:?}");
}
