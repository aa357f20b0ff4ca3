//! The broken variants, each with the properties that must refuse it.

use std::collections::BTreeSet;

use lockstep_proofs::Settings;
use lockstep_proofs::engine::findings::PropertyReport;
use lockstep_proofs::engine::proof::Kind;
use lockstep_proofs::engine::property;
use lockstep_proofs::engine::race::{RaceKind, refute};
use lockstep_proofs::engine::refutation::Refutation;
use lockstep_proofs::races::{all, rows};

#[test]
fn every_mistake_is_refused_by_an_expected_property() {
    for race in all() {
        let report = refute(&race, &Settings::default());
        assert_eq!(report.refused, Some(true), "{} by {:?}, not {:?}", race.id, report.property, race.expected);
    }
}

/// The steps that stateright's threads record decide a promise as the level-order search does.
#[test]
fn a_mistake_against_a_promise_is_refused_by_both_searches() {
    let mut both = BTreeSet::new();
    for race in all() {
        let RaceKind::Refused(model) = race.kind else { continue };
        match model().refute(&Settings::default()) {
            Refutation::Refuted { trace, .. } if trace.kind == Kind::Eventually => {
                let report = model().check(&Settings::default());
                let broken = |row: &PropertyReport| row.id == trace.property && row.holds == Some(false);
                assert!(report.properties.iter().any(broken), "{}: {report:?}", race.id);
                assert_eq!(report.faults, Vec::<String>::new(), "{}", race.id);
                both.insert(trace.property);
            }
            Refutation::Refuted { .. } | Refutation::Survived { .. } | Refutation::Incomplete { .. } => {}
        }
    }
    assert_eq!(both.iter().map(String::as_str).collect::<Vec<_>>(), ["LIVE-1", "LIVE-2", "LIVE-3", "LIVE-4", "LIVE-5"]);
}

#[test]
fn without_the_mistake_nothing_is_refused() {
    for row in rows() {
        let refutation = (row.sound)().refute(&Settings::default());
        assert!(matches!(refutation, Refutation::Survived { .. }), "{}: {refutation:?}", row.race.id);
    }
}

#[test]
fn every_property_refuses_a_mistake() {
    let refusing: BTreeSet<String> =
        all().iter().filter_map(|race| refute(race, &Settings::default()).property).collect();
    // The core's obligations are refused where the core is explored, thread by thread.
    for (id, _) in property::SENTENCES.iter().filter(|(id, _)| !id.starts_with("SH-")) {
        assert!(refusing.contains(*id), "{id} refuses nothing: {refusing:?}");
    }
}

#[test]
fn every_race_is_listed_once() {
    let ids: Vec<&str> = all().iter().map(|race| race.id).collect();
    let rows = (1..=30).map(|n| format!("A{n}")).chain((1..=26).map(|n| format!("B{n}")));
    for id in rows {
        assert_eq!(ids.iter().filter(|known| **known == id).count(), 1, "{id}");
    }
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len());
}
