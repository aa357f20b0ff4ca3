//! Diagrams and matrices of a fixture model with known phases.

use lockstep_proofs::Settings;
use lockstep_proofs::engine::chart::Chart;
use lockstep_proofs::engine::phrase::phrase;
use lockstep_proofs::report::{diagram, matrix};

use crate::fixture::Fixture;

fn chart() -> Chart {
    Chart::of(&Fixture::sound(2), &Settings::default()).expect("charted")
}

#[test]
fn each_transition_is_one_aligned_line() {
    let text = diagram::text(&chart());
    let columns: Vec<usize> =
        text.lines().map(|line| line.split_once('▶').expect("an arrow").0.chars().count()).collect();
    assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
    assert_eq!(text.lines().count(), 4);
    assert!(!text.contains("beat"), "a heartbeat stays in its phase");
}

#[test]
fn graphviz_and_svg_have_every_transition() {
    let (dot, svg) = (diagram::dot(&chart()), diagram::svg(&chart()));
    assert!(dot.contains("\"waiting\" -> \"answered\" [label=\"answer\"]"), "{dot}");
    assert_eq!(svg.matches("class=\"t\"").count(), 3);
}

#[test]
fn an_action_is_described_in_words() {
    let told = [
        ("Look(0)", "look 0"),
        ("Cut(ConnectionId(1))", "cut connection 1"),
        ("Expire(Run(UserId(0), Generation(1), RunId(8)), Silence)", "expire run user 0, generation 1, run 8, silence"),
        ("Eager { early: Token, again: Some(2) }", "eager (early token, again 2)"),
        ("(environment", "(environment"),
    ];
    for (debug, words) in told {
        assert_eq!(phrase(debug), words);
    }
}

#[test]
fn a_matrix_entry_has_every_outcome() {
    let expected = "\
fixture │ idle    │ waiting  │ answered
────────┼─────────┼──────────┼─────────
ask     │ waiting │          │
answer  │ ·       │ answered │ ·
beat    │         │ =        │
again   │         │          │ idle ·
";
    assert_eq!(matrix::text(&chart()), expected);
}
