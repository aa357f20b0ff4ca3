//! Compares a run with a stored one.
//!
//! Times of different moments and machines say little, so what is compared is the ratio to the bare server in the same
//! run, repeat by repeat. It is worse if its median has grown by more than the tolerance and each of this run's repeats
//! is above each stored one: more than the machine's noise explains.

use crate::report::{BARE, Report};
use crate::stats::{median, range};

/// The figures that are compared. Latencies depend on the machine's other load.
const COMPARED: [(&str, &str); 2] = [("cpu_us", "CPU"), ("kib", "memory")];

/// A figure that was compared.
#[derive(Clone, Debug)]
pub(crate) struct Compared {
    /// Scenario, server and figure.
    pub(crate) name: String,
    /// The ratios' medians.
    pub(crate) before: f64,
    pub(crate) now: f64,
    /// Why it is worse, if it is.
    pub(crate) worse: Option<String>,
}

/// Compares each figure that both runs have. The tolerance is a fraction.
pub(crate) fn compare(baseline: &Report, run: &Report, tolerance: f64) -> Vec<Compared> {
    let mut compared = Vec::new();
    for row in run.rows.iter().filter(|row| row.server != BARE) {
        for (figure, title) in COMPARED {
            let [before, now] = [baseline, run].map(|report| ratios(report, &row.scenario, &row.server, figure));
            if before.is_empty() || now.is_empty() {
                continue;
            }
            let name = format!("{} {} {title}", row.scenario, row.server);
            compared.push(verdict(name, &before, &now, tolerance));
        }
    }
    compared
}

fn verdict(name: String, before: &[f64], now: &[f64], tolerance: f64) -> Compared {
    let (was, is) = (median(before), median(now));
    let grown = is > was * (1.0 + tolerance);
    let outside = range(now).0 > range(before).1;
    let worse = (grown && outside).then(|| {
        format!(
            "{is:.2} x bare, {was:.2} in the baseline: {:+.0} %, allowed {:.0} %",
            (is / was - 1.0) * 100.0,
            tolerance * 100.0
        )
    });
    Compared { name, before: was, now: is, worse }
}

/// The ratio to the bare server, repeat by repeat.
fn ratios(report: &Report, scenario: &str, server: &str, figure: &str) -> Vec<f64> {
    let values = |server: &str| report.row(scenario, server).map(|row| row.values(figure)).unwrap_or_default();
    values(server).into_iter().zip(values(BARE)).map(|(value, bare)| value / bare).filter(|r| r.is_finite()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    fn worse(before: &[f64], now: &[f64]) -> bool {
        let bare: &[f64] = &[1.0, 1.0, 1.0];
        let [before, now] = [before, now].map(|values| report(&[("bare", bare), ("memory", values)]));
        let compared = compare(&before, &now, 0.25);
        assert_eq!(compared.len(), 1);
        compared[0].worse.is_some()
    }

    #[test]
    fn twice_the_cost_is_worse() {
        assert!(worse(&[4.0, 4.2, 3.9], &[8.0, 8.4, 7.8]));
    }

    #[test]
    fn less_than_the_tolerance_is_not() {
        assert!(!worse(&[4.0, 4.2, 3.9], &[4.8, 4.7, 4.9]));
    }

    #[test]
    fn what_the_repeats_have_shown_before_is_not() {
        assert!(!worse(&[4.0, 7.0, 3.9], &[6.0, 6.9, 7.1]));
    }

    #[test]
    fn a_slower_machine_is_not() {
        let before = report(&[("bare", &[1.0, 1.0]), ("memory", &[4.0, 4.0])]);
        let now = report(&[("bare", &[3.0, 3.0]), ("memory", &[12.0, 12.0])]);
        assert!(compare(&before, &now, 0.25)[0].worse.is_none());
    }
}
