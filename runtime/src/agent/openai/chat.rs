//! The chat completions protocol: what is sent, and how a reply comes together from its pieces.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Config, Failure};
use crate::agent::tools::Tools;
use crate::agent::{Message, Turn, text_of};

/// The most calls of tools in one reply.
pub(super) const MAX_CALLS: usize = 16;
/// The most bytes of text, of reasoning, or of one call's arguments.
const MAX_TEXT: usize = 1 << 20;
/// The longest name or id of a call, in bytes.
const MAX_NAME: usize = 128;

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

/// The body of a request.
pub(super) fn request(config: &Config, messages: &[Value], tools: &Tools) -> Value {
    let mut body = json!({ "model": config.model, "messages": messages, "stream": true });
    if config.usage {
        body["stream_options"] = json!({ "include_usage": true });
    }
    if let Some(temperature) = config.temperature {
        body["temperature"] = json!(temperature);
    }
    if let Some(most) = config.max_tokens {
        body["max_tokens"] = json!(most);
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
    body
}

/// A call of a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    index: Option<u64>,
    pub(super) id: String,
    pub(super) name: String,
    /// JSON, if the model has done well.
    pub(super) arguments: String,
}

/// Why the model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// It has said everything.
    Whole,
    /// It reached a limit.
    Length,
}

/// A reply as it comes.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) text: String,
    pub(super) calls: Vec<Call>,
    pub(super) finish: Option<Finish>,
    pub(super) model: Option<String>,
    pub(super) usage: Option<Value>,
    reasoned: usize,
}

/// What a chunk has added for the user to see.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) text: String,
    pub(super) reasoning: String,
}

impl Reply {
    /// Takes the data of one event.
    pub(super) fn take(&mut self, data: &str, shown: &mut Shown) -> Result<(), Failure> {
        let chunk: Chunk = serde_json::from_str(data).map_err(|_| Failure::Garbled)?;
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            return Err(Failure::reported(&error));
        }
        self.model = self.model.take().or(chunk.model);
        self.usage = chunk.usage.filter(Value::is_object).or(self.usage.take());
        for choice in chunk.choices.unwrap_or_default() {
            // One answer was asked for.
            if choice.index.unwrap_or(0) == 0 {
                self.choose(choice, shown)?;
            }
        }
        Ok(())
    }

    fn choose(&mut self, choice: Choice, shown: &mut Shown) -> Result<(), Failure> {
        let delta = choice.delta.unwrap_or_default();
        for text in [delta.content, delta.refusal].into_iter().flatten() {
            self.text.push_str(&text);
            shown.text.push_str(&text);
        }
        for text in [delta.reasoning_content, delta.reasoning].into_iter().flatten() {
            self.reasoned += text.len();
            shown.reasoning.push_str(&text);
        }
        if self.text.len() > MAX_TEXT || self.reasoned > MAX_TEXT {
            return Err(Failure::TooLong);
        }
        for piece in delta.tool_calls.into_iter().flatten() {
            self.call(piece)?;
        }
        match choice.finish_reason.as_deref() {
            None | Some("") => {}
            Some("length") => self.finish = Some(Finish::Length),
            Some("content_filter") => return Err(Failure::Filtered),
            Some("error") => return Err(Failure::Reported(None)),
            Some(_) => self.finish = Some(Finish::Whole),
        }
        Ok(())
    }

    /// Adds a piece to the call that it is of: by its index, or by its id where a server numbers all calls alike, or to the
    /// last one where it has neither.
    fn call(&mut self, piece: Piece) -> Result<(), Failure> {
        let id = piece.id.unwrap_or_default();
        let same = |call: &Call| {
            let index = piece.index.is_none() || call.index == piece.index;
            index && (id.is_empty() || call.id.is_empty() || call.id == id)
        };
        let at = match self.calls.iter().rposition(same) {
            Some(at) => at,
            None if self.calls.len() < MAX_CALLS => {
                self.calls.push(Call { index: piece.index, ..Call::default() });
                self.calls.len() - 1
            }
            None => return Err(Failure::TooLong),
        };
        let call = &mut self.calls[at];
        if call.id.is_empty() {
            call.id = id;
        }
        let function = piece.function.unwrap_or_default();
        // Some servers repeat the name with every piece.
        if let Some(name) = function.name
            && call.name != name
        {
            call.name.push_str(&name);
        }
        call.arguments.push_str(&function.arguments.unwrap_or_default());
        let fits = call.arguments.len() <= MAX_TEXT && call.name.len() <= MAX_NAME && call.id.len() <= MAX_NAME;
        if fits { Ok(()) } else { Err(Failure::TooLong) }
    }

    /// Names the calls that the server has not named, and says what the model said, for the next request.
    pub(super) fn message(&mut self) -> Value {
        for (index, call) in self.calls.iter_mut().enumerate() {
            if call.id.is_empty() {
                call.id = format!("call_{index}");
            }
        }
        let calls = self.calls.iter().map(|call| {
            // A server reads them too, and may refuse the conversation because of what it wrote itself.
            let valid = serde_json::from_str::<serde_json::Map<String, Value>>(&call.arguments).is_ok();
            let arguments = if valid { call.arguments.as_str() } else { "{}" };
            json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": arguments } })
        });
        let content = if self.text.is_empty() { Value::Null } else { self.text.as_str().into() };
        json!({ "role": "assistant", "content": content, "tool_calls": calls.collect::<Vec<_>>() })
    }
}

/// One event of the stream. What is absent may also be null.
#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    error: Option<Value>,
    model: Option<String>,
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    index: Option<u64>,
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    tool_calls: Option<Vec<Piece>>,
}

#[derive(Deserialize)]
struct Piece {
    index: Option<u64>,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Default, Deserialize)]
struct Function {
    name: Option<String>,
    arguments: Option<String>,
}
