//! Modules in layers: the modules at the top of a crate do not use each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Tree, finds, hold};

/// The sources of each crate with layers.
const CRATES: &[&str] = &["model/src/", "runtime/src/", "runtime/gateway/src/", "proofs/src/", "tests/src/"];

/// The modules that a line names behind `crate::`. An import of several names is on one line, or each is on its own.
fn named(line: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| !(c.is_alphanumeric() || c == '_');
    line.split("crate::").skip(1).flat_map(move |rest| {
        let group = rest.strip_prefix('{').map_or("", |group| group.trim_end_matches([';', '}']));
        let alone = rest.split(ends).next().into_iter();
        alone.chain(group.split(',').filter_map(move |name| name.trim().split(ends).next()))
    })
}

/// Which modules at the top of a crate use which others.
fn uses<'a>(tree: &'a Tree, sources: &str) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let files = tree.files.iter().filter(|file| file.is(&["rs"]));
    let inside = files.filter_map(|file| Some((file, file.path.strip_prefix(sources)?)));
    let inside: Vec<_> = inside.filter(|(_, path)| !path.starts_with("bin/")).collect();
    let module = |path: &'a str| path.split(['/', '.']).next().unwrap_or(path);
    let modules: BTreeSet<&str> = inside.iter().map(|(_, path)| module(path)).collect();
    let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (file, path) in inside {
        let from = module(path);
        if ["lib", "main"].contains(&from) {
            continue;
        }
        let found = file.code().flat_map(|(_, line, _)| named(line));
        let others = found.filter(|to| *to != from && modules.contains(to));
        uses.entry(from).or_default().extend(others);
    }
    uses
}

/// Whether a module uses itself, through others.
fn is_in_a_circle(uses: &BTreeMap<&str, BTreeSet<&str>>, module: &str) -> bool {
    let (mut reached, mut next) = (BTreeSet::new(), vec![module]);
    while let Some(from) = next.pop() {
        let new = uses.get(from).into_iter().flatten().filter(|to| reached.insert(**to));
        next.extend(new.copied().collect::<Vec<_>>());
    }
    reached.contains(module)
}

fn circles(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for sources in CRATES {
        let uses = uses(tree, sources);
        for (from, to) in uses.iter().filter(|(from, _)| is_in_a_circle(&uses, from)) {
            let to: Vec<&str> = to.iter().copied().filter(|to| is_in_a_circle(&uses, to)).collect();
            found.push(format!("{sources}{from}: is in a circle, by {}", to.join(", ")));
        }
    }
    found
}

#[test]
fn modules_do_not_use_each_other_in_a_circle() {
    hold(circles);
}

#[test]
fn a_circle_is_found() {
    let files = [
        ("runtime/src/lib.rs", "use crate::a::X;"),
        ("runtime/src/a.rs", "use crate::{b::Y, Z};"),
        ("runtime/src/b/inner.rs", "// crate::d\nfn f() -> crate::c::W { crate::b::g() }"),
        ("runtime/src/c.rs", "use crate::a;"),
        ("runtime/src/d.rs", "use crate::a;"),
        ("model/src/a.rs", "use crate::b;"),
        ("model/src/b.rs", "use alloc::vec::Vec;"),
    ];
    let found = ["a: is in a circle, by b", "b: is in a circle, by c", "c: is in a circle, by a"];
    finds(circles, &files, &found.map(|text| format!("runtime/src/{text}")).each_ref().map(|text| &**text));
}
