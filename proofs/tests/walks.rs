//! Random walks over every model, at bounds that no search exhausts.
//!
//! `PROPTEST_CASES` scales them. A walk that fails is shortened and printed as a trace. Its seed is kept, and taken first
//! from then on.

use std::collections::BTreeSet;

use lockstep_proofs::Checkable;
use lockstep_proofs::engine::walk::{Walked, walk};
use lockstep_proofs::registry::walked;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::fixture::Fixture;

/// How many steps a walk takes at most.
const STEPS: usize = 400;

/// Takes random walks over a model, and returns the premises that they reached.
fn walks(model: &dyn Checkable, config: Config) -> BTreeSet<&'static str> {
    let (mut runner, shown) = (TestRunner::new(config), std::cell::RefCell::new(BTreeSet::new()));
    let numbers = prop::collection::vec(any::<u64>(), 1..=STEPS);
    let result = runner.run(&numbers, |numbers| {
        let walked = model.walk(&mut numbers.into_iter());
        let Walked { shown: reached, .. } = walked.map_err(|trace| TestCaseError::fail(trace.to_text()))?;
        shown.borrow_mut().extend(reached);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{}: {error}", model.name());
    }
    shown.into_inner()
}

fn config() -> Config {
    Config { source_file: Some(file!()), ..Config::default() }
}

fn of(name: &str) -> Box<dyn Checkable> {
    walked().into_iter().find(|model| model.name() == name).expect("a model of this name")
}

/// Walks over a model. Most walks reach these premises. If none of many does, walks end too early to show anything.
fn reaches(name: &str, premises: &[&str]) {
    let shown = walks(&*of(name), Config { max_shrink_iters: 20_000, ..config() });
    let many = config().cases >= 256;
    let missed: Vec<_> = premises.iter().filter(|premise| many && !shown.contains(*premise)).collect();
    assert!(missed.is_empty(), "no walk over {name} reached {missed:?}, but {shown:?}");
}

/// AUTH-1, AUTH-2, AUTH-3, LIM-1: however many credentials are presented.
#[test]
fn a_credential_keeps_its_promises_on_long_walks() {
    reaches("auth", &["AUTH-1.expired", "AUTH-3.stale"]);
}

/// AUTH-1, CONN-1, CONN-2, CONN-3, LIM-1: however long a connection lives.
#[test]
fn a_connection_keeps_its_promises_on_long_walks() {
    reaches("connection", &["AUTH-1.readable", "CONN-1.closed"]);
}

/// RUN-1, RUN-3, LIM-1: however many events and tools a run has.
#[test]
fn a_run_keeps_its_promises_on_long_walks() {
    reaches("run", &["RUN-3.reserved"]);
}

/// STR-1, STR-2, LIM-1: however often the log fails and the process crashes.
#[test]
fn a_stream_keeps_its_promises_on_long_walks() {
    reaches("stream", &["STR-1.gap", "STR-2.late", "LIM-1.trimmed"]);
}

/// NODE-1, NODE-2: however many probes, connections and sessions a node has seen.
#[test]
fn a_node_keeps_its_promises_on_long_walks() {
    reaches("node", &["NODE-1.emergency"]);
}

/// AUTH-4, AUTH-5, ISO-1, LIM-1: with more logins, tabs, crashes and failed writes than the search has.
#[test]
fn logins_keep_their_promises_on_long_walks() {
    reaches("login", &["AUTH-4.another-holder", "AUTH-5.second-tab", "LIM-1.full"]);
    reaches("revoked", &["AUTH-4.good"]);
    reaches("attempts", &["ISO-1.beside", "LIM-1.refilled", "LIM-1.crowded"]);
}

/// CLIENT-1, CLIENT-2, RUN-2, STR-1, LIVE-4: however often a client comes back.
#[test]
fn a_client_keeps_its_promises_on_long_walks() {
    reaches("client", &["STR-1.read", "CLIENT-1.leaving", "CLIENT-2.held", "CLIENT-2.answered", "RUN-2.repeated"]);
}

/// One user's session, and whole gateways: every property, with more clients, messages and faults than a search has.
#[test]
fn worlds_keep_their_promises_on_long_walks() {
    reaches("whole", &["AUTH-3.fenced", "ISO-1.neighbours", "STR-1.resumed", "RUN-1.completed", "RUN-2.repeated"]);
    let alone = ["auth", "connection", "run", "stream", "node", "login", "revoked", "attempts", "client", "whole"];
    for world in walked().iter().filter(|model| !alone.contains(&model.name())) {
        let shown = walks(&**world, Config { max_shrink_iters: 2_000, ..config() });
        assert!(!shown.is_empty(), "no walk over {} reached anything", world.name());
    }
}

/// A walk reports the violation with the steps that lead to it, even if the last step panics.
#[test]
fn a_walk_ends_at_the_first_violation() {
    assert!(walk(&Fixture::sound(3), (0..50).map(|number| number * 7)).expect("no violation").steps > 0);
    let trace = walk(&Fixture::repeating(), (0..50).map(|number| number * 7)).expect_err("a violation");
    assert_eq!((trace.property.as_str(), trace.len()), ("FIX-1", 3), "{}", trace.to_text());
    let trace = walk(&Fixture::asserting(), (0..50).map(|number| number * 7)).expect_err("a panic");
    assert!(trace.message.is_some() && trace.steps.last().is_some_and(|step| step.after.is_none()), "{trace:?}");
}
