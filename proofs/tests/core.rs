//! `prove core`, from arguments to exit code.

use std::collections::BTreeSet;

use lockstep_proofs::cli::{HOLDS, INCOMPLETE, USAGE};
use serde_json::Value;

use super::command::{prove, prove_with};

fn json(arguments: &str) -> Value {
    let (code, out, err) = prove(arguments);
    assert_eq!((code, err.as_str()), (HOLDS, ""), "{out}");
    serde_json::from_str(&out).expect("JSON")
}

#[test]
fn help_explains_and_invalid_arguments_are_usage_errors() {
    let (code, out, _) = prove("core --help");
    assert_eq!(code, HOLDS);
    for taught in ["Exit codes:", "Examples:", "prove core SH-3 A8", "preemptions"] {
        assert!(out.contains(taught), "{taught}: {out}");
    }
    for nonsense in ["core --threads 0", "shell --format xml", "shell --max-seconds"] {
        let (code, out, err) = prove(nonsense);
        assert_eq!((code, out.as_str()), (USAGE, ""), "prove {nonsense}");
        assert!(!err.is_empty());
    }
    let (code, _, err) = prove("core join-retir");
    assert_eq!(code, USAGE);
    assert!(err.contains("known: ") && err.contains("SH-1") && err.contains("did you mean `join-retire`"), "{err}");
}

#[test]
fn the_json_has_the_promised_fields() {
    let report = json("core limit A8 --format json --threads 1");
    assert_eq!(report["complete"], true);
    assert!(report["seconds"].is_f64());
    let [scenario] = report["obligations"].as_array().expect("a list").as_slice() else { panic!("{report}") };
    assert_eq!((&scenario["id"], &scenario["scenario"]), (&"SH-1".into(), &"limit".into()));
    assert_eq!(scenario["holds"], true);
    assert!(scenario["interleavings"].as_u64() > Some(1) && scenario["seconds"].is_f64());
    assert!(scenario["bound"].as_str().is_some_and(|bound| bound.contains("preemptions any")), "{scenario}");
    let [variant] = report["variants"].as_array().expect("a list").as_slice() else { panic!("{report}") };
    assert_eq!((&variant["id"], &variant["obligation"]), (&"check-then-take".into(), &"SH-1".into()));
    assert_eq!((&variant["race"], &variant["refused"]), (&"A8".into(), &true.into()));
    assert!(variant["interleavings"].as_u64() > Some(0) && variant["seconds"].is_f64());
}

#[test]
fn an_obligation_selects_its_scenarios_and_variants() {
    let report = json("core sh-6 --format json");
    let ids = |list: &str, key: &str| -> BTreeSet<String> {
        let list = report[list].as_array().expect("a list").iter();
        list.filter_map(|one| Some(one[key].as_str()?.to_owned())).collect()
    };
    assert_eq!(ids("obligations", "id"), ["SH-6".to_owned()].into());
    assert_eq!(ids("variants", "obligation"), ["SH-6".to_owned()].into());
    assert!(ids("variants", "id").contains("count-then-post"));
}

#[test]
fn a_table_and_junit_agree() {
    let (code, out, _) = prove("core ticket A25");
    assert_eq!(code, HOLDS);
    assert!(out.contains("✓ SH-5  ticket") && out.contains("✓ SH-5  get-then-delete"), "{out}");
    assert!(out.ends_with("every interleaving holds, every variant is refused\n"), "{out}");
    let (code, out, _) = prove("core ticket A25 --format junit");
    assert_eq!(code, HOLDS);
    assert!(out.contains("tests=\"2\" skipped=\"0\" failures=\"0\" errors=\"0\""), "{out}");
}

#[test]
fn a_stopped_run_is_incomplete_in_every_format() {
    let (code, out, _) = prove_with("core", true);
    assert_eq!(code, INCOMPLETE);
    assert!(out.contains("incomplete") && !out.contains("holds") && !out.contains("refused"), "{out}");
    let (code, out, _) = prove_with("core --format json", true);
    assert_eq!(code, INCOMPLETE);
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(report["complete"], false);
    assert!(!out.contains("\"holds\": true") && !out.contains("\"refused\": true"), "{out}");
    let (code, out, _) = prove_with("core --format junit", true);
    assert_eq!(code, INCOMPLETE);
    assert!(out.contains("<error message=\"incomplete\"") && !out.contains("failures=\"1\""), "{out}");
}
