//! A counterexample as a sequence diagram: lifelines across, steps downwards.
//!
//! The drawing is inline SVG without external scripts, fonts or images. Its colours come from the page's CSS classes,
//! so it follows light and dark.

use std::fmt::Write as _;

use crate::engine::phrase::phrase;
use crate::engine::proof::{Drawing, Lifeline};
use crate::engine::trace::Counterexample;
use crate::report::escape::escape;

/// Width of a column.
const COLUMN: usize = 168;
/// Left of the first column: step numbers, and the bracket of a cycle.
const MARGIN: usize = 72;
/// Height of one line of text.
const LINE: usize = 16;
/// Height of the row of titles.
const HEADER: usize = 44;
/// The number of elements after which the titles are repeated.
const REPEAT: usize = 24;
/// The maximum number of characters in a line of a label or note.
const LABEL: usize = 40;

/// Returns the diagram of `trace` as one `<svg>` element.
pub fn svg(trace: &Counterexample) -> String {
    let mut sheet = Sheet::new(trace);
    sheet.header();
    let mut since_header = 0;
    let mut cycle_top = None;
    for (index, step) in trace.steps.iter().enumerate() {
        if since_header >= REPEAT {
            sheet.header();
            since_header = 0;
        }
        if trace.cycle == Some(index) {
            cycle_top = Some(sheet.y);
            sheet.caption("for ever:", "cycle");
        }
        let last = index + 1 == trace.steps.len();
        let violating = last && trace.cycle.is_none();
        let top = sheet.y;
        sheet.number(index + 1, &phrase(&step.action));
        for drawing in &step.drawings {
            sheet.draw(drawing);
            since_header += 1;
        }
        if step.drawings.is_empty() {
            sheet.caption(&phrase(&step.action), "quiet");
            since_header += 1;
        }
        sheet.y += 8;
        if violating {
            sheet.mark(top);
        }
    }
    if let Some(top) = cycle_top {
        sheet.bracket(top);
    }
    let verdict = match (trace.cycle, &trace.message) {
        (Some(cycle), _) if cycle == trace.steps.len() => {
            format!("✗ {}: pending, and no fair action is enabled", trace.property)
        }
        (Some(_), _) => format!("✗ {}: pending, and the run repeats", trace.property),
        (None, Some(message)) => format!("✗ {}: {message}", trace.property),
        (None, None) => format!("✗ {}: violated here", trace.property),
    };
    for line in lines(&verdict, 80).iter().chain(&lines(trace.sentence(), 80)) {
        sheet.caption(line, "violation");
    }
    sheet.finish()
}

struct Sheet {
    columns: Vec<Lifeline>,
    /// The elements above the lifelines, which are drawn last because their height is then known.
    body: String,
    y: usize,
    width: usize,
    title: String,
}

impl Sheet {
    fn new(trace: &Counterexample) -> Self {
        let mut columns: Vec<Lifeline> = trace
            .steps
            .iter()
            .flat_map(|step| &step.drawings)
            .flat_map(|drawing| match drawing {
                Drawing::Arrow { from, to, .. } => vec![*from, *to],
                Drawing::Note { on, .. } => vec![*on],
            })
            .collect();
        columns.sort_unstable();
        columns.dedup();
        // Room for captions even if nothing is drawn, and for a loop at the last column.
        let width = MARGIN + columns.len().max(3) * COLUMN + COLUMN / 2;
        Self {
            columns,
            body: String::new(),
            y: 0,
            width,
            title: format!("{} violated by {}", trace.property, trace.model),
        }
    }

    fn x(&self, lifeline: Lifeline) -> usize {
        let column = self.columns.iter().position(|known| *known == lifeline).unwrap_or(0);
        MARGIN + column * COLUMN + COLUMN / 2
    }

    fn header(&mut self) {
        for lifeline in self.columns.clone() {
            let x = self.x(lifeline);
            let _ = writeln!(
                self.body,
                r#"<rect class="head" x="{}" y="{}" width="{}" height="26" rx="5"/><text class="name" x="{x}" y="{}" text-anchor="middle">{}</text>"#,
                x - COLUMN / 2 + 14,
                self.y + 4,
                COLUMN - 28,
                self.y + 22,
                lifeline.title(),
            );
        }
        self.y += HEADER;
    }

    fn number(&mut self, number: usize, action: &str) {
        let _ = writeln!(
            self.body,
            r#"<text class="number" x="{}" y="{}" text-anchor="end">{number}<title>{}</title></text>"#,
            MARGIN - 24,
            self.y + LINE,
            escape(action),
        );
    }

    fn draw(&mut self, drawing: &Drawing) {
        match drawing {
            Drawing::Note { on, text } => self.note(self.x(*on), text),
            Drawing::Arrow { from, to, label, lost } if from == to => {
                self.turn(self.x(*from), label, *lost);
            }
            Drawing::Arrow { from, to, label, lost } => {
                self.arrow(self.x(*from), self.x(*to), label, *lost);
            }
        }
    }

    fn note(&mut self, x: usize, text: &str) {
        let lines = lines(text, LABEL);
        let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0) * 7 + 16;
        let left = x.saturating_sub(width / 2).max(MARGIN);
        self.fit(left + width);
        let height = lines.len() * LINE + 8;
        let _ = writeln!(
            self.body,
            r#"<rect class="note" x="{left}" y="{}" width="{width}" height="{height}" rx="3"/>"#,
            self.y + 2
        );
        for (index, line) in lines.iter().enumerate() {
            let _ = writeln!(
                self.body,
                r#"<text x="{}" y="{}">{}</text>"#,
                left + 8,
                self.y + LINE + 2 + index * LINE,
                escape(line)
            );
        }
        self.y += height + 6;
    }

    fn arrow(&mut self, from: usize, to: usize, label: &str, lost: bool) {
        let lines = lines(label, LABEL);
        let middle = usize::midpoint(from, to);
        for line in &lines {
            let half = line.chars().count() * 7 / 2;
            let x = middle.max(MARGIN + half);
            self.fit(x + half);
            let _ = writeln!(
                self.body,
                r#"<text class="label" x="{x}" y="{}" text-anchor="middle">{}</text>"#,
                self.y + LINE,
                escape(line)
            );
            self.y += LINE;
        }
        let y = self.y + 8;
        let right = to > from;
        if lost {
            // It ends before the other lifeline, in a cross.
            let end = if right { to - COLUMN / 4 } else { to + COLUMN / 4 };
            let _ = writeln!(
                self.body,
                r#"<path class="lost" d="M{from} {y}H{end}"/><path class="cross" d="M{} {}l10 10m0 -10l-10 10"/>"#,
                end - 5,
                y - 5
            );
        } else {
            let back = if right { to - 8 } else { to + 8 };
            let _ = writeln!(
                self.body,
                r#"<path class="wire" d="M{from} {y}H{to}"/><path class="tip" d="M{to} {y}L{back} {}V{}Z"/>"#,
                y - 4,
                y + 4
            );
        }
        self.y += LINE;
    }

    fn turn(&mut self, x: usize, label: &str, lost: bool) {
        let lines = lines(label, LABEL);
        let class = if lost { "lost" } else { "wire" };
        let y = self.y + 8;
        let _ = writeln!(
            self.body,
            r#"<path class="{class}" d="M{x} {y}h26v14H{x}"/><path class="tip" d="M{x} {}l8 -4v8Z"/>"#,
            y + 14
        );
        for (index, line) in lines.iter().enumerate() {
            self.fit(x + 34 + line.chars().count() * 7);
            let _ = writeln!(
                self.body,
                r#"<text class="label" x="{}" y="{}">{}</text>"#,
                x + 34,
                self.y + LINE + 3 + index * LINE,
                escape(line)
            );
        }
        self.y += (lines.len() * LINE).max(24) + 8;
    }

    fn caption(&mut self, text: &str, class: &str) {
        self.fit(MARGIN + text.chars().count() * 8);
        let _ =
            writeln!(self.body, r#"<text class="{class}" x="{MARGIN}" y="{}">{}</text>"#, self.y + LINE, escape(text));
        self.y += LINE + 6;
    }

    /// Draws a red bar beside the step that violates the property.
    fn mark(&mut self, top: usize) {
        let _ = writeln!(
            self.body,
            r#"<rect class="mark" x="{}" y="{top}" width="5" height="{}"/>"#,
            MARGIN - 12,
            self.y - top - 4
        );
    }

    /// Draws the bracket around the steps that repeat.
    fn bracket(&mut self, top: usize) {
        let (x, bottom) = (MARGIN - 14, self.y - 4);
        let _ = writeln!(self.body, r#"<path class="bracket" d="M{} {top}H{x}V{bottom}h10"/>"#, x + 10);
    }

    fn fit(&mut self, right: usize) {
        self.width = self.width.max(right + 12);
    }

    fn finish(self) -> String {
        let height = self.y + 12;
        let mut svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {height}" width="{width}" height="{height}"><title>{}</title>"#,
            escape(&self.title),
            width = self.width,
        );
        svg.push('\n');
        for lifeline in &self.columns {
            let x = self.x(*lifeline);
            let _ = writeln!(svg, r#"<path class="life" d="M{x} 30V{height}"/>"#);
        }
        svg.push_str(&self.body);
        svg.push_str("</svg>\n");
        svg
    }
}

/// Breaks `text` into lines of at most `width` characters, at spaces if there are any.
pub fn lines(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let line = lines.last_mut().expect("there is always a line");
            let used = line.chars().count();
            let gap = usize::from(used > 0);
            if used + gap + word.len() <= width {
                line.extend(std::iter::repeat_n(' ', gap).chain(word));
                break;
            }
            if used == 0 {
                let rest = word.split_off(width);
                line.extend(word);
                word = rest;
            }
            lines.push(String::new());
        }
    }
    lines
}
