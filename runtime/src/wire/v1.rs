//! `lockstep.v1`: flat frames.

use std::sync::Arc;

use lockstep_model::run::{Kind, Received, Schedule};
use lockstep_model::{Cancel, Code, Entry, Offset, Request};
use serde::Serialize;
use serde_json::value::RawValue;
use tungstenite::Utf8Bytes;

use super::conversation::Query;
use super::members::Members;
use super::notice::Notice;
use super::{CodecState, Decoded, Hex, event, message, sized_text, text};
use crate::log::Written;
use crate::payload::{Payload, Record};

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

#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    offset: u64,
    previous: u64,
    run_id: Hex,
    thread_id: Option<&'a str>,
    timestamp: u64,
    data: &'a RawValue,
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
            timestamp: record.at,
            data: &record.data,
        }
    }
}

/// Bytes of an event's frame besides its `data` and its thread's name, at most.
const AROUND: usize = 224;

pub(super) fn event(entry: &Entry<Payload>, record: &Record) -> Utf8Bytes {
    let queued = if let Kind::Received(Received { schedule: Schedule::Queued, .. }) = entry.event.kind {
        event::data_of_queued(&record.data)
    } else {
        None
    };
    let data = queued.as_deref().unwrap_or(&record.data);
    let frame = Event {
        r#type: event::name(entry.event.kind),
        offset: entry.offset.0,
        previous: entry.previous.0,
        run_id: entry.event.run.into(),
        thread_id: record.thread.as_deref(),
        timestamp: record.at,
        data,
    };
    sized_text(&frame, AROUND + data.get().len() + frame.thread_id.map_or(0, str::len))
}
