//! `lockstep user` and `lockstep config`: where an option may stand.

use super::*;

/// Runs the command, which reads this line, and returns what it says.
fn lockstep(words: &[&str], line: &str) -> String {
    let mut command = Command::new(LOCKSTEP);
    // What the environment of the tests says is not meant here.
    command.args(words).env_remove("LOCKSTEP_DATA_DIR").env_remove("LOCKSTEP_CONFIG");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
    // One that does not want to read it may be gone already.
    let _ = writeln!(child.stdin.take().expect("its input"), "{line}");
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn an_option_stands_before_or_after_the_verb() {
    let folder = Folder::new();
    let (one, other) = (folder.0.join("one"), folder.0.join("other"));
    let config = folder.0.join("lockstep.toml");
    fs::write(&config, "[agent]\npace_ms = 7\n").expect("a file");
    let config = config.to_str().expect("text");
    for directory in [one.to_str().expect("text"), other.to_str().expect("text")] {
        let places = |verb: &[&str]| {
            let option = ["--data-dir", directory, "--config", config];
            let (first, rest) = (&verb[..1], &verb[1..]);
            let after = [&["user"][..], verb, &option].concat();
            let between = [&["user"][..], first, &option, rest].concat();
            let before = [&["user"][..], &option, verb].concat();
            [after, between, before].map(|words| words.into_iter().map(str::to_owned).collect::<Vec<_>>())
        };
        let run = |words: &[String], line: &str| {
            lockstep(&words.iter().map(String::as_str).collect::<Vec<_>>(), line).trim().to_owned()
        };
        for (number, name) in ["ada", "bob", "eve"].into_iter().enumerate() {
            assert_eq!(run(&places(&["add", name])[number], "a long enough password"), format!("added {name}"));
        }
        for words in places(&["list"]) {
            assert_eq!(run(&words, ""), "ada\nbob\neve", "{words:?}");
        }
        for words in places(&["passwd", "ada"]) {
            assert_eq!(run(&words, "another good password"), "changed the password of ada", "{words:?}");
        }
        for (number, name) in ["ada", "bob", "eve"].into_iter().enumerate() {
            assert_eq!(run(&places(&["remove", name])[number], ""), format!("removed {name}"));
        }
        assert_eq!(run(&places(&["list"])[0], ""), "");
    }
    let printed = lockstep(&["config", "--data-dir", one.to_str().expect("text"), "--config", config], "");
    assert!(printed.contains("pace_ms = 7") && printed.contains(one.to_str().expect("text")), "{printed}");
}

#[test]
fn the_accounts_of_a_cluster_are_changed_by_its_log() {
    let (folder, server) = (Folder::new(), lockstep_tests::postgres::Server::shared());
    let url = server.url(&server.database());
    assert!(lockstep(&["migrate", "--log", &url], "").starts_with("created the tables, version "));
    let config = folder.0.join("lockstep.toml");
    // What only a gateway needs is missing.
    fs::write(&config, format!("[log]\nkind = \"postgres\"\nurl = {url:?}\n")).expect("a file");
    let config = config.to_str().expect("text");
    assert_eq!(lockstep(&["user", "add", "ada", "--log", &url], "a long enough password").trim(), "added ada");
    assert_eq!(lockstep(&["user", "--config", config, "add", "bob"], "a long enough password").trim(), "added bob");
    assert_eq!(lockstep(&["user", "list", "--log", &url], "").trim(), "ada\nbob");
    let changed = lockstep(&["user", "passwd", "ada", "--config", config], "another good password");
    assert_eq!(changed.trim(), "changed the password of ada");
    assert_eq!(lockstep(&["user", "remove", "bob", "--log", &url], "").trim(), "removed bob");
    assert_eq!(lockstep(&["user", "list", "--config", config], "").trim(), "ada");
}
