//! The command as it is typed: its exit codes, and what it writes.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn load(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_load")).args(arguments).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory that is removed in the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("load-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A stored run of *connect* in which the log in memory costs that many times what the bare server does.
fn stored(ratio: f64) -> String {
    let row = |server: &str, cost: f64| {
        format!(
            r#"{{"scenario":"connect","unit":"connect","server":"{server}","absent":null,"samples":[{{"cpu_us":{cost},"p99_ms":1}}]}}"#
        )
    };
    format!(
        r#"{{"date":"","machine":"a machine","pinning":"","command":"load","versions":[],"users":1,"seconds":1,"rows":[{},{}]}}"#,
        row("bare", 1.0),
        row("memory", ratio)
    )
}

const RUN: [&str; 8] = ["connect", "--server", "bare,memory", "--users", "20", "--repeat", "1", "--baseline"];

#[test]
fn a_run_that_costs_more_than_its_baseline_exits_with_1_and_says_which() {
    let directory = Directory::new("regression");
    let cheap = directory.file("cheap.json", &stored(0.001));
    let output = load(&[&RUN[..], &[&cheap, "--format", "junit"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("connect memory CPU"), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("<failure message="), "{}", text(&output.stdout));
}

#[test]
fn a_run_that_costs_less_than_its_baseline_exits_with_0() {
    let directory = Directory::new("held");
    let dear = directory.file("dear.json", &stored(100_000.0));
    let output = load(&[&RUN[..], &[&dear]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("in the baseline"), "{}", text(&output.stdout));
}

#[test]
fn a_baseline_that_has_nothing_of_the_run_exits_with_1() {
    let directory = Directory::new("nothing");
    let other = directory.file("other.json", &stored(1.0).replace("connect", "stream"));
    let output = load(&[&RUN[..], &[&other]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
}

#[test]
fn a_peer_that_is_not_installed_is_marked_and_the_run_goes_on() {
    let directory = Directory::new("peers");
    let peers = directory.0.display().to_string();
    let output = load(&["connect", "--server", "bun,bare", "--users", "5", "--repeat", "2", "--peers", &peers]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("not installed"), "{}", text(&output.stdout));
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [&["nothing"][..], &["--format", "x"], &["ab", "one"], &["ab", "a", "b", "--pairs", "1"]] {
        assert_eq!(load(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(load(&["--baseline", "missing.json"]).status.code(), Some(1));
}

#[test]
fn a_page_is_written_from_a_stored_run() {
    let directory = Directory::new("page");
    let run = directory.file("run.json", &stored(2.5));
    let output = load(&["page", &run, &directory.0.display().to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let read = |name: &str| std::fs::read_to_string(directory.0.join(name)).expect("it was written");
    assert!(read("RESULTS.md").contains("a machine") && read("RESULTS.md").contains("| memory | 2.5 |"));
    for plot in ["cpu", "latency", "last", "memory"] {
        assert!(read(&format!("plots/{plot}.svg")).starts_with("<svg "), "{plot}");
    }
}
