//! The reference is a plain list: what was appended, how much of it the log has and at which offsets, and how much of
//! that is no longer retained.

use std::borrow::Cow;
use std::collections::VecDeque;

use lockstep_model::frame::ReadFrom;
use lockstep_model::stream::{Cursor, Input, Output, Read, Snapshot, Writer};
use lockstep_model::{BatchId, Entry, Handled, Offset, Position, Stream, Timer};
use proptest::prelude::*;

use super::{EPOCH, TENURE, event};
use crate::support::{SMALL, Tag, cases, lawful, survives_json};

#[derive(Clone, Debug)]
enum Move {
    Append(Tag),
    /// The log takes the oldest event of its batch, at an offset that far beyond its head.
    Persist {
        hole: u64,
    },
    Fail,
    /// An answer to a batch that is not under way, or an offset that does not increase.
    Stale {
        lag: u32,
        offset: u64,
        fails: bool,
    },
    Expire(Timer),
    /// One of the readers reads that many.
    Read {
        reader: usize,
        count: usize,
    },
    /// One of the readers seeks: to the latest, the earliest, or after an offset that it has read or made up.
    Seek {
        reader: usize,
        place: u8,
        made_up: u64,
    },
    /// The process crashes; the log returns what it has.
    Crash,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        12 => any::<Tag>().prop_map(Move::Append),
        14 => prop_oneof![3 => Just(1), 1 => 1..9u64].prop_map(|hole| Move::Persist { hole }),
        1 => Just(Move::Fail),
        2 => (0..3u32, 0..40u64, any::<bool>()).prop_map(|(lag, offset, fails)| Move::Stale { lag, offset, fails }),
        3 => prop::sample::select(vec![Timer::Retry, Timer::Linger]).prop_map(Move::Expire),
        8 => (0..3usize, 0..8usize).prop_map(|(reader, count)| Move::Read { reader, count }),
        1 => (0..3usize, 0..4u8, 0..80u64).prop_map(|(reader, place, made_up)| Move::Seek { reader, place, made_up }),
        1 => Just(Move::Crash),
    ]
}

struct World {
    stream: Stream<Tag>,
    /// Everything that the log ever took, in order, by offset.
    durable: Vec<(u64, Tag)>,
    /// Appended and not durable.
    waiting: VecDeque<Tag>,
    /// Unanswered writes of the batch under way.
    asked: VecDeque<(BatchId, Tag)>,
    readers: [Reader; 3],
}

struct Reader {
    cursor: Cursor,
    /// The offset after which it must go on.
    at: u64,
}

impl World {
    fn new() -> Self {
        let snapshot = Snapshot::empty(TENURE);
        let stream = Stream::restore(&SMALL, snapshot, &mut Vec::new());
        let reader = || Reader { cursor: stream.seek(ReadFrom::Earliest, Offset(0)).0, at: 0 };
        let readers = [reader(), reader(), reader()];
        Self { durable: Vec::new(), waiting: VecDeque::new(), asked: VecDeque::new(), readers, stream }
    }

    fn head(&self) -> u64 {
        self.durable.last().map_or(0, |(offset, _)| *offset)
    }

    /// The newest offset that the reference does not retain.
    fn tail(&self) -> u64 {
        let trimmed = self.durable.len().saturating_sub(SMALL.retained);
        if trimmed == 0 { 0 } else { self.durable[trimmed - 1].0 }
    }

    fn entry(&self, index: usize) -> Entry<Tag> {
        let previous = if index == 0 { 0 } else { self.durable[index - 1].0 };
        let (offset, tag) = self.durable[index];
        Entry { offset: Offset(offset), previous: Offset(previous), event: event(tag) }
    }

    fn step(&mut self, input: Input<Tag>) -> (Handled, Vec<Output<Tag>>) {
        let (before, mut out) = (self.stream.clone(), Vec::new());
        let handled = self.stream.step(&SMALL, input.clone(), &mut out);
        lawful(&before, &self.stream, Ok(handled), &out);
        survives_json(&input);
        survives_json(&out);
        survives_json(&self.stream);
        let mut after = None;
        for output in &out {
            if let Output::Write { batch, after: head, event, .. } = output {
                assert!(after.is_none_or(|place| place == *head), "a batch has one place");
                after = Some(*head);
                self.asked.push_back((*batch, event.payload.unwrap()));
            }
        }
        (handled, out)
    }

    fn append(&mut self, tag: Tag) {
        if self.waiting.len() == SMALL.pending {
            return;
        }
        self.waiting.push_back(tag);
        assert_eq!(self.step(Input::Append(event(tag))).0, Handled::Done);
    }

    fn persist(&mut self, hole: u64) {
        let Some((batch, tag)) = self.asked.pop_front() else { return };
        assert_eq!(self.waiting.pop_front(), Some(tag), "written in the order of appending");
        let offset = self.head() + hole;
        self.durable.push((offset, tag));
        let (handled, out) = self.step(Input::Persisted { batch, offset: Offset(offset), record: None });
        assert_eq!(handled, Handled::Done);
        let readable: Vec<_> = out.iter().filter(|output| matches!(output, Output::Readable(_))).collect();
        assert_eq!(readable, [&Output::Readable(self.entry(self.durable.len() - 1))]);
        let trimmed: Vec<_> = out.iter().filter(|output| matches!(output, Output::Trimmed(_))).collect();
        let over = self.durable.len().checked_sub(SMALL.retained + 1);
        let expected: Vec<_> = over.map(|index| Output::Trimmed(self.entry(index))).into_iter().collect();
        assert_eq!(trimmed, expected.iter().collect::<Vec<_>>());
    }

    fn fail(&mut self) {
        let Some((batch, _)) = self.asked.front().copied() else { return };
        self.asked.clear();
        let (handled, out) = self.step(Input::Failed { batch });
        assert_eq!(
            (handled, out),
            (Handled::Done, vec![Output::Disarm(Timer::LogAnswer), Output::Arm(Timer::Retry, SMALL.retry)])
        );
    }

    fn stale(&mut self, lag: u32, offset: u64, fails: bool) {
        let batch = BatchId(self.stream.batch().0.wrapping_sub(lag));
        let waited_for = self.asked.front().is_some_and(|(asked, _)| *asked == batch);
        if waited_for && (fails || offset > self.head()) {
            return;
        }
        let input = if fails {
            Input::Failed { batch }
        } else {
            Input::Persisted { batch, offset: Offset(offset), record: None }
        };
        assert_eq!(self.step(input).0, Handled::Ignored);
    }

    fn expire(&mut self, timer: Timer) {
        let waits = timer == Timer::Retry && self.stream.writer() == Writer::Waiting;
        let given_up = timer == Timer::LogAnswer && !self.asked.is_empty();
        if given_up {
            // The log may have taken some of it, and answers nothing more.
            self.asked.clear();
        }
        let (handled, out) = self.step(Input::Expired(timer));
        assert_eq!(handled, if waits || given_up { Handled::Done } else { Handled::Ignored });
        if given_up {
            assert_eq!(out, [Output::Arm(Timer::Retry, SMALL.retry)], "LIVE-4");
        }
        if waits {
            assert_eq!(self.asked.iter().map(|(_, tag)| *tag).collect::<VecDeque<_>>(), self.waiting);
        }
    }

    /// STR-1 and STR-2: a read returns the next durable entry after the position, the gap, or nothing.
    fn read(&mut self, reader: usize, count: usize) {
        for _ in 0..count {
            let Reader { mut cursor, at } = self.readers[reader];
            assert_eq!(self.stream.is_behind(cursor), at < self.head());
            let found = self.stream.read(&SMALL, &mut cursor);
            let next = self.durable.iter().position(|(offset, _)| *offset > at);
            let to = if at < self.tail() {
                assert_eq!(found, Read::Gap { from: Offset(at), to: Offset(self.tail()) });
                self.tail()
            } else if let Some(index) = next {
                let next = Entry { previous: Offset(at), ..self.entry(index) };
                assert_eq!(found, Read::Entry(Cow::Owned(next)));
                self.durable[index].0
            } else {
                assert_eq!(found, Read::Head);
                at
            };
            assert_eq!(cursor.at(), Offset(to));
            self.readers[reader] = Reader { cursor, at: to };
        }
    }

    fn seek(&mut self, reader: usize, place: u8, made_up: u64) {
        let offset = if place == 2 { self.readers[reader].at } else { made_up };
        let position = Position { epoch: EPOCH, offset: Offset(offset) };
        let from = [ReadFrom::Latest, ReadFrom::Earliest, ReadFrom::After(position), ReadFrom::After(position)]
            [usize::from(place)];
        let known = (self.tail()..=self.head()).contains(&offset);
        let (at, gap) = match place {
            0 => (self.head(), None),
            1 => (self.tail(), None),
            _ if known => (offset, None),
            _ => (self.tail(), Some(position)),
        };
        let (cursor, told) = self.stream.seek(from, Offset(0));
        assert_eq!((cursor.at(), told), (Offset(at), gap));
        self.readers[reader] = Reader { cursor, at };
    }

    /// STR-2: the process restarts with what the log has, which may be more than was confirmed, but nothing else.
    fn crash(&mut self) {
        if self.asked.len() > 1 {
            let (_, tag) = self.asked[0];
            let offset = self.head() + 1;
            self.durable.push((offset, tag));
        }
        (self.waiting, self.asked) = (VecDeque::new(), VecDeque::new());
        let entries = (0..self.durable.len()).map(|index| self.entry(index)).collect();
        let snapshot = Snapshot { entries, ..Snapshot::empty(TENURE) };
        survives_json(&snapshot);
        let mut out = Vec::new();
        self.stream = Stream::restore(&SMALL, snapshot, &mut out);
        let over = self.durable.len().saturating_sub(SMALL.retained);
        assert_eq!(out, (0..over).map(|index| Output::Trimmed(self.entry(index))).collect::<Vec<_>>());
        for reader in 0..self.readers.len() {
            let at = self.readers[reader].at;
            let position = Position { epoch: EPOCH, offset: Offset(at) };
            let (cursor, gap) = self.stream.seek(ReadFrom::After(position), Offset(0));
            assert_eq!(gap.is_none(), at >= self.tail(), "a reader that is not too late finds its place again");
            self.readers[reader] = Reader { cursor, at: at.max(self.tail()) };
        }
    }

    fn check_properties(&self) {
        assert_eq!(self.stream.check(&SMALL), Ok(()));
        assert_eq!((self.stream.head().0, self.stream.tail().0), (self.head(), self.tail()));
        let retained = self.durable.len().saturating_sub(SMALL.retained)..self.durable.len();
        let retained: Vec<_> = retained.map(|index| self.entry(index)).collect();
        assert_eq!(self.stream.entries(), &retained);
        let pending: Vec<_> = self.stream.pending().iter().map(|event| event.payload.unwrap()).collect();
        assert_eq!(self.waiting, pending);
        let writing = match self.stream.writer() {
            Writer::Idle => self.waiting.is_empty(),
            Writer::Writing { left } | Writer::Retrying { left } => left == self.asked.len() && left > 0,
            Writer::Waiting => self.asked.is_empty() && !self.waiting.is_empty(),
        };
        assert!(writing, "{:?} with {:?} asked and {:?} waiting", self.stream.writer(), self.asked, self.waiting);
    }
}

proptest! {
    #![proptest_config(cases())]

    /// STR-1, STR-2, LIM-1: across holes, refusals, retention and crashes, a stream equals the reference's list.
    #[test]
    fn a_stream_is_the_list_that_the_log_has_taken(moves in prop::collection::vec(moves(), 0..250)) {
        let mut world = World::new();
        for step in moves {
            match step {
                Move::Append(tag) => world.append(tag),
                Move::Persist { hole } => world.persist(hole),
                Move::Fail => world.fail(),
                Move::Stale { lag, offset, fails } => world.stale(lag, offset, fails),
                Move::Expire(timer) => world.expire(timer),
                Move::Read { reader, count } => world.read(reader, count),
                Move::Seek { reader, place, made_up } => world.seek(reader, place, made_up),
                Move::Crash => world.crash(),
            }
            world.check_properties();
        }
        while !world.asked.is_empty() || !world.waiting.is_empty() {
            world.expire(Timer::Retry);
            world.persist(1);
        }
        for reader in 0..3 {
            world.read(reader, SMALL.retained + 2);
            prop_assert_eq!(world.readers[reader].at, world.head(), "LIVE-3: each reader reaches the head");
        }
    }
}
