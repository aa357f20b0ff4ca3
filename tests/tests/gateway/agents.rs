//! Agents, checked with the production run machine: the built-in agent with its tools, and the adapters to
//! models and AG-UI agents against this file's own server, which speaks their protocols over real HTTP and violates them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lockstep::agent::testing::{Event, Recorder};
use lockstep::agent::{Agent, Message};
use lockstep_model::run::{Kind, Reason, ToolEnd};
use serde_json::Value;

mod agui;
mod builtin;
mod calculator;
mod clock;
mod openai;
mod patience;
mod pool;
mod run;
mod search;
mod server;
mod servers;
mod sse;
mod trouble;

/// How long an agent may take that should not wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sleeps, in virtual time wherever a test depends on it.
pub(crate) async fn pause(time: Duration) {
    let _ = tokio::time::timeout(time, core::future::pending::<()>()).await;
}

/// A temporary directory, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lockstep-agents-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder for the file");
        fs::write(path, text).expect("a file for the test");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Lets an agent answer, and returns the events it emitted.
async fn answer(agent: &impl Agent, message: Message, recorder: &Arc<Recorder>) -> Vec<Event> {
    let answering = agent.answer(message, recorder.run());
    tokio::time::timeout(PATIENCE, answering).await.expect("an agent that ends its run");
    recorder.events()
}

/// The remarks (`remark`), or the pieces of parts of a kind (`text`, `reasoning`).
fn texts(events: &[Event], kind: &str) -> Vec<String> {
    let is_said = |event: &&Event| match kind {
        "remark" => event.kind == Kind::Thinking,
        kind => matches!(event.kind, Kind::Delta(_)) && event.data["kind"] == kind,
    };
    events.iter().filter(is_said).filter_map(|event| event.data["text"].as_str().map(str::to_owned)).collect()
}

/// The answer's text. Asserts that the run completed.
fn completed(events: &[Event]) -> String {
    let last = events.last().expect("an event");
    assert_eq!(last.kind, Kind::Completed, "{events:#?}");
    last.data["text"].as_str().expect("a text").to_owned()
}

/// The error's message. Asserts that the agent failed the run.
fn failed(events: &[Event]) -> String {
    let last = events.last().expect("an event");
    assert_eq!(last.kind, Kind::Error(Reason::Failed), "{events:#?}");
    last.data["message"].as_str().expect("a message").to_owned()
}

/// Each tool call, with its end and the end's data, in the order of the ends.
fn tools(events: &[Event]) -> Vec<(String, ToolEnd, Value)> {
    let ends = events.iter().filter_map(|event| match event.kind {
        Kind::ToolCompleted(_, end) => Some((event.data["name"].as_str()?.to_owned(), end, event.data.clone())),
        Kind::Received(_)
        | Kind::Started
        | Kind::Thinking
        | Kind::Delta(_)
        | Kind::ToolExecuting(_)
        | Kind::Paused(_)
        | Kind::Resumed(_)
        | Kind::Completed
        | Kind::Error(_)
        | Kind::Notice
        | Kind::Deleted => None,
    });
    ends.collect()
}
