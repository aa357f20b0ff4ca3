//! From the events of a run to those of AG-UI: pure, one frame at a time.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::answers::{Answers, Move, Pause};
use super::input::{Asked, Held, result_id};

/// The part of the answer that grows.
#[derive(Debug)]
struct Open {
    part: u64,
    kind: Kind,
}

/// What a part is in AG-UI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Reasoning,
}

/// Whether a run is read for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// The request has begun it.
    First,
    /// It was begun earlier.
    Again,
}

/// The next step once the stream has been read up to its head at the time of opening.
#[derive(Debug)]
pub(super) enum Settled {
    /// Nothing yet.
    Nothing,
    /// This frame must be sent, and the stream goes on.
    Reply(Value),
    /// The run waits: these events, behind its pause, end the stream.
    Waits(Vec<Value>),
    /// These events end the stream.
    Refused(Vec<Value>),
}

/// Translates the frames of one run.
#[derive(Debug)]
pub(super) struct Translator {
    thread: String,
    /// The run's id as the client named it.
    named: String,
    /// The run's id on the wire.
    run: String,
    reading: Reading,
    held: Held,
    answers: Answers,
    knows_cancelled: bool,
    /// The tool calls as the client knows them, by the agent's ids and by those on the wire.
    calls: BTreeMap<String, String>,
    /// The ids of all that the run has asked for.
    asked: BTreeSet<String>,
    pause: Option<Pause>,
    open: Option<Open>,
    /// The text of the newest part, and whether there was one.
    newest: String,
    has_text: bool,
    steps: BTreeSet<String>,
    is_over: bool,
}

impl Translator {
    pub(super) fn new(asked: &Asked, run: &str, reading: Reading) -> Self {
        Self {
            thread: asked.thread.clone(),
            named: asked.run.clone(),
            run: run.to_owned(),
            reading,
            held: asked.held.clone(),
            answers: asked.answers.clone(),
            calls: BTreeMap::new(),
            asked: BTreeSet::new(),
            pause: None,
            knows_cancelled: asked.knows_cancelled,
            open: None,
            newest: String::new(),
            has_text: false,
            steps: BTreeSet::new(),
            is_over: false,
        }
    }

    /// Whether the run has ended.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// The run's id on the wire.
    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// The events that a frame becomes, in order. None for a frame of another run.
    pub(super) fn take(&mut self, frame: &Value) -> Vec<Value> {
        let mut events = Vec::new();
        let kind = frame["type"].as_str().unwrap_or_default();
        let is_own = frame["run_id"] == self.run.as_str();
        let is_deleted = kind == "thread_deleted" && frame["thread_id"] == self.thread.as_str();
        if self.is_over || !(is_own || is_deleted) {
            return events;
        }
        let data = &frame["data"];
        match kind {
            "message_received" => self.begin(data, &mut events),
            "agent_delta" => self.grow(data, &mut events),
            "agent_thinking" => self.think(frame, &mut events),
            "tool_executing" => self.call(data, &mut events),
            "tool_completed" => self.result(data, &mut events),
            "agent_paused" => {
                let pause = Pause::of(data, &self.run, &self.calls);
                self.asked.extend(pause.ids());
                self.pause = Some(pause);
            }
            "agent_resumed" => self.pause = None,
            "agent_completed" => self.complete(data, &mut events),
            "agent_error" => self.fail(data, &mut events),
            "thread_deleted" => self.error("deleted", "The conversation was deleted.", &mut events),
            _ => {}
        }
        events
    }

    /// The client knows of nothing newer than the frames that were taken. Decides the next step, from the answers and
    /// from a pause that no reply has ended. The events come after that pause.
    pub(super) fn settle(&mut self) -> Settled {
        if self.is_over {
            return Settled::Nothing;
        }
        let mut events = Vec::new();
        if self.refuse_unknown(&mut events) {
            return Settled::Refused(events);
        }
        match self.pause.as_mut().map_or(Move::Wait, |pause| pause.decide(&self.run, &self.answers)) {
            Move::Wait => Settled::Nothing,
            Move::Reply(frame) => Settled::Reply(frame),
            Move::End => {
                self.wait(&mut events);
                Settled::Waits(events)
            }
            Move::Refuse => {
                self.error("incomplete", "The request does not answer all that the agent asks for.", &mut events);
                Settled::Refused(events)
            }
        }
    }

    /// The reply to the pause was refused. If another came first, or the run has ended, the stream tells.
    pub(super) fn refused(&mut self, code: &str, message: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let is_told = matches!(code, "not_paused" | "unknown_run");
        if self.pause.as_ref().is_some_and(Pause::has_reply) && !is_told {
            self.error(code, message, &mut events);
        }
        events
    }

    /// Whether the request answers something that the run has never asked for. That ends the stream.
    fn refuse_unknown(&mut self, events: &mut Vec<Value>) -> bool {
        let Some(id) = self.answers.unknown(&self.asked) else { return false };
        let message = format!("The run does not wait for an answer to {id:?}.");
        self.error("not_paused", &message, events);
        true
    }

    /// The run waits for its user.
    fn wait(&mut self, events: &mut Vec<Value>) {
        self.finish_parts(events);
        let mut end = json!({ "type": "RUN_FINISHED", "threadId": self.thread, "runId": self.named });
        let interrupts = self.pause.as_ref().map(Pause::interrupts).unwrap_or_default();
        if !interrupts.is_empty() {
            end["outcome"] = json!({ "type": "interrupt", "interrupts": interrupts });
        }
        events.push(end);
        self.is_over = true;
    }

    /// Ends everything that may not be open at the end of a run.
    fn finish_parts(&mut self, events: &mut Vec<Value>) {
        self.end_part(events);
        for step in core::mem::take(&mut self.steps) {
            events.push(json!({ "type": "STEP_FINISHED", "stepName": step }));
        }
    }

    /// Forgets the client's part of the messages, because its place tells that.
    pub(super) fn forget_held(&mut self) {
        self.held = Held::default();
    }

    /// The run cannot be read further, although it may go on.
    pub(super) fn lose(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        self.error("reset", "Some events of this run can no longer be read.", &mut events);
        events
    }

    fn begin(&self, data: &Value, events: &mut Vec<Value>) {
        events.push(json!({ "type": "RUN_STARTED", "threadId": self.thread, "runId": self.named }));
        let state = &data["payload"]["agui"]["state"];
        if self.reading == Reading::Again && !state.is_null() {
            // Changes of the state follow again.
            events.push(json!({ "type": "STATE_SNAPSHOT", "snapshot": state }));
        }
    }

    fn grow(&mut self, data: &Value, events: &mut Vec<Value>) {
        let (Some(part), Some(text)) = (data["part"].as_u64(), data["text"].as_str()) else { return };
        let kind = match data["kind"].as_str() {
            Some("text") => Kind::Text,
            Some("reasoning") => Kind::Reasoning,
            _ => {
                self.end_part(events);
                events.push(json!({ "type": "CUSTOM", "name": "agent_delta", "value": data }));
                return;
            }
        };
        let id = self.id(part);
        if self.open.as_ref().is_none_or(|open| open.part != part) {
            self.end_part(events);
            self.open = Some(Open { part, kind });
            match kind {
                Kind::Text => {
                    self.newest.clear();
                    events.push(json!({ "type": "TEXT_MESSAGE_START", "messageId": id, "role": "assistant" }));
                }
                Kind::Reasoning => {
                    events.push(json!({ "type": "REASONING_START", "messageId": id }));
                    events.push(json!({ "type": "REASONING_MESSAGE_START", "messageId": id, "role": "reasoning" }));
                }
            }
        }
        if kind == Kind::Text {
            self.newest.push_str(text);
            self.has_text = true;
        }
        let rest = self.not_held(&id, text);
        if !rest.is_empty() {
            events.push(content(kind, &id, &rest));
        }
    }

    /// The part of a piece that the client does not have.
    fn not_held(&mut self, id: &str, piece: &str) -> String {
        let Some(held) = self.held.texts.get_mut(id) else { return piece.to_owned() };
        if let Some(rest) = held.strip_prefix(piece) {
            *held = rest.to_owned();
            return String::new();
        }
        let rest = piece.strip_prefix(held.as_str()).unwrap_or(piece).to_owned();
        self.held.texts.remove(id);
        rest
    }

    fn end_part(&mut self, events: &mut Vec<Value>) {
        let Some(Open { part, kind }) = self.open.take() else { return };
        let id = self.id(part);
        match kind {
            Kind::Text => events.push(json!({ "type": "TEXT_MESSAGE_END", "messageId": id })),
            Kind::Reasoning => {
                events.push(json!({ "type": "REASONING_MESSAGE_END", "messageId": id }));
                events.push(json!({ "type": "REASONING_END", "messageId": id }));
            }
        }
    }

    fn think(&mut self, frame: &Value, events: &mut Vec<Value>) {
        self.end_part(events);
        let data = &frame["data"];
        if let Some(passed) = data.get("agui").filter(|event| event.is_object()) {
            events.extend(self.passed_on(passed));
        } else if let Some(text) = data["text"].as_str() {
            let id = format!("{}-at-{}", self.run, frame["offset"]);
            if self.not_held(&id, text).is_empty() {
                return;
            }
            events.push(json!({ "type": "REASONING_START", "messageId": id }));
            events.push(json!({ "type": "REASONING_MESSAGE_START", "messageId": id, "role": "reasoning" }));
            events.push(content(Kind::Reasoning, &id, text));
            events.push(json!({ "type": "REASONING_MESSAGE_END", "messageId": id }));
            events.push(json!({ "type": "REASONING_END", "messageId": id }));
        } else {
            events.push(json!({ "type": "CUSTOM", "name": "agent_thinking", "value": data }));
        }
    }

    /// An event of an AG-UI agent. Those that the client could not fit into this run become `CUSTOM`.
    fn passed_on(&mut self, event: &Value) -> Option<Value> {
        let kind = event["type"].as_str().unwrap_or_default();
        let custom = || json!({ "type": "CUSTOM", "name": kind, "value": event });
        let has = |fields: &[&str]| fields.iter().all(|field| event.get(*field).is_some_and(|value| !value.is_null()));
        let step = event["stepName"].as_str().unwrap_or_default();
        let fits = match kind {
            "STATE_SNAPSHOT" => event.get("snapshot").is_some(),
            "STATE_DELTA" => event["delta"].is_array(),
            "ACTIVITY_SNAPSHOT" => has(&["messageId", "activityType", "content"]),
            "ACTIVITY_DELTA" => has(&["messageId", "activityType"]) && event["patch"].is_array(),
            "CUSTOM" => has(&["name"]) && event.get("value").is_some(),
            "RAW" => event.get("event").is_some(),
            "STEP_STARTED" if !self.steps.insert(step.to_owned()) => return None,
            "STEP_FINISHED" if !self.steps.remove(step) => return None,
            "STEP_STARTED" | "STEP_FINISHED" => has(&["stepName"]),
            // The messages of this stream have other ids.
            "MESSAGES_SNAPSHOT" => return None,
            _ => false,
        };
        if !fits {
            return Some(custom());
        }
        let mut event = event.clone();
        if let Some(fields) = event.as_object_mut() {
            // The subagents are not known to this run.
            fields.remove("subagentRunId");
        }
        Some(event)
    }

    fn call(&mut self, data: &Value, events: &mut Vec<Value>) {
        self.end_part(events);
        let Some(tool) = data["tool_id"].as_str() else { return };
        let call = format!("{}-{tool}", self.run);
        for id in [Some(tool), data["call_id"].as_str()].into_iter().flatten() {
            self.calls.insert(id.to_owned(), call.clone());
        }
        if self.held.calls.contains(&call) {
            return;
        }
        let name = data["name"].as_str().unwrap_or_default();
        events.push(json!({ "type": "TOOL_CALL_START", "toolCallId": call, "toolCallName": name }));
        let arguments = if data["arguments"].is_null() { "{}".to_owned() } else { data["arguments"].to_string() };
        events.push(json!({ "type": "TOOL_CALL_ARGS", "toolCallId": call, "delta": arguments }));
        events.push(json!({ "type": "TOOL_CALL_END", "toolCallId": call }));
    }

    fn result(&mut self, data: &Value, events: &mut Vec<Value>) {
        self.end_part(events);
        let Some(tool) = data["tool_id"].as_str() else { return };
        let call = format!("{}-{tool}", self.run);
        let id = result_id(&call);
        if self.held.results.contains(&id) {
            return;
        }
        let result = match data.get("result") {
            Some(Value::String(text)) => text.clone(),
            Some(result) if !result.is_null() => result.to_string(),
            _ => json!({ "status": data["status"], "error": data["error"] }).to_string(),
        };
        let result = json!({
            "type": "TOOL_CALL_RESULT", "messageId": id, "toolCallId": call, "content": result, "role": "tool",
        });
        events.push(result);
    }

    fn complete(&mut self, data: &Value, events: &mut Vec<Value>) {
        let text = data["text"].as_str().unwrap_or_default();
        if !self.has_text && !text.is_empty() {
            // The agent has said its answer only at the end.
            self.end_part(events);
            self.grow(&json!({ "part": 0, "kind": "text", "text": text }), events);
        } else if let Some(Open { part, kind: Kind::Text }) = self.open
            && let Some(rest) = text.strip_prefix(self.newest.as_str()).filter(|rest| !rest.is_empty())
        {
            // The end of the answer was left out on the way.
            self.grow(&json!({ "part": part, "kind": "text", "text": rest }), events);
        }
        self.finish_parts(events);
        if self.refuse_unknown(events) {
            return;
        }
        self.is_over = true;
        let end = json!({ "type": "RUN_FINISHED", "threadId": self.thread, "runId": self.named, "result": data });
        events.push(end);
    }

    fn fail(&mut self, data: &Value, events: &mut Vec<Value>) {
        let reason = data["reason"].as_str().unwrap_or("failed");
        if self.refuse_unknown(events) {
            return;
        }
        if reason == "cancelled" && self.knows_cancelled {
            self.finish_parts(events);
            self.is_over = true;
            events.push(json!({
                "type": "RUN_FINISHED", "threadId": self.thread, "runId": self.named, "outcome": { "type": "cancelled" },
            }));
            return;
        }
        let code = data["code"].as_str().unwrap_or(reason).to_owned();
        self.error(&code, data["message"].as_str().unwrap_or("The agent could not answer."), events);
    }

    fn error(&mut self, code: &str, message: &str, events: &mut Vec<Value>) {
        self.end_part(events);
        self.is_over = true;
        events.push(json!({ "type": "RUN_ERROR", "message": message, "code": code }));
    }

    /// The id of a part's message.
    fn id(&self, part: u64) -> String {
        format!("{}-{part}", self.run)
    }
}

fn content(kind: Kind, id: &str, delta: &str) -> Value {
    let kind = match kind {
        Kind::Text => "TEXT_MESSAGE_CONTENT",
        Kind::Reasoning => "REASONING_MESSAGE_CONTENT",
    };
    json!({ "type": kind, "messageId": id, "delta": delta })
}
