//! Sequence diagrams, and the pages that show them.

use lockstep_proofs::engine::proof::{Drawing, Kind, Lifeline};
use lockstep_proofs::engine::trace::{Counterexample, Step};
use lockstep_proofs::report::sequence::{lines, svg};
use lockstep_proofs::report::{escape, html::file_name};

fn trace(cycle: Option<usize>) -> Counterexample {
    let arrow = |from, to, label: &str, lost| Drawing::Arrow { from, to, label: label.into(), lost };
    let step = |action: &str, drawings| Step { action: action.into(), drawings, after: Some(String::new()) };
    let note = Drawing::Note { on: Lifeline::Log, text: "epoch 1 <b>&\"quoted\"</b>".into() };
    Counterexample {
        model: "session".into(),
        property: "STR-1".into(),
        kind: if cycle.is_some() { Kind::Eventually } else { Kind::Always },
        also: vec!["STR-1".into()],
        start: String::new(),
        steps: vec![
            step("Say", vec![arrow(Lifeline::Client, Lifeline::Session, "user_message{m1}", false)]),
            step("Cut", vec![arrow(Lifeline::Session, Lifeline::Client, "agent_started", true)]),
            step("Persist", vec![note, arrow(Lifeline::Log, Lifeline::Log, "persisted(3)", false)]),
            step("Quiet", vec![]),
        ],
        cycle,
        message: None,
    }
}

#[test]
fn only_the_lifelines_that_take_part_are_drawn_in_their_order() {
    let svg = svg(&trace(None));
    let at = |title: &str| svg.find(&format!(">{title}</text>"));
    assert!(at("client") < at("session") && at("session") < at("log"));
    assert!(at("client").is_some() && at("agent").is_none());
}

#[test]
fn a_lost_message_ends_in_a_cross_and_the_violation_is_marked() {
    let svg = svg(&trace(None));
    assert_eq!(svg.matches("class=\"cross\"").count(), 1);
    assert_eq!(svg.matches("class=\"mark\"").count(), 1);
    assert!(svg.contains("✗ STR-1"));
    assert!(!svg.contains("class=\"bracket\""));
}

#[test]
fn steps_that_repeat_are_bracketed() {
    let svg = svg(&trace(Some(2)));
    assert_eq!(svg.matches("class=\"bracket\"").count(), 1);
    assert!(svg.contains("for ever:"));
}

#[test]
fn text_of_a_model_stays_text() {
    let svg = svg(&trace(None));
    assert!(svg.contains("&lt;b&gt;&amp;&quot;quoted&quot;&lt;/b&gt;"));
    assert!(!svg.contains("<b>"));
}

#[test]
fn long_labels_are_broken_and_nothing_is_lost() {
    let text = "a-word-that-is-longer-than-a-line-may-be-by-far and some more";
    let broken = lines(text, 12);
    assert!(broken.iter().all(|line| line.chars().count() <= 12), "{broken:?}");
    assert_eq!(broken.concat().replace(' ', ""), text.replace(' ', ""));
}

#[test]
fn nothing_of_a_text_is_markup() {
    assert_eq!(escape("<a href='x'>&\"\u{0}"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\u{fffd}");
}

#[test]
fn a_file_name_stays_in_its_directory() {
    assert_eq!(file_name("../A1"), "___A1.html");
    assert_eq!(file_name("session-STR-1"), "session-STR-1.html");
}
