//! The style of the tree, as tests: what a reviewer would otherwise have to look for.
//!
//! A rule takes the [`Tree`] and returns its findings, each with file and line. For each rule one test applies it to
//! this repository, and others plant what it must find.
//!
//! | rules about | module |
//! | --- | --- |
//! | lengths, bans, layout | [`rules`] |
//! | layers of modules | [`layers`] |
//! | property ids and their table | [`properties`] |
//! | who may hold users, connections and the core | [`owners`] |
//! | names of members on the wire | [`members`] |
//! | one meaning for a name | [`names`] |
//! | what the README and the guide promise | [`readme`] |
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

mod layers;
mod members;
mod names;
mod owners;
mod packages;
mod properties;
mod readme;
mod rules;

/// One file.
struct Source {
    /// Relative to the root of the repository, with `/`.
    path: String,
    /// Empty for a file that is no text.
    text: String,
}

impl Source {
    fn is(&self, extensions: &[&str]) -> bool {
        extensions.iter().any(|extension| self.path.ends_with(&format!(".{extension}")))
    }

    /// Whether the whole file is test code.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || ["/tests/", "/benches/"].iter().any(|folder| self.path.contains(folder))
    }

    /// Each line that is not a comment, with its number and whether it is test code.
    fn code(&self) -> impl Iterator<Item = (usize, &str, bool)> {
        let mut in_tests = self.is_test();
        self.lines().filter_map(move |(number, line)| {
            in_tests |= line.trim() == "#[cfg(test)]";
            (!line.trim_start().starts_with("//")).then_some((number, line, in_tests))
        })
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// The files of a repository.
struct Tree {
    files: Vec<Source>,
}

impl Tree {
    /// This repository, without build products.
    fn load() -> Self {
        let mut files = Vec::new();
        walk(&root(), "", &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(files.iter().any(|file| file.path == "Cargo.toml"), "{} is not the repository", root().display());
        Self { files }
    }

    /// A tree with planted findings.
    #[must_use]
    fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| Source { path: (*path).into(), text: (*text).into() }).collect() }
    }

    /// A file's text, empty if there is none.
    fn text(&self, path: &str) -> &str {
        self.files.iter().find(|file| file.path == path).map_or("", |file| &file.text)
    }

    fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files.iter().any(|file| file.path == path || file.path.starts_with(&folder))
    }

    /// The files whose path has this prefix.
    fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Source> {
        self.files.iter().filter(move |file| file.path.starts_with(prefix))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let entry = entry.expect("a readable entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let is_folder = entry.file_type().expect("a type").is_dir();
        if path == ".git" || name == "target" || name == "node_modules" {
            continue;
        }
        if is_folder {
            walk(&entry.path(), &format!("{path}/"), files);
        } else {
            // What is no text, such as a picture, is there and says nothing.
            files.push(Source { path, text: fs::read_to_string(entry.path()).unwrap_or_default() });
        }
    }
}

/// Fails with every finding of a rule in this repository.
fn hold(rule: impl Fn(&Tree) -> Vec<String>) {
    let findings = rule(&Tree::load());
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// Asserts that a rule finds exactly this in a planted tree.
fn finds(rule: impl Fn(&Tree) -> Vec<String>, files: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(rule(&Tree::of(files)), expected);
}
