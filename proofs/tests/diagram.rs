//! Diagrams and matrices of a toy, whose phases are known.

use lockstep_proofs::chart::Chart;
use lockstep_proofs::phrase::phrase;
use lockstep_proofs::toy::Toy;
use lockstep_proofs::{Settings, diagram, matrix, registry};

fn chart() -> Chart {
    Chart::of(&Toy::sound(2), &Settings::default()).expect("charted")
}

#[test]
fn each_way_between_phases_is_one_aligned_line() {
    let text = diagram::text(&chart());
    let columns: Vec<usize> =
        text.lines().map(|line| line.split_once('▶').expect("an arrow").0.chars().count()).collect();
    assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
    assert_eq!(text.lines().count(), 4);
    assert!(!text.contains("beat"), "a heartbeat stays in its phase");
}

#[test]
fn graphviz_and_svg_have_every_way() {
    let (dot, svg) = (diagram::dot(&chart()), diagram::svg(&chart()));
    assert!(dot.contains("\"waiting\" -> \"answered\" [label=\"answer\"]"), "{dot}");
    assert_eq!(svg.matches("class=\"t\"").count(), 3);
}

/// Where each text of a picture is: left, top, right, bottom.
fn texts(svg: &str) -> Vec<[usize; 4]> {
    let number = |text: &str, name: &str| -> usize {
        let value = text.split_once(&format!(" {name}=\"")).expect("the attribute").1;
        value.split('"').next().expect("a value").parse().expect("a number")
    };
    let texts = svg.split("<text").skip(1).map(|text| {
        let shown = text.split(['>', '<']).nth(1).expect("a text").chars().count();
        let (x, y) = (number(text, "x"), number(text, "y"));
        let left = if text.contains("\"middle\"") { x - shown * 8 / 2 } else { x };
        [left, y - 10, left + shown * 7, y + 2]
    });
    texts.collect()
}

#[test]
fn no_label_covers_another_or_leaves_the_picture() {
    for machine in registry::machines() {
        let chart = machine.chart(&Settings::default()).expect("charted");
        let svg = diagram::svg(&chart);
        let size = svg.split_once("viewBox=\"0 0 ").expect("a size").1;
        let size: Vec<usize> = size.split([' ', '"']).take(2).map(|part| part.parse().expect("a number")).collect();
        let texts = texts(&svg);
        for (index, [left, top, right, bottom]) in texts.iter().enumerate() {
            assert!(*right <= size[0] && *bottom <= size[1], "{}: a text leaves the picture", chart.machine);
            for [other_left, other_top, other_right, other_bottom] in &texts[index + 1..] {
                let apart = right <= other_left || other_right <= left || bottom <= other_top || other_bottom <= top;
                assert!(apart, "{}: two texts at {left},{top} and {other_left},{other_top}", chart.machine);
            }
        }
    }
}

#[test]
fn an_action_is_told_in_words() {
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
fn a_cell_has_every_answer_that_was_met() {
    let expected = "\
toy    │ idle    │ waiting  │ answered
───────┼─────────┼──────────┼─────────
ask    │ waiting │          │
answer │ ·       │ answered │ ·
beat   │         │ =        │
again  │         │          │ idle ·
";
    assert_eq!(matrix::text(&chart()), expected);
}
