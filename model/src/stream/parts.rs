//! Parts of a stream: consecutive pieces become one entry, which remembers where they met (STR-3).

use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;
use core::iter::Peekable;

use super::{Entry, Event, Stream};
use crate::bounds::Bounds;
use crate::id::{Offset, PartId, RunId};
use crate::piece::Piece;
use crate::run::Kind;

/// Where pieces of an entry met: a piece's offset, and the size of the entry up to the piece's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Joint {
    offset: Offset,
    size: usize,
}

impl<P> Event<P> {
    /// The part that this event is a piece of, if any.
    pub(super) const fn part(&self) -> Option<(RunId, PartId)> {
        match self.kind {
            Kind::Delta(part) if self.payload.is_some() => Some((self.run, part)),
            Kind::Delta(_)
            | Kind::Received(_)
            | Kind::Started
            | Kind::Thinking
            | Kind::ToolExecuting(_)
            | Kind::ToolCompleted(..)
            | Kind::Paused(_)
            | Kind::Resumed(_)
            | Kind::Completed
            | Kind::Error(_)
            | Kind::Notice
            | Kind::Deleted => None,
        }
    }
}

impl<P: Piece> Stream<P> {
    /// Adds a durable entry as the newest. If it does not continue the previous part, the pieces of that part are
    /// joined.
    pub(super) fn push(&mut self, bounds: &Bounds, entry: Entry<P>) {
        let part = entry.event.part();
        let last = self.entries.back().and_then(|last| last.event.part());
        if last.is_some() && last != part {
            self.join(bounds, self.apart(), 0);
        }
        self.bytes += entry.size();
        self.turns += usize::from(entry.is_turn());
        self.entries.push_back(entry);
        let apart = self.apart();
        if apart >= 2 * bounds.apart {
            self.join(bounds, apart, bounds.apart);
        }
    }

    /// How many of the newest entries are unjoined pieces of one part.
    fn apart(&self) -> usize {
        let Some(part) = self.entries.back().and_then(|last| last.event.part()) else { return 0 };
        let joined = self.joints.last_key_value().map_or(self.tail, |(offset, _)| *offset);
        let newest = self.entries.iter().rev();
        newest.take_while(|entry| entry.event.part() == Some(part) && entry.offset > joined).count()
    }

    /// Joins the newest `apart` pieces, except the last `left`, to the entry before them or to each other.
    fn join(&mut self, bounds: &Bounds, apart: usize, left: usize) {
        let newer = self.entries.split_off(self.entries.len() - left);
        let pieces = self.entries.split_off(self.entries.len() + left - apart);
        let mut pieces = pieces.iter().peekable();
        while let Some(piece) = pieces.next() {
            let last = self.entries.back_mut().filter(|last| last.event.part() == piece.event.part());
            let Some(last) = last.filter(|last| last.takes(bounds, piece)) else {
                self.entries.push_back(piece.clone());
                continue;
            };
            let mut joints = self.joints.remove(&last.offset).unwrap_or_else(|| vec![last.joint()]);
            let size = last.size();
            last.extend(bounds, piece, &mut pieces, |offset, more| joints.push(Joint { offset, size: size + more }));
            self.joints.insert(last.offset, joints);
        }
        self.entries.extend(newer);
    }

    /// The portion of an entry that a reader at this offset has not read.
    pub(super) fn behind<'a>(&self, entry: &'a Entry<P>, at: Offset) -> Cow<'a, Entry<P>> {
        let joints = self.joints.get(&entry.offset).map_or(&[][..], Vec::as_slice);
        let read = joints.partition_point(|joint| joint.offset <= at).checked_sub(1);
        let (Some(read), Some(payload)) = (read.and_then(|read| joints.get(read)), &entry.event.payload) else {
            return Cow::Borrowed(entry);
        };
        let event = Event { payload: Some(payload.behind(read.size)), ..entry.event.clone() };
        Cow::Owned(Entry { offset: entry.offset, previous: read.offset, event })
    }

    /// Whether the newest joined entry matches its newest joint. The other joined entries have not changed since they
    /// were the newest.
    pub(super) fn is_joined_right(&self) -> bool {
        let joined = |(offset, joints): (&Offset, &Vec<Joint>)| {
            let entry = self.entries.binary_search_by_key(offset, |entry| entry.offset).ok();
            let size = entry.and_then(|index| self.entries[index].event.payload.as_ref()).map(Piece::size);
            let increasing = joints
                .windows(2)
                .next_back()
                .is_none_or(|pair| pair[0].offset < pair[1].offset && pair[0].size <= pair[1].size);
            let last = joints.last().is_some_and(|last| last.offset == *offset && Some(last.size) == size);
            increasing && last
        };
        self.joints.iter().next_back().is_none_or(joined)
    }
}

impl<P: Piece> Entry<P> {
    /// The size of its content in bytes.
    pub(super) fn size(&self) -> usize {
        self.event.payload.as_ref().map_or(0, Piece::size)
    }

    /// Whether it is the message that begins a turn.
    pub(super) const fn is_turn(&self) -> bool {
        matches!(self.event.kind, Kind::Received(_))
    }

    fn joint(&self) -> Joint {
        Joint { offset: self.offset, size: self.size() }
    }

    /// Whether there is room for the next piece.
    pub(super) fn takes(&self, bounds: &Bounds, next: &Self) -> bool {
        self.size().saturating_add(next.size()) <= bounds.joined
    }

    /// Joins the following pieces of the same part to an entry, while there is room. Returns how many were joined.
    pub(super) fn fold<'a>(
        bounds: &Bounds,
        entry: &mut Cow<'_, Self>,
        following: impl Iterator<Item = &'a Self>,
    ) -> usize
    where
        P: 'a,
    {
        let Some(part) = entry.event.part() else { return 0 };
        let mut following = following.take_while(|piece| piece.event.part() == Some(part)).peekable();
        let mut joined = 0;
        if let Some(piece) = following.next_if(|piece| entry.takes(bounds, piece)) {
            entry.to_mut().extend(bounds, piece, &mut following, |_, _| joined += 1);
        }
        joined
    }

    /// Appends `first`, for which there is room, and as many of `rest` as there is room for. All are of the same part.
    /// Calls `told` for each piece with its offset and the size appended so far. The pieces are short and this entry
    /// may be long, so it is copied once.
    pub(super) fn extend<'a>(
        &mut self,
        bounds: &Bounds,
        first: &'a Self,
        rest: &mut Peekable<impl Iterator<Item = &'a Self>>,
        mut told: impl FnMut(Offset, usize),
    ) where
        P: 'a,
    {
        let room = bounds.joined.saturating_sub(self.size());
        let (mut more, mut size) = (vec![first], first.size());
        told(first.offset, size);
        while let Some(next) = rest.next_if(|next| size.saturating_add(next.size()) <= room) {
            size = size.saturating_add(next.size());
            told(next.offset, size);
            more.push(next);
        }
        self.offset = more.last().map_or(self.offset, |last| last.offset);
        if let Some(payload) = &mut self.event.payload {
            *payload = payload.join_all(more.iter().filter_map(|piece| piece.event.payload.as_ref()));
        }
    }
}
