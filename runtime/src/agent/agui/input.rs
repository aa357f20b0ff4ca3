//! The body of a request: `RunAgentInput`.

use lockstep_model::RunId;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Config;
use crate::agent::{Message, Run, Turn, told};
use crate::wire::hex;

/// What a message may have as `agui` in its payload: what an AG-UI front end sends besides messages.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Extras {
    state: Option<Value>,
    context: Vec<Value>,
    forwarded_props: Map<String, Value>,
    content: Option<Value>,
}

impl Extras {
    fn of(message: &Message) -> Self {
        #[derive(Deserialize)]
        struct Payload {
            agui: Extras,
        }
        serde_json::from_str::<Payload>(message.payload.get()).map(|payload| payload.agui).unwrap_or_default()
    }
}

/// The request for a run that answers `message`.
///
/// The same message has the same id in every request. Ids are made from run ids, which differ between all users.
pub(super) fn request(config: &Config, history: &[Turn], message: &Message, run: &Run) -> Value {
    let limits = (config.max_turns, config.max_history_bytes);
    let turns = told::turns(history, limits, true).into_iter();
    let mut messages: Vec<Value> = turns.flat_map(|(run, messages)| named(run, messages)).collect();
    let Extras { state, context, forwarded_props, content } = Extras::of(message);
    // A model can read JSON too.
    let text = || message.text().unwrap_or_else(|| message.payload.get().to_owned()).into();
    let content = content.filter(Value::is_array).unwrap_or_else(text);
    messages.push(json!({ "id": user_message(run.id()), "role": "user", "content": content }));
    let mut forwarded = forwarded_props;
    // The gateway's own statement, whatever the client says.
    forwarded.insert(
        "lockstep".to_owned(),
        json!({ "user": message.subject, "thread": message.thread, "message": message.id }),
    );
    json!({
        "threadId": thread(&message.subject, message.thread.as_deref()),
        "runId": hex(run.id().0).to_string(),
        "state": state.unwrap_or_else(|| json!({})),
        "messages": messages,
        "tools": [],
        "context": context,
        "forwardedProps": forwarded,
    })
}

/// The thread's name at the agent's server. Clients choose names of threads, so two users may use the same: a server
/// that keeps something by thread must not give it to another user (ISO-1).
fn thread(subject: &str, thread: Option<&str>) -> String {
    let mut digest = Sha256::new();
    digest.update(subject.len().to_le_bytes());
    digest.update(subject);
    digest.update(thread.unwrap_or_default());
    digest.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn user_message(run: RunId) -> String {
    format!("{}-user", hex(run.0))
}

/// Messages of a turn in AG-UI's format, with their ids.
fn named(run: RunId, messages: Vec<Value>) -> Vec<Value> {
    let run_name = hex(run.0).to_string();
    let call_id = |id: &Value| format!("{run_name}-{}", id.as_str().unwrap_or_default());
    let mut told = Vec::new();
    for (index, mut message) in messages.into_iter().enumerate() {
        let Some(fields) = message.as_object_mut() else { continue };
        let id = if index == 0 { user_message(run) } else { format!("{run_name}-{index}") };
        fields.insert("id".to_owned(), id.into());
        if fields.get("content").is_some_and(Value::is_null) {
            fields.remove("content");
        }
        if let Some(Value::Array(mut calls)) = fields.remove("tool_calls") {
            for call in &mut calls {
                call["id"] = call_id(&call["id"]).into();
            }
            fields.insert("toolCalls".to_owned(), calls.into());
        }
        if let Some(id) = fields.remove("tool_call_id") {
            fields.insert("toolCallId".to_owned(), call_id(&id).into());
        }
        told.push(message);
    }
    told
}
