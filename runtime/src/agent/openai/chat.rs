//! The chat completions protocol: requests.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Config, MAX_RESULT, head};
use crate::agent::tools::Tools;
use crate::agent::{End, Message, Step, ToolCall, Turn, text_of};

/// Fields that a message must keep.
const KEPT: [&str; 4] = ["role", "content", "tool_calls", "tool_call_id"];

/// The conversation so far, in the endpoint's format. It has the newest earlier turns that fit the configured number
/// and bytes; a turn that does not fit ends it, and no older turn is included.
pub(super) fn conversation(config: &Config, tools: &Tools, history: &[Turn], message: &Message) -> Vec<Value> {
    let takes_tools = tools.iter().next().is_some() && !config.omit.iter().any(|field| field == "tools");
    let mut left = config.max_history_bytes;
    let mut turns = Vec::new();
    for turn in history[history.len().saturating_sub(config.max_turns)..].iter().rev() {
        let messages = said_in(turn, takes_tools);
        let size: usize = messages.iter().map(|message| message.to_string().len()).sum();
        let Some(rest) = left.checked_sub(size) else { break };
        left = rest;
        turns.push(messages);
    }
    let system = config.system.iter().map(|system| json!({ "role": "system", "content": system }));
    let mut messages: Vec<Value> = system.chain(turns.into_iter().rev().flatten()).collect();
    name_calls(&mut messages);
    // A model can read JSON too.
    let text = message.text().unwrap_or_else(|| message.payload.get().to_owned());
    messages.push(json!({ "role": "user", "content": text }));
    messages
}

/// The messages of an earlier turn. Empty for a turn without output, because the model would answer it now.
fn said_in(turn: &Turn, takes_tools: bool) -> Vec<Value> {
    let question = text_of(&turn.message).unwrap_or_else(|| turn.message.get().to_owned());
    let mut messages = vec![json!({ "role": "user", "content": question })];
    let (mut text, mut calls) = (String::new(), Vec::new());
    for step in &turn.steps {
        match step {
            Step::Text(said) => {
                push_calls(&mut messages, &mut text, &mut calls);
                text.push_str(said);
            }
            Step::Tool(call) if takes_tools => calls.push(call),
            Step::Tool(_) if text.is_empty() => {}
            Step::Tool(_) => text.push_str("\n\n"),
        }
    }
    push_calls(&mut messages, &mut text, &mut calls);
    // The agent's own statement of the answer; without one, what the user saw of it.
    let answer = match &turn.end {
        Some(End::Completed(data)) => text_of(data).unwrap_or(text),
        Some(End::Failed(_)) => text,
        None => return Vec::new(),
    };
    if !answer.trim_end().is_empty() {
        messages.push(json!({ "role": "assistant", "content": answer.trim_end() }));
    }
    if messages.len() > 1 { messages } else { Vec::new() }
}

/// Appends calls that were made at the same time, after the text that came with them, and then their results.
fn push_calls(messages: &mut Vec<Value>, text: &mut String, calls: &mut Vec<&ToolCall>) {
    if calls.is_empty() {
        return;
    }
    let made: Vec<Value> = calls
        .iter()
        .map(|ToolCall { id, name, arguments, .. }| {
            json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } })
        })
        .collect();
    let content = if text.is_empty() { Value::Null } else { core::mem::take(text).into() };
    messages.push(json!({ "role": "assistant", "content": content, "tool_calls": made }));
    for ToolCall { id, result, .. } in calls.drain(..) {
        let content = match result {
            Some(Ok(result)) => head(result, MAX_RESULT).to_owned(),
            Some(Err(error)) => json!({ "error": error }).to_string(),
            None => json!({ "error": "the tool returned no result" }).to_string(),
        };
        messages.push(json!({ "role": "tool", "tool_call_id": id, "content": content }));
    }
}

/// Gives each call an id that is unique in the conversation. Nine digits, because some servers accept nothing else.
fn name_calls(messages: &mut [Value]) {
    let mut number = 0;
    let mut names = BTreeMap::new();
    for message in messages {
        if let Some(calls) = message.get_mut("tool_calls").and_then(Value::as_array_mut) {
            names.clear();
            for call in calls {
                number += 1;
                let name = Value::from(format!("{number:09}"));
                names.insert(core::mem::replace(&mut call["id"], name.clone()).to_string(), name);
            }
        } else if let Some(id) = message.get_mut("tool_call_id")
            && let Some(name) = names.get(&id.to_string())
        {
            *id = name.clone();
        }
    }
}

/// The body of a request. Fields that the configuration omits are left out of every part of it.
pub(super) fn request(config: &Config, messages: &[Value], tools: &Tools) -> Value {
    let mut body = json!({ "model": config.model, "messages": messages, "stream": true });
    if config.usage {
        body["stream_options"] = json!({ "include_usage": true });
    }
    if let Some(temperature) = config.temperature {
        body["temperature"] = json!(temperature);
    }
    if let Some(most) = config.max_tokens {
        body[&config.max_tokens_field] = json!(most);
    }
    let functions = tools.iter().map(|tool| {
        json!({
            "type": "function",
            "function": { "name": tool.name(), "description": tool.description(), "parameters": tool.parameters() },
        })
    });
    let functions: Vec<Value> = functions.collect();
    if !functions.is_empty() {
        body["tools"] = functions.into();
    }
    for (field, value) in &config.extra_body {
        body[field] = value.clone();
    }
    leave_out(&mut body, &config.omit);
    body
}

fn leave_out(body: &mut Value, omit: &[String]) {
    let Some(body) = body.as_object_mut() else { return };
    body.retain(|field, _| field == "messages" || !omit.contains(field));
    let messages = body.get_mut("messages").and_then(Value::as_array_mut).into_iter().flatten();
    for message in messages.filter_map(Value::as_object_mut) {
        message.retain(|field, _| KEPT.contains(&field.as_str()) || !omit.contains(field));
    }
}
