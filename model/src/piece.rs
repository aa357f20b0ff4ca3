//! Payloads that grow: the content of a part, as far as the machines know it.
//!
//! An agent's answer arrives in pieces, each of which *appends* to a part of its run. A machine does not inspect a
//! piece. It joins the pieces of one part, in order, and cuts joined ones where two pieces met. That suffices to give a
//! reader exactly what it has not read, in as few frames as possible (STR-3).

use alloc::sync::Arc;

/// A payload that may be a piece of a part.
///
/// For pieces `a`, `b` and `c` in the order of their part, [`join`](Piece::join) is associative, the size of
/// `a.join(b)` is the sum of the two sizes, and cutting `a.join(b)` after the size of `a` gives `b`.
pub trait Piece: Clone {
    /// The size of the content in bytes. Payloads that are not pieces have a size too.
    fn size(&self) -> usize;

    /// This piece followed by `next`.
    #[must_use]
    fn join(&self, next: &Self) -> Self;

    /// This piece followed by all of `more`, in order: the same as [`join`](Piece::join) with each.
    #[must_use]
    fn join_all<'a>(&self, more: impl Iterator<Item = &'a Self>) -> Self
    where
        Self: 'a,
    {
        more.fold(self.clone(), |whole, next| whole.join(next))
    }

    /// The content after the first `size` bytes, where two pieces were joined.
    #[must_use]
    fn behind(&self, size: usize) -> Self;
}

/// Byte strings, joined by concatenation.
impl Piece for Arc<[u8]> {
    fn size(&self) -> usize {
        self.len()
    }

    fn join(&self, next: &Self) -> Self {
        [&**self, &**next].concat().into()
    }

    fn behind(&self, size: usize) -> Self {
        self.get(size..).unwrap_or_default().into()
    }
}

/// Marks a tag that stands for pieces.
const PIECES: u8 = 0x40;
/// The result of joining pieces that are not consecutive, or tags that are not pieces.
const TORN: u8 = 0x7f;

/// The tag of the pieces `from..to` of a part, counted from 0; `to` is at most 7.
#[must_use]
pub const fn pieces(from: u8, to: u8) -> u8 {
    PIECES | from << 3 | to
}

/// The pieces that a tag stands for; `None` if it is another tag, or if they are not consecutive.
#[must_use]
pub const fn range(tag: u8) -> Option<core::ops::Range<u8>> {
    let (from, to) = (tag >> 3 & 7, tag & 7);
    if tag & PIECES != 0 && from < to { Some(from..to) } else { None }
}

/// Tags for proofs and tests. A tag with bit 6 set stands for consecutive pieces of a part ([`pieces`]), whose sizes
/// are 1 each. Bit 7 is free for the tag's owner. Pieces joined in any other order are torn permanently.
impl Piece for u8 {
    fn size(&self) -> usize {
        range(*self).map_or(1, |range| range.len())
    }

    fn join(&self, next: &Self) -> Self {
        match (range(*self), range(*next)) {
            (Some(first), Some(second)) if first.end == second.start && (self ^ next) & 0x80 == 0 => {
                self & 0x80 | pieces(first.start, second.end)
            }
            (_, _) => TORN,
        }
    }

    fn behind(&self, size: usize) -> Self {
        match (range(*self), u8::try_from(size)) {
            (Some(range), Ok(size)) if size < range.end - range.start => {
                self & 0x80 | pieces(range.start + size, range.end)
            }
            (_, _) => TORN,
        }
    }
}

/// The bits of a number that identify the content. The bits above are its size.
const IDENTITY: u64 = (1 << 40) - 1;

/// The number that stands for content of this size in a trace.
#[must_use]
pub const fn number(identity: u64, size: usize) -> u64 {
    identity & IDENTITY | (size as u64) << 40
}

/// Mixes two identities.
const fn mix(a: u64, b: u64) -> u64 {
    (a.rotate_left(17) ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24
}

/// Numbers that stand for content ([`number`]). Equal content that is joined and cut in the same way has equal numbers.
impl Piece for u64 {
    fn size(&self) -> usize {
        usize::try_from(self >> 40).unwrap_or(usize::MAX)
    }

    fn join(&self, next: &Self) -> Self {
        number(mix(*self, *next), self.size().saturating_add(next.size()))
    }

    fn behind(&self, size: usize) -> Self {
        number(mix(*self, size as u64), self.size().saturating_sub(size))
    }
}
