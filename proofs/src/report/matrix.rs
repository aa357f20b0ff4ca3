//! State × input: the outcomes of each pair, over every reachable state.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::engine::chart::Chart;
use crate::engine::proof::Outcome;

/// The legend below a matrix.
pub const LEGEND: &str = "a name: moves there   =: stays   ·: ignored (late)   ✗: refused (misuse)   blank: never met";

/// Returns the matrix as text: a row per input, a column per phase. A cell lists several outcomes if the outcome
/// depends on more than the phase. Ends with a newline.
pub fn text(chart: &Chart) -> String {
    let environment = (0..chart.phases.len()).any(|phase| chart.cells.contains_key(&(phase, chart.inputs.len())));
    let inputs = chart.inputs.len() + usize::from(environment);
    let mut table = vec![vec![chart.machine.to_owned()]];
    table[0].extend(chart.phases.iter().map(ToString::to_string));
    for input in 0..inputs {
        let mut row = vec![chart.input(input).to_owned()];
        row.extend((0..chart.phases.len()).map(|phase| cell(chart, phase, input)));
        table.push(row);
    }
    render(&table)
}

fn cell(chart: &Chart, phase: usize, input: usize) -> String {
    let Some(answers) = chart.cells.get(&(phase, input)) else {
        return String::new();
    };
    let signs: BTreeSet<(usize, &str)> = answers
        .iter()
        .map(|(outcome, to)| match outcome {
            Outcome::Moved => (0, chart.phases[*to]),
            Outcome::Stayed => (1, "="),
            Outcome::Ignored => (2, "·"),
            Outcome::Refused => (3, "✗"),
        })
        .collect();
    signs.into_iter().map(|(_, sign)| sign).collect::<Vec<_>>().join(" ")
}

fn render(table: &[Vec<String>]) -> String {
    let columns = table.first().map_or(0, Vec::len);
    let widths: Vec<usize> =
        (0..columns).map(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (index, row) in table.iter().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let pad = width - cell.chars().count();
            let _ = write!(line, "{cell}{:pad$} │ ", "");
        }
        text.push_str(line.trim_end_matches(" │ ").trim_end());
        text.push('\n');
        if index == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
            text.push_str(&rules.join("─┼─"));
            text.push('\n');
        }
    }
    text
}
