//! RET-1 from the frames that sockets are sent: once a socket has read that a thread is deleted, no later socket is
//! sent what that thread had before.

use std::collections::HashMap;

use ahash::RandomState;

/// A thread of a user in an epoch.
pub(super) type Thread = (usize, u64, u64);

/// The offsets at which threads were deleted, and the first line that says so.
pub(super) struct Deletions(HashMap<Thread, Vec<(u64, u64)>, RandomState>);

impl Deletions {
    pub(super) fn new(hasher: &RandomState) -> Self {
        Self(HashMap::with_hasher(hasher.clone()))
    }

    /// Records that a socket was sent a thread's deletion.
    pub(super) fn take(&mut self, thread: Thread, offset: u64, line: u64) {
        let of_thread = self.0.entry(thread).or_default();
        if of_thread.iter().all(|(known, _)| *known != offset) {
            of_thread.push((offset, line));
        }
    }

    /// Returns the line that shows that this offset of the thread was deleted before a socket was opened.
    pub(super) fn deleted(&self, thread: Thread, offset: u64, opened: u64) -> Option<u64> {
        let of_thread = self.0.get(&thread)?;
        of_thread.iter().find(|(deleted, line)| *deleted > offset && *line < opened).map(|(_, line)| *line)
    }

    /// Returns the newest deletion of any thread in a stream. Up to there, readers may name different predecessors of
    /// an entry.
    pub(super) fn newest(&self, user: usize, epoch: u64) -> Option<u64> {
        let of_stream = self.0.iter().filter(|((of, in_epoch, _), _)| (*of, *in_epoch) == (user, epoch));
        of_stream.flat_map(|(_, deletions)| deletions.iter().map(|(offset, _)| *offset)).max()
    }
}
