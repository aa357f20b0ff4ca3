//! A compact form of entries: pieces of a part that follow each other are encoded by columns, with their texts
//! together.
//!
//! The fields that pieces share are stored once, so that little but the text is left to compress. Each entry decodes to
//! exactly the same bytes; an entry that would not is stored as it is.

use std::sync::Arc;

use lockstep_model::run::Kind;
use lockstep_model::{Offset, PartId, RunId};

use super::entries::put_entry;
use super::format::{content, put, take, take_bytes, written};
use crate::log::Written;
use crate::payload::Record;
use crate::payload::{Delta, data_of_piece};

/// A piece: the fields that it shares with its neighbours, and its own.
struct Piece {
    shared: Shared,
    at: u64,
    text: String,
}

#[derive(PartialEq, Eq)]
struct Shared {
    run: RunId,
    part: PartId,
    thread: Option<Arc<str>>,
    kind: String,
}

impl Shared {
    fn content(&self, at: u64, text: &str) -> Option<Vec<u8>> {
        let data = data_of_piece(self.part, &self.kind, text);
        let record = Arc::new(Record::written(self.thread.clone(), data, at));
        content(&Written { run: self.run, kind: Kind::Delta(self.part), record }).ok()
    }

    fn put(&self, bytes: &mut Vec<u8>) {
        put(bytes, self.run.0);
        put(bytes, self.part.0.into());
        put(bytes, self.thread.as_ref().map_or(0, |thread| thread.len() as u64 + 1));
        bytes.extend_from_slice(self.thread.as_deref().unwrap_or_default().as_bytes());
        put(bytes, self.kind.len() as u64);
        bytes.extend_from_slice(self.kind.as_bytes());
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (run, part) = (RunId(take(bytes)?), PartId(u32::try_from(take(bytes)?).ok()?));
        let thread = match usize::try_from(take(bytes)?).ok()?.checked_sub(1) {
            Some(length) => {
                let (name, rest) = bytes.split_at_checked(length)?;
                *bytes = rest;
                Some(Arc::from(core::str::from_utf8(name).ok()?))
            }
            None => None,
        };
        Some(Self { run, part, thread, kind: core::str::from_utf8(take_bytes(bytes)?).ok()?.to_owned() })
    }
}

impl Piece {
    /// Parses a piece, if it encodes back to the same content.
    fn of(bytes: &[u8]) -> Option<Self> {
        let Written { run, kind: Kind::Delta(part), record } = written(bytes)? else { return None };
        let Delta { kind, text, .. } = Delta::of(&record.data)?;
        let shared = Shared { run, part, thread: record.thread.clone(), kind: kind.into_owned() };
        let piece = Self { shared, at: record.at(), text: text.into_owned() };
        (piece.shared.content(piece.at, &piece.text)? == bytes).then_some(piece)
    }
}

/// Encodes the entries, the first of which is after `previous`.
pub(super) fn put_all<'b>(bytes: &mut Vec<u8>, previous: Offset, entries: impl Iterator<Item = (Offset, &'b [u8])>) {
    let (mut last, mut pieces) = (previous, Vec::<(u64, Piece)>::new());
    for (offset, content) in entries {
        let behind = offset.0 - last.0;
        last = offset;
        let piece = Piece::of(content);
        let goes_on = |piece: &Piece| pieces.last().is_none_or(|(_, before)| before.shared == piece.shared);
        if !piece.as_ref().is_some_and(goes_on) {
            put_pieces(bytes, &pieces);
            pieces.clear();
        }
        match piece {
            Some(piece) => pieces.push((behind, piece)),
            None => {
                put(bytes, 0);
                put_entry(bytes, behind, content);
            }
        }
    }
    put_pieces(bytes, &pieces);
}

/// Encodes the number of pieces, the fields that they share, and the other fields by columns.
fn put_pieces(bytes: &mut Vec<u8>, pieces: &[(u64, Piece)]) {
    let Some((_, first)) = pieces.first() else { return };
    put(bytes, pieces.len() as u64);
    first.shared.put(bytes);
    for (behind, _) in pieces {
        put(bytes, *behind);
    }
    let mut last = 0;
    for (_, piece) in pieces {
        // Clocks can go back, so the difference wraps around.
        put(bytes, zigzag(piece.at.wrapping_sub(last).cast_signed()));
        last = piece.at;
    }
    for (_, piece) in pieces {
        put(bytes, piece.text.len() as u64);
    }
    for (_, piece) in pieces {
        bytes.extend_from_slice(piece.text.as_bytes());
    }
}

const fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Decodes the entries into the form of an unpacked record, of `size` bytes; `None` if they do not match.
pub(super) fn plain(mut bytes: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut rest = Vec::with_capacity(size.min(1 << 20));
    while !bytes.is_empty() {
        let count = usize::try_from(take(&mut bytes)?).ok()?;
        if count == 0 {
            let behind = take(&mut bytes)?;
            put_entry(&mut rest, behind, take_bytes(&mut bytes)?);
            continue;
        }
        if count > bytes.len() {
            return None;
        }
        let shared = Shared::take(&mut bytes)?;
        let mut column = || (0..count).map(|_| take(&mut bytes)).collect::<Option<Vec<u64>>>();
        let (behind, times, lengths) = (column()?, column()?, column()?);
        let mut at = 0_u64;
        for ((behind, time), length) in behind.into_iter().zip(times).zip(lengths) {
            at = at.wrapping_add(unzigzag(time).cast_unsigned());
            let (text, more) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
            bytes = more;
            put_entry(&mut rest, behind, &shared.content(at, core::str::from_utf8(text).ok()?)?);
        }
    }
    (rest.len() == size).then_some(rest)
}
