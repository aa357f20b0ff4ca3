//! The handle of a connection, which is held by the one task that serves it.
//!
//! | what | who may touch it, and when |
//! | --- | --- |
//! | the handle, and the connection's machine while it is unattached | its task |
//! | the machine while it is attached to a session | the holder of the session's slot lock |
//! | the inbox | see [`Inbox`] |
//!
//! A connection's machine is unattached until its credential is verified. It is then attached to its user's session,
//! and unattached again when it starts to close. The step in which a session releases the machine also puts it into the
//! inbox. So a machine that has left its session is in the inbox: an input can be late, but cannot be lost between the
//! two.
//!
//! Dropping a handle in any state closes the connection, so a task that is cancelled or panics leaves nothing behind.

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

/// The inbox of a connection: inputs for it, and the machine when its session returns it.
pub type ConnectionInbox<P> = Inbox<Input<P>, Box<Connection<P>>>;

/// How many inputs may wait in a connection's inbox, apart from its verdict, its expiries and its close.
pub const MAX_ITEMS: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");

/// Inputs from this process have reserved places, so they always arrive, in order, no matter how much the embedding
/// service sends. One place of each kind is enough:
///
/// * of two verdicts, only that of the newer attempt can count;
/// * a close that waits has already chosen the cause, and so has the end of the socket;
/// * a timer that expires again while its earlier expiry waits needs no second one.
impl<P> Item for Input<P> {
    fn reserved(&self) -> Option<u8> {
        match self {
            Self::Verdict { .. } => Some(0),
            Self::Close(_) => Some(1),
            Self::Gone(_) => Some(2),
            Self::Revoked => Some(3),
            Self::Drain { .. } => Some(4),
            Self::Opened | Self::OpenedByMember => Some(5),
            Self::Expired(timer) => Some(0x40 + *timer as u8),
            Self::Received(_)
            | Self::Ready { .. }
            | Self::Tell(_)
            | Self::Notify(_)
            | Self::Relay { .. }
            | Self::RelayOpened
            | Self::RelayHeard => None,
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
                | Self::OpenedByMember
                | Self::Relay { .. }
                | Self::RelayOpened
                | Self::RelayHeard
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

/// One connection, from admission to close. See the module documentation.
pub struct ConnectionHandle<P: Piece, E: Effects<P>> {
    core: Arc<Core<P, E>>,
    id: ConnectionId,
    inbox: Arc<ConnectionInbox<P>>,
    location: Location<P, E>,
    contents: Contents<Input<P>, Box<Connection<P>>>,
    outputs: Vec<Output<P>>,
    /// Whether a fence may wait for this connection's verdict.
    verifying: bool,
}

/// Where the connection's machine is.
enum Location<P: Piece, E: Effects<P>> {
    Unattached(Box<Connection<P>>),
    Attached(Arc<SessionSlot<P, E>>),
    /// On the way to a session. Observed only if the attachment panicked.
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
        let mut outputs = Vec::new();
        core.effects().before(Step::Accept(id));
        let connection = Connection::accept(core.bounds(), id, &mut outputs);
        core.effects().after(Taken::Connection { handled: None, outputs: &outputs, connection: &connection });
        let location = Location::Unattached(Box::new(connection));
        let mut handle = Self {
            core: Arc::clone(core),
            id,
            inbox,
            location,
            contents: Contents::default(),
            outputs,
            verifying: false,
        };
        handle.dispatch();
        Ok(handle)
    }

    /// The connection's id.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Why the connection was closed; `None` while it is open.
    #[must_use]
    pub const fn closed(&self) -> Option<Cause> {
        match self.location {
            Location::Closed(cause) => Some(cause),
            Location::Unattached(_) | Location::Attached(_) | Location::Moving => None,
        }
    }

    /// Whether the cause of the close is chosen, as far as this task knows.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        match &self.location {
            Location::Unattached(connection) => connection.is_closing(),
            Location::Closed(_) => true,
            Location::Attached(_) | Location::Moving => false,
        }
    }

    /// Returns the inbox, for senders that do not want to look it up each time.
    #[must_use]
    pub fn inbox(&self) -> Arc<ConnectionInbox<P>> {
        Arc::clone(&self.inbox)
    }

    /// Takes one input. When this returns, all its effects have taken place.
    pub fn step(&mut self, input: Input<P>) -> Handled {
        let before = self.verifying;
        let handled = self.take(input);
        self.end_verification(before);
        handled
    }

    /// Lets fences fall that waited for this connection's verdict, once the verdict has taken effect.
    fn end_verification(&self, before: bool) {
        if before && !self.verifying {
            self.core.awaits_no_verdict(self.id);
        }
    }

    fn take(&mut self, input: Input<P>) -> Handled {
        let mut input = Some(input);
        loop {
            match &mut self.location {
                Location::Closed(_) => return Handled::Ignored,
                Location::Moving => self.take_back(),
                Location::Unattached(connection) => {
                    let Some(input) = input.take() else { return Handled::Ignored };
                    let effects = self.core.effects();
                    effects.before(Step::Connection(self.id, &input));
                    let handled = connection.step(self.core.bounds(), input, &mut self.outputs);
                    effects.after(Taken::Connection { handled: Some(handled), outputs: &self.outputs, connection });
                    self.verifying = connection.auth().is_verifying();
                    self.dispatch();
                    return handled;
                }
                Location::Attached(slot) => {
                    let connection = self.id;
                    let stepped = self.core.with_session(slot, |session| {
                        if !session.machine().members().contains_key(&connection) {
                            return None;
                        }
                        let input = session::Input::Connection { connection, input: input.take()? };
                        let handled = session.step(input).unwrap_or(Handled::Ignored);
                        let member = session.machine().members().get(&connection);
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

    /// Appends up to `budget` frames that may leave now, and returns their number. If it equals `budget`, pull again at
    /// once; if it is less, there is nothing more until [`ConnectionHandle::poll`] is ready.
    pub fn pull(&mut self, budget: usize, frames: &mut Vec<Frame<P>>) -> usize {
        let before = frames.len();
        while let Location::Attached(slot) = &self.location {
            let connection = self.id;
            let pulled = self.core.with_session(slot, |session| {
                session.machine().members().contains_key(&connection).then(|| {
                    let _ = session.step(session::Input::Pull { connection, budget });
                    frames.append(session.dispatcher().frames());
                })
            });
            if pulled.flatten().is_some() {
                return frames.len() - before;
            }
            let verifying = self.verifying;
            self.take_back();
            self.end_verification(verifying);
        }
        if let Location::Unattached(connection) = &mut self.location {
            let pulled = frames.len();
            frames.extend(core::iter::from_fn(|| connection.pull()).take(budget));
            if frames.len() > pulled {
                self.core.effects().after(Taken::Pulled { frames: &frames[pulled..], connection });
            }
        }
        frames.len() - before
    }

    /// Waits until there may be something to pull or the connection is closed ([`ConnectionHandle::closed`]). Handles
    /// the items in the inbox meanwhile. Cancel safe.
    pub fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        while self.closed().is_none() && !core::mem::take(&mut self.contents.signal) {
            ready!(self.inbox.poll(context, &mut self.contents));
            if let Some(connection) = self.contents.handed.take() {
                let before = self.verifying;
                self.released(connection);
                self.end_verification(before);
            }
            if let (Some(notice), Location::Unattached(_)) = (self.contents.notice.take(), &self.location) {
                let _ = self.step(notice.input());
            }
            while let Some(item) = self.contents.items.pop_front() {
                let _ = self.step(item);
            }
        }
        Poll::Ready(())
    }

    /// Dispatches the outputs of the unattached machine.
    fn dispatch(&mut self) {
        let mut grant = None;
        for output in self.outputs.drain(..) {
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

    /// Moves the verified connection into its user's session.
    fn attach(&mut self, grant: Grant) {
        if let Location::Unattached(connection) = core::mem::replace(&mut self.location, Location::Moving) {
            self.location = Location::Attached(self.core.join(grant.user, connection, &self.inbox));
        }
    }

    /// Takes the machine back after the session has released it into the inbox.
    fn take_back(&mut self) {
        match self.contents.handed.take().or_else(|| self.inbox.take_handed()) {
            Some(connection) => self.released(connection),
            None => self.close(Cause::Fault),
        }
    }

    /// Keeps a connection that its session has released. It is closing or relayed, and has no credential.
    fn released(&mut self, connection: Box<Connection<P>>) {
        self.location = Location::Unattached(connection);
        self.contents.signal = true;
        self.verifying = false;
        self.leave();
    }

    /// Closes the inbox of a closed connection and removes the connection from the node's count.
    fn leave(&mut self) {
        if let Location::Unattached(connection) = &self.location
            && let State::Closed { cause } = *connection.state()
        {
            self.close(cause);
        }
    }

    fn close(&mut self, cause: Cause) {
        self.location = Location::Closed(cause);
        self.verifying = false;
        // A closed machine ignores the items that were accepted and not handled.
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
