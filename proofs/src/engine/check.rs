//! The complete check of one model: the exhaustive search, then a second search for counterexamples.
//!
//! 1. stateright visits every state ([`crate::engine::explore`]). If the model makes promises, the successors of each
//!    state are recorded.
//! 2. If a state violates an `always`, or a step panics, the level-order search finds the shortest counterexample
//!    ([`crate::engine::shortest`]).
//! 3. Otherwise each promise is decided ([`crate::engine::fairness`]). If one is broken, the level-order search builds
//!    the graph again and finds a short run that breaks it.

use std::time::Instant;

use stateright::Expectation;

use crate::engine::explore::{Exploration, explore_links};
use crate::engine::fairness::{Graph, Links};
use crate::engine::findings::{Bound, ModelReport, PropertyReport};
use crate::engine::lasso;
use crate::engine::proof::{Kind, Proof};
use crate::engine::search::End;
use crate::engine::settings::Settings;
use crate::engine::shortest::{self, PANIC, Shortest};
use crate::engine::trace::{self, Counterexample};

/// Checks every property of `model` within its bounds.
///
/// # Panics
/// When the model declares an `eventually` property or exceeds the limits of [`crate::engine::fairness`].
pub fn check<M: Proof>(model: &M, settings: &Settings) -> ModelReport {
    let (exploration, links) = explore_links(model, settings);
    let mut report = ModelReport {
        name: model.name().into(),
        about: model.about().into(),
        bounds: model.bounds().into_iter().map(|(name, value)| Bound { name, value }).collect(),
        states: exploration.states,
        unique_states: exploration.unique_states,
        max_depth: exploration.max_depth,
        complete: exploration.complete,
        seconds: exploration.elapsed.as_secs_f64(),
        second_search_seconds: 0.0,
        states_per_second: exploration.states_per_second(),
        bytes_per_state: exploration.bytes_per_state(),
        properties: rows(model, &exploration),
        faults: Vec::new(),
        traces: Vec::new(),
    };
    let began = Instant::now();
    if exploration.failed() {
        counterexamples(model, settings, &exploration, &mut report);
    }
    if let Some(links) = links {
        promises(model, settings, &links, &mut report);
    }
    report.second_search_seconds = began.elapsed().as_secs_f64();
    report
}

/// Returns every property of a model with its kind, in the order of reports.
pub(crate) fn properties<M: Proof>(model: &M) -> Vec<(&'static str, Kind)> {
    let mut all: Vec<_> = model
        .properties()
        .into_iter()
        .map(|property| {
            let kind = match property.expectation {
                Expectation::Always => Kind::Always,
                Expectation::Sometimes => Kind::Sometimes,
                Expectation::Eventually => Kind::Eventually,
            };
            (property.name, kind)
        })
        .collect();
    all.extend(model.promises().iter().map(|promise| (promise.id, Kind::Eventually)));
    all
}

/// The results that follow from the exhaustive search alone.
fn rows<M: Proof>(model: &M, exploration: &Exploration) -> Vec<PropertyReport> {
    properties(model)
        .into_iter()
        .map(|(id, kind)| {
            let otherwise = |holds| exploration.complete.then_some(holds);
            let (holds, trace_len) = match kind {
                Kind::Always if exploration.violated.contains(&id) => (Some(false), None),
                Kind::Always => (otherwise(true), None),
                Kind::Sometimes => match exploration.shown.iter().find(|(name, _)| *name == id) {
                    Some((_, steps)) => (Some(true), Some(*steps)),
                    None => (otherwise(false), None),
                },
                Kind::Eventually => (None, None),
            };
            PropertyReport { id: id.into(), kind, holds, trace_len }
        })
        .collect()
}

/// Finds the shortest counterexample, or with `keep_going` the shortest for each violated property.
fn counterexamples<M: Proof>(model: &M, settings: &Settings, exploration: &Exploration, report: &mut ModelReport) {
    if let Some(panic) = &exploration.panic {
        violated(report, panic.property().unwrap_or(PANIC), Kind::Always, None);
    }
    let wanted: Vec<Option<&str>> = if settings.keep_going && exploration.panic.is_none() {
        exploration.violated.iter().copied().map(Some).collect()
    } else {
        vec![None]
    };
    for only in wanted {
        match shortest::shortest(model, settings, only) {
            Shortest::Found { trace, .. } => found(report, *trace),
            Shortest::Stopped { .. } => {}
            Shortest::None { .. } => report.faults.push(format!(
                "the exhaustive search found {}, the level-order search found nothing: the model is not deterministic",
                exploration.violated.first().unwrap_or(&PANIC),
            )),
        }
    }
}

fn found(report: &mut ModelReport, trace: Counterexample) {
    violated(report, &trace.property, trace.kind, Some(trace.len()));
    report.traces.push(trace);
}

/// Returns the row of a property that the model declares.
fn row<'a>(report: &'a mut ModelReport, id: &str, kind: Kind) -> Option<&'a mut PropertyReport> {
    report.properties.iter_mut().find(|property| property.id == id && property.kind == kind)
}

/// Marks a property as violated. Adds a row if the model does not declare the property.
fn violated(report: &mut ModelReport, id: &str, kind: Kind, trace_len: Option<usize>) {
    if let Some(property) = row(report, id, kind) {
        property.holds = Some(false);
        property.trace_len = trace_len.or(property.trace_len);
    } else {
        report.properties.push(PropertyReport { id: id.into(), kind, holds: Some(false), trace_len });
    }
}

/// Decides every promise.
fn promises<M: Proof>(model: &M, settings: &Settings, links: &Links, report: &mut ModelReport) {
    let mut broken_ones = Vec::new();
    for (index, promise) in model.promises().iter().enumerate() {
        let holds = links.fair_component(index).is_none();
        if let Some(row) = row(report, promise.id, Kind::Eventually) {
            row.holds = Some(holds);
        }
        if !holds {
            broken_ones.push(index);
        }
    }
    if broken_ones.is_empty() {
        return;
    }
    let graph = match Graph::build(model, settings) {
        Ok(graph) => graph,
        Err(End::Panicked { panic, .. }) => {
            report.faults.push(format!("liveness: {} ({})", panic.message, panic.place));
            return;
        }
        Err(End::Exhausted | End::Found(_) | End::Stopped) => return,
    };
    let traces: Vec<_> = broken_ones.iter().filter_map(|index| broken(model, &graph, *index)).collect();
    if traces.len() != broken_ones.len() || graph.tree.len() != report.unique_states {
        report.faults.push(format!(
            "the two searches found {} and {} states, and {} and {} broken promises: two states share a fingerprint, or \
             the model is not deterministic",
            report.unique_states,
            graph.tree.len(),
            broken_ones.len(),
            traces.len(),
        ));
    }
    for trace in traces {
        found(report, trace);
    }
}

/// Describes a run that breaks a promise.
pub(crate) fn broken<M: Proof>(model: &M, graph: &Graph<M>, promise: usize) -> Option<Counterexample> {
    let lasso = lasso::find(model, graph, promise)?;
    let (start, steps) = &lasso.path;
    let id = graph.promises[promise].id;
    Some(Counterexample {
        model: model.name().into(),
        property: id.into(),
        kind: Kind::Eventually,
        also: vec![id.into()],
        start: format!("{start:?}"),
        steps: trace::describe(model, start, steps),
        cycle: Some(lasso.prefix),
        message: None,
    })
}
