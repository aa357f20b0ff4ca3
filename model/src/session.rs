//! One user's session: the only owner of the user's connections, stream, runs, message ids and revocations.
//!
//! ```text
#![doc = include_str!("diagram/session.txt")]
//! ```
//!
//! Each step runs under the user's one lock, and its outputs take effect, in order, before that lock is released. The
//! steps that a model checker sees are therefore all that a gateway can do.
//!
//! * **ISO-1** A session knows one user, and no input names another.
//! * **STR-1** A connection is a cursor into the stream. Delivery is [`Input::Pull`]: control frames first, then the
//!   entries after the cursor. A reader with nothing to pull is *parked* and is woken once when there is something, so
//!   **LIVE-3** a reader that keeps pulling reaches the head. A connection that names no position starts after the
//!   furthest entry that any reader of the user has pulled, so what was appended while the user was away is pulled
//!   first. Entries that were pulled on a lost connection are read again only by naming a position. The log is told the
//!   furthest offset now and then ([`NOTE_EVERY`]) and when a connection leaves: after a crash, a connection without a
//!   position may see entries again, but misses none.
//! * **RUN-2** A message id starts at most one run, across reconnects and restarts. While its `message_received` is
//!   retained or the run is open, a repeated id is answered with that run; later it is refused as forgotten. The newest
//!   [`MAX_PAST`] forgotten ids are remembered and restored by the log ([`Snapshot::past`](crate::stream::Snapshot::past)). An id that is not runs
//!   again, unless it is a repetition on a connection that did not resume, or that began before what is retained.
//! * **RUN-3** The stream reserves room for the end of every open run and for the start of a queued one
//!   ([`Run::reserve`]). An emit is therefore refused before anything changes, or it is in the stream. The step in which
//!   a command that was refused for lack of room may be accepted says so ([`Output::Room`]).
//! * **RUN-5** A reply resumes a paused run with a durable `agent_resumed`, and only then is an agent launched. A node that
//!   is about to leave takes no reply: the run outlives it, as a queued one does.
//! * **RUN-4** A message whose thread has an open run waits, is refused, or ends that run: see `queue`.
//! * **RET-1** A deletion ends its thread's runs and then appends `thread_deleted`, in one step, so a log that has the
//!   deletion has their ends. From then on these runs are not read, and their messages are refused as forgotten.
//! * **LIM-1** The step that adds a connection, a run (queued ones apart) or a pending event checks its bound.
//! * **SES-1** A session retires when it has no connection, run, unconfirmed event or fence (a draining one leaves
//!   queued runs to the next process), and then admits no connection. Events that the log refuses for good, or does not
//!   take within the time of a drain, do not keep it: see `leave`.
//! * **NODE-2** While the node waits for runs, the session tells it when it has an open run and when it no longer has
//!   one: see [`Session::holds`]. No client is told to leave before [`Input::Leave`].
//! * **OWN-1** Each write carries the [`Tenure`](crate::Tenure) under which the log restored the stream: see
//!   [`tenure`]. A session that is fenced, or whose process has lost its lease, closes its connections, ends its runs
//!   without writing, and retires.
//! * **OWN-3** A client that names a position that the session does not know waits until the log has confirmed that the
//!   session still holds the user: a later owner may know it. See `owning`.
//! * **OWN-6** A session whose user has another owner passes its connections on and retires.
//! * **LIVE-6** A session that lost its user ends each of its connections and runs.
//! * **AUTH-3** The step that uses a verdict checks it against the [`Fence`], so nothing that was revoked is live.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use litemap::LiteMap;

use crate::bounds::Bounds;
use crate::breaker::Breaker;
use crate::close::Cause;
use crate::connection::{self, Connection};
use crate::fence::{Fence, Scope};
use crate::frame::{Control, Resume};
use crate::id::{ConnectionId, MessageId, Offset, RunId, UserId};
use crate::node::Mode;
use crate::piece::Piece;
use crate::run::{self, Kind, Run};
use crate::stream::{self, Event, Stream};
use crate::tenure::{self, Ownership};
use crate::timer::{Owner, Timer};
use crate::{Handled, Refusal, Violation, ensure};

mod deliver;
mod io;
mod leave;
mod lookup;
mod owning;
mod position;
mod queue;
mod runs;

pub use self::io::{Ahead, Begin, Input, Known, Member, Output, Outputs, Reader, State, Unsettled, Waiting};
pub use self::lookup::{Found, Lookup, Lookups};

/// Message ids that are remembered as having run once their `message_received` is no longer retained.
pub const MAX_PAST: usize = 4_096;

/// How many entries readers may be ahead of the offset that the log was last told.
pub const NOTE_EVERY: u64 = 64;

/// The state machine of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Session<P> {
    user: UserId,
    state: State,
    ownership: Ownership,
    mode: Mode,
    members: LiteMap<ConnectionId, Member<P>>,
    stream: Option<Stream<P>>,
    runs: LiteMap<RunId, Run>,
    queue: VecDeque<Waiting<P>>,
    known: BTreeMap<MessageId, Known>,
    past: VecDeque<MessageId>,
    unsettled: LiteMap<RunId, Unsettled>,
    trimmed: Offset,
    read: Offset,
    noted: Offset,
    breaker: Breaker,
    fence: Fence,
}

impl<P: Piece> Session<P> {
    /// Opens a session for a user that the process does not know yet, and asks the log for the stream.
    pub fn open(bounds: &Bounds, user: UserId, mode: Mode, out: &mut Outputs<P>) -> Self {
        let ownership = Ownership::seek(bounds, &mut out.ownership);
        let session = Self {
            user,
            state: State::Restoring,
            ownership,
            mode,
            members: LiteMap::new(),
            stream: None,
            runs: LiteMap::new(),
            queue: VecDeque::new(),
            known: BTreeMap::new(),
            past: VecDeque::new(),
            unsettled: LiteMap::new(),
            trimmed: Offset(0),
            read: Offset(0),
            noted: Offset(0),
            breaker: Breaker::default(),
            fence: Fence::default(),
        };
        session.owned(out);
        session
    }

    /// The session's user.
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// The current state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether the session may write its user's log, or how far it is with acquiring the user.
    #[must_use]
    pub const fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// The node's mode, as far as the session knows it.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The connections. None of them is closing.
    #[must_use]
    pub const fn members(&self) -> &LiteMap<ConnectionId, Member<P>> {
        &self.members
    }

    /// The stream, once it is restored.
    #[must_use]
    pub const fn stream(&self) -> Option<&Stream<P>> {
        self.stream.as_ref()
    }

    /// The open runs.
    #[must_use]
    pub const fn runs(&self) -> &LiteMap<RunId, Run> {
        &self.runs
    }

    /// Runs that were queued and have no agent yet, in message order.
    #[must_use]
    pub const fn queue(&self) -> &VecDeque<Waiting<P>> {
        &self.queue
    }

    /// The messages that the session remembers.
    #[must_use]
    pub const fn known(&self) -> &BTreeMap<MessageId, Known> {
        &self.known
    }

    /// Runs whose end is not durable yet.
    #[must_use]
    pub const fn unsettled(&self) -> &LiteMap<RunId, Unsettled> {
        &self.unsettled
    }

    /// The furthest offset that any reader has reached. A connection that names no position starts there.
    #[must_use]
    pub const fn read(&self) -> Offset {
        self.read
    }

    /// The revocations that grants are checked against.
    #[must_use]
    pub const fn fence(&self) -> &Fence {
        &self.fence
    }

    /// The user's breaker.
    #[must_use]
    pub const fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Whether a node that is about to leave must wait for this session: it has a run with an agent, or an event that
    /// the log has not confirmed.
    #[must_use]
    pub fn holds(&self) -> bool {
        let open = self.runs.values().any(Run::has_agent) || !self.is_written();
        self.mode.awaits_runs() && open && self.state != State::Retired
    }

    /// Takes one input.
    ///
    /// # Errors
    ///
    /// A command from our own side can be refused: an agent's emit ([`Input::Run`]), a notice ([`Input::Notice`]), a
    /// deletion ([`Input::Delete`]) or a join ([`Input::Join`]); a retired session refuses them all. A refused command
    /// changes nothing. Inputs from peers, timers, the verifier and the log are never refused.
    pub fn step(&mut self, bounds: &Bounds, input: Input<P>, out: &mut Outputs<P>) -> Result<Handled, Refusal> {
        let (held, room) = (self.holds(), self.room(bounds));
        let answer = self.take(bounds, input, out);
        if room < Run::MAX_NEEDS && self.room(bounds) > room {
            report(Output::Room, out);
        }
        match (held, self.holds()) {
            (false, true) => report(Output::Busy, out),
            (true, false) => report(Output::Quiet, out),
            (false, false) | (true, true) => {}
        }
        answer
    }

    fn take(&mut self, bounds: &Bounds, input: Input<P>, out: &mut Outputs<P>) -> Result<Handled, Refusal> {
        if self.state == State::Retired {
            let refused = input.without_session().is_err() || matches!(input, Input::Join { .. });
            return if refused { Err(Refusal::Retired) } else { Ok(Handled::Ignored) };
        }
        let handled = match input {
            Input::Restored { attempt, snapshot } => self.restored(bounds, attempt, snapshot, out),
            Input::NotRestored { attempt } => self.not_restored(bounds, attempt, out),
            Input::Join { connection, mode } => return self.join(bounds, *connection, mode, out),
            Input::Connection { connection, input } => self.connection(bounds, connection, input, out),
            Input::Pull { connection, budget } => self.pull(bounds, connection, budget, out),
            Input::Run { run, input, payload } => self.run(bounds, run, input, payload, out)?,
            Input::Notice { notice, thread, payload } => {
                let event = Event { run: notice, thread, kind: Kind::Notice, payload: Some(payload) };
                self.announce(bounds, event, out)?
            }
            Input::Delete { thread, deletion, payload, as_of } => {
                self.is_unchanged(thread, as_of)?;
                self.delete(bounds, thread, deletion, payload, out)?
            }
            Input::Found { connection, attempt, found } => self.found(bounds, connection, attempt, found, out),
            Input::NotFound { connection, attempt } => self.not_found(bounds, connection, attempt, out),
            Input::Persisted { batch, offset, record } => {
                self.log(bounds, stream::Input::Persisted { batch, offset, record }, out)
            }
            Input::Failed { batch } => self.log(bounds, stream::Input::Failed { batch }, out),
            Input::Elsewhere { attempt, owner } => self.elsewhere(bounds, attempt, owner, out),
            Input::Confirmed { attempt } => self.own(bounds, tenure::Input::Confirmed { attempt }, out),
            Input::NotConfirmed { attempt } => self.own(bounds, tenure::Input::NotConfirmed { attempt }, out),
            Input::Fenced => self.lose(bounds, tenure::Input::Fenced, Cause::Moved, out),
            Input::Lost => self.lose(bounds, tenure::Input::Lost, Cause::Moved, out),
            Input::Broken => self.lose(bounds, tenure::Input::Abandon, Cause::Fault, out),
            Input::Revoke(scope) => self.revoke(bounds, scope, out),
            Input::Verified(oldest) => {
                if self.fence.lower(oldest) {
                    Handled::Done
                } else {
                    Handled::Ignored
                }
            }
            Input::Mode(mode) => self.enter(bounds, mode, out),
            Input::Leave(successor) => self.go(bounds, successor, out),
            // Runs were interrupted when the node left. The session does not wait for the log to take their ends.
            Input::Stop => {
                self.mode = Mode::Draining;
                self.lose(bounds, tenure::Input::Abandon, Cause::GoingAway, out)
            }
            Input::Expired(owner, timer) => self.expired(bounds, owner, timer, out),
        };
        self.settle(bounds, out);
        Ok(handled)
    }

    /// Checks the invariants of this value.
    ///
    /// # Errors
    ///
    /// The id of the property that the value violates.
    pub fn check(&self, bounds: &Bounds) -> Result<(), Violation> {
        ensure(self.members.len() <= bounds.connections, "LIM-1")?;
        self.check_queue(bounds)?;
        ensure(self.fence.len() <= bounds.revoked, "LIM-1")?;
        ensure(self.past.len() <= MAX_PAST, "LIM-1")?;
        for (id, member) in &self.members {
            member.connection.check(bounds)?;
            ensure(member.connection.id() == *id, "CONN-1")?;
            ensure(!member.connection.is_closing(), "SES-1")?;
            ensure(member.connection.is_reading() == member.cursor.is_some(), "CONN-2")?;
            let grant = member.connection.auth().grant();
            ensure(grant.is_some_and(|grant| grant.user == self.user), "AUTH-2")?;
            ensure(grant.is_some_and(|grant| self.fence.admits(grant)), "AUTH-1")?;
            member.lookups.check(bounds)?;
            let behind = member.is_behind(self.stream.as_ref());
            let readable = behind && !member.lookups.is_awaiting_page();
            // `going_away` waits until the stream is read.
            let sendable = member.connection.has_frame() && !(behind && member.connection.is_going());
            ensure(!member.parked || !(readable || sendable), "STR-1")?;
        }
        for run in self.runs.values() {
            run.check(bounds)?;
            ensure(run.is_open(), "RUN-1")?;
            ensure(self.known.contains_key(&run.message()), "RUN-2")?;
        }
        if let Some(stream) = &self.stream {
            stream.check(bounds)?;
            ensure(stream.pending().len() + self.reserve() <= bounds.pending, "RUN-3")?;
        }
        let idle = self.is_idle();
        match self.state {
            State::Restoring => ensure(self.stream.is_none() && self.runs.is_empty(), "SES-1"),
            State::Vacant => ensure(idle && self.stream.is_some(), "SES-1"),
            State::Occupied => ensure(!idle && self.stream.is_some(), "SES-1"),
            State::Leaving { .. } => ensure(idle && (!self.is_written() || self.is_fencing()), "SES-1"),
            State::Retired => {
                // Checked here because `is_written` made the decision and must not verify itself.
                ensure(idle && self.stream.as_ref().is_none_or(|stream| stream.pending().is_empty()), "SES-1")
            }
        }?;
        let under = self.stream.as_ref().map(Stream::tenure);
        ensure(self.state == State::Retired || self.ownership.tenure() == under, "OWN-1")
    }

    /// Admits a verified connection, or closes it with the cause for which it is refused.
    fn join(
        &mut self,
        bounds: &Bounds,
        mut connection: Connection<P>,
        mode: Mode,
        out: &mut Outputs<P>,
    ) -> Result<Handled, Refusal> {
        let id = connection.id();
        let (Some(Resume { replaces, .. }), Some(grant)) = (connection.resume(), connection.auth().grant()) else {
            return Err(Refusal::Misuse);
        };
        if grant.user != self.user || self.members.contains_key(&id) {
            return Err(Refusal::Misuse);
        }
        if self.mode != Mode::Draining {
            self.mode = mode;
        }
        let refusal = if !self.fence.admits(grant) {
            Some(Cause::CredentialRevoked)
        } else if let State::Leaving { cause } = self.state {
            Some(cause)
        } else if let Some(cause) = self.mode.refuses_connections() {
            Some(cause)
        } else {
            if let Some(older) = replaces.filter(|older| self.members.contains_key(older)) {
                let input = connection::Input::Close(Cause::Superseded);
                let _ = self.connection(bounds, older, input, out);
            }
            (self.members.len() >= bounds.connections).then_some(Cause::TooManyConnections)
        };
        if let Some(cause) = refusal {
            let mut scratch = core::mem::take(&mut out.connection);
            let _ = connection.step(bounds, connection::Input::Close(cause), &mut scratch);
            for output in scratch.drain(..) {
                if let Some(output) = translate(id, output) {
                    out.list.push(output);
                }
            }
            out.connection = scratch;
            out.list.push(Output::Release { connection: Box::new(connection) });
        } else {
            self.members.insert(id, Member::new(connection));
            if self.state == State::Vacant {
                self.state = State::Occupied;
                out.list.push(Output::Disarm(Owner::Session, Timer::Linger));
            }
            self.ready(bounds, id, out);
        }
        self.settle(bounds, out);
        Ok(Handled::Done)
    }

    fn revoke(&mut self, bounds: &Bounds, scope: Scope, out: &mut Outputs<P>) -> Handled {
        self.fence.raise(bounds, scope);
        let revoked: Vec<ConnectionId> = self
            .members
            .values()
            .filter(|member| member.connection.auth().grant().is_some_and(|grant| !self.fence.admits(grant)))
            .map(|member| member.connection.id())
            .collect();
        for connection in revoked {
            let _ = self.connection(bounds, connection, connection::Input::Revoked, out);
        }
        Handled::Done
    }

    fn enter(&mut self, bounds: &Bounds, mode: Mode, out: &mut Outputs<P>) -> Handled {
        if self.mode == Mode::Draining || self.mode == mode {
            return Handled::Ignored;
        }
        self.mode = mode;
        let told: Vec<ConnectionId> = self.members.keys().copied().collect();
        for connection in told {
            self.tell(bounds, connection, Control::Mode(mode), out);
        }
        Handled::Done
    }

    fn expired(&mut self, bounds: &Bounds, owner: Owner, timer: Timer, out: &mut Outputs<P>) -> Handled {
        match (owner, timer, self.state) {
            (Owner::Connection(connection), _, _) => {
                self.connection(bounds, connection, connection::Input::Expired(timer), out)
            }
            (Owner::Run(run), _, _) => {
                self.run(bounds, run, run::Input::Expired(timer), None, out).unwrap_or(Handled::Ignored)
            }
            (Owner::Session, Timer::LogAnswer, State::Restoring) => {
                self.seeking().map_or(Handled::Ignored, |attempt| self.not_restored(bounds, attempt, out))
            }
            (Owner::Session, Timer::Retry | Timer::LogAnswer, _) => {
                self.log(bounds, stream::Input::Expired(timer), out)
            }
            (Owner::Session, Timer::Restore, State::Restoring | State::Vacant | State::Occupied) => {
                self.own(bounds, tenure::Input::Expired(Timer::Restore), out)
            }
            (Owner::Session, Timer::Breaker, _) if self.breaker.reset() => Handled::Done,
            (Owner::Session, Timer::Linger, State::Vacant) => {
                if self.is_written() && !self.fence.is_up() {
                    self.retire(bounds, out);
                } else {
                    out.list.push(Output::Arm(Owner::Session, Timer::Linger, bounds.linger));
                }
                Handled::Done
            }
            (
                Owner::Session,
                _,
                State::Restoring | State::Vacant | State::Occupied | State::Leaving { .. } | State::Retired,
            ) => Handled::Ignored,
        }
    }
}

/// Adds an output of the whole step. [`Output::Retire`] stays last.
fn report<P>(output: Output<P>, out: &mut Outputs<P>) {
    let last = usize::from(matches!(out.list.last(), Some(Output::Retire)));
    out.list.insert(out.list.len() - last, output);
}

/// Translates a connection's output to the session's. Returns `None` for outputs that the session handles itself.
fn translate<P>(connection: ConnectionId, output: connection::Output<P>) -> Option<Output<P>> {
    let owner = Owner::Connection(connection);
    match output {
        connection::Output::Verify { attempt, token } => Some(Output::Verify { connection, attempt, token }),
        connection::Output::Arm(timer, after) => Some(Output::Arm(owner, timer, after)),
        connection::Output::Disarm(timer) => Some(Output::Disarm(owner, timer)),
        connection::Output::Relay { owner } => Some(Output::Relay { connection, owner }),
        connection::Output::Attach(_)
        | connection::Output::Handle(_)
        | connection::Output::Wake
        | connection::Output::Closing(_)
        | connection::Output::Closed(_) => None,
    }
}
