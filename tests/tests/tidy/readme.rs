//! What the README and the guide promise exists: commands, their flags, links, paths, machines.

use crate::{Source, Tree, finds, hold};

/// Cargo's own subcommands that the README and the guide may use.
const CARGO: &[&str] = &["bench", "build", "clippy", "deny", "doc", "fmt", "mutants", "nextest", "run", "test"];

/// The README and the chapters of the guide.
fn pages(tree: &Tree) -> impl Iterator<Item = &Source> {
    let is_chapter = |path: &str| path.starts_with("runtime/src/guide/") && path.ends_with(".md");
    tree.files.iter().filter(move |file| file.path == "README.md" || is_chapter(&file.path))
}

/// Each command line of a page: a line of a fenced `sh` block, or a span that begins like a command.
fn commands(text: &str) -> Vec<Vec<&str>> {
    let mut lines = Vec::new();
    let mut fence = None;
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fence = fence.is_none().then_some(language);
        } else if fence == Some("sh") {
            lines.push(line.split(" #").next().unwrap_or_default());
        } else if fence.is_none() {
            lines.extend(spans(line));
        }
    }
    let is_variable = |word: &&str| word.contains('=') && !word.starts_with('-');
    let commands = lines.into_iter().map(|line| line.split_whitespace().skip_while(is_variable).collect::<Vec<_>>());
    let is_ours = |word: &str| word == "cargo" || word.starts_with("tests/");
    commands.filter(|words| words.len() > 1 && is_ours(words[0])).collect()
}

/// The code spans of a line.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn runs(tree: &Tree) -> Vec<String> {
    let commands = pages(tree).flat_map(|page| commands(&page.text).into_iter().map(move |words| (page, words)));
    let faults = commands.filter_map(|(page, words)| Some((page, words.join(" "), fault(tree, &words)?)));
    faults.map(|(page, command, fault)| format!("{}: `{command}`: {fault}", page.path)).collect()
}

/// The fault in a command, if any.
fn fault(tree: &Tree, words: &[&str]) -> Option<String> {
    if let Some(kind) = words[0].strip_prefix("tests/") {
        let (prefix, what) = if kind == "run" { ("stage", "stage") } else { ("measure", "measurement") };
        let script = tree.text(words[0]);
        let known = |word: &&&str| word.starts_with('-') || script.contains(&format!("\n{prefix}_{word}() "));
        return words[1..].iter().find(|word| !known(word)).map(|word| format!("no {what} {word}"));
    }
    let aliases = tree.text(".cargo/config.toml");
    let alias = aliases.lines().find_map(|line| line.strip_prefix(words[1])?.trim_start().strip_prefix('='));
    let Some(alias) = alias else {
        return (!CARGO.contains(&words[1])).then(|| format!("no subcommand {}", words[1]));
    };
    let binary = alias.split("--bin ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
    if binary == "lockstep" && !tree.text("runtime/gateway/src/main.rs").is_empty() {
        return None;
    }
    let main = format!("/src/bin/{binary}.rs");
    if !tree.files.iter().any(|file| file.path.ends_with(&main)) {
        return Some(format!("no binary {binary}"));
    }
    let subcommand = words.get(2)?;
    if subcommand.starts_with('-') {
        return None;
    }
    let own = tree.text(&format!("proofs/src/cli/{subcommand}.rs"));
    if own.is_empty() {
        return Some(format!("no subcommand {subcommand}"));
    }
    let shared = tree.text("proofs/src/cli.rs");
    let known = |flag: &str| {
        let field = format!("    {}: ", flag.replace('-', "_"));
        flag == "help" || own.contains(&field) || (own.contains("SearchLimits") && shared.contains(&field))
    };
    let flag = words.iter().filter_map(|word| word.strip_prefix("--")).find(|flag| !known(flag));
    flag.map(|flag| format!("no flag --{flag}"))
}

fn links(tree: &Tree) -> Vec<String> {
    let text = tree.text("README.md");
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let missing = targets.filter(|target| !target.starts_with(['#', 'h']) && !tree.has(target));
    missing.map(|target| format!("README.md: {target} does not exist")).collect()
}

/// Paths in code spans of the guide, which rustdoc cannot link.
fn paths(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for page in pages(tree) {
        for (number, line) in page.lines() {
            let is_path = |span: &&str| {
                let whole = span.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
                whole && ["model/", "proofs/", "runtime/", "tests/"].iter().any(|folder| span.starts_with(folder))
            };
            // Names in capitals stand for a name that the reader chooses.
            let missing = spans(line).filter(is_path).filter(|path| !path.contains("NAME") && !tree.has(path));
            found.extend(missing.map(|path| format!("{}:{number}: {path} does not exist", page.path)));
        }
    }
    found
}

/// The chapter that has a row for each machine.
const MACHINES: &str = "runtime/src/guide/proofs.md";

/// Each machine that the model's own table names has a row.
fn machines(tree: &Tree) -> Vec<String> {
    let rows = tree.text("model/src/lib.rs").lines();
    let machines = rows.filter_map(|line| line.strip_prefix("//! | [`")?.split('`').next());
    let missing = machines.filter(|machine| !tree.text(MACHINES).contains(&format!("\n| [`{machine}`](")));
    missing.map(|machine| format!("{MACHINES}: no row for {machine}")).collect()
}

#[test]
fn every_command_of_the_readme_and_the_guide_exists() {
    assert!(commands(Tree::load().text("README.md")).len() > 5, "the README teaches no commands");
    assert!(pages(&Tree::load()).count() > 6, "the guide has lost its chapters");
    hold(runs);
}

#[test]
fn a_command_that_does_not_exist_is_found() {
    let text = "```sh\nX=1 cargo prove check --html d --threads 2 # --none\ncargo prove check --nope\ncargo prove nope\n\
                cargo other\ncargo gone\ncargo test -p x\n```\nor `tests/run fmt nope`, `tests/run --help`, `cargo prove`\n\
                ```text\ncargo nothing `cargo nothing`\n```\n`tests/bench load nope`\n";
    let planted = [
        ("README.md", text),
        (".cargo/config.toml", "[alias]\nprove = \"run --bin prove --\"\ngone = \"run --bin gone --\"\n"),
        ("proofs/src/bin/prove.rs", ""),
        ("proofs/src/cli.rs", "    threads: N,\n"),
        ("proofs/src/cli/check.rs", "    limits: SearchLimits,\n    html: P,\n"),
        ("tests/run", "\nstage_fmt() {"),
        ("tests/bench", "\nmeasure_load() {"),
        ("runtime/src/guide/a.md", "`cargo other`"),
    ];
    let expected = [
        "README.md: `cargo prove check --nope`: no flag --nope",
        "README.md: `cargo prove nope`: no subcommand nope",
        "README.md: `cargo other`: no subcommand other",
        "README.md: `cargo gone`: no binary gone",
        "README.md: `tests/run fmt nope`: no stage nope",
        "README.md: `tests/bench load nope`: no measurement nope",
        "runtime/src/guide/a.md: `cargo other`: no subcommand other",
    ];
    finds(runs, &planted, &expected);
}

#[test]
fn every_link_of_the_readme_resolves() {
    hold(links);
}

#[test]
fn a_link_to_nothing_is_found() {
    let text = "[a](model/src/run.rs) [b](model) [c](gone.rs) [d](#top) [e](https://example.org)";
    finds(links, &[("README.md", text), ("model/src/run.rs", "")], &["README.md: gone.rs does not exist"]);
}

#[test]
fn every_path_in_the_guide_exists() {
    hold(paths);
}

#[test]
fn a_path_to_nothing_is_found() {
    let text =
        "`model/src/run.rs` `model/` `model/src/NAME.rs` `tests/gone.rs`\n`runtime/*.json` `tests/run fmt` `gone.rs`";
    let files = [("runtime/src/guide/a.md", text), ("model/src/run.rs", "")];
    finds(paths, &files, &["runtime/src/guide/a.md:1: tests/gone.rs does not exist"]);
}

#[test]
fn every_machine_has_a_row_in_the_guide() {
    hold(machines);
}

#[test]
fn a_machine_without_a_row_is_found() {
    let model = ("model/src/lib.rs", "//! | [`Auth`] | x |\n//! | [`Run`] | y |\n");
    let chapter = (MACHINES, "| machine | owns |\n| [`Run`](lockstep_model::Run) | y |");
    finds(machines, &[model, chapter], &["runtime/src/guide/proofs.md: no row for Auth"]);
}
