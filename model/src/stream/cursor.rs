//! Where a reader is.

use super::Read;
use crate::id::Offset;

/// A reader's place in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Cursor {
    pub(super) at: Offset,
    /// Between `at` and this there is nothing any more.
    pub(super) passed: Offset,
}

impl Cursor {
    pub(super) const fn new(at: Offset) -> Self {
        Self { at, passed: at }
    }

    pub(super) const fn pass(&mut self, offset: Offset) {
        *self = Self::new(offset);
    }

    /// Goes on behind what is gone.
    pub(super) const fn skip<'a, P: Clone>(&mut self, to: Offset) -> Read<'a, P> {
        let from = self.at;
        self.pass(to);
        Read::Gap { from, to }
    }

    /// The last offset that was read, or behind which reading begins.
    #[must_use]
    pub const fn at(&self) -> Offset {
        self.at
    }

    /// The offset behind which reading goes on. What lies between is gone.
    #[must_use]
    pub const fn passed(&self) -> Offset {
        self.passed
    }
}
