//! Property ids: each one that is used has a sentence, and the header of a machine states it. The README's table of them
//! is made here.
//!
//! `TIDY_WRITE=1 cargo test -p lockstep-tests --test tidy` writes the table.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use crate::{Source, Tree, finds, hold, root};

/// The one place that has the sentence of each id: the file of this name in this folder.
const SENTENCES: (&str, &str) = ("proofs/src/", "/property.rs");
/// Where the machines are whose headers state properties.
const MACHINES: [&str; 2] = ["model/src/", "runtime/src/core/"];
const BEGIN: &str = "<!-- properties: written by the tidy test -->\n";
const END: &str = "<!-- /properties -->";

/// What an id is about: its name in front of the hyphen.
const FAMILIES: [&str; 13] =
    ["AUTH", "CLIENT", "CONN", "ISO", "LIM", "LIVE", "NODE", "OWN", "RET", "RUN", "SES", "SH", "STR"];

/// Every property id in a text: a known family, a hyphen, digits, and nothing of a name around it.
fn ids(text: &str) -> impl Iterator<Item = &str> {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    text.match_indices('-').filter_map(move |(hyphen, _)| {
        let before = &text[..hyphen];
        let begin = before.trim_end_matches(|c: char| c.is_ascii_uppercase()).len();
        let known = FAMILIES.contains(&&before[begin..]);
        let digits = text[hyphen + 1..].bytes().take_while(u8::is_ascii_digit).count();
        let end = hyphen + 1 + digits;
        let whole = !text[..begin].ends_with(part_of_name) && !text[end..].starts_with(|c: char| c.is_alphanumeric());
        (known && digits > 0 && whole).then(|| &text[begin..end])
    })
}

fn is_sentences(file: &Source) -> bool {
    file.path.starts_with(SENTENCES.0) && file.path.ends_with(SENTENCES.1)
}

/// Each id with its sentence, which may continue on further lines.
fn sentences(tree: &Tree) -> Vec<(&str, String)> {
    let text = tree.files.iter().find(|file| is_sentences(file)).map_or("", |file| &file.text);
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let literals: Vec<&str> = text.split('"').skip(1).step_by(2).collect();
    let is_id = |literal: &str| ids(literal).next() == Some(literal);
    let whole = |literal: &str| literal.split("\\\n").map(str::trim_start).collect::<String>();
    literals.windows(2).filter(|pair| is_id(pair[0])).map(|pair| (pair[0], whole(pair[1]))).collect()
}

/// Every id that is used anywhere has a sentence.
fn resolve(tree: &Tree) -> Vec<String> {
    let known: BTreeSet<&str> = sentences(tree).into_iter().map(|(id, _)| id).collect();
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| !is_sentences(file)) {
        for (number, line) in file.lines() {
            let unknown = ids(line).filter(|id| !known.contains(id));
            found.extend(unknown.map(|id| format!("{}:{number}: {id} has no sentence", file.path)));
        }
    }
    found
}

/// The machines whose headers state a property: `//! * **RUN-2** …`.
fn stated<'a>(tree: &'a Tree, id: &str) -> Vec<&'a Source> {
    let mark = format!("**{id}**");
    let states = |file: &&Source| file.text.lines().any(|line| line.starts_with("//!") && line.contains(&mark));
    MACHINES.into_iter().flat_map(|place| tree.under(place)).filter(states).collect()
}

/// Every property is stated by the header of a machine.
fn kept(tree: &Tree) -> Vec<String> {
    let ids = sentences(tree).into_iter().map(|(id, _)| id);
    ids.filter(|id| stated(tree, id).is_empty()).map(|id| format!("{id}: no header states it")).collect()
}

/// The table, made from the tree.
fn table(tree: &Tree) -> String {
    let link = |file: &Source| {
        let label = file.path.split("src/").last().unwrap_or_default().trim_end_matches(".rs");
        format!("[{label}]({})", file.path)
    };
    let mut text = String::from("| id | sentence | stated in |\n| --- | --- | --- |\n");
    for (id, sentence) in sentences(tree) {
        let links: Vec<String> = stated(tree, id).into_iter().map(link).collect();
        let _ = writeln!(text, "| {id} | {sentence} | {} |", links.join(" "));
    }
    text
}

/// What stands between the marks of the README.
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

/// The README with another table between its marks.
fn with_table(readme: &str, table: &str) -> Option<String> {
    let (before, rest) = readme.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[test]
fn every_property_id_resolves_to_its_sentence() {
    assert!(sentences(&Tree::load()).len() > 20, "the sentences cannot be read");
    hold(resolve);
}

#[test]
fn every_property_is_stated_by_a_machine() {
    hold(kept);
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

/// One id with its sentence. Unknown ids are made here, so that this file names none.
const ONE: (&str, &str) = ("proofs/src/engine/property.rs", "(\n\"RUN-2\",\n\"at most \\\n one run\",\n)");

#[test]
fn an_id_without_a_sentence_is_found() {
    let unknown = format!("RUN-{}", 77);
    let text = format!("UTF-8 SHA-256 GO-RUN-5 RUN-2, x\n`{unknown}`");
    finds(resolve, &[ONE, ("a.md", &text)], &[&format!("a.md:2: {unknown} has no sentence")]);
}

#[test]
fn a_property_that_no_header_states_is_found() {
    let unstated = "RUN-2: no header states it";
    finds(kept, &[ONE, ("model/src/run.rs", "//! * **RUN-2** one")], &[]);
    finds(kept, &[ONE, ("runtime/src/core/slot.rs", "//! * **RUN-2** one")], &[]);
    finds(kept, &[ONE, ("model/src/run.rs", "// **RUN-2**\nensure(true, \"RUN-2\")")], &[unstated]);
    finds(kept, &[ONE, ("proofs/src/run.rs", "//! * **RUN-2** one")], &[unstated]);
}

#[test]
fn a_table_that_is_stale_is_found() {
    let run = ("model/src/run.rs", "//! * **RUN-2** one");
    let head = "| id | sentence | stated in |\n| --- | --- | --- |\n";
    let row = "| RUN-2 | at most one run | [run](model/src/run.rs) |\n";
    let right = format!("# x\n{BEGIN}{head}{row}{END}\n");
    assert_eq!(with_table(&format!("# x\n{BEGIN}{END}\n"), &format!("{head}{row}")), Some(right.clone()));
    let stale = "README.md: the table of properties is stale: TIDY_WRITE=1 writes it";
    finds(current, &[ONE, run, ("README.md", &right)], &[]);
    finds(current, &[ONE, ("README.md", &right)], &[stale]);
    finds(current, &[ONE], &["README.md: no table of properties"]);
}
