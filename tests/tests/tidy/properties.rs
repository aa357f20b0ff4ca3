//! Property ids: each resolves to the glossary, is stated by the code that keeps it, and is proved. This test makes the
//! README's table of them, and checks it against the tree.
//!
//! `TIDY_WRITE=1 cargo test --release -p lockstep-tests --test tidy` writes the table.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use crate::{Source, Tree, finds, hold, root};

/// The one place that tells what an id stands for.
const GLOSSARY: &str = "proofs/src/engine/property.rs";
const BEGIN: &str = "<!-- properties: written by the tidy test -->\n";
const END: &str = "<!-- /properties -->";

/// What each family of ids is about, with the place that states it.
const FAMILIES: &[(&str, &str)] = &[
    ("AUTH", "model/src/"),
    ("CLIENT", "model/src/"),
    ("CONN", "model/src/"),
    ("ISO", "model/src/"),
    ("STR", "model/src/"),
    ("RUN", "model/src/"),
    ("LIM", "model/src/"),
    ("SES", "model/src/"),
    ("NODE", "model/src/"),
    ("OWN", "model/src/"),
    ("LIVE", "model/src/"),
    ("SH", "runtime/src/shell/"),
];

/// Every property id in a text: a known family, a hyphen, digits, not inside a longer name.
fn ids(text: &str) -> impl Iterator<Item = &str> {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    text.match_indices('-').filter_map(move |(hyphen, _)| {
        let before = &text[..hyphen];
        let begin = before.trim_end_matches(|c: char| c.is_ascii_uppercase()).len();
        let known = FAMILIES.iter().any(|(family, _)| *family == &before[begin..]);
        let digits = text[hyphen + 1..].bytes().take_while(u8::is_ascii_digit).count();
        let end = hyphen + 1 + digits;
        let whole = !text[..begin].ends_with(part_of_name) && !text[end..].starts_with(|c: char| c.is_alphanumeric());
        (known && digits > 0 && whole).then(|| &text[begin..end])
    })
}

/// The string literals of a Rust source without escapes, on one line.
fn literals(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| line.split('"').skip(1).step_by(2))
}

/// Each id of the glossary with its sentence, which may continue on further lines.
fn glossary(tree: &Tree) -> Vec<(&str, String)> {
    let text = tree.text(GLOSSARY).split("#[cfg(test)]").next().unwrap_or_default();
    let literals: Vec<&str> = text.split('"').skip(1).step_by(2).collect();
    let is_id = |literal: &str| ids(literal).next() == Some(literal);
    let whole = |literal: &str| {
        let lines: Vec<&str> = literal.split("\\\n").map(str::trim_start).collect();
        lines.concat()
    };
    literals.windows(2).filter(|pair| is_id(pair[0])).map(|pair| (pair[0], whole(pair[1]))).collect()
}

fn resolve(tree: &Tree) -> Vec<String> {
    let known: BTreeSet<&str> = glossary(tree).into_iter().map(|(id, _)| id).collect();
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| file.path != GLOSSARY) {
        for (number, line) in file.lines() {
            let unknown = ids(line).filter(|id| !known.contains(id));
            found.extend(unknown.map(|id| format!("{}:{number}: {id} is not in {GLOSSARY}", file.path)));
        }
    }
    found
}

/// The files that state a property: the machine's header, its assertion.
fn stated<'a>(tree: &'a Tree, id: &'a str) -> impl Iterator<Item = &'a Source> {
    let family = FAMILIES.iter().find(|(family, _)| id.split('-').next() == Some(family));
    let place = family.map_or(GLOSSARY, |(_, place)| place);
    tree.under(place).filter(move |file| ids(&file.text).any(|named| named == id))
}

/// The files whose code proves a property: they quote its id, or for LIVE that of a part, outside of their own tests.
fn proved<'a>(tree: &'a Tree, id: &'a str) -> impl Iterator<Item = &'a Source> {
    let part = format!("{id}.");
    let quotes = move |literal: &str| literal == id || (id.starts_with("LIVE") && literal.starts_with(&part));
    tree.under("proofs/src/").chain(tree.under("proofs/shell/src/scenario/")).filter(move |file| {
        let code = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        let infrastructure = file.path == GLOSSARY || file.path.starts_with("proofs/src/races");
        !infrastructure && literals(code).any(|literal| quotes(literal) || says(literal, id))
    })
}

/// Whether an assertion's text begins with an obligation of the core: `SH-1: a join was lost`.
fn says(literal: &str, id: &str) -> bool {
    id.starts_with("SH-") && literal.strip_prefix(id).is_some_and(|rest| rest.starts_with(':'))
}

/// The file that names the core's broken variants.
const SHELL: &str = "proofs/shell/src/variant/mod.rs";

/// The broken variants that a property must refuse, each with its file: a race by its id, a variant of the core by its
/// name.
fn refused<'a>(tree: &'a Tree, id: &str) -> Vec<(&'a str, &'a str)> {
    let mut variants = Vec::new();
    for file in tree.under("proofs/src/races") {
        let mut race = "";
        for literal in literals(&file.text) {
            let is_race = literal.starts_with(|c: char| c.is_ascii_uppercase()) && literal[1..].parse::<u8>().is_ok();
            if is_race {
                race = literal;
            } else if literal == id && !race.is_empty() {
                variants.push((race, file.path.as_str()));
            }
        }
    }
    let mut obligation = "";
    for line in tree.text(SHELL).lines() {
        let value = |key: &str| line.trim().strip_prefix(key)?.split('"').next();
        if let Some(named) = value("obligation: \"") {
            obligation = named;
        } else if let (true, Some(name)) = (obligation == id, value("name: \"")) {
            variants.push((name, SHELL));
        }
    }
    variants.sort_by_key(|(name, _)| (name.chars().next(), name.get(1..).and_then(|number| number.parse::<u8>().ok())));
    variants.dedup();
    variants
}

fn kept(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (id, _) in glossary(tree) {
        // No single state shows that something will happen: a LIVE property is stated by its proof.
        if stated(tree, id).next().is_none() && !id.starts_with("LIVE") {
            found.push(format!("{id}: no machine states it"));
        }
        if proved(tree, id).next().is_none() {
            found.push(format!("{id}: nothing proves it"));
        }
        if refused(tree, id).is_empty() {
            found.push(format!("{id}: refuses no broken variant"));
        }
    }
    found
}

fn links<'a>(files: impl Iterator<Item = &'a Source>) -> String {
    let link = |file: &Source| {
        let label = file.path.split("src/").last().unwrap_or_default();
        let label = label.trim_start_matches("models/").trim_end_matches(".rs").trim_end_matches("/mod");
        format!("[{label}]({})", file.path)
    };
    files.map(link).collect::<Vec<_>>().join(" ")
}

/// The variants of each file, joined under one link to it.
fn links_to_variants(variants: &[(&str, &str)]) -> String {
    let files: BTreeSet<&str> = variants.iter().map(|(_, path)| *path).collect();
    let link = |file| {
        let names: Vec<_> = variants.iter().filter(|(_, path)| *path == file).map(|(name, _)| *name).collect();
        format!("[{}]({file})", names.join(", "))
    };
    files.into_iter().map(link).collect::<Vec<_>>().join(" ")
}

/// The table, made from the tree.
fn table(tree: &Tree) -> String {
    let mut text =
        String::from("| id | sentence | stated in | proved in | refuses |\n| --- | --- | --- | --- | --- |\n");
    for (id, sentence) in glossary(tree) {
        let (stated, proved) = (links(stated(tree, id)), links(proved(tree, id)));
        let refused = links_to_variants(&refused(tree, id));
        let _ = writeln!(text, "| {id} | {sentence} | {stated} | {proved} | {refused} |");
    }
    text
}

/// The text between the README's markers.
fn shown(tree: &Tree) -> Option<&str> {
    Some(tree.text("README.md").split_once(BEGIN)?.1.split_once(END)?.0)
}

fn current(tree: &Tree) -> Vec<String> {
    match shown(tree) {
        Some(shown) if shown == table(tree) => Vec::new(),
        Some(_) => vec!["README.md: the table of properties is stale: TIDY_WRITE=1 writes it".into()],
        None => vec!["README.md: no table of properties".into()],
    }
}

#[test]
fn every_property_id_resolves_to_its_sentence() {
    assert!(glossary(&Tree::load()).len() > 20, "the glossary has become unreadable");
    hold(resolve);
}

#[test]
fn every_property_is_stated_and_proved_and_refuses_a_mistake() {
    hold(kept);
}

/// The README with another table between its markers.
fn with_table(readme: &str, table: &str) -> Option<String> {
    let (before, rest) = readme.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[test]
fn the_readme_shows_each_property() {
    if std::env::var_os("TIDY_WRITE").is_some() {
        let tree = Tree::load();
        let text = with_table(tree.text("README.md"), &table(&tree)).expect("the marks of the table");
        fs::write(root().join("README.md"), text).expect("a README that can be written");
    }
    hold(current);
}

/// A glossary of one id. Unknown ids are made here, so that this file names none.
const ONE: (&str, &str) = (GLOSSARY, "(\n\"RUN-2\",\n\"at most one run\",\n)");

#[test]
fn an_id_without_a_sentence_is_found() {
    let unknown = format!("RUN-{}", 77);
    let text = format!("UTF-8 SHA-256 GO-RUN-5 RUN-2, x\n`{unknown}`");
    finds(resolve, &[ONE, ("a.md", &text)], &[&format!("a.md:2: {unknown} is not in {GLOSSARY}")]);
}

#[test]
fn a_property_that_nobody_states_or_proves_or_breaks_is_found() {
    let (states, proves) = (("model/src/run.rs", "//! * **RUN-2** one"), ("proofs/src/run.rs", "judged![\"RUN-2\"]"));
    let race = ("proofs/src/races.rs", "\"A1\" \"RUN-2\"");
    let (unstated, unproved) = ("RUN-2: no machine states it", "RUN-2: nothing proves it");
    finds(kept, &[ONE, states, proves, race], &[]);
    finds(kept, &[ONE, proves, race], &[unstated]);
    finds(kept, &[ONE, states, race], &[unproved]);
    finds(kept, &[ONE, states, proves], &["RUN-2: refuses no broken variant"]);
    let premise = ("proofs/src/run.rs", "\"RUN-2.retried\"");
    let comment = ("proofs/src/node.rs", "// \"RUN-2\"");
    let test = ("proofs/src/trace.rs", "#[cfg(test)]\n\"RUN-2\"");
    finds(kept, &[ONE, states, premise, race, comment, test], &[unproved]);
}

#[test]
fn a_table_that_is_stale_is_found() {
    let run = ("model/src/run.rs", "//! * **RUN-2** one");
    let proof = ("proofs/src/run.rs", "judged![\"RUN-2\"]");
    let races = ("proofs/src/races/a.rs", "id: \"A12\", expected: &[\"RUN-2\"]\nid: \"A9\", expected: &[\"RUN-2\"]");
    let row = "| RUN-2 | at most one run | [run](model/src/run.rs) | [run](proofs/src/run.rs) | [A9, A12](proofs/src/races/a.rs) |\n";
    let head = "| id | sentence | stated in | proved in | refuses |\n| --- | --- | --- | --- | --- |\n";
    let right = format!("# x\n{BEGIN}{head}{row}{END}\n");
    assert_eq!(with_table(&format!("# x\n{BEGIN}{END}\n"), &format!("{head}{row}")), Some(right.clone()));
    let stale = "README.md: the table of properties is stale: TIDY_WRITE=1 writes it";
    finds(current, &[ONE, run, proof, races, ("README.md", &right)], &[]);
    finds(current, &[ONE, run, proof, ("README.md", &right)], &[stale]);
    finds(current, &[ONE], &["README.md: no table of properties"]);
}
