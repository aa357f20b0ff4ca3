//! Assembling a reply from its pieces, as servers send them.
//!
//! Everything that a server sends beside text and calls (thoughts, signatures, its own fields) is kept unchanged,
//! because the server may require it in the next request of the same round of tools.

use serde_json::{Map, Value, json};

use super::Failure;
use super::joined::{join, weight};

/// The most tool calls in one reply.
pub(super) const MAX_CALLS: usize = 16;
/// The most bytes of text, of thoughts, or of one call's arguments.
const MAX_TEXT: usize = 1 << 20;
/// The most bytes of everything else that goes back to the server.
const MAX_SAID: usize = 4 << 20;
/// The longest name of a call, in bytes.
const MAX_NAME: usize = 128;
/// The longest id of a call, in bytes: some servers encode their model's thoughts in it.
const MAX_ID: usize = 256 << 10;

/// The fields that contain thoughts. A server may use several of them for the same thoughts.
const THOUGHTS: [&str; 6] =
    ["reasoning_content", "reasoning", "reasoning_text", "thinking", "reasoning_details", "thinking_blocks"];

/// A tool call.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Call {
    index: Option<u64>,
    pub(super) id: String,
    pub(super) name: String,
    /// JSON, if the model made no mistake.
    pub(super) arguments: String,
    /// The other fields that the server sent for the call and for its function.
    said: Map<String, Value>,
    function: Map<String, Value>,
}

/// Why the model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// The reply is complete.
    Whole,
    /// It reached a limit.
    Length,
}

/// A reply as it arrives.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) text: String,
    pub(super) calls: Vec<Call>,
    pub(super) finish: Option<Finish>,
    pub(super) model: Option<String>,
    pub(super) usage: Option<Value>,
    /// The names of the tools that the model was offered.
    tools: Vec<String>,
    /// The message as the server sent it, without its calls.
    said: Map<String, Value>,
    weight: usize,
    thoughts: Thoughts,
}

/// What a chunk adds for the user to see.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) text: String,
    pub(super) reasoning: String,
}

/// The thoughts that were shown, and how far each field has repeated them.
#[derive(Debug)]
struct Thoughts {
    shown: String,
    /// The number of bytes of `shown` that a field has repeated; `None` once it has deviated.
    at: [Option<usize>; THOUGHTS.len() + 1],
}

/// The index for thoughts that are parts of `content`.
const IN_CONTENT: usize = THOUGHTS.len();

impl Default for Thoughts {
    fn default() -> Self {
        Self { shown: String::new(), at: [Some(0); THOUGHTS.len() + 1] }
    }
}

impl Thoughts {
    /// Takes a piece of a field, and returns the part that is new.
    fn take<'a>(&mut self, field: usize, piece: &'a str) -> &'a str {
        if let Some(at) = self.at[field] {
            let known = &self.shown[at..];
            if known.starts_with(piece) {
                self.at[field] = Some(at + piece.len());
                return "";
            }
            if let Some(new) = piece.strip_prefix(known) {
                self.shown.push_str(new);
                self.at[field] = Some(self.shown.len());
                return new;
            }
        }
        self.at[field] = None;
        self.shown.push_str(piece);
        piece
    }
}

impl Reply {
    /// A reply of a model that was offered these tools.
    pub(super) fn new(tools: Vec<String>) -> Self {
        Self { tools, ..Self::default() }
    }

    /// Takes the data of one event, or a whole completion.
    pub(super) fn take(&mut self, data: &str, shown: &mut Shown) -> Result<(), Failure> {
        let mut chunk: Map<String, Value> = serde_json::from_str(data).map_err(|_| Failure::Garbled)?;
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            return Err(Failure::reported(error));
        }
        if chunk.get("object").is_some_and(|object| object == "error") {
            return Err(Failure::reported(&Value::Object(chunk)));
        }
        if self.model.is_none() {
            self.model = chunk.get("model").and_then(Value::as_str).map(str::to_owned);
        }
        self.usage = chunk.remove("usage").filter(Value::is_object).or(self.usage.take());
        let choices = match chunk.remove("choices") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(choices)) => choices,
            Some(_) => return Err(Failure::Garbled),
        };
        for choice in choices {
            let Value::Object(choice) = choice else { return Err(Failure::Garbled) };
            // Only one choice was requested.
            if choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0 {
                self.choose(choice, shown)?;
            }
        }
        Ok(())
    }

    fn choose(&mut self, mut choice: Map<String, Value>, shown: &mut Shown) -> Result<(), Failure> {
        let delta = choice.remove("delta").filter(|delta| !delta.is_null()).or_else(|| choice.remove("message"));
        match delta {
            None | Some(Value::Null) => {}
            Some(Value::Object(delta)) => self.grow(delta, shown)?,
            Some(_) => return Err(Failure::Garbled),
        }
        match choice.get("finish_reason").and_then(Value::as_str).map(str::to_ascii_lowercase).as_deref() {
            None | Some("") => {}
            Some("length" | "max_tokens" | "max_output_tokens" | "model_length") => self.finish = Some(Finish::Length),
            Some("content_filter" | "safety") => return Err(Failure::Filtered),
            Some("error" | "network_error" | "insufficient_system_resource") => return Err(Failure::Reported(None)),
            Some(_) => self.finish = self.finish.or(Some(Finish::Whole)),
        }
        Ok(())
    }

    fn grow(&mut self, delta: Map<String, Value>, shown: &mut Shown) -> Result<(), Failure> {
        for (field, value) in delta {
            match (field.as_str(), value) {
                ("role", _) | (_, Value::Null) => {}
                ("tool_calls", Value::Array(pieces)) => {
                    for piece in pieces {
                        self.call(piece)?;
                    }
                }
                ("tool_calls", piece @ Value::Object(_)) => self.call(piece)?,
                ("tool_calls", _) => return Err(Failure::Garbled),
                (_, value) => self.say(&field, value, shown)?,
            }
        }
        let fits = self.text.len() <= MAX_TEXT && self.thoughts.shown.len() <= MAX_TEXT && self.weight <= MAX_SAID;
        if fits { Ok(()) } else { Err(Failure::TooLong) }
    }

    /// Shows what a field adds, and keeps it.
    fn say(&mut self, field: &str, value: Value, shown: &mut Shown) -> Result<(), Failure> {
        self.weight += field.len() + weight(&value);
        match (field, &value) {
            ("content" | "refusal", Value::String(text)) => {
                self.text.push_str(text);
                shown.text.push_str(text);
            }
            ("content", Value::Array(parts)) => {
                for part in parts {
                    let thought = part["type"].as_str().is_some_and(|kind| kind == "thinking" || kind == "reasoning");
                    if thought {
                        shown.reasoning.push_str(self.thoughts.take(IN_CONTENT, &text_of(part)));
                    } else {
                        let text = text_of(part);
                        self.text.push_str(&text);
                        shown.text.push_str(&text);
                    }
                }
            }
            ("content", _) => return Err(Failure::Garbled),
            _ => {
                if let Some(known) = THOUGHTS.iter().position(|known| *known == field) {
                    shown.reasoning.push_str(self.thoughts.take(known, &text_of(&value)));
                }
            }
        }
        match self.said.get_mut(field) {
            Some(old) => join(old, value, field),
            None => {
                self.said.insert(field.to_owned(), value);
            }
        }
        Ok(())
    }

    /// Adds a piece to its call: the last one whose index and id match, where a missing index or id matches any call.
    /// Some servers give all calls the same index. A piece that begins a call while that one is complete starts a new
    /// call.
    fn call(&mut self, piece: Value) -> Result<(), Failure> {
        let Value::Object(mut piece) = piece else { return Err(Failure::Garbled) };
        let index = piece.remove("index").and_then(|index| index.as_u64());
        let id = word(piece.remove("id"));
        piece.remove("type");
        let mut function = match piece.remove("function") {
            Some(Value::Object(function)) => function,
            _ => Map::new(),
        };
        let name = word(function.remove("name"));
        let arguments = match function.remove("arguments") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(arguments)) => arguments,
            // Some servers send the arguments as a JSON value instead of a string.
            Some(whole) => whole.to_string(),
        };
        let same = |call: &Call| {
            (index.is_none() || call.index == index) && (id.is_empty() || call.id.is_empty() || call.id == id)
        };
        let at = self.calls.iter().rposition(same);
        let at = at.filter(|at| !self.begins_another(&self.calls[*at], &name, &arguments));
        let at = match at {
            Some(at) => at,
            None if self.calls.len() < MAX_CALLS => {
                self.calls.push(Call { index, ..Call::default() });
                self.calls.len() - 1
            }
            None => return Err(Failure::TooLong),
        };
        self.weight += weight(&Value::Object(piece.clone())) + weight(&Value::Object(function.clone()));
        let call = &mut self.calls[at];
        if call.id.is_empty() {
            call.id = id;
        }
        // Some servers repeat the name in every piece.
        if call.name != name {
            call.name.push_str(&name);
        }
        call.arguments.push_str(&arguments);
        join_all(&mut call.said, piece);
        join_all(&mut call.function, function);
        let fits = call.arguments.len() <= MAX_TEXT && call.name.len() <= MAX_NAME && call.id.len() <= MAX_ID;
        if fits { Ok(()) } else { Err(Failure::TooLong) }
    }

    /// Whether a piece with this name cannot belong to `call`: the call's arguments are complete and the piece has
    /// more, or the call has the full name of another tool.
    fn begins_another(&self, call: &Call, name: &str, arguments: &str) -> bool {
        if name.is_empty() || call.name.is_empty() {
            return false;
        }
        let renamed = call.name != name && self.tools.contains(&call.name);
        renamed || (!arguments.trim().is_empty() && is_whole(&call.arguments))
    }

    /// Handles `[DONE]`, the server's statement that the reply is complete. Many servers do not say why the model
    /// stopped; then text, or complete calls, are the reply. Only `[DONE]` allows that, because a stream that just ends
    /// may have been cut. Returns false if there is no reply, or only part of one.
    pub(super) fn is_done(&mut self) -> bool {
        let has_something = !self.text.is_empty() || !self.calls.is_empty();
        if self.finish.is_none() && has_something && self.calls.iter().all(Call::is_whole) {
            self.finish = Some(Finish::Whole);
        }
        self.finish.is_some()
    }

    /// Gives every call a unique id, and returns the model's message for the next request.
    pub(super) fn message(&mut self) -> Value {
        for at in 0..self.calls.len() {
            let taken = |id: &str| self.calls[..at].iter().any(|call| call.id == id);
            if self.calls[at].id.is_empty() || taken(&self.calls[at].id) {
                let numbers = at..at + MAX_CALLS + 1;
                let id = numbers.map(|number| format!("call_{number}")).find(|id| !taken(id));
                self.calls[at].id = id.unwrap_or_default();
            }
        }
        let calls = self.calls.iter().map(|call| {
            // A server reads the arguments too, and may refuse the conversation because of its own model's output.
            let arguments = if is_whole(&call.arguments) { call.arguments.as_str() } else { "{}" };
            let mut function = call.function.clone();
            function.insert("name".to_owned(), call.name.as_str().into());
            function.insert("arguments".to_owned(), arguments.into());
            let mut said = call.said.clone();
            said.insert("id".to_owned(), call.id.as_str().into());
            said.insert("type".to_owned(), "function".into());
            said.insert("function".to_owned(), function.into());
            Value::Object(said)
        });
        let calls: Vec<Value> = calls.collect();
        let mut message = self.said.clone();
        message.insert("role".to_owned(), "assistant".into());
        let content = message.entry("content").or_insert(Value::Null);
        if *content == json!("") {
            *content = Value::Null;
        }
        message.insert("tool_calls".to_owned(), calls.into());
        Value::Object(message)
    }
}

impl Call {
    fn is_whole(&self) -> bool {
        !self.name.is_empty() && self.parsed().is_some()
    }

    /// The arguments, if they are an object, or an object that the model has encoded as a string.
    pub(super) fn parsed(&self) -> Option<Value> {
        let text = if self.arguments.trim().is_empty() { "{}" } else { &self.arguments };
        match serde_json::from_str::<Value>(text).ok()? {
            Value::Null => Some(json!({})),
            Value::String(inner) => serde_json::from_str(&inner).ok().filter(Value::is_object),
            value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Some(value).filter(Value::is_object)
            }
        }
    }
}

fn join_all(old: &mut Map<String, Value>, new: Map<String, Value>) {
    for (field, value) in new {
        match old.get_mut(&field) {
            Some(old) => join(old, value, &field),
            None => {
                old.insert(field, value);
            }
        }
    }
}

/// A name or an id. Some servers send it as a number.
fn word(value: Option<Value>) -> String {
    match value {
        Some(Value::String(text)) => text,
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// Whether these are complete arguments, an object.
fn is_whole(arguments: &str) -> bool {
    arguments.trim_end().ends_with('}') && serde_json::from_str::<Map<String, Value>>(arguments).is_ok()
}

/// The text of a part, or of parts: a string, or the contents of the fields that hold text.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(text_of).collect(),
        Value::Object(part) => {
            let texts = ["text", "thinking", "reasoning", "summary", "content"];
            texts.iter().find_map(|field| part.get(*field)).map(text_of).unwrap_or_default()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
    }
}
