//! The diagrams in the machines' headers, and the matrices, match the transitions that the search finds.
//!
//! After an intended change, `LOCKSTEP_WRITE=1 cargo test -p lockstep-proofs pictures` regenerates them.

use std::fs;
use std::path::{Path, PathBuf};

use lockstep_proofs::engine::chart::Chart;
use lockstep_proofs::report::{diagram, matrix};
use lockstep_proofs::{Settings, registry};

/// One thread charts a machine, and the session takes about as long as all others.
fn charts() -> Vec<Chart> {
    std::thread::scope(|scope| {
        let chart =
            |machine: usize| move || registry::machines()[machine].chart(&Settings::default()).expect("charted");
        let charts: Vec<_> = (0..registry::machines().len()).map(|machine| scope.spawn(chart(machine))).collect();
        charts.into_iter().map(|chart| chart.join().expect("charted")).collect()
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares a file with its expected text, or writes it on request. Returns its name if it is stale.
fn stale(path: &Path, fresh: &str) -> Option<String> {
    if std::env::var_os("LOCKSTEP_WRITE").is_some() {
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, fresh).expect("written");
    }
    (fs::read_to_string(path).unwrap_or_default() != fresh).then(|| path.display().to_string())
}

/// Returns the bounds of each text in an SVG: left, top, right, bottom.
fn texts(svg: &str) -> Vec<[usize; 4]> {
    let number = |text: &str, name: &str| -> usize {
        let value = text.split_once(&format!(" {name}=\"")).expect("the attribute").1;
        value.split('"').next().expect("a value").parse().expect("a number")
    };
    let texts = svg.split("<text").skip(1).map(|text| {
        let shown = text.split(['>', '<']).nth(1).expect("a text").chars().count();
        let (x, y) = (number(text, "x"), number(text, "y"));
        let left = if text.contains("\"middle\"") { x - shown * 8 / 2 } else { x };
        [left, y - 10, left + shown * 7, y + 2]
    });
    texts.collect()
}

/// Panics if a label covers another or exceeds the SVG.
fn labels_are_apart(chart: &Chart) {
    let svg = diagram::svg(chart);
    let size = svg.split_once("viewBox=\"0 0 ").expect("a size").1;
    let size: Vec<usize> = size.split([' ', '"']).take(2).map(|part| part.parse().expect("a number")).collect();
    let texts = texts(&svg);
    for (index, [left, top, right, bottom]) in texts.iter().enumerate() {
        assert!(*right <= size[0] && *bottom <= size[1], "{}: a text leaves the picture", chart.machine);
        for [other_left, other_top, other_right, other_bottom] in &texts[index + 1..] {
            let apart = right <= other_left || other_right <= left || bottom <= other_top || other_bottom <= top;
            assert!(apart, "{}: two texts at {left},{top} and {other_left},{other_top}", chart.machine);
        }
    }
}

#[test]
fn every_phase_is_reached_and_the_generated_diagrams_are_current() {
    let mut all = Vec::new();
    for chart in charts() {
        labels_are_apart(&chart);
        let missing: Vec<_> = (0..chart.phases.len()).filter(|phase| !chart.met.contains(phase)).collect();
        assert!(missing.is_empty(), "{}: a phase is never met: {missing:?} of {:?}", chart.machine, chart.phases);
        let name = chart.machine;
        let source = fs::read_to_string(root().join(format!("model/src/{name}.rs"))).expect("a file of its name");
        let shown = format!("#![doc = include_str!(\"diagram/{name}.txt\")]");
        assert!(source.lines().any(|line| line == shown), "the header of {name} shows no diagram");
        let drawn = root().join(format!("model/src/diagram/{name}.txt"));
        all.extend(stale(&drawn, &diagram::text(&chart)));
        let written = root().join(format!("proofs/snapshots/{name}.txt"));
        all.extend(stale(&written, &format!("{}{}\n", matrix::text(&chart), matrix::LEGEND)));
    }
    assert!(all.is_empty(), "stale, see the head of this test: {all:#?}");
}
