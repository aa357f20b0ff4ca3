//! The state diagram of a machine, generated from the transitions that the search found: as aligned text for a module
//! header, as Graphviz, or as SVG.
//!
//! The header of each machine includes its text from `model/src/diagram`. The test `pictures` fails if that is stale,
//! and regenerates it on request.

use std::fmt::Write as _;

use crate::engine::chart::Chart;
use crate::report::escape::escape;

/// The maximum width of a list of inputs on one line. Longer lists take several lines.
const WRAP: usize = 52;

/// Returns the diagram as text: a line for each transition between two phases, with its inputs. Inputs that stay in the
/// phase are omitted; the [matrix](crate::report::matrix) has them. Ends with a newline.
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

/// Returns the diagram for Graphviz.
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

/// Returns the diagram as a self-contained SVG. Each phase is a box, and each of its outgoing transitions has its own
/// row beside the box: the inputs, then a line to the lane of the target phase. A lane joins all transitions into one
/// phase and ends in its box. No two texts share a row, so none covers another.
pub fn svg(chart: &Chart) -> String {
    let boxes = layout(chart);
    let label_end = boxes.iter().flat_map(|phase| &phase.ways).map(Way::end).max().unwrap_or(BOX);
    let mut lanes: Vec<usize> = boxes.iter().flat_map(|phase| &phase.ways).map(|way| way.to).collect();
    lanes.sort_unstable();
    lanes.dedup();
    let lane = |to: usize| label_end + LANE * (1 + lanes.iter().position(|known| *known == to).unwrap_or(0));
    let width = label_end + LANE * (lanes.len() + 1);
    let height = boxes.last().map_or(0, |phase| phase.top + phase.height) + GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" font-family=\"ui-monospace, monospace\" font-size=\"11\">\n\
         <style>text{{fill:#222}}path,rect{{stroke:#555;fill:none}}.t{{fill:#555}}@media(prefers-color-scheme:dark){{text{{fill:#ddd}}path,rect{{stroke:#aaa}}.t{{fill:#aaa}}}}</style>\n\
         <title>{}</title>\n",
        escape(chart.machine)
    );
    for (index, (name, phase)) in chart.phases.iter().zip(&boxes).enumerate() {
        let dash = if chart.met.contains(&index) { "" } else { " stroke-dasharray=\"4 3\"" };
        let weight = if chart.initial.contains(&index) { 2 } else { 1 };
        let _ = writeln!(
            svg,
            "<rect x=\"{EDGE}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"8\" stroke-width=\"{weight}\"{dash}/><text x=\"{}\" y=\"{}\" text-anchor=\"middle\" font-size=\"13\">{}</text>",
            phase.top,
            BOX - EDGE,
            phase.height,
            EDGE + (BOX - EDGE) / 2,
            phase.top + phase.height / 2 + 5,
            escape(name),
        );
    }
    for way in boxes.iter().flat_map(|phase| &phase.ways) {
        let (middle, lane) = (way.middle(), lane(way.to));
        let _ = writeln!(svg, "<path d=\"M{BOX} {middle}h6M{} {middle}H{lane}\"/>", way.end() - 4);
        for (line, y) in way.label.iter().zip((way.top..).step_by(LINE)) {
            let text = escape(line);
            let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\">{text}</text>", BOX + 10, y + 12);
        }
    }
    for to in &lanes {
        let (x, arrival) = (lane(*to), boxes[*to].top + LINE / 2);
        let ends = boxes.iter().flat_map(|phase| &phase.ways).filter(|way| way.to == *to).map(Way::middle);
        let (first, last) = ends.fold((arrival, arrival), |(first, last), y| (first.min(y), last.max(y)));
        let _ = writeln!(
            svg,
            "<path d=\"M{x} {first}V{last}M{x} {arrival}H{BOX}\"/><path class=\"t\" d=\"M{BOX} {arrival}l7 -4v8Z\"/>"
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// The left edge of the boxes.
const EDGE: usize = 12;
/// The right edge of the boxes.
const BOX: usize = 162;
/// The height of a line of text.
const LINE: usize = 16;
/// The distance between two lanes.
const LANE: usize = 16;
/// The distance between two boxes.
const GAP: usize = 18;
/// The width of a character.
const CHARACTER: usize = 7;

/// The position of a phase.
struct Placed {
    top: usize,
    height: usize,
    ways: Vec<Way>,
}

/// The inputs that lead from one phase to another.
struct Way {
    to: usize,
    top: usize,
    label: Vec<String>,
}

impl Way {
    fn middle(&self) -> usize {
        self.top + self.label.len() * LINE / 2
    }

    /// The end of its label, with a gap.
    fn end(&self) -> usize {
        BOX + 18 + CHARACTER * self.label.iter().map(|line| width(line)).max().unwrap_or(0)
    }
}

fn layout(chart: &Chart) -> Vec<Placed> {
    let mut top = GAP;
    let place = |from: usize| {
        // Lanes arrive at the first row.
        let mut y = top + LINE;
        let mut ways = Vec::new();
        for to in (0..chart.phases.len()).filter(|to| *to != from) {
            let label = wrap(&chart.moves(from, to));
            if !label.is_empty() {
                let lines = label.len();
                ways.push(Way { to, top: y, label });
                y += lines * LINE;
            }
        }
        let placed = Placed { top, height: (y - top).max(2 * LINE), ways };
        top += placed.height + GAP;
        placed
    };
    (0..chart.phases.len()).map(place).collect()
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
