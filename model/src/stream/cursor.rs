//! The position of a reader.

use super::Read;
use crate::id::Offset;

/// A reader's position in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Cursor {
    pub(super) at: Offset,
    /// There is nothing left between `at` and this offset.
    pub(super) passed: Offset,
}

impl Cursor {
    pub(super) const fn new(at: Offset) -> Self {
        Self { at, passed: at }
    }

    pub(super) const fn pass(&mut self, offset: Offset) {
        *self = Self::new(offset);
    }

    /// Continues after a gap.
    pub(super) const fn skip<'a, P: Clone>(&mut self, to: Offset) -> Read<'a, P> {
        let from = self.at;
        self.pass(to);
        Read::Gap { from, to }
    }

    /// The last offset that was read, or after which reading begins.
    #[must_use]
    pub const fn at(&self) -> Offset {
        self.at
    }

    /// The offset after which reading continues. The entries between `at` and this offset are gone.
    #[must_use]
    pub const fn passed(&self) -> Offset {
        self.passed
    }
}
