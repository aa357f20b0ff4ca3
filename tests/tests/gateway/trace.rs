//! What a gateway writes into its trace when tracing is enabled, and what it never writes.

use std::fs;
use std::path::{Path, PathBuf};

use lockstep::Manager;
use lockstep::testing::{AnyToken, Echo};
use lockstep::trace::{Settings, Trace};
use lockstep_gateway::config::{Config, Flags, TraceFlag};
use lockstep_model::Bounds;
use serde_json::json;

use crate::judged::Watched;

/// A test's temporary directory, removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lockstep-trace-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn files(directory: &Path) -> Vec<Vec<u8>> {
    let files = fs::read_dir(directory).expect("a directory");
    files.map(|file| fs::read(file.expect("a file").path()).expect("its bytes")).collect()
}

async fn talk(manager: &Watched, token: &str, text: &str) {
    let (mut peer, _) = manager.live(token, json!("latest")).await;
    peer.say(
        &json!({ "type": "user_message", "message_id": "m1", "thread_id": text, "payload": { "text": text } })
            .to_string(),
    );
    assert_eq!(peer.until("agent_completed").await.last().expect("an answer")["data"]["text"], text);
}

#[tokio::test(start_paused = true)]
async fn neither_credentials_nor_texts_nor_names_are_in_a_trace() {
    let manager = Watched::of(Echo);
    let (token, text) = ("a-credential-that-nobody-else-has", "what ada says to nobody else");
    talk(&manager, token, text).await;
    manager.trace().close();
    let files = files(manager.directory());
    assert!(files.iter().map(Vec::len).sum::<usize>() > 1_000, "there is a trace");
    for (secret, file) in [token, text, "m1"].iter().flat_map(|secret| files.iter().map(move |file| (secret, file))) {
        assert!(!file.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()), "{secret} is in it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_trace_that_was_closed_takes_nothing_more_and_the_gateway_goes_on() {
    let manager = Watched::of(Echo);
    talk(&manager, "ada", "hello").await;
    manager.trace().close();
    let before = files(manager.directory());
    talk(&manager, "bob", "hello").await;
    manager.trace().close();
    assert_eq!(files(manager.directory()), before);
}

#[tokio::test]
async fn a_trace_with_other_bounds_is_refused() {
    let directory = Directory::new("bounds");
    let other = Bounds { runs: 1, ..Bounds::DEFAULT };
    let trace = Trace::start(&Settings::new(&directory.0), &other).expect("a trace");
    assert!(Manager::builder().verifier(AnyToken).agent(Echo).trace(trace).build().is_err());
}

#[cfg(unix)]
#[test]
fn only_its_owner_reads_a_trace() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::new("mode");
    let trace = Trace::start(&Settings::new(&directory.0), &Bounds::DEFAULT).expect("a trace");
    trace.close();
    let mode = |path: PathBuf| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(directory.0.clone()), 0o700);
    let file = fs::read_dir(&directory.0).expect("a directory").next().expect("a file").expect("a file").path();
    assert_eq!(mode(file), 0o600);
}

#[test]
fn there_is_no_trace_unless_one_is_asked_for() {
    let settings = |trace| {
        let flags = Flags { trace, ..Flags::default() };
        Config::load(None, &flags).expect("a configuration").trace.settings()
    };
    assert_eq!(settings(None), None);
    let asked = settings(Some(TraceFlag { directory: "traces".into() })).expect("settings");
    assert_eq!(asked, Settings::new("traces".as_ref()));
}
