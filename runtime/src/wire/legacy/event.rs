//! The payloads of events.
//!
//! | event | type | payload |
//! | --- | --- | --- |
//! | `message_received` | the same | `message_id`, `payload` |
//! | `agent_started` | the same | `status`, `context`, `message` |
//! | `agent_thinking` | the same | `reasoning`, `step_number`, `progress_percentage`, `status` |
//! | `agent_delta` of text | `partial_result` | `content`, `agent_name`, `is_complete`, `part` |
//! | `agent_delta` of another kind | `agent_thinking` | as above, with `part` and `kind` |
//! | `tool_executing` | the same | `tool_id`, `tool_name`, `parameters`, `status`, `message` |
//! | `tool_completed` | the same | `tool_id`, `tool_name`, `result`, `execution_time_ms`, `status`, `message` |
//! | `agent_paused`, `agent_resumed` | `agent_thinking` | as above, with `status` `paused` or `resumed`, `pause`, and `request` or `reply` |
//! | `agent_completed` | the same | `status`, `result`, `execution_time_ms`, `message` |
//! | `agent_error` | `agent_failed` | `agent_name`, `error`, `reason`, `status`, `message` |
//! | `notice`, `thread_deleted` | the same | as in v1 |
//!
//! * Other members of an agent's own data are passed on.
//! * Events of a run repeat `run_id`, and the agent's name as `agent_id` and `agent_type`, where the browser's store
//!   looks for them. `thought` repeats `reasoning`, and `duration_ms` repeats `execution_time_ms`.
//! * `is_complete` is always false. Clients that join pieces and clients that replace them by a complete one agree only
//!   on that: to the first, a last piece with the whole text shows it twice, and to the second, one without text shows
//!   none. The whole answer is the `result` of `agent_completed`.
//! * `result` is the `text` of the agent's own data, or else the pieces that this connection was told. It is empty if
//!   the connection began in the middle of such an answer, or the answer exceeds [`MAX_TEXT`](super::MAX_TEXT): the
//!   client then has the text from the pieces.
//! * A time is `null` if the beginning was not told on this connection.

use lockstep_model::run::{Ending, Kind, Reason, ToolEnd};
use lockstep_model::{Entry, Epoch, Offset, RunId, ToolId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use tungstenite::Utf8Bytes;

use super::fields::Fields;
use super::memory::Memory;
use super::{CodecState, Hex, named, text};
use crate::payload::Delta;
use crate::payload::{Payload, Record};

#[derive(Serialize)]
struct Envelope<'a> {
    r#type: &'static str,
    run_id: Hex,
    user_id: &'a str,
    agent_name: &'a str,
    thread_id: Option<&'a str>,
    timestamp: u64,
    message_id: String,
    previous_id: String,
    payload: &'a Fields,
    data: &'a Fields,
}

/// Encodes an event, and remembers what later frames of its run need.
pub(in crate::wire) fn event(peer: &mut CodecState, entry: &Entry<Payload>, record: &Record) -> Utf8Bytes {
    let given = Fields::of(&record.data).unwrap_or_default();
    let agent = given.text("agent_name").map_or_else(|| peer.agent_name.clone(), Into::into);
    let about = About { run: entry.event.run, at: record.at(), thread: record.thread.as_deref(), agent: &agent };
    let (r#type, payload) = payload(&mut peer.legacy, entry.event.kind, &about, &record.data, given);
    text(&Envelope {
        r#type,
        run_id: about.run.into(),
        user_id: &peer.subject,
        agent_name: &agent,
        thread_id: about.thread,
        timestamp: about.at,
        message_id: place(peer.epoch, entry.offset),
        previous_id: place(peer.epoch, entry.previous),
        payload: &payload,
        data: &payload,
    })
}

/// `<epoch>:<offset>`.
fn place(epoch: Epoch, offset: Offset) -> String {
    format!("{}:{}", epoch.0, offset.0)
}

/// What the payloads have in common.
struct About<'a> {
    run: RunId,
    /// Milliseconds since the Unix epoch.
    at: u64,
    thread: Option<&'a str>,
    agent: &'a str,
}

impl About<'_> {
    /// Adds what tells the run and the agent.
    fn sign(&self, fields: &mut Fields) {
        fields.or_put("run_id", Hex::from(self.run));
        fields.or_put("agent_id", self.agent);
        fields.or_put("agent_type", self.agent);
    }

    /// The time since the beginning, in milliseconds.
    fn since(&self, began: Option<u64>) -> Option<u64> {
        began.map(|began| self.at.saturating_sub(began))
    }
}

/// The type and the payload of an event.
fn payload(
    memory: &mut Memory,
    kind: Kind,
    about: &About<'_>,
    data: &RawValue,
    mut given: Fields,
) -> (&'static str, Fields) {
    let name = named::name(kind);
    match kind {
        Kind::Received(_) => {
            memory.begin(about.run);
            (name, given)
        }
        Kind::Started => {
            memory.open(about.run).started = Some(about.at);
            given.or_put("status", "started");
            given.or_put("context", json!({ "run_id": Hex::from(about.run).to_string(), "thread_id": about.thread }));
            given.or_put("message", format!("{} has started on your request", about.agent));
            given.or_put("timestamp", about.at);
            about.sign(&mut given);
            (name, given)
        }
        Kind::Thinking => {
            let text = ["reasoning", "text", "thought", "message"].iter().find_map(|name| given.text(name));
            drop(given.take("text"));
            (name, thought(memory, about, given, &text.unwrap_or_default()))
        }
        Kind::Delta(_) => match Delta::of(data) {
            Some(delta) if delta.kind == "text" => {
                memory.say(about.run, &delta.text);
                let mut fields = Fields::new();
                fields.put("content", &delta.text);
                fields.put("agent_name", about.agent);
                fields.put("is_complete", false);
                fields.put("part", delta.part);
                about.sign(&mut fields);
                ("partial_result", fields)
            }
            delta => {
                let mut fields = Fields::new();
                if let Some(delta) = &delta {
                    fields.put("part", delta.part);
                    fields.put("kind", &delta.kind);
                }
                let text = delta.map(|delta| delta.text).unwrap_or_default();
                (named::name(Kind::Thinking), thought(memory, about, fields, &text))
            }
        },
        Kind::ToolExecuting(tool) => (name, executing(memory, about, given, tool)),
        Kind::ToolCompleted(tool, end) => (name, returned(memory, about, given, (tool, end))),
        Kind::Paused(_) => {
            let asked = given.raw("request").and_then(message_of).unwrap_or_default();
            given.put("status", "paused");
            (named::name(Kind::Thinking), thought(memory, about, given, &asked))
        }
        Kind::Resumed(_) => {
            given.put("status", "resumed");
            (named::name(Kind::Thinking), thought(memory, about, given, ""))
        }
        Kind::Completed => (name, completed(memory, about, given)),
        Kind::Error(reason) => ("agent_failed", failed(memory, about, given, reason)),
        Kind::Notice | Kind::Deleted => (name, given),
    }
}

/// The `message` of what an agent asks for.
fn message_of(request: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Request {
        message: String,
    }
    serde_json::from_str::<Request>(request.get()).ok().map(|request| request.message)
}

fn thought(memory: &mut Memory, about: &About<'_>, mut fields: Fields, text: &str) -> Fields {
    let step = memory.open(about.run).step();
    fields.put("reasoning", text);
    fields.or_put("thought", text);
    fields.or_put("step_number", step);
    fields.or_put("progress_percentage", None::<u8>);
    fields.or_put("status", "thinking");
    about.sign(&mut fields);
    fields
}

fn executing(memory: &mut Memory, about: &About<'_>, mut fields: Fields, tool: ToolId) -> Fields {
    let name = tool_name(&mut fields).unwrap_or_default();
    memory.open(about.run).execute(tool, &name, about.at);
    let parameters = fields.take("arguments");
    fields.or_put("parameters", parameters);
    fields.put("tool_name", &name);
    fields.put("status", "executing");
    fields.or_put("message", format!("{} is using {name}", about.agent));
    about.sign(&mut fields);
    fields
}

fn returned(memory: &mut Memory, about: &About<'_>, mut fields: Fields, (tool, end): (ToolId, ToolEnd)) -> Fields {
    let known = memory.open(about.run).complete(tool);
    let time = about.since(known.as_ref().map(|tool| tool.at));
    let name = tool_name(&mut fields).or(known.map(|tool| tool.name)).unwrap_or_default();
    let (status, message) = match end {
        ToolEnd::Success => ("completed", format!("{name} has completed")),
        ToolEnd::Failure => ("failed", format!("{name} has failed")),
        ToolEnd::Abandoned(Ending::Completed | Ending::Error(_)) => ("abandoned", format!("{name} was abandoned")),
    };
    fields.put("tool_name", &name);
    fields.or_put("result", None::<u8>);
    fields.put("execution_time_ms", time);
    fields.put("status", status);
    fields.or_put("message", message);
    about.sign(&mut fields);
    fields
}

/// The name of a tool in v1's data.
fn tool_name(fields: &mut Fields) -> Option<String> {
    let name = fields.text("name");
    drop(fields.take("name"));
    name
}

fn completed(memory: &mut Memory, about: &About<'_>, mut fields: Fields) -> Fields {
    let known = memory.end(about.run);
    let given = fields.text("text").or_else(|| fields.text("result")).filter(|text| !text.is_empty());
    if fields.text("text").is_some() {
        drop(fields.take("text"));
    }
    let told = || known.as_ref().and_then(|run| run.text()).unwrap_or_default();
    match &given {
        Some(text) => fields.put("result", text),
        // A result of the agent's own that is no text stays, unless there is one.
        None if !told().is_empty() || fields.raw("result").is_none() => fields.put("result", told()),
        None => {}
    }
    let time = about.since(known.as_ref().and_then(|run| run.started));
    fields.put("status", "completed");
    fields.put("execution_time_ms", time);
    fields.or_put("duration_ms", time);
    fields.or_put("message", format!("{} has completed your request", about.agent));
    about.sign(&mut fields);
    fields
}

fn failed(memory: &mut Memory, about: &About<'_>, mut fields: Fields, reason: Reason) -> Fields {
    let known = memory.end(about.run);
    let message = fields.text("message").unwrap_or_default();
    let time = about.since(known.and_then(|run| run.started));
    fields.put("agent_name", about.agent);
    fields.put("error", message);
    fields.put("reason", reason);
    fields.put("status", if reason == Reason::Cancelled { "cancelled" } else { "failed" });
    fields.put("execution_time_ms", time);
    about.sign(&mut fields);
    fields
}
