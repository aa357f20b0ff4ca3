//! The chat completions protocol: what is sent.

use serde_json::{Value, json};

use super::Config;
use crate::agent::tools::Tools;
use crate::agent::{Message, Turn, text_of};

/// What a message cannot be without.
const KEPT: [&str; 4] = ["role", "content", "tool_calls", "tool_call_id"];

/// The conversation until now, as the endpoint wants it.
pub(super) fn conversation(config: &Config, history: &[Turn], message: &Message) -> Vec<Value> {
    let mut messages = Vec::new();
    if let Some(system) = &config.system {
        messages.push(json!({ "role": "system", "content": system }));
    }
    for turn in &history[history.len().saturating_sub(config.max_turns)..] {
        // One that was not answered would make the model answer it now.
        let answer = turn.answer.as_deref().and_then(text_of);
        if let Some((question, answer)) = text_of(&turn.message).zip(answer) {
            messages.push(json!({ "role": "user", "content": question }));
            messages.push(json!({ "role": "assistant", "content": answer }));
        }
    }
    // A model can read JSON too.
    let text = message.text().unwrap_or_else(|| message.payload.get().to_owned());
    messages.push(json!({ "role": "user", "content": text }));
    messages
}

/// The body of a request. What the configuration leaves out is in none of its parts.
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
