//! The type names of events.

use lockstep_model::run::Kind;

/// The `type` of an event's frame.
pub(super) const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Received(_) => "message_received",
        Kind::Started => "agent_started",
        Kind::Thinking => "agent_thinking",
        Kind::Delta(_) => "agent_delta",
        Kind::ToolExecuting(_) => "tool_executing",
        Kind::ToolCompleted(..) => "tool_completed",
        Kind::Paused(_) => "agent_paused",
        Kind::Resumed(_) => "agent_resumed",
        Kind::Completed => "agent_completed",
        Kind::Error(_) => "agent_error",
        Kind::Notice => "notice",
        Kind::Deleted => "thread_deleted",
    }
}
