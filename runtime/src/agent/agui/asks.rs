//! Translates a server's interrupts and unanswered calls to a request for the user, and the user's reply to the
//! server's input.
//!
//! | at the server | the ask |
//! | --- | --- |
//! | an interrupt with a `toolCallId` | `{id, kind: "approval", message, call_id, tool, arguments, schema, reason}` |
//! | any other interrupt | the same of the kind `question`, without the call |
//! | a call of a tool of the front end, without a result | `{id: its toolCallId, kind: "tool", tool, arguments}` |
//!
//! Members without a value are left out; `expires_at` and `metadata` are added where the interrupt has them. A reply is
//! `{"answers": {id: answer}}`. An interrupt without an answer is cancelled, and so are all interrupts if the reply has
//! no readable answers: nothing is approved by accident.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::ToolId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::reading::result_of;
use crate::agent::{Paused, RemoteCall, Step, ToolCall, Turn, tool_named};

/// The most bytes of a request.
pub(super) const MAX_REQUEST: usize = 256 << 10;
/// The result of a tool that the front end has not run.
const NO_ANSWER: &str = "no answer";

/// Why an outcome is not valid, for the operator.
type Wrong = String;

/// An interrupt, as its server sends it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Interrupt {
    id: String,
    reason: Option<String>,
    message: Option<String>,
    tool_call_id: Option<String>,
    response_schema: Option<Value>,
    expires_at: Option<String>,
    metadata: Option<Value>,
}

/// The interrupts of an outcome.
pub(super) fn interrupts(outcome: Option<&Value>) -> Result<Vec<Interrupt>, Wrong> {
    let listed = outcome.and_then(|outcome| outcome.get("interrupts")).and_then(Value::as_array);
    let listed = listed.filter(|listed| !listed.is_empty()).ok_or("the outcome has no interrupts")?;
    let read = |interrupt: &Value| Interrupt::deserialize(interrupt).map_err(|error| format!("an interrupt: {error}"));
    listed.iter().map(read).collect()
}

/// The request of a run that waits for these interrupts or for the open calls of these tools; `None` if there are none.
pub(super) fn request(
    interrupts: Vec<Interrupt>,
    open: &[&RemoteCall],
    front_end: &BTreeSet<String>,
) -> Result<Option<Value>, Wrong> {
    let interrupted: BTreeSet<&str> =
        interrupts.iter().filter_map(|interrupt| interrupt.tool_call_id.as_deref()).collect();
    let is_awaited = |call: &&&RemoteCall| front_end.contains(&call.name) && !interrupted.contains(&*call.call_id);
    let tools: Vec<Value> = open
        .iter()
        .filter(is_awaited)
        .map(|call| json!({ "id": call.call_id, "kind": "tool", "tool": call.name, "arguments": call.arguments }))
        .collect();
    let asks: Vec<Value> = interrupts.into_iter().map(|interrupt| ask(interrupt, open)).chain(tools).collect();
    let mut ids = BTreeSet::new();
    if let Some(twice) = asks.iter().find(|ask| !ids.insert(ask["id"].as_str())) {
        return Err(format!("the run waits for {} twice", twice["id"]));
    }
    if asks.is_empty() {
        return Ok(None);
    }
    let mut messages = asks.iter().filter_map(|ask| ask.get("message")).cloned();
    let mut request = json!({});
    if let (Some(message), None) = (messages.next(), messages.next()) {
        request["message"] = message;
    }
    request["asks"] = asks.into();
    Ok(Some(request))
}

fn ask(interrupt: Interrupt, open: &[&RemoteCall]) -> Value {
    let Interrupt { id, reason, message, tool_call_id, response_schema, expires_at, metadata } = interrupt;
    let call = open.iter().find(|call| Some(&call.call_id) == tool_call_id.as_ref());
    let kind = if tool_call_id.is_some() { "approval" } else { "question" };
    let members = [
        ("id", Some(id.into())),
        ("kind", Some(kind.into())),
        ("message", message.map(Value::String)),
        ("call_id", tool_call_id.map(Value::String)),
        ("tool", call.map(|call| call.name.clone().into())),
        ("arguments", call.map(|call| call.arguments.clone())),
        ("schema", response_schema),
        ("reason", reason.map(Value::String)),
        ("expires_at", expires_at.map(Value::String)),
        ("metadata", metadata),
    ];
    let given = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}

/// The user's reply to a request.
#[derive(Debug, PartialEq)]
pub(super) struct Replied {
    /// The answer to each interrupt, by its id, in the order of the request.
    interrupts: Vec<(String, Option<Value>)>,
    /// The results of the front end's tools, by the ids of the calls.
    tools: BTreeMap<String, Option<Value>>,
}

impl Replied {
    pub(super) fn of(paused: &Paused) -> Self {
        #[derive(Deserialize)]
        struct Request {
            #[serde(default)]
            asks: Vec<Ask>,
        }
        #[derive(Deserialize)]
        struct Ask {
            id: String,
            kind: String,
        }
        #[derive(Deserialize)]
        struct Reply {
            answers: Map<String, Value>,
        }
        let asks = serde_json::from_str::<Request>(paused.request.get()).map(|request| request.asks);
        let reply = serde_json::from_str::<Reply>(paused.reply.get());
        let mut answers = reply.map(|reply| reply.answers).unwrap_or_default();
        let mut replied = Self { interrupts: Vec::new(), tools: BTreeMap::new() };
        for Ask { id, kind } in asks.unwrap_or_default() {
            let answer = answers.remove(&id).filter(|answer| !answer.is_null());
            match kind.as_str() {
                "tool" => drop(replied.tools.insert(id, answer.map(result))),
                _ => replied.interrupts.push((id, answer)),
            }
        }
        replied
    }

    /// The field `resume` of the next request, if there is something to say in it.
    pub(super) fn resume(&self) -> Option<Value> {
        let entry = |(id, answer): &(String, Option<Value>)| match answer {
            Some(payload) => json!({ "interruptId": id, "status": "resolved", "payload": payload }),
            None => json!({ "interruptId": id, "status": "cancelled" }),
        };
        (!self.interrupts.is_empty()).then(|| self.interrupts.iter().map(entry).collect())
    }

    /// Closes the calls of a turn that the reply answers, and returns them with their results.
    pub(super) fn close(&self, turn: &mut Turn) -> Vec<(ToolId, String, Result<Value, &'static str>)> {
        let mut closed = Vec::new();
        for (tool, call) in open_calls(turn) {
            let Some(answer) = call.call_id.as_ref().and_then(|id| self.tools.get(id)) else { continue };
            let result = answer.clone().map(result_of).ok_or(NO_ANSWER);
            call.result = Some(match answer {
                Some(answer) => Ok(answer.to_string()),
                None => Err(NO_ANSWER.to_owned()),
            });
            closed.push((tool, call.name.clone(), result));
        }
        closed
    }
}

/// The result of a tool, as people give it in the chat page (`{"result": …}`) or as it is.
fn result(answer: Value) -> Value {
    let alone = answer.as_object().filter(|members| members.len() == 1).and_then(|members| members.get("result"));
    alone.cloned().unwrap_or(answer)
}

/// The result of the run's earlier requests.
#[derive(Debug)]
pub(super) struct Earlier {
    /// The calls whose results are awaited.
    pub(super) open: Vec<(ToolId, RemoteCall)>,
    /// What it has said.
    pub(super) said: Vec<String>,
}

impl Earlier {
    pub(super) fn of(turn: &mut Turn) -> Self {
        let open = open_calls(turn).filter_map(|(tool, ToolCall { call_id, name, arguments, .. })| {
            let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
            Some((tool, RemoteCall { call_id: call_id.clone()?, name: name.clone(), arguments }))
        });
        let open = open.collect();
        let said = turn.steps.iter().filter_map(|step| match step {
            Step::Text(text) => Some(text.clone()),
            Step::Tool(_) | Step::Asked(_) => None,
        });
        Self { open, said: said.collect() }
    }
}

/// The calls without a result.
fn open_calls(turn: &mut Turn) -> impl Iterator<Item = (ToolId, &mut ToolCall)> {
    turn.steps.iter_mut().filter_map(|step| match step {
        Step::Tool(call) if call.result.is_none() => Some((tool_named(&call.id)?, call)),
        Step::Tool(_) | Step::Text(_) | Step::Asked(_) => None,
    })
}
