//! One name for one thing: the types whose names the glossary of the guide gives one meaning.

use crate::{Source, Tree, finds, hold};

/// What declares a type.
const KEYWORDS: &[&str] = &["struct ", "enum ", "trait ", "type "];

/// A name, its meaning, and the files that may declare it with this meaning.
const NAMES: &[(&str, &str, &[&str])] = &[
    ("Entry", "an event that the log has confirmed", &["model/src/event.rs"]),
    ("Journal", "the queues between sessions and the log", &["runtime/src/driver/journal.rs"]),
    ("Membership", "the machine of a process with a lease", &["model/src/member.rs"]),
    (
        "Node",
        "one process",
        &[
            "model/src/node.rs",
            "proofs/src/models/cluster.rs",
            "proofs/src/models/tenure.rs",
            "tests/tests/gateway/auth/shared.rs",
            "tests/tests/gateway/cluster.rs",
        ],
    ),
    ("Run", "one request to an agent", &["model/src/run.rs", "runtime/src/agent/run.rs"]),
    (
        "Slot",
        "a user's place in the registry",
        &[
            "model/src/gateway/io.rs",
            "proofs/core/src/variant/registries.rs",
            "proofs/src/models/world/state.rs",
            "runtime/src/core/slot.rs",
        ],
    ),
    ("Turn", "a message and everything that its run emits", &["runtime/src/agent/history.rs"]),
];

/// The name of the type that a line declares.
fn declared(line: &str) -> Option<&str> {
    let (at, keyword) = KEYWORDS.iter().find_map(|keyword| Some((line.find(keyword)?, keyword)))?;
    let (before, name) = (&line[..at], &line[at + keyword.len()..]);
    let is_item = before.trim_start().is_empty() || before.trim_start().starts_with("pub");
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    is_item.then_some(&name[..end])
}

fn homonyms(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (name, meaning, files) in NAMES {
        let declares = |file: &&Source| file.code().any(|(_, line, _)| declared(line) == Some(name));
        for file in tree.files.iter().filter(|file| file.is(&["rs"])).filter(declares) {
            if !files.contains(&file.path.as_str()) {
                found.push(format!("{}: `{name}` is {meaning}: use another name for anything else", file.path));
            }
        }
    }
    found
}

/// The listed declarations that this repository has not.
fn unused(tree: &Tree) -> Vec<String> {
    let listed = NAMES.iter().flat_map(|(name, _, files)| files.iter().map(move |file| (*name, *file)));
    let declares = |name, path| tree.text(path).lines().any(|line| declared(line) == Some(name));
    listed.filter(|(name, path)| !declares(name, path)).map(|(name, path)| format!("{path}: no `{name}`")).collect()
}

#[test]
fn a_name_has_one_meaning() {
    hold(homonyms);
    hold(unused);
}

#[test]
fn a_second_meaning_is_found() {
    let files = [
        ("model/src/event.rs", "pub struct Entry<P> {\n"),
        ("runtime/src/a.rs", "    pub(super) enum Entry {\n"),
        ("runtime/src/b.rs", "struct Entries(Vec<Entry>);\n// struct Entry;\nlet text = \"a type Entry\";\n"),
    ];
    let finding =
        "runtime/src/a.rs: `Entry` is an event that the log has confirmed: use another name for anything else";
    finds(homonyms, &files, &[finding]);
}
