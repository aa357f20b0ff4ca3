//! Events of the stream: their names, and what the gateway itself says in them.

use lockstep_model::run::{Kind, Reason, ToolEnd};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::Hex;
/// The `type` of an event's frame.
pub(super) const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Received(_) => "message_received",
        Kind::Started => "agent_started",
        Kind::Thinking => "agent_thinking",
        Kind::ToolExecuting(_) => "tool_executing",
        Kind::ToolCompleted(..) => "tool_completed",
        Kind::Completed => "agent_completed",
        Kind::Error(_) => "agent_error",
        Kind::Notice => "notice",
    }
}

/// `data` of an event that comes without: of one that a machine makes because a run was cut short. The other kinds are
/// the agent's or the client's, and come with theirs; for them the data says no more than the kind does.
#[must_use]
pub fn data_of(kind: Kind) -> Box<RawValue> {
    let data = match kind {
        Kind::Received(message) => json!({ "message_id": Hex(message.0).to_string(), "payload": null }),
        Kind::Started | Kind::Thinking | Kind::Completed | Kind::Notice => json!({}),
        Kind::ToolExecuting(tool) => json!({ "tool_id": format!("t{}", tool.0), "name": "", "arguments": null }),
        Kind::ToolCompleted(tool, end @ (ToolEnd::Success | ToolEnd::Failure)) => {
            json!({ "tool_id": format!("t{}", tool.0), "status": end })
        }
        Kind::ToolCompleted(tool, end @ ToolEnd::Abandoned) => {
            json!({ "tool_id": format!("t{}", tool.0), "status": end, "error": "the run ended before the tool did" })
        }
        Kind::Error(reason) => json!({ "reason": reason, "message": sentence(reason) }),
    };
    to_raw_value(&data).expect("a JSON value can be written")
}

/// What the user is told.
const fn sentence(reason: Reason) -> &'static str {
    match reason {
        Reason::Failed => "The agent could not answer.",
        Reason::Abandoned => "The agent stopped without an answer.",
        Reason::Silent => "The agent was silent for too long and was stopped.",
        Reason::Cancelled => "The answer was cancelled.",
        Reason::Interrupted => "The gateway was restarted before the answer was complete.",
    }
}
