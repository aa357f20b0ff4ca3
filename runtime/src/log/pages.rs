//! Pages of a stream, exact to the offset although pieces of a part are stored as one entry.
//!
//! Pieces are returned as one entry only as far as no entry of another run is between them. A reader that continues at
//! the offset of any entry therefore has everything before it.

use core::ops::Range;
use std::sync::Arc;

use lockstep_model::Offset;
use lockstep_model::run::Kind;

use super::Written;
use super::conversations::Page;
use crate::payload::{Delta, Record, data_of_piece};

/// An entry as it is stored.
pub(super) struct Stored {
    pub(super) offset: Offset,
    pub(super) entry: Written,
    pub(super) joints: Joints,
}

/// The pieces that a stored entry was joined from.
pub(super) enum Joints {
    /// The offset and the text length of each piece; empty if the entry is as it was appended.
    Known(Vec<(Offset, usize)>),
    /// Pieces after this offset, whose boundaries are unknown.
    Behind(Offset),
}

/// A stored entry whose text can be cut.
struct Cut<'a> {
    stored: &'a Stored,
    /// `None` if the entry is returned whole.
    delta: Option<Delta<'a>>,
}

/// A piece of a stored entry.
struct Part<'a> {
    offset: Offset,
    of: &'a Cut<'a>,
    /// Its range in the entry's text; `None` if it is the whole entry.
    text: Option<Range<usize>>,
    bytes: usize,
}

impl Stored {
    /// An entry as it was appended.
    pub(super) const fn whole(offset: Offset, entry: Written) -> Self {
        Self { offset, entry, joints: Joints::Known(Vec::new()) }
    }

    /// An entry that was joined from pieces, with the offset and the text length of each piece but the last. `None` if
    /// these do not fit the entry.
    pub(super) fn joined(offset: Offset, entry: Written, mut joints: Vec<(Offset, usize)>) -> Option<Self> {
        if !joints.is_empty() {
            let before = joints.iter().try_fold(0_usize, |sum, (_, bytes)| sum.checked_add(*bytes))?;
            joints.push((offset, Delta::of(&entry.record.data)?.text.len().checked_sub(before)?));
        }
        Some(Self { offset, entry, joints: Joints::Known(joints) })
    }

    /// The bytes that it has after that offset.
    pub(super) fn bytes_behind(&self, after: Offset) -> usize {
        match &self.joints {
            _ if self.offset <= after => 0,
            Joints::Known(joints) if !joints.is_empty() => {
                joints.iter().filter(|(offset, _)| *offset > after).map(|(_, bytes)| bytes).sum()
            }
            Joints::Known(_) | Joints::Behind(_) => self.entry.record.data.get().len(),
        }
    }

    /// Whether an offset is between pieces whose boundaries are unknown.
    fn hides(&self, offset: Offset) -> bool {
        matches!(self.joints, Joints::Behind(before) if before < offset && offset < self.offset)
    }

    /// `None` if the entry is damaged.
    fn cut(&self) -> Option<Cut<'_>> {
        let delta = match &self.joints {
            Joints::Known(joints) if !joints.is_empty() => Some(Delta::of(&self.entry.record.data)?),
            Joints::Known(_) | Joints::Behind(_) => None,
        };
        Some(Cut { stored: self, delta })
    }
}

impl Cut<'_> {
    /// Appends the pieces between these offsets to `parts`. `None` if the entry is damaged.
    fn put<'a>(&'a self, parts: &mut Vec<Part<'a>>, after: Offset, through: Offset) -> Option<()> {
        let Stored { offset, entry, joints } = self.stored;
        let is_in = |offset: Offset| offset > after && offset <= through;
        let (Joints::Known(joints), Some(Delta { text, .. })) = (joints, &self.delta) else {
            let bytes = entry.record.data.get().len();
            parts.extend(is_in(*offset).then_some(Part { offset: *offset, of: self, text: None, bytes }));
            return Some(());
        };
        let mut begin = 0_usize;
        for (offset, bytes) in joints.iter().copied() {
            let end = begin + bytes;
            text.get(begin..end)?;
            if is_in(offset) {
                parts.push(Part { offset, of: self, text: Some(begin..end), bytes });
            }
            begin = end;
        }
        Some(())
    }

    /// Builds a piece from a range of the text.
    fn piece(&self, text: Range<usize>) -> Option<Written> {
        let Written { run, kind, record } = &self.stored.entry;
        let (Kind::Delta(part), Some(delta)) = (*kind, &self.delta) else { return None };
        let data = data_of_piece(part, &delta.kind, delta.text.get(text)?);
        let record = Arc::new(Record::written(record.thread.clone(), data, record.at()));
        Some(Written { run: *run, kind: *kind, record })
    }
}

/// Builds the page of the `stored` entries after `after`, up to `through`; everything up to `trimmed` is missing.
/// `stored` must contain all entries that overlap this range. `None` if an entry is damaged.
pub(super) fn page(
    stored: &[Stored],
    (after, through): (Offset, Offset),
    trimmed: Offset,
    bytes: usize,
) -> Option<Page> {
    let unknown: Vec<&Stored> = stored.iter().filter(|stored| matches!(stored.joints, Joints::Behind(_))).collect();
    let mut begin = after.max(trimmed);
    while let Some(last) = unknown.iter().filter(|stored| stored.hides(begin)).map(|stored| stored.offset).max() {
        begin = last;
    }
    let end = last_known(&unknown, begin, through);
    let mut parts = Vec::new();
    let cut: Vec<Cut<'_>> = stored.iter().map(Stored::cut).collect::<Option<_>>()?;
    for cut in &cut {
        cut.put(&mut parts, begin, end)?;
    }
    if end < through && parts.is_empty() {
        begin = through;
    }
    parts.sort_unstable_by_key(|part| part.offset);
    let (mut taken, mut size) = (0, 0_usize);
    while let Some(part) = parts.get(taken)
        && (taken == 0 || size <= bytes || unknown.iter().any(|stored| stored.hides(parts[taken - 1].offset)))
    {
        size = size.saturating_add(part.bytes);
        taken += 1;
    }
    let all = taken == parts.len() && (end == through || parts.is_empty());
    parts.truncate(taken);
    let through = parts.last().filter(|_| !all).map_or(through, |part| part.offset);
    let entries = parts.chunk_by(follows).map(entry).collect::<Option<_>>()?;
    Some(Page { trimmed: begin.min(through), entries, through })
}

/// The last offset at or before `through` at which a page can end: not between pieces whose boundaries are unknown.
fn last_known(unknown: &[&Stored], begin: Offset, through: Offset) -> Offset {
    let mut end = through;
    let before = |stored: &&&Stored| match stored.joints {
        Joints::Behind(before) => before,
        Joints::Known(_) => stored.offset,
    };
    while let Some(first) = unknown.iter().filter(|stored| stored.hides(end)).map(|stored| before(&stored)).min() {
        end = first;
    }
    end.max(begin).min(through)
}

/// Whether two parts are pieces of the same stored entry.
fn follows(one: &Part<'_>, other: &Part<'_>) -> bool {
    core::ptr::eq(one.of, other.of)
}

/// Builds an entry from these parts of a stored one, with the offset of the last.
fn entry(parts: &[Part<'_>]) -> Option<(Offset, Written)> {
    let (first, last) = (parts.first()?, parts.last()?);
    let entry = match (&first.text, &last.text) {
        (Some(first), Some(end)) => last.of.piece(first.start..end.end)?,
        _ => last.of.stored.entry.clone(),
    };
    Some((last.offset, entry))
}
