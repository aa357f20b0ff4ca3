//! SH-5: revoke against join. A revoked credential is never live after `revoke` returns; a ticket is redeemed once.

use lockstep_model::{Bounds, Cause, ConnectionId};

use super::core::{TicketDigest, Tickets};
use super::fixture::{Client, Fixture, serve, verdict};
use super::park::Parker;
use super::sync::{Arc, Mutex, lock, thread};
use super::{Scenario, Size, finish, race};

/// The scenarios of this file.
pub const ALL: &[Scenario] = &[
    Scenario {
        obligation: "SH-5",
        name: "revoke",
        about: "credentials are revoked while connections join with them: none is live after its revocation",
        exhaustible: Some(Size::ONE),
        scales: true,
        run: revoke::<Sessions>,
    },
    Scenario {
        obligation: "SH-5",
        name: "session-revoke-retire",
        about: "the same while the user's session retires: the revocation is not lost with it",
        exhaustible: Some(Size::ONE),
        scales: true,
        run: revoke_retire,
    },
    Scenario {
        obligation: "SH-5",
        name: "ticket",
        about: "several threads redeem one ticket: one gets what it stands for (A25)",
        exhaustible: Some(Size { actors: 3, rounds: 1 }),
        scales: true,
        run: ticket::<Tickets<u64>>,
    },
    Scenario {
        obligation: "SH-5",
        name: "ticket-bound",
        about: "tickets are issued while the only open one is redeemed: the bound on open tickets is kept",
        exhaustible: Some(Size::PAIR),
        scales: true,
        run: ticket_bound::<Tickets<u64>>,
    },
];

/// Credentials that can be live and can be revoked.
pub trait Revocable: Send + Sync + 'static {
    /// Creates a value without live credentials.
    fn new() -> Self;
    /// A credential is presented, and its verification begins.
    fn present(&self, _credential: u64) {}
    /// The credential was verified, and its connection joins.
    fn join(&self, credential: u64);
    /// When this returns, the credential is not live.
    fn revoke(&self, credential: u64);
    /// Whether the credential is live.
    fn is_live(&self, credential: u64) -> bool;
}

/// Production's implementation: the real session of one user.
#[derive(Debug)]
pub struct Sessions {
    fixture: Fixture,
    clients: Mutex<Vec<Client>>,
}

impl Revocable for Sessions {
    fn new() -> Self {
        Self { fixture: Fixture::open(Bounds::DEFAULT), clients: Mutex::new(Vec::new()) }
    }

    fn present(&self, credential: u64) {
        let client = self.fixture.connect(credential).expect("the node admits");
        lock(&self.clients).push(client);
    }

    fn join(&self, credential: u64) {
        let mut client = {
            let mut clients = lock(&self.clients);
            let place =
                clients.iter().position(|client| client.id() == ConnectionId(credential)).expect("it was presented");
            clients.swap_remove(place)
        };
        let _ = client.step(verdict(credential));
        lock(&self.clients).push(client);
    }

    fn revoke(&self, credential: u64) {
        self.fixture.revoke(credential);
    }

    fn is_live(&self, credential: u64) -> bool {
        self.fixture.members().iter().any(|(id, _)| *id == ConnectionId(credential))
    }
}

/// Each actor's credential is used and revoked at the same time.
pub fn revoke<R: Revocable>(size: Size) {
    let revocable = Arc::new(R::new());
    for round in 0..size.rounds {
        let credentials = (0..size.actors).map(|actor| (round * size.actors + actor) as u64);
        let threads: Vec<_> = credentials
            .map(|credential| {
                revocable.present(credential);
                let (joins, revokes) = (Arc::clone(&revocable), Arc::clone(&revocable));
                let joining = thread::spawn(move || joins.join(credential));
                let revoking = thread::spawn(move || {
                    revokes.revoke(credential);
                    assert!(!revokes.is_live(credential), "SH-5: {credential} is live after its revocation");
                });
                (credential, joining, revoking)
            })
            .collect();
        for (credential, joining, revoking) in threads {
            finish(joining);
            finish(revoking);
            assert!(!revocable.is_live(credential), "SH-5: {credential} became live after its revocation");
        }
    }
}

/// The real session, vacant and about to retire.
fn revoke_retire(size: Size) {
    let fixture = Fixture::open(Bounds::DEFAULT);
    for _ in 0..size.rounds {
        fixture.vacate();
        let generation = fixture.generation();
        let mut client = fixture.connect(1).expect("the node admits");
        let retiring = {
            let fixture = fixture.clone();
            thread::spawn(move || fixture.linger(generation))
        };
        // `revoke` explores how this is ordered with the verdict. Here it would only double the interleavings.
        let revocation = fixture.0.revokes();
        let revoking = {
            let fixture = fixture.clone();
            thread::spawn(move || fixture.revoke_as(1, revocation))
        };
        let _ = client.step(verdict(1));
        [retiring, revoking].into_iter().for_each(finish);
        assert!(fixture.members().is_empty(), "SH-5: became live after the revocation");
        serve(&mut client, &Parker::new(), |_| false);
        assert_eq!(client.closed(), Some(Cause::CredentialRevoked), "SH-5: the connection is told why");
        let up = fixture.look(|_, session| session.fence().is_up());
        assert_ne!(up, Some(true), "SH-5: a fence stands for no verdict");
    }
}

/// Tickets that can be redeemed.
pub trait Redeem: Send + Sync + 'static {
    /// Creates tickets with the numbers below this one.
    fn new(tickets: usize) -> Self;
    /// Opens one more ticket, if the bound allows it.
    fn issue(&self, ticket: usize) -> bool;
    /// Redeems this ticket, which stands for its number.
    fn redeem(&self, ticket: usize) -> Option<u64>;
}

const fn digest(ticket: usize) -> TicketDigest {
    TicketDigest([ticket as u8; 32])
}

impl Redeem for Tickets<u64> {
    fn new(tickets: usize) -> Self {
        let open = Self::new(tickets);
        for ticket in 0..tickets {
            open.issue(digest(ticket), ticket as u64, 0, 10).expect("below the bound");
        }
        open
    }

    fn issue(&self, ticket: usize) -> bool {
        Self::issue(self, digest(ticket), ticket as u64, 0, 10).is_ok()
    }

    fn redeem(&self, ticket: usize) -> Option<u64> {
        Self::redeem(self, digest(ticket), 5)
    }
}

/// At most one ticket may be open. It is redeemed while all actors issue their own.
pub fn ticket_bound<R: Redeem>(size: Size) {
    let open = Arc::new(R::new(1));
    let issued = race(size.actors, |actor| {
        let open = Arc::clone(&open);
        move || {
            let redeemed = actor == 0 && open.redeem(0).is_some();
            (redeemed, open.issue(1 + actor))
        }
    });
    assert_eq!(issued.iter().filter(|(redeemed, _)| *redeemed).count(), 1, "SH-5: it was there");
    assert_eq!(issued.iter().filter(|(_, issued)| *issued).count(), 1, "SH-5: more are open than may be");
}

/// All actors redeem every ticket.
pub fn ticket<R: Redeem>(size: Size) {
    let tickets = size.rounds.min(256);
    let open = Arc::new(R::new(tickets));
    let redeemed = race(size.actors, |_| {
        let open = Arc::clone(&open);
        move || {
            let redeemed = (0..tickets).filter_map(|ticket| Some((ticket, open.redeem(ticket)?)));
            redeemed.inspect(|(ticket, value)| assert_eq!(*value, *ticket as u64, "SH-5: another's ticket")).count()
        }
    });
    assert_eq!(redeemed.iter().sum::<usize>(), tickets, "SH-5: each ticket is redeemed once");
}
