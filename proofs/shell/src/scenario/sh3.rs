//! SH-3: no wake-up is lost between "nothing to pull" and "appended"; none after close; nobody waits for a slow reader.

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
        about: "writers append and signal while the reader looks and parks: it reads everything",
        exhaustible: Some(Size::PAIR),
        scales: true,
        run: wake_up::<Inbox<Blank, ()>>,
    },
    Scenario {
        obligation: "SH-3",
        name: "every-kind",
        about: "an item, then a machine that is handed over, then a notice comes while the owner parks: it gets each",
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
        about: "one tab does not read until the other has read all: the writer waits for neither (A26)",
        exhaustible: Some(Size { actors: 1, rounds: 2 }),
        scales: true,
        run: slow_reader::<Tabs>,
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
        about: "an event comes and the credential is revoked while the connection pulls and parks: it is told, and closed",
        exhaustible: Some(Size::ONE),
        scales: false,
        run: session_pull_close,
    },
];

/// Something that wakes one reader.
pub trait Bell: Send + Sync + 'static {
    /// Silent.
    fn new() -> Self;
    /// There is something to read.
    fn signal(&self);
    /// Ready if it was signalled since; else the waker is kept.
    fn poll(&self, context: &Context<'_>) -> Poll<()>;
    /// From now on nobody is woken.
    fn close(&self);
}

/// An item that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blank;

impl Item for Blank {}

impl Bell for Inbox<Blank, ()> {
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
        assert!(rest.items.is_empty(), "nothing was posted");
    }
}

/// Writers count up and ring; the reader sleeps until it has seen every count.
pub fn wake_up<B: Bell>(size: Size) {
    let (bell, written) = (Arc::new(B::new()), Arc::new(Counter::default()));
    let writers: Vec<_> = (0..size.actors)
        .map(|_| {
            let (bell, written) = (Arc::clone(&bell), Arc::clone(&written));
            thread::spawn(move || {
                for _ in 0..size.rounds {
                    written.up();
                    bell.signal();
                }
            })
        })
        .collect();
    // The task that serves the connection moves: what it left when it was polled before must not be what is woken.
    let _ = bell.poll(&Context::from_waker(Waker::noop()));
    let parker = Parker::new();
    while written.now() < size.actors * size.rounds {
        parker.block_on(|context| bell.poll(context));
    }
    writers.into_iter().for_each(finish);
}

/// What comes into a inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An item.
    Item,
    /// What is handed over.
    Handed,
    /// A notice of the node.
    Notice,
}

/// Something that things of every kind are brought to.
pub trait Bringing: Send + Sync + 'static {
    /// Empty.
    fn empty() -> Self;
    /// One thing is brought.
    fn bring(&self, kind: Kind);
    /// What was brought; if nothing, the waker is kept.
    fn poll(&self, context: &Context<'_>, brought: &mut Vec<Kind>) -> Poll<()>;
}

impl Bringing for Inbox<Blank, ()> {
    fn empty() -> Self {
        Self::new(NonZeroUsize::MIN)
    }

    fn bring(&self, kind: Kind) {
        match kind {
            Kind::Item => assert_eq!(self.send(Blank), Ok(()), "there is group for it"),
            Kind::Handed => self.hand_over(()),
            Kind::Notice => self.notify(ToConnections::Drain),
        }
    }

    fn poll(&self, context: &Context<'_>, brought: &mut Vec<Kind>) -> Poll<()> {
        let mut contents = Contents::default();
        let poll = Self::poll(self, context, &mut contents);
        brought.extend(contents.items.iter().map(|_| Kind::Item));
        brought.extend(contents.handed.map(|()| Kind::Handed));
        brought.extend(contents.notice.map(|_| Kind::Notice));
        poll
    }
}

/// One thing of each kind is brought, and the owner sleeps until it has it.
pub fn every_kind<B: Bringing>(_: Size) {
    for kind in [Kind::Item, Kind::Handed, Kind::Notice] {
        let inbox = Arc::new(B::empty());
        let bringing = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || inbox.bring(kind))
        };
        let mut brought = Vec::new();
        Parker::new().block_on(|context| inbox.poll(context, &mut brought));
        assert_eq!(brought, [kind], "SH-3: it was brought once");
        finish(bringing);
    }
}

/// Writers ring; the reader hears one and closes.
pub fn close<B: Bell>(size: Size) {
    let bell = Arc::new(B::new());
    let writers: Vec<_> = (0..size.actors)
        .map(|_| {
            let bell = Arc::clone(&bell);
            thread::spawn(move || (0..size.rounds).for_each(|_| bell.signal()))
        })
        .collect();
    let parker = Parker::new();
    parker.block_on(|context| bell.poll(context));
    parker.block_on(|context| {
        let _ = bell.poll(context);
        Poll::Ready(())
    });
    bell.close();
    parker.retire();
    writers.into_iter().for_each(finish);
    let late = bell.poll(&Context::from_waker(&Arc::clone(&parker).into()));
    assert_eq!(late, Poll::Pending, "SH-3: something to read after close");
    assert_eq!(Arc::strong_count(&parker), 1, "SH-3: a closed inbox keeps a task alive");
}

/// A user's feed with two tabs: each has read so many.
#[derive(Debug, Default)]
pub struct Feed {
    entries: usize,
    read: [usize; 2],
}

/// What happens to a feed.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    /// An event.
    Append,
    /// A tab reads all that there is. The answer is how much it has read.
    Read(usize),
}

impl Machine for Feed {
    type Bounds = ();
    type Input = Input;
    /// Wake this tab.
    type Order = usize;
    type Orders = Vec<usize>;
    type Answer = usize;

    fn step(&mut self, (): &(), input: Input, out: &mut Vec<usize>) -> usize {
        match input {
            Input::Append => {
                self.entries += 1;
                out.extend([0, 1]);
                self.entries
            }
            Input::Read(tab) => {
                self.read[tab] = self.entries;
                self.entries
            }
        }
    }

    fn orders(out: &mut Vec<usize>) -> &mut Vec<usize> {
        out
    }

    fn is_over(&self) -> bool {
        false
    }

    fn check(&self, (): &()) -> Result<(), Violation> {
        if self.read.iter().any(|read| *read > self.entries) { Err(Violation("STR-1")) } else { Ok(()) }
    }
}

/// Two tabs of a user.
pub trait Reading: Send + Sync + 'static {
    /// Nothing to read.
    fn new() -> Self;
    /// An event.
    fn append(&self);
    /// Reads all that there is; how much the tab has read by now.
    fn read(&self, tab: usize) -> usize;
    /// Ready if there may be something to read.
    fn poll(&self, tab: usize, context: &Context<'_>) -> Poll<()>;
}

/// Production's.
#[derive(Debug)]
pub struct Tabs(Registry<Feed, Bells>, [Arc<Inbox<Blank, ()>>; 2]);

/// A inbox for each tab.
#[derive(Debug)]
pub struct Bells([Arc<Inbox<Blank, ()>>; 2]);

impl Dispatch<Feed> for Bells {
    fn dispatch(&mut self, (): &(), tab: usize) {
        self.0[tab].signal();
    }

    fn abandon(&mut self, (): &(), fault: Fault) {
        assert_eq!(fault, Fault::Panicked, "a feed broke");
    }
}

impl Tabs {
    fn step(&self, input: Input) -> usize {
        let open = |_, _: &mut Vec<usize>| (Feed::default(), Bells(self.1.clone()));
        self.0.with_or_open(&(), UserId(1), open, |live| live.step(input)).1
    }
}

impl Reading for Tabs {
    fn new() -> Self {
        let inbox = || Arc::new(Inbox::new(NonZeroUsize::MIN));
        Self(Registry::new(NonZeroUsize::MIN), [inbox(), inbox()])
    }

    fn append(&self) {
        self.step(Input::Append);
    }

    fn read(&self, tab: usize) -> usize {
        self.step(Input::Read(tab))
    }

    fn poll(&self, tab: usize, context: &Context<'_>) -> Poll<()> {
        self.1[tab].poll(context, &mut Contents::default())
    }
}

/// One thread appends, one tab reads; the other tab reads when both are done.
pub fn slow_reader<R: Reading>(size: Size) {
    let tabs = Arc::new(R::new());
    let appending = {
        let tabs = Arc::clone(&tabs);
        thread::spawn(move || (0..size.rounds).for_each(|_| tabs.append()))
    };
    let read_all = |tab: usize| {
        let parker = Parker::new();
        while tabs.read(tab) < size.rounds {
            parker.block_on(|context| tabs.poll(tab, context));
        }
    };
    read_all(0);
    finish(appending);
    read_all(1);
}

/// The real session: one agent emits and the log confirms, while the connection reads.
fn session_pull(size: Size) {
    let fixture = Fixture::open(Bounds::DEFAULT);
    let mut client = fixture.enter(1).expect("the node admits");
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

/// The real session: the log confirms an event, and the credential is revoked, while the connection reads.
fn session_pull_close(_: Size) {
    let fixture = Fixture::open(Bounds::DEFAULT);
    let mut client = fixture.enter(1).expect("the node admits");
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
    assert_eq!(frames.last(), Some(&Frame::Close(Cause::CredentialRevoked)), "SH-3: nobody told the connection");
    assert_eq!(client.closed(), Some(Cause::CredentialRevoked));
    [confirming, revoking].into_iter().for_each(finish);
    assert_eq!(fixture.0.node().connections(), 0, "SH-3: the closed connection is counted no more");
}
