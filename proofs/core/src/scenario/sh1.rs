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
        about: "joins against a group that ends: one group at a time, and every client is in the last one",
        exhaustible: Some(Size::PAIR),
        scales: true,
        run: join_retire::<Registry<Group, Gauge>>,
    },
    Scenario {
        obligation: "SH-1",
        name: "join-fault",
        about: "joins against a group that breaks: it is abandoned before the next one opens, and nothing is left",
        exhaustible: Some(Size::PAIR),
        scales: true,
        run: join_fault::<Registry<Group, Gauge>>,
    },
    Scenario {
        obligation: "SH-1",
        name: "limit",
        about: "joins compete for the last place: one gets it, the others are told that they did not (A8)",
        exhaustible: Some(Size { actors: 3, rounds: 1 }),
        scales: true,
        run: limit::<Registry<Group, Gauge>>,
    },
    Scenario {
        obligation: "SH-1",
        name: "session-join-retire",
        about: "a connection joins while two timers retire its user's session: it is live in the only session",
        exhaustible: Some(Size::ONE),
        scales: true,
        run: session_join_retire,
    },
    Scenario {
        obligation: "SH-1",
        name: "session-notice",
        about: "a notice comes while its user's session retires: one session takes it, once, and stays for it",
        exhaustible: Some(Size::ONE),
        scales: true,
        run: session_notice,
    },
    Scenario {
        obligation: "SH-1",
        name: "session-stale",
        about: "a session's timer fires again while the next session is vacant: it has no effect",
        exhaustible: Some(Size { actors: 1, rounds: 2 }),
        scales: false,
        run: session_stale::<Addressed>,
    },
    Scenario {
        obligation: "SH-1",
        name: "session-closed",
        about: "a thread looks for a connection after its close was reported: it is gone, and its id is free (B4)",
        exhaustible: Some(Size::ONE),
        scales: false,
        run: session_closed::<Leaving>,
    },
];

const GROUP_USER: UserId = UserId(1);

/// The groups of one user.
pub trait Groups: Send + Sync + 'static {
    /// Creates a value without groups.
    fn none() -> Self;
    /// Adds a client; opens a new group if there is none. With a limit, only if there are fewer members.
    fn join(&self, gauge: &Gauge, client: usize, limit: Option<usize>) -> bool;
    /// Removes a client.
    fn leave(&self, client: usize);
    /// The linger timer fires: an empty group ends.
    fn linger(&self);
    /// A bug in our code breaks the group, and a check detects it.
    fn corrupt(&self);
    /// Returns the members of the live group.
    fn members(&self) -> Vec<usize>;
    /// Returns how many groups are kept, live or not.
    fn kept(&self) -> usize;
}

impl Groups for Registry<Group, Gauge> {
    fn none() -> Self {
        Self::new(NonZeroUsize::MIN)
    }

    fn join(&self, gauge: &Gauge, client: usize, limit: Option<usize>) -> bool {
        let open = |_, outputs: &mut Vec<_>| (Group::open(outputs), gauge.clone());
        let (_, joined) = self.with_or_open(&(), GROUP_USER, open, |group| {
            limit.is_none_or(|limit| group.machine().members().len() < limit) && group.step(Input::Join(client))
        });
        joined
    }

    fn leave(&self, client: usize) {
        if let Some(slot) = self.find(GROUP_USER) {
            let _ = self.with(&(), &slot, |group| group.step(Input::Leave(client)));
        }
    }

    fn linger(&self) {
        if let Some(slot) = self.find(GROUP_USER) {
            let _ = self.with(&(), &slot, |group| group.step(Input::Linger));
        }
    }

    fn corrupt(&self) {
        if let Some(slot) = self.find(GROUP_USER) {
            // A slot checks its machine only once in this many steps.
            let _ = self.with(&(), &slot, |group| (0..CHECK_EVERY).all(|_| group.step(Input::Corrupt)));
        }
    }

    fn members(&self) -> Vec<usize> {
        let slot = self.find(GROUP_USER);
        slot.and_then(|slot| self.with(&(), &slot, |group| group.machine().members())).unwrap_or_default()
    }

    fn kept(&self) -> usize {
        self.all().len()
    }
}

/// Members join, and leave again between rounds, while an empty group ends.
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
        thread::spawn(move || (0..size.rounds).for_each(|_| groups.corrupt()))
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

/// All actors compete for the one place.
pub fn limit<R: Groups>(size: Size) {
    let (groups, gauge) = (Arc::new(R::none()), Gauge::default());
    for _ in 0..size.rounds {
        let joined = race(size.actors, |actor| {
            let (groups, gauge) = (Arc::clone(&groups), gauge.clone());
            move || groups.join(&gauge, actor, Some(1)).then_some(actor)
        });
        let admitted: Vec<_> = joined.into_iter().flatten().collect();
        assert_eq!(admitted.len(), 1, "SH-1: the limit is one, and {admitted:?} were told that they joined");
        assert_eq!(groups.members(), admitted, "SH-1: the client that was told so is a member");
        groups.leave(admitted[0]);
    }
}

/// The real session: connections join while the user's current session retires.
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
                let client = fixture.join(actor as u64).expect("the node admits");
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

/// The real session: the embedding service sends a notice to a user whose session retires.
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
                        // A new session, whose stream is not restored yet.
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
        let mut announced = fixture.look(|_, session| pending(session)).flatten().unwrap_or_default();
        announced.sort();
        assert_eq!(announced, notices, "SH-1: a notice was taken, and is not in the one session");
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

/// Production's implementation.
#[derive(Debug)]
pub struct Addressed;

impl Timed for Addressed {
    fn linger(fixture: &Fixture, generation: Generation) {
        fixture.linger(generation);
    }
}

/// The current session's timer fires `rounds` times, while a connection joins and leaves.
pub fn session_stale<T: Timed>(size: Size) {
    let fixture = Fixture::open(Bounds::DEFAULT);
    fixture.vacate();
    let first = fixture.generation();
    let retiring = {
        let fixture = fixture.clone();
        thread::spawn(move || (0..size.rounds).for_each(|_| T::linger(&fixture, first)))
    };
    let client = fixture.join(1);
    let joined = fixture.generation();
    drop(client);
    fixture.restore();
    finish(retiring);
    let left = fixture.look(|generation, _| generation);
    assert!(joined == first || left == Some(joined), "SH-1: a timer of {first:?} has ended {joined:?}");
}

/// A connection that closes.
pub trait Closing: Send + Sync + 'static {
    /// The connection's handle.
    type Handle: Send;
    /// Opens a connection.
    fn open() -> (Self, Self::Handle)
    where
        Self: Sized;
    /// Whether the driver was told that the connection is closed.
    fn is_reported(&self) -> bool;
    /// Whether the connection can still be found.
    fn is_present(&self) -> bool;
}

/// Production's implementation.
#[derive(Debug)]
pub struct Leaving(Fixture);

impl Closing for Leaving {
    type Handle = Client;

    fn open() -> (Self, Client) {
        let fixture = Fixture::open(Bounds::DEFAULT);
        let client = fixture.join(1).expect("the node admits");
        (Self(fixture), client)
    }

    fn is_reported(&self) -> bool {
        self.0.0.effects().outputs().iter().any(|output| matches!(output, gateway::Output::Closed { .. }))
    }

    fn is_present(&self) -> bool {
        self.0.0.inbox(ConnectionId(1)).is_some() || !self.0.members().is_empty()
    }
}

/// The connection's task ends.
pub fn session_closed<C: Closing>(_: Size) {
    let (closing, handle) = C::open();
    let ending = thread::spawn(move || drop(handle));
    if closing.is_reported() {
        assert!(!closing.is_present(), "SH-1: reported as closed, and still present");
    }
    finish(ending);
    assert!(closing.is_reported() && !closing.is_present(), "SH-1: it is closed");
}
