//! The command line, from arguments to exit code.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use lockstep_proofs::cli::{self, HOLDS, INCOMPLETE, USAGE};
use lockstep_proofs::engine::profile::Profile;
use lockstep_proofs::registry;
use serde_json::Value;

pub(super) fn prove(arguments: &str) -> (u8, String, String) {
    prove_with(arguments, false)
}

pub(super) fn prove_with(arguments: &str, stopped: bool) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let arguments = std::iter::once("prove").chain(arguments.split_whitespace()).map(OsString::from);
    let code = cli::run(arguments, &Arc::new(AtomicBool::new(stopped)), &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (code, text(out), text(err))
}

/// Returns the name of some model in the registry.
fn model() -> &'static str {
    registry::models(Profile::Quick)[0].name()
}

#[test]
fn help_and_version_succeed_and_invalid_arguments_are_usage_errors() {
    let (code, out, _) = prove("--help");
    assert_eq!(code, HOLDS);
    for taught in ["Exit codes:", "Examples:", "prove races --html"] {
        assert!(out.contains(taught), "{out}");
    }
    for nonsense in ["", "chekc", "check --profile fast", "check --threads 0", "races --html"] {
        let (code, out, err) = prove(nonsense);
        assert_eq!((code, out.as_str()), (USAGE, ""), "prove {nonsense}");
        assert!(!err.is_empty());
    }
}

#[test]
fn an_unknown_name_lists_the_known_ones() {
    let typo = format!("{}x", model());
    let known: Vec<_> = registry::models(Profile::Quick).iter().map(|model| model.name()).collect();
    let known = format!("known: {}", known.join(", "));
    for command in ["check --model", "explore", "bench"] {
        let (code, _, err) = prove(&format!("{command} {typo}"));
        assert_eq!(code, USAGE);
        assert!(err.contains(&format!("unknown model `{typo}`")), "{err}");
        assert!(err.contains(&known) && err.contains(&format!("did you mean `{}`", model())), "{err}");
    }
    assert_eq!(prove("races NONE-1").0, USAGE);
    assert_eq!(prove("diagram nothing").0, USAGE);
    assert_eq!(prove("matrix nothing").0, USAGE);
}

#[test]
fn case_does_not_matter_and_order_is_kept() {
    let (code, out, err) = prove("races b2 a1 --format json");
    assert_eq!(code, HOLDS, "{err}");
    let report: Value = serde_json::from_str(&out).expect("JSON");
    let ids: Vec<_> = report["races"].as_array().expect("a list").iter().map(|race| race["id"].as_str()).collect();
    assert_eq!(ids, [Some("A1"), Some("B2")]);
}

#[test]
fn the_json_of_a_check_has_the_promised_fields() {
    let (code, out, _) = prove(&format!("check --format json --threads 1 --model {}", model()));
    assert_eq!(code, HOLDS);
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(report["profile"], "quick");
    assert_eq!(report["complete"], true);
    assert!(report["seconds"].is_f64());
    let checked = &report["models"][0];
    assert_eq!(checked["name"], model());
    for field in ["states", "unique_states", "max_depth"] {
        assert!(checked[field].is_u64(), "{field}");
    }
    assert!(checked["seconds"].is_f64() && checked["states_per_second"].is_f64());
    for property in checked["properties"].as_array().expect("a list") {
        assert!(property["id"].is_string());
        assert!(["always", "sometimes", "eventually"].contains(&property["kind"].as_str().expect("text")));
        assert_eq!(property["holds"], true);
        assert!(property["trace_len"].is_u64() || property["trace_len"].is_null());
    }
}

#[test]
fn a_stopped_run_is_incomplete_in_every_format() {
    let (code, out, _) = prove_with("check", true);
    assert_eq!(code, INCOMPLETE);
    assert!(out.contains("INCOMPLETE") && !out.contains("holds\n"), "{out}");
    let (code, out, _) = prove_with("check --format json", true);
    assert_eq!(code, INCOMPLETE);
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(report["complete"], false);
    assert!(out.contains("\"holds\": null") && !out.contains("\"holds\": true"), "{out}");
    let (code, out, _) = prove_with("check --format junit", true);
    assert_eq!(code, INCOMPLETE);
    assert!(out.contains("<error message=\"incomplete\""), "{out}");
}

#[test]
fn the_explorer_listens_on_loopback_only() {
    let (code, _, err) = prove(&format!("explore {} --listen 0.0.0.0:0", model()));
    assert_eq!(code, USAGE);
    assert!(err.contains("loopback"), "{err}");
}

#[test]
fn each_race_has_a_page_that_needs_no_network() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("races");
    let id = registry::races()[0].id;
    let (code, out, _) = prove(&format!("races {id} --html {}", directory.display()));
    assert_eq!(code, HOLDS, "{out}");
    let index = fs::read_to_string(directory.join("index.html")).expect("written");
    assert!(index.contains(&format!("{id}.html")));
    let page = fs::read_to_string(directory.join(format!("{id}.html"))).expect("written");
    assert!(page.contains("<svg") && page.contains("prefers-color-scheme:dark"));
    for outside in ["src=", "@import", "url(", "<script", "<link"] {
        assert!(!page.contains(outside) && !index.contains(outside), "{outside}");
    }
}
