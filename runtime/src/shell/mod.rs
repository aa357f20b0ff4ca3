//! The concurrent core: it makes the runs of a process interleavings of steps, and adds nothing to them.
//!
//! The machines are proved for every sequence of steps. Here is what makes a real process such a sequence: which machine
//! is behind which lock, and that all a step orders has taken effect before that lock is released. There is no task,
//! socket, clock or log in it, and no decision: those are the driver's ([`Effects`]) and the machines'.
//!
//! | file | what it holds | its lock | under it may be taken |
//! | --- | --- | --- | --- |
//! | [`registry`] | user → cell, in shards | the shard's | nothing |
//! | [`cell`] | one machine, one lock, orders in the order of the steps | the cell's | the gate's, a mailbox's |
//! | [`seats`] | beside a session in its cell: its connections' mailboxes | (inside the cell) | |
//! | [`gate`] | the node, and the mailbox of each admitted connection | the gate's | a mailbox's |
//! | [`mailbox`] | what others have for a connection's task, and its waker | the mailbox's | nothing |
//! | [`port`] | what that task holds: its connection's machine, when it is at home | (one owner) | |
//! | `World` | the verdicts that are awaited, and which fences stand until they have come | its own | nothing |
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
//! | SH-1 | no two live cells for one user, no join lost in a retiring one | [`registry`] |
//! | SH-2 | orders of two racing steps take effect in the order of the steps | [`cell`] |
//! | SH-3 | no wake-up is lost between "nothing to pull" and "appended"; none after close | [`mailbox`] |
//! | SH-4 | a connection that was admitted is drained; none is admitted after | [`gate`], [`Shell::steer`] |
//! | SH-5 | a revoked credential is never live after `revoke` returns, however late its verdict; a ticket is redeemed once | [`Shell::revoke`], [`tickets`] |
//! | SH-6 | a mailbox is bounded and has room for ours; closing it neither loses an accepted item nor accepts one more | [`mailbox`] |

use core::num::NonZeroUsize;

use lockstep_model::fence::{Scope, Verifications};
use lockstep_model::{
    Attempt, Bounds, Connection, ConnectionId, Generation, Handled, Node, Piece, Refusal, Session, UserId, gateway,
    node, session,
};

use super::sync;

pub mod cell;
pub mod gate;
pub mod mailbox;
pub mod port;
pub mod registry;
pub mod seats;
pub mod tickets;
pub mod watch;

pub use cell::{Carry, Cell, Fault, Live, Machine};
pub use gate::{Gate, NotAdmitted};
pub use mailbox::{Item, Mail, Mailbox, Notice, Undelivered};
pub use port::{Inbox, Port};
pub use registry::Registry;
pub use seats::{LiveSession, Seats, SessionCell};
pub use tickets::{TicketDigest, Tickets};

use sync::{Arc, Mutex, lock};

/// Shards of a registry, unless it is told otherwise.
pub const SHARDS: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// What the driver does with orders. It is called under locks of the shell: it must not block and must not call the
/// shell. It pushes into bounded queues of the log, the verifier, the timers, the agents, and their tasks do the rest.
///
/// Orders of one session, one connection or the node come in the order of the steps that gave them (SH-2).
pub trait Effects<P> {
    /// Takes one order. [`gateway::Output::Wake`], [`gateway::Output::Send`] and [`gateway::Output::Refused`] never come:
    /// the first two go through a connection's mailbox and its port, the third is what [`Port::accept`] returns.
    fn apply(&self, order: gateway::Output<P>);

    /// A session's runs have ended in a node that awaits them: [`node::Input::SessionQuiet`] is to be steered soon, from
    /// outside of the shell.
    fn quiet(&self);

    /// A session broke an invariant or panicked. Its connections are closing with 1011; its next generation starts from
    /// the log. A bug of ours, to be reported.
    fn fault(&self, user: UserId, generation: Generation, fault: Fault);

    /// A step is about to be taken; for traces. See [`watch`].
    fn before(&self, _: watch::Step<'_, P>) {}

    /// The step was taken, and nothing that it ordered was carried out yet.
    fn after(&self, _: watch::Taken<'_, P>) {}
}

/// What every cell of a process shares.
pub(crate) struct World<P, E> {
    bounds: Bounds,
    gate: Gate<P>,
    verifications: Mutex<Verifications>,
    effects: E,
}

impl<P, E: Effects<P>> World<P, E> {
    /// Has a credential verified. Called by whoever stepped the connection's machine, before anybody else can.
    fn verify(&self, connection: ConnectionId, attempt: Attempt, token: P) {
        let generation = lock(&self.verifications).begin(connection);
        self.effects.apply(gateway::Output::Verify { connection, attempt, token, generation });
    }
}

/// The machines of one process, each behind its lock. Shared by all tasks; every method may be called by any of them at
/// any time, except from within [`Effects`].
pub struct Shell<P: Piece, E: Effects<P>> {
    world: Arc<World<P, E>>,
    sessions: Registry<Session<P>, Seats<P, E>>,
}

impl<P: Piece, E: Effects<P>> Shell<P, E> {
    /// A process that does not serve yet: [`node::Input::Started`] opens it.
    #[must_use]
    pub fn new(bounds: Bounds, effects: E) -> Self {
        Self::with_shards(bounds, effects, SHARDS)
    }

    /// The same, with so many shards.
    #[must_use]
    pub fn with_shards(bounds: Bounds, effects: E, shards: NonZeroUsize) -> Self {
        let verifications = Mutex::new(Verifications::new());
        let world = Arc::new(World { bounds, gate: Gate::new(), verifications, effects });
        Self { world, sessions: Registry::new(shards) }
    }

    /// The bounds of every machine.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.world.bounds
    }

    /// The driver.
    #[must_use]
    pub fn effects(&self) -> &E {
        &self.world.effects
    }

    /// A copy of the node's machine, to be looked at.
    #[must_use]
    pub fn node(&self) -> Node {
        self.world.gate.node()
    }

    /// The mailbox of a connection, to post inputs into, from its admission to its close.
    #[must_use]
    pub fn inbox(&self, id: ConnectionId) -> Option<Arc<Inbox<P>>> {
        self.world.gate.inbox(id)
    }

    /// Looks at a user's session, under its lock. `None` if the user has none.
    pub fn look<R>(&self, user: UserId, look: impl FnOnce(Generation, &Session<P>) -> R) -> Option<R> {
        let cell = self.sessions.find(user)?;
        self.visit(&cell, |live| look(live.generation(), live.machine()))
    }

    /// The users that have a session, when they were looked up.
    #[must_use]
    pub fn users(&self) -> Vec<UserId> {
        self.sessions.all().iter().map(|cell| cell.user()).collect()
    }

    /// The log, an agent or a timer has something for a session of that generation.
    ///
    /// # Errors
    ///
    /// As [`Session::step`]. [`Refusal::Retired`] for an agent whose session is gone, and [`Refusal::Misuse`] for inputs
    /// that have a method of their own.
    pub fn session(&self, user: UserId, generation: Generation, input: session::Input<P>) -> Result<Handled, Refusal> {
        let gone = match input {
            session::Input::Join { .. }
            | session::Input::Pull { .. }
            | session::Input::Revoke(_)
            | session::Input::Verified(_)
            | session::Input::Mode(_)
            | session::Input::Leave(_)
            | session::Input::Stop => return Err(Refusal::Misuse),
            session::Input::Run { .. } | session::Input::Notice { .. } | session::Input::Delete { .. } => {
                Err(Refusal::Retired)
            }
            session::Input::Restored { .. }
            | session::Input::NotRestored { .. }
            | session::Input::Connection { .. }
            | session::Input::Found { .. }
            | session::Input::NotFound { .. }
            | session::Input::Persisted { .. }
            | session::Input::Failed { .. }
            | session::Input::Fenced
            | session::Input::Broken
            | session::Input::Expired(..) => Ok(Handled::Ignored),
        };
        match self.sessions.find(user) {
            Some(cell) if cell.generation() == generation => self.visit(&cell, |live| live.step(input)).unwrap_or(gone),
            Some(_) | None => gone,
        }
    }

    /// The generation of a revocation, drawn when whoever verifies from now on knows it, for [`Shell::revoke`].
    #[must_use]
    pub fn revokes(&self) -> Generation {
        lock(&self.world.verifications).revoke()
    }

    /// Every verification that began before this generation is over.
    #[must_use]
    pub fn verified(&self) -> Generation {
        lock(&self.world.verifications).oldest()
    }

    /// Credentials of a user were revoked. When this returns, none of them is live, and none becomes live by a verification
    /// that began before the revocation, however long that takes.
    pub fn revoke(&self, user: UserId, scope: Scope) {
        let input = session::Input::Revoke(scope);
        if self.verified() < scope.generation() {
            self.enter(user, |live| {
                let _ = live.step(input);
            });
        } else if let Some(cell) = self.sessions.find(user) {
            // No verdict is on the way that began before: there is nothing to fence, and so no session to open.
            self.visit(&cell, |live| {
                let _ = live.step(input);
            });
        }
        // The fence stands before it is written down here, so it cannot be forgotten in between.
        let fallen = lock(&self.world.verifications).fence(user, scope.generation());
        if let Some(oldest) = fallen {
            self.lower(user, oldest);
        }
    }

    /// A connection awaits no verdict any more, and what came of the last one has taken effect.
    fn awaits_no_verdict(&self, connection: ConnectionId) {
        let fallen = lock(&self.world.verifications).end(connection);
        for (user, oldest) in fallen {
            self.lower(user, oldest);
        }
    }

    fn lower(&self, user: UserId, oldest: Generation) {
        if let Some(cell) = self.sessions.find(user) {
            self.visit(&cell, |live| {
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
        if self.world.gate.mode() == node::Mode::Draining && self.sessions.find(user).is_none() {
            return Err(Refusal::Retired);
        }
        let (_, answer) = self.enter(user, |live| {
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
    /// [`Refusal::Misuse`] for admissions and counts, which are the shell's own.
    pub fn steer(&self, input: node::Input) -> Result<Handled, Refusal> {
        match input {
            node::Input::Accept
            | node::Input::Closed
            | node::Input::SessionOpened
            | node::Input::SessionRetired
            | node::Input::SessionBusy
            | node::Input::Announced => return Err(Refusal::Misuse),
            node::Input::Started
            | node::Input::Probed(_)
            | node::Input::SessionQuiet
            | node::Input::Pin(_)
            | node::Input::Drain { .. }
            | node::Input::HandoverAborted
            | node::Input::Expired(_) => {}
        }
        let (handled, mut told) = self.world.gate.steer(self.bounds(), input, self.effects());
        while told != gate::Told::default() {
            // The gate has the new mode by now: a session that is opened after this look is opened in it.
            for cell in self.sessions.all() {
                self.visit(&cell, |live| {
                    self.bring_up_to_date(live);
                    // The new mode may have been its end, and one that is over takes no step.
                    if live.machine().state() == session::State::Retired {
                        return;
                    }
                    if let Some(successor) = told.leave {
                        let _ = live.step(session::Input::Leave(successor));
                    }
                    if told.stop {
                        let _ = live.step(session::Input::Stop);
                    }
                });
            }
            told = if told.mode {
                self.world.gate.steer(self.bounds(), node::Input::Announced, self.effects()).1
            } else {
                gate::Told::default()
            };
        }
        Ok(handled)
    }

    pub(crate) fn gate(&self) -> &Gate<P> {
        &self.world.gate
    }

    /// Takes a connection into its user's session. Its mailbox gets it back when it is closing, which may be at once.
    pub(crate) fn join(
        &self,
        user: UserId,
        connection: Box<Connection<P>>,
        inbox: &Arc<Inbox<P>>,
    ) -> Arc<SessionCell<P, E>> {
        let id = connection.id();
        let mut connection = Some(connection);
        loop {
            let (cell, joined) = self.enter(user, |live| {
                let mode = self.bring_up_to_date(live);
                if live.machine().is_over() {
                    // Nobody was in it, and the node is draining. The next one sends the connection away as it should.
                    return false;
                }
                if let Some(connection) = connection.take() {
                    live.carrier().sit(id, Arc::clone(inbox));
                    if live.step(session::Input::Join { connection, mode }).is_err() {
                        live.carrier().replace(self.bounds(), id);
                    }
                }
                true
            });
            if joined {
                return cell;
            }
        }
    }

    /// Visits a cell, if it is still live.
    pub(crate) fn visit<R>(
        &self,
        cell: &SessionCell<P, E>,
        visitor: impl FnOnce(&mut LiveSession<'_, P, E>) -> R,
    ) -> Option<R> {
        self.sessions.visit(self.bounds(), cell, visitor)
    }

    /// Visits the user's session, opened if there is none.
    fn enter<R>(
        &self,
        user: UserId,
        visitor: impl FnOnce(&mut LiveSession<'_, P, E>) -> R,
    ) -> (Arc<SessionCell<P, E>>, R) {
        let open = |generation, orders: &mut session::Orders<P>| {
            let mode = self.world.gate.session_opens(self.bounds(), self.effects());
            let session = Session::open(self.bounds(), user, mode, orders);
            (session, Seats::new(Arc::clone(&self.world), user, generation))
        };
        self.sessions.enter(self.bounds(), user, open, visitor)
    }

    /// Tells a session the node's present mode, if it does not know it, and returns the mode. Whoever changes the mode
    /// changes it in the gate first, so a session that was brought up to date cannot fall behind it unnoticed: either it
    /// reads the new mode here, or the change reaches it after this visit.
    fn bring_up_to_date(&self, live: &mut LiveSession<'_, P, E>) -> node::Mode {
        let mode = self.world.gate.mode();
        if live.machine().mode() != mode {
            let _ = live.step(session::Input::Mode(mode));
        }
        mode
    }
}

impl<P: Piece, E: Effects<P>> core::fmt::Debug for Shell<P, E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shell").field("sessions", &self.sessions).finish_non_exhaustive()
    }
}
