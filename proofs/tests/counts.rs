//! The counts of profile `quick` match the pins, and every property holds there; in the smaller models, with either
//! search.

use lockstep_proofs::Settings;
use lockstep_proofs::engine::findings::Conclusion;
use lockstep_proofs::engine::profile::Profile;
use lockstep_proofs::engine::refutation::Refutation;
use lockstep_proofs::registry;
use lockstep_proofs::report::CheckReport;
use lockstep_proofs::report::pins;

#[test]
fn quick_has_the_pinned_counts() {
    let profile = Profile::Quick.name();
    let models = registry::models(Profile::Quick);
    let mut report = CheckReport { profile: profile.into(), complete: true, seconds: 0.0, models: Vec::new() };
    for model in models {
        report.models.push(model.check(&Settings::default()));
    }
    pins::hold_against(&mut report);
    for model in &report.models {
        assert_eq!(model.faults, Vec::<String>::new(), "{}", model.name);
        assert_eq!(model.verdict(), Conclusion::Holds, "{}", model.name);
    }
}

/// The most distinct states of a model that is searched a second time.
const SEARCHED_TWICE: usize = 200_000;

/// Searches with one thread, level by level, with other fingerprints. A state that stateright's threads missed would be
/// found here, and the recorded steps of each state are computed a second time. Only models of up to [`SEARCHED_TWICE`]
/// states are searched, because the others would take four times as long as these together. They run through the same
/// two searches: what they add is states, of machines and worlds that the smaller models have too.
#[test]
fn a_second_search_finds_the_same_states_and_verdicts() {
    let mut searched = Vec::new();
    for model in registry::models(Profile::Quick) {
        let (_, pinned) = pins::pinned(Profile::Quick.name(), model.name()).expect("pinned");
        if pinned > SEARCHED_TWICE {
            continue;
        }
        searched.push(model.name());
        match model.refute(&Settings::default()) {
            Refutation::Survived { unique_states } => assert_eq!(unique_states, pinned, "{}", model.name()),
            other @ (Refutation::Refuted { .. } | Refutation::Incomplete { .. }) => {
                panic!("{}: {other:?}", model.name())
            }
        }
    }
    // Machines and worlds, with promises and without.
    for name in ["connection", "position", "deletion", "parts"] {
        assert!(searched.contains(&name), "{name} is among {searched:?}");
    }
}

#[test]
fn every_model_is_pinned_at_quick_and_ci() {
    for profile in [Profile::Quick, Profile::Ci] {
        for model in registry::models(profile) {
            assert!(pins::pinned(profile.name(), model.name()).is_some(), "{} at {}", model.name(), profile.name());
        }
    }
}
