//! `lockstep.v1`: flat frames.

use std::borrow::Cow;
use std::sync::Arc;

use lockstep_model::run::{Kind, Received, Schedule};
use lockstep_model::{Cancel, Code, Entry, Offset, Request};
use serde::Serialize;
use serde_json::value::RawValue;
use tungstenite::Utf8Bytes;

use super::members::Members;
use super::notice::Notice;
use super::{CodecState, Decoded, Hex, event, message, text};
use crate::log::Written;
use crate::payload::{Payload, Query, Record, data_of_queued};

pub(super) fn decode(peer: &mut CodecState, frame: &str) -> Decoded {
    let members = Members::parse(frame)?;
    match members.string("type")?.as_str() {
        "auth" => message::auth(peer, &members),
        "user_message" => {
            let name = message::name(members.string("message_id")?)?;
            let thread = message::thread(&members)?;
            let repeat = members.flag("repeat")?;
            let replaces = members.optional_integer("replaces")?.map(Offset);
            message::message(peer, &name, (thread, replaces), members.any("payload")?, repeat)
        }
        "delete_thread" => message::deletion(message::thread(&members)?),
        kind @ ("list_threads" | "read_turns" | "rename_thread") => {
            Ok(Request::Query { query: Payload::Query(Arc::new(Query::decode(kind, &members)?)) })
        }
        "cancel" => Ok(Request::Cancel { runs: Cancel::Run(members.id("run_id")?.into()) }),
        "reply" => message::reply(&members),
        "ping" => Ok(Request::Ping),
        _ => Err(Code::UnknownType),
    }
}

#[derive(Serialize)]
struct Flat<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    members: &'a Notice<'a>,
}

pub(super) fn notice(notice: &Notice<'_>) -> Utf8Bytes {
    text(&Flat { r#type: notice.name(), members: notice })
}

/// An event outside a stream that is being read: it does not name the entry before it.
#[derive(Serialize)]
pub(crate) struct Past<'a> {
    r#type: &'static str,
    offset: u64,
    run_id: Hex,
    thread_id: Option<&'a str>,
    timestamp: u64,
    data: &'a RawValue,
}

impl<'a> Past<'a> {
    pub(crate) fn of(offset: Offset, entry: &'a Written) -> Self {
        let Written { run, kind, record } = entry;
        Self {
            r#type: event::name(*kind),
            offset: offset.0,
            run_id: (*run).into(),
            thread_id: record.thread.as_deref(),
            timestamp: record.at(),
            data: &record.data,
        }
    }
}

/// Encodes an event. This is written by hand, and in one allocation of the exact size, because it is done for each event
/// that a user reads. Tests parse it again, with threads of any name.
pub(super) fn event(entry: &Entry<Payload>, record: &Record) -> Utf8Bytes {
    let queued = if let Kind::Received(Received { schedule: Schedule::Queued, .. }) = entry.event.kind {
        data_of_queued(&record.data)
    } else {
        None
    };
    let [mut offset, mut previous, mut at] = [itoa::Buffer::new(); 3];
    let run = Hex::from(entry.event.run).digits();
    let (thread, quote) = thread(record.thread.as_deref());
    let pieces = [
        r#"{"type":""#,
        event::name(entry.event.kind),
        r#"","offset":"#,
        offset.format(entry.offset.0),
        r#","previous":"#,
        previous.format(entry.previous.0),
        r#","run_id":""#,
        core::str::from_utf8(&run).unwrap_or_default(),
        r#"","thread_id":"#,
        quote,
        &thread,
        quote,
        r#","timestamp":"#,
        at.format(record.at()),
        r#","data":"#,
        queued.as_deref().unwrap_or(&record.data).get(),
        "}",
    ];
    pieces.concat().into()
}

/// A thread's name as JSON, and the quotes around it that are not part of the result.
fn thread(name: Option<&str>) -> (Cow<'_, str>, &'static str) {
    match name {
        None => (Cow::Borrowed("null"), ""),
        Some(name) if name.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') => {
            (Cow::Borrowed(name), "\"")
        }
        Some(name) => (Cow::Owned(serde_json::Value::from(name).to_string()), ""),
    }
}
