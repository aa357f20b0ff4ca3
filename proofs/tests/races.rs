//! The broken variants, each with the properties that must refuse it.

use std::collections::BTreeSet;

use lockstep_proofs::Settings;
use lockstep_proofs::engine::findings::PropertyReport;
use lockstep_proofs::engine::proof::Kind;
use lockstep_proofs::engine::property;
use lockstep_proofs::engine::race::{RaceKind, refute};
use lockstep_proofs::engine::refutation::Refutation;
use lockstep_proofs::races::{all, rows};

/// Each mistake is refused by an expected property, and each property refuses a mistake. The steps that stateright's
/// threads record decide a promise as the level-order search does. This is one test, so that each race is searched once.
#[test]
fn every_mistake_is_refused_by_an_expected_property_and_every_property_refuses_one() {
    let (mut refusing, mut promises) = (BTreeSet::new(), BTreeSet::new());
    for race in all() {
        let report = refute(&race, &Settings::default());
        assert_eq!(report.refused, Some(true), "{} by {:?}, not {:?}", race.id, report.property, race.expected);
        let (RaceKind::Refused(model), Some(trace)) = (race.kind, report.trace) else { continue };
        if trace.kind == Kind::Eventually {
            let report = model().check(&Settings::default());
            let broken = |row: &PropertyReport| row.id == trace.property && row.holds == Some(false);
            assert!(report.properties.iter().any(broken), "{}: {report:?}", race.id);
            assert_eq!(report.faults, Vec::<String>::new(), "{}", race.id);
            promises.insert(trace.property.clone());
        }
        refusing.insert(trace.property);
    }
    let promises: Vec<&str> = promises.iter().map(String::as_str).collect();
    assert_eq!(promises, ["LIVE-1", "LIVE-2", "LIVE-3", "LIVE-4", "LIVE-5"]);
    // The core's obligations are refused where the core is explored, thread by thread.
    for (id, _) in property::SENTENCES.iter().filter(|(id, _)| !id.starts_with("SH-")) {
        assert!(refusing.contains(*id), "{id} refuses nothing: {refusing:?}");
    }
}

#[test]
fn without_the_mistake_nothing_is_refused() {
    for row in rows() {
        let refutation = (row.sound)().refute(&Settings::default());
        assert!(matches!(refutation, Refutation::Survived { .. }), "{}: {refutation:?}", row.race.id);
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
