//! The diagrams in the headers of the machines, and the matrices, are those of the transitions that the search met.
//!
//! After a change that is meant, `LOCKSTEP_WRITE=1 cargo test -p lockstep-proofs pictures` writes them anew.

use std::fs;
use std::path::{Path, PathBuf};

use lockstep_proofs::chart::Chart;
use lockstep_proofs::{Settings, diagram, matrix, registry};

fn charts() -> Vec<Chart> {
    registry::machines().iter().map(|machine| machine.chart(&Settings::default()).expect("charted")).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares a file with what it must say, or writes it when asked to. Returns its name when it is stale.
fn stale(path: &Path, fresh: &str) -> Option<String> {
    if std::env::var_os("LOCKSTEP_WRITE").is_some() {
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, fresh).expect("written");
    }
    (fs::read_to_string(path).unwrap_or_default() != fresh).then(|| path.display().to_string())
}

#[test]
fn each_module_header_shows_the_diagram_and_each_snapshot_the_matrix_that_is_explored() {
    let mut all = Vec::new();
    for chart in charts() {
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

#[test]
fn every_phase_of_every_machine_is_met() {
    for chart in charts() {
        let missing: Vec<_> = (0..chart.phases.len()).filter(|phase| !chart.met.contains(phase)).collect();
        assert!(missing.is_empty(), "{}: {missing:?} of {:?}", chart.machine, chart.phases);
    }
}
