//! The part of the oracle that checks what sessions wait for and retain: each wait has a timer that ends it, retained
//! data is still needed, and required notifications are made. See [`oracle`](super::oracle).

use lockstep_model::auth::State as Credential;
use lockstep_model::connection::State as Stage;
use lockstep_model::gateway::{self, Place};
use lockstep_model::run::Kind;
use lockstep_model::session::{self, State};
use lockstep_model::stream::Writer;
use lockstep_model::tenure::Request as Asked;
use lockstep_model::timer::Owner;
use lockstep_model::{
    AcquisitionId, Cancel, Code, Connection, ConnectionId, Control, Frame, Generation, Handled, MessageId, Mode,
    Offset, Refusal, Request, RevocationGeneration, RunId, Session, Stream, ThreadId, Timer, UserId, node, run,
};

use super::action::is_received;
use super::setup::Setup;
use super::state::{Payload, Slot, World};
use super::turns::begun;

impl World {
    /// Checks everything that can be checked in a single state.
    pub(super) fn audit(&mut self) {
        self.overtake();
        let mut verdict = Ok(());
        for (user, slot) in self.gateway.slots() {
            verdict = verdict.and(self.audit_timers(*user, slot)).and(self.audit_memory(*user, slot));
            verdict = verdict.and(self.audit_runs(*user, slot));
        }
        verdict = verdict
            .and(self.audit_lookups())
            .and(self.audit_fences())
            .and(self.audit_armed())
            .and(self.audit_wakes())
            .and(self.audit_modes());
        if let Err(property) = verdict {
            self.violated(property);
        }
    }

    /// Drops beginnings that the tail has passed or whose connection has left, because they no longer imply anything.
    fn overtake(&mut self) {
        let Self { gateway, sockets, .. } = self;
        for (id, socket) in sockets.iter_mut() {
            let slot = gateway.user_of(*id).and_then(|user| gateway.slots().get(&user));
            let tail = slot.and_then(|slot| slot.session.stream()).map(Stream::tail);
            socket.observed.began = socket.observed.began.filter(|began| tail.is_some_and(|tail| *began >= tail));
        }
    }

    /// SES-1, STR-2, LIM-1: whatever waits for a timer has it armed.
    fn audit_timers(&self, user: UserId, slot: &Slot) -> Result<(), &'static str> {
        let place = Place::Session(user, slot.generation);
        let armed = |timer| self.timers.binary_search(&(place, timer)).is_ok();
        let held = |timer| !waits(&slot.session, timer) || armed(timer);
        let asked = seeks(&slot.session, Asked::Requested);
        ensure(asked == self.is_asked(user, slot.generation), "SES-1")?;
        ensure(held(Timer::Restore) && held(Timer::Linger), "SES-1")?;
        ensure(held(Timer::Retry), "STR-2")?;
        ensure(self.left.unanswered == 0 || held(Timer::LogAnswer), "LIVE-4")?;
        let failed = usize::try_from(user.0).is_ok_and(|user| self.oracle.failures.get(user).is_some_and(|n| *n > 0));
        ensure(!waits(&slot.session, Timer::Breaker) || (armed(Timer::Breaker) && failed), "LIM-1")
    }

    /// Whether the log was asked for a session's stream and has not answered.
    fn is_asked(&self, user: UserId, generation: Generation) -> bool {
        let log = usize::try_from(user.0).ok().and_then(|user| self.logs.get(user));
        log.is_some_and(|log| log.restore.is_some_and(|(session, _)| session == generation))
    }

    /// SES-1: no fence stands for verdicts that can no longer come.
    fn audit_fences(&self) -> Result<(), &'static str> {
        let up = self.gateway.slots().values().any(|slot| slot.session.fence().is_up());
        let verifying = |id: &ConnectionId| {
            let connection = self.gateway.connection(*id);
            connection.is_some_and(|connection| {
                matches!(connection.auth().state(), Credential::Verifying { .. } | Credential::Refreshing { .. })
            })
        };
        ensure(!up || self.sockets.keys().any(verifying), "SES-1")
    }

    /// CONN-3, SES-1, LIVE-2: no timer runs for something that is over.
    fn audit_armed(&self) -> Result<(), &'static str> {
        for (place, timer) in &self.timers {
            match place {
                Place::Node => {}
                Place::Connection(id) => {
                    let connection = self.gateway.connection(*id);
                    let due = connection.is_some_and(|connection| {
                        let (stage, credential) = (connection.state(), connection.auth().state());
                        match timer {
                            Timer::Handshake => {
                                matches!(stage, Stage::Opening | Stage::Authenticating { .. } | Stage::Attaching { .. })
                            }
                            Timer::Idle => matches!(stage, Stage::Live { .. }),
                            Timer::Grace => matches!(stage, Stage::Draining),
                            Timer::Close => matches!(stage, Stage::Closing { .. }),
                            Timer::Verification => {
                                matches!(credential, Credential::Verifying { .. } | Credential::Refreshing { .. })
                            }
                            Timer::Lookup => self.has_lookup(*id),
                            Timer::Warning | Timer::Credential => connection.auth().grant().is_some(),
                            _ => false,
                        }
                    });
                    ensure(due, "CONN-3")?;
                }
                Place::Session(user, generation) => {
                    let slot = self.gateway.slots().get(user).filter(|slot| slot.generation == *generation);
                    ensure(slot.is_some_and(|slot| waits(&slot.session, *timer)), "SES-1")?;
                }
                Place::Run(user, generation, run) => {
                    let slot = self.gateway.slots().get(user).filter(|slot| slot.generation == *generation);
                    let run = slot.and_then(|slot| slot.session.runs().get(run));
                    ensure(run.is_some_and(|run| !run.is_queued()), "LIVE-2")?;
                }
            }
        }
        Ok(())
    }

    /// RUN-2: the session's memory of a message agrees with the log. It remembers every message whose beginning can be
    /// read or is being written. For every other message that the log ever took, it remembers that the message ran.
    /// LIM-1: a message is known while that holds or until its run's end is durable, and the log retains exactly what
    /// is readable or needed.
    fn audit_memory(&self, user: UserId, slot: &Slot) -> Result<(), &'static str> {
        let session = &slot.session;
        let Some(stream) = session.stream() else { return Ok(()) };
        let pending = |is: &dyn Fn(Kind) -> bool, run| stream.pending().iter().any(|e| e.run == run && is(e.kind));
        let ending = |run| session.runs().contains_key(run) || pending(&|kind| kind.is_terminal(), *run);
        ensure(session.unsettled().keys().all(ending), "LIM-1")?;
        ensure(session.unsettled().values().all(|run| session.known().contains_key(&run.message)), "RUN-2")?;
        let readable = stream.entries().iter().map(|entry| (&entry.event, Some(entry.offset)));
        for (event, offset) in readable.chain(stream.pending().iter().map(|event| (event, None))) {
            if let Kind::Received(received) = event.kind {
                let known = session.known().get(&received.message);
                ensure(known.is_some_and(|known| known.offset.is_none() || known.offset >= offset), "RUN-2")?;
            }
        }
        for (message, known) in session.known() {
            match known.offset {
                None => ensure(pending(&|kind| is_received(kind, *message), known.run), "RUN-2")?,
                Some(offset) => {
                    ensure(offset > stream.tail() || session.unsettled().contains_key(&known.run), "LIM-1")?;
                }
            }
        }
        let needed = session.unsettled().values().map(|run| Offset(run.offset.0 - 1)).min();
        let through = needed.map_or(stream.tail(), |needed| needed.min(stream.tail()));
        let Some(log) = usize::try_from(user.0).ok().and_then(|user| self.logs.get(user)) else { return Ok(()) };
        let remembered = |message| session.known().contains_key(&message) || session.past().contains(&message);
        ensure(log.messages().all(remembered), "RUN-2")?;
        ensure(log.trimmed == through.0, "LIM-1")
    }

    /// CONN-1, STR-1: every reader with something to read was woken for it, including the last frame.
    fn audit_wakes(&self) -> Result<(), &'static str> {
        let asleep = self.sockets.iter().filter(|(_, socket)| !socket.server_gone && !socket.woken);
        for (id, _) in asleep {
            ensure(!self.gateway.unattached().get(id).is_some_and(Connection::has_frame), "CONN-1")?;
            let slot = self.gateway.user_of(*id).and_then(|user| self.gateway.slots().get(&user));
            let member = slot.and_then(|slot| slot.session.members().get(id));
            ensure(member.is_none_or(|member| member.parked), "STR-1")?;
        }
        Ok(())
    }

    /// NODE-1: the last mode that a client is told is the node's. NODE-2: once the node leaves, every client is told to
    /// go, and none before. LIVE-4: a deadline runs while a node is about to end.
    fn audit_modes(&self) -> Result<(), &'static str> {
        let mode = self.gateway.node().mode();
        let members = || self.gateway.slots().values().flat_map(|slot| slot.session.members().values());
        for connection in members().map(|member| &member.connection) {
            ensure(told(connection).is_none_or(|last| last == mode), "NODE-1")?;
        }
        let going =
            |connection: &Connection<Payload>| connection.is_closing() || matches!(connection.state(), Stage::Draining);
        let unattached = self.gateway.unattached().values().all(Connection::is_closing);
        let leaves = matches!(self.gateway.node().state(), node::State::Leaving | node::State::Stopping);
        let told = members().all(|member| going(&member.connection) == leaves);
        let over = |slot: &Slot| {
            let written = slot.session.stream().is_none_or(|stream| stream.pending().is_empty());
            written && slot.session.members().is_empty() && begun(&slot.session) == 0
        };
        let waits = self.gateway.slots().values().any(over);
        ensure(told && (mode != Mode::Draining || (unattached && !waits)), "NODE-2")?;
        let deadline = match self.gateway.node().state() {
            node::State::Announcing { .. } | node::State::Finishing { .. } => Some(Timer::Drain),
            node::State::Leaving | node::State::Stopping => Some(Timer::Grace),
            node::State::Starting
            | node::State::Ready { .. }
            | node::State::Degraded { .. }
            | node::State::Emergency { .. }
            | node::State::Stopped => None,
        };
        let armed = |timer| self.timers.binary_search(&(Place::Node, timer)).is_ok();
        ensure(deadline.is_none_or(armed), "LIVE-4")
    }

    /// NODE-1: a changed mode is on its way to every ready client.
    pub(super) fn check_told(&mut self, before: Mode) {
        let mode = self.gateway.node().mode();
        let mut slots = self.gateway.slots().values();
        let all = slots.all(|slot| {
            let mut members = slot.session.members().values().map(|member| &member.connection);
            members.all(|connection| !connection.is_reading() || told(connection) == Some(mode))
        });
        self.expect(mode == before || all, "NODE-1");
    }

    /// NODE-2: when the time for open runs is over, none is open. When the time for leaving is over, no client stays.
    pub(super) fn check_over(&mut self, timer: Timer) {
        let mut slots = self.gateway.slots().values();
        let ended = slots.all(|slot| begun(&slot.session) == 0);
        let mut slots = self.gateway.slots().values();
        let gone = slots.all(|slot| slot.session.members().is_empty());
        self.expect(timer != Timer::Drain || ended, "NODE-2");
        self.expect(timer != Timer::Grace || (ended && gone), "NODE-2");
    }

    /// SES-1: a connection that replaces an older one finds it gone, and a refused connection leaves the older one in
    /// place. `older` was in the session before.
    pub(super) fn check_replaced(&mut self, id: ConnectionId, older: Option<ConnectionId>) {
        let joined = self.gateway.user_of(id).is_some();
        let stays = older.is_some_and(|older| self.gateway.user_of(older).is_some());
        self.expect(older.is_none() || joined != stays, "SES-1");
    }

    /// SES-1: an input for a session that has retired changes nothing in the next session, which asks the log first.
    pub(super) fn check_successor(&mut self, setup: &Setup, user: UserId, session: Generation, attempt: AcquisitionId) {
        if attempt == AcquisitionId(1) {
            self.expect(session.0 > self.oracle.opened, "SES-1");
            self.oracle.opened = session.0;
        }
        let Some(generation) = session.0.checked_sub(1).map(Generation) else { return };
        self.check_late_emit(setup, user, generation);
        let late = [
            session::Input::Verified(RevocationGeneration(u32::MAX)),
            session::Input::Expired(Owner::Session, Timer::Restore),
            session::Input::NotRestored { attempt },
        ];
        for input in late {
            self.check_late(setup, user, generation, input, Ok(Handled::Ignored), "SES-1");
        }
    }

    /// SES-1: a session's outputs are executed for that session, and not for a later one of the same user.
    pub(super) fn check_address(&mut self, user: UserId, generation: Generation) {
        let own = self.gateway.slots().get(&user).is_none_or(|slot| slot.generation == generation);
        self.expect(own, "SES-1");
    }

    /// RUN-3: an agent of a session that is over is told so, whether or not the user has a new session.
    pub(super) fn check_late_emit(&mut self, setup: &Setup, user: UserId, generation: Generation) {
        let input = session::Input::Run { run: RunId(0), input: run::Input::Think, payload: None };
        self.check_late(setup, user, generation, input, Err(Refusal::Retired), "RUN-3");
    }

    /// Checks that an input that comes too late for its session has this answer and changes nothing.
    fn check_late(
        &mut self,
        setup: &Setup,
        user: UserId,
        generation: Generation,
        input: session::Input<Payload>,
        answer: Result<Handled, Refusal>,
        property: &'static str,
    ) {
        let (mut gateway, mut outputs) = (self.gateway.clone(), gateway::Outputs::new());
        let given = gateway.step(&setup.bounds, gateway::Input::Session { user, generation, input }, &mut outputs);
        self.expect(given == answer && outputs.list.is_empty() && gateway == self.gateway, property);
    }

    /// A pending timer may be armed again only if it counts from the latest of several events: a sign of life, an emit,
    /// an attempt. Any other timer would never fire.
    pub(super) fn check_again(&mut self, timer: Timer) {
        let property = match timer {
            Timer::Idle | Timer::Silence => return,
            Timer::Restore | Timer::Verification | Timer::Warning | Timer::Credential | Timer::LogAnswer => return,
            Timer::Handshake | Timer::Allowance | Timer::Grace | Timer::Close => "CONN-3",
            Timer::Lookup => "LIVE-4",
            Timer::Seek => "LIVE-3",
            Timer::Linger | Timer::Retry => "SES-1",
            Timer::Breaker => "LIM-1",
            Timer::Probe => "NODE-1",
            Timer::Drain => "NODE-2",
            Timer::Deadline | Timer::Pause => "LIVE-2",
            Timer::Backoff | Timer::Connect | Timer::Heartbeat | Timer::Stable | Timer::Leave | Timer::Answer => {
                "LIVE-4"
            }
        };
        self.violated(property);
    }

    /// Determines the required result of a request before it is handled; `None` on a connection that is not ready.
    pub(super) fn due(&self, setup: &Setup, id: ConnectionId, request: &Request<Payload>) -> Option<Due> {
        let user = self.gateway.user_of(id)?;
        let session = &self.gateway.slots().get(&user)?.session;
        if !session.members().get(&id)?.connection.is_reading() {
            return None;
        }
        match request {
            Request::Message { message, .. } if session.known().contains_key(message) => Some(Due::Kept(*message)),
            Request::Message { message, repeat: true, .. } => {
                let socket = self.sockets.get(&id)?;
                (socket.observed.reader.at().is_some() && socket.observed.began.is_none())
                    .then_some(Due::Forgotten(*message))
            }
            Request::Cancel { runs: Cancel::Run(run) } if session.runs().contains_key(run) => {
                Some(Due::Ended(user, *run))
            }
            Request::Cancel { .. } => Some(Due::Unknown),
            Request::Reply { run, pause, .. } => {
                Some(self.due_reply(self.gateway.slots().get(&user)?, user, *run, *pause))
            }
            Request::Delete { thread, deletion, .. } => {
                let fits = self.room(setup, user).is_some_and(|room| room > 0);
                let busy = refusals_of_deletions(&session.members().get(&id)?.connection);
                Some(Due::Deleted { user, thread: *thread, deletion: *deletion, fits, busy })
            }
            _ => None,
        }
    }

    /// RUN-2: a client is never told that a message failed if it is in the stream or on its way there. A repeated
    /// message is refused as forgotten if its outcome can no longer be known. RUN-3: a cancelled run has ended,
    /// whatever the log does, and a client that cancels a finished run is told so.
    pub(super) fn check_due(&mut self, id: ConnectionId, due: Option<Due>) {
        let Some(due) = due else { return };
        if let Due::Ended(user, run) = due {
            let open = self.gateway.slots().get(&user).is_some_and(|slot| slot.session.runs().contains_key(&run));
            return self.expect(!open, "RUN-3");
        }
        if let Due::Deleted { user, thread, deletion, fits, .. } = due {
            self.check_deletion(user, thread, deletion, fits);
        }
        if let Due::Resumed(user, run) = due {
            return self.check_reply(user, run);
        }
        let Some(connection) = self.gateway.connection(id).filter(|connection| connection.is_reading()) else { return };
        let told = |is: &dyn Fn(&Control<Payload>) -> bool| {
            waiting(connection).any(|frame| matches!(frame, Frame::Control(control) if is(&control)))
        };
        match due {
            Due::Kept(message) => {
                let refused =
                    told(&|control| matches!(control, Control::Refused { message: of, .. } if *of == message));
                self.expect(!refused, "RUN-2");
            }
            Due::Forgotten(message) => {
                let forgotten = told(&|control| *control == Control::Refused { message, code: Code::Forgotten });
                self.expect(forgotten, "RUN-2");
            }
            Due::Deleted { fits, busy, .. } => {
                let refused = refusals_of_deletions(connection) > busy;
                self.expect(refused != fits, "RET-1");
            }
            Due::NotResumed(code) => {
                let answered = told(&|control| *control == Control::Error(code));
                self.expect(answered, "RUN-5");
            }
            Due::Ended(..) | Due::Resumed(..) | Due::Unknown => {
                let answered = told(&|control| *control == Control::Error(Code::UnknownRun));
                self.expect(answered, "RUN-3");
            }
        }
    }
}

/// The required result of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// The message is already known.
    Kept(MessageId),
    /// The message came before, and its outcome is trimmed.
    Forgotten(MessageId),
    /// The run is open.
    Ended(UserId, RunId),
    /// A thread must be deleted.
    Deleted {
        user: UserId,
        thread: ThreadId,
        deletion: RunId,
        /// Whether there is room for the deletion.
        fits: bool,
        /// Refusals of earlier deletions that wait to be pulled.
        busy: usize,
    },
    /// The run resumes.
    Resumed(UserId, RunId),
    /// The run does not resume, for this reason.
    NotResumed(Code),
    /// There is no such run, or it has ended.
    Unknown,
}

/// Whether a session's request to acquire its user is in flight, or paused.
fn seeks(session: &Session<Payload>, progress: Asked) -> bool {
    session.ownership().seeking().is_some_and(|(_, request)| request == progress)
}

/// Whether a session waits for something that only this timer brings.
fn waits(session: &Session<Payload>, timer: Timer) -> bool {
    match timer {
        Timer::Restore => seeks(session, Asked::Pausing) || session.ownership().unconfirmed().is_some(),
        Timer::Linger => match session.state() {
            State::Vacant => true,
            State::Leaving { .. } => session.stream().is_some(),
            State::Restoring | State::Occupied | State::Retired => false,
        },
        Timer::LogAnswer => {
            let writing =
                |stream: &Stream<_>| matches!(stream.writer(), Writer::Writing { .. } | Writer::Retrying { .. });
            seeks(session, Asked::Requested) || session.stream().is_some_and(writing)
        }
        Timer::Breaker => session.breaker().is_open(),
        Timer::Retry => session.stream().is_some_and(|stream| stream.writer() == Writer::Waiting),
        _ => false,
    }
}

/// A connection's own frames that wait to be pulled.
pub(super) fn waiting(connection: &Connection<Payload>) -> impl Iterator<Item = Frame<Payload>> {
    let mut connection = connection.clone();
    core::iter::from_fn(move || connection.pull())
}

/// Refusals of deletions among the frames that wait to be pulled.
fn refusals_of_deletions(connection: &Connection<Payload>) -> usize {
    waiting(connection).filter(|frame| *frame == Frame::Control(Control::Error(Code::Busy))).count()
}

/// The last mode among the frames that wait to be pulled.
fn told(connection: &Connection<Payload>) -> Option<Mode> {
    if !connection.has_frame() {
        return None;
    }
    let modes = waiting(connection).filter_map(|frame| match frame {
        Frame::Control(Control::Ready { mode, .. } | Control::Mode(mode)) => Some(mode),
        _ => None,
    });
    modes.last()
}

const fn ensure(holds: bool, property: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(property) }
}
