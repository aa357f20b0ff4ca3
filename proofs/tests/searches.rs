//! The searches: completeness, panics, shortest counterexamples, agreement.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lockstep_proofs::cli::bench::two_phase::TwoPhase;
use lockstep_proofs::engine::check::check;
use lockstep_proofs::engine::explore::explore;
use lockstep_proofs::engine::findings::Conclusion;
use lockstep_proofs::engine::race::{Race, RaceKind, refute};
use lockstep_proofs::{Promise, Proof, Settings};
use stateright::{Model, Property};

use crate::fixture::Fixture;

fn threads(count: usize) -> Settings {
    Settings { threads: NonZeroUsize::new(count).expect("not zero"), ..Settings::default() }
}

/// Two counters that count up to `top`; properties are violated at chosen sums.
#[derive(Clone)]
struct Counters {
    top: u16,
    /// If set, counts the calls of `next_state`, whose result then depends on that number.
    fickle: Option<Arc<AtomicUsize>>,
    always: fn(&(u16, u16)) -> bool,
}

impl Counters {
    fn new(top: u16) -> Self {
        Self { top, fickle: None, always: |_| true }
    }
}

impl Model for Counters {
    type State = (u16, u16);
    type Action = bool;

    fn init_states(&self) -> Vec<Self::State> {
        vec![(0, 0)]
    }

    fn actions(&self, _: &Self::State, actions: &mut Vec<bool>) {
        actions.extend([false, true]);
    }

    fn next_state(&self, state: &Self::State, right: bool) -> Option<Self::State> {
        if let Some(asked) = &self.fickle
            && asked.fetch_add(1, Ordering::Relaxed) > 700
            && state.0 > 3
        {
            return None;
        }
        let (left, right) = if right { (state.0, state.1 + 1) } else { (state.0 + 1, state.1) };
        (left <= self.top && right <= self.top).then_some((left, right))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("LIM-1", |model, state| (model.always)(state)),
            Property::sometimes("LIM-1.full", |model, state: &(u16, u16)| state.0 == model.top && state.1 == model.top),
            // Every state shows this one. If the property above is violated too, stateright alone would not expand the
            // state.
            Property::sometimes("LIM-1.any", |_, _| true),
        ]
    }
}

impl Proof for Counters {
    fn name(&self) -> &'static str {
        "counters"
    }

    fn about(&self) -> &'static str {
        "two counters"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![("top", self.top.to_string())]
    }

    fn fairness(&self, _: &bool) -> Option<u8> {
        Some(0)
    }

    fn promises(&self) -> Vec<Promise<Self>> {
        vec![Promise { id: "LIVE-2", pending: |model, state| state.0 + state.1 < 2 * model.top }]
    }
}

#[test]
fn every_state_is_expanded_whatever_the_threads() {
    for count in [1, 2, 4] {
        let exploration = explore(&Counters::new(200), &threads(count));
        assert!(exploration.complete);
        assert_eq!(exploration.unique_states, 201 * 201);
        assert_eq!(exploration.states, 1 + 2 * 200 * 201);
        assert_eq!(exploration.shown, [("LIM-1.full", 400), ("LIM-1.any", 0)]);
    }
    let report = check(&Counters::new(200), &threads(2));
    assert_eq!(report.verdict(), Conclusion::Holds, "{report:?}");
}

#[test]
fn a_state_that_violates_and_shows_everything_hides_nothing_behind_it() {
    let model = Counters { always: |state| *state != (0, 0), ..Counters::new(20) };
    let exploration = explore(&model, &Settings { keep_going: true, ..threads(1) });
    assert_eq!(exploration.unique_states, 21 * 21);
    assert_eq!(exploration.violated, ["LIM-1"]);
}

#[test]
fn a_stopped_run_never_reports_that_a_property_holds() {
    let settings = Settings { stop: Arc::new(AtomicBool::new(true)), ..threads(2) };
    let report = check(&Counters::new(200), &settings);
    assert!(!report.complete);
    assert_eq!(report.verdict(), Conclusion::Incomplete);
    assert!(report.properties.iter().all(|property| property.holds.is_none()), "{report:?}");
}

#[test]
fn a_limit_makes_a_run_incomplete_but_keeps_its_findings() {
    let settings = Settings { max_states: Some(1), ..threads(1) };
    let report = check(&Counters::new(2_000), &settings);
    assert!(!report.complete);
    let of = |id| report.properties.iter().find(|property| property.id == id).expect("declared").holds;
    assert_eq!(of("LIM-1"), None);
    assert_eq!(of("LIVE-2"), None);
    assert_ne!(of("LIM-1.any"), Some(false));
}

#[test]
fn the_counterexample_is_the_shortest() {
    // Violated by every path of seven steps that goes left five times, and by longer paths.
    let model = Counters { always: |state| !(state.0 >= 5 && state.1 >= 2), ..Counters::new(60) };
    for count in [1, 4] {
        let report = check(&model, &threads(count));
        assert_eq!(report.verdict(), Conclusion::Fails);
        assert_eq!(report.traces[0].len(), 7);
        assert_eq!(report.traces[0].steps[6].after.as_deref(), Some("(5, 2)"));
        assert_eq!(report.properties[0].trace_len, Some(7));
    }
}

#[test]
fn a_panic_in_a_step_is_a_counterexample_of_the_property_that_it_quotes() {
    for count in [1, 2] {
        let report = check(&Fixture::asserting(), &threads(count));
        assert_eq!(report.verdict(), Conclusion::Fails);
        assert_eq!(report.properties[0].id, "FIX-1");
        assert_eq!(report.properties[0].holds, Some(false));
        let trace = &report.traces[0];
        assert_eq!((trace.property.as_str(), trace.len()), ("FIX-1", 3));
        assert!(trace.message.as_ref().is_some_and(|message| message.contains("answered twice")));
        assert!(trace.steps[2].after.is_none(), "there is no state after a panic");
    }
}

#[test]
fn a_nondeterministic_model_is_a_fault() {
    let model = Counters { fickle: Some(Arc::default()), ..Counters::new(20) };
    let report = check(&model, &threads(1));
    assert_eq!(report.verdict(), Conclusion::Fails, "{report:?}");
    assert_eq!(report.faults.len(), 1, "{report:?}");
}

fn race(expected: &'static [&'static str], model: fn() -> Box<dyn lockstep_proofs::Checkable>) -> Race {
    Race { id: "X1", title: "a race", mistake: "a mistake", expected, kind: RaceKind::Refused(model) }
}

#[test]
fn a_race_counts_only_if_an_expected_property_refuses_it() {
    let expected = refute(&race(&["LIM-1", "FIX-1"], || Box::new(Fixture::repeating())), &threads(1));
    assert_eq!((expected.refused, expected.trace_len), (Some(true), Some(3)));
    let other = refute(&race(&["LIM-1"], || Box::new(Fixture::repeating())), &threads(1));
    assert_eq!((other.refused, other.property.as_deref()), (Some(false), Some("FIX-1")));
    let sound = refute(&race(&["FIX-1"], || Box::new(Fixture::sound(2))), &threads(1));
    assert_eq!((sound.refused, sound.property), (Some(false), None));
    let live = refute(&race(&["FIX-2"], || Box::new(Fixture::starving())), &threads(1));
    assert_eq!((live.refused, live.property.as_deref()), (Some(true), Some("FIX-2")));
}

#[test]
fn a_race_whose_search_is_cut_short_has_no_verdict() {
    let settings = Settings { max_states: Some(3), ..threads(1) };
    let report = refute(&race(&["FIX-1"], || Box::new(Fixture::sound(9))), &settings);
    assert_eq!(report.verdict(), Conclusion::Incomplete);
}

#[test]
fn has_the_states_of_the_published_model() {
    // The counts of stateright's own example of this specification.
    for (managers, unique_states) in [(3, 288), (5, 8_832)] {
        let exploration = explore(&TwoPhase { managers }, &Settings::default());
        assert!(exploration.complete);
        assert_eq!(exploration.unique_states, unique_states);
        assert!(!exploration.failed());
        assert_eq!(exploration.shown.len(), 2);
    }
}
