//! A pure translation of AG-UI's events into the steps of a run.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Config;
use super::asks::{self, Earlier};
use super::failure::Failure;
use super::steps::{CallNumber, Steps};
use crate::agent::RemoteCall;
use crate::agent::http::{self, MAX_LOGGED, MAX_RESULT, head};

/// The most bytes of a tool call's arguments.
const MAX_ARGUMENTS: usize = 256 << 10;
/// The most bytes of an event that is passed on. Of a longer one, only its type and its length are passed on.
const MAX_PASSED: usize = 64 << 10;

/// The separator of two messages of an answer.
const BETWEEN: &str = "\n\n";

/// How far a run is at its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Awaited,
    Running,
    Finished,
}

/// What a streamed message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Author {
    /// The agent: its text is the answer.
    Agent,
    /// Another role, whose text the user knows or need not see.
    Other,
}

/// A tool call.
#[derive(Debug)]
enum Call {
    /// Its arguments are arriving.
    Growing { name: String, arguments: String, number: Option<CallNumber> },
    /// It was made, and its result is awaited.
    Open { number: CallNumber, call: RemoteCall },
    /// It was made before the run paused, and its result is awaited. The server may announce it again.
    Earlier { number: CallNumber, call: RemoteCall },
    /// Its result has arrived.
    Done,
}

/// The message or call that `…_CHUNK` events continue.
#[derive(Debug)]
enum Chunked {
    Text(String),
    Call(String),
}

/// The outcome of a run at its agent.
#[derive(Debug)]
pub(super) enum Outcome {
    /// An answer: the `data` of `agent_completed`.
    Answered(Value),
    /// It waits for the user: the `request` of `agent_paused`.
    Asked(Value),
}

/// The events of one run, as far as they have been read.
#[derive(Debug)]
pub(super) struct Reading {
    phase: Phase,
    /// The tools that the front end runs.
    front_end: BTreeSet<String>,
    texts: BTreeMap<String, Author>,
    calls: BTreeMap<String, Call>,
    chunked: Option<Chunked>,
    /// The newest message with text, and that text.
    answer: (String, String),
    /// The answer in the newest `MESSAGES_SNAPSHOT`, for servers that do not stream it.
    snapshot: Option<String>,
    /// The text from before the pause, which a snapshot repeats.
    said: Vec<String>,
    /// The other content of `RUN_FINISHED`, beside the answer.
    end: Map<String, Value>,
    /// What the run waits for.
    request: Option<Value>,
}

/// Why an event may not occur, for the operator.
type Wrong = String;

impl Reading {
    /// A run whose front end has these tools.
    pub(super) fn new(front_end: BTreeSet<String>) -> Self {
        Self {
            phase: Phase::Awaited,
            front_end,
            texts: BTreeMap::new(),
            calls: BTreeMap::new(),
            chunked: None,
            answer: (String::new(), String::new()),
            snapshot: None,
            said: Vec::new(),
            end: Map::new(),
            request: None,
        }
    }

    /// The continuation of a run that paused.
    pub(super) fn resumed(front_end: BTreeSet<String>, earlier: Earlier, steps: &mut Steps) -> Self {
        let Earlier { open, said } = earlier;
        let calls = open.into_iter().map(|(tool, call)| {
            let number = steps.opened(tool);
            (call.call_id.clone(), Call::Earlier { number, call })
        });
        Self { calls: calls.collect(), said, ..Self::new(front_end) }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// Whether a tool runs, so that the agent may be silent for longer.
    pub(super) fn waits_for_tool(&self) -> bool {
        self.calls.values().any(|call| matches!(call, Call::Open { .. } | Call::Earlier { .. }))
    }

    /// Reads the data of one server-sent event. A violation is logged for the operator.
    pub(super) fn take(&mut self, data: &str, config: &Config, steps: &mut Steps) -> Result<(), Failure> {
        let event = match serde_json::from_str::<Map<String, Value>>(data) {
            Ok(event) => event,
            Err(error) => return Err(violation(&format!("an event is not a JSON object: {error}"), config)),
        };
        let Some(kind) = event.get("type").and_then(Value::as_str).map(str::to_owned) else {
            return Err(violation("an event has no `type`", config));
        };
        if kind == "RUN_ERROR" {
            let said = event.get("message").and_then(Value::as_str).unwrap_or_default();
            let said = http::logged(said, config.token.as_ref().map(|token| &token.0));
            tracing::warn!(message = ?said, "the agent's run failed");
            return Err(Failure::reported(event.get("code").and_then(Value::as_str)));
        }
        let read = self.event(&kind, event, config, steps);
        read.unwrap_or_else(|why| Err(violation(&format!("{kind}: {why}"), config)))
    }

    fn event(
        &mut self,
        kind: &str,
        event: Map<String, Value>,
        config: &Config,
        steps: &mut Steps,
    ) -> Result<Result<(), Failure>, Wrong> {
        match (self.phase, kind) {
            (Phase::Finished, _) => return Ok(Ok(())),
            (Phase::Awaited, "RUN_STARTED") => {
                self.phase = Phase::Running;
                return Ok(Ok(()));
            }
            (Phase::Awaited, _) => return Err("the first event must be RUN_STARTED".to_owned()),
            (Phase::Running, "RUN_STARTED") => return Err("the run has already started".to_owned()),
            (Phase::Running, _) => {}
        }
        if !kind.ends_with("_CHUNK") {
            self.end_chunked(steps);
        }
        match kind {
            "RUN_FINISHED" => return self.finish(event, steps),
            "TEXT_MESSAGE_START" => self.begin_text(text(&event, "messageId")?, author(&event))?,
            "TEXT_MESSAGE_CONTENT" => self.say(&text(&event, "messageId")?, &text(&event, "delta")?, steps)?,
            "TEXT_MESSAGE_END" => {
                let message = text(&event, "messageId")?;
                self.texts.remove(&message).ok_or_else(|| format!("message {message:?} has not started"))?;
            }
            "TEXT_MESSAGE_CHUNK" => self.text_chunk(&event, steps)?,
            "THINKING_TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT" | "REASONING_MESSAGE_CHUNK" => {
                steps.say("reasoning", optional(&event, "delta").unwrap_or_default());
            }
            "TOOL_CALL_START" => self.begin_call(text(&event, "toolCallId")?, text(&event, "toolCallName")?)?,
            "TOOL_CALL_ARGS" => return self.grow_call(&text(&event, "toolCallId")?, &text(&event, "delta")?),
            "TOOL_CALL_END" => self.make_call(&text(&event, "toolCallId")?, steps)?,
            "TOOL_CALL_CHUNK" => return self.call_chunk(&event, steps),
            "TOOL_CALL_RESULT" => {
                let content = event.get("content").cloned().ok_or("`content` is missing")?;
                self.end_call(&text(&event, "toolCallId")?, content, steps);
            }
            "MESSAGES_SNAPSHOT" => {
                self.snapshot = newest_answer(&event).or(self.snapshot.take());
                pass_on(kind, event, config, steps);
            }
            _ => pass_on(kind, event, config, steps),
        }
        Ok(Ok(()))
    }

    fn begin_text(&mut self, message: String, author: Author) -> Result<(), Wrong> {
        if self.texts.contains_key(&message) {
            return Err(format!("message {message:?} has already started"));
        }
        self.texts.insert(message, author);
        Ok(())
    }

    fn say(&mut self, message: &str, delta: &str, steps: &mut Steps) -> Result<(), Wrong> {
        let author = *self.texts.get(message).ok_or_else(|| format!("message {message:?} has not started"))?;
        if author == Author::Other || delta.is_empty() {
            return Ok(());
        }
        if self.answer.0 != message {
            if steps.ends_with_text() {
                // Two messages are not one word.
                steps.say("text", BETWEEN);
            }
            self.answer = (message.to_owned(), String::new());
        }
        self.answer.1.push_str(delta);
        steps.say("text", delta);
        Ok(())
    }

    fn text_chunk(&mut self, event: &Map<String, Value>, steps: &mut Steps) -> Result<(), Wrong> {
        let continues = matches!((&self.chunked, optional(event, "messageId")),
            (Some(Chunked::Text(open)), id) if id.is_none_or(|id| id == open));
        if !continues {
            self.end_chunked(steps);
            let message = text(event, "messageId")?;
            self.begin_text(message.clone(), author(event))?;
            self.chunked = Some(Chunked::Text(message));
        }
        let (Some(Chunked::Text(message)), Some(delta)) = (&self.chunked, optional(event, "delta")) else {
            return Ok(());
        };
        let message = message.clone();
        self.say(&message, delta, steps)
    }

    fn call_chunk(&mut self, event: &Map<String, Value>, steps: &mut Steps) -> Result<Result<(), Failure>, Wrong> {
        let continues = matches!((&self.chunked, optional(event, "toolCallId")),
            (Some(Chunked::Call(open)), id) if id.is_none_or(|id| id == open));
        if !continues {
            self.end_chunked(steps);
            let call = text(event, "toolCallId")?;
            self.begin_call(call.clone(), text(event, "toolCallName")?)?;
            self.chunked = Some(Chunked::Call(call));
        }
        let (Some(Chunked::Call(call)), Some(delta)) = (&self.chunked, optional(event, "delta")) else {
            return Ok(Ok(()));
        };
        let call = call.clone();
        self.grow_call(&call, delta)
    }

    /// Ends what `…_CHUNK` events have begun: another event follows them.
    fn end_chunked(&mut self, steps: &mut Steps) {
        match self.chunked.take() {
            None => {}
            Some(Chunked::Text(message)) => {
                self.texts.remove(&message);
            }
            Some(Chunked::Call(call)) => {
                let _ = self.make_call(&call, steps);
            }
        }
    }

    fn begin_call(&mut self, call: String, name: String) -> Result<(), Wrong> {
        let number = match self.calls.get(&call) {
            Some(Call::Growing { .. } | Call::Open { .. }) => {
                return Err(format!("tool call {call:?} has already started"));
            }
            Some(Call::Earlier { number, .. }) => Some(*number),
            Some(Call::Done) | None => None,
        };
        self.calls.insert(call, Call::Growing { name, arguments: String::new(), number });
        Ok(())
    }

    fn grow_call(&mut self, call: &str, delta: &str) -> Result<Result<(), Failure>, Wrong> {
        match self.calls.get_mut(call) {
            Some(Call::Growing { arguments, .. }) if arguments.len() + delta.len() > MAX_ARGUMENTS => {
                return Ok(Err(Failure::TooLong));
            }
            Some(Call::Growing { arguments, .. }) => arguments.push_str(delta),
            Some(Call::Open { .. } | Call::Earlier { .. } | Call::Done) => {
                return Err(format!("the arguments of {call:?} are complete"));
            }
            None => return Err(format!("tool call {call:?} has not started")),
        }
        Ok(Ok(()))
    }

    /// The arguments are complete: the call is made.
    fn make_call(&mut self, call: &str, steps: &mut Steps) -> Result<(), Wrong> {
        match self.calls.get_mut(call) {
            Some(Call::Growing { name, arguments, number }) => {
                let name = core::mem::take(name);
                let made = RemoteCall { call_id: call.to_owned(), name, arguments: parsed(arguments) };
                let number = number.unwrap_or_else(|| steps.open(made.clone()));
                self.calls.insert(call.to_owned(), Call::Open { number, call: made });
                Ok(())
            }
            // Its result has come first.
            Some(Call::Open { .. } | Call::Earlier { .. } | Call::Done) => Ok(()),
            None => Err(format!("tool call {call:?} has not started")),
        }
    }

    /// The result of a call. It says that the arguments are complete, too. The result of a call that is not of this run
    /// is not shown.
    fn end_call(&mut self, call: &str, content: Value, steps: &mut Steps) {
        let _ = self.make_call(call, steps);
        match self.calls.insert(call.to_owned(), Call::Done) {
            Some(Call::Open { number, call } | Call::Earlier { number, call }) => {
                steps.close(number, call.name, result_of(content));
            }
            Some(Call::Growing { .. } | Call::Done) | None => {
                tracing::debug!("the agent sent a result without a call of this run");
            }
        }
    }

    fn finish(&mut self, mut event: Map<String, Value>, steps: &mut Steps) -> Result<Result<(), Failure>, Wrong> {
        let outcome = event.get("outcome");
        let interrupts = match outcome.and_then(|outcome| outcome.get("type")).and_then(Value::as_str) {
            Some("cancelled") => return Ok(Err(Failure::Stopped)),
            Some("interrupt") => asks::interrupts(outcome)?,
            Some(_) | None => Vec::new(),
        };
        let growing = |(id, call): (&String, &Call)| matches!(call, Call::Growing { .. }).then(|| id.clone());
        let growing: Vec<String> = self.calls.iter().filter_map(growing).collect();
        if let Some(request) = asks::request(interrupts, &self.open_calls(), &self.front_end)? {
            if let Some(call) = growing.first() {
                return Err(format!("the run waits, and the arguments of {call:?} are not complete"));
            }
            if request.to_string().len() > asks::MAX_REQUEST {
                return Ok(Err(Failure::TooLong));
            }
            self.request = Some(request);
        }
        self.phase = Phase::Finished;
        for call in growing {
            // The end of the run closes it as abandoned.
            let _ = self.make_call(&call, steps);
        }
        if self.answer.1.is_empty()
            && let Some(answer) = self.snapshot.take().filter(|answer| !self.has_said(answer))
        {
            steps.say("text", &answer);
            self.answer.1 = answer;
        }
        for field in ["result", "usage"] {
            let value = event.remove(field).filter(|value| !value.is_null());
            if let Some(value) = value.filter(|value| value.to_string().len() <= MAX_PASSED) {
                self.end.insert(field.to_owned(), value);
            }
        }
        Ok(Ok(()))
    }

    /// Whether the run has said this before it paused.
    fn has_said(&self, answer: &str) -> bool {
        let ends =
            |text: &String| text.strip_suffix(answer).is_some_and(|rest| rest.is_empty() || rest.ends_with(BETWEEN));
        self.said.iter().any(ends)
    }

    /// The calls without a result, in the order in which they were made.
    fn open_calls(&self) -> Vec<&RemoteCall> {
        let open = self.calls.values().filter_map(|call| match call {
            Call::Open { number, call } | Call::Earlier { number, call } => Some((*number, call)),
            Call::Growing { .. } | Call::Done => None,
        });
        open.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// The outcome of the run.
    pub(super) fn into_outcome(self) -> Outcome {
        if let Some(request) = self.request {
            return Outcome::Asked(request);
        }
        let mut data = self.end;
        data.insert("text".to_owned(), self.answer.1.into());
        Outcome::Answered(Value::Object(data))
    }
}

/// Logs a violation of the protocol for the operator.
fn violation(why: &str, config: &Config) -> Failure {
    let why = http::logged(why, config.token.as_ref().map(|token| &token.0));
    tracing::warn!(why, "the agent's server violates AG-UI");
    Failure::Violation
}

/// Passes an event on, if the configuration says so.
fn pass_on(kind: &str, mut event: Map<String, Value>, config: &Config, steps: &mut Steps) {
    if !config.pass_on.iter().any(|passed| passed == kind) {
        return;
    }
    event.remove("rawEvent");
    let event = Value::Object(event);
    let length = event.to_string().len();
    let passed = if length <= MAX_PASSED { event } else { json!({ "type": kind, "bytes": length }) };
    steps.pass(json!({ "agui": passed }));
}

fn optional<'a>(event: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    event.get(field).and_then(Value::as_str)
}

fn text(event: &Map<String, Value>, field: &str) -> Result<String, Wrong> {
    optional(event, field).map(str::to_owned).ok_or_else(|| format!("`{field}` is missing"))
}

fn author(event: &Map<String, Value>) -> Author {
    match optional(event, "role") {
        None | Some("assistant") => Author::Agent,
        Some(_) => Author::Other,
    }
}

/// The arguments, if they are a JSON object.
fn parsed(arguments: &str) -> Value {
    let text = if arguments.trim().is_empty() { "{}" } else { arguments };
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => value,
        Ok(_) | Err(_) => json!({ "unreadable": head(arguments, MAX_LOGGED) }),
    }
}

/// A tool's result: JSON where the text is an object or a list, otherwise the text.
pub(super) fn result_of(content: Value) -> Value {
    let Value::String(text) = content else {
        let size = content.to_string().len();
        return if size <= MAX_RESULT { content } else { json!({ "bytes": size }) };
    };
    if text.len() > MAX_RESULT {
        return format!("{}…", head(&text, MAX_RESULT)).into();
    }
    match serde_json::from_str::<Value>(&text) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => value,
        Ok(_) | Err(_) => text.into(),
    }
}

/// The text of the last message of a snapshot, if the agent said it.
fn newest_answer(event: &Map<String, Value>) -> Option<String> {
    let last = event.get("messages")?.as_array()?.last()?;
    let said = last.get("role")?.as_str()? == "assistant";
    last.get("content")?.as_str().filter(|text| said && !text.is_empty()).map(str::to_owned)
}
