//! A page of a stream: what the log gives to a reader whose place is before the window.

use alloc::borrow::Cow;
use alloc::collections::VecDeque;

use super::{Cursor, Entry, Read};
use crate::bounds::Bounds;
use crate::id::{Offset, ThreadId};
use crate::piece::Piece;

/// What the log has of a stream behind a place. It is exact: it begins where the reader is, also inside a part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Page<P> {
    /// What is behind the reader's place and at or before this is gone, though its thread was not deleted. The reader's place
    /// if nothing is.
    pub trimmed: Offset,
    /// What is behind that, in order, of no thread that was deleted. [`Entry::previous`] means nothing here.
    pub entries: VecDeque<Entry<P>>,
    /// Of what is at or before this, the page has all that there is.
    pub through: Offset,
}

impl<P: Piece> Page<P> {
    /// Takes a cursor that has read all of it past it, and tells whether it was such a one.
    pub(crate) fn finish(&self, cursor: &mut Cursor) -> bool {
        let read = self.entries.is_empty() && cursor.passed >= self.trimmed;
        if read {
            cursor.passed = cursor.passed.max(self.through);
        }
        read
    }

    /// Reads one entry after the cursor, as [`Stream::read`](super::Stream::read) does: of a part, all pieces that follow.
    pub(crate) fn read(&mut self, bounds: &Bounds, cursor: &mut Cursor) -> Read<'_, P> {
        if cursor.passed < self.trimmed {
            return cursor.skip(self.trimmed);
        }
        let Some(entry) = self.entries.pop_front() else { return Read::Missed };
        let mut entry = Cow::Owned(entry);
        let joined = Entry::fold(bounds, &mut entry, self.entries.iter());
        self.entries.drain(..joined);
        let mut entry = entry.into_owned();
        entry.previous = cursor.at;
        cursor.pass(entry.offset);
        Read::Entry(Cow::Owned(entry))
    }

    /// A thread was deleted: nothing of it is read any more.
    pub(crate) fn delete(&mut self, thread: Option<ThreadId>) {
        self.entries.retain(|entry| entry.event.thread != thread);
    }
}
