//! Frames that are not events: `{type, user_id, timestamp, payload, data}`.
//!
//! | frame of v1 | type | also at the top level |
//! | --- | --- | --- |
//! | `connection_ready` | `connection_established` | `connection_ready`, `connection_id`, `server_time`, `config` |
//! | | `handshake_response`, after it | `connection_id`, `thread_id` |
//! | `error` | the same | `error_code`, `error_message`, `details`, `recovery_suggestions` |
//! | `pong` | the same, or `heartbeat_ack` | |
//! | others | the same | |
//!
//! None of them has a `message_id`: a client takes that of the last frame for its place in the stream, and would lose its
//! place to a frame that it gets before it has said `session_restore`.
//!
//! `handshake_response` suggests a new thread. A message that names no thread is in the thread without a name all the
//! same.

use serde::Serialize;
use serde_json::{Value, json};
use tungstenite::Utf8Bytes;

use super::memory::Heartbeat;
use super::{Hex, text};
use crate::payload::now_ms;
use crate::wire::notice::Notice;
use lockstep_model::Code;

#[derive(Serialize)]
struct Envelope<'a, T: ?Sized> {
    r#type: &'static str,
    user_id: &'a str,
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<&'a str>,
    payload: &'a T,
    data: &'a T,
}

/// Encodes a control frame. `heartbeat` is what a pong answers.
pub(in crate::wire) fn notice(subject: &str, heartbeat: Option<Heartbeat>, notice: &Notice<'_>) -> Utf8Bytes {
    match notice {
        Notice::Said { thread_id, timestamp, data } => {
            let (r#type, timestamp, thread_id) = (notice.name(), *timestamp, *thread_id);
            text(&Envelope { r#type, user_id: subject, timestamp, thread_id, payload: *data, data: *data })
        }
        Notice::Ready { .. } => established(subject, notice),
        Notice::Error { code, message, message_id } => failed(subject, *code, message, message_id.as_deref()),
        Notice::Pong { .. } if heartbeat == Some(Heartbeat::Heartbeat) => plain("heartbeat_ack", subject, notice),
        Notice::AuthOk {}
        | Notice::AuthExpiring {}
        | Notice::StreamReset { .. }
        | Notice::Mode { .. }
        | Notice::GoingAway { .. }
        | Notice::Known { .. }
        | Notice::Pong { .. } => plain(notice.name(), subject, notice),
    }
}

fn plain(r#type: &'static str, subject: &str, payload: &impl Serialize) -> Utf8Bytes {
    text(&Envelope { r#type, user_id: subject, timestamp: now_ms(), thread_id: None, payload, data: payload })
}

/// A frame with some or all members of its payload at its top level too.
fn doubled(r#type: &'static str, subject: &str, payload: &Value, outer: &[&str]) -> Utf8Bytes {
    let mut frame = json!({
        "type": r#type, "user_id": subject, "timestamp": now_ms(), "payload": payload, "data": payload,
    });
    for name in outer {
        frame[*name] = payload[*name].clone();
    }
    text(&frame)
}

fn established(subject: &str, notice: &Notice<'_>) -> Utf8Bytes {
    let mut payload = serde_json::to_value(notice).expect("control frames have string keys");
    payload["connection_ready"] = true.into();
    payload["config"] = json!({
        // Seconds, as the earlier system had it.
        "heartbeat_interval": (payload["heartbeat_ms"].as_u64().unwrap_or_default() / 1_000).max(1),
        "max_message_size": payload["limits"]["message_bytes"],
    });
    doubled(
        "connection_established",
        subject,
        &payload,
        &["connection_ready", "connection_id", "server_time", "config"],
    )
}

/// The frame that follows `connection_established`. The suggested thread has the connection's id, which is random.
pub(in crate::wire) fn handshake(subject: &str, connection: Hex) -> Utf8Bytes {
    let payload = json!({
        "connection_id": connection.to_string(), "thread_id": format!("thread_{connection}"), "status": "connected",
    });
    doubled("handshake_response", subject, &payload, &["connection_id", "thread_id"])
}

fn failed(subject: &str, code: Code, message: &str, message_id: Option<&str>) -> Utf8Bytes {
    let details = message_id.map_or_else(|| json!({}), |message_id| json!({ "message_id": message_id }));
    let payload = json!({
        "error_code": code, "error_message": message, "details": details, "recovery_suggestions": [advice(code)],
    });
    doubled("error", subject, &payload, &["error_code", "error_message", "details", "recovery_suggestions"])
}

/// Advice for the user.
const fn advice(code: Code) -> &'static str {
    match code {
        Code::Malformed | Code::UnknownType | Code::InvalidField => "Reload the page, or update the client.",
        Code::Degraded | Code::BreakerOpen | Code::Busy | Code::VerifierUnavailable => "Try again in a moment.",
        Code::Draining => "Reconnect, and send the message again.",
        Code::TooManyRuns | Code::QueueFull | Code::ThreadBusy => "Wait for an answer to end, or stop it.",
        Code::Forgotten => "Check the conversation before you send the message again.",
        Code::UnknownThread | Code::NotKept => "Start a new conversation.",
        Code::UnknownRun => "The answer has ended. There is nothing to stop.",
        Code::NotPaused => "Another reply came first. Go on reading.",
    }
}
