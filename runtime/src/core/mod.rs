//! The concurrent core: it makes the runs of a process interleavings of steps, and adds nothing to them.
//!
//! The machines are proved for every sequence of steps. Here is what makes a real process such a sequence: which machine
//! is behind which lock, and that all a step orders has taken effect before that lock is released. There is no task,
//! socket, clock or log in it, and no decision: those are the driver's ([`Effects`]) and the machines'.
//!
//! | file | what it holds | its lock | under it may be taken |
//! | --- | --- | --- | --- |
//! | [`registry`] | user → slot, in shards | the shard's | nothing |
//! | [`slot`] | one machine, one lock, orders in the order of the steps | the slot's | the admission's, a inbox's |
//! | [`connections`] | beside a session in its slot: its connections' inboxes | (inside the slot) | |
//! | [`admission`] | the node, and the inbox of each admitted connection | the admission's | a inbox's |
//! | [`inbox`] | what others have for a connection's task, and its waker | the inbox's | nothing |
//! | [`handle`] | what that task holds: its connection's machine, when it is at home | (one owner) | |
//! | `Shared` | the verdicts that are awaited, and which fences stand until they have come | its own | nothing |
//! | [`tickets`] | single-use tickets | its own | nothing |
//! | [`watch`] | what a trace is told of each step | | |
//!
//! The last column is the whole lock order. Nothing is awaited under a lock: what runs there is a closure, not a future.
//!
//! It composes the machines as [`lockstep_model::Gateway`] does, with each session, each connection and the node as a
//! value of its own. What that takes in one step and this in several: a change of the node's mode reaches the sessions
//! one by one. A session is therefore told the node's present mode, if it does not know it, before anybody joins.
//!
//! | id | obligation | kept by |
//! | --- | --- | --- |
//! | SH-1 | no two live slots for one user, no join lost in a retiring one | [`registry`] |
//! | SH-2 | orders of two racing steps take effect in the order of the steps | [`slot`] |
//! | SH-3 | no wake-up is lost between "nothing to pull" and "appended"; none after close | [`inbox`] |
//! | SH-4 | a connection that was admitted is drained; none is admitted after | [`admission`], [`Core::steer`] |
//! | SH-5 | a revoked credential is never live after `revoke` returns, however late its verdict; a ticket is redeemed once | [`Core::revoke`], [`tickets`] |
//! | SH-6 | a inbox is bounded and has room for ours; closing it neither loses an accepted item nor accepts one more | [`inbox`] |

use core::num::NonZeroUsize;

use lockstep_model::fence::{Scope, Verifications};
use lockstep_model::gateway::routing::{self, ToSessions};
use lockstep_model::{
    Attempt, Bounds, Connection, ConnectionId, Generation, Handled, Node, Piece, Refusal, RevocationGeneration,
    Session, UserId, gateway, node, session,
};

use super::sync;

pub mod admission;
pub mod connections;
pub mod handle;
pub mod inbox;
pub mod registry;
pub mod slot;
pub mod tickets;
pub mod watch;

pub use admission::{Admission, NotAdmitted};
pub use connections::{Connections, LockedSession, SessionSlot};
pub use handle::{ConnectionHandle, ConnectionInbox};
pub use inbox::{Contents, Inbox, Item, Undelivered};
pub use registry::Registry;
pub use slot::{Dispatch, Fault, Locked, Machine, Slot};
pub use tickets::{TicketDigest, Tickets};

use sync::{Arc, Mutex, lock};

/// Shards of a registry, unless it is told otherwise.
pub const SHARDS: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// What the driver does with orders. It is called under locks of the core: it must not block and must not call the
/// core. It pushes into bounded queues of the log, the verifier, the timers, the agents, and their tasks do the rest.
///
/// Orders of one session, one connection or the node come in the order of the steps that gave them (SH-2).
pub trait Effects<P> {
    /// Takes one order. [`gateway::Output::Wake`], [`gateway::Output::Send`] and [`gateway::Output::Refused`] never come:
    /// the first two go through a connection's inbox and its handle, the third is what [`ConnectionHandle::accept`] returns.
    fn apply(&self, order: gateway::Output<P>);

    /// A session's runs have ended in a node that awaits them: [`node::Input::SessionQuiet`] is to be steered soon, from
    /// outside of the core.
    fn quiet(&self);

    /// A session broke an invariant or panicked. Its connections are closing with 1011; its next generation starts from
    /// the log. A bug of ours, to be reported.
    fn fault(&self, user: UserId, generation: Generation, fault: Fault);

    /// A step is about to be taken; for traces. See [`watch`].
    fn before(&self, _: watch::Step<'_, P>) {}

    /// The step was taken, and nothing that it ordered was carried out yet.
    fn after(&self, _: watch::Taken<'_, P>) {}
}

/// What every slot of a process shares.
pub(crate) struct Shared<P, E> {
    bounds: Bounds,
    admission: Admission<P>,
    verifications: Mutex<Verifications>,
    effects: E,
}

impl<P, E: Effects<P>> Shared<P, E> {
    /// Has a credential verified. Called by whoever stepped the connection's machine, before anybody else can.
    fn verify(&self, connection: ConnectionId, attempt: Attempt, token: P) {
        let generation = lock(&self.verifications).begin(connection);
        self.effects.apply(gateway::Output::Verify { connection, attempt, token, generation });
    }
}

/// The machines of one process, each behind its lock. Shared by all tasks; every method may be called by any of them at
/// any time, except from within [`Effects`].
pub struct Core<P: Piece, E: Effects<P>> {
    shared: Arc<Shared<P, E>>,
    sessions: Registry<Session<P>, Connections<P, E>>,
}

impl<P: Piece, E: Effects<P>> Core<P, E> {
    /// A process that does not serve yet: [`node::Input::Started`] opens it.
    #[must_use]
    pub fn new(bounds: Bounds, effects: E) -> Self {
        Self::with_shards(bounds, effects, SHARDS)
    }

    /// The same, with so many shards.
    #[must_use]
    pub fn with_shards(bounds: Bounds, effects: E, shards: NonZeroUsize) -> Self {
        let verifications = Mutex::new(Verifications::new());
        let shared = Arc::new(Shared { bounds, admission: Admission::new(), verifications, effects });
        Self { shared, sessions: Registry::new(shards) }
    }

    /// The bounds of every machine.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.shared.bounds
    }

    /// The driver.
    #[must_use]
    pub fn effects(&self) -> &E {
        &self.shared.effects
    }

    /// A copy of the node's machine, to be looked at.
    #[must_use]
    pub fn node(&self) -> Node {
        self.shared.admission.node()
    }

    /// The inbox of a connection, to post inputs into, from its admission to its close.
    #[must_use]
    pub fn inbox(&self, id: ConnectionId) -> Option<Arc<ConnectionInbox<P>>> {
        self.shared.admission.inbox(id)
    }

    /// Looks at a user's session, under its lock. `None` if the user has none.
    pub fn look<R>(&self, user: UserId, look: impl FnOnce(Generation, &Session<P>) -> R) -> Option<R> {
        let slot = self.sessions.find(user)?;
        self.with_session(&slot, |live| look(live.generation(), live.machine()))
    }

    /// The users that have a session, when they were looked up.
    #[must_use]
    pub fn users(&self) -> Vec<UserId> {
        self.sessions.all().iter().map(|slot| slot.user()).collect()
    }

    /// The log, an agent or a timer has something for a session of that generation.
    ///
    /// # Errors
    ///
    /// As [`Session::step`]. [`Refusal::Retired`] for an agent whose session is gone, and [`Refusal::Misuse`] for inputs
    /// that have a method of their own.
    pub fn session(&self, user: UserId, generation: Generation, input: session::Input<P>) -> Result<Handled, Refusal> {
        if !input.is_external() {
            return Err(Refusal::Misuse);
        }
        let gone = input.without_session();
        match self.sessions.find(user) {
            Some(slot) if slot.generation() == generation => {
                self.with_session(&slot, |session| session.step(input)).unwrap_or(gone)
            }
            Some(_) | None => gone,
        }
    }

    /// The generation of a revocation, drawn when whoever verifies from now on knows it, for [`Core::revoke`].
    #[must_use]
    pub fn revokes(&self) -> RevocationGeneration {
        lock(&self.shared.verifications).revoke()
    }

    /// Every verification that began before this generation is over.
    #[must_use]
    pub fn verified(&self) -> RevocationGeneration {
        lock(&self.shared.verifications).oldest()
    }

    /// Credentials of a user were revoked. When this returns, none of them is live, and none becomes live by a verification
    /// that began before the revocation, however long that takes.
    pub fn revoke(&self, user: UserId, scope: Scope) {
        let input = session::Input::Revoke(scope);
        if lock(&self.shared.verifications).must_fence(scope.generation()) {
            self.with_opened(user, |live| {
                let _ = live.step(input);
            });
        } else if let Some(slot) = self.sessions.find(user) {
            self.with_session(&slot, |live| {
                let _ = live.step(input);
            });
        }
        // The fence stands before it is written down here, so it cannot be forgotten in between.
        let fallen = lock(&self.shared.verifications).fence(user, scope.generation());
        if let Some(oldest) = fallen {
            self.lower(user, oldest);
        }
    }

    /// A connection awaits no verdict any more, and what came of the last one has taken effect.
    fn awaits_no_verdict(&self, connection: ConnectionId) {
        let fallen = lock(&self.shared.verifications).end(connection);
        for (user, oldest) in fallen {
            self.lower(user, oldest);
        }
    }

    fn lower(&self, user: UserId, oldest: RevocationGeneration) {
        if let Some(slot) = self.sessions.find(user) {
            self.with_session(&slot, |live| {
                let _ = live.step(session::Input::Verified(oldest));
            });
        }
    }

    /// The embedding service has a notice for a user, or deletes a thread. The user's session is opened if there is none.
    /// `prepare` is called under the session's lock before the step, as [`Effects`] are.
    ///
    /// # Errors
    ///
    /// As [`gateway::Input::Notice`]; [`Refusal::Misuse`] for any other input.
    pub fn announce(
        &self,
        user: UserId,
        input: session::Input<P>,
        prepare: impl FnOnce(Generation),
    ) -> Result<Handled, Refusal> {
        if !matches!(input, session::Input::Notice { .. } | session::Input::Delete { .. }) {
            return Err(Refusal::Misuse);
        }
        if self.sessions.find(user).is_none() {
            routing::announcement(self.shared.admission.mode())?;
        }
        let (_, answer) = self.with_opened(user, |live| {
            self.bring_up_to_date(live);
            prepare(live.generation());
            live.step(input)
        });
        answer
    }

    /// Something happened to the node. When this returns, every session has been told what follows from it.
    ///
    /// # Errors
    ///
    /// [`Refusal::Misuse`] for admissions and counts, which are the core's own.
    pub fn steer(&self, input: node::Input) -> Result<Handled, Refusal> {
        if !input.is_external() {
            return Err(Refusal::Misuse);
        }
        Ok(self.steer_and_tell(input))
    }

    /// A session became quiet ([`Effects::quiet`]). When this returns, every session knows what follows from that.
    pub fn settle_quiet(&self) {
        let _ = self.steer_and_tell(node::Input::SessionQuiet);
    }

    fn steer_and_tell(&self, input: node::Input) -> Handled {
        let (handled, mut told) = self.shared.admission.steer(self.bounds(), input, self.effects());
        while !told.0.is_empty() {
            // The node has the new mode by now: a session that is opened after this look is opened in it.
            for slot in self.sessions.all() {
                self.with_session(&slot, |session| self.tell(session, &told.0));
            }
            let answer = told.0.iter().find_map(|told| told.answer());
            told = answer
                .map(|answer| self.shared.admission.steer(self.bounds(), answer, self.effects()).1)
                .unwrap_or_default();
        }
        handled
    }

    /// Tells one session what the node has for every session.
    fn tell(&self, session: &mut LockedSession<'_, P, E>, told: &[ToSessions]) {
        self.bring_up_to_date(session);
        for told in told {
            // The new mode may have been its end, and a session that is over takes no step.
            if session.machine().state() == session::State::Retired {
                return;
            }
            match told {
                // It has the present mode; this one may be out of date.
                ToSessions::Mode(_) => {}
                ToSessions::Leave(_) | ToSessions::Stop => {
                    let _ = session.step(told.input());
                }
            }
        }
    }

    pub(crate) fn admission(&self) -> &Admission<P> {
        &self.shared.admission
    }

    /// Takes a connection into its user's session. Its inbox gets it back when it is closing, which may be at once.
    pub(crate) fn join(
        &self,
        user: UserId,
        connection: Box<Connection<P>>,
        inbox: &Arc<ConnectionInbox<P>>,
    ) -> Arc<SessionSlot<P, E>> {
        let id = connection.id();
        let mut connection = Some(connection);
        loop {
            let (slot, joined) = self.with_opened(user, |live| {
                let mode = self.bring_up_to_date(live);
                if live.machine().is_over() {
                    // Nobody was in it, and the node is draining. The next one sends the connection away as it should.
                    return false;
                }
                if let Some(connection) = connection.take() {
                    live.dispatcher().register(id, Arc::clone(inbox));
                    if live.step(session::Input::Join { connection, mode }).is_err() {
                        live.dispatcher().replace(self.bounds(), id);
                    }
                }
                true
            });
            if joined {
                return slot;
            }
        }
    }

    /// Visits a slot, if it is still live.
    pub(crate) fn with_session<R>(
        &self,
        slot: &SessionSlot<P, E>,
        act: impl FnOnce(&mut LockedSession<'_, P, E>) -> R,
    ) -> Option<R> {
        self.sessions.with(self.bounds(), slot, act)
    }

    /// Visits the user's session, opened if there is none.
    fn with_opened<R>(
        &self,
        user: UserId,
        act: impl FnOnce(&mut LockedSession<'_, P, E>) -> R,
    ) -> (Arc<SessionSlot<P, E>>, R) {
        let open = |generation, orders: &mut session::Orders<P>| {
            let mode = self.shared.admission.session_opens(self.bounds(), self.effects());
            let session = Session::open(self.bounds(), user, mode, orders);
            (session, Connections::new(Arc::clone(&self.shared), user, generation))
        };
        self.sessions.with_or_open(self.bounds(), user, open, act)
    }

    /// Tells a session the node's present mode, if it does not know it, and returns the mode. Whoever changes the mode
    /// changes it in the admission first, so a session that was brought up to date cannot fall behind it unnoticed: either it
    /// reads the new mode here, or the change reaches it after this visit.
    fn bring_up_to_date(&self, live: &mut LockedSession<'_, P, E>) -> node::Mode {
        let mode = self.shared.admission.mode();
        if live.machine().mode() != mode {
            let _ = live.step(session::Input::Mode(mode));
        }
        mode
    }
}

impl<P: Piece, E: Effects<P>> core::fmt::Debug for Core<P, E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Core").field("sessions", &self.sessions).finish_non_exhaustive()
    }
}
