//! A minimal durable log of one user: the list of all it ever took, with holes in its numbering.

use std::collections::VecDeque;

use lockstep_model::run::Kind;
use lockstep_model::stream::Snapshot;
use lockstep_model::{BatchId, Entry, Epoch, Event, FencingToken, MessageId, Offset, Tenure};

use crate::support::Tag;

#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    epoch: u64,
    /// Whether it serves forgotten entries to readers.
    pub(crate) keeps: bool,
    /// All that it took in this epoch, forgotten or not.
    history: Vec<Entry<Tag>>,
    forgotten: usize,
    /// Unanswered writes, each with its index in `history`.
    asked: VecDeque<(BatchId, usize, Event<Tag>)>,
}

impl Log {
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    pub(crate) fn history(&self) -> &[Entry<Tag>] {
        &self.history
    }

    pub(crate) fn head(&self) -> Offset {
        self.history.last().map_or(Offset(0), |entry| entry.offset)
    }

    /// The messages that it ever took in this epoch, in order.
    pub(crate) fn messages(&self) -> impl Iterator<Item = MessageId> {
        messages_of(&self.history)
    }

    /// The first entry after an offset.
    pub(crate) fn after(&self, offset: Offset) -> Option<&Entry<Tag>> {
        self.history.get(self.index_behind(offset))
    }

    fn index_behind(&self, offset: Offset) -> usize {
        self.history.partition_point(|entry| entry.offset <= offset)
    }

    /// One write of a batch. A write names its predecessor, so the log recognizes one that it already has.
    pub(crate) fn write(&mut self, batch: BatchId, after: Offset, event: Event<Tag>) {
        let index = self.asked.back().map_or_else(|| self.index_behind(after), |(_, index, _)| index + 1);
        assert!(self.asked.back().is_none_or(|(before, ..)| *before == batch), "one batch at a time");
        self.asked.push_back((batch, index, event));
    }

    pub(crate) fn is_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Takes the oldest write, if the log does not have it yet, and answers it.
    pub(crate) fn take(&mut self, hole: u64) -> Option<(BatchId, Offset)> {
        let (batch, index, event) = self.asked.pop_front()?;
        self.keep(index, &event, hole);
        Some((batch, self.history[index].offset))
    }

    /// Takes the oldest write that it does not have, and does not answer.
    pub(crate) fn take_silently(&mut self, hole: u64) {
        let next = self.asked.iter().find(|(_, index, _)| *index == self.history.len()).cloned();
        if let Some((_, index, event)) = next {
            self.keep(index, &event, hole);
        }
    }

    fn keep(&mut self, index: usize, event: &Event<Tag>, hole: u64) {
        match self.history.get(index) {
            Some(entry) => assert_eq!(&entry.event, event, "STR-2: written again, in the same order"),
            None => {
                let previous = self.head();
                self.history.push(Entry { offset: Offset(previous.0 + hole), previous, event: event.clone() });
            }
        }
    }

    /// Refuses the rest of the batch.
    pub(crate) fn fail(&mut self) -> Option<BatchId> {
        let batch = self.asked.front()?.0;
        self.asked.clear();
        Some(batch)
    }

    /// Forgets the entries through an offset.
    pub(crate) fn trim(&mut self, through: Offset) {
        let forgotten = self.index_behind(through);
        assert!(forgotten >= self.forgotten, "a trim goes forward");
        self.forgotten = forgotten;
    }

    /// The writing process is gone.
    pub(crate) fn disconnect(&mut self) {
        self.asked.clear();
    }

    /// Loses everything; offsets begin again in a new epoch.
    pub(crate) fn lose(&mut self) {
        *self = Self { epoch: self.epoch + 1, keeps: self.keeps, ..Self::default() };
    }

    fn tenure(&self) -> Tenure {
        Tenure { epoch: self.epoch(), token: FencingToken(1) }
    }

    pub(crate) fn snapshot(&self) -> Snapshot<Tag> {
        let (forgotten, kept) = self.history.split_at(self.forgotten);
        let (past, entries) = (messages_of(forgotten).collect(), kept.to_vec());
        let trimmed = forgotten.last().map_or(Offset(0), |entry| entry.offset);
        Snapshot { tenure: self.tenure(), trimmed, read: Offset(0), past, entries, keeps: self.keeps }
    }
}

/// The messages whose beginnings are among these entries.
fn messages_of(entries: &[Entry<Tag>]) -> impl Iterator<Item = MessageId> {
    entries.iter().filter_map(|entry| if let Kind::Received(of) = entry.event.kind { Some(of.message) } else { None })
}
