//! HTML pages: one per counterexample, and an index of the races. Each is one self-contained file that adapts to light
//! and dark and scrolls on a phone.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::engine::findings::RaceReport;
use crate::engine::phrase::phrase;
use crate::engine::property;
use crate::engine::trace::Counterexample;
use crate::report::escape::escape;
use crate::report::sequence;
use crate::report::{RacesReport, table};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2430;--quiet:#5c6776;--paper:#fff;--panel:#f3f5f8;--rule:#c3cad4;--wire:#1f5fbf;--bad:#c02020;--loop:#8a4fbf}\
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--quiet:#9aa5b4;--paper:#14181e;--panel:#1e242d;--rule:#465163;--wire:#7fb0ff;--bad:#ff7070;--loop:#c79aff}}\
*{box-sizing:border-box}body{margin:0 auto;padding:1rem;max-width:75rem;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}\
h1{font-size:1.35rem;line-height:1.25;margin:.5rem 0}h2{font-size:1.05rem;margin:1.5rem 0 .5rem}a{color:var(--wire)}code,pre,svg{font-family:ui-monospace,Menlo,Consolas,monospace}\
.bad{color:var(--bad);font-weight:600}.quiet{color:var(--quiet)}.scroll{overflow-x:auto;border:1px solid var(--rule);border-radius:6px}\
svg{display:block;font-size:12px}svg text{fill:var(--ink)}svg .name{font-weight:600}svg .label{paint-order:stroke;stroke:var(--paper);stroke-width:5px}svg .number,svg .quiet{fill:var(--quiet)}\
svg .head,svg .note{fill:var(--panel);stroke:var(--rule)}svg .life{stroke:var(--rule);stroke-dasharray:3 4}svg .wire,svg .lost{fill:none;stroke:var(--wire);stroke-width:1.4}\
svg .lost{stroke-dasharray:5 4}svg .tip{fill:var(--wire)}svg .cross{stroke:var(--bad);stroke-width:2;fill:none}svg .mark{fill:var(--bad)}svg .violation{fill:var(--bad);font-weight:600;font-size:13px}\
svg .cycle{fill:var(--loop);font-weight:600}svg .bracket{stroke:var(--loop);stroke-width:2;fill:none}\
ol{padding-left:2.2rem}li{margin:.3rem 0;overflow-wrap:anywhere}li.bad{font-weight:400}pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--panel);padding:.6rem;border-radius:6px;font-size:.8rem}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--rule);vertical-align:top}";

const LEGEND: &str = "Time runs downwards; each number is one step of the model. \
A dashed arrow that ends in a cross is a message that never arrives. \
The red bar marks the step after which the property does not hold; \
a bracket marks steps that repeat for ever.";

/// Returns the page of one counterexample. `race` adds the mistake.
pub fn page(trace: &Counterexample, race: Option<&RaceReport>) -> String {
    let title = match race {
        Some(race) => format!("{}: {}", race.id, race.title),
        None => format!("{} violated by {}", trace.property, trace.model),
    };
    let mut body = String::new();
    if let Some(race) = race {
        let _ = writeln!(body, "<p><a href=\"index.html\">all races</a></p>");
        let _ = writeln!(body, "<h1>{}</h1>\n<p>The mistake: {}.</p>", escape(&title), escape(race.mistake));
    } else {
        let _ = writeln!(body, "<h1>{}</h1>", escape(&title));
    }
    let _ = writeln!(
        body,
        "<p><span class=\"bad\">{}</span> {}: {}.</p>\n<p class=\"quiet\">Model <code>{}</code>, {} steps, none shorter{}.</p>",
        escape(&trace.property),
        trace.kind.word(),
        escape(trace.sentence()),
        escape(&trace.model),
        trace.len(),
        if trace.cycle.is_some() { " to the states that repeat" } else { "" },
    );
    let _ = writeln!(body, "<div class=\"scroll\">\n{}</div>\n<p class=\"quiet\">{LEGEND}</p>", sequence::svg(trace));
    let _ = writeln!(
        body,
        "<h2>Steps</h2>\n<details><summary>Before the first</summary><pre>{}</pre></details>\n<ol>",
        escape(&trace.start)
    );
    for (index, step) in trace.steps.iter().enumerate() {
        let bad = trace.cycle.is_none() && index + 1 == trace.steps.len();
        let class = if bad { " class=\"bad\"" } else { "" };
        let _ = write!(body, "<li{class}>{}", escape(&phrase(&step.action)));
        if trace.cycle.is_some_and(|cycle| index >= cycle) {
            body.push_str(" <span class=\"quiet\">(repeats)</span>");
        }
        if let Some(after) = &step.after {
            let _ = write!(
                body,
                "<details><summary class=\"quiet\">the action, and the state after it</summary><pre>{}\n\n{}</pre></details>",
                escape(&step.action),
                escape(after)
            );
        }
        body.push_str("</li>\n");
    }
    body.push_str("</ol>\n");
    document(&title, &body)
}

/// Returns the index of all races.
fn index(report: &RacesReport) -> String {
    let mut body = String::from(
        "<h1>Refused races</h1>\n<p>Each row is a known mistake around the production machines, with the checker's result.</p>\n\
         <div class=\"scroll\"><table>\n<tr><th>race</th><th>the mistake</th><th>result</th></tr>\n",
    );
    for race in &report.races {
        let name = match &race.trace {
            Some(_) => format!("<a href=\"{}\">{} {}</a>", file_name(race.id), escape(race.id), escape(race.title)),
            None => format!("{} {}", escape(race.id), escape(race.title)),
        };
        let class = if race.refused == Some(true) { "" } else { " class=\"bad\"" };
        let sentence = race.property.as_deref().and_then(property::sentence).unwrap_or("");
        let _ = writeln!(
            body,
            "<tr><td>{name}</td><td>{}</td><td{class}>{}<br><span class=\"quiet\">{}</span></td></tr>",
            escape(race.mistake),
            escape(&table::race_finding(race)),
            escape(sentence),
        );
    }
    body.push_str("</table></div>\n");
    document("Races, refused", &body)
}

/// Writes `index.html` and a page for each race that has a counterexample into `directory`, which is created if
/// necessary. Returns the path of the index.
///
/// # Errors
/// Any error of the file system.
pub fn write_races(report: &RacesReport, directory: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    for race in &report.races {
        if let Some(trace) = &race.trace {
            fs::write(directory.join(file_name(race.id)), page(trace, Some(race)))?;
        }
    }
    let path = directory.join("index.html");
    fs::write(&path, index(report))?;
    Ok(path)
}

/// Writes a page for each counterexample of a check into `directory`. Returns their paths.
///
/// # Errors
/// Any error of the file system.
pub fn write_traces<'a>(
    traces: impl IntoIterator<Item = &'a Counterexample>,
    directory: &Path,
) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(directory)?;
    let mut paths = Vec::new();
    for trace in traces {
        let path = directory.join(file_name(&format!("{}-{}", trace.model, trace.property)));
        fs::write(&path, page(trace, None))?;
        paths.push(path);
    }
    Ok(paths)
}

/// Returns a file name made from an id. It cannot lead out of the directory.
pub fn file_name(id: &str) -> String {
    let safe: String = id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    format!("{safe}.html")
}

/// One page with this title and body.
pub(super) fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        escape(title)
    )
}
