//! Lengths, bans, layout.

use crate::{Tree, finds, hold};

/// The maximum number of lines of a source file.
const MAX_LINES: usize = 500;

/// What the top level of the repository may have beside dotfiles.
const TOP: &[&str] =
    &["Cargo.toml", "Cargo.lock", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "model", "proofs", "runtime", "tests"];

/// Where a word is banned.
enum Where {
    Everywhere,
    OutsideTests,
    InTests,
    Model,
}

/// Words that must not be in code, where, and why. Written in halves, because this file is code too.
const BANS: &[(&str, Where, &str)] = &[
    (concat!("to", "do!"), Where::Everywhere, "finish it"),
    (concat!("unimpl", "emented!"), Where::Everywhere, "finish it"),
    (concat!("db", "g!("), Where::Everywhere, "remove it"),
    (concat!("#[ign", "ore"), Where::Everywhere, "a test runs or is removed"),
    (concat!(".unw", "rap()"), Where::OutsideTests, "`expect` says why it cannot fail"),
    (concat!("sl", "eep("), Where::InTests, "await a condition, or use virtual time"),
    (concat!("st", "d::"), Where::Model, "the model needs no standard library"),
    (concat!("extern crate st", "d"), Where::Model, "the model needs no standard library"),
];

/// Words that must not be in prose or names, because a plainer one says the same. Written in halves as well.
const WORDS: &[&str] = &[
    concat!("who", "ever"),
    concat!("an", "ew"),
    concat!("so ma", "ny"),
    concat!("some", "body"),
    concat!("also", " if"),
    concat!("as", "king"),
    concat!("un", "born"),
    concat!("cor", "pse"),
    concat!("lob", "by"),
];

fn words(tree: &Tree) -> Vec<String> {
    let named = |c: char| c.is_alphanumeric();
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| file.is(&["rs", "md", "js", "mjs", "py", "sh", "html", "toml"])) {
        for (number, line) in file.lines() {
            let line = line.to_lowercase();
            for word in WORDS {
                let is_word = |at: usize| !line[..at].ends_with(named) && !line[at + word.len()..].starts_with(named);
                if line.match_indices(word).any(|(at, _)| is_word(at)) {
                    found.push(format!("{}:{number}: `{word}`: say it plainly", file.path));
                }
            }
        }
    }
    found
}

fn length(tree: &Tree) -> Vec<String> {
    let sources = tree.files.iter().filter(|file| file.is(&["rs", "js", "py"]));
    let long = sources.map(|file| (file, file.text.lines().count())).filter(|(_, lines)| *lines > MAX_LINES);
    long.map(|(file, lines)| format!("{}: {lines} lines, more than {MAX_LINES}", file.path)).collect()
}

fn bans(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| file.is(&["rs", "js", "py"])) {
        for (number, line, in_tests) in file.code() {
            // A scheduler's interleavings are tests wherever their source is.
            let in_tests = in_tests || file.path.starts_with("proofs/core/");
            for (word, place, why) in BANS {
                let banned = match place {
                    Where::Everywhere => true,
                    Where::OutsideTests => !in_tests,
                    Where::InTests => in_tests,
                    Where::Model => file.path.starts_with("model/src/"),
                };
                if banned && contains_word(line, word) {
                    found.push(format!("{}:{number}: `{word}`: {why}", file.path));
                }
            }
        }
    }
    found
}

/// Whether `word` is in `line` and is not the end of a longer name.
fn contains_word(line: &str, word: &str) -> bool {
    let named = |c: char| c.is_alphanumeric() || c == '_';
    let part_of_name = word.starts_with(named);
    line.match_indices(word).any(|(at, _)| !part_of_name || !line[..at].ends_with(named))
}

/// Doc examples that are not compiled.
fn examples(tree: &Tree) -> Vec<String> {
    let fence = concat!("```ign", "ore");
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| file.is(&["rs", "md"])) {
        let lines = file.lines().filter(|(_, line)| line.contains(fence));
        found.extend(lines.map(|(number, _)| format!("{}:{number}: an example that is not compiled", file.path)));
    }
    found
}

fn layout(tree: &Tree) -> Vec<String> {
    let mut extra: Vec<String> = Vec::new();
    for file in &tree.files {
        let top = file.path.split('/').next().unwrap_or_default();
        if !top.starts_with('.') && !TOP.contains(&top) {
            extra.push(format!("{top}: not part of the layout"));
        }
    }
    extra.dedup();
    extra
}

/// Traces of an editor, a merge or a patch.
fn leftovers(tree: &Tree) -> Vec<String> {
    let left = |path: &&str| [".orig", ".rej", ".bak", ".swp", "~"].iter().any(|end| path.ends_with(end));
    let paths = tree.files.iter().map(|file| file.path.as_str());
    paths.filter(left).map(|path| format!("{path}: left behind")).collect()
}

/// Paths that exist on one machine only.
fn paths(tree: &Tree) -> Vec<String> {
    let private = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
        concat!("/wo", "rk/"),
        concat!("../sha", "red"),
    ];
    let mut found = Vec::new();
    for file in &tree.files {
        for (number, line) in file.lines() {
            let part_of_path = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || "._-".contains(c));
            let mut hits = private.iter().flat_map(|path| line.match_indices(path));
            if hits.any(|(at, _)| !part_of_path(&line[..at])) {
                found.push(format!("{}:{number}: a path of one machine", file.path));
            }
        }
    }
    found
}

/// Every dependency comes from the one registry: none from a git repository or a private place.
fn sources(tree: &Tree) -> Vec<String> {
    let registry = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    let lines = tree.text("Cargo.lock").lines().filter(|line| line.starts_with("source = ") && *line != registry);
    lines.map(|line| format!("Cargo.lock: {line}")).collect()
}

#[test]
fn no_source_file_is_too_long() {
    hold(length);
}

#[test]
fn a_source_file_that_is_too_long_is_found() {
    let (fits, long) = ("x\n".repeat(MAX_LINES), "x\n".repeat(MAX_LINES + 1));
    finds(length, &[("a.rs", &fits), ("b.rs", &long), ("c.md", &long)], &["b.rs: 501 lines, more than 500"]);
}

#[test]
fn no_banned_word_is_used() {
    hold(bans);
}

#[test]
fn each_ban_is_found_where_it_counts_and_nowhere_else() {
    for (word, place, why) in BANS {
        let planted = format!("// {word}\nfn f() {{ {word} }}\n");
        let in_source = format!("#[cfg(test)]\n{planted}");
        for (path, text, line, expected) in [
            ("model/src/a.rs", &planted, 2, !matches!(place, Where::InTests)),
            ("runtime/src/a.rs", &planted, 2, matches!(place, Where::Everywhere | Where::OutsideTests)),
            ("runtime/src/b.rs", &in_source, 3, matches!(place, Where::Everywhere | Where::InTests)),
            ("tests/tests/a.rs", &planted, 2, matches!(place, Where::Everywhere | Where::InTests)),
            ("proofs/tests/a.rs", &planted, 2, matches!(place, Where::Everywhere | Where::InTests)),
            ("proofs/core/src/a.rs", &planted, 2, matches!(place, Where::Everywhere | Where::InTests)),
            ("README.md", &planted, 2, false),
        ] {
            let finding = format!("{path}:{line}: `{word}`: {why}");
            let expected: Vec<&str> = expected.then_some(finding.as_str()).into_iter().collect();
            finds(bans, &[(path, text)], &expected);
        }
    }
}

#[test]
fn prose_and_names_are_plain() {
    hold(words);
}

#[test]
fn a_word_that_is_not_plain_is_found_in_any_text() {
    let (word, longer) = (WORDS[0], format!("x{} and {}s", WORDS[0], WORDS[7]));
    let planted = format!("//! {word} calls\n{longer}\n");
    let finding = |path| format!("{path}:1: `{word}`: say it plainly");
    let (source, page) = (finding("model/src/a.rs"), finding("a.md"));
    finds(words, &[("a.md", &planted), ("b.json", &planted), ("model/src/a.rs", &planted)], &[&page, &source]);
}

#[test]
fn a_longer_name_that_ends_like_a_banned_word_is_not_one() {
    let allowed = format!("fn f() {{ over{}; my_{}1); }}\n", BANS[6].0, BANS[5].0);
    finds(bans, &[("model/src/a.rs", &allowed), ("tests/a.rs", &allowed)], &[]);
}

#[test]
fn every_example_is_compiled() {
    hold(examples);
}

#[test]
fn an_example_that_is_not_compiled_is_found() {
    let planted = format!("//! {}\n", concat!("```ign", "ore"));
    finds(examples, &[("a.rs", &planted)], &["a.rs:1: an example that is not compiled"]);
}

#[test]
fn the_top_level_holds_the_layout_only() {
    hold(layout);
}

#[test]
fn what_is_not_part_of_the_layout_is_found() {
    let files =
        [("Cargo.toml", ""), (".ci/run", ""), ("tests/a.rs", ""), ("docs/a.md", ""), ("docs/b.md", ""), ("x.sh", "")];
    finds(layout, &files, &["docs: not part of the layout", "x.sh: not part of the layout"]);
}

#[test]
fn nothing_is_left_behind() {
    hold(leftovers);
}

#[test]
fn what_is_left_behind_is_found() {
    let files = [("a.rs", ""), ("a.rs.orig", ""), ("origin.md", ""), ("b/c.rej", "")];
    finds(leftovers, &files, &["a.rs.orig: left behind", "b/c.rej: left behind"]);
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    hold(paths);
}

#[test]
fn a_path_of_one_machine_is_found() {
    for path in [concat!("/ho", "me/me"), concat!("/wo", "rk/x"), concat!("../sha", "red/x")] {
        finds(paths, &[("a.md", &format!("see {path}"))], &["a.md:1: a path of one machine"]);
    }
    finds(paths, &[("a.md", concat!("at https://example.org/wo", "rk/ or a frame", "/wo", "rk/"))], &[]);
}

#[test]
fn every_dependency_comes_from_the_registry() {
    hold(sources);
}

#[test]
fn a_dependency_from_elsewhere_is_found() {
    let lock =
        "source = \"registry+https://github.com/rust-lang/crates.io-index\"\nsource = \"git+https://example.org/x\"\n";
    finds(sources, &[("Cargo.lock", lock)], &["Cargo.lock: source = \"git+https://example.org/x\""]);
}
