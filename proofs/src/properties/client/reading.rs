//! STR-1: what a client shows of its user's stream. Each entry follows the last one, as [`stream`] states it. An entry
//! that was shown is not shown again, and one that does not follow makes the client come back. Reading never goes back.
//!
//! [`stream`]: crate::properties::stream

use std::collections::BTreeMap;

use lockstep_model::client::{Input, Output};
use lockstep_model::frame::ReadFrom;
use lockstep_model::run::Kind;
use lockstep_model::stream::Event;
use lockstep_model::{Control, Frame, Position, RunId, ThreadId};

use super::super::stream::Reader;
use super::link::Link;

/// What was observed of a client's reading.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reading {
    from: ReadFrom,
    /// The runs of which something was shown, but not the end.
    runs: BTreeMap<RunId, Option<ThreadId>>,
}

/// What an entry on the newest socket is to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// No entry.
    Other,
    /// The next one.
    Next,
    /// One that was shown, or that is known to be gone.
    Again,
    /// One after a gap that was not named.
    Skipped,
}

impl Reading {
    pub(crate) const fn new(from: ReadFrom) -> Self {
        Self { from, runs: BTreeMap::new() }
    }

    /// Where the client goes on reading.
    pub(crate) const fn from(&self) -> ReadFrom {
        self.from
    }

    /// The position up to which the client has read.
    pub(crate) const fn position(&self) -> Option<Position> {
        match self.from {
            ReadFrom::After(position) => Some(position),
            ReadFrom::Unread | ReadFrom::Latest | ReadFrom::Earliest | ReadFrom::Deferred => None,
        }
    }

    pub(super) fn awaits_runs(&self) -> bool {
        !self.runs.is_empty()
    }

    pub(super) fn hears(&self, link: &Link, input: &Input<u8>) -> Heard {
        let (Input::Frame { frame: Frame::Event(entry), .. }, Some(at)) = (input, self.position()) else {
            return Heard::Other;
        };
        if !link.is_ready() {
            Heard::Other
        } else if entry.offset <= at.offset {
            Heard::Again
        } else if Reader::resumed(at.offset).entry(entry.previous, entry.offset).is_ok() {
            Heard::Next
        } else {
            Heard::Skipped
        }
    }

    /// Takes an input that counts. Returns whether it names a gap, after which nothing is known of what was before.
    pub(super) fn take(&mut self, link: &Link, input: &Input<u8>, heard: Heard, out: &mut Vec<Output<u8>>) -> bool {
        let Input::Frame { frame, .. } = input else { return false };
        let mut gap = false;
        match frame {
            Frame::Control(Control::Ready { epoch, offset, resumed, .. }) if !link.is_ready() => {
                gap = !resumed;
                self.from = ReadFrom::After(Position { epoch: *epoch, offset: *offset });
            }
            Frame::Control(Control::StreamReset { from, to }) => {
                out.push(Output::Reset { from: *from, to: *to });
                if let ReadFrom::After(position) = &mut self.from {
                    gap = *to > position.offset;
                    position.offset = position.offset.max(*to);
                }
            }
            Frame::Control(Control::Notice(payload)) => out.push(Output::Notice(*payload)),
            Frame::Event(entry) if heard == Heard::Next => {
                if let ReadFrom::After(position) = &mut self.from {
                    position.offset = entry.offset;
                }
                self.follow(&entry.event);
                out.push(Output::Deliver(entry.clone()));
            }
            Frame::Control(_) | Frame::Event(_) | Frame::Close(_) => {}
        }
        if gap {
            self.runs.clear();
        }
        gap
    }

    /// A run goes on until its end, its pause, or the deletion of its thread.
    fn follow(&mut self, event: &Event<u8>) {
        match event.kind {
            Kind::Completed | Kind::Error(_) | Kind::Paused(_) | Kind::Notice => drop(self.runs.remove(&event.run)),
            Kind::Deleted => self.runs.retain(|_, thread| *thread != event.thread),
            Kind::Received(_)
            | Kind::Started
            | Kind::Thinking
            | Kind::Delta(_)
            | Kind::ToolExecuting(_)
            | Kind::ToolCompleted(..)
            | Kind::Resumed(_) => drop(self.runs.insert(event.run, event.thread)),
        }
    }
}
