//! The port: what the one task that serves a connection holds.
//!
//! | what | who may touch it, and when |
//! | --- | --- |
//! | the port, and the connection's machine while it is at home | its task |
//! | the machine while it is with the session | whoever is inside the session's cell |
//! | the mailbox | see [`Mailbox`] |
//!
//! A connection's machine is at home until its credential is verified, then with its user's session, and at home again
//! to be closed. A session that gives it back puts it into the mailbox in the same step. So when the machine is not in
//! the session, it is in the mailbox: an input can be late, but cannot fall between the two.
//!
//! Dropping a port, in whatever state, closes the connection: a task that is cancelled or panics leaves nothing behind.

use core::num::NonZeroUsize;
use core::task::{Context, Poll, ready};

use lockstep_model::connection::{Input, Output, State};
use lockstep_model::{Cause, Connection, ConnectionId, Frame, Grant, Handled, Piece, Successor, session};

use super::mailbox::{Item, Mail, Mailbox, Notice};
use super::seats::{SessionCell, of_connection};
use super::sync::Arc;
use super::watch::{Step, Taken};
use super::{Effects, NotAdmitted, Shell};

/// The mailbox of a connection: inputs for it, and the machine when its session gives it back.
pub type Inbox<P> = Mailbox<Input<P>, Box<Connection<P>>>;

/// Inputs that may wait in the mailbox of one connection beside its verdict, its expiries and its close.
pub const MAX_ITEMS: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");

/// What our own side has for a connection has a slot, so it arrives however much the embedding service posts, and in its
/// order. One of each is enough:
///
/// * of two verdicts only the newer attempt's can count;
/// * a close that waits has chosen the cause, and so has the end of the socket;
/// * a timer that expires while its earlier expiry waits has expired when that is taken.
impl<P> Item for Input<P> {
    fn slot(&self) -> Option<u8> {
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
pub struct Port<P: Piece, E: Effects<P>> {
    shell: Arc<Shell<P, E>>,
    id: ConnectionId,
    inbox: Arc<Inbox<P>>,
    place: Location<P, E>,
    mail: Mail<Input<P>, Box<Connection<P>>>,
    orders: Vec<Output<P>>,
    /// Whether a fence may wait for this connection's verdict.
    verifying: bool,
}

/// Where the machine is.
enum Location<P: Piece, E: Effects<P>> {
    Home(Box<Connection<P>>),
    Session(Arc<SessionCell<P, E>>),
    /// On the way to a session, and seen there only if something on that way panicked.
    Adrift,
    Closed(Cause),
}

impl<P: Piece, E: Effects<P>> Port<P, E> {
    /// Asks the node to admit a connection.
    ///
    /// # Errors
    ///
    /// [`NotAdmitted`]; nothing has changed then.
    pub fn accept(shell: &Arc<Shell<P, E>>, id: ConnectionId) -> Result<Self, NotAdmitted> {
        let inbox = Arc::new(Inbox::new(MAX_ITEMS));
        shell.gate().admit(shell.bounds(), id, Arc::clone(&inbox), shell.effects())?;
        let mut orders = Vec::new();
        shell.effects().before(Step::Accept(id));
        let connection = Connection::accept(shell.bounds(), id, &mut orders);
        shell.effects().after(Taken::Connection { handled: None, orders: &orders, connection: &connection });
        let place = Location::Home(Box::new(connection));
        let mut port =
            Self { shell: Arc::clone(shell), id, inbox, place, mail: Mail::default(), orders, verifying: false };
        port.act();
        Ok(port)
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
            Location::Home(_) | Location::Session(_) | Location::Adrift => None,
        }
    }

    /// The mailbox, for those who have inputs for this connection and do not want to look it up.
    #[must_use]
    pub fn inbox(&self) -> Arc<Inbox<P>> {
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
            self.shell.awaits_no_verdict(self.id);
        }
    }

    fn take(&mut self, input: Input<P>) -> Handled {
        let mut input = Some(input);
        loop {
            match &mut self.place {
                Location::Closed(_) => return Handled::Ignored,
                Location::Adrift => self.come_home(),
                Location::Home(connection) => {
                    let Some(input) = input.take() else { return Handled::Ignored };
                    let effects = self.shell.effects();
                    effects.before(Step::Connection(self.id, &input));
                    let handled = connection.step(self.shell.bounds(), input, &mut self.orders);
                    effects.after(Taken::Connection { handled: Some(handled), orders: &self.orders, connection });
                    self.verifying = connection.auth().is_verifying();
                    self.act();
                    return handled;
                }
                Location::Session(cell) => {
                    let connection = self.id;
                    let stepped = self.shell.visit(cell, |live| {
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
                            self.come_home();
                            return handled;
                        }
                        None => self.come_home(),
                    }
                }
            }
        }
    }

    /// Appends up to `budget` frames that may leave now, and returns how many. Pull again at once if it was the whole
    /// budget; if it was less, there is nothing until [`Port::poll`] says so.
    pub fn pull(&mut self, budget: usize, frames: &mut Vec<Frame<P>>) -> usize {
        let before = frames.len();
        while let Location::Session(cell) = &self.place {
            let connection = self.id;
            let pulled = self.shell.visit(cell, |live| {
                live.machine().members().contains_key(&connection).then(|| {
                    let _ = live.step(session::Input::Pull { connection, budget });
                    frames.append(live.carrier().frames());
                })
            });
            if pulled.flatten().is_some() {
                return frames.len() - before;
            }
            let verifying = self.verifying;
            self.come_home();
            self.end_verification(verifying);
        }
        if let Location::Home(connection) = &mut self.place {
            let pulled = frames.len();
            frames.extend(core::iter::from_fn(|| connection.pull()).take(budget));
            if frames.len() > pulled {
                self.shell.effects().after(Taken::Pulled { frames: &frames[pulled..], connection });
            }
        }
        frames.len() - before
    }

    /// Waits until there may be something to pull, or the connection is closed ([`Port::closed`]). What others have for
    /// the connection is handled meanwhile. Cancel safe.
    pub fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        while self.closed().is_none() && !core::mem::take(&mut self.mail.signal) {
            ready!(self.inbox.poll(context, &mut self.mail));
            if let Some(connection) = self.mail.handed.take() {
                let before = self.verifying;
                self.arrive(connection);
                self.end_verification(before);
            }
            if let (Some(notice), Location::Home(_)) = (self.mail.notice.take(), &self.place) {
                let _ = self.step(match notice {
                    // At home it is not live, so that it closes, whatever there is to come back to.
                    Notice::Drain => Input::Drain { successor: Successor::Absent },
                    Notice::Stop => Input::Close(Cause::GoingAway),
                });
            }
            while let Some(item) = self.mail.items.pop_front() {
                let _ = self.step(item);
            }
        }
        Poll::Ready(())
    }

    /// Carries out what the machine at home has ordered.
    fn act(&mut self) {
        let mut grant = None;
        for order in self.orders.drain(..) {
            match order {
                Output::Attach(granted) => grant = Some(granted),
                Output::Wake => self.mail.signal = true,
                Output::Verify { attempt, token } => self.shell.world.verify(self.id, attempt, token),
                Output::Arm(..) | Output::Disarm(_) | Output::Handle(_) | Output::Closing(_) | Output::Closed(_) => {
                    if let Some(order) = of_connection(self.id, order) {
                        self.shell.effects().apply(order);
                    }
                }
            }
        }
        if let Some(grant) = grant {
            self.attach(grant);
        }
        self.leave();
    }

    /// Takes the verified connection to its user's session.
    fn attach(&mut self, grant: Grant) {
        if let Location::Home(connection) = core::mem::replace(&mut self.place, Location::Adrift) {
            self.place = Location::Session(self.shell.join(grant.user, connection, &self.inbox));
        }
    }

    /// The machine is not with the session any more: the step that took it out put it into the mailbox.
    fn come_home(&mut self) {
        match self.mail.handed.take().or_else(|| self.inbox.take_handed()) {
            Some(connection) => self.arrive(connection),
            None => self.close(Cause::Fault),
        }
    }

    /// A connection that its session gives back is closing, and has no credential.
    fn arrive(&mut self, connection: Box<Connection<P>>) {
        self.place = Location::Home(connection);
        self.mail.signal = true;
        self.verifying = false;
        self.leave();
    }

    /// A closed connection leaves the node's count, and its mailbox is closed.
    fn leave(&mut self) {
        if let Location::Home(connection) = &self.place
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
        self.shell.gate().leave(self.shell.bounds(), self.id, cause, self.shell.effects());
    }
}

impl<P: Piece, E: Effects<P>> Drop for Port<P, E> {
    fn drop(&mut self) {
        let _ = self.step(Input::Gone(Cause::Lost));
    }
}

impl<P: Piece, E: Effects<P>> core::fmt::Debug for Port<P, E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Port").field("id", &self.id).field("closed", &self.closed()).finish_non_exhaustive()
    }
}
