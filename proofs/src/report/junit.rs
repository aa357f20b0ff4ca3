//! Reports for CI systems: JUnit XML, a suite per model, a case per property.
//!
//! An incomplete property is an *error*, not a skip, because an unexplored state must not make a build green.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use crate::engine::property;
use crate::report::{CheckReport, RacesReport, table};

/// Returns a check as JUnit XML.
///
/// # Errors
/// If the XML cannot be written, which does not happen with reports of this crate.
pub fn check(report: &CheckReport) -> Result<String, SerializeError> {
    let mut junit = Report::new(format!("prove check {}", report.profile));
    junit.set_time(Duration::from_secs_f64(report.seconds));
    for model in &report.models {
        let mut suite = TestSuite::new(&model.name);
        suite.set_time(Duration::from_secs_f64(model.seconds + model.second_search_seconds));
        for property in &model.properties {
            let status = match property.holds {
                Some(true) => TestCaseStatus::success(),
                Some(false) => {
                    let trace = model.traces.iter().find(|trace| trace.property == property.id);
                    let what = match trace {
                        Some(trace) => trace.to_text(),
                        None => "no reachable state shows it".into(),
                    };
                    failure(NonSuccessKind::Failure, sentence(&property.id), &what)
                }
                None => failure(NonSuccessKind::Error, "incomplete", "not every reachable state was explored"),
            };
            let mut case = TestCase::new(&property.id, status);
            case.set_classname(format!("{}.{}", model.name, property.kind.word()));
            suite.add_test_case(case);
        }
        for (index, fault) in model.faults.iter().enumerate() {
            let status = failure(NonSuccessKind::Error, "the checker's own check", fault);
            suite.add_test_case(TestCase::new(format!("fault {}", index + 1), status));
        }
        junit.add_test_suite(suite);
    }
    junit.to_string()
}

/// Returns the races as JUnit XML: one suite, a case per race.
///
/// # Errors
/// If the XML cannot be written, which does not happen with reports of this crate.
pub fn races(report: &RacesReport) -> Result<String, SerializeError> {
    let mut junit = Report::new("prove races");
    junit.set_time(Duration::from_secs_f64(report.seconds));
    let mut suite = TestSuite::new("races");
    suite.set_time(Duration::from_secs_f64(report.seconds));
    for race in &report.races {
        let status = match race.refused {
            Some(true) => TestCaseStatus::success(),
            Some(false) => failure(NonSuccessKind::Failure, &table::race_finding(race), race.mistake),
            None => failure(NonSuccessKind::Error, "incomplete", race.mistake),
        };
        let mut case = TestCase::new(format!("{} {}", race.id, race.title), status);
        case.set_classname(race.model.as_deref().unwrap_or("types"));
        case.set_time(Duration::from_secs_f64(race.seconds));
        suite.add_test_case(case);
    }
    junit.add_test_suite(suite);
    junit.to_string()
}

fn failure(kind: NonSuccessKind, message: &str, description: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(message).set_description(description);
    status
}

fn sentence(id: &str) -> &str {
    property::sentence(id).unwrap_or("violated")
}
