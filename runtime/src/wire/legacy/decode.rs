//! Decodes the frames of legacy clients.

use std::sync::Arc;

use lockstep_model::{Cancel, Cause, Code, Epoch, Offset, Position, Request};
use serde_json::value::RawValue;

use super::fields::Fields;
use super::memory::Heartbeat;
use super::{CodecState, Decoded, Hex, message};
use crate::payload::thread_id;
use crate::wire::members::Members;
use crate::wire::query::integer;

/// The members in which clients put a message's text, in lookup order.
const CONTENT: [&str; 4] = ["content", "message", "user_request", "text"];

/// The members in which agents look for a message's text: see [`Message::text`](crate::agent::Message::text).
const READ: [&str; 2] = ["text", "content"];

/// Decodes a frame.
pub(in crate::wire) fn decode(peer: &mut CodecState, frame: &str) -> Decoded {
    let members = Members::parse(frame)?;
    match members.string("type")?.as_str() {
        "start_agent" | "user_message" | "chat" | "chat_message" | "agent_request" | "execute_agent" | "user_input" => {
            said(peer, &members)
        }
        "stop_agent" | "stop" | "cancel" => stop(peer, &members),
        "reply" => message::reply(&members),
        "auth" => match members.optional_object("payload")? {
            Some(payload) if payload.has("token") => message::auth(peer, &payload),
            Some(_) | None => message::auth(peer, &members),
        },
        "ping" => {
            peer.legacy.asked(Heartbeat::Ping);
            Ok(Request::Ping)
        }
        "heartbeat" => {
            peer.legacy.asked(Heartbeat::Heartbeat);
            Ok(Request::Ping)
        }
        "session_restore" => restore(peer, &members),
        "switch_thread" => {
            peer.legacy.thread = thread(&members)?;
            Ok(Request::Pong)
        }
        "pong" | "heartbeat_ack" | "event_confirmation" | "disconnect" | "page_unload" => Ok(Request::Pong),
        kind if kind.starts_with("typing_") => Ok(Request::Pong),
        _ => Err(Code::UnknownType),
    }
}

/// A message.
fn said(peer: &mut CodecState, members: &Members<'_>) -> Decoded {
    let name = members.optional_string("message_id")?.map(message::name).transpose()?;
    let thread = thread(members)?;
    let payload = payload(members)?;
    let Some(name) = name.or_else(random_name) else { return Ok(Request::Violation(Cause::Fault)) };
    peer.legacy.thread.clone_from(&thread);
    message::message(peer, &name, (thread, None), &payload, false)
}

/// The message: its payload as written, with the text where agents read it.
fn payload(members: &Members<'_>) -> Result<Box<RawValue>, Code> {
    let Some(given) = members.optional_any("payload") else {
        // The whole message is in the frame.
        let mut fields = Fields::new();
        for name in CONTENT {
            if let Some(content) = members.optional_any(name) {
                fields.put(READ[0], content);
                return Ok(fields.to_raw());
            }
        }
        return Err(Code::InvalidField);
    };
    let Some(mut fields) = Fields::of(given) else { return Ok(given.to_owned()) };
    if READ.iter().any(|name| fields.text(name).is_some()) {
        return Ok(given.to_owned());
    }
    match CONTENT.iter().find_map(|name| fields.text(name)) {
        Some(content) => {
            fields.put(READ[0], content);
            Ok(fields.to_raw())
        }
        None => Ok(given.to_owned()),
    }
}

/// The thread that a frame names, in its payload or beside it. Empty is none.
fn thread(members: &Members<'_>) -> Result<Option<Arc<str>>, Code> {
    const NAMES: [&str; 2] = ["thread_id", "threadId"];
    let inner = members.optional_any("payload").and_then(Fields::of);
    let inner = NAMES.iter().map(|name| inner.as_ref().and_then(|fields| fields.raw(name)));
    let outer = NAMES.iter().map(|name| members.optional_any(name));
    let mut found = None;
    for given in inner.chain(outer).flatten() {
        let name: Option<String> = serde_json::from_str(given.get()).map_err(|_| Code::InvalidField)?;
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            found = found.or(Some(message::name(name)?));
        }
    }
    Ok(found.map(Arc::from))
}

/// The stop button. The thread is the frame's, or the one of the connection's last message or `switch_thread`.
fn stop(peer: &CodecState, members: &Members<'_>) -> Decoded {
    let payload = members.optional_object("payload")?;
    let inner = payload.as_ref().map(|payload| payload.optional_id("run_id")).transpose()?.flatten();
    let outer = members.optional_id("run_id")?;
    let thread = thread(members)?.or_else(|| peer.legacy.thread.clone());
    let runs = match (inner.or(outer), thread) {
        (Some(run), _) => Cancel::Run(run.into()),
        (None, Some(thread)) => Cancel::Thread(thread_id(Some(&thread))),
        (None, None) => Cancel::All,
    };
    Ok(Request::Cancel { runs })
}

/// Sets the cursor. A client that names no place, or one of another system, asks for nothing.
fn restore(peer: &mut CodecState, members: &Members<'_>) -> Decoded {
    let payload = members.optional_object("payload")?;
    let last = payload.as_ref().unwrap_or(members).optional_string("lastMessageId")?;
    match last.as_deref().and_then(place) {
        Some(from) => {
            // Open runs may be announced again.
            peer.legacy.skip();
            Ok(Request::Seek { from })
        }
        None => Ok(Request::Pong),
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
