//! SH-6: a inbox is bounded and has group for ours; closing it neither loses an accepted item nor accepts one more.

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
        about: "posts against takes and a close: what was accepted is what the owner got, in each poster's order",
        exhaustible: Some(Size { actors: 2, rounds: 2 }),
        scales: true,
        run: post_close::<Inbox<Numbered, ()>>,
    },
    Scenario {
        obligation: "SH-6",
        name: "session-post-close",
        about: "posts for a connection against its close: what was accepted is handled, and nothing is accepted after",
        exhaustible: Some(Size::PAIR),
        scales: true,
        run: session_post_close,
    },
    Scenario {
        obligation: "SH-6",
        name: "bound",
        about: "posts for the last places: no more are accepted than the bound",
        exhaustible: Some(Size { actors: 3, rounds: 1 }),
        scales: true,
        run: bound::<Inbox<Numbered, ()>>,
    },
    Scenario {
        obligation: "SH-6",
        name: "slot",
        about: "items with a slot against a inbox that others fill: they are accepted, the newest counts, in its order",
        exhaustible: Some(Size { actors: 2, rounds: 2 }),
        scales: true,
        run: slots::<Inbox<Numbered, ()>>,
    },
];

/// Items of this kind have a slot, and one of a later round is the one to have.
pub const SLOTTED: u32 = 1 << 31;

/// An item that is its number.
#[derive(Clone, Copy, Debug)]
pub struct Numbered(u32);

impl Item for Numbered {
    fn reserved(&self) -> Option<u8> {
        (self.0 & SLOTTED != 0).then_some(0)
    }

    fn supersedes(&self, waiting: &Self) -> bool {
        self.0 > waiting.0
    }
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// The owner will get it.
    Accepted,
    /// It comes back: too many wait.
    Full,
    /// It comes back: closed.
    Closed,
}

/// Items of many for one.
pub trait Reserved: Send + Sync + 'static {
    /// Open, for so many.
    fn new(bound: usize) -> Self;
    /// Leaves an item.
    fn send(&self, item: u32) -> Posted;
    /// What is there. For the owner.
    fn take(&self) -> Vec<u32>;
    /// What is left; nothing more is accepted. For the owner.
    fn close(&self) -> Vec<u32>;
}

impl Reserved for Inbox<Numbered, ()> {
    fn new(bound: usize) -> Self {
        Self::new(NonZeroUsize::new(bound).expect("not zero"))
    }

    fn send(&self, item: u32) -> Posted {
        match Self::send(self, Numbered(item)) {
            Ok(()) => Posted::Accepted,
            Err(Undelivered::Full(_)) => Posted::Full,
            Err(Undelivered::Closed(_)) => Posted::Closed,
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

/// Posters post; the owner takes, closes, and takes once more.
pub fn post_close<S: Reserved>(size: Size) {
    let slot = Arc::new(S::new(size.rounds));
    let posters: Vec<_> = (0..size.actors as u32)
        .map(|actor| {
            let slot = Arc::clone(&slot);
            let mut closed = false;
            let accepted = (0..size.rounds as u32).map(move |round| actor << 16 | round).filter(move |item| {
                let posted = slot.send(*item);
                assert!(!closed || posted == Posted::Closed, "SH-6: opened again");
                closed = posted == Posted::Closed;
                posted == Posted::Accepted
            });
            thread::spawn(move || accepted.collect::<Vec<_>>())
        })
        .collect();
    let mut got = slot.take();
    assert!(got.len() <= size.rounds, "SH-6: more than the bound");
    let rest = slot.close();
    assert!(rest.len() <= size.rounds, "SH-6: more than the bound");
    got.extend(rest);
    assert_eq!(slot.send(u32::MAX), Posted::Closed, "SH-6: accepted after close");
    let mut accepted: Vec<_> = posters.into_iter().flat_map(finish).collect();
    assert_eq!(slot.take(), Vec::<u32>::new(), "SH-6: an item in a closed inbox");
    for actor in 0..size.actors as u32 {
        let of_actor = got.iter().filter(|item| **item >> 16 == actor);
        assert!(of_actor.is_sorted(), "SH-6: out of order: {got:?}");
    }
    accepted.sort_unstable();
    got.sort_unstable();
    assert_eq!(got, accepted, "SH-6: what was accepted is what the owner got");
}

/// The real connection: its timer fires and its peer goes, while it is served.
fn session_post_close(size: Size) {
    let fixture = Fixture::open(Bounds::DEFAULT);
    let mut client = fixture.enter(1).expect("the node admits");
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

/// More posters than places, and nobody takes.
pub fn bound<S: Reserved>(size: Size) {
    let places = size.actors.saturating_sub(1).max(1);
    let slot = Arc::new(S::new(places));
    let posters: Vec<_> = (0..size.actors as u32)
        .map(|actor| {
            let slot = Arc::clone(&slot);
            thread::spawn(move || (0..size.rounds).filter(|_| slot.send(actor) == Posted::Accepted).count())
        })
        .collect();
    let accepted: usize = posters.into_iter().map(finish).sum();
    assert_eq!(accepted, places, "SH-6: as many as there are places");
    assert_eq!(slot.close().len(), places, "SH-6: all of them");
}

/// Others fill the inbox, while one posts items that have a slot, each of which is worth more than the one before.
pub fn slots<S: Reserved>(size: Size) {
    let slot = Arc::new(S::new(1));
    let others: Vec<_> = (1..size.actors as u32)
        .map(|actor| {
            let slot = Arc::clone(&slot);
            thread::spawn(move || (0..size.rounds).filter(|_| slot.send(actor) == Posted::Accepted).count())
        })
        .collect();
    let ours = {
        let slot = Arc::clone(&slot);
        thread::spawn(move || {
            for round in 0..size.rounds as u32 {
                assert_eq!(slot.send(SLOTTED | round), Posted::Accepted, "SH-6: no group for ours");
            }
        })
    };
    let mut got = slot.take();
    assert!(got.len() <= 2, "SH-6: more than the bound and a slot");
    finish(ours);
    let accepted: usize = others.into_iter().map(finish).sum();
    got.extend(slot.close());
    let mut ours = got.iter().filter(|item| *item & SLOTTED != 0);
    assert!(ours.clone().is_sorted(), "SH-6: out of order: {got:?}");
    assert_eq!(ours.next_back(), Some(&(SLOTTED | (size.rounds as u32 - 1))), "SH-6: the newest of ours is lost");
    assert_eq!(got.iter().filter(|item| *item & SLOTTED == 0).count(), accepted, "SH-6: what was accepted is there");
}
