//! The handle: what the one task that serves a connection holds.
//!
//! | what | who may touch it, and when |
//! | --- | --- |
//! | the handle, and the connection's machine while it is at home | its task |
//! | the machine while it is with the session | whoever is inside the session's slot |
//! | the inbox | see [`Inbox`] |
//!
//! A connection's machine is at home until its credential is verified, then with its user's session, and at home again
//! to be closed. A session that gives it back puts it into the inbox in the same step. So when the machine is not in
//! the session, it is in the inbox: an input can be late, but cannot fall between the two.
//!
//! Dropping a handle, in whatever state, closes the connection: a task that is cancelled or panics leaves nothing behind.

use core::num::NonZeroUsize;
use core::task::{Context, Poll, ready};

use lockstep_model::connection::{Input, Output, State};
use lockstep_model::gateway::routing::{self, FromConnection};
use lockstep_model::{Cause, Connection, ConnectionId, Frame, Grant, Handled, Piece, session};

use super::connections::SessionSlot;
use super::inbox::{Contents, Inbox, Item};
use super::sync::Arc;
use super::watch::{Step, Taken};
use super::{Core, Effects, NotAdmitted};

/// The inbox of a connection: inputs for it, and the machine when its session gives it back.
pub type ConnectionInbox<P> = Inbox<Input<P>, Box<Connection<P>>>;

/// Inputs that may wait in the inbox of one connection beside its verdict, its expiries and its close.
pub const MAX_ITEMS: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");

/// What our own side has for a connection has a slot, so it arrives however much the embedding service posts, and in its
/// order. One of each is enough:
///
/// * of two verdicts only the newer attempt's can count;
/// * a close that waits has chosen the cause, and so has the end of the socket;
/// * a timer that expires while its earlier expiry waits has expired when that is taken.
impl<P> Item for Input<P> {
    fn reserved(&self) -> Option<u8> {
        match self {
            Self::Verdict { .. } => Some(0),
            Self::Close(_) => Some(1),
            Self::Gone(_) => Some(2),
            Self::Revoked => Some(3),
            Self::Drain { .. } => Some(4),
            Self::Opened => Some(5),
            Self::Expired(timer) => Some(0x40 + *timer as u8),
            Self::Received(_) | Self::Ready { .. } | Self::Tell(_) | Self::Notify(_) => None,
        }
    }

    fn supersedes(&self, waiting: &Self) -> bool {
        match (self, waiting) {
            (Self::Verdict { attempt, .. }, Self::Verdict { attempt: waiting, .. }) => attempt > waiting,
            (
                Self::Verdict { .. }
                | Self::Close(_)
                | Self::Gone(_)
                | Self::Revoked
                | Self::Drain { .. }
                | Self::Opened
                | Self::Expired(_)
                | Self::Received(_)
                | Self::Ready { .. }
                | Self::Tell(_)
                | Self::Notify(_),
                _,
            ) => false,
        }
    }
}

/// One connection, from admission to close. See the module.
pub struct ConnectionHandle<P: Piece, E: Effects<P>> {
    core: Arc<Core<P, E>>,
    id: ConnectionId,
    inbox: Arc<ConnectionInbox<P>>,
    place: Location<P, E>,
    contents: Contents<Input<P>, Box<Connection<P>>>,
    orders: Vec<Output<P>>,
    /// Whether a fence may wait for this connection's verdict.
    verifying: bool,
}

/// Where the machine is.
enum Location<P: Piece, E: Effects<P>> {
    Unattached(Box<Connection<P>>),
    Attached(Arc<SessionSlot<P, E>>),
    /// On the way to a session, and seen there only if something on that way panicked.
    Moving,
    Closed(Cause),
}

impl<P: Piece, E: Effects<P>> ConnectionHandle<P, E> {
    /// Asks the node to admit a connection.
    ///
    /// # Errors
    ///
    /// [`NotAdmitted`]; nothing has changed then.
    pub fn accept(core: &Arc<Core<P, E>>, id: ConnectionId) -> Result<Self, NotAdmitted> {
        let inbox = Arc::new(ConnectionInbox::new(MAX_ITEMS));
        core.admission().admit(core.bounds(), id, Arc::clone(&inbox), core.effects())?;
        let mut orders = Vec::new();
        core.effects().before(Step::Accept(id));
        let connection = Connection::accept(core.bounds(), id, &mut orders);
        core.effects().after(Taken::Connection { handled: None, orders: &orders, connection: &connection });
        let place = Location::Unattached(Box::new(connection));
        let mut handle =
            Self { core: Arc::clone(core), id, inbox, place, contents: Contents::default(), orders, verifying: false };
        handle.act();
        Ok(handle)
    }

    /// The connection's id.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Why the connection was closed, once it is.
    #[must_use]
    pub const fn closed(&self) -> Option<Cause> {
        match self.place {
            Location::Closed(cause) => Some(cause),
            Location::Unattached(_) | Location::Attached(_) | Location::Moving => None,
        }
    }

    /// The inbox, for those who have inputs for this connection and do not want to look it up.
    #[must_use]
    pub fn inbox(&self) -> Arc<ConnectionInbox<P>> {
        Arc::clone(&self.inbox)
    }

    /// Something happened to the connection. When this returns, all that it led to has taken effect.
    pub fn step(&mut self, input: Input<P>) -> Handled {
        let before = self.verifying;
        let handled = self.take(input);
        self.end_verification(before);
        handled
    }

    /// After what came of a verdict has taken effect, no fence waits for it.
    fn end_verification(&self, before: bool) {
        if before && !self.verifying {
            self.core.awaits_no_verdict(self.id);
        }
    }

    fn take(&mut self, input: Input<P>) -> Handled {
        let mut input = Some(input);
        loop {
            match &mut self.place {
                Location::Closed(_) => return Handled::Ignored,
                Location::Moving => self.take_back(),
                Location::Unattached(connection) => {
                    let Some(input) = input.take() else { return Handled::Ignored };
                    let effects = self.core.effects();
                    effects.before(Step::Connection(self.id, &input));
                    let handled = connection.step(self.core.bounds(), input, &mut self.orders);
                    effects.after(Taken::Connection { handled: Some(handled), orders: &self.orders, connection });
                    self.verifying = connection.auth().is_verifying();
                    self.act();
                    return handled;
                }
                Location::Attached(slot) => {
                    let connection = self.id;
                    let stepped = self.core.with_session(slot, |live| {
                        if !live.machine().members().contains_key(&connection) {
                            return None;
                        }
                        let input = session::Input::Connection { connection, input: input.take()? };
                        let handled = live.step(input).unwrap_or(Handled::Ignored);
                        let member = live.machine().members().get(&connection);
                        Some((handled, member.map(|member| member.connection.auth().is_verifying())))
                    });
                    match stepped.flatten() {
                        Some((handled, Some(verifying))) => {
                            self.verifying = verifying;
                            return handled;
                        }
                        Some((handled, None)) => {
                            self.take_back();
                            return handled;
                        }
                        None => self.take_back(),
                    }
                }
            }
        }
    }

    /// Appends up to `budget` frames that may leave now, and returns how many. Pull again at once if it was the whole
    /// budget; if it was less, there is nothing until [`ConnectionHandle::poll`] says so.
    pub fn pull(&mut self, budget: usize, frames: &mut Vec<Frame<P>>) -> usize {
        let before = frames.len();
        while let Location::Attached(slot) = &self.place {
            let connection = self.id;
            let pulled = self.core.with_session(slot, |live| {
                live.machine().members().contains_key(&connection).then(|| {
                    let _ = live.step(session::Input::Pull { connection, budget });
                    frames.append(live.dispatcher().frames());
                })
            });
            if pulled.flatten().is_some() {
                return frames.len() - before;
            }
            let verifying = self.verifying;
            self.take_back();
            self.end_verification(verifying);
        }
        if let Location::Unattached(connection) = &mut self.place {
            let pulled = frames.len();
            frames.extend(core::iter::from_fn(|| connection.pull()).take(budget));
            if frames.len() > pulled {
                self.core.effects().after(Taken::Pulled { frames: &frames[pulled..], connection });
            }
        }
        frames.len() - before
    }

    /// Waits until there may be something to pull, or the connection is closed ([`ConnectionHandle::closed`]). What others have for
    /// the connection is handled meanwhile. Cancel safe.
    pub fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        while self.closed().is_none() && !core::mem::take(&mut self.contents.signal) {
            ready!(self.inbox.poll(context, &mut self.contents));
            if let Some(connection) = self.contents.handed.take() {
                let before = self.verifying;
                self.released(connection);
                self.end_verification(before);
            }
            if let (Some(notice), Location::Unattached(_)) = (self.contents.notice.take(), &self.place) {
                let _ = self.step(notice.input());
            }
            while let Some(item) = self.contents.items.pop_front() {
                let _ = self.step(item);
            }
        }
        Poll::Ready(())
    }

    /// Carries out what the machine at home has ordered.
    fn act(&mut self) {
        let mut grant = None;
        for output in self.orders.drain(..) {
            match routing::connection(self.id, output) {
                Some(FromConnection::Driver(output)) => self.core.effects().apply(output),
                Some(FromConnection::Wake) => self.contents.signal = true,
                Some(FromConnection::Verify(attempt, token)) => self.core.shared.verify(self.id, attempt, token),
                Some(FromConnection::Attach(granted)) => grant = Some(granted),
                None => {}
            }
        }
        if let Some(grant) = grant {
            self.attach(grant);
        }
        self.leave();
    }

    /// Takes the verified connection to its user's session.
    fn attach(&mut self, grant: Grant) {
        if let Location::Unattached(connection) = core::mem::replace(&mut self.place, Location::Moving) {
            self.place = Location::Attached(self.core.join(grant.user, connection, &self.inbox));
        }
    }

    /// The machine is not with the session any more: the step that took it out put it into the inbox.
    fn take_back(&mut self) {
        match self.contents.handed.take().or_else(|| self.inbox.take_handed()) {
            Some(connection) => self.released(connection),
            None => self.close(Cause::Fault),
        }
    }

    /// A connection that its session gives back is closing, and has no credential.
    fn released(&mut self, connection: Box<Connection<P>>) {
        self.place = Location::Unattached(connection);
        self.contents.signal = true;
        self.verifying = false;
        self.leave();
    }

    /// A closed connection leaves the node's count, and its inbox is closed.
    fn leave(&mut self) {
        if let Location::Unattached(connection) = &self.place
            && let State::Closed { cause } = *connection.state()
        {
            self.close(cause);
        }
    }

    fn close(&mut self, cause: Cause) {
        self.place = Location::Closed(cause);
        self.verifying = false;
        // What was accepted for it and not handled means nothing to a machine that is closed.
        drop(self.inbox.close());
        self.core.admission().leave(self.core.bounds(), self.id, cause, self.core.effects());
    }
}

impl<P: Piece, E: Effects<P>> Drop for ConnectionHandle<P, E> {
    fn drop(&mut self) {
        let _ = self.step(Input::Gone(Cause::Lost));
    }
}

impl<P: Piece, E: Effects<P>> core::fmt::Debug for ConnectionHandle<P, E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ConnectionHandle").field("id", &self.id).field("closed", &self.closed()).finish_non_exhaustive()
    }
}
