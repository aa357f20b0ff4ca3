//! The record of entries that follow each other: as they were appended, or *packed*.
//!
//! Each piece of an answer is appended as soon as it exists, and has the overhead of every record: several times its
//! text. Moved entries are therefore packed: entries of a user are put together (`pieces.rs`) and compressed (DEFLATE,
//! RFC 1951), and each decodes to its original, with its offset and its time. Readers see no difference, and a crash in
//! the middle is the same as during any move.

use std::borrow::Cow;
use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use lockstep_model::{FencingToken, Offset, UserId};

use super::format::{ENTRIES, PACKED, frame, put, take, take_bytes};
use super::pieces;

/// The most bytes of packed entries in a record, not counting the last entry.
pub(super) const PACKED_BYTES: usize = 64 * 1024;

/// Entries of a user that follow each other.
#[derive(Clone, Copy)]
pub(super) struct Entries<'a> {
    pub(super) user: UserId,
    pub(super) generation: FencingToken,
    pub(super) trimmed: Offset,
    pub(super) read: Offset,
    /// The offset of the entry before the first of these.
    pub(super) previous: Offset,
    /// The position in this segment of the record that this one continues; zero if none.
    pub(super) before: u32,
    pub(super) rest: Rest<'a>,
}

/// Of each entry, its distance from the one before, at first from `previous`, then its content.
#[derive(Clone, Copy)]
pub(super) enum Rest<'a> {
    Plain(&'a [u8]),
    /// The same by columns, `packed` bytes, which are compressed here. Unpacked they are `size` bytes.
    Packed {
        span: Span,
        packed: usize,
        size: usize,
        bytes: &'a [u8],
    },
}

/// The number of entries, and their first and last offset.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) entries: u32,
    pub(super) low: Offset,
    pub(super) high: Offset,
}

impl<'a> Entries<'a> {
    /// The numbers of a record whose entries are written separately.
    pub(super) const fn of(user: UserId, generation: FencingToken, trimmed: Offset, read: Offset) -> Self {
        Self { user, generation, trimmed, read, previous: Offset(0), before: 0, rest: Rest::Plain(&[]) }
    }

    pub(super) const fn is_packed(&self) -> bool {
        matches!(self.rest, Rest::Packed { .. })
    }

    /// `None` if there are no entries.
    pub(super) fn span(&self) -> Option<Span> {
        match self.rest {
            Rest::Packed { span, .. } => Some(span),
            Rest::Plain(rest) => iter(self.previous, rest).fold(None, |span, (offset, _)| {
                let Span { entries, low, .. } = span.unwrap_or(Span { entries: 0, low: offset, high: offset });
                Some(Span { entries: entries + 1, low, high: offset })
            }),
        }
    }

    /// The bytes that [`iter`] reads; `None` if they do not match the packed ones.
    pub(super) fn content(&self) -> Option<Cow<'a, [u8]>> {
        match self.rest {
            Rest::Plain(rest) => Some(Cow::Borrowed(rest)),
            Rest::Packed { packed, size, bytes, .. } => {
                let mut rest = Vec::new();
                let most = u64::try_from(packed).ok()?.checked_add(1)?;
                DeflateDecoder::new(bytes).take(most).read_to_end(&mut rest).ok()?;
                if rest.len() != packed {
                    return None;
                }
                pieces::plain(&rest, size).map(Cow::Owned)
            }
        }
    }

    /// Parses the record with this body.
    pub(super) fn parse(mut body: &'a [u8], packed: bool) -> Option<Self> {
        let body = &mut body;
        let of = Self {
            user: UserId(take(body)?),
            generation: FencingToken(u32::try_from(take(body)?).ok()?),
            trimmed: Offset(take(body)?),
            read: Offset(take(body)?),
            previous: Offset(take(body)?),
            before: u32::try_from(take(body)?).ok()?,
            rest: Rest::Plain(&[]),
        };
        if !packed {
            return Some(Self { rest: Rest::Plain(body), ..of });
        }
        let entries = u32::try_from(take(body)?).ok()?;
        let span = Span { entries, low: Offset(take(body)?), high: Offset(take(body)?) };
        let (packed, size) = (usize::try_from(take(body)?).ok()?, usize::try_from(take(body)?).ok()?);
        Some(Self { rest: Rest::Packed { span, packed, size, bytes: body }, ..of })
    }

    /// Appends this record with these entries: the offset and the content of each.
    pub(super) fn put<'b>(&self, bytes: &mut Vec<u8>, entries: impl Iterator<Item = (Offset, &'b [u8])>) {
        let mut body = self.head();
        put_rest(&mut body, self.previous, entries);
        frame(bytes, ENTRIES, &body);
    }

    /// Like [`Self::put`], but packed.
    pub(super) fn pack<'b>(&self, bytes: &mut Vec<u8>, span: Span, entries: impl Iterator<Item = (Offset, &'b [u8])>) {
        let (mut rest, mut size) = (Vec::new(), 0);
        let mut last = self.previous;
        let entries = entries.inspect(|(offset, content)| {
            size += entry_size(offset.0 - last.0, content);
            last = *offset;
        });
        pieces::put_all(&mut rest, self.previous, entries);
        let mut body = self.head();
        for number in [span.entries.into(), span.low.0, span.high.0, rest.len() as u64, size] {
            put(&mut body, number);
        }
        let mut encoder = DeflateEncoder::new(body, Compression::default());
        encoder.write_all(&rest).expect("memory can be written");
        let body = encoder.finish().expect("memory can be written");
        frame(bytes, PACKED, &body);
    }

    fn head(&self) -> Vec<u8> {
        let Self { user, generation, trimmed, read, previous, before, .. } = *self;
        let mut body = Vec::with_capacity(256);
        for number in [user.0, generation.0.into(), trimmed.0, read.0, previous.0, u64::from(before)] {
            put(&mut body, number);
        }
        body
    }
}

/// Encodes each entry: its distance from the one before, or from `previous`, and its content.
pub(in crate::log) fn put_rest<'b>(
    rest: &mut Vec<u8>,
    previous: Offset,
    entries: impl Iterator<Item = (Offset, &'b [u8])>,
) {
    let mut last = previous;
    for (offset, content) in entries {
        put_entry(rest, offset.0 - last.0, content);
        last = offset;
    }
}

/// Encodes one entry: its distance from the one before, and its content.
pub(super) fn put_entry(rest: &mut Vec<u8>, behind: u64, content: &[u8]) {
    put(rest, behind);
    put(rest, content.len() as u64);
    rest.extend_from_slice(content);
}

/// The number of bytes that [`put_entry`] writes.
fn entry_size(behind: u64, content: &[u8]) -> u64 {
    let of_number = |number: u64| u64::from((64 - (number | 1).leading_zeros()).div_ceil(7));
    of_number(behind) + of_number(content.len() as u64) + content.len() as u64
}

/// Iterates over the offset and the content of each entry of a record with this `previous` and this content.
pub(in crate::log) fn iter(previous: Offset, mut rest: &[u8]) -> impl Iterator<Item = (Offset, &[u8])> {
    let mut offset = previous;
    core::iter::from_fn(move || {
        offset = Offset(offset.0.checked_add(take(&mut rest)?)?);
        Some((offset, take_bytes(&mut rest)?))
    })
}
