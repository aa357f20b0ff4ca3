//! Reports as text.

use std::fmt::Write as _;

use crate::engine::findings::{Conclusion, ModelReport, PropertyReport, RaceReport};
use crate::engine::proof::Kind;
use crate::report::{CheckReport, RacesReport};

/// Returns the report of a check: models, then properties, then counterexamples.
pub fn check(report: &CheckReport) -> String {
    let mut text = String::new();
    for model in &report.models {
        write_model(&mut text, model);
    }
    for trace in report.traces() {
        text.push('\n');
        text.push_str(&trace.to_text());
    }
    let states: usize = report.models.iter().map(|model| model.unique_states).sum();
    let verdict = match report.verdict() {
        Conclusion::Holds => "every property holds in every reachable state within the bounds",
        Conclusion::Incomplete => "incomplete: not every reachable state was explored",
        Conclusion::Fails => "a property does not hold",
    };
    let _ = writeln!(
        text,
        "\n{}: {} models, {} distinct states, {:.1} s: {verdict}",
        report.profile,
        report.models.len(),
        grouped(states),
        report.seconds
    );
    text
}

fn write_model(text: &mut String, model: &ModelReport) {
    let _ = writeln!(text, "{}  {}", model.name, model.about);
    let bounds: Vec<String> = model.bounds.iter().map(|bound| format!("{} = {}", bound.name, bound.value)).collect();
    for line in wrapped(&bounds, 96) {
        let _ = writeln!(text, "  {line}");
    }
    // After the search, promises are decided or a counterexample is found.
    let after = Some(model.second_search_seconds).filter(|seconds| *seconds >= 0.005);
    let after = after.map_or(String::new(), |seconds| format!(" and {seconds:.2} s after it"));
    let memory = model.bytes_per_state.map_or(String::new(), |bytes| format!(", {bytes:.0} B/state"));
    let _ = writeln!(
        text,
        "  {} states, {} distinct, depth {}, {:.2} s{after}, {}/s{memory}{}",
        grouped(model.states),
        grouped(model.unique_states),
        model.max_depth,
        model.seconds,
        grouped(model.states_per_second as usize),
        if model.complete { "" } else { ": INCOMPLETE" },
    );
    let width = model.properties.iter().map(|property| property.id.chars().count()).max().unwrap_or(0);
    for property in &model.properties {
        let _ = writeln!(
            text,
            "    {} {:width$}  {:10} {}",
            sign(property.holds),
            property.id,
            property.kind.word(),
            finding(property)
        );
    }
    for fault in &model.faults {
        let _ = writeln!(text, "    ✗ {fault}");
    }
}

fn sign(holds: Option<bool>) -> char {
    match holds {
        Some(true) => '✓',
        Some(false) => '✗',
        None => '?',
    }
}

fn finding(property: &PropertyReport) -> String {
    let steps = property.trace_len.map_or(String::new(), |steps| format!(" in {}", plural(steps, "step")));
    match (property.kind, property.holds) {
        (_, None) => "incomplete".into(),
        (Kind::Sometimes, Some(true)) => format!("met{steps}"),
        (Kind::Sometimes, Some(false)) => "NEVER REACHED".into(),
        (Kind::Always | Kind::Eventually, Some(true)) => "holds".into(),
        (Kind::Always | Kind::Eventually, Some(false)) => format!("VIOLATED{steps}"),
    }
}

/// Returns the report of the races: a line for each.
pub fn races(report: &RacesReport) -> String {
    let mut text = String::new();
    let id_width = report.races.iter().map(|race| race.id.len()).max().unwrap_or(0);
    let title_width = report.races.iter().map(|race| race.title.chars().count()).max().unwrap_or(0);
    for race in &report.races {
        let _ = writeln!(
            text,
            "{} {:id_width$}  {:title_width$}  {}",
            sign(race.refused),
            race.id,
            race.title,
            race_finding(race)
        );
    }
    let refused = report.races.iter().filter(|race| race.refused == Some(true)).count();
    let _ = writeln!(text, "\n{refused} of {} refused as expected, {:.1} s", report.races.len(), report.seconds);
    text
}

/// Returns the result for one race, in a few words.
pub fn race_finding(race: &RaceReport) -> String {
    let steps = race.trace_len.map_or(String::new(), |steps| format!(" in {}", plural(steps, "step")));
    let expected = race.expected.join(" or ");
    match (race.refused, &race.property, race.untypable) {
        (_, _, Some(shown_by)) => format!("does not compile: {shown_by}"),
        (Some(true), property, None) => {
            format!("refused by {}{steps}", property.as_deref().unwrap_or(&expected))
        }
        (Some(false), Some(property), None) => {
            format!("REFUSED BY {property}{steps}, expected {expected}")
        }
        (Some(false), None, None) => {
            format!("NOT REFUSED in {} states, expected {expected}", grouped(race.unique_states))
        }
        (None, _, None) => format!("incomplete after {} states", grouped(race.unique_states)),
    }
}

/// Formats a number with a count noun.
fn plural(count: usize, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// Formats a number with its digits in groups of three.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Joins items with commas, in lines of at most about `width`.
fn wrapped(items: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        match lines.last_mut() {
            Some(line) if line.chars().count() + item.chars().count() + 2 <= width => {
                let _ = write!(line, ", {item}");
            }
            _ => lines.push(item.clone()),
        }
    }
    lines
}
