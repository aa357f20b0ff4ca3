//! The `data` of events: the gateway's own, and the pieces of parts.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use lockstep_model::run::{Ending, Kind, Reason, ToolEnd};
use lockstep_model::{PartId, PauseId, ToolId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use crate::support::hex::Hex;

/// The `data` of an event: a JSON object, kept as the text that readers get.
///
/// Cloning copies the text, or increments a reference count if the data was made from an [`Arc`], as the data of a
/// notice to everyone is.
#[derive(Clone, Debug)]
pub struct Data(Text);

#[derive(Clone, Debug)]
enum Text {
    Owned(Box<RawValue>),
    Shared(Arc<RawValue>),
}

impl From<Box<RawValue>> for Data {
    fn from(data: Box<RawValue>) -> Self {
        Self(Text::Owned(data))
    }
}

impl From<Arc<RawValue>> for Data {
    fn from(data: Arc<RawValue>) -> Self {
        Self(Text::Shared(data))
    }
}

impl Deref for Data {
    type Target = RawValue;

    fn deref(&self) -> &RawValue {
        match &self.0 {
            Text::Owned(data) => data,
            Text::Shared(data) => data,
        }
    }
}

/// The `data` of an event without data of its own, which a machine emits when a run was cut short. Events of the other
/// kinds come from the agent or the client with their own data; for them, the result says no more than the kind does.
#[must_use]
pub fn data_of(kind: Kind) -> Box<RawValue> {
    let data = match kind {
        Kind::Received(received) => {
            json!({ "message_id": Hex(received.message.0).to_string(), "payload": null })
        }
        Kind::Started | Kind::Thinking | Kind::Completed | Kind::Notice | Kind::Deleted => json!({}),
        Kind::Delta(part) => return data_of_piece(part, "text", ""),
        Kind::Paused(pause) => json!({ "pause": pause.0, "request": {} }),
        Kind::Resumed(pause) => json!({ "pause": pause.0, "reply": null }),
        Kind::ToolExecuting(tool) => json!({ "tool_id": format!("t{}", tool.0), "name": "", "arguments": null }),
        Kind::ToolCompleted(tool, end @ (ToolEnd::Success | ToolEnd::Failure)) => {
            json!({ "tool_id": format!("t{}", tool.0), "status": end })
        }
        Kind::ToolCompleted(tool, ToolEnd::Abandoned(ending)) => {
            return data_of_abandoned(tool, ending, None);
        }
        Kind::Error(reason) => json!({ "reason": reason, "message": sentence(reason) }),
    };
    to_raw_value(&data).expect("a JSON value can be written")
}

/// The `data` of `agent_paused`, with what the agent asks for.
pub(crate) fn data_of_pause(pause: PauseId, request: &RawValue) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Paused<'a> {
        pause: u32,
        request: &'a RawValue,
    }
    to_raw_value(&Paused { pause: pause.0, request }).expect("numbers and JSON can be written")
}

/// The `data` of `agent_resumed`, with the user's reply.
pub(crate) fn data_of_reply(pause: PauseId, reply: &RawValue) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Resumed<'a> {
        pause: u32,
        reply: &'a RawValue,
    }
    to_raw_value(&Resumed { pause: pause.0, reply }).expect("numbers and JSON can be written")
}

/// Adds `"queued":true` to the `data` of a message whose run is queued.
pub(crate) fn data_of_queued(data: &RawValue) -> Option<Box<RawValue>> {
    let members = data.get().trim_end().strip_suffix('}')?;
    RawValue::from_string(format!("{members},\"queued\":true}}")).ok()
}

/// The `data` of a piece of a part. `kind` is the agent's name for the part's kind.
#[must_use]
pub fn data_of_piece(part: PartId, kind: &str, text: &str) -> Box<RawValue> {
    to_raw_value(&Delta { part: part.0, kind: kind.into(), text: text.into() }).expect("strings and numbers are JSON")
}

/// The `data` of `agent_delta`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Delta<'a> {
    pub(crate) part: u32,
    #[serde(borrow)]
    pub(crate) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) text: Cow<'a, str>,
}

impl<'a> Delta<'a> {
    /// Parses a piece; `None` if the data is something else.
    pub(crate) fn of(data: &'a RawValue) -> Option<Self> {
        serde_json::from_str(data.get()).ok()
    }
}

/// The head of a piece's `data`, up to its text, and the text as it is escaped, if the data is as [`data_of_piece`]
/// writes it.
fn written(data: &RawValue) -> Option<(&str, &str)> {
    const TEXT: &str = ",\"text\":\"";
    let inner = data.get().strip_prefix("{\"part\":").and_then(|data| data.strip_suffix("\"}"))?;
    Some(inner.split_at(inner.find(TEXT)? + TEXT.len()))
}

/// Whether the data is as [`data_of_piece`] writes it, as far as [`concatenated`] needs it.
pub(super) fn has_form_of_piece(data: &RawValue) -> bool {
    written(data).is_some_and(|(_, text)| is_whole(text.as_bytes()))
}

/// Whether escaped text is one string, without a part of a surrogate pair: that has no meaning of its own, and no writer
/// of text needs one.
const fn is_whole(mut text: &[u8]) -> bool {
    loop {
        text = match text {
            [] => return true,
            [b'"', ..] | [b'\\'] => return false,
            [b'\\', b'u', digit, ..] if *digit != b'0' => return false,
            [b'\\', _, rest @ ..] | [_, rest @ ..] => rest,
        };
    }
}

/// The `data` of consecutive pieces of a part as one piece, each as [`data_of_piece`] writes it: the texts one after
/// another, as they are escaped, so that nothing is parsed.
pub(super) fn concatenated<'a>(pieces: impl Iterator<Item = &'a RawValue> + Clone) -> Option<Box<RawValue>> {
    let mut data = String::with_capacity(pieces.clone().map(|piece| piece.get().len()).sum());
    let (head, _) = written(pieces.clone().last()?)?;
    data.push_str("{\"part\":");
    data.push_str(head);
    for piece in pieces {
        data.push_str(written(piece)?.1);
    }
    data.push_str("\"}");
    RawValue::from_string(data).ok()
}

/// The `data` of the end of a tool that its run did not wait for, with the tool's name if it is known.
#[must_use]
pub fn data_of_abandoned(tool: ToolId, ending: Ending, name: Option<&str>) -> Box<RawValue> {
    let mut data = json!({ "tool_id": format!("t{}", tool.0), "status": "abandoned", "error": why(ending) });
    if let Some(name) = name {
        data["name"] = name.into();
    }
    to_raw_value(&data).expect("a JSON value can be written")
}

/// Why a tool has no result.
const fn why(ending: Ending) -> &'static str {
    match ending {
        Ending::Completed => "the agent answered before the tool returned",
        Ending::Error(Reason::Failed) => "the agent gave up before the tool returned",
        Ending::Error(Reason::Abandoned) => "the agent ended before the tool returned",
        Ending::Error(Reason::Silent) => "the agent and the tool were silent for too long",
        Ending::Error(Reason::TimedOut) => "the run reached its deadline before the tool returned",
        Ending::Error(Reason::Cancelled) => "the run was cancelled before the tool returned",
        Ending::Error(Reason::NoReply) => "the run waited too long for a reply",
        Ending::Error(Reason::Interrupted) => "the gateway was restarted before the tool returned",
    }
}

/// The sentence that the user is shown.
const fn sentence(reason: Reason) -> &'static str {
    match reason {
        Reason::Failed => "The agent could not answer.",
        Reason::Abandoned => "The agent stopped without an answer.",
        Reason::Silent => "The agent was silent for too long and was stopped.",
        Reason::TimedOut => "The answer took too long and was stopped.",
        Reason::Cancelled => "The answer was cancelled.",
        Reason::NoReply => "There was no reply in time, so the answer was stopped.",
        Reason::Interrupted => "The gateway was restarted before the answer was complete.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_data_is_not_copied() {
        let text = || to_raw_value("text").expect("JSON");
        let [owned, shared] = [Data::from(text()), Data::from(Arc::<RawValue>::from(text()))];
        assert!(core::ptr::eq(shared.get(), shared.clone().get()));
        assert!(!core::ptr::eq(owned.get(), owned.clone().get()));
    }
}
