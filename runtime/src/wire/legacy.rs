//! `jwt-auth`: the envelope of the system that this one replaces.
//!
//! In: `{type, payload, message_id?, thread_id?, timestamp?}`; the time is the client's own and is ignored.
//!
//! | type | meaning |
//! | --- | --- |
//! | `user_message`, `chat`, `agent_request` | a message: `payload` is what the agent gets |
//! | `stop`, `cancel` | cancels `payload.run_id` |
//! | `auth` | a refresh: `payload.token`. The first credential comes with the upgrade request |
//! | `ping` | a heartbeat |
//! | `session_restore` | see below |
//!
//! A message without a `message_id` gets a random one, so it cannot be repeated.
//!
//! Out: `{type, data, timestamp, message_id?, thread_id?, run_id?}`. `connection_ready` is `connection_established`;
//! the other types have their v1 names. The `message_id` of a frame that has a place in the stream is that place,
//! `<epoch>:<offset>`; the client's own message id is in `data`.
//!
//! **`session_restore{lastMessageId}` moves no cursor.** The starting place is set once, with the first credential, so
//! a client that comes back sends it in the query of its upgrade request, as in v1. A later `session_restore` is either
//! true or false. If this connection carries everything after the named place, nothing needs to be done, and nothing is
//! sent. Otherwise the client expects entries that it will not get, and is told `invalid_field`. A client that names no
//! place asks for nothing.

use lockstep_model::run::Kind;
use lockstep_model::{Cancel, Cause, Code, Entry, Epoch, Offset, Position, Request};
use serde::Serialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::members::Members;
use super::notice::Notice;
use super::query::integer;
use super::{Decoded, Delta, Hex, Peer, event, message, text};
use crate::payload::{Payload, Record, now_ms};

pub(super) fn decode(peer: &mut Peer, frame: &str) -> Decoded {
    let members = Members::parse(frame)?;
    match members.string("type")?.as_str() {
        "user_message" | "chat" | "agent_request" => {
            let name = members.optional_string("message_id")?.map(message::name).transpose()?;
            let thread = message::thread(&members)?;
            let payload = members.any("payload")?;
            match name.or_else(random_name) {
                Some(name) => message::message(peer, &name, (thread, None), payload, false),
                None => Ok(Request::Violation(Cause::Fault)),
            }
        }
        "stop" | "cancel" => Ok(Request::Cancel { runs: Cancel::Run(members.object("payload")?.id("run_id")?.into()) }),
        "auth" => message::auth(peer, &members.object("payload")?),
        "ping" => Ok(Request::Ping),
        "session_restore" => match members.object("payload")?.optional_string("lastMessageId")? {
            Some(last) if !place(&last).is_some_and(|place| peer.carries_from(place)) => Err(Code::InvalidField),
            Some(_) | None => Ok(Request::Pong),
        },
        _ => Err(Code::UnknownType),
    }
}

/// 128 random bits in hexadecimal, if the system has randomness.
fn random_name() -> Option<String> {
    Some(format!("{}{}", Hex(crate::random().ok()?), Hex(crate::random().ok()?)))
}

/// `<epoch>:<offset>`.
fn place(text: &str) -> Option<Position> {
    let (epoch, offset) = text.split_once(':')?;
    Some(Position { epoch: Epoch(integer(epoch)?), offset: Offset(integer(offset)?) })
}

#[derive(Serialize)]
struct Envelope<'a, T: ?Sized> {
    r#type: &'static str,
    data: &'a T,
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<Hex>,
}

pub(super) fn notice(notice: &Notice<'_>) -> Utf8Bytes {
    if let Notice::Said { thread_id, timestamp, data } = *notice {
        let r#type = notice.name();
        return text(&Envelope::<RawValue> { r#type, data, timestamp, message_id: None, thread_id, run_id: None });
    }
    let (r#type, message_id) = match notice {
        Notice::Ready { epoch, offset, .. } => ("connection_established", Some(format!("{epoch}:{offset}"))),
        Notice::AuthOk {}
        | Notice::AuthExpiring {}
        | Notice::StreamReset { .. }
        | Notice::Mode { .. }
        | Notice::GoingAway { .. }
        | Notice::Known { .. }
        | Notice::Error { .. }
        | Notice::Pong { .. }
        | Notice::Said { .. } => (notice.name(), None),
    };
    text(&Envelope { r#type, data: notice, timestamp: now_ms(), message_id, thread_id: None, run_id: None })
}

pub(super) fn event(epoch: Epoch, entry: &Entry<Payload>, record: &Record) -> Utf8Bytes {
    // Legacy clients do not know parts: text is sent as `delta`, and any other kind of part as `reasoning`.
    let piece = matches!(entry.event.kind, Kind::Delta(_)).then(|| Delta::of(&record.data)).flatten().map(|delta| {
        let member = if delta.kind == "text" { "delta" } else { "reasoning" };
        to_raw_value(&json!({ member: delta.text })).expect("a string is JSON")
    });
    text(&Envelope::<RawValue> {
        r#type: if piece.is_some() { event::name(Kind::Thinking) } else { event::name(entry.event.kind) },
        data: piece.as_deref().unwrap_or(&record.data),
        timestamp: record.at,
        message_id: Some(format!("{}:{}", epoch.0, entry.offset.0)),
        thread_id: record.thread.as_deref(),
        run_id: Some(entry.event.run.into()),
    })
}
