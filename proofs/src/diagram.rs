//! The state diagram of a machine, made from the transitions that the search
//! met: as aligned text for a module header, as Graphviz, as SVG.
//!
//! The header of each machine includes its text from `model/src/diagram`; the test
//! `pictures` fails when that is stale, and writes it anew when it is asked to.

use std::fmt::Write as _;

use crate::chart::Chart;

/// The widest list of inputs on one line; longer ones take several lines.
const WRAP: usize = 52;

/// The diagram as text: a line for each way from one phase to another, the
/// inputs that take it between the two. Inputs that stay in the phase are left
/// out; the [matrix](crate::matrix) has them. Ends with a line end.
pub fn text(chart: &Chart) -> String {
    let mut lines: Vec<(String, String, String)> = Vec::new();
    for phase in &chart.initial {
        lines.push(("●".into(), String::new(), chart.phases[*phase].into()));
    }
    for (from, name) in chart.phases.iter().enumerate() {
        let mut label = Some((*name).to_owned());
        for (to, target) in chart.phases.iter().enumerate() {
            if from == to {
                continue;
            }
            for inputs in wrap(&chart.moves(from, to)) {
                lines.push((label.take().unwrap_or_default(), inputs, (*target).into()));
            }
        }
        if let (Some(label), true) = (label, chart.met.contains(&from)) {
            lines.push((label, String::new(), "◉".into()));
        }
    }
    let from_width = lines.iter().map(|(from, ..)| width(from)).max().unwrap_or(0);
    let input_width = lines.iter().map(|(_, inputs, _)| width(inputs)).max().unwrap_or(0);
    let mut text = String::new();
    for (from, inputs, to) in lines {
        let pad = from_width - width(&from);
        let rule = "─".repeat(input_width - width(&inputs) + 1);
        let _ = if inputs.is_empty() {
            writeln!(text, "{from}{:pad$} ────{rule}▶ {to}", "")
        } else {
            writeln!(text, "{from}{:pad$} ── {inputs} {rule}▶ {to}", "")
        };
    }
    text
}

/// The diagram for Graphviz.
pub fn dot(chart: &Chart) -> String {
    let mut text = format!("digraph {} {{\n  rankdir=TB;\n  node [shape=box, style=rounded];\n", quoted(chart.machine));
    for phase in &chart.initial {
        let _ = writeln!(text, "  start [shape=point];\n  start -> {};", quoted(chart.phases[*phase]));
    }
    for (from, name) in chart.phases.iter().enumerate() {
        for (to, target) in chart.phases.iter().enumerate() {
            let inputs = chart.moves(from, to);
            if !inputs.is_empty() {
                let label = quoted(&inputs.join("\\n"));
                let _ = writeln!(text, "  {} -> {} [label={label}];", quoted(name), quoted(target));
            }
        }
    }
    text.push_str("}\n");
    text
}

/// The diagram as a self-contained SVG: phases down the middle, ways forward on
/// the right, ways back on the left.
pub fn svg(chart: &Chart) -> String {
    const ROW: usize = 84;
    const BOX: usize = 150;
    let ways: Vec<(usize, usize, String)> = (0..chart.phases.len())
        .flat_map(|from| (0..chart.phases.len()).map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
        .map(|(from, to)| (from, to, chart.moves(from, to).join(", ")))
        .filter(|(_, _, inputs)| !inputs.is_empty())
        .collect();
    let label_width = ways.iter().map(|(_, _, inputs)| width(inputs)).max().unwrap_or(0) * 7;
    let lane = 26;
    let forward = ways.iter().filter(|(from, to, _)| from < to).count() * lane + label_width + 40;
    let back = ways.iter().filter(|(from, to, _)| from > to).count() * lane + label_width + 40;
    let total_width = back + BOX + forward;
    let height = chart.phases.len() * ROW + ways.len() * 8 + 20;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {total_width} {height}\" width=\"{total_width}\" height=\"{height}\" font-family=\"ui-monospace, monospace\" font-size=\"11\">\n\
         <style>text{{fill:#222}}path,rect{{stroke:#555;fill:none}}.t{{fill:#555}}@media(prefers-color-scheme:dark){{text{{fill:#ddd}}path,rect{{stroke:#aaa}}.t{{fill:#aaa}}}}</style>\n\
         <title>{}</title>\n",
        crate::html::escape(chart.machine)
    );
    for (index, name) in chart.phases.iter().enumerate() {
        let dash = if chart.met.contains(&index) { "" } else { " stroke-dasharray=\"4 3\"" };
        let weight = if chart.initial.contains(&index) { 2 } else { 1 };
        let _ = writeln!(
            svg,
            "<rect x=\"{back}\" y=\"{}\" width=\"{BOX}\" height=\"36\" rx=\"8\" stroke-width=\"{weight}\"{dash}/><text x=\"{}\" y=\"{}\" text-anchor=\"middle\" font-size=\"13\">{}</text>",
            index * ROW + 12,
            back + BOX / 2,
            index * ROW + 35,
            crate::html::escape(name),
        );
    }
    let mut lanes = (0, 0);
    for (from, to, inputs) in &ways {
        let right = from < to;
        let lane_index = if right { &mut lanes.0 } else { &mut lanes.1 };
        *lane_index += 1;
        let offset = *lane_index * lane;
        let (edge, x) = if right { (back + BOX, back + BOX + offset) } else { (back, back - offset) };
        let (leave, arrive) = (from * ROW + 20 + (*lane_index % 4) * 6, to * ROW + 20 + (*lane_index % 4) * 6);
        let (tip, anchor, text_x) = if right { (6, "start", x + 5) } else { (-6, "end", x - 5) };
        let tip_x = edge as isize + tip;
        let _ = writeln!(
            svg,
            "<path d=\"M{edge} {leave}H{x}V{arrive}H{edge}\"/><path class=\"t\" d=\"M{edge} {arrive}L{tip_x} {}L{tip_x} {}Z\"/><text x=\"{text_x}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            arrive - 4,
            arrive + 4,
            (leave + arrive) / 2 + (*lane_index % 5) * 12,
            crate::html::escape(inputs),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn wrap(inputs: &[&'static str]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for input in inputs {
        match lines.last_mut() {
            Some(line) if width(line) + width(input) + 2 <= WRAP => {
                line.push_str(", ");
                line.push_str(input);
            }
            _ => lines.push((*input).to_owned()),
        }
    }
    lines
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\\\""))
}
