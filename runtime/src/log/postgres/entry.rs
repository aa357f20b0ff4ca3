//! Events as rows.

use std::sync::Arc;

use lockstep_model::run::{Kind, Received, Schedule};
use lockstep_model::{MessageId, Offset, PartId, PauseId, RunId, ThreadId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio_postgres::Row;

use crate::log::Written;
use crate::payload::{Record, thread_id};

/// A number without a sign, as `bigint` stores it.
pub(super) const fn signed(number: u64) -> i64 {
    number.cast_signed()
}

/// An offset or a size. Those that no stream reaches are the highest that `bigint` stores in order.
pub(super) fn ordered(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(row: &Row, column: usize) -> u64 {
    row.get::<_, i64>(column).cast_unsigned()
}

/// A thread's name, which is stored as empty for the thread without one.
pub(super) fn bytes_of(thread: Option<&str>) -> &[u8] {
    thread.unwrap_or_default().as_bytes()
}

/// The name of a thread. `None` if it is not text.
pub(super) fn named(bytes: &[u8]) -> Option<Option<Arc<str>>> {
    let name = core::str::from_utf8(bytes).ok()?;
    Some((!name.is_empty()).then(|| name.into()))
}

/// A `message_received` whose run is queued, is in another thread, or replaces turns.
#[derive(Serialize, Deserialize)]
struct ReceivedAs {
    thread: ThreadId,
    schedule: Schedule,
    replaces: Option<Offset>,
}

/// A kind as columns.
pub(super) struct KindColumns {
    pub(super) kind: &'static str,
    pub(super) about: Option<String>,
    pub(super) message: Option<i64>,
}

fn json(value: &impl Serialize) -> Option<String> {
    serde_json::to_string(value).ok()
}

fn parsed<T: DeserializeOwned>(about: Option<&str>) -> Option<T> {
    serde_json::from_str(about?).ok()
}

/// The columns of a kind, in an entry of this thread.
pub(super) fn columns(kind: Kind, thread: Option<&str>) -> KindColumns {
    let mut id = None;
    let (kind, about) = match kind {
        Kind::Received(received) => {
            let Received { message, thread: of, schedule, replaces } = received;
            id = Some(signed(message.0));
            let is_usual = received == Received::immediate(message, thread_id(thread));
            ("received", if is_usual { None } else { json(&ReceivedAs { thread: of, schedule, replaces }) })
        }
        Kind::Started => ("started", None),
        Kind::Thinking => ("thinking", None),
        Kind::Delta(part) => ("delta", json(&part)),
        Kind::ToolExecuting(tool) => ("tool_executing", json(&tool)),
        Kind::ToolCompleted(tool, end) => ("tool_completed", json(&(tool, end))),
        Kind::Paused(pause) => ("paused", json(&pause)),
        Kind::Resumed(pause) => ("resumed", json(&pause)),
        Kind::Completed => ("completed", None),
        Kind::Error(reason) => ("error", json(&reason)),
        Kind::Notice => ("notice", None),
        Kind::Deleted => ("deleted", None),
    };
    KindColumns { kind, about, message: id }
}

fn kind(kind: &str, about: Option<&str>, message: Option<i64>, thread: Option<&str>) -> Option<Kind> {
    Some(match kind {
        "received" => {
            let message = MessageId(message?.cast_unsigned());
            match about {
                None => Kind::Received(Received::immediate(message, thread_id(thread))),
                Some(_) => {
                    let ReceivedAs { thread, schedule, replaces } = parsed(about)?;
                    Kind::Received(Received { message, thread, schedule, replaces })
                }
            }
        }
        "started" => Kind::Started,
        "thinking" => Kind::Thinking,
        "delta" => Kind::Delta(parsed::<PartId>(about)?),
        "tool_executing" => Kind::ToolExecuting(parsed(about)?),
        "tool_completed" => {
            let (tool, end) = parsed(about)?;
            Kind::ToolCompleted(tool, end)
        }
        "paused" => Kind::Paused(parsed::<PauseId>(about)?),
        "resumed" => Kind::Resumed(parsed(about)?),
        "completed" => Kind::Completed,
        "error" => Kind::Error(parsed(about)?),
        "notice" => Kind::Notice,
        "deleted" => Kind::Deleted,
        _ => return None,
    })
}

/// The entry whose columns begin at `first`, in the order of the statements; `None` if it is damaged, or of a later
/// format.
pub(super) fn read(row: &Row, first: usize) -> Option<(Offset, Written)> {
    let offset = Offset(unsigned(row, first));
    let thread = named(row.get(first + 5))?;
    let kind = kind(row.get(first + 2), row.get(first + 3), row.get(first + 4), thread.as_deref())?;
    let data = RawValue::from_string(row.get(first + 7)).ok()?;
    let record = Arc::new(Record::written(thread, data, unsigned(row, first + 6)));
    Some((offset, Written { run: RunId(unsigned(row, first + 1)), kind, record }))
}
