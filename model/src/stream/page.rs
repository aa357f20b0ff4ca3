//! A page of a stream: the entries that the log gives to a reader whose position is before the window.

use alloc::borrow::Cow;
use alloc::collections::VecDeque;

use super::{Cursor, Entry, Read};
use crate::bounds::Bounds;
use crate::id::{Offset, ThreadId};
use crate::piece::Piece;

/// The log's entries of a stream after a position. A page is exact: it begins at the reader's position, even inside a
/// part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Page<P> {
    /// The entries after the reader's position and up to this offset are gone for another reason than a deletion of
    /// their thread. Equal to the reader's position if none are.
    pub trimmed: Offset,
    /// The entries after `trimmed`, in order, without deleted threads. [`Entry::previous`] has no meaning here.
    pub entries: VecDeque<Entry<P>>,
    /// The page has every entry up to this offset.
    pub through: Offset,
}

impl<P: Piece> Page<P> {
    /// If the cursor has read the whole page, moves it past the page's end. Returns whether it has.
    pub(crate) fn finish(&self, cursor: &mut Cursor) -> bool {
        let read = self.entries.is_empty() && cursor.passed >= self.trimmed;
        if read {
            cursor.passed = cursor.passed.max(self.through);
        }
        read
    }

    /// Reads one entry after the cursor, as [`Stream::read`](super::Stream::read) does, with all pieces that follow in
    /// its part.
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

    /// Removes the entries of a deleted thread.
    pub(crate) fn delete(&mut self, thread: Option<ThreadId>) {
        self.entries.retain(|entry| entry.event.thread != thread);
    }
}
