//! STR-1: what one reader of a stream is told, in order.
//!
//! A reader begins at an offset. Each entry names its predecessor, which is the last offset that the reader was told.
//! A gap is named before an entry follows it: by its two ends or, if the reader could not resume where it wanted to, by
//! the end at which the connection begins. (The other end may be in an earlier epoch.)

use core::fmt::{self, Display};

use lockstep_model::Offset;

/// How far a connection has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reader {
    at: Option<Offset>,
    /// Whether there is a gap before the beginning that was not named yet.
    gap: bool,
}

/// How a frame breaks the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrong {
    /// The reader has no position: `connection_ready` did not come.
    NotReady,
    /// The reader has a position, and is given another.
    ReadyTwice,
    /// An entry that does not follow the last offset.
    Entry {
        /// The entry.
        offset: Offset,
        /// The predecessor that it names.
        previous: Offset,
        /// The last offset.
        at: Offset,
    },
    /// A gap that does not begin, or does not end, where it must.
    Gap {
        /// The last offset before it.
        from: Offset,
        /// The last offset in it.
        to: Offset,
        /// The last offset that the reader was told of.
        at: Offset,
    },
    /// An entry after a gap that was not named.
    Unnamed {
        /// The entry.
        offset: Offset,
    },
}

impl Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady => f.write_str("a frame of the stream came before connection_ready"),
            Self::ReadyTwice => f.write_str("a connection is ready twice"),
            Self::Entry { offset: Offset(offset), previous: Offset(previous), at: Offset(at) } => {
                write!(f, "offset {offset} says that it follows {previous}, but {at} was the last that was seen")
            }
            Self::Gap { from: Offset(from), to: Offset(to), at: Offset(at) } => {
                write!(f, "a gap from {from} to {to}, but {at} was the last that was seen")
            }
            Self::Unnamed { offset: Offset(offset) } => {
                write!(f, "offset {offset} follows a gap that no stream_reset has named")
            }
        }
    }
}

impl Reader {
    /// A reader that has read up to an offset.
    #[must_use]
    pub const fn resumed(at: Offset) -> Self {
        Self { at: Some(at), gap: false }
    }

    /// The last offset that the reader was told of, if it is ready.
    #[must_use]
    pub const fn at(&self) -> Option<Offset> {
        self.at
    }

    /// Whether there is a gap before the beginning that was not named yet.
    #[must_use]
    pub const fn has_gap(&self) -> bool {
        self.gap
    }

    /// `connection_ready` came.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn ready(&mut self, offset: Offset, resumed: bool) -> Result<(), Wrong> {
        let before = core::mem::replace(self, Self { at: Some(offset), gap: !resumed });
        if before.at.is_some() { Err(Wrong::ReadyTwice) } else { Ok(()) }
    }

    /// A gap was named: `stream_reset` came.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn reset(&mut self, from: Offset, to: Offset) -> Result<(), Wrong> {
        let before = core::mem::replace(self, Self::resumed(to));
        let Some(at) = before.at else { return Err(Wrong::NotReady) };
        let right = if before.gap { to == at } else { from == at && to > from };
        if right { Ok(()) } else { Err(Wrong::Gap { from, to, at }) }
    }

    /// An entry came.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn entry(&mut self, previous: Offset, offset: Offset) -> Result<(), Wrong> {
        let before = core::mem::replace(self, Self::resumed(offset));
        match before.at {
            None => Err(Wrong::NotReady),
            Some(_) if before.gap => Err(Wrong::Unnamed { offset }),
            Some(at) if previous == at && offset > at => Ok(()),
            Some(at) => Err(Wrong::Entry { offset, previous, at }),
        }
    }

    /// The connection is gone: it is not ready any more.
    pub const fn leave(&mut self) {
        self.at = None;
    }
}
