//! SH-6: an inbox is bounded and has room for reserved items; closing it neither loses an accepted item nor accepts one
//! more.

use std::num::NonZeroUsize;
use std::task::{Context, Poll, Waker};

use lockstep_model::connection::Input;
use lockstep_model::{Bounds, Cause};

use super::core::{Contents, Inbox, Item, Undelivered};
use super::fixture::{Fixture, serve};
use super::park::Parker;
use super::sync::{Arc, thread};
use super::{Scenario, Size, finish};

/// The scenarios of this file.
pub const ALL: &[Scenario] = &[
    Scenario {
        obligation: "SH-6",
        name: "post-close",
        about: "sends race with takes and a close: the owner gets what was accepted, in each sender's order",
        exhaustible: Some(Size { actors: 2, rounds: 2 }),
        scales: true,
        run: post_close::<Inbox<Numbered, ()>>,
    },
    Scenario {
        obligation: "SH-6",
        name: "session-post-close",
        about: "sends to a connection race with its close: accepted items are handled, none is accepted after",
        exhaustible: Some(Size::PAIR),
        scales: true,
        run: session_post_close,
    },
    Scenario {
        obligation: "SH-6",
        name: "bound",
        about: "senders compete for the last places: no more items are accepted than the bound",
        exhaustible: Some(Size { actors: 3, rounds: 1 }),
        scales: true,
        run: bound::<Inbox<Numbered, ()>>,
    },
    Scenario {
        obligation: "SH-6",
        name: "slot",
        about: "reserved items race with senders that fill the inbox: they are accepted, and the newest counts",
        exhaustible: Some(Size { actors: 2, rounds: 2 }),
        scales: true,
        run: reserved::<Inbox<Numbered, ()>>,
    },
];

/// Items with this bit have a reserved place, where a later round's item replaces an earlier one's.
pub const RESERVED: u32 = 1 << 31;

/// An item that consists of its number.
#[derive(Clone, Copy, Debug)]
pub struct Numbered(u32);

impl Item for Numbered {
    fn reserved(&self) -> Option<u8> {
        (self.0 & RESERVED != 0).then_some(0)
    }

    fn supersedes(&self, waiting: &Self) -> bool {
        self.0 > waiting.0
    }
}

/// The result of sending an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The owner will get it.
    Accepted,
    /// Refused: too many items wait.
    Full,
    /// Refused: the inbox is closed.
    Closed,
}

/// A bounded inbox with several senders and one owner.
pub trait BoundedInbox: Send + Sync + 'static {
    /// Creates an open inbox with this bound.
    fn new(bound: usize) -> Self;
    /// Sends an item.
    fn send(&self, item: u32) -> Sent;
    /// Takes the waiting items. For the owner.
    fn take(&self) -> Vec<u32>;
    /// Closes the inbox and returns the waiting items. For the owner.
    fn close(&self) -> Vec<u32>;
}

impl BoundedInbox for Inbox<Numbered, ()> {
    fn new(bound: usize) -> Self {
        Self::new(NonZeroUsize::new(bound).expect("not zero"))
    }

    fn send(&self, item: u32) -> Sent {
        match Self::send(self, Numbered(item)) {
            Ok(()) => Sent::Accepted,
            Err(Undelivered::Full(_)) => Sent::Full,
            Err(Undelivered::Closed(_)) => Sent::Closed,
        }
    }

    fn take(&self) -> Vec<u32> {
        let mut contents = Contents::default();
        match self.poll(&Context::from_waker(Waker::noop()), &mut contents) {
            Poll::Ready(()) => contents.items.into_iter().map(|Numbered(item)| item).collect(),
            Poll::Pending => Vec::new(),
        }
    }

    fn close(&self) -> Vec<u32> {
        Self::close(self).items.into_iter().map(|Numbered(item)| item).collect()
    }
}

/// Senders send; the owner takes, closes, and takes once more.
pub fn post_close<I: BoundedInbox>(size: Size) {
    let inbox = Arc::new(I::new(size.rounds));
    let senders: Vec<_> = (0..size.actors as u32)
        .map(|actor| {
            let inbox = Arc::clone(&inbox);
            let mut closed = false;
            let accepted = (0..size.rounds as u32).map(move |round| actor << 16 | round).filter(move |item| {
                let sent = inbox.send(*item);
                assert!(!closed || sent == Sent::Closed, "SH-6: opened again");
                closed = sent == Sent::Closed;
                sent == Sent::Accepted
            });
            thread::spawn(move || accepted.collect::<Vec<_>>())
        })
        .collect();
    let mut taken = inbox.take();
    assert!(taken.len() <= size.rounds, "SH-6: more than the bound");
    let rest = inbox.close();
    assert!(rest.len() <= size.rounds, "SH-6: more than the bound");
    taken.extend(rest);
    assert_eq!(inbox.send(u32::MAX), Sent::Closed, "SH-6: accepted after close");
    let mut accepted: Vec<_> = senders.into_iter().flat_map(finish).collect();
    assert_eq!(inbox.take(), Vec::<u32>::new(), "SH-6: an item in a closed inbox");
    for actor in 0..size.actors as u32 {
        let of_actor = taken.iter().filter(|item| **item >> 16 == actor);
        assert!(of_actor.is_sorted(), "SH-6: out of order: {taken:?}");
    }
    accepted.sort_unstable();
    taken.sort_unstable();
    assert_eq!(taken, accepted, "SH-6: what was accepted is what the owner got");
}

/// The real connection: its timer fires and its peer leaves, while it is served.
fn session_post_close(size: Size) {
    let fixture = Fixture::open(Bounds::DEFAULT);
    let mut client = fixture.join(1).expect("the node admits");
    fixture.restore();
    let inbox = client.inbox();
    let sending: Vec<_> = (0..size.actors)
        .map(|actor| {
            let inbox = Arc::clone(&inbox);
            let causes = [Cause::PeerClosed, Cause::Lost];
            thread::spawn(move || inbox.send(Input::Gone(causes[actor % 2])).is_ok())
        })
        .collect();
    serve(&mut client, &Parker::new(), |_| false);
    let cause = client.closed();
    assert!(matches!(cause, Some(Cause::PeerClosed | Cause::Lost)), "SH-6: an item was accepted and not handled");
    assert_eq!(inbox.send(Input::Opened), Err(Undelivered::Closed(Input::Opened)), "SH-6: accepted after close");
    let accepted = sending.into_iter().map(finish).filter(|accepted| *accepted).count();
    assert!(accepted > 0, "SH-6: closed by an item that was not accepted");
    assert!(fixture.0.inbox(client.id()).is_none(), "SH-6: the inbox of a closed connection is found");
}

/// There are more senders than places, and no items are taken.
pub fn bound<I: BoundedInbox>(size: Size) {
    let places = size.actors.saturating_sub(1).max(1);
    let inbox = Arc::new(I::new(places));
    let senders: Vec<_> = (0..size.actors as u32)
        .map(|actor| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || (0..size.rounds).filter(|_| inbox.send(actor) == Sent::Accepted).count())
        })
        .collect();
    let accepted: usize = senders.into_iter().map(finish).sum();
    assert_eq!(accepted, places, "SH-6: as many are accepted as the bound");
    assert_eq!(inbox.close().len(), places, "SH-6: every accepted item waits");
}

/// Other senders fill the inbox, while one sends items that have a reserved place, each of which replaces the one
/// before.
pub fn reserved<I: BoundedInbox>(size: Size) {
    let inbox = Arc::new(I::new(1));
    let others: Vec<_> = (1..size.actors as u32)
        .map(|actor| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || (0..size.rounds).filter(|_| inbox.send(actor) == Sent::Accepted).count())
        })
        .collect();
    let reserving = {
        let inbox = Arc::clone(&inbox);
        thread::spawn(move || {
            for round in 0..size.rounds as u32 {
                assert_eq!(inbox.send(RESERVED | round), Sent::Accepted, "SH-6: a reserved item was refused");
            }
        })
    };
    let mut taken = inbox.take();
    assert!(taken.len() <= 2, "SH-6: more than the bound and a reserved place");
    finish(reserving);
    let accepted: usize = others.into_iter().map(finish).sum();
    taken.extend(inbox.close());
    let mut reserved = taken.iter().filter(|item| *item & RESERVED != 0);
    assert!(reserved.clone().is_sorted(), "SH-6: out of order: {taken:?}");
    assert_eq!(
        reserved.next_back(),
        Some(&(RESERVED | (size.rounds as u32 - 1))),
        "SH-6: the newest reserved item is lost"
    );
    assert_eq!(taken.iter().filter(|item| *item & RESERVED == 0).count(), accepted, "SH-6: what was accepted is there");
}
