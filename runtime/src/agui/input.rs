//! A front end's request: `RunAgentInput`.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::answers::{Answers, ResumeEntry};
use crate::wire::MAX_NAME;

/// A request for the run that answers the newest message of the user.
#[derive(Clone, Debug)]
pub struct Asked {
    pub(super) thread: String,
    pub(super) run: String,
    /// The message's id on the socket.
    pub(super) message: String,
    pub(super) payload: Value,
    pub(super) held: Held,
    /// Its answers, if the run has paused.
    pub(super) answers: Answers,
    /// Whether the client speaks at least version 1.0, which knows cancelled runs.
    pub(super) knows_cancelled: bool,
}

/// The part of the run's messages that the client already has.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// Text and reasoning, by message id.
    pub(super) texts: BTreeMap<String, String>,
    /// Tool calls with their arguments.
    pub(super) calls: BTreeSet<String>,
    /// Messages with results.
    pub(super) results: BTreeSet<String>,
}

/// Why a body is not such a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAsked {
    /// It is not a `RunAgentInput`, or a field is not valid.
    Invalid(&'static str),
}

impl fmt::Display for NotAsked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for NotAsked {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    thread_id: String,
    run_id: String,
    protocol_version: Option<String>,
    messages: Vec<Message>,
    state: Option<Value>,
    tools: Option<Vec<Value>>,
    context: Option<Vec<Value>>,
    forwarded_props: Option<Value>,
    resume: Option<Vec<ResumeEntry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    id: String,
    role: String,
    content: Option<Value>,
    tool_calls: Option<Vec<Call>>,
    tool_call_id: Option<String>,
}

#[derive(Deserialize)]
struct Call {
    id: String,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    arguments: String,
}

impl Asked {
    /// Reads a body. The message is the user's newest one. After it come the part of the answer that the client has,
    /// and the results of tools that it has run.
    ///
    /// # Errors
    ///
    /// [`NotAsked`].
    pub fn read(body: &[u8]) -> Result<Self, NotAsked> {
        let input: Input =
            serde_json::from_slice(body).map_err(|_| NotAsked::Invalid("the body is not a RunAgentInput"))?;
        if !(1..=MAX_NAME).contains(&input.thread_id.chars().count()) {
            return Err(NotAsked::Invalid("`threadId` must have 1 to 128 characters"));
        }
        let mut messages = input.messages;
        let newest = messages.iter().rposition(|message| message.role == "user");
        let newest = newest.ok_or(NotAsked::Invalid("there is no message of the user"))?;
        let mut answers = Answers::of(input.resume.unwrap_or_default());
        let held = Held::of(messages.split_off(newest + 1), &mut answers);
        let message = messages.pop().ok_or(NotAsked::Invalid("there is no message of the user"))?;
        let (text, parts) = content(message.content)?;
        let mut extras = Map::new();
        let given = [
            ("state", input.state),
            ("tools", input.tools.filter(|tools| !tools.is_empty()).map(Value::Array)),
            ("context", input.context.filter(|context| !context.is_empty()).map(Value::Array)),
            ("forwardedProps", input.forwarded_props),
            ("content", parts),
        ];
        for (field, value) in given {
            let says = |value: &Value| !value.is_null() && *value != json!({});
            if let Some(value) = value.filter(says) {
                extras.insert(field.to_owned(), value);
            }
        }
        let mut payload = json!({ "text": text });
        if !extras.is_empty() {
            payload["agui"] = extras.into();
        }
        Ok(Self {
            message: name(&input.thread_id, &message.id),
            thread: input.thread_id,
            run: input.run_id,
            payload,
            held,
            answers,
            knows_cancelled: input.protocol_version.is_some_and(|version| !version.starts_with("0.")),
        })
    }
}

/// The message's id on the socket. Front ends number messages by thread, and the gateway by user.
fn name(thread: &str, message: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(thread.len().to_le_bytes());
    digest.update(thread);
    digest.update(message);
    let digits: String = digest.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("agui-{digits}")
}

/// A message's text, and its parts if it has others than text.
fn content(content: Option<Value>) -> Result<(String, Option<Value>), NotAsked> {
    match content {
        Some(Value::String(text)) => Ok((text, None)),
        Some(Value::Array(parts)) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
            let (text, only) = (texts.join("\n"), texts.len() == parts.len());
            Ok((text, (!only).then_some(Value::Array(parts))))
        }
        _ => Err(NotAsked::Invalid("the user's message has no `content`")),
    }
}

/// The id of the message with a call's result.
pub(super) fn result_id(call: &str) -> String {
    format!("{call}-result")
}

impl Held {
    /// The output in these messages. The results of the client's own tools are added to `answers`.
    fn of(messages: Vec<Message>, answers: &mut Answers) -> Self {
        let mut held = Self::default();
        for message in messages {
            match (message.role.as_str(), message.content) {
                ("tool", content) => {
                    let call = message.tool_call_id.unwrap_or_default();
                    let id = result_id(&call);
                    if message.id != id {
                        answers.add(call, result(content));
                    }
                    held.results.insert(id);
                }
                ("assistant" | "reasoning", content) => {
                    if let Some(Value::String(text)) = content {
                        held.texts.insert(message.id, text);
                    }
                    let calls = message.tool_calls.into_iter().flatten();
                    held.calls.extend(calls.filter(|call| !call.function.arguments.is_empty()).map(|call| call.id));
                }
                _ => {}
            }
        }
        held
    }
}

/// The result of a tool: a text, or JSON.
fn result(content: Option<Value>) -> Value {
    match content {
        Some(Value::Array(parts)) if parts.iter().all(|part| part["text"].is_string()) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n").into()
        }
        content => content.unwrap_or_default(),
    }
}
