//! One owner: which files hold a map keyed by a user or a connection, and which construct the concurrent core.
//!
//! A second map of the same kind is a second owner: it learns of a connection by one way and forgets it by another, and
//! the two disagree. Each file that has one is listed here, with what the map is for and why it cannot disagree.

use crate::{Source, Tree, finds, hold};

/// The types that associate a key with something.
const MAPS: &[&str] =
    &["BTreeMap", "HashMap", "LiteMap", "IndexMap", "DashMap", "BTreeSet", "HashSet", "Sharded", "Limiter", "Buckets"];

/// The types of keys that mean a user, a connection or a credential. `Arc<str>` is a subject; the name of a thread,
/// which there may be none of, is an `Option`.
const KEYS: &[&str] = &["UserId", "ConnectionId", "CredentialId", "Subject", "Arc<str>"];

/// The files that may hold such a map, and why.
const HOLDERS: &[(&str, &str)] = &[
    ("model/src/fence.rs", "verifications in progress and fences, which do not say who is connected"),
    ("model/src/gateway.rs", "the composition as the checker runs it: the registry without its locks"),
    ("model/src/login.rs", "the one owner of logins"),
    ("model/src/login/revoked.rs", "revocations of tokens, a part of the logins"),
    ("model/src/session.rs", "the one owner of a user's connections"),
    ("runtime/gateway/src/accounts.rs", "versions of accounts, read from their file"),
    ("runtime/gateway/src/agui.rs", "requests per user, counted"),
    ("runtime/gateway/src/login.rs", "refreshes per login, counted; it admits and ends nothing else"),
    ("runtime/gateway/src/login/ticket.rs", "tickets per user, counted"),
    ("runtime/gateway/src/markdown.rs", "requests per user, counted"),
    ("runtime/gateway/src/threads.rs", "requests per user, counted"),
    ("runtime/src/core/admission.rs", "the inbox of each admitted connection, from its admission to its close"),
    ("runtime/src/core/connections.rs", "the inboxes of one session's connections, inside its slot"),
    ("runtime/src/core/registry.rs", "the one owner of sessions"),
    ("runtime/src/driver.rs", "sockets of connections that the core has admitted, for their timers"),
    ("runtime/src/driver/backpressure.rs", "commands that wait for a session, counted"),
    ("runtime/src/driver/broadcasts.rs", "notices on their way into streams, until the log has them"),
    ("runtime/src/driver/journal.rs", "writes of each session on their way to the log"),
    ("runtime/src/driver/runs.rs", "agents of runs that a session has begun"),
    ("runtime/src/log/deletions.rs", "deleted threads of one user, by name"),
    ("runtime/src/log/disk/index.rs", "the streams on the disk"),
    ("runtime/src/log/disk/pace.rs", "the users who have written a moment ago, to tell whether they are many"),
    ("runtime/src/log/disk/writer.rs", "the users and names of one group of writes"),
    ("runtime/src/log/kept.rs", "positions up to which conversations were kept, at the start"),
    ("runtime/src/log/kept/keeper.rs", "conversations that are kept next"),
    ("runtime/src/log/memory.rs", "the streams in memory"),
    ("runtime/src/pool.rs", "turns of users at a pool of threads"),
    ("runtime/src/testing/shared.rs", "which process owns a user, in a log for tests"),
    ("runtime/src/verify/revoked.rs", "versions of accounts, on their way to the logins"),
];

/// What constructs the core, or the composition that stands for it.
const CONSTRUCTORS: &[&str] =
    &["Core::new(", "Core::with_shards(", "Registry::new(", "Gateway::new(", "Gateway::default("];

/// The files that may construct it, and why.
const MAKERS: &[(&str, &str)] = &[
    ("proofs/core/src/scenario/bridge/sequential.rs", "the composition, to which the core is compared"),
    ("proofs/core/src/scenario/fixture.rs", "the core under loom"),
    ("proofs/core/src/scenario/sh2.rs", "the registry under loom"),
    ("proofs/core/src/scenario/sh3.rs", "the registry under loom"),
    ("proofs/core/src/variant/reentrant.rs", "a broken variant"),
    ("proofs/core/src/variant/registries.rs", "broken variants"),
    ("proofs/core/src/variant/sequence.rs", "a broken variant"),
    ("runtime/src/core/mod.rs", "the core has one registry"),
    ("runtime/src/manager.rs", "the one core of a process"),
    ("runtime/src/verify/revoked.rs", "another type of this name: the lock around the logins"),
];

/// Whether a file is part of the product.
fn is_product(file: &Source) -> bool {
    file.is(&["rs"]) && ["model/src/", "runtime/"].iter().any(|folder| file.path.starts_with(folder))
}

/// The first type argument after each `name<`, as written.
fn keys<'a>(line: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(name).filter_map(move |(at, _)| {
        let longer = line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let arguments = line[at + name.len()..].strip_prefix("::").unwrap_or(&line[at + name.len()..]);
        let arguments = arguments.strip_prefix('<').filter(|_| !longer)?;
        let mut depth = 0_i32;
        let end = arguments.find(|c| {
            let ends = depth == 0 && (c == ',' || c == '>');
            depth += i32::from(matches!(c, '<' | '(')) - i32::from(matches!(c, '>' | ')'));
            ends
        });
        Some(&arguments[..end.unwrap_or(arguments.len())])
    })
}

fn is_owned(line: &str) -> bool {
    let owned = |key: &str| !key.starts_with("Option<") && KEYS.iter().any(|owned| key.contains(owned));
    MAPS.iter().any(|map| keys(line, map).any(owned))
}

fn constructs(line: &str) -> bool {
    CONSTRUCTORS.iter().any(|call| {
        let named = |at: usize| line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        line.match_indices(call).any(|(at, _)| !named(at))
    })
}

/// The lines that match in files that are not listed, and the listed files without such a line.
fn listed(
    tree: &Tree,
    among: fn(&Source) -> bool,
    matches: fn(&str) -> bool,
    list: &[(&str, &str)],
    finding: &str,
) -> Vec<String> {
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| among(file) && !file.is_test()) {
        let mut lines = file.code().filter(|(_, line, in_tests)| !in_tests && matches(line)).peekable();
        let is_listed = list.iter().any(|(path, _)| *path == file.path);
        if is_listed && lines.peek().is_none() {
            found.push(format!("{}: {finding} is allowed here, and there is none", file.path));
        }
        found.extend(lines.filter(|_| !is_listed).map(|(number, _, _)| format!("{}:{number}: {finding}", file.path)));
    }
    found
}

fn holders(tree: &Tree) -> Vec<String> {
    listed(tree, is_product, is_owned, HOLDERS, "a map keyed by a user or a connection")
}

fn makers(tree: &Tree) -> Vec<String> {
    listed(tree, |file| file.is(&["rs"]), constructs, MAKERS, "the concurrent core is constructed")
}

#[test]
fn users_and_connections_have_one_owner() {
    hold(holders);
}

#[test]
fn a_second_owner_is_found() {
    let manager = "pub struct Emergency {\n    open: Mutex<HashMap<ConnectionId, Socket>>,\n}\n";
    let by_name = "// HashMap<UserId, Tab>\nstatic TABS: LazyLock<Mutex<std::collections::BTreeMap<Arc<str>, Tab>>>;\n";
    let by_pair = "let mut runs = HashMap::<(lockstep_model::UserId, RunId), Agent>::new();\n";
    let files = [
        ("runtime/src/emergency.rs", manager),
        ("runtime/gateway/src/tabs.rs", by_name),
        ("model/src/agents.rs", by_pair),
        ("runtime/tests/fixture.rs", manager),
        ("proofs/src/models/world.rs", manager),
        ("runtime/src/core/registry.rs", "slots: BTreeMap<UserId, Arc<Slot<M, C>>>,\n"),
        (
            "runtime/src/others.rs",
            "a: BTreeMap<RunId, UserId>, b: MyHashMap<UserId, u8>, c: BTreeSet<Option<Arc<str>>>,\n",
        ),
    ];
    let expected = [
        "runtime/src/emergency.rs:2: a map keyed by a user or a connection",
        "runtime/gateway/src/tabs.rs:2: a map keyed by a user or a connection",
        "model/src/agents.rs:1: a map keyed by a user or a connection",
    ];
    finds(holders, &files, &expected);
}

#[test]
fn an_owner_that_is_allowed_and_gone_is_found() {
    let expected = ["runtime/src/driver.rs: a map keyed by a user or a connection is allowed here, and there is none"];
    finds(holders, &[("runtime/src/driver.rs", "fn f() {}\n")], &expected);
}

#[test]
fn the_core_is_constructed_once() {
    hold(makers);
}

#[test]
fn a_second_core_is_found() {
    let second = "let core = Arc::new(Core::new(bounds, effects));\n";
    let files = [
        ("runtime/src/manager.rs", second),
        ("runtime/src/fallback.rs", second),
        ("runtime/src/other.rs", "let core = MyCore::new(bounds);\n"),
        ("runtime/tests/fault.rs", second),
        ("runtime/src/unit.rs", &format!("#[cfg(test)]\nmod tests {{ {second} }}\n")),
    ];
    finds(makers, &files, &["runtime/src/fallback.rs:1: the concurrent core is constructed"]);
}

#[test]
fn each_listed_file_is_listed_once_and_has_a_reason() {
    for list in [HOLDERS, MAKERS] {
        assert!(list.iter().all(|(_, why)| !why.is_empty()));
        assert!(list.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order, each once");
    }
}
