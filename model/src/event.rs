//! Events of a stream, before and after the log has confirmed them.

use crate::id::{Offset, RunId, ThreadId};
use crate::run::Kind;

/// An event of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Event<P> {
    /// The run.
    pub run: RunId,
    /// The run's thread; `None` for a notice that belongs to no thread.
    pub thread: Option<ThreadId>,
    /// The event's kind.
    pub kind: Kind,
    /// The event's payload; `None` for events that the machines emit themselves.
    pub payload: Option<P>,
}

/// An event that the log has confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Entry<P> {
    /// The entry's offset.
    pub offset: Offset,
    /// The offset of the entry before it; [`Offset`] zero for the first of the epoch.
    pub previous: Offset,
    /// The event.
    pub event: Event<P>,
}
