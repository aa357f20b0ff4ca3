//! What was measured: for people, for programs, and for a pipeline.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::scenarios::Sample;
use crate::stats::{median, spread};

/// A run of this command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// When it ended.
    pub(crate) date: String,
    /// Cores, model, memory, system.
    pub(crate) machine: String,
    /// Which core was whose.
    pub(crate) pinning: String,
    /// What was typed.
    pub(crate) command: String,
    /// Names and versions.
    pub(crate) versions: Vec<(String, String)>,
    /// Users of scenarios with many.
    pub(crate) users: usize,
    /// Seconds of each steady load.
    pub(crate) seconds: f64,
    /// One for each scenario and server.
    pub(crate) rows: Vec<Row>,
}

/// A server in a scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The scenario's name.
    pub(crate) scenario: String,
    /// What `cpu_us` is per.
    pub(crate) unit: String,
    /// The server's name.
    pub(crate) server: String,
    /// Why there are no figures.
    pub(crate) absent: Option<Absent>,
    /// The repeats, in the order in which they ran.
    pub(crate) samples: Vec<Sample>,
}

/// Why a row has no figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Absent {
    /// The server cannot do this.
    NotDone,
    /// The server is not installed.
    NotInstalled,
    /// The run failed.
    Failed(String),
}

impl Absent {
    fn words(&self) -> String {
        match self {
            Self::NotDone => "–".to_owned(),
            Self::NotInstalled => "not installed".to_owned(),
            Self::Failed(why) => format!("failed: {why}"),
        }
    }
}

impl Row {
    /// The figure of each repeat.
    pub(crate) fn values(&self, figure: &str) -> Vec<f64> {
        self.samples.iter().filter_map(|sample| sample.get(figure).copied()).collect()
    }

    /// The figure's median, if there is one.
    pub(crate) fn figure(&self, figure: &str) -> Option<f64> {
        let values = self.values(figure);
        (!values.is_empty()).then(|| median(&values))
    }
}

/// The columns: figure, heading, decimals.
const COLUMNS: [(&str, &str, usize); 11] = [
    ("cpu_us", "CPU µs", 1),
    ("client_us", "client's µs", 1),
    ("written_b", "written B", 0),
    ("kib", "KiB", 1),
    ("p50_ms", "p50 ms", 2),
    ("p99_ms", "p99 ms", 2),
    ("p999_ms", "p99.9 ms", 2),
    ("last_ms", "last ms", 1),
    ("whole_pct", "whole %", 1),
    ("core_pct_per_1000", "core %/1000", 2),
    ("per_s", "per s", 0),
];

/// The name of the server that is the limit.
pub(crate) const BARE: &str = "bare";

impl Report {
    /// The scenarios, in order.
    pub(crate) fn scenarios(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.rows.iter().map(|row| row.scenario.as_str()).collect();
        names.dedup();
        names
    }

    /// The rows of a scenario.
    pub(crate) fn of<'a>(&'a self, scenario: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| row.scenario == scenario)
    }

    /// The row of a server.
    pub(crate) fn row(&self, scenario: &str, server: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.scenario == scenario && row.server == server)
    }

    /// A scenario's table: a heading, then a line for each server, each of the same number of cells.
    pub(crate) fn table(&self, scenario: &str) -> Vec<Vec<String>> {
        let rows: Vec<&Row> = self.of(scenario).collect();
        let shown: Vec<_> =
            COLUMNS.iter().filter(|(figure, ..)| rows.iter().any(|row| row.figure(figure).is_some())).collect();
        let mut heading = vec!["server".to_owned()];
        for (figure, title, _) in &shown {
            heading.push((*title).to_owned());
            if *figure == "cpu_us" {
                heading.extend(["±".to_owned(), "× bare".to_owned()]);
            }
        }
        let bare = self.row(scenario, BARE).and_then(|row| row.figure("cpu_us"));
        let mut table = vec![heading];
        for row in rows {
            let mut cells = vec![row.server.clone()];
            for (figure, _, decimals) in &shown {
                let value = row.figure(figure);
                cells.push(value.map_or_else(String::new, |value| format!("{value:.decimals$}")));
                if *figure == "cpu_us" {
                    let wide = value.map(|_| spread(&row.values(figure)) * 100.0).filter(|wide| wide.is_finite());
                    cells.push(wide.map_or_else(String::new, |wide| format!("{wide:.0} %")));
                    let ratio = value.zip(bare).map(|(value, bare)| value / bare);
                    cells.push(ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")));
                }
            }
            if let (Some(absent), Some(cell)) = (&row.absent, cells.get_mut(1)) {
                *cell = absent.words();
            }
            table.push(cells);
        }
        table
    }

    /// All of it, for people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for scenario in self.scenarios() {
            let unit = self.of(scenario).next().map_or("", |row| row.unit.as_str());
            let repeats = self.of(scenario).map(|row| row.samples.len()).max().unwrap_or_default();
            let _ = writeln!(text, "\n{scenario}: CPU per {unit}, medians of {repeats}");
            let table = self.table(scenario);
            let width = |at: usize| table.iter().map(|row| row[at].chars().count()).max().unwrap_or_default();
            let widths: Vec<usize> = (0..table[0].len()).map(width).collect();
            for row in &table {
                let (first, rest) = (&row[0], &row[1..]);
                let _ = write!(text, "  {first:<width$}", width = widths[0]);
                for (cell, width) in rest.iter().zip(&widths[1..]) {
                    let _ = write!(text, "  {cell:>width$}");
                }
                text.push('\n');
            }
        }
        text
    }

    /// Each row that failed, in words.
    pub(crate) fn failures(&self) -> Vec<(String, String)> {
        let failed = |row: &Row| match &row.absent {
            Some(Absent::Failed(why)) => Some((format!("{} {}", row.scenario, row.server), why.clone())),
            Some(Absent::NotDone | Absent::NotInstalled) | None => None,
        };
        self.rows.iter().filter_map(failed).collect()
    }
}

/// A JUnit report: what was looked at, each with what is wrong with it.
pub(crate) fn junit(cases: &[(String, Option<String>)]) -> String {
    let escape =
        |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let failures = cases.iter().filter(|(_, wrong)| wrong.is_some()).count();
    let counts = format!("tests=\"{}\" failures=\"{failures}\" errors=\"0\"", cases.len());
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n<testsuite name=\"load\" {counts}>\n"
    );
    for (name, wrong) in cases {
        let _ = match wrong {
            None => writeln!(xml, "<testcase classname=\"load\" name=\"{}\"/>", escape(name)),
            Some(wrong) => writeln!(
                xml,
                "<testcase classname=\"load\" name=\"{}\"><failure message=\"{}\"/></testcase>",
                escape(name),
                escape(wrong)
            ),
        };
    }
    xml.push_str("</testsuite>\n</testsuites>\n");
    xml
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A report of *stream* in which each server has these figures.
    pub(crate) fn report(servers: &[(&str, &[f64])]) -> Report {
        let row = |(server, values): &(&str, &[f64])| Row {
            scenario: "stream".to_owned(),
            unit: "event".to_owned(),
            server: (*server).to_owned(),
            absent: None,
            samples: values.iter().map(|value| Sample::from([("cpu_us".to_owned(), *value)])).collect(),
        };
        Report {
            date: String::new(),
            machine: String::new(),
            pinning: String::new(),
            command: String::new(),
            versions: Vec::new(),
            users: 1,
            seconds: 1.0,
            rows: servers.iter().map(row).collect(),
        }
    }

    #[test]
    fn a_table_shows_medians_and_ratios_and_why_there_is_none() {
        let mut report = report(&[("bare", &[2.0, 3.0, 2.5]), ("memory", &[5.0]), ("ws", &[])]);
        report.rows[2].absent = Some(Absent::NotInstalled);
        let table = report.table("stream");
        assert_eq!(table[0], ["server", "CPU µs", "±", "× bare"]);
        assert_eq!(table[1], ["bare", "2.5", "20 %", "1.00"]);
        assert_eq!(table[2], ["memory", "5.0", "0 %", "2.00"]);
        assert_eq!(table[3], ["ws", "not installed", "", ""]);
    }

    #[test]
    fn a_report_is_the_same_after_a_round_trip() {
        let report = report(&[("bare", &[2.0])]);
        let text = serde_json::to_string(&report).expect("it is JSON");
        let back: Report = serde_json::from_str(&text).expect("it is a report");
        assert_eq!(back.text(), report.text());
    }

    #[test]
    fn junit_counts_and_escapes() {
        let xml = junit(&[("a".to_owned(), None), ("b".to_owned(), Some("1 < 2".to_owned()))]);
        assert!(xml.contains("<testsuites tests=\"2\" failures=\"1\" errors=\"0\">") && xml.contains("1 &lt; 2"));
    }
}
