//! The stream machine: one user's ordered log, and the cursors that read it.

mod exact;
mod parts;
mod window;

use lockstep_model::run::Kind;
use lockstep_model::stream::{Input, Output, Snapshot};
use lockstep_model::{BatchId, Entry, Epoch, Event, FencingToken, Handled, Offset, RunId, Stream, Tenure, ThreadId};

use crate::support::{SMALL, Tag};

const EPOCH: Epoch = Epoch(4);

const TENURE: Tenure = Tenure { epoch: EPOCH, token: FencingToken(1) };

fn event(tag: Tag) -> Event<Tag> {
    Event { run: RunId(1), thread: Some(ThreadId(1)), kind: Kind::Thinking, payload: Some(tag) }
}

fn entry(previous: u64, offset: u64, tag: Tag) -> Entry<Tag> {
    Entry { offset: Offset(offset), previous: Offset(previous), event: event(tag) }
}

fn step(stream: &mut Stream<Tag>, input: Input<Tag>) -> (Handled, Vec<Output<Tag>>) {
    let mut out = Vec::new();
    let handled = stream.step(&SMALL, input, &mut out);
    (handled, out)
}

/// A stream with these entries after this tail, and nothing else.
fn restored(trimmed: u64, entries: &[Entry<Tag>]) -> Stream<Tag> {
    let mut out = Vec::new();
    let snapshot = Snapshot { trimmed: Offset(trimmed), entries: entries.to_vec(), ..Snapshot::empty(TENURE) };
    Stream::restore(&SMALL, snapshot, &mut out)
}

fn append(tag: Tag) -> Input<Tag> {
    Input::Append(event(tag))
}

/// The log has taken the oldest event of the batch under way.
fn persisted(stream: &Stream<Tag>, offset: u64) -> Input<Tag> {
    Input::Persisted { batch: stream.batch(), offset: Offset(offset), record: None }
}

fn write(batch: BatchId, after: u64, tag: Tag) -> Output<Tag> {
    Output::Write { tenure: TENURE, batch, after: Offset(after), event: event(tag) }
}
