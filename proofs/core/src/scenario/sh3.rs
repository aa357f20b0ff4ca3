//! SH-3: no wake-up is lost between "nothing to pull" and "appended"; none after close; no writer waits for a slow
//! reader.

use std::num::NonZeroUsize;
use std::task::{Context, Poll, Waker};

use lockstep_model::gateway::routing::ToConnections;
use lockstep_model::{Bounds, Cause, Frame, Offset, UserId, Violation};

use super::core::{Contents, Dispatch, Fault, Inbox, Item, Machine, Registry};
use super::fixture::{Fixture, serve};
use super::park::Parker;
use super::sync::{Arc, thread};
use super::{Counter, Scenario, Size, finish};

/// The scenarios of this file.
pub const ALL: &[Scenario] = &[
    Scenario {
        obligation: "SH-3",
        name: "wake-up",
        about: "writers append and signal while the reader polls and parks: it reads everything",
        exhaustible: Some(Size::PAIR),
        scales: true,
        run: wake_up::<Inbox<Blank, ()>>,
    },
    Scenario {
        obligation: "SH-3",
        name: "every-kind",
        about: "an item, a handed-over machine and a notice each arrive while the owner parks: it gets each",
        exhaustible: Some(Size::ONE),
        scales: false,
        run: every_kind::<Inbox<Blank, ()>>,
    },
    Scenario {
        obligation: "SH-3",
        name: "close",
        about: "the reader closes its inbox while others signal: its waker is not called afterwards",
        exhaustible: Some(Size::PAIR),
        scales: true,
        run: close::<Inbox<Blank, ()>>,
    },
    Scenario {
        obligation: "SH-3",
        name: "slow-reader",
        about: "one reader does not read until the other has read everything: the writer waits for neither (A26)",
        exhaustible: Some(Size { actors: 1, rounds: 2 }),
        scales: true,
        run: slow_reader::<Readers>,
    },
    Scenario {
        obligation: "SH-3",
        name: "session-pull",
        about: "a connection pulls and parks while its user's session gets two events: it reads both",
        exhaustible: Some(Size::ONE),
        scales: true,
        run: session_pull,
    },
    Scenario {
        obligation: "SH-3",
        name: "session-pull-close",
        about: "an event comes and the credential is revoked while the connection parks: it is told, and closed",
        exhaustible: Some(Size::ONE),
        scales: false,
        run: session_pull_close,
    },
];

/// A signal that wakes one reader.
pub trait Signal: Send + Sync + 'static {
    /// Creates a signal that is not set.
    fn new() -> Self;
    /// Sets the signal: there is something to read.
    fn signal(&self);
    /// Ready if the signal was set since the last poll; otherwise the waker is kept.
    fn poll(&self, context: &Context<'_>) -> Poll<()>;
    /// From now on, no task is woken.
    fn close(&self);
}

/// An item without content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blank;

impl Item for Blank {}

impl Signal for Inbox<Blank, ()> {
    fn new() -> Self {
        Self::new(NonZeroUsize::MIN)
    }

    fn signal(&self) {
        Self::signal(self);
    }

    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        Self::poll(self, context, &mut Contents::default())
    }

    fn close(&self) {
        let rest = Self::close(self);
        assert!(rest.items.is_empty(), "nothing was sent");
    }
}

/// Writers count up and signal; the reader sleeps until it has seen every count.
pub fn wake_up<S: Signal>(size: Size) {
    let (signal, written) = (Arc::new(S::new()), Arc::new(Counter::default()));
    let writers: Vec<_> = (0..size.actors)
        .map(|_| {
            let (signal, written) = (Arc::clone(&signal), Arc::clone(&written));
            thread::spawn(move || {
                for _ in 0..size.rounds {
                    written.up();
                    signal.signal();
                }
            })
        })
        .collect();
    // The task that serves the connection moves: a waker that an earlier poll registered must not be the one that is
    // woken.
    let _ = signal.poll(&Context::from_waker(Waker::noop()));
    let parker = Parker::new();
    while written.now() < size.actors * size.rounds {
        parker.block_on(|context| signal.poll(context));
    }
    writers.into_iter().for_each(finish);
}

/// A kind of content of an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An item.
    Item,
    /// A value that is handed over.
    Handed,
    /// A notice from the node.
    Notice,
}

/// An inbox that takes every kind of content.
pub trait Delivery: Send + Sync + 'static {
    /// Creates an empty inbox.
    fn empty() -> Self;
    /// Delivers one piece of content.
    fn deliver(&self, kind: Kind);
    /// Takes what was delivered. If there is nothing, the waker is kept.
    fn poll(&self, context: &Context<'_>, delivered: &mut Vec<Kind>) -> Poll<()>;
}

impl Delivery for Inbox<Blank, ()> {
    fn empty() -> Self {
        Self::new(NonZeroUsize::MIN)
    }

    fn deliver(&self, kind: Kind) {
        match kind {
            Kind::Item => assert_eq!(self.send(Blank), Ok(()), "the inbox is empty"),
            Kind::Handed => self.hand_over(()),
            Kind::Notice => self.notify(ToConnections::Drain),
        }
    }

    fn poll(&self, context: &Context<'_>, delivered: &mut Vec<Kind>) -> Poll<()> {
        let mut contents = Contents::default();
        let poll = Self::poll(self, context, &mut contents);
        delivered.extend(contents.items.iter().map(|_| Kind::Item));
        delivered.extend(contents.handed.map(|()| Kind::Handed));
        delivered.extend(contents.notice.map(|_| Kind::Notice));
        poll
    }
}

/// One piece of content of each kind is delivered, and the owner sleeps until it has it.
pub fn every_kind<D: Delivery>(_: Size) {
    for kind in [Kind::Item, Kind::Handed, Kind::Notice] {
        let inbox = Arc::new(D::empty());
        let delivering = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || inbox.deliver(kind))
        };
        let mut delivered = Vec::new();
        Parker::new().block_on(|context| inbox.poll(context, &mut delivered));
        assert_eq!(delivered, [kind], "SH-3: it was delivered once");
        finish(delivering);
    }
}

/// Writers signal; the reader is woken once and closes.
pub fn close<S: Signal>(size: Size) {
    let signal = Arc::new(S::new());
    let writers: Vec<_> = (0..size.actors)
        .map(|_| {
            let signal = Arc::clone(&signal);
            thread::spawn(move || (0..size.rounds).for_each(|_| signal.signal()))
        })
        .collect();
    let parker = Parker::new();
    parker.block_on(|context| signal.poll(context));
    parker.block_on(|context| {
        let _ = signal.poll(context);
        Poll::Ready(())
    });
    signal.close();
    parker.retire();
    writers.into_iter().for_each(finish);
    let late = signal.poll(&Context::from_waker(&Arc::clone(&parker).into()));
    assert_eq!(late, Poll::Pending, "SH-3: something to read after close");
    assert_eq!(Arc::strong_count(&parker), 1, "SH-3: a closed inbox keeps a task alive");
}

/// A user's stream with two readers, each with its position.
#[derive(Debug, Default)]
pub struct Stream {
    entries: usize,
    read: [usize; 2],
}

/// An input of a stream.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    /// An event is appended.
    Append,
    /// A reader reads everything. The answer is its new position.
    Read(usize),
}

impl Machine for Stream {
    type Bounds = ();
    type Input = Input;
    /// The reader to wake.
    type Output = usize;
    type Outputs = Vec<usize>;
    type Answer = usize;

    fn step(&mut self, (): &(), input: Input, out: &mut Vec<usize>) -> usize {
        match input {
            Input::Append => {
                self.entries += 1;
                out.extend([0, 1]);
                self.entries
            }
            Input::Read(reader) => {
                self.read[reader] = self.entries;
                self.entries
            }
        }
    }

    fn outputs(out: &mut Vec<usize>) -> &mut Vec<usize> {
        out
    }

    fn is_over(&self) -> bool {
        false
    }

    fn check(&self, (): &()) -> Result<(), Violation> {
        if self.read.iter().any(|read| *read > self.entries) { Err(Violation("STR-1")) } else { Ok(()) }
    }
}

/// Two readers of a user's stream.
pub trait Reading: Send + Sync + 'static {
    /// Creates an empty stream.
    fn new() -> Self;
    /// Appends an event.
    fn append(&self);
    /// Reads everything, and returns the reader's new position.
    fn read(&self, reader: usize) -> usize;
    /// Ready if there may be something to read.
    fn poll(&self, reader: usize, context: &Context<'_>) -> Poll<()>;
}

/// Production's implementation.
#[derive(Debug)]
pub struct Readers(Registry<Stream, Inboxes>, [Arc<Inbox<Blank, ()>>; 2]);

/// One inbox per reader.
#[derive(Debug)]
pub struct Inboxes([Arc<Inbox<Blank, ()>>; 2]);

impl Dispatch<Stream> for Inboxes {
    fn dispatch(&mut self, (): &(), reader: usize) {
        self.0[reader].signal();
    }

    fn abandon(&mut self, (): &(), fault: Fault) {
        assert_eq!(fault, Fault::Panicked, "a stream broke");
    }
}

impl Readers {
    fn step(&self, input: Input) -> usize {
        let open = |_, _: &mut Vec<usize>| (Stream::default(), Inboxes(self.1.clone()));
        self.0.with_or_open(&(), UserId(1), open, |stream| stream.step(input)).1
    }
}

impl Reading for Readers {
    fn new() -> Self {
        let inbox = || Arc::new(Inbox::new(NonZeroUsize::MIN));
        Self(Registry::new(NonZeroUsize::MIN), [inbox(), inbox()])
    }

    fn append(&self) {
        self.step(Input::Append);
    }

    fn read(&self, reader: usize) -> usize {
        self.step(Input::Read(reader))
    }

    fn poll(&self, reader: usize, context: &Context<'_>) -> Poll<()> {
        self.1[reader].poll(context, &mut Contents::default())
    }
}

/// One thread appends and one reader reads; the other reads when both are done.
pub fn slow_reader<R: Reading>(size: Size) {
    let readers = Arc::new(R::new());
    let appending = {
        let readers = Arc::clone(&readers);
        thread::spawn(move || (0..size.rounds).for_each(|_| readers.append()))
    };
    let read_all = |reader: usize| {
        let parker = Parker::new();
        while readers.read(reader) < size.rounds {
            parker.block_on(|context| readers.poll(reader, context));
        }
    };
    read_all(0);
    finish(appending);
    read_all(1);
}

/// The real session: one agent emits and the log confirms, while the connection reads.
fn session_pull(size: Size) {
    let fixture = Fixture::open(Bounds::DEFAULT);
    let mut client = fixture.join(1).expect("the node admits");
    fixture.restore();
    fixture.start(&mut client, 1);
    let generation = fixture.generation();
    let (batch, head) = fixture.log();
    let emitting = {
        let fixture = fixture.clone();
        thread::spawn(move || {
            for round in 0..2 * size.rounds as u64 {
                fixture.think(generation, 1, round as u8);
                fixture.confirm(generation, batch, Offset(head.0 + 1 + round));
            }
        })
    };
    let expected = 2 + 2 * size.rounds;
    let events = |frames: &[Frame<u8>]| frames.iter().filter(|frame| matches!(frame, Frame::Event(_))).count();
    let frames = serve(&mut client, &Parker::new(), |frames| events(frames) == expected);
    assert_eq!(events(&frames), expected, "SH-3: the connection was closed: {frames:?}");
    finish(emitting);
}

/// The real session: the log confirms an event and the credential is revoked, while the connection reads.
fn session_pull_close(_: Size) {
    let fixture = Fixture::open(Bounds::DEFAULT);
    let mut client = fixture.join(1).expect("the node admits");
    fixture.restore();
    fixture.start(&mut client, 1);
    let generation = fixture.generation();
    fixture.think(generation, 1, 0);
    let (batch, head) = fixture.log();
    let confirming = {
        let fixture = fixture.clone();
        thread::spawn(move || fixture.confirm(generation, batch, Offset(head.0 + 1)))
    };
    let revoking = {
        let fixture = fixture.clone();
        thread::spawn(move || fixture.revoke(1))
    };
    let parker = Parker::new();
    let frames = serve(&mut client, &parker, |_| false);
    parker.retire();
    assert_eq!(frames.last(), Some(&Frame::Close(Cause::CredentialRevoked)), "SH-3: the connection was not told");
    assert_eq!(client.closed(), Some(Cause::CredentialRevoked));
    [confirming, revoking].into_iter().for_each(finish);
    assert_eq!(fixture.0.node().connections(), 0, "SH-3: the closed connection is still counted");
}
