//! The questions of a paused run to a front end, and the answers of a request: pure.
//!
//! | an ask | is shown as | and answered by |
//! | --- | --- | --- |
//! | of the kind `tool` | the tool call, which the front end runs | a message of the role `tool` with its `toolCallId` |
//! | of another kind | an interrupt | an entry of `resume` with its `interruptId` |
//! | a question without `asks` | an interrupt | the same: a text becomes `{"text": …}` |
//!
//! The ids of interrupts contain the run and the pause, so an answer that is sent again is not taken for one to a later
//! pause. A cancelled entry leaves its ask without an answer.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The answers of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    /// By the ids of interrupts; `None` for one that is cancelled.
    interrupts: BTreeMap<String, Option<Value>>,
    /// By the ids of tool calls.
    tools: BTreeMap<String, Value>,
}

/// An entry of `resume`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResumeEntry {
    interrupt_id: String,
    status: Status,
    #[serde(default)]
    payload: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Status {
    Resolved,
    Cancelled,
}

impl Answers {
    pub(super) fn of(resume: Vec<ResumeEntry>) -> Self {
        let answer = |entry: ResumeEntry| match entry.status {
            Status::Resolved => (entry.interrupt_id, Some(entry.payload)),
            Status::Cancelled => (entry.interrupt_id, None),
        };
        Self { interrupts: resume.into_iter().map(answer).collect(), tools: BTreeMap::new() }
    }

    /// Adds the result of a tool that the front end has run.
    pub(super) fn add(&mut self, call: String, result: Value) {
        self.tools.insert(call, result);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.interrupts.is_empty() && self.tools.is_empty()
    }

    /// Bytes of the answers.
    pub(super) fn size(&self) -> usize {
        let interrupts = self.interrupts.iter().map(|(id, answer)| id.len() + json!(answer).to_string().len());
        let tools = self.tools.iter().map(|(id, answer)| id.len() + answer.to_string().len());
        interrupts.chain(tools).sum()
    }

    /// An id that is none of these.
    pub(super) fn unknown(&self, known: &BTreeSet<String>) -> Option<&str> {
        let ids = self.interrupts.keys().chain(self.tools.keys());
        ids.map(String::as_str).find(|id| !known.contains(*id))
    }

    /// The reply to this pause.
    fn to(&self, pause: &Pause) -> Reading {
        let (mut answers, mut addressed) = (Map::new(), 0);
        for ask in &pause.asks {
            let answer = match &ask.shown {
                Shown::Call => self.tools.get(&ask.id).map(Some),
                Shown::Interrupt(_) => self.interrupts.get(&ask.id).map(Option::as_ref),
            };
            let Some(answer) = answer else { continue };
            addressed += 1;
            match (&ask.name, answer) {
                (_, None) => {}
                (Some(name), Some(answer)) => drop(answers.insert(name.clone(), answer.clone())),
                (None, Some(Value::String(text))) => return Reading::Reply(json!({ "text": text })),
                (None, Some(answer)) => return Reading::Reply(answer.clone()),
            }
        }
        match addressed {
            0 => Reading::Nothing,
            _ if addressed < pause.asks.len() => Reading::Partly,
            _ => Reading::Reply(json!({ "answers": answers })),
        }
    }
}

/// How a request answers a pause.
enum Reading {
    /// Nothing: it was sent for something else.
    Nothing,
    /// Answers to some of its questions.
    Partly,
    /// This, the payload of a reply.
    Reply(Value),
}

/// The reaction to an open pause.
#[derive(Debug)]
pub(super) enum Move {
    /// Nothing.
    Wait,
    /// Send this frame.
    Reply(Value),
    /// End the stream: the run waits.
    End,
    /// End the stream: some questions are not answered.
    Refuse,
}

/// A run that waits.
#[derive(Debug)]
pub(super) struct Pause {
    number: u64,
    asks: Vec<Ask>,
    has_reply: bool,
}

/// An ask, as the front end sees it.
#[derive(Debug)]
struct Ask {
    /// The agent's id for it; `None` for a question without `asks`.
    name: Option<String>,
    /// The id that the front end refers to.
    id: String,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    /// A tool call, which is shown already.
    Call,
    /// An interrupt.
    Interrupt(Value),
}

impl Pause {
    /// Reads the data of an `agent_paused`. `calls` are the ids of the run's tool calls as the front end knows them, by
    /// the agent's.
    pub(super) fn of(data: &Value, run: &str, calls: &BTreeMap<String, String>) -> Self {
        let (number, request) = (data["pause"].as_u64().unwrap_or_default(), &data["request"]);
        let prefix = format!("{run}-p{number}");
        let listed = request["asks"].as_array().filter(|asks| !asks.is_empty());
        let asks = match listed {
            None => vec![question(prefix, request)],
            Some(asks) => asks.iter().map(|ask| Ask::of(ask, &prefix, request, calls)).collect(),
        };
        Self { number, asks, has_reply: false }
    }

    /// The ids that answers may refer to.
    pub(super) fn ids(&self) -> impl Iterator<Item = String> {
        self.asks.iter().map(|ask| ask.id.clone())
    }

    /// The interrupts that are shown in addition to the calls.
    pub(super) fn interrupts(&self) -> Vec<&Value> {
        let interrupts = self.asks.iter().filter_map(|ask| match &ask.shown {
            Shown::Interrupt(interrupt) => Some(interrupt),
            Shown::Call => None,
        });
        interrupts.collect()
    }

    /// Whether the request's reply was sent.
    pub(super) const fn has_reply(&self) -> bool {
        self.has_reply
    }

    /// Decides the reaction, with the request's answers.
    pub(super) fn decide(&mut self, run: &str, answers: &Answers) -> Move {
        if self.has_reply {
            return Move::Wait;
        }
        match answers.to(self) {
            Reading::Nothing => Move::End,
            Reading::Partly => Move::Refuse,
            Reading::Reply(payload) => {
                self.has_reply = true;
                Move::Reply(json!({ "type": "reply", "run_id": run, "pause": self.number, "payload": payload }))
            }
        }
    }
}

impl Ask {
    fn of(ask: &Value, prefix: &str, request: &Value, calls: &BTreeMap<String, String>) -> Self {
        let name = ask["id"].as_str().unwrap_or_default().to_owned();
        let call = ask["call_id"].as_str().or(Some(&name)).and_then(|call| calls.get(call));
        if let (Some("tool"), Some(call)) = (ask["kind"].as_str(), call) {
            return Self { name: Some(name), id: call.clone(), shown: Shown::Call };
        }
        let id = format!("{prefix}-{name}");
        let is_approval = ask["kind"] == "approval";
        let message = ask["message"].as_str().or(request["message"].as_str());
        let message = message.map(str::to_owned).or_else(|| {
            let tool = ask["tool"].as_str()?;
            Some(format!("{tool}({})", ask.get("arguments").unwrap_or(&json!({}))))
        });
        let reason = ask["reason"].as_str().unwrap_or(if is_approval { "tool_call" } else { "input_required" });
        let schema = ask.get("schema").filter(|schema| schema.is_object()).cloned();
        let members = [
            ("message", message.map(Value::String)),
            ("toolCallId", ask.get("call_id").and(call).cloned().map(Value::String)),
            ("responseSchema", schema.or_else(|| is_approval.then(approval))),
            ("expiresAt", ask.get("expires_at").filter(|at| at.is_string()).cloned()),
            ("metadata", ask.get("metadata").filter(|metadata| metadata.is_object()).cloned()),
        ];
        let mut interrupt = json!({ "id": id, "reason": reason });
        for (member, value) in members.into_iter().filter_map(|(member, value)| Some((member, value?))) {
            interrupt[member] = value;
        }
        Self { name: Some(name), id, shown: Shown::Interrupt(interrupt) }
    }
}

/// A question without `asks`.
fn question(id: String, request: &Value) -> Ask {
    let mut interrupt = json!({ "id": id, "reason": "input_required" });
    if let Some(message) = request.get("message").filter(|message| message.is_string()) {
        interrupt["message"] = message.clone();
    }
    Ask { name: None, id, shown: Shown::Interrupt(interrupt) }
}

/// The schema of an answer to an approval.
fn approval() -> Value {
    json!({ "type": "object", "properties": { "approved": { "type": "boolean" } }, "required": ["approved"] })
}
