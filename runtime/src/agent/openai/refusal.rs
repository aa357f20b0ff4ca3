//! Which field of a request a server has refused, and which setting is about it.

use serde_json::Value;

use super::{Config, Failure};

/// The field that asks for the usage of tokens.
pub(super) const USAGE: &str = "stream_options";

/// The failure that a refusal is: one that names the field and its setting, if the server speaks of a field that was sent.
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

/// Takes the question for usage out of a request. False if there is none in it.
pub(super) fn leave_out_usage(body: &mut Value) -> bool {
    body.as_object_mut().is_some_and(|body| body.remove(USAGE).is_some())
}

/// What a request may have that not every server knows, each with its setting.
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

/// What the server says of the request, without what it repeats of it, in lower case: the messages and names of fields of an
/// error in JSON, or else all of it.
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

/// Whether a field is spoken of, as a word.
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
