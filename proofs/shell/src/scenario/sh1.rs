//! SH-1: get-or-create against retire. No two live cells for one user, no join lost in a retiring one.

use std::num::NonZeroUsize;

use lockstep_model::{Bounds, ConnectionId, Generation, Refusal, RunId, Session, UserId, gateway};

use super::house::{Guest, House, USER};
use super::room::{Gauge, Input, Room};
use super::shell::Registry;
use super::shell::cell::CHECK_EVERY;
use super::sync::{Arc, thread};
use super::{Scenario, Size, finish, race};

/// The scenarios of this file.
pub const ALL: &[Scenario] = &[
    Scenario {
        obligation: "SH-1",
        name: "join-retire",
        about: "joins against a room that ends: one room at a time, and every guest is in the last",
        exhaustible: Some(Size::PAIR),
        scales: true,
        run: join_retire::<Registry<Room, Gauge>>,
    },
    Scenario {
        obligation: "SH-1",
        name: "join-fault",
        about: "joins against a room that breaks: it is given up before the next one opens, and leaves nothing behind",
        exhaustible: Some(Size::PAIR),
        scales: true,
        run: join_fault::<Registry<Room, Gauge>>,
    },
    Scenario {
        obligation: "SH-1",
        name: "limit",
        about: "joins for the last place: one gets it, the others are told that they did not (A8)",
        exhaustible: Some(Size { actors: 3, rounds: 1 }),
        scales: true,
        run: limit::<Registry<Room, Gauge>>,
    },
    Scenario {
        obligation: "SH-1",
        name: "session-join-retire",
        about: "a connection joins while its user's session retires, by two timers: it is live in the one session",
        exhaustible: Some(Size::ONE),
        scales: true,
        run: session_join_retire,
    },
    Scenario {
        obligation: "SH-1",
        name: "session-notice",
        about: "a notice comes while its user's session retires: it is taken once, by a session that stays for it",
        exhaustible: Some(Size::ONE),
        scales: true,
        run: session_notice,
    },
    Scenario {
        obligation: "SH-1",
        name: "session-stale",
        about: "a timer of a session fires once more while the next one is vacant: it reaches nobody",
        exhaustible: Some(Size { actors: 1, rounds: 2 }),
        scales: false,
        run: session_stale::<Addressed>,
    },
    Scenario {
        obligation: "SH-1",
        name: "session-closed",
        about: "a connection closes, and somebody who heard of it looks: it is gone, and its id is free (B4)",
        exhaustible: Some(Size::ONE),
        scales: false,
        run: session_closed::<Leaving>,
    },
];

const LODGER: UserId = UserId(1);

/// The rooms of one user.
pub trait Rooms: Send + Sync + 'static {
    /// None yet.
    fn none() -> Self;
    /// Takes a guest in; a new room opens if there is none. With a limit, only if fewer guests are there.
    fn join(&self, gauge: &Gauge, guest: usize, limit: Option<usize>) -> bool;
    /// Lets a guest go.
    fn leave(&self, guest: usize);
    /// Nobody came for a while: an empty room ends.
    fn linger(&self);
    /// A bug of ours breaks the room, and is noticed.
    fn spoil(&self);
    /// Who is in the live room.
    fn guests(&self) -> Vec<usize>;
    /// How many rooms are kept, live or not.
    fn kept(&self) -> usize;
}

impl Rooms for Registry<Room, Gauge> {
    fn none() -> Self {
        Self::new(NonZeroUsize::MIN)
    }

    fn join(&self, gauge: &Gauge, guest: usize, limit: Option<usize>) -> bool {
        let open = |_, orders: &mut Vec<_>| (Room::open(orders), gauge.clone());
        let (_, joined) = self.enter(&(), LODGER, open, |live| {
            limit.is_none_or(|limit| live.machine().guests().len() < limit) && live.step(Input::Join(guest))
        });
        joined
    }

    fn leave(&self, guest: usize) {
        if let Some(cell) = self.find(LODGER) {
            let _ = self.visit(&(), &cell, |live| live.step(Input::Leave(guest)));
        }
    }

    fn linger(&self) {
        if let Some(cell) = self.find(LODGER) {
            let _ = self.visit(&(), &cell, |live| live.step(Input::Linger));
        }
    }

    fn spoil(&self) {
        if let Some(cell) = self.find(LODGER) {
            // A cell looks whether its machine is sound once in so many steps.
            let _ = self.visit(&(), &cell, |live| (0..CHECK_EVERY).all(|_| live.step(Input::Spoil)));
        }
    }

    fn guests(&self) -> Vec<usize> {
        let cell = self.find(LODGER);
        cell.and_then(|cell| self.visit(&(), &cell, |live| live.machine().guests())).unwrap_or_default()
    }

    fn kept(&self) -> usize {
        self.all().len()
    }
}

/// Guests join, and between rounds leave again, while a room that is empty ends.
pub fn join_retire<R: Rooms>(size: Size) {
    let (rooms, gauge) = (Arc::new(R::none()), Gauge::default());
    rooms.join(&gauge, 0, None);
    rooms.leave(0);
    let retiring = {
        let rooms = Arc::clone(&rooms);
        thread::spawn(move || (0..size.rounds).for_each(|_| rooms.linger()))
    };
    race(size.actors, |actor| {
        let (rooms, gauge) = (Arc::clone(&rooms), gauge.clone());
        move || {
            for round in 0..size.rounds {
                if round > 0 {
                    rooms.leave(actor);
                }
                assert!(rooms.join(&gauge, actor, None), "SH-1: a join was lost in a retiring room");
            }
        }
    });
    finish(retiring);
    let expected: Vec<_> = (0..size.actors).collect();
    assert_eq!(rooms.guests(), expected, "SH-1: a guest is not in the live room");
    expected.into_iter().for_each(|guest| rooms.leave(guest));
    rooms.linger();
    assert_eq!((gauge.live(), rooms.kept()), (0, 0), "SH-1: a room that has ended is kept");
}

/// Guests join while the room breaks.
pub fn join_fault<R: Rooms>(size: Size) {
    let (rooms, gauge) = (Arc::new(R::none()), Gauge::default());
    rooms.join(&gauge, usize::MAX, None);
    let breaking = {
        let rooms = Arc::clone(&rooms);
        thread::spawn(move || (0..size.rounds).for_each(|_| rooms.spoil()))
    };
    race(size.actors, |actor| {
        let (rooms, gauge) = (Arc::clone(&rooms), gauge.clone());
        let guests = actor * size.rounds..(actor + 1) * size.rounds;
        move || guests.for_each(|guest| assert!(rooms.join(&gauge, guest, None), "SH-1: a join was lost"))
    });
    finish(breaking);
    let occupied = usize::from(!rooms.guests().is_empty());
    assert_eq!((gauge.live(), rooms.kept()), (occupied, occupied), "SH-1: a room that broke is kept");
}

/// As many guests as there are actors want the one place.
pub fn limit<R: Rooms>(size: Size) {
    let (rooms, gauge) = (Arc::new(R::none()), Gauge::default());
    for _ in 0..size.rounds {
        let joined = race(size.actors, |actor| {
            let (rooms, gauge) = (Arc::clone(&rooms), gauge.clone());
            move || rooms.join(&gauge, actor, Some(1)).then_some(actor)
        });
        let admitted: Vec<_> = joined.into_iter().flatten().collect();
        assert_eq!(admitted.len(), 1, "SH-1: the limit is one, and {admitted:?} were told that they are in");
        assert_eq!(rooms.guests(), admitted, "SH-1: who was told so is in");
        rooms.leave(admitted[0]);
    }
}

/// The real session: connections join while the session that is there retires.
fn session_join_retire(size: Size) {
    let house = House::open(Bounds::DEFAULT);
    for _ in 0..size.rounds {
        house.vacate();
        let generation = house.generation();
        let retiring: Vec<_> = (0..2)
            .map(|_| {
                let house = house.clone();
                thread::spawn(move || house.linger(generation))
            })
            .collect();
        let guests = race(size.actors, |actor| {
            let house = house.clone();
            move || {
                let guest = house.enter(actor as u64).expect("the node admits");
                assert_eq!(house.0.node().sessions(), 1, "SH-1: two live sessions of {USER:?}");
                guest
            }
        });
        retiring.into_iter().for_each(finish);
        let expected: Vec<_> = (0..size.actors as u64).map(|id| (ConnectionId(id), false)).collect();
        assert_eq!(house.members(), expected, "SH-1: a connection is not in the live session");
        assert_eq!(house.0.node().sessions(), 1, "SH-1: one session of {USER:?}");
        drop(guests);
        house.restore();
        house.linger(house.generation());
        assert_eq!(house.0.node().sessions(), 0, "SH-1: the session has retired");
    }
}

/// The real session: the embedding service has something for a user whose session retires.
fn session_notice(size: Size) {
    let house = House::open(Bounds::DEFAULT);
    for _ in 0..size.rounds {
        house.vacate();
        let generation = house.generation();
        let retiring = {
            let house = house.clone();
            thread::spawn(move || house.linger(generation))
        };
        let notices = race(size.actors, |actor| {
            let house = house.clone();
            move || {
                let notice = RunId(100 + actor as u64);
                loop {
                    match house.0.announce(
                        USER,
                        lockstep_model::session::Input::Notice { notice, thread: None, payload: 0 },
                        |_| {},
                    ) {
                        Ok(_) => return notice,
                        // A new session, whose stream is not there yet.
                        Err(Refusal::Backpressure) => house.restore(),
                        Err(refusal) => panic!("SH-1: a notice is refused: {refusal}"),
                    }
                }
            }
        });
        finish(retiring);
        let pending = |session: &Session<u8>| {
            session.stream().map(|stream| stream.pending().iter().map(|event| event.run).collect::<Vec<_>>())
        };
        let mut said = house.look(|_, session| pending(session)).flatten().unwrap_or_default();
        said.sort();
        assert_eq!(said, notices, "SH-1: a notice was taken, and is not in the one session");
        assert_eq!(house.0.node().sessions(), 1, "SH-1: one session of {USER:?}");
        house.persist();
        house.linger(house.generation());
        assert_eq!(house.0.node().sessions(), 0, "SH-1: the session has retired");
    }
}

/// How a timer reaches a session.
pub trait Timed: Send + Sync + 'static {
    /// The linger timer of this generation fires.
    fn linger(house: &House, generation: Generation);
}

/// Production's way.
#[derive(Debug)]
pub struct Addressed;

impl Timed for Addressed {
    fn linger(house: &House, generation: Generation) {
        house.linger(generation);
    }
}

/// The timer of the session that is there fires so often, while a connection comes and goes.
pub fn session_stale<T: Timed>(size: Size) {
    let house = House::open(Bounds::DEFAULT);
    house.vacate();
    let first = house.generation();
    let retiring = {
        let house = house.clone();
        thread::spawn(move || (0..size.rounds).for_each(|_| T::linger(&house, first)))
    };
    let guest = house.enter(1);
    let joined = house.generation();
    drop(guest);
    house.restore();
    finish(retiring);
    let left = house.look(|generation, _| generation);
    assert!(joined == first || left == Some(joined), "SH-1: a timer of {first:?} has ended {joined:?}");
}

/// A connection that closes.
pub trait Closing: Send + Sync + 'static {
    /// Its port.
    type Port: Send;
    /// It is open.
    fn open() -> (Self, Self::Port)
    where
        Self: Sized;
    /// Whether it is heard that it was closed.
    fn is_heard(&self) -> bool;
    /// Whether it is there.
    fn is_there(&self) -> bool;
}

/// Production's.
#[derive(Debug)]
pub struct Leaving(House);

impl Closing for Leaving {
    type Port = Guest;

    fn open() -> (Self, Guest) {
        let house = House::open(Bounds::DEFAULT);
        let guest = house.enter(1).expect("the node admits");
        (Self(house), guest)
    }

    fn is_heard(&self) -> bool {
        self.0.0.effects().orders().iter().any(|order| matches!(order, gateway::Output::Closed { .. }))
    }

    fn is_there(&self) -> bool {
        self.0.0.inbox(ConnectionId(1)).is_some() || !self.0.members().is_empty()
    }
}

/// The connection's task ends.
pub fn session_closed<C: Closing>(_: Size) {
    let (closing, port) = C::open();
    let ending = thread::spawn(move || drop(port));
    if closing.is_heard() {
        assert!(!closing.is_there(), "SH-1: it was heard to be closed, and is there");
    }
    finish(ending);
    assert!(closing.is_heard() && !closing.is_there(), "SH-1: it is closed");
}
