//! Deleted threads: which entries of a stream are gone with its deletions (RET-1). All logs use this.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_model::run::{Kind, Received};
use lockstep_model::{MessageId, Offset};

use super::Written;

/// The newest deletion of each thread, by name, which is empty for the thread of messages without one.
#[derive(Debug, Default)]
pub(super) struct Deletions(BTreeMap<Arc<str>, Offset>);

impl Deletions {
    /// The deletions among these entries.
    pub(super) fn of(entries: &[(Offset, Written)]) -> Self {
        let mut deletions = Self::default();
        for (offset, entry) in entries {
            if entry.kind == Kind::Deleted {
                deletions.add(*offset, entry.record.thread.as_deref());
            }
        }
        deletions
    }

    /// Adds a deletion.
    pub(super) fn add(&mut self, offset: Offset, thread: Option<&str>) {
        let name = thread.unwrap_or_default();
        match self.0.get_mut(name) {
            Some(newest) => *newest = offset.max(*newest),
            None => drop(self.0.insert(Arc::from(name), offset)),
        }
    }

    /// Whether an entry is gone.
    pub(super) fn is_gone(&self, offset: Offset, kind: Kind, thread: Option<&str>) -> bool {
        let is_of_none = kind == Kind::Notice && thread.is_none();
        !is_of_none && self.0.get(thread.unwrap_or_default()).is_some_and(|deleted| offset < *deleted)
    }

    /// Whether an entry is no longer part of a conversation: it is gone, it is a deletion, or it is a notice that was
    /// shown in the thread of messages without one until that thread was deleted.
    pub(super) fn covers(&self, offset: Offset, thread: Option<&str>) -> bool {
        self.0.get(thread.unwrap_or_default()).is_some_and(|deleted| offset <= *deleted)
    }
}

/// Used only by logs on disk.
#[cfg(feature = "disk")]
impl Deletions {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Used only by conversations on disk.
#[cfg(feature = "kept")]
impl Deletions {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The names of the deleted threads.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|name| &**name)
    }

    /// Whether the thread was deleted.
    pub(super) fn has(&self, thread: Option<&str>) -> bool {
        self.0.contains_key(thread.unwrap_or_default())
    }
}

/// Removes the entries that are gone, and returns the messages among them.
#[cfg(feature = "disk")]
pub(super) fn take_out(entries: &mut Vec<(Offset, Written)>) -> Vec<(Offset, MessageId)> {
    let deletions = Deletions::of(entries);
    let mut messages = Vec::new();
    if deletions.is_empty() {
        return messages;
    }
    entries.retain(|(offset, entry)| {
        let gone = deletions.is_gone(*offset, entry.kind, entry.record.thread.as_deref());
        messages.extend(message(entry).filter(|_| gone).map(|message| (*offset, message)));
        !gone
    });
    messages
}

/// The message that an entry received, if any.
pub(super) fn message(entry: &Written) -> Option<MessageId> {
    if let Kind::Received(Received { message, .. }) = entry.kind { Some(message) } else { None }
}
