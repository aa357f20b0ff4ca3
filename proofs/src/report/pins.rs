//! Pinned counts: how many states each model has at `quick` and `ci`.
//!
//! A change of behaviour shows as a changed count, even if every property still holds. `prove check --pinned` compares
//! the counts with `proofs/pins.txt`. An intended change is entered there by hand, from the report.

use crate::report::CheckReport;

/// One line per model: profile, name, states generated, distinct states.
const PINS: &str = include_str!("../../pins.txt");

/// Returns the pinned counts of a model: generated and distinct.
pub fn pinned(profile: &str, model: &str) -> Option<(usize, usize)> {
    PINS.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        if words.next()? != profile || words.next()? != model {
            return None;
        }
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    })
}

/// Adds a fault to each model of the report that was fully explored and whose counts differ from the pinned ones.
pub fn hold_against(report: &mut CheckReport) {
    for model in report.models.iter_mut().filter(|model| model.complete) {
        let counted = (model.states, model.unique_states);
        let fault = match pinned(&report.profile, &model.name) {
            Some(pin) if pin == counted => continue,
            Some((states, unique)) => format!(
                "behaviour changed: {} states, {} distinct, where {states} and {unique} are pinned in proofs/pins.txt",
                counted.0, counted.1
            ),
            None => format!(
                "no pin: add the line `{} {} {} {}` to proofs/pins.txt",
                report.profile, model.name, counted.0, counted.1
            ),
        };
        model.faults.push(fault);
    }
}
