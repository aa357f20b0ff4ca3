//! A thread's earlier turns as a server gets them: messages in the format of chat completions.

use lockstep_model::RunId;
use serde_json::{Value, json};

use super::http::{MAX_RESULT, head};
use super::{End, Exchange, Step, ToolCall, Turn};
use crate::payload::text_of;

/// The messages of the newest earlier turns that fit into `most` turns and bytes, oldest first, each turn with its run.
/// A turn that does not fit ends them, and no older turn is included.
pub(super) fn turns(
    history: &[Turn],
    (most, most_bytes): (usize, usize),
    takes_tools: bool,
) -> Vec<(RunId, Vec<Value>)> {
    let mut left = most_bytes;
    let mut turns = Vec::new();
    for turn in history[history.len().saturating_sub(most)..].iter().rev() {
        let messages = said_in(turn, takes_tools);
        let size: usize = messages.iter().map(|message| message.to_string().len()).sum();
        let Some(rest) = left.checked_sub(size) else { break };
        left = rest;
        turns.push((turn.run, messages));
    }
    turns.reverse();
    turns
}

/// The messages of a turn. Empty for a turn without output, because the model would answer it now.
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
            Step::Asked(Exchange { request, reply }) => {
                push_calls(&mut messages, &mut text, &mut calls);
                text.push_str(&spoken(request, "message"));
                if let Some(reply) = reply {
                    messages.push(json!({ "role": "assistant", "content": core::mem::take(&mut text) }));
                    messages.push(json!({ "role": "user", "content": spoken(reply, "text") }));
                }
            }
            Step::Tool(call) if takes_tools => calls.push(call),
            Step::Tool(_) if text.is_empty() => {}
            Step::Tool(_) => text.push_str("\n\n"),
        }
    }
    push_calls(&mut messages, &mut text, &mut calls);
    // The agent's own statement of the answer; without one, the text that the user saw.
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

/// A request or a reply as text: the member that says it, or else all of it.
fn spoken(said: &str, member: &str) -> String {
    let value: Option<Value> = serde_json::from_str(said).ok();
    value.as_ref().and_then(|value| value[member].as_str()).unwrap_or(said).to_owned()
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
