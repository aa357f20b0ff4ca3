//! The results of a check in a report.

use lockstep_proofs::Settings;
use lockstep_proofs::engine::check::check;
use lockstep_proofs::engine::property::{SENTENCES, sentence};
use lockstep_proofs::report::{CheckReport, junit, table::grouped};

use crate::fixture::Fixture;

#[test]
fn a_counterexample_is_a_failure_with_its_trace() {
    let models = vec![check(&Fixture::starving(), &Settings::default())];
    let report = CheckReport { profile: "quick".into(), complete: true, seconds: 0.0, models };
    let xml = junit::check(&report).expect("written");
    assert!(xml.contains("failures=\"1\" errors=\"0\""), "{xml}");
    assert!(xml.contains("for ever:"), "{xml}");
}

#[test]
fn digits_are_grouped_in_threes() {
    assert_eq!([0, 999, 1_000, 296_448, 1_745_408].map(grouped), ["0", "999", "1,000", "296,448", "1,745,408"]);
}

#[test]
fn a_premise_has_the_sentence_of_its_property() {
    assert_eq!(sentence("RUN-2.retried"), sentence("RUN-2"));
    assert!(sentence("RUN-2").is_some());
    assert_eq!(sentence(concat!("RUN-", "99")), None);
}

#[test]
fn no_id_has_two_sentences() {
    for (index, (id, _)) in SENTENCES.iter().enumerate() {
        assert!(SENTENCES[index + 1..].iter().all(|(other, _)| other != id), "{id}");
    }
}
