//! The concurrent core: it makes every run of a process an interleaving of steps, and adds nothing to them.
//!
//! The machines are proved for every sequence of steps. This module makes a real process such a sequence: it puts each
//! machine behind a lock, and lets all outputs of a step take effect before that lock is released. It contains no task,
//! socket, clock or log, which belong to the driver ([`Effects`]). This module decides only in which order several
//! slots take a step. That is compared with [`lockstep_model::Gateway`] in every interleaving of small scenarios.
//!
//! | file | what it holds | its lock | locks that may be taken under it |
//! | --- | --- | --- | --- |
//! | [`registry`] | user → slot, in shards | the shard's | none |
//! | [`slot`] | one machine behind one lock; its outputs take effect in the order of the steps | the slot's | the admission's, an inbox's |
//! | [`connections`] | what a slot holds beside its session: the connections' inboxes | (inside the slot) | |
//! | [`admission`] | the node, and the inbox of each admitted connection | the admission's | an inbox's |
//! | [`inbox`] | messages for a connection's task, and its waker | the inbox's | none |
//! | [`handle`] | what that task holds: its connection's machine while it is unattached | (one owner) | |
//! | [`effects`] | what the driver executes; the awaited verdicts, and the fences that stand until they have come | its own | none |
//! | [`tickets`] | single-use tickets | its own | none |
//! | [`watch`] | what a trace records of each step | | |
//!
//! The last column is the complete lock order. Nothing is awaited under a lock: a closure runs there, not a future.
//!
//! The core composes the machines as [`lockstep_model::Gateway`] does, but each session, each connection and the node
//! is a value of its own. One step there takes several here: a change of the node's mode reaches the sessions one by
//! one. A session that does not know the node's current mode is therefore told it before a connection joins.
//!
//! | id | obligation | kept by |
//! | --- | --- | --- |
//! | SH-1 | no two live slots for one user, no join lost in a retiring one | [`registry`] |
//! | SH-2 | outputs of two racing steps take effect in the order of the steps | [`slot`] |
//! | SH-3 | no wake-up is lost between "nothing to pull" and "appended"; none after close | [`inbox`] |
//! | SH-4 | a connection that was admitted is drained; none is admitted after | [`admission`], [`Core::steer`] |
//! | SH-5 | a revoked credential is never live after `revoke` returns, however late its verdict; a ticket is redeemed once | [`Core::revoke`], [`tickets`] |
//! | SH-6 | an inbox is bounded and has room for reserved items; closing it neither loses an accepted item nor accepts one more | [`inbox`] |

use core::num::NonZeroUsize;

use lockstep_model::fence::{Scope, Verifications};
use lockstep_model::gateway::routing::{self, ToSessions};
use lockstep_model::{
    Bounds, Connection, ConnectionId, Generation, Handled, Node, Piece, Refusal, RevocationGeneration, Session, UserId,
    node, session,
};

use super::sync;

pub mod admission;
pub mod connections;
pub mod effects;
pub mod handle;
pub mod inbox;
pub mod registry;
pub mod slot;
pub mod tickets;
pub mod watch;

pub use admission::{Admission, NotAdmitted};
pub use connections::{Connections, LockedSession, SessionSlot};
pub use effects::Effects;
pub use handle::{ConnectionHandle, ConnectionInbox};
pub use inbox::{Contents, Inbox, Item, Undelivered};
pub use registry::Registry;
pub use slot::{Dispatch, Fault, Locked, Machine, Slot};
pub use tickets::{TicketDigest, Tickets};

use effects::Shared;
use sync::{Arc, Mutex, lock};

/// The default number of shards of a registry.
pub const SHARDS: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// The machines of one process, each behind its lock. Shared by all tasks. Any task may call any method at any time,
/// except from within [`Effects`].
pub struct Core<P: Piece, E: Effects<P>> {
    shared: Arc<Shared<P, E>>,
    sessions: Registry<Session<P>, Connections<P, E>>,
}

impl<P: Piece, E: Effects<P>> Core<P, E> {
    /// Creates a core that does not serve until [`node::Input::Started`].
    #[must_use]
    pub fn new(bounds: Bounds, effects: E) -> Self {
        Self::with_shards(bounds, effects, SHARDS)
    }

    /// Like [`Core::new`], with this number of shards.
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

    /// Returns a copy of the node's machine.
    #[must_use]
    pub fn node(&self) -> Node {
        self.shared.admission.node()
    }

    /// Returns the inbox of a connection, from its admission to its close.
    #[must_use]
    pub fn inbox(&self, id: ConnectionId) -> Option<Arc<ConnectionInbox<P>>> {
        self.shared.admission.inbox(id)
    }

    /// Reads a user's session under its lock. Returns `None` if the user has none.
    pub fn look<R>(&self, user: UserId, look: impl FnOnce(Generation, &Session<P>) -> R) -> Option<R> {
        let slot = self.sessions.find(user)?;
        self.with_session(&slot, |session| look(session.generation(), session.machine()))
    }

    /// Returns the users that have a session at the time of the look-up.
    #[must_use]
    pub fn users(&self) -> Vec<UserId> {
        self.sessions.all().iter().map(|slot| slot.user()).collect()
    }

    /// Takes an input from the log, an agent or a timer for the session of this generation.
    ///
    /// # Errors
    ///
    /// As [`Session::step`]. [`Refusal::Retired`] for an agent whose session is gone, and [`Refusal::Misuse`] for
    /// inputs that have their own method.
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

    /// Takes several inputs as [`Core::session`] does, one after another, with no other step of the session between
    /// them, and calls `answered` with each answer. `inputs` and `answered` are called under the session's lock, and are
    /// restricted as [`Effects`] are.
    pub fn session_each(
        &self,
        user: UserId,
        generation: Generation,
        inputs: impl Iterator<Item = session::Input<P>>,
        mut answered: impl FnMut(Result<Handled, Refusal>),
    ) {
        let Some(slot) = self.sessions.find(user).filter(|slot| slot.generation() == generation) else { return };
        self.with_session(&slot, |session| {
            for input in inputs {
                answered(if input.is_external() { session.step(input) } else { Err(Refusal::Misuse) });
            }
        });
    }

    /// Assigns the generation of a revocation, for [`Core::revoke`]. Call it once every later verification knows the
    /// revocation.
    #[must_use]
    pub fn revokes(&self) -> RevocationGeneration {
        lock(&self.shared.verifications).revoke()
    }

    /// Returns a generation: every verification that began before it is over.
    #[must_use]
    pub fn verified(&self) -> RevocationGeneration {
        lock(&self.shared.verifications).oldest()
    }

    /// Revokes credentials of a user. When this returns, none of them is live, and none can become live by a
    /// verification that began before the revocation, however long that takes.
    pub fn revoke(&self, user: UserId, scope: Scope) {
        let input = session::Input::Revoke(scope);
        if lock(&self.shared.verifications).must_fence(scope.generation()) {
            self.with_opened(user, |session| {
                let _ = session.step(input);
            });
        } else if let Some(slot) = self.sessions.find(user) {
            self.with_session(&slot, |session| {
                let _ = session.step(input);
            });
        }
        // The session's fence is up before it is recorded here, so it cannot be forgotten in between.
        let fallen = lock(&self.shared.verifications).fence(user, scope.generation());
        if let Some(oldest) = fallen {
            self.lower(user, oldest);
        }
    }

    /// Lowers fences after a connection has stopped awaiting a verdict and the last verdict has taken effect.
    fn awaits_no_verdict(&self, connection: ConnectionId) {
        let fallen = lock(&self.shared.verifications).end(connection);
        for (user, oldest) in fallen {
            self.lower(user, oldest);
        }
    }

    fn lower(&self, user: UserId, oldest: RevocationGeneration) {
        if let Some(slot) = self.sessions.find(user) {
            self.with_session(&slot, |session| {
                let _ = session.step(session::Input::Verified(oldest));
            });
        }
    }

    /// Delivers a notice of the embedding service to a user, or deletes a thread. Opens the user's session if there is
    /// none. `prepare` is called under the session's lock before the step, and is restricted as [`Effects`] are.
    ///
    /// # Errors
    ///
    /// As [`lockstep_model::gateway::Input::Notice`]; [`Refusal::Misuse`] for any other input.
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
        let (_, answer) = self.with_opened(user, |session| {
            self.bring_up_to_date(session);
            prepare(session.generation());
            session.step(input)
        });
        answer
    }

    /// Opens the user's session if there is none, for a notice that the log has for the user.
    ///
    /// # Errors
    ///
    /// [`Refusal::Retired`] in a draining node.
    pub fn open(&self, user: UserId) -> Result<(), Refusal> {
        if self.sessions.find(user).is_none() {
            routing::announcement(self.shared.admission.mode())?;
            self.with_opened(user, |session| {
                let _ = self.bring_up_to_date(session);
            });
        }
        Ok(())
    }

    /// Takes an input of the node. When this returns, every session has been told the consequences.
    ///
    /// # Errors
    ///
    /// [`Refusal::Misuse`] for admissions and counts, which belong to the core.
    pub fn steer(&self, input: node::Input) -> Result<Handled, Refusal> {
        if !input.is_external() {
            return Err(Refusal::Misuse);
        }
        Ok(self.steer_and_tell(input))
    }

    /// Handles a session that became quiet ([`Effects::quiet`]). When this returns, every session has been told the
    /// consequences.
    pub fn settle_quiet(&self) {
        let _ = self.steer_and_tell(node::Input::SessionQuiet);
    }

    /// Ends every session, because the process has lost its lease: nothing more is shown to any client.
    pub fn lose(&self) {
        for slot in self.sessions.all() {
            self.with_session(&slot, |session| {
                let _ = session.step(session::Input::Lost);
            });
        }
    }

    fn steer_and_tell(&self, input: node::Input) -> Handled {
        let (handled, mut told) = self.shared.admission.steer(self.bounds(), input, self.effects());
        while !told.0.is_empty() {
            // The node already has the new mode, so a session that is opened after this call starts in it.
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

    /// Tells one session the node's outputs for every session.
    fn tell(&self, session: &mut LockedSession<'_, P, E>, told: &[ToSessions]) {
        self.bring_up_to_date(session);
        for told in told {
            // The new mode may have ended the session, and a retired session takes no step.
            if session.machine().state() == session::State::Retired {
                return;
            }
            match told {
                // The session has the current mode, and this one may be out of date.
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

    /// Moves a connection into its user's session. The session releases it into its inbox when it starts to close,
    /// which may be at once.
    pub(crate) fn join(
        &self,
        user: UserId,
        connection: Box<Connection<P>>,
        inbox: &Arc<ConnectionInbox<P>>,
    ) -> Arc<SessionSlot<P, E>> {
        let id = connection.id();
        let mut connection = Some(connection);
        loop {
            let (slot, joined) = self.with_opened(user, |session| {
                let mode = self.bring_up_to_date(session);
                if session.machine().is_over() {
                    // The session was empty and the node is draining. The next session closes the connection with the
                    // right cause.
                    return false;
                }
                if let Some(connection) = connection.take() {
                    session.dispatcher().register(id, Arc::clone(inbox));
                    if session.step(session::Input::Join { connection, mode }).is_err() {
                        session.dispatcher().replace(self.bounds(), id);
                    }
                }
                true
            });
            if joined {
                return slot;
            }
        }
    }

    /// Calls `act` with a slot's session, if the slot is still live.
    pub(crate) fn with_session<R>(
        &self,
        slot: &SessionSlot<P, E>,
        act: impl FnOnce(&mut LockedSession<'_, P, E>) -> R,
    ) -> Option<R> {
        self.sessions.with(self.bounds(), slot, act)
    }

    /// Calls `act` with the user's session, opening it if there is none.
    fn with_opened<R>(
        &self,
        user: UserId,
        act: impl FnOnce(&mut LockedSession<'_, P, E>) -> R,
    ) -> (Arc<SessionSlot<P, E>>, R) {
        let open = |generation, outputs: &mut session::Outputs<P>| {
            let mode = self.shared.admission.session_opens(self.bounds(), self.effects());
            let session = Session::open(self.bounds(), user, mode, outputs);
            (session, Connections::new(Arc::clone(&self.shared), user, generation))
        };
        self.sessions.with_or_open(self.bounds(), user, open, act)
    }

    /// Tells a session the node's current mode if the session has another one, and returns the mode. A mode change
    /// updates the admission first, so a session that was brought up to date cannot miss it: either the session reads
    /// the new mode here, or the change reaches it after this call.
    fn bring_up_to_date(&self, session: &mut LockedSession<'_, P, E>) -> node::Mode {
        let mode = self.shared.admission.mode();
        if session.machine().mode() != mode {
            let _ = session.step(session::Input::Mode(mode));
        }
        mode
    }
}

impl<P: Piece, E: Effects<P>> core::fmt::Debug for Core<P, E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Core").field("sessions", &self.sessions).finish_non_exhaustive()
    }
}
