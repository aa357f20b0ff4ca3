//! Finds the request field that a server has refused, and its setting.

use serde_json::Value;

use super::{Config, Failure};

/// The field that asks for token usage.
pub(super) const USAGE: &str = "stream_options";

/// The failure for a refusal. It names the field and its setting if the server mentions a field that was sent.
pub(super) fn of(status: u16, said: &str, body: &Value, config: &Config) -> Failure {
    let sent = |field: &str| body.get(field).is_some_and(|value| !value.is_null());
    let about_fields = matches!(status, 400 | 404 | 405 | 422 | 501);
    let said = sentences(said);
    let found = candidates(config).into_iter().find(|(field, ..)| sent(field) && names(&said, field));
    match found.filter(|_| about_fields) {
        Some((field, setting)) => Failure::Refused { status, field, setting },
        None => Failure::Status(status),
    }
}

/// Removes the request for usage from a body. Returns false if it has none.
pub(super) fn leave_out_usage(body: &mut Value) -> bool {
    body.as_object_mut().is_some_and(|body| body.remove(USAGE).is_some())
}

/// Request fields that not every server supports, each with its setting.
fn candidates(config: &Config) -> Vec<(String, &'static str)> {
    let own = [
        (USAGE, "agent.usage"),
        (config.max_tokens_field.as_str(), "agent.max_tokens_field"),
        ("temperature", "agent.temperature"),
        ("tools", "agent.omit"),
    ];
    let own = own.map(|(field, setting)| (field.to_owned(), setting));
    config.extra_body.keys().map(|field| (field.clone(), "agent.extra_body")).chain(own).collect()
}

/// What the server says about the request, in lower case and without the parts of the request that it repeats: the
/// messages and field names of a JSON error, or else the whole text.
fn sentences(said: &str) -> String {
    let mut found = Vec::new();
    match serde_json::from_str::<Value>(said) {
        Ok(value) => gather(&value, &mut found),
        Err(_) => found.push(said.to_owned()),
    }
    found.join("\n").to_lowercase()
}

fn gather(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(members) => members.iter().for_each(|member| gather(member, found)),
        Value::Object(fields) => {
            let telling = ["error", "message", "param", "detail", "details", "loc", "msg", "errors", "code", "raw"];
            let telling = fields.iter().filter(|(field, _)| telling.contains(&field.as_str()));
            telling.for_each(|(_, value)| gather(value, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether a text mentions a field as a word.
fn names(said: &str, field: &str) -> bool {
    let others: &[&str] = match field {
        USAGE => &["include_usage", "stream options"],
        "tools" => &["tool use", "tool choice", "tool_choice", "tool calling", "function calling", "functions"],
        _ => &[],
    };
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    said.split(|character| !is_word(character)).any(|word| word == field)
        || others.iter().any(|other| said.contains(other))
}
