//! Bar charts as SVG, with nothing but rectangles and text.

use std::fmt::Write as _;

/// Some bars that share a scale.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// What they show.
    pub(crate) title: String,
    /// Name, length and label.
    pub(crate) bars: Vec<(String, f64, String)>,
}

const WIDTH: f64 = 760.0;
const NAMES: f64 = 90.0;
const LABELS: f64 = 110.0;
const ROW: f64 = 18.0;
const TITLE: f64 = 30.0;

/// One colour for each server, whatever else is shown.
fn colour(server: &str) -> &'static str {
    match server.split(' ').next().unwrap_or_default() {
        "bare" => "#8a8f98",
        "memory" => "#1f6feb",
        "disk" => "#0b3d91",
        "ws" => "#6aa84f",
        "bun" => "#d9a441",
        "socketio" => "#8e63b5",
        "python" => "#c0564b",
        _ => "#444444",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Horizontal bars, group under group. Each group has its own scale, from 0 to its longest bar.
pub(crate) fn bars(title: &str, groups: &[Group]) -> String {
    let rows: usize = groups.iter().map(|group| group.bars.len()).sum();
    let height = TITLE + rows as f64 * ROW + groups.len() as f64 * (TITLE + 4.0) + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<title>{title}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"15\" font-weight=\"600\">{title}</text>\n",
        title = escape(title)
    );
    let mut y = TITLE;
    for group in groups {
        y += TITLE;
        let _ =
            writeln!(svg, "<text x=\"10\" y=\"{:.0}\" font-weight=\"600\">{}</text>", y - 8.0, escape(&group.title));
        let longest = group.bars.iter().map(|(_, length, _)| *length).fold(f64::MIN_POSITIVE, f64::max);
        for (name, length, label) in &group.bars {
            let width = (length / longest * (WIDTH - NAMES - LABELS)).max(1.0);
            let _ = writeln!(
                svg,
                "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{NAMES}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"13\" fill=\"{}\"/>\
                 <text x=\"{:.1}\" y=\"{:.0}\">{}</text>",
                NAMES - 6.0,
                y + 11.0,
                escape(name),
                colour(name),
                NAMES + width + 5.0,
                y + 11.0,
                escape(label)
            );
            y += ROW;
        }
        y += 4.0;
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_its_group_and_half_of_it_is_half_as_long() {
        let bar = |name: &str, length| (name.to_owned(), length, "x".to_owned());
        let svg = bars("a < b", &[Group { title: "g".to_owned(), bars: vec![bar("bare", 1.0), bar("ws", 2.0)] }]);
        assert!(svg.contains("width=\"280.0\"") && svg.contains("width=\"560.0\""), "{svg}");
        assert!(svg.contains("a &lt; b"));
    }
}
