//! Pages of a stream, exact to the offset though pieces of a part are stored as one entry.
//!
//! Pieces are given as one again only as far as nothing of another run is between them: a reader that goes on at the offset of
//! any entry has everything before it.

use core::ops::Range;
use std::sync::Arc;

use lockstep_model::Offset;
use lockstep_model::run::Kind;

use super::Written;
use super::conversations::Page;
use crate::payload::Record;
use crate::wire::{Delta, data_of_piece};

/// An entry as it is stored.
pub(super) struct Stored {
    pub(super) offset: Offset,
    pub(super) entry: Written,
    pub(super) joints: Joints,
}

/// What it was joined of.
pub(super) enum Joints {
    /// Where each piece was, and the bytes of its text; none if it is as it was appended.
    Known(Vec<(Offset, usize)>),
    /// Of pieces behind this offset. Where these met is not known.
    Behind(Offset),
}

/// A stored entry whose text is cut.
struct Cut<'a> {
    stored: &'a Stored,
    /// `None` if it is given as it is.
    delta: Option<Delta<'a>>,
}

/// A piece of a stored entry.
struct Part<'a> {
    offset: Offset,
    of: &'a Cut<'a>,
    /// Its text in that of the entry; `None` if it is the entry.
    text: Option<Range<usize>>,
    bytes: usize,
}

impl Stored {
    /// One that is as it was appended.
    pub(super) const fn whole(offset: Offset, entry: Written) -> Self {
        Self { offset, entry, joints: Joints::Known(Vec::new()) }
    }

    /// One that was joined of pieces, of which it is known where each but the last was and how long its text is. `None` if it
    /// is none.
    pub(super) fn joined(offset: Offset, entry: Written, mut joints: Vec<(Offset, usize)>) -> Option<Self> {
        if !joints.is_empty() {
            let before = joints.iter().try_fold(0_usize, |sum, (_, bytes)| sum.checked_add(*bytes))?;
            joints.push((offset, Delta::of(&entry.record.data)?.text.len().checked_sub(before)?));
        }
        Some(Self { offset, entry, joints: Joints::Known(joints) })
    }

    /// The bytes of what it has behind that offset.
    pub(super) fn bytes_behind(&self, after: Offset) -> usize {
        match &self.joints {
            _ if self.offset <= after => 0,
            Joints::Known(joints) if !joints.is_empty() => {
                joints.iter().filter(|(offset, _)| *offset > after).map(|(_, bytes)| bytes).sum()
            }
            Joints::Known(_) | Joints::Behind(_) => self.entry.record.data.get().len(),
        }
    }

    /// Whether that offset is between pieces of which it is not known where they met.
    fn hides(&self, offset: Offset) -> bool {
        matches!(self.joints, Joints::Behind(before) if before < offset && offset < self.offset)
    }

    /// `None` if it is damaged.
    fn cut(&self) -> Option<Cut<'_>> {
        let delta = match &self.joints {
            Joints::Known(joints) if !joints.is_empty() => Some(Delta::of(&self.entry.record.data)?),
            Joints::Known(_) | Joints::Behind(_) => None,
        };
        Some(Cut { stored: self, delta })
    }
}

impl Cut<'_> {
    /// Puts the pieces between these offsets. `None` if it is damaged.
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

    /// The text of these pieces.
    fn piece(&self, text: Range<usize>) -> Option<Written> {
        let Written { run, kind, record } = &self.stored.entry;
        let (Kind::Delta(part), Some(delta)) = (*kind, &self.delta) else { return None };
        let data = data_of_piece(part, &delta.kind, delta.text.get(text)?);
        let record = Arc::new(Record::written(record.thread.clone(), data, record.at));
        Some(Written { run: *run, kind: *kind, record })
    }
}

/// The page of what is `stored` behind `after` and up to `through`, of which `trimmed` says what is missing. Of entries that
/// overlap this, all are here. `None` if one is damaged.
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

/// The last offset at or before `through` at which a page can end: not between pieces of which it is not known where they met.
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

/// Whether two parts are pieces of one entry that follow each other.
fn follows(one: &Part<'_>, other: &Part<'_>) -> bool {
    core::ptr::eq(one.of, other.of)
}

/// The entry that these parts of a stored one are, with the offset of the last.
fn entry(parts: &[Part<'_>]) -> Option<(Offset, Written)> {
    let (first, last) = (parts.first()?, parts.last()?);
    let entry = match (&first.text, &last.text) {
        (Some(first), Some(end)) => last.of.piece(first.start..end.end)?,
        _ => last.of.stored.entry.clone(),
    };
    Some((last.offset, entry))
}
