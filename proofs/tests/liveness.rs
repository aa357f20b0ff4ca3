//! Liveness is decided exactly: compared with stateright's `eventually`, with known cases, and with an oracle on many
//! small graphs.

use std::collections::BTreeSet;

use lockstep_proofs::engine::check::check;
use lockstep_proofs::engine::findings::ModelReport;
use lockstep_proofs::engine::trace::Counterexample;
use lockstep_proofs::{Promise, Proof, Settings};
use stateright::{Checker, Model, Property};

use crate::fixture::Fixture;

/// A hand-made state graph. State 0 is the initial one.
#[derive(Clone, Debug)]
struct Digraph {
    /// From, to, fairness class.
    edges: Vec<(u8, u8, Option<u8>)>,
    /// A bit for each pending state.
    pending: u32,
}

impl Model for Digraph {
    type State = u8;
    type Action = (u8, Option<u8>);

    fn init_states(&self) -> Vec<u8> {
        vec![0]
    }

    fn actions(&self, state: &u8, actions: &mut Vec<Self::Action>) {
        actions.extend(self.edges.iter().filter(|edge| edge.0 == *state).map(|edge| (edge.1, edge.2)));
    }

    fn next_state(&self, _: &u8, (to, _): Self::Action) -> Option<u8> {
        Some(to)
    }
}

impl Proof for Digraph {
    fn name(&self) -> &'static str {
        "digraph"
    }

    fn about(&self) -> &'static str {
        "a graph"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn fairness(&self, action: &Self::Action) -> Option<u8> {
        action.1
    }

    fn promises(&self) -> Vec<Promise<Self>> {
        vec![Promise { id: "LIVE-1", pending: |model, state| model.pending & (1 << state) != 0 }]
    }
}

const FREE: Option<u8> = None;

fn settings() -> Settings {
    Settings { threads: std::num::NonZeroUsize::MIN, ..Settings::default() }
}

fn holds(report: &ModelReport, id: &str) -> bool {
    assert!(report.complete && report.faults.is_empty(), "{report:?}");
    let property = report.properties.iter().find(|property| property.id == id).expect("declared");
    property.holds.expect("decided")
}

fn decide(edges: &[(u8, u8, Option<u8>)], pending: &[u8]) -> (bool, Option<Counterexample>) {
    let pending = pending.iter().map(|state| 1 << state).sum();
    let mut report = check(&Digraph { edges: edges.to_vec(), pending }, &settings());
    (holds(&report, "LIVE-1"), report.traces.pop())
}

/// `Fixture::starving` as stateright would state it: `eventually` not waiting.
#[derive(Clone)]
struct ByStateright(Fixture);

impl Model for ByStateright {
    type State = <Fixture as Model>::State;
    type Action = <Fixture as Model>::Action;

    fn init_states(&self) -> Vec<Self::State> {
        self.0.init_states()
    }

    fn actions(&self, state: &Self::State, actions: &mut Vec<Self::Action>) {
        self.0.actions(state, actions);
    }

    fn next_state(&self, state: &Self::State, action: Self::Action) -> Option<Self::State> {
        self.0.next_state(state, action)
    }

    fn within_boundary(&self, state: &Self::State) -> bool {
        self.0.within_boundary(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::eventually("answered", |model, state| {
                use lockstep_proofs::Lifecycle;
                model.0.phase(state) == "answered"
            }),
            Property::always("explored", |_, _| true),
        ]
    }
}

#[test]
fn a_cycle_that_stateright_accepts_is_refused() {
    // The answer is enabled only between heartbeats, so fairness does not force it. The run waits and beats forever.
    // The model is written so that a path ends only with an answer.
    let checker = ByStateright(Fixture::starving()).checker().spawn_bfs().join();
    assert!(checker.discovery("answered").is_none(), "stateright has learned to see cycles");

    let report = check(&Fixture::starving(), &settings());
    assert!(!holds(&report, "FIX-2"));
    let trace = &report.traces[0];
    assert_eq!(trace.cycle, Some(1), "waiting begins with the question");
    assert_eq!(trace.len(), 3, "one question, two beats");
    assert!(trace.steps[1..].iter().all(|step| step.action == "Beat"));
}

#[test]
fn the_same_cycle_holds_once_the_answer_is_always_enabled() {
    assert!(holds(&check(&Fixture::sound(3), &settings()), "FIX-2"));
}

#[test]
fn a_run_that_stops_is_refused() {
    let report = check(&Fixture::deadlocking(), &settings());
    assert!(!holds(&report, "FIX-2"));
    assert_eq!(report.traces[0].cycle, Some(report.traces[0].len()), "it stops, it does not repeat");
}

#[test]
fn the_adversary_is_never_forced_to_act() {
    // Only an unfair action leads out, so the run may stay.
    let (holds, trace) = decide(&[(0, 1, FREE)], &[0]);
    assert!(!holds);
    assert_eq!(trace.expect("a stutter").cycle, Some(0));
    // A fair action beside it forces the run out.
    assert!(decide(&[(0, 1, FREE), (0, 1, Some(3))], &[0]).0);
}

#[test]
fn a_class_that_is_disabled_now_and_then_is_not_forced() {
    let cycle = [(0, 1, FREE), (1, 0, FREE)];
    // Enabled in only one of the two states.
    let (holds, trace) = decide(&[&cycle[..], &[(0, 2, Some(0))]].concat(), &[0, 1]);
    assert!(!holds);
    assert_eq!(trace.expect("a cycle").len(), 2);
    // Enabled in both.
    assert!(decide(&[&cycle[..], &[(0, 2, Some(0)), (1, 2, Some(0))]].concat(), &[0, 1]).0);
    // Enabled in both, but one edge of the class stays inside.
    assert!(!decide(&[&cycle[..], &[(0, 2, Some(0)), (1, 0, Some(0))]].concat(), &[0, 1]).0);
}

#[test]
fn a_fair_step_that_changes_nothing_serves_only_its_class() {
    assert!(!decide(&[(0, 0, Some(0))], &[0]).0);
    assert!(decide(&[(0, 0, Some(0)), (0, 1, Some(1))], &[0]).0);
    // Without a self-loop, stuttering is unfair to the enabled class.
    assert!(decide(&[(0, 1, Some(1))], &[0]).0);
}

#[test]
fn each_class_needs_its_own_service() {
    let two = [(0, 1, Some(0)), (1, 0, Some(0)), (0, 2, Some(1)), (1, 2, Some(1))];
    assert!(decide(&two, &[0, 1]).0, "class 1 is enabled for ever and leads out");
    let both = [(0, 1, Some(0)), (1, 0, Some(0)), (0, 1, Some(1)), (1, 0, Some(1))];
    let (holds, trace) = decide(&both, &[0, 1]);
    assert!(!holds);
    let classes: BTreeSet<_> = trace.expect("a cycle").steps.iter().map(|step| step.action.clone()).collect();
    assert!(classes.iter().any(|action| action.contains("Some(0)")), "{classes:?}");
    assert!(classes.iter().any(|action| action.contains("Some(1)")), "{classes:?}");
}

#[test]
fn many_small_graphs_are_decided_like_a_search_of_all_state_sets() {
    let mut random = 0x2026_1122_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut violated = 0;
    for _ in 0..3_000 {
        let states = 2 + next(5) as u8;
        let edges = (0..next(14))
            .map(|_| {
                let class = match next(4) {
                    0 => FREE,
                    class => Some(class as u8),
                };
                (next(u64::from(states)) as u8, next(u64::from(states)) as u8, class)
            })
            .collect();
        let graph = Digraph { edges, pending: next(1 << states) as u32 };
        let mut report = check(&graph, &settings());
        let expected = oracle(&graph, states);
        assert_eq!(holds(&report, "LIVE-1"), expected, "{graph:?}");
        if !expected {
            violated += 1;
            is_fair_lasso(&graph, &report.traces.pop().expect("a counterexample"));
        }
    }
    assert!((500..2_500).contains(&violated), "{violated} of 3000 tell nothing");
}

/// Whether no set of states can be what a fair pending run visits forever.
fn oracle(graph: &Digraph, states: u8) -> bool {
    let reachable = reach(graph, 0, u32::MAX);
    !(1_u32..1 << states).any(|set| {
        let inside = |state: u8| set & (1 << state) != 0;
        let members = || (0..states).filter(|state| inside(*state));
        set & !reachable == 0
            && set & !graph.pending == 0
            && members().all(|state| reach(graph, state, set) == set)
            && (1..4).all(|class| {
                members().any(|state| !graph.edges.iter().any(|edge| edge.0 == state && edge.2 == Some(class)))
                    || graph.edges.iter().any(|edge| inside(edge.0) && inside(edge.1) && edge.2 == Some(class))
            })
    })
}

/// The states reachable from one, including itself, without leaving `within`.
fn reach(graph: &Digraph, from: u8, within: u32) -> u32 {
    let mut reached = 1 << from;
    loop {
        let more = graph
            .edges
            .iter()
            .filter(|edge| reached & (1 << edge.0) != 0)
            .fold(reached, |more, edge| more | (1 << edge.1) & within);
        if more == reached {
            return reached;
        }
        reached = more;
    }
}

/// Asserts that the counterexample is a run of the graph, stays pending, returns, and is fair.
fn is_fair_lasso(graph: &Digraph, trace: &Counterexample) {
    let prefix = trace.cycle.expect("a lasso");
    let mut run = vec![trace.start.parse::<u8>().expect("a number")];
    for step in &trace.steps {
        run.push(step.after.as_ref().expect("a state").parse().expect("a number"));
    }
    for pair in run.windows(2) {
        assert!(graph.edges.iter().any(|edge| (edge.0, edge.1) == (pair[0], pair[1])), "{run:?}");
    }
    let forever = &run[prefix..];
    assert!(forever.iter().all(|state| graph.pending & (1 << state) != 0), "{run:?}");
    assert_eq!(forever.first(), forever.last(), "{run:?} does not return");
    for class in 1..4_u8 {
        let disabled =
            forever.iter().any(|state| !graph.edges.iter().any(|edge| edge.0 == *state && edge.2 == Some(class)));
        let carried = trace.steps[prefix..].iter().any(|step| step.action.contains(&format!("Some({class})")));
        assert!(disabled || carried, "class {class} starves in {graph:?} {run:?}");
    }
}
