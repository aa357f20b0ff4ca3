//! SH-1: get-or-create against retire. No two live slots for one user, no join lost in a retiring one.

use std::num::NonZeroUsize;

use lockstep_model::{Bounds, ConnectionId, Generation, Refusal, RunId, Session, UserId, gateway};

use super::core::Registry;
use super::core::slot::CHECK_EVERY;
use super::fixture::{Client, Fixture, USER};
use super::group::{Gauge, Group, Input};
use super::sync::{Arc, thread};
use super::{Scenario, Size, finish, race};

/// The scenarios of this file.
pub const ALL: &[Scenario] = &[
    Scenario {
        obligation: "SH-1",
        name: "join-retire",
        about: "joins against a group that ends: one group at a time, and every client is in the last",
        exhaustible: Some(Size::PAIR),
        scales: true,
        run: join_retire::<Registry<Group, Gauge>>,
    },
    Scenario {
        obligation: "SH-1",
        name: "join-fault",
        about: "joins against a group that breaks: it is given up before the next one opens, and leaves nothing behind",
        exhaustible: Some(Size::PAIR),
        scales: true,
        run: join_fault::<Registry<Group, Gauge>>,
    },
    Scenario {
        obligation: "SH-1",
        name: "limit",
        about: "joins for the last place: one gets it, the others are told that they did not (A8)",
        exhaustible: Some(Size { actors: 3, rounds: 1 }),
        scales: true,
        run: limit::<Registry<Group, Gauge>>,
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

/// The groups of one user.
pub trait Groups: Send + Sync + 'static {
    /// None yet.
    fn none() -> Self;
    /// Takes a client in; a new group opens if there is none. With a limit, only if fewer members are there.
    fn join(&self, gauge: &Gauge, client: usize, limit: Option<usize>) -> bool;
    /// Lets a client go.
    fn leave(&self, client: usize);
    /// Nobody came for a while: an empty group ends.
    fn linger(&self);
    /// A bug of ours breaks the group, and is noticed.
    fn spoil(&self);
    /// Who is in the live group.
    fn members(&self) -> Vec<usize>;
    /// How many groups are kept, live or not.
    fn kept(&self) -> usize;
}

impl Groups for Registry<Group, Gauge> {
    fn none() -> Self {
        Self::new(NonZeroUsize::MIN)
    }

    fn join(&self, gauge: &Gauge, client: usize, limit: Option<usize>) -> bool {
        let open = |_, orders: &mut Vec<_>| (Group::open(orders), gauge.clone());
        let (_, joined) = self.with_or_open(&(), LODGER, open, |live| {
            limit.is_none_or(|limit| live.machine().members().len() < limit) && live.step(Input::Join(client))
        });
        joined
    }

    fn leave(&self, client: usize) {
        if let Some(slot) = self.find(LODGER) {
            let _ = self.with(&(), &slot, |live| live.step(Input::Leave(client)));
        }
    }

    fn linger(&self) {
        if let Some(slot) = self.find(LODGER) {
            let _ = self.with(&(), &slot, |live| live.step(Input::Linger));
        }
    }

    fn spoil(&self) {
        if let Some(slot) = self.find(LODGER) {
            // A slot looks whether its machine is sound once in so many steps.
            let _ = self.with(&(), &slot, |live| (0..CHECK_EVERY).all(|_| live.step(Input::Spoil)));
        }
    }

    fn members(&self) -> Vec<usize> {
        let slot = self.find(LODGER);
        slot.and_then(|slot| self.with(&(), &slot, |live| live.machine().members())).unwrap_or_default()
    }

    fn kept(&self) -> usize {
        self.all().len()
    }
}

/// Members join, and between rounds leave again, while a group that is empty ends.
pub fn join_retire<R: Groups>(size: Size) {
    let (groups, gauge) = (Arc::new(R::none()), Gauge::default());
    groups.join(&gauge, 0, None);
    groups.leave(0);
    let retiring = {
        let groups = Arc::clone(&groups);
        thread::spawn(move || (0..size.rounds).for_each(|_| groups.linger()))
    };
    race(size.actors, |actor| {
        let (groups, gauge) = (Arc::clone(&groups), gauge.clone());
        move || {
            for round in 0..size.rounds {
                if round > 0 {
                    groups.leave(actor);
                }
                assert!(groups.join(&gauge, actor, None), "SH-1: a join was lost in a retiring group");
            }
        }
    });
    finish(retiring);
    let expected: Vec<_> = (0..size.actors).collect();
    assert_eq!(groups.members(), expected, "SH-1: a client is not in the live group");
    expected.into_iter().for_each(|client| groups.leave(client));
    groups.linger();
    assert_eq!((gauge.live(), groups.kept()), (0, 0), "SH-1: a group that has ended is kept");
}

/// Members join while the group breaks.
pub fn join_fault<R: Groups>(size: Size) {
    let (groups, gauge) = (Arc::new(R::none()), Gauge::default());
    groups.join(&gauge, usize::MAX, None);
    let breaking = {
        let groups = Arc::clone(&groups);
        thread::spawn(move || (0..size.rounds).for_each(|_| groups.spoil()))
    };
    race(size.actors, |actor| {
        let (groups, gauge) = (Arc::clone(&groups), gauge.clone());
        let members = actor * size.rounds..(actor + 1) * size.rounds;
        move || members.for_each(|client| assert!(groups.join(&gauge, client, None), "SH-1: a join was lost"))
    });
    finish(breaking);
    let occupied = usize::from(!groups.members().is_empty());
    assert_eq!((gauge.live(), groups.kept()), (occupied, occupied), "SH-1: a group that broke is kept");
}

/// As many members as there are actors want the one place.
pub fn limit<R: Groups>(size: Size) {
    let (groups, gauge) = (Arc::new(R::none()), Gauge::default());
    for _ in 0..size.rounds {
        let joined = race(size.actors, |actor| {
            let (groups, gauge) = (Arc::clone(&groups), gauge.clone());
            move || groups.join(&gauge, actor, Some(1)).then_some(actor)
        });
        let admitted: Vec<_> = joined.into_iter().flatten().collect();
        assert_eq!(admitted.len(), 1, "SH-1: the limit is one, and {admitted:?} were told that they are in");
        assert_eq!(groups.members(), admitted, "SH-1: who was told so is in");
        groups.leave(admitted[0]);
    }
}

/// The real session: connections join while the session that is there retires.
fn session_join_retire(size: Size) {
    let fixture = Fixture::open(Bounds::DEFAULT);
    for _ in 0..size.rounds {
        fixture.vacate();
        let generation = fixture.generation();
        let retiring: Vec<_> = (0..2)
            .map(|_| {
                let fixture = fixture.clone();
                thread::spawn(move || fixture.linger(generation))
            })
            .collect();
        let members = race(size.actors, |actor| {
            let fixture = fixture.clone();
            move || {
                let client = fixture.enter(actor as u64).expect("the node admits");
                assert_eq!(fixture.0.node().sessions(), 1, "SH-1: two live sessions of {USER:?}");
                client
            }
        });
        retiring.into_iter().for_each(finish);
        let expected: Vec<_> = (0..size.actors as u64).map(|id| (ConnectionId(id), false)).collect();
        assert_eq!(fixture.members(), expected, "SH-1: a connection is not in the live session");
        assert_eq!(fixture.0.node().sessions(), 1, "SH-1: one session of {USER:?}");
        drop(members);
        fixture.restore();
        fixture.linger(fixture.generation());
        assert_eq!(fixture.0.node().sessions(), 0, "SH-1: the session has retired");
    }
}

/// The real session: the embedding service has something for a user whose session retires.
fn session_notice(size: Size) {
    let fixture = Fixture::open(Bounds::DEFAULT);
    for _ in 0..size.rounds {
        fixture.vacate();
        let generation = fixture.generation();
        let retiring = {
            let fixture = fixture.clone();
            thread::spawn(move || fixture.linger(generation))
        };
        let notices = race(size.actors, |actor| {
            let fixture = fixture.clone();
            move || {
                let notice = RunId(100 + actor as u64);
                loop {
                    match fixture.0.announce(
                        USER,
                        lockstep_model::session::Input::Notice { notice, thread: None, payload: 0 },
                        |_| {},
                    ) {
                        Ok(_) => return notice,
                        // A new session, whose stream is not there yet.
                        Err(Refusal::Backpressure) => fixture.restore(),
                        Err(refusal) => panic!("SH-1: a notice is refused: {refusal}"),
                    }
                }
            }
        });
        finish(retiring);
        let pending = |session: &Session<u8>| {
            session.stream().map(|stream| stream.pending().iter().map(|event| event.run).collect::<Vec<_>>())
        };
        let mut said = fixture.look(|_, session| pending(session)).flatten().unwrap_or_default();
        said.sort();
        assert_eq!(said, notices, "SH-1: a notice was taken, and is not in the one session");
        assert_eq!(fixture.0.node().sessions(), 1, "SH-1: one session of {USER:?}");
        fixture.persist();
        fixture.linger(fixture.generation());
        assert_eq!(fixture.0.node().sessions(), 0, "SH-1: the session has retired");
    }
}

/// How a timer reaches a session.
pub trait Timed: Send + Sync + 'static {
    /// The linger timer of this generation fires.
    fn linger(fixture: &Fixture, generation: Generation);
}

/// Production's way.
#[derive(Debug)]
pub struct Addressed;

impl Timed for Addressed {
    fn linger(fixture: &Fixture, generation: Generation) {
        fixture.linger(generation);
    }
}

/// The timer of the session that is there fires so often, while a connection comes and goes.
pub fn session_stale<T: Timed>(size: Size) {
    let fixture = Fixture::open(Bounds::DEFAULT);
    fixture.vacate();
    let first = fixture.generation();
    let retiring = {
        let fixture = fixture.clone();
        thread::spawn(move || (0..size.rounds).for_each(|_| T::linger(&fixture, first)))
    };
    let client = fixture.enter(1);
    let joined = fixture.generation();
    drop(client);
    fixture.restore();
    finish(retiring);
    let left = fixture.look(|generation, _| generation);
    assert!(joined == first || left == Some(joined), "SH-1: a timer of {first:?} has ended {joined:?}");
}

/// A connection that closes.
pub trait Closing: Send + Sync + 'static {
    /// Its handle.
    type ConnectionHandle: Send;
    /// It is open.
    fn open() -> (Self, Self::ConnectionHandle)
    where
        Self: Sized;
    /// Whether it is heard that it was closed.
    fn is_heard(&self) -> bool;
    /// Whether it is there.
    fn is_there(&self) -> bool;
}

/// Production's.
#[derive(Debug)]
pub struct Leaving(Fixture);

impl Closing for Leaving {
    type ConnectionHandle = Client;

    fn open() -> (Self, Client) {
        let fixture = Fixture::open(Bounds::DEFAULT);
        let client = fixture.enter(1).expect("the node admits");
        (Self(fixture), client)
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
    let (closing, handle) = C::open();
    let ending = thread::spawn(move || drop(handle));
    if closing.is_heard() {
        assert!(!closing.is_there(), "SH-1: it was heard to be closed, and is there");
    }
    finish(ending);
    assert!(closing.is_heard() && !closing.is_there(), "SH-1: it is closed");
}
