//! One user's stream ([`lockstep_model::stream`]) between its writers, a log and its readers, alone.
//!
//! The log takes writes one by one, late or never; assigns offsets with or without gaps; refuses the rest of a batch or
//! does not answer it, even if it has silently taken a part, and takes more of it later; repeats every answer, and
//! answers late. The process may crash at any moment. The log then returns everything that it has taken or the retained
//! part, or it has lost everything and begins a new epoch. A log does not lie: it confirms nothing that it does not
//! have.
//!
//! Nothing is assumed of the log: LIVE-3 holds even if it never answers, because readable entries do not wait for it.
//!
//! As the machine's callers do, the environment appends only if there is room.
//!
//! One reader hides no violation: a read takes the stream by shared reference, so readers cannot affect each other, and
//! one stands for any. The largest profile nevertheless has two.
//!
//! The oracle is the log itself, as a plain list, and the list of appended events.

mod chart;

use lockstep_model::frame::ReadFrom;
use lockstep_model::run::Kind;
use lockstep_model::stream::{Cursor, Entry, Event, Input, Output, Read, Snapshot, Stream, Writer};
use lockstep_model::{BatchId, Bounds, Epoch, FencingToken, Handled, Offset, Position, RunId, Tenure, ThreadId, Timer};

use crate::engine::profile::Profile;
use crate::models::harness::{Armed, checked, deadline, small};
use crate::properties;

/// The model.
#[derive(Clone, Debug)]
pub struct Log {
    bounds: Bounds,
    appends: u8,
    failures: u8,
    crashes: u8,
    readers: usize,
    seeks: u8,
    /// Whether readers claim positions that they were never given.
    claims: bool,
}

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Log {
    let (appends, failures, crashes, readers, seeks) = match profile {
        Profile::Quick => (4, 1, 1, 1, 2),
        Profile::Ci => (5, 1, 1, 1, 3),
        Profile::Deep => (5, 2, 2, 2, 2),
    };
    Log { bounds: small(), appends, failures, crashes, readers, seeks, claims: false }
}

/// Returns the model at bounds for long random walks, in which readers claim any position.
pub fn long() -> Log {
    let bounds = Bounds { retained: 5, pending: 8, ..small() };
    Log { bounds, appends: 60, failures: 20, crashes: 6, readers: 3, seeks: 60, claims: true }
}

/// An action of the adversary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The next event is appended.
    Append,
    /// The log takes the next write, with this many unused offsets before it, and does not answer.
    Take(u8),
    /// The log confirms the oldest write that it has taken.
    Confirm,
    /// The log refuses the unconfirmed part of the batch.
    Fail,
    /// The log confirms something again, or too late.
    Late(BatchId, Offset),
    /// The log refuses, again or too late, a batch that is not in progress.
    Refuse(BatchId),
    /// A timer fires.
    Expired(Timer),
    /// The process crashes and restores from the log: everything that it has, or the retained part.
    Crash(bool),
    /// The process crashes, and the log has lost everything.
    Lose,
    /// A reader begins at the latest, the earliest or its last position.
    Seek(u8, u8),
    /// A reader begins after this offset of the current epoch, which it claims to have read up to.
    Claim(u8, Offset),
    /// A reader reads.
    Read(u8),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Reader {
    cursor: Option<Cursor>,
    seeks: u8,
    /// The last offset that the reader was given, or told that it has missed, with its epoch.
    seen: Option<(u64, u64)>,
}

/// A stream and its oracle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    stream: Stream<u8>,
    epoch: u64,
    /// The log's entries of this epoch: offset and content.
    durable: Vec<(u64, u8)>,
    /// How many of them were confirmed to the stream.
    told: usize,
    /// How many of them are no longer readable.
    trimmed: usize,
    /// Appended and unconfirmed events, in order.
    waiting: Vec<u8>,
    /// Emitted writes after the confirmed ones.
    writes: Vec<u8>,
    writing: bool,
    /// How many of the waiting events the log was ever asked to write. It may write them at any later time.
    asked: usize,
    /// Whether it did not take the oldest when it was last asked.
    refused: bool,
    armed: Armed,
    next: u8,
    failures: u8,
    crashes: u8,
    readers: Vec<Reader>,
    reset: bool,
    broken: Option<&'static str>,
}

fn event(content: u8) -> Event<u8> {
    Event { run: RunId(u64::from(content)), thread: Some(ThreadId(0)), kind: Kind::Thinking, payload: Some(content) }
}

/// The record that the log stores for every other content. It stores the rest unchanged.
const fn recorded(content: u8) -> Option<u8> {
    if content.is_multiple_of(2) { None } else { Some(content | 0x80) }
}

checked![Log, State; "STR-1", "STR-2", "LIM-1", "LIVE-4"];

impl State {
    fn offset(&self, index: usize) -> u64 {
        index.checked_sub(1).map_or(0, |index| self.durable[index].0)
    }

    fn entry(&self, index: usize) -> Entry<u8> {
        let (offset, content) = self.durable[index];
        let written = event(content);
        let event = Event { payload: recorded(content).or(written.payload), ..written };
        Entry { offset: Offset(offset), previous: Offset(self.offset(index)), event }
    }

    fn head(&self) -> u64 {
        self.offset(self.told)
    }

    fn tail(&self) -> u64 {
        self.offset(self.trimmed)
    }

    fn batch(&self) -> Vec<Output<u8>> {
        let (tenure, batch, after) = (self.tenure(), self.stream.batch(), Offset(self.head()));
        let write = |content: &u8| Output::Write { tenure, batch, after, event: event(*content) };
        let answer = Output::Arm(Timer::LogAnswer, small().log_answer);
        self.waiting.iter().map(write).chain([answer]).collect()
    }

    /// Each restart is a new owner.
    fn tenure(&self) -> Tenure {
        Tenure { epoch: Epoch(self.epoch), token: FencingToken(u32::from(self.crashes) + 1) }
    }

    fn begin(&mut self) {
        self.writing = !self.waiting.is_empty();
        self.writes = self.waiting.clone();
        self.asked = self.waiting.len();
    }

    /// Feeds an input to the machine in its state `before`. `outputs` are the required ones, `None` if nothing must
    /// happen.
    fn feed(
        &mut self,
        bounds: &Bounds,
        before: &Stream<u8>,
        input: Input<u8>,
        outputs: impl FnOnce(&Self) -> Option<Vec<Output<u8>>>,
    ) -> Handled {
        let mut out = Vec::new();
        let handled = self.stream.step(bounds, input, &mut out);
        let expected = outputs(self);
        match expected {
            None => self.expect(handled == Handled::Ignored && out.is_empty() && self.stream == *before, "STR-2"),
            Some(expected) => self.expect(handled == Handled::Done && out == expected, "STR-2"),
        }
        for output in &out {
            match output {
                Output::Arm(timer, after) => {
                    self.armed.arm(*timer);
                    self.expect(deadline(bounds, *timer) == Some(*after), "STR-2");
                }
                Output::Disarm(timer) => self.armed.disarm(*timer),
                Output::Write { .. } | Output::Readable(_) | Output::Trimmed(_) | Output::Deleted(_) => {}
            }
        }
        handled
    }

    fn act(&mut self, model: &Log, before: &Stream<u8>, action: Action) -> Handled {
        let bounds = &model.bounds;
        let handled = match action {
            Action::Append => {
                let content = self.next;
                self.next += 1;
                self.waiting.push(content);
                let idle = self.waiting.len() == 1;
                if idle {
                    self.begin();
                }
                self.feed(bounds, before, Input::Append(event(content)), |state| {
                    Some(if idle { state.batch() } else { vec![] })
                })
            }
            Action::Take(hole) => {
                let index = self.durable.len() - self.told;
                let offset = self.offset(self.durable.len()) + 1 + u64::from(hole);
                self.durable.push((offset, self.waiting[index]));
                Handled::Done
            }
            Action::Confirm => self.confirm(bounds, before),
            Action::Fail => {
                let batch = self.stream.batch();
                self.failures += 1;
                self.give_up();
                let handled = self.feed(bounds, before, Input::Failed { batch }, |_| {
                    Some(vec![Output::Disarm(Timer::LogAnswer), Output::Arm(Timer::Retry, bounds.retry)])
                });
                self.expect(self.stream.batch() != batch, "STR-2");
                handled
            }
            Action::Late(batch, offset) => {
                self.feed(bounds, before, Input::Persisted { batch, offset, record: Some(0xff) }, |_| None)
            }
            Action::Refuse(batch) => self.feed(bounds, before, Input::Failed { batch }, |_| None),
            Action::Expired(Timer::LogAnswer) if self.writing => {
                let batch = self.stream.batch();
                self.armed.disarm(Timer::LogAnswer);
                self.failures += 1;
                self.give_up();
                let handled = self.feed(bounds, before, Input::Expired(Timer::LogAnswer), |_| {
                    Some(vec![Output::Arm(Timer::Retry, bounds.retry)])
                });
                self.expect(self.stream.batch() != batch, "LIVE-4");
                handled
            }
            Action::Expired(timer) => {
                self.armed.disarm(timer);
                let again = timer == Timer::Retry && !self.writing && !self.waiting.is_empty();
                if again {
                    self.begin();
                }
                self.feed(bounds, before, Input::Expired(timer), |state| again.then(|| state.batch()))
            }
            Action::Crash(all) => self.crash(bounds, all),
            Action::Lose => {
                self.epoch += 1;
                self.durable.clear();
                self.crash(bounds, true)
            }
            Action::Seek(reader, from) => self.seek(usize::from(reader), from),
            Action::Claim(reader, offset) => {
                let reader = usize::from(reader);
                self.readers[reader].seen = Some((self.epoch, offset.0));
                self.seek(reader, 2)
            }
            Action::Read(reader) => self.read(bounds, usize::from(reader)),
        };
        self.check(bounds);
        handled
    }

    fn confirm(&mut self, bounds: &Bounds, before: &Stream<u8>) -> Handled {
        let index = self.told;
        // A rewrite of an existing entry must be equal, or one offset would have two contents.
        self.expect(self.writes.first() == Some(&self.durable[index].1), "STR-2");
        self.told += 1;
        self.waiting.remove(0);
        self.writes.remove(0);
        (self.asked, self.refused) = (self.asked - 1, false);
        let mut expected = vec![Output::Readable(self.entry(index))];
        if self.told - self.trimmed > bounds.retained {
            expected.push(Output::Trimmed(self.entry(self.trimmed)));
            self.trimmed += 1;
        }
        let last = self.writes.is_empty();
        if last {
            self.begin();
        }
        let (offset, content) = self.durable[index];
        let (batch, offset, record) = (self.stream.batch(), Offset(offset), recorded(content));
        let input = Input::Persisted { batch, offset, record };
        self.feed(bounds, before, input, |state| {
            if last && state.waiting.is_empty() {
                expected.push(Output::Disarm(Timer::LogAnswer));
            } else if last {
                expected.extend(state.batch());
            }
            Some(expected)
        })
    }

    fn give_up(&mut self) {
        (self.writing, self.refused) = (false, true);
        self.writes.clear();
    }

    fn crash(&mut self, bounds: &Bounds, all: bool) -> Handled {
        self.crashes += 1;
        self.told = self.durable.len();
        let retained = self.told.saturating_sub(bounds.retained);
        let given = if all { 0 } else { retained };
        self.trimmed = retained;
        (self.waiting, self.writes, self.writing) = (Vec::new(), Vec::new(), false);
        (self.asked, self.refused) = (0, false);
        self.armed = Armed::default();
        let entries = (given..self.told).map(|index| self.entry(index)).collect();
        let snapshot = Snapshot { trimmed: Offset(self.offset(given)), entries, ..Snapshot::empty(self.tenure()) };
        let mut out = Vec::new();
        self.stream = Stream::restore(bounds, snapshot, &mut out);
        let expected: Vec<_> = (given..retained).map(|index| Output::Trimmed(self.entry(index))).collect();
        self.expect(out == expected, "LIM-1");
        for reader in &mut self.readers {
            reader.cursor = None;
        }
        Handled::Done
    }

    fn seek(&mut self, index: usize, from: u8) -> Handled {
        let (head, tail) = (self.head(), self.tail());
        let wanted =
            self.readers[index].seen.map(|(epoch, offset)| Position { epoch: Epoch(epoch), offset: Offset(offset) });
        let (place, at, gap) = match (from, wanted) {
            (2, Some(position)) => {
                let known = position.epoch.0 == self.epoch && (tail..=head).contains(&position.offset.0);
                let at = if known { position.offset.0 } else { tail };
                (ReadFrom::After(position), at, (!known).then_some(position))
            }
            (1 | 2, _) => (ReadFrom::Earliest, tail, None),
            (_, _) => (ReadFrom::Latest, head, None),
        };
        let (cursor, found) = self.stream.seek(place, Offset(0));
        self.reset |= gap.is_some();
        self.expect(cursor.at() == Offset(at) && found == gap, "STR-1");
        let seeks = self.readers[index].seeks + 1;
        self.readers[index] = Reader { cursor: Some(cursor), seeks, seen: Some((self.epoch, at)) };
        Handled::Done
    }

    fn read(&mut self, bounds: &Bounds, index: usize) -> Handled {
        let Some(mut cursor) = self.readers[index].cursor else { return Handled::Ignored };
        let seen = self.readers[index].seen.map_or(0, |(_, offset)| offset);
        let next = (0..self.told).find(|index| self.durable[*index].0 > seen);
        let (head, tail) = (self.head(), self.tail());
        let behind = self.stream.is_behind(cursor);
        let mut observed = properties::stream::Reader::resumed(Offset(seen));
        let (right, order) = match self.stream.read(bounds, &mut cursor) {
            Read::Entry(entry) => {
                // Even within a hole, the entry names the reader's position as its predecessor.
                let linked = |next| Entry { previous: Offset(seen), ..self.entry(next) };
                let there = seen >= tail && next.is_some_and(|next| *entry == linked(next));
                (there, observed.entry(entry.previous, entry.offset))
            }
            Read::Head => (seen == head, Ok(())),
            // This log keeps no trimmed entries.
            Read::Missed => (false, Ok(())),
            Read::Gap { from, to } => (seen < tail && to.0 == tail, observed.reset(from, to)),
        };
        self.reset |= seen < tail;
        self.expect(right && order.is_ok() && Some(cursor.at()) == observed.at(), "STR-1");
        self.expect(behind == (seen < head), "STR-1");
        let seeks = self.readers[index].seeks;
        self.readers[index] = Reader { cursor: Some(cursor), seeks, seen: Some((self.epoch, cursor.at().0)) };
        Handled::Done
    }

    fn check(&mut self, bounds: &Bounds) {
        if let Err(violation) = self.stream.check(bounds) {
            self.violated(violation.0);
        }
        let writer = match self.stream.writer() {
            Writer::Idle => self.waiting.is_empty(),
            Writer::Writing { left } => self.writing && !self.refused && left == self.writes.len() && left > 0,
            Writer::Retrying { left } => self.writing && self.refused && left == self.writes.len() && left > 0,
            Writer::Waiting => !self.writing && !self.waiting.is_empty(),
        };
        let waits = !self.writing && !self.waiting.is_empty();
        self.expect(writer && self.armed.has(Timer::Retry) <= !self.writing, "STR-2");
        self.expect(!waits || self.armed.has(Timer::Retry), "STR-2");
        self.expect(self.armed.has(Timer::LogAnswer) == self.writing, "LIVE-4");
        self.expect(self.stream.is_refused() == self.refused, "STR-2");
        let readable: Vec<_> = (self.trimmed..self.told).map(|index| self.entry(index)).collect();
        let pending: Vec<_> = self.waiting.iter().map(|content| event(*content)).collect();
        self.expect(*self.stream.entries() == readable && *self.stream.pending() == pending, "STR-2");
        self.expect(self.stream.head().0 == self.head() && self.stream.tail().0 == self.tail(), "STR-1");
        self.expect(self.stream.epoch() == Epoch(self.epoch) && self.stream.tenure() == self.tenure(), "STR-1");
        self.expect(self.told - self.trimmed <= bounds.retained, "LIM-1");
        self.check_claims();
    }

    /// The next batch has everything that waits while a batch is in progress.
    fn check_batches(&mut self, bounds: &Bounds) {
        let (mut stream, mut out) = (self.stream.clone(), Vec::new());
        let most = u8::try_from(bounds.pending).unwrap_or(u8::MAX);
        for content in 0..most {
            let _ = stream.step(bounds, Input::Append(event(content)), &mut out);
        }
        let (batch, offset) = (stream.batch(), Offset(1));
        let _ = stream.step(bounds, Input::Persisted { batch, offset, record: None }, &mut out);
        let written = out.iter().filter_map(|output| match output {
            Output::Write { event: Event { payload, .. }, .. } => *payload,
            Output::Readable(_) | Output::Trimmed(_) | Output::Deleted(_) | Output::Arm(..) | Output::Disarm(_) => None,
        });
        self.expect(written.eq(0..most), "STR-2");
    }

    /// A client may claim any position and epoch. Only positions that it can have read are accepted.
    fn check_claims(&mut self) {
        let (head, tail) = (self.head(), self.tail());
        for (epoch, offset) in (0..=self.epoch + 1).flat_map(|epoch| (0..=head + 1).map(move |offset| (epoch, offset)))
        {
            let claimed = Position { epoch: Epoch(epoch), offset: Offset(offset) };
            let known = epoch == self.epoch && (tail..=head).contains(&offset);
            let (at, gap) = if known { (offset, None) } else { (tail, Some(claimed)) };
            let (cursor, found) = self.stream.seek(ReadFrom::After(claimed), Offset(0));
            self.expect(cursor.at() == Offset(at) && found == gap, "STR-1");
        }
    }
}
