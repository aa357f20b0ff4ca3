//! A thread's history: its earlier turns, as an agent is given them.
//!
//! A turn is a message and its run. If the run was cancelled, failed or was interrupted, the turn has the output until
//! then, because the user has seen it and may refer to it ("go on").

use lockstep_model::run::{Kind, Reason};
use lockstep_model::{Offset, PartId, RunId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::run::{Newest, SoFar};
use crate::log::Written;
use crate::payload::Delta;
use crate::payload::{Received, Record};

/// One message of a thread and its run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Turn {
    /// The run of the message. It names the turn wherever a name is needed.
    pub run: RunId,
    /// What the user sent: `payload` of the message.
    pub message: Box<RawValue>,
    /// What the agent said and did, in order.
    pub steps: Vec<Step>,
    /// How its run ended; `None` if it is still open.
    pub end: Option<End>,
}

/// Something that an agent did in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It said this: one part of the kind `text`. Reasoning is left out.
    Text(String),
    /// It called a tool.
    Tool(ToolCall),
    /// It asked the user for something.
    Asked(Exchange),
}

/// A question of the agent and its reply, both as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exchange {
    /// What the agent asked for: see [`Run::pause`](super::Run::pause).
    pub request: String,
    /// The user's reply, if there is one.
    pub reply: Option<String>,
}

/// A tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ToolCall {
    /// Its id in the run.
    pub id: String,
    /// Its id at the agent's server, if it has one.
    pub call_id: Option<String>,
    /// The tool's name.
    pub name: String,
    /// The call's arguments, as JSON.
    pub arguments: String,
    /// Its result as JSON, or why it failed; `None` while it executes.
    pub result: Option<Result<String, String>>,
}

impl ToolCall {
    /// A call that executes, with its arguments as JSON.
    #[must_use]
    pub const fn new(id: String, name: String, arguments: String) -> Self {
        Self { id, call_id: None, name, arguments, result: None }
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum End {
    /// With an answer, the `data` of `agent_completed`.
    Completed(Box<RawValue>),
    /// Without one.
    Failed(Reason),
}

impl Turn {
    /// A message without an answer so far.
    #[must_use]
    pub const fn new(run: RunId, message: Box<RawValue>) -> Self {
        Self { run, message, steps: Vec::new(), end: None }
    }

    /// The `data` of the answer, if there is one.
    #[must_use]
    pub fn answer(&self) -> Option<&RawValue> {
        match &self.end {
            Some(End::Completed(data)) => Some(data),
            Some(End::Failed(_)) | None => None,
        }
    }
}

/// The fields of a `tool_executing` and a `tool_completed`.
#[derive(Deserialize)]
struct Tool<'a> {
    tool_id: String,
    call_id: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<String>,
}

/// The fields of an `agent_paused`.
#[derive(Deserialize)]
struct Paused<'a> {
    #[serde(borrow)]
    request: &'a RawValue,
}

/// The fields of an `agent_resumed`.
#[derive(Deserialize)]
struct Resumed<'a> {
    #[serde(borrow)]
    reply: &'a RawValue,
}

/// The output of a run, if its message is among the entries.
pub(crate) fn so_far(entries: &[(Offset, Written)], run: RunId) -> Option<SoFar> {
    let begin = entries.iter().find(|(_, entry)| entry.run == run && matches!(entry.kind, Kind::Received(_)))?;
    let Received { message_id, payload } = serde_json::from_str(begin.1.record.data.get()).ok()?;
    let mut builder =
        TurnBuilder { run, begin: begin.0, begun: false, part: None, turn: Turn::new(run, payload.to_owned()) };
    for (_, entry) in entries.iter().filter(|(_, entry)| entry.run == run) {
        builder.event(entry.kind, &entry.record);
    }
    Some(SoFar { message_id, turn: builder.turn, newest: newest(entries, run) })
}

/// The user's reply in an `agent_resumed`.
pub(crate) fn reply(record: &Record) -> Option<Box<RawValue>> {
    serde_json::from_str::<Resumed<'_>>(record.data.get()).ok().map(|resumed| resumed.reply.to_owned())
}

/// An agent that resumes a run continues from these numbers.
fn newest(entries: &[(Offset, Written)], run: RunId) -> Newest {
    let mut newest = Newest::default();
    for (_, entry) in entries.iter().filter(|(_, entry)| entry.run == run) {
        match entry.kind {
            Kind::Delta(part) => newest.part = newest.part.max(part.0),
            Kind::ToolExecuting(tool) => newest.tool = newest.tool.max(tool.0),
            Kind::Paused(pause) => newest.pause = newest.pause.max(pause.0),
            Kind::Received(_)
            | Kind::Started
            | Kind::Thinking
            | Kind::ToolCompleted(..)
            | Kind::Resumed(_)
            | Kind::Completed
            | Kind::Error(_)
            | Kind::Notice
            | Kind::Deleted => {}
        }
    }
    newest
}

/// The turns in a thread's entries, in the order of their messages, up to the message of `own`. Left out are messages
/// that another message has replaced, whether `own`'s or an earlier one; messages that wait behind `own`, which are in
/// the stream too; messages that were taken back before their run began; and runs whose message is not among the
/// entries.
pub(crate) fn turns(entries: impl IntoIterator<Item = (Offset, Written)>, own: RunId) -> Vec<Turn> {
    let (mut turns, mut is_before): (Vec<TurnBuilder>, bool) = (Vec::new(), true);
    for (offset, Written { run, kind, record }) in entries {
        if kind == Kind::Deleted {
            turns.clear();
        } else if let Kind::Received(received) = kind {
            if is_before && let Some(from) = received.replaces {
                turns.retain(|builder| builder.begin < from);
            }
            is_before &= run != own;
            if is_before && let Ok(received) = serde_json::from_str::<Received<'_>>(record.data.get()) {
                turns.push(TurnBuilder {
                    run,
                    begin: offset,
                    begun: false,
                    part: None,
                    turn: Turn::new(run, received.payload.to_owned()),
                });
            }
        } else if kind == Kind::Error(Reason::Cancelled) {
            turns.retain(|builder| builder.run != run || builder.begun);
        }
        if let Some(builder) = turns.iter_mut().rfind(|builder| builder.run == run) {
            builder.event(kind, &record);
        }
    }
    turns.into_iter().map(|builder| builder.turn).collect()
}

/// Builds a turn from its entries.
struct TurnBuilder {
    run: RunId,
    /// The offset of its message.
    begin: Offset,
    begun: bool,
    /// The part that grew last.
    part: Option<PartId>,
    turn: Turn,
}

impl TurnBuilder {
    fn event(&mut self, kind: Kind, record: &Record) {
        let grows = core::mem::take(&mut self.part);
        match kind {
            Kind::Delta(part) => {
                self.part = Some(part);
                let Some(delta) = Delta::of(&record.data).filter(|delta| delta.kind == "text") else { return };
                match self.turn.steps.last_mut() {
                    Some(Step::Text(text)) if grows == Some(part) => text.push_str(&delta.text),
                    _ => self.turn.steps.push(Step::Text(delta.text.into_owned())),
                }
            }
            Kind::ToolExecuting(_) => {
                let Ok(Tool { tool_id, call_id, name, arguments, .. }) = serde_json::from_str(record.data.get()) else {
                    return;
                };
                let arguments = arguments.map_or_else(|| "{}".to_owned(), |arguments| arguments.get().to_owned());
                self.turn.steps.push(Step::Tool(ToolCall { id: tool_id, call_id, name, arguments, result: None }));
            }
            Kind::ToolCompleted(..) => {
                let Ok(Tool { tool_id, result, error, .. }) = serde_json::from_str(record.data.get()) else { return };
                let result = result.map(|result| result.get().to_owned());
                let calls = self.turn.steps.iter_mut().filter_map(|step| match step {
                    Step::Tool(call) => Some(call),
                    Step::Text(_) | Step::Asked(_) => None,
                });
                if let Some(call) = calls.into_iter().find(|call| call.id == tool_id) {
                    call.result = Some(result.ok_or_else(|| error.unwrap_or_else(|| "failed".to_owned())));
                }
            }
            Kind::Paused(_) => {
                let Ok(Paused { request }) = serde_json::from_str(record.data.get()) else { return };
                self.turn.steps.push(Step::Asked(Exchange { request: request.get().to_owned(), reply: None }));
            }
            Kind::Resumed(_) => {
                let Ok(Resumed { reply }) = serde_json::from_str(record.data.get()) else { return };
                if let Some(Step::Asked(exchange)) =
                    self.turn.steps.iter_mut().rfind(|step| matches!(step, Step::Asked(_)))
                {
                    exchange.reply = Some(reply.get().to_owned());
                }
            }
            Kind::Completed => self.turn.end = Some(End::Completed((*record.data).to_owned())),
            Kind::Error(reason) => self.turn.end = Some(End::Failed(reason)),
            Kind::Started => self.begun = true,
            Kind::Received(_) | Kind::Thinking | Kind::Notice | Kind::Deleted => {}
        }
    }
}
