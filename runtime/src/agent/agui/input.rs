//! The body of a request: `RunAgentInput`.

use std::collections::BTreeSet;

use lockstep_model::RunId;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Config;
use super::asks::Replied;
use crate::agent::http::{MAX_RESULT, head};
use crate::agent::{Exchange, Message, Paused, Run, Step, ToolCall, Turn, transcript};
use crate::wire::hex;

/// The member `agui` of a message's payload: the fields that an AG-UI front end sends besides messages.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Extras {
    state: Option<Value>,
    tools: Vec<Value>,
    context: Vec<Value>,
    forwarded_props: Map<String, Value>,
    content: Option<Value>,
}

impl Extras {
    fn of(message: &Message) -> Self {
        #[derive(Deserialize)]
        struct Payload {
            agui: Extras,
        }
        serde_json::from_str::<Payload>(message.payload.get()).map(|payload| payload.agui).unwrap_or_default()
    }
}

/// The names of the tools that the message's front end runs.
pub(super) fn front_end_tools(message: &Message) -> BTreeSet<String> {
    Extras::of(message).tools.iter().filter_map(|tool| tool["name"].as_str()).map(str::to_owned).collect()
}

/// The request that continues a paused run. Its `runId` differs from those of the run's earlier requests.
pub(super) fn resumption(config: &Config, history: &[Turn], paused: &Paused, replied: &Replied, run: &Run) -> Value {
    let mut body = request(config, history, &paused.message, run);
    let pauses = paused.turn.steps.iter().filter(|step| matches!(step, Step::Asked(_))).count();
    body["runId"] = format!("{}-{}", hex(run.id().0), pauses + 1).into();
    if let Some(messages) = body["messages"].as_array_mut() {
        messages.extend(said_in(&paused.turn));
    }
    if let Some(resume) = replied.resume() {
        body["resume"] = resume;
    }
    body
}

/// The request for a run that answers `message`.
///
/// The same message has the same id in every request. Ids are made from run ids, which differ between all users.
pub(super) fn request(config: &Config, history: &[Turn], message: &Message, run: &Run) -> Value {
    let limits = (config.max_turns, config.max_history_bytes);
    let history: Vec<Turn> = history.iter().map(without_approvals).collect();
    let turns = transcript::turns(&history, limits, true).into_iter();
    let mut messages: Vec<Value> = turns.flat_map(|(run, messages)| named(run, messages)).collect();
    let Extras { state, tools, context, forwarded_props, content } = Extras::of(message);
    // A model can read JSON too.
    let text = || message.text().unwrap_or_else(|| message.payload.get().to_owned()).into();
    let content = content.filter(Value::is_array).unwrap_or_else(text);
    messages.push(json!({ "id": user_message(run.id()), "role": "user", "content": content }));
    let mut forwarded = forwarded_props;
    // The gateway's own statement, whatever the client says.
    forwarded.insert(
        "lockstep".to_owned(),
        json!({ "user": message.subject, "thread": message.thread, "message": message.id }),
    );
    json!({
        "threadId": thread(&message.subject, message.thread.as_deref()),
        "runId": hex(run.id().0).to_string(),
        "state": state.unwrap_or_else(|| json!({})),
        "messages": messages,
        "tools": tools,
        "context": context,
        "forwardedProps": forwarded,
    })
}

/// A turn without approvals and results of tools: its calls tell how these ended. Questions are part of what was said.
fn without_approvals(turn: &Turn) -> Turn {
    let mut turn = turn.clone();
    turn.steps.retain(|step| match step {
        Step::Asked(exchange) => has_question(exchange),
        Step::Text(_) | Step::Tool(_) => true,
    });
    turn
}

/// Whether it contains a question other than approvals and results of tools.
fn has_question(exchange: &Exchange) -> bool {
    let request: Value = serde_json::from_str(&exchange.request).unwrap_or_default();
    let is_question = |ask: &Value| !matches!(ask["kind"].as_str(), Some("approval" | "tool"));
    request["asks"].as_array().is_none_or(|asks| asks.iter().any(is_question))
}

/// What a run has said and done until it paused: its messages after the user's. Calls have the server's own ids.
fn said_in(turn: &Turn) -> Vec<Value> {
    let mut messages = Vec::new();
    let (mut text, mut calls) = (String::new(), Vec::new());
    for step in &turn.steps {
        match step {
            Step::Tool(call) => calls.push(call),
            Step::Text(said) => {
                push(&mut messages, &mut text, &mut calls);
                text.push_str(said);
            }
            Step::Asked(_) => push(&mut messages, &mut text, &mut calls),
        }
    }
    push(&mut messages, &mut text, &mut calls);
    let name = hex(turn.run.0);
    for (index, message) in messages.iter_mut().enumerate() {
        message["id"] = format!("{name}-{}", index + 1).into();
    }
    messages
}

/// Appends a message with this text and these calls, and then the calls' results. An open call has none.
fn push(messages: &mut Vec<Value>, text: &mut String, calls: &mut Vec<&ToolCall>) {
    if text.is_empty() && calls.is_empty() {
        return;
    }
    let mut message = json!({ "role": "assistant" });
    if !text.is_empty() {
        message["content"] = core::mem::take(text).into();
    }
    let id = |call: &ToolCall| call.call_id.clone().unwrap_or_else(|| call.id.clone());
    let made = |call: &&ToolCall| {
        let function = json!({ "name": call.name, "arguments": call.arguments });
        json!({ "id": id(call), "type": "function", "function": function })
    };
    if !calls.is_empty() {
        message["toolCalls"] = calls.iter().map(made).collect();
    }
    messages.push(message);
    for call in calls.drain(..) {
        let content = match &call.result {
            Some(Ok(result)) => plain(result),
            Some(Err(error)) => json!({ "error": error }).to_string(),
            None => continue,
        };
        let content = head(&content, MAX_RESULT);
        messages.push(json!({ "role": "tool", "toolCallId": id(call), "content": content }));
    }
}

/// A text as it is, and everything else as JSON.
fn plain(result: &str) -> String {
    serde_json::from_str(result).unwrap_or_else(|_| result.to_owned())
}

/// The thread's name at the agent's server. Clients choose names of threads, so two users may use the same: a server
/// that keeps something by thread must not give it to another user (ISO-1).
fn thread(subject: &str, thread: Option<&str>) -> String {
    let mut digest = Sha256::new();
    digest.update(subject.len().to_le_bytes());
    digest.update(subject);
    digest.update(thread.unwrap_or_default());
    digest.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn user_message(run: RunId) -> String {
    format!("{}-user", hex(run.0))
}

/// Messages of a turn in AG-UI's format, with their ids.
fn named(run: RunId, messages: Vec<Value>) -> Vec<Value> {
    let run_name = hex(run.0).to_string();
    let call_id = |id: &Value| format!("{run_name}-{}", id.as_str().unwrap_or_default());
    let mut told = Vec::new();
    for (index, mut message) in messages.into_iter().enumerate() {
        let Some(fields) = message.as_object_mut() else { continue };
        let id = if index == 0 { user_message(run) } else { format!("{run_name}-{index}") };
        fields.insert("id".to_owned(), id.into());
        if fields.get("content").is_some_and(Value::is_null) {
            fields.remove("content");
        }
        if let Some(Value::Array(mut calls)) = fields.remove("tool_calls") {
            for call in &mut calls {
                call["id"] = call_id(&call["id"]).into();
            }
            fields.insert("toolCalls".to_owned(), calls.into());
        }
        if let Some(id) = fields.remove("tool_call_id") {
            fields.insert("toolCallId".to_owned(), call_id(&id).into());
        }
        told.push(message);
    }
    told
}
