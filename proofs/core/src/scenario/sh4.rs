//! SH-4: drain against admit. Every admitted connection is drained; none is admitted after.

use std::num::NonZeroUsize;

use lockstep_model::gateway::routing::{ToConnections, ToSessions};
use lockstep_model::{
    Bounds, Cause, ConnectionId, Generation, Mode, Successor, Timer, UserId, connection, gateway, node,
};

use super::core::{Admission, ConnectionInbox, Effects, Fault};
use super::fixture::{Client, Fixture, serve};
use super::park::Parker;
use super::sync::{Arc, Mutex, lock, thread};
use super::{Scenario, Size, finish, race};

/// The scenarios of this file.
pub const ALL: &[Scenario] = &[
    Scenario {
        obligation: "SH-4",
        name: "admit",
        about: "connections are admitted while the node drains: each admitted one is told, none is admitted after",
        exhaustible: Some(Size::PAIR),
        scales: true,
        run: admit::<Admissions>,
    },
    Scenario {
        obligation: "SH-4",
        name: "session-join",
        about: "one connection is live and one joins while the node drains: both are told to leave",
        exhaustible: Some(Size::ONE),
        scales: true,
        run: session_join::<Hosted>,
    },
    Scenario {
        obligation: "SH-4",
        name: "session-vacant",
        about: "a connection joins a session that the drain retires: it closes with GoingAway, never 1011",
        exhaustible: Some(Size::ONE),
        scales: true,
        run: session_vacant::<Hosted>,
    },
    Scenario {
        obligation: "SH-4",
        name: "session-new",
        about: "a connection joins and opens the user's session while the node drains: it is told to leave",
        exhaustible: Some(Size::ONE),
        scales: true,
        run: session_new::<Hosted>,
    },
    Scenario {
        obligation: "SH-4",
        name: "mode-join",
        about: "a connection joins while the mode changes: its session ends up in the node's mode",
        exhaustible: Some(Size::ONE),
        scales: true,
        run: mode_join,
    },
    Scenario {
        obligation: "SH-4",
        name: "mode",
        about: "two changes of the mode race: every session ends up in the node's mode",
        exhaustible: Some(Size::PAIR),
        scales: false,
        run: mode,
    },
    Scenario {
        obligation: "SH-4",
        name: "stop-serve",
        about: "a connection reads and parks while the node drains and the time to leave ends: it is told to leave",
        exhaustible: Some(Size::ONE),
        scales: true,
        run: stop_serve,
    },
    Scenario {
        obligation: "SH-4",
        name: "drain-early",
        about: "a connection that is not verified yet parks while the node drains: it is told to leave",
        exhaustible: Some(Size::PAIR),
        scales: true,
        run: drain_early,
    },
    Scenario {
        obligation: "SH-4",
        name: "stop",
        about: "connections leave while the time to leave ends: the node stops once, after all have left",
        exhaustible: Some(Size::ONE),
        scales: true,
        run: stop,
    },
];

/// The process must end, and there is no successor.
const DRAIN: node::Input = node::Input::Drain { successor: Successor::Absent };

/// An admission that can be closed for good.
pub trait AdmissionList: Send + Sync + 'static {
    /// Creates an open admission.
    fn open() -> Self;
    /// Returns whether the connection was admitted.
    fn admit(&self, id: u64) -> bool;
    /// Admits no more connections, and notifies every admitted one.
    fn drain(&self);
    /// Returns whether the connection was notified.
    fn told(&self, id: u64) -> bool;
}

/// Production's implementation, with the inboxes of all connections that tried to connect.
#[derive(Debug, Default)]
pub struct Admissions {
    admission: Admission<u8>,
    inboxes: Mutex<Vec<(u64, Arc<ConnectionInbox<u8>>)>>,
}

/// No driver.
#[derive(Debug)]
pub struct NoDriver;

impl Effects<u8> for NoDriver {
    fn apply(&self, _: gateway::Output<u8>) {}

    fn quiet(&self) {}

    fn fault(&self, _: UserId, _: Generation, _: Fault) {}
}

impl AdmissionList for Admissions {
    fn open() -> Self {
        let admissions = Self::default();
        let _ = admissions.admission.steer(&Bounds::DEFAULT, node::Input::Started, &NoDriver);
        admissions
    }

    fn admit(&self, id: u64) -> bool {
        let inbox = Arc::new(ConnectionInbox::new(NonZeroUsize::MIN));
        let admitted = self.admission.admit(&Bounds::DEFAULT, ConnectionId(id), Arc::clone(&inbox), &NoDriver).is_ok();
        lock(&self.inboxes).push((id, inbox));
        admitted
    }

    fn drain(&self) {
        let (_, told) = self.admission.steer(&Bounds::DEFAULT, DRAIN, &NoDriver);
        assert_eq!(told.0, [ToSessions::Mode(Mode::Draining)], "the mode has changed");
    }

    fn told(&self, id: u64) -> bool {
        let inboxes = lock(&self.inboxes);
        inboxes.iter().any(|(who, inbox)| *who == id && inbox.close().notice == Some(ToConnections::Drain))
    }
}

/// Connections ask for admission while it closes.
pub fn admit<A: AdmissionList>(size: Size) {
    let admissions = Arc::new(A::open());
    let draining = {
        let admissions = Arc::clone(&admissions);
        thread::spawn(move || {
            admissions.drain();
            assert!(!admissions.admit(u64::MAX), "SH-4: admitted after the drain");
        })
    };
    let admitted = race(size.actors, |actor| {
        let admissions = Arc::clone(&admissions);
        let ids = (actor * size.rounds) as u64..((actor + 1) * size.rounds) as u64;
        move || ids.filter(|id| admissions.admit(*id)).collect::<Vec<_>>()
    });
    finish(draining);
    for id in admitted.into_iter().flatten() {
        assert!(admissions.told(id), "SH-4: {id} was admitted and not told");
    }
}

/// A user's session in a node that can drain.
pub trait Hosting: Send + Sync + 'static {
    /// Opens a node that is ready and a session whose stream is restored, with this limit of connections.
    fn open(connections: usize) -> Self;
    /// Opens a node that is ready, without a session of the user.
    fn without_session(connections: usize) -> Self;
    /// A connection whose credential was verified joins.
    fn join(&self, id: u64);
    /// The node drains.
    fn drain(&self);
    /// Returns the live connections that were not told to leave.
    fn untold(&self) -> Vec<ConnectionId>;
    /// Closes everything, and asserts that nothing is left.
    fn finish(&self);
}

/// Production's implementation: the complete core.
#[derive(Debug)]
pub struct Hosted {
    fixture: Fixture,
    clients: Mutex<Vec<Client>>,
}

impl Hosting for Hosted {
    fn open(connections: usize) -> Self {
        let hosted = Self::without_session(connections);
        hosted.fixture.vacate();
        hosted
    }

    fn without_session(connections: usize) -> Self {
        let bounds = Bounds { connections, ..Bounds::DEFAULT };
        Self { fixture: Fixture::open(bounds), clients: Mutex::new(Vec::new()) }
    }

    fn join(&self, id: u64) {
        let client = self.fixture.join(id);
        lock(&self.clients).extend(client);
    }

    fn drain(&self) {
        self.fixture.steer(DRAIN);
    }

    fn untold(&self) -> Vec<ConnectionId> {
        self.fixture.members().into_iter().filter(|(_, draining)| !draining).map(|(id, _)| id).collect()
    }

    fn finish(&self) {
        assert!(self.fixture.connect(u64::MAX).is_none(), "SH-4: admitted after the drain");
        close_all(&self.fixture, core::mem::take(&mut *lock(&self.clients)));
    }
}

/// A live connection and joining connections are told to leave, and all can leave.
pub fn session_join<H: Hosting>(size: Size) {
    let hosting = H::open(size.actors * size.rounds + 1);
    hosting.join(u64::MAX - 1);
    join_while_draining(hosting, size);
}

/// The session that connections join is vacant, so the drain ends it.
pub fn session_vacant<H: Hosting>(size: Size) {
    join_while_draining(H::open(size.actors * size.rounds), size);
}

/// The joining connection is the first, and opens the session.
pub fn session_new<H: Hosting>(size: Size) {
    join_while_draining(H::without_session(size.actors * size.rounds), size);
}

fn join_while_draining<H: Hosting>(hosting: H, size: Size) {
    let hosting = Arc::new(hosting);
    let draining = {
        let hosting = Arc::clone(&hosting);
        thread::spawn(move || hosting.drain())
    };
    race(size.actors, |actor| {
        let hosting = Arc::clone(&hosting);
        move || (0..size.rounds).for_each(|round| hosting.join((actor * size.rounds + round) as u64))
    });
    finish(draining);
    let untold = hosting.untold();
    assert!(untold.is_empty(), "SH-4: a live connection was not told: {untold:?}");
    hosting.finish();
}

/// All connections close after the grace, with GoingAway. Then the node stops.
fn close_all(fixture: &Fixture, members: Vec<Client>) {
    for mut client in members {
        // A connection in a session was told to leave and waits for its grace to end; an unattached one closes at once.
        let expired = connection::Input::Expired(Timer::Grace);
        let _ = client.inbox().send(expired);
        serve(&mut client, &Parker::new(), |_| false);
        assert_eq!(client.closed(), Some(Cause::GoingAway), "SH-4: {client:?}");
    }
    assert_eq!(
        (fixture.0.node().connections(), fixture.0.node().sessions()),
        (0, 0),
        "SH-4: a connection or session is left"
    );
    let stops = fixture.0.effects().outputs().into_iter().filter(|output| *output == gateway::Output::Stopped).count();
    assert_eq!(stops, 1, "SH-4: the node stops, once");
}

/// Two operators pin two modes.
fn mode(_: Size) {
    let fixture = Fixture::open(Bounds::DEFAULT);
    fixture.vacate();
    race(2, |actor| {
        let fixture = fixture.clone();
        let pinned = if actor == 0 { Mode::Degraded } else { Mode::Emergency };
        move || {
            fixture.steer(node::Input::Pin(Some(pinned)));
        }
    });
    let session = fixture.look(|_, session| session.mode());
    assert_eq!(session, Some(fixture.mode()), "SH-4: the session is in another mode than the node");
}

/// One operator pins a mode while connections join.
fn mode_join(size: Size) {
    let fixture = Fixture::open(Bounds::DEFAULT);
    fixture.vacate();
    let pinning = {
        let fixture = fixture.clone();
        thread::spawn(move || fixture.steer(node::Input::Pin(Some(Mode::Degraded))))
    };
    let members = race(size.actors, |actor| {
        let fixture = fixture.clone();
        move || fixture.join(actor as u64)
    });
    finish(pinning);
    let session = fixture.look(|_, session| session.mode());
    assert_eq!(session, Some(fixture.mode()), "SH-4: the session is in another mode than the node");
    drop(members);
}

/// Connections are served until they are told to leave, while the node drains and the time to leave ends.
fn stop_serve(size: Size) {
    let fixture = Fixture::open(Bounds::DEFAULT);
    let members: Vec<_> = (0..size.actors as u64).filter_map(|id| fixture.join(id)).collect();
    fixture.restore();
    serve_while(&fixture, members, &[DRAIN, node::Input::Expired(Timer::Grace)]);
}

/// Connections whose credential is not verified yet are served while the node drains.
fn drain_early(size: Size) {
    let fixture = Fixture::open(Bounds::DEFAULT);
    let members: Vec<_> = (0..size.actors as u64).filter_map(|id| fixture.connect(id)).collect();
    serve_while(&fixture, members, &[DRAIN]);
}

fn serve_while(fixture: &Fixture, members: Vec<Client>, steered: &'static [node::Input]) {
    let steering = {
        let fixture = fixture.clone();
        thread::spawn(move || steered.iter().for_each(|input| fixture.steer(*input)))
    };
    let serving: Vec<_> = members
        .into_iter()
        .map(|mut client| {
            thread::spawn(move || {
                serve(&mut client, &Parker::new(), |_| false);
                assert_eq!(client.closed(), Some(Cause::GoingAway), "SH-4: {client:?}");
            })
        })
        .collect();
    serving.into_iter().chain([steering]).for_each(finish);
    close_all(fixture, Vec::new());
}

/// The peers of connections leave, and the time to leave ends.
fn stop(size: Size) {
    let fixture = Fixture::open(Bounds::DEFAULT);
    let members: Vec<_> = (0..size.actors as u64).filter_map(|id| fixture.join(id)).collect();
    fixture.restore();
    fixture.steer(DRAIN);
    let stopping = {
        let fixture = fixture.clone();
        thread::spawn(move || {
            fixture.steer(node::Input::Expired(Timer::Grace));
        })
    };
    let leaving: Vec<_> = members.into_iter().map(|client| thread::spawn(move || drop(client))).collect();
    leaving.into_iter().chain([stopping]).for_each(finish);
    close_all(&fixture, Vec::new());
}
