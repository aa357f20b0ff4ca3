//! What the README promises exists: commands, their flags, links, machines.

use crate::{Tree, finds, hold};

/// Cargo's own subcommands that the README may use.
const CARGO: &[&str] = &["bench", "build", "clippy", "deny", "doc", "fmt", "nextest", "run", "test"];

/// Each command line in the README: a line of a fenced `sh` block, or a code span that begins like a command.
fn commands(text: &str) -> Vec<Vec<&str>> {
    let mut lines = Vec::new();
    let mut in_shell = false;
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            in_shell = language == "sh";
        } else if in_shell {
            lines.push(line.split(" #").next().unwrap_or_default());
        } else {
            lines.extend(line.split('`').skip(1).step_by(2));
        }
    }
    let is_variable = |word: &&str| word.contains('=') && !word.starts_with('-');
    let commands = lines.into_iter().map(|line| line.split_whitespace().skip_while(is_variable).collect::<Vec<_>>());
    commands.filter(|words| matches!(words.first(), Some(&("cargo" | "tests/run"))) && words.len() > 1).collect()
}

fn runs(tree: &Tree) -> Vec<String> {
    let commands = commands(tree.text("README.md"));
    let faults = commands.into_iter().filter_map(|words| Some((words.join(" "), fault(tree, &words)?)));
    faults.map(|(command, fault)| format!("README.md: `{command}`: {fault}")).collect()
}

/// The fault in a command, if any.
fn fault(tree: &Tree, words: &[&str]) -> Option<String> {
    if words[0] == "tests/run" {
        let script = tree.text("tests/run");
        let known = |word: &&&str| word.starts_with('-') || script.contains(&format!("\nstage_{word}() "));
        return words[1..].iter().find(|word| !known(word)).map(|word| format!("no stage {word}"));
    }
    let aliases = tree.text(".cargo/config.toml");
    let alias = aliases.lines().find_map(|line| line.strip_prefix(words[1])?.trim_start().strip_prefix('='));
    let Some(alias) = alias else {
        return (!CARGO.contains(&words[1])).then(|| format!("no subcommand {}", words[1]));
    };
    let binary = alias.split("--bin ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
    if binary == "lockstep" && !tree.text("runtime/src/main.rs").is_empty() {
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
        own.contains(&field) || (own.contains("Limits") && shared.contains(&field))
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

/// Each machine that the model's own table names has a row.
fn machines(tree: &Tree) -> Vec<String> {
    let rows = tree.text("model/src/lib.rs").lines();
    let machines = rows.filter_map(|line| line.strip_prefix("//! | [`")?.split('`').next());
    let files = machines.map(|machine| format!("model/src/{}.rs", machine.to_lowercase()));
    let missing = files.filter(|file| !tree.text("README.md").contains(&format!("]({file}) |")));
    missing.map(|file| format!("README.md: no row for {file}")).collect()
}

#[test]
fn every_command_of_the_readme_exists() {
    assert!(commands(Tree::load().text("README.md")).len() > 5, "the README teaches no commands");
    hold(runs);
}

#[test]
fn a_command_that_does_not_exist_is_found() {
    let text = "```sh\nX=1 cargo prove check --html d --threads 2 # --none\ncargo prove check --nope\ncargo prove nope\n\
                cargo other\ncargo gone\ncargo test -p x\n```\nor `tests/run fmt nope`, `tests/run --help`, `cargo prove`\n";
    let planted = [
        ("README.md", text),
        (".cargo/config.toml", "[alias]\nprove = \"run --bin prove --\"\ngone = \"run --bin gone --\"\n"),
        ("proofs/src/bin/prove.rs", ""),
        ("proofs/src/cli.rs", "    threads: N,\n"),
        ("proofs/src/cli/check.rs", "    limits: Limits,\n    html: P,\n"),
        ("tests/run", "\nstage_fmt() {"),
    ];
    let expected = [
        "README.md: `cargo prove check --nope`: no flag --nope",
        "README.md: `cargo prove nope`: no subcommand nope",
        "README.md: `cargo other`: no subcommand other",
        "README.md: `cargo gone`: no binary gone",
        "README.md: `tests/run fmt nope`: no stage nope",
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
fn every_machine_has_a_row_in_the_readme() {
    hold(machines);
}

#[test]
fn a_machine_without_a_row_is_found() {
    let model = ("model/src/lib.rs", "//! | [`Auth`] | x |\n//! | [`Run`] | y |\n");
    finds(
        machines,
        &[model, ("README.md", "| [run](model/src/run.rs) | y |")],
        &["README.md: no row for model/src/auth.rs"],
    );
}
