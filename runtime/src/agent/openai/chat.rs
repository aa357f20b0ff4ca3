//! The chat completions protocol: requests.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Config;
use crate::agent::tools::Tools;
use crate::agent::{Message, Turn, transcript};

/// Fields that a message must keep.
const KEPT: [&str; 4] = ["role", "content", "tool_calls", "tool_call_id"];

/// The conversation so far, in the endpoint's format.
pub(super) fn conversation(config: &Config, tools: &Tools, history: &[Turn], message: &Message) -> Vec<Value> {
    let takes_tools = tools.iter().next().is_some() && !config.omit.iter().any(|field| field == "tools");
    let turns = transcript::turns(history, (config.max_turns, config.max_history_bytes), takes_tools);
    let system = config.system.iter().map(|system| json!({ "role": "system", "content": system }));
    let mut messages: Vec<Value> = system.chain(turns.into_iter().flat_map(|(_, messages)| messages)).collect();
    name_calls(&mut messages);
    // A model can read JSON too.
    let text = message.text().unwrap_or_else(|| message.payload.get().to_owned());
    messages.push(json!({ "role": "user", "content": text }));
    messages
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
