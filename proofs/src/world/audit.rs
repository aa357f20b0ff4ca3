//! The part of the judge that looks at what sessions wait for and keep: a wait has a timer that ends it, what is kept is
//! still needed, whoever is to be told is told. See [`judge`](super::judge).

use lockstep_model::connection::State as Stage;
use lockstep_model::gateway::Place;
use lockstep_model::run::Kind;
use lockstep_model::session::State;
use lockstep_model::stream::Writer;
use lockstep_model::{Connection, ConnectionId, Control, Frame, Mode, Offset, Stream, Timer, UserId};

use super::state::{Cell, Payload, World};

impl World {
    /// Everything that is to be seen in a state alone.
    pub(super) fn audit(&mut self) {
        self.overtake();
        let mut verdict = Ok(());
        for (user, cell) in self.gateway.cells() {
            verdict = verdict.and(self.audit_timers(*user, cell)).and(self.audit_memory(*user, cell));
        }
        verdict = verdict.and(self.audit_wakes()).and(self.audit_modes());
        if let Err(property) = verdict {
            self.blame(property);
        }
    }

    /// A beginning that the tail has passed, or whose connection has left, tells nothing any more.
    fn overtake(&mut self) {
        let Self { gateway, sockets, .. } = self;
        for (id, socket) in sockets.iter_mut() {
            let cell = gateway.user_of(*id).and_then(|user| gateway.cells().get(&user));
            let tail = cell.and_then(|cell| cell.session.stream()).map(Stream::tail);
            socket.began = socket.began.filter(|began| tail.is_some_and(|tail| *began >= tail));
        }
    }

    /// SES-1, STR-2, LIM-1: nothing waits for ever for what only a timer brings.
    fn audit_timers(&self, user: UserId, cell: &Cell) -> Result<(), &'static str> {
        let place = Place::Session(user, cell.generation);
        let armed = |timer| self.timers.binary_search(&(place, timer)).is_ok();
        let session = &cell.session;
        let refused = session.stream().is_some_and(|stream| stream.writer() == Writer::Waiting);
        let held = match session.state() {
            State::Restoring { .. } => armed(Timer::Restore),
            State::Vacant => armed(Timer::Linger),
            State::Occupied | State::Retired => true,
        };
        ensure(held && (!session.fence().is_up() || armed(Timer::Fence)), "SES-1")?;
        ensure(!refused || armed(Timer::Retry), "STR-2")?;
        ensure(!session.breaker().is_open() || armed(Timer::Breaker), "LIM-1")
    }

    /// RUN-2: what is remembered of a message becomes what the log has. LIM-1: a message is remembered for as long as its
    /// beginning can be read or its run's end is not durable, and the log keeps what is read or needed, and no more.
    fn audit_memory(&self, user: UserId, cell: &Cell) -> Result<(), &'static str> {
        let session = &cell.session;
        let Some(stream) = session.stream() else { return Ok(()) };
        let pending = |is: &dyn Fn(Kind) -> bool, run| stream.pending().iter().any(|e| e.run == run && is(e.kind));
        let ending = |run| session.runs().contains_key(run) || pending(&|kind| kind.is_terminal(), *run);
        ensure(session.unsettled().keys().all(ending), "LIM-1")?;
        for (message, known) in session.known() {
            match known.offset {
                None => ensure(pending(&|kind| kind == Kind::Received(*message), known.run), "RUN-2")?,
                Some(offset) => {
                    ensure(offset > stream.tail() || session.unsettled().contains_key(&known.run), "LIM-1")?;
                }
            }
        }
        let needed = session.unsettled().values().map(|run| Offset(run.offset.0 - 1)).min();
        let through = needed.map_or(stream.tail(), |needed| needed.min(stream.tail()));
        let log = usize::try_from(user.0).ok().and_then(|user| self.logs.get(user));
        ensure(log.is_none_or(|log| log.trimmed == through.0), "LIM-1")
    }

    /// CONN-1, STR-1: whoever has something to read was woken for it, the last frame of all included.
    fn audit_wakes(&self) -> Result<(), &'static str> {
        let asleep = self.sockets.iter().filter(|(_, socket)| !socket.server_gone && !socket.woken);
        for (id, _) in asleep {
            ensure(!self.gateway.lobby().get(id).is_some_and(Connection::has_frame), "CONN-1")?;
            let cell = self.gateway.user_of(*id).and_then(|user| self.gateway.cells().get(&user));
            let member = cell.and_then(|cell| cell.session.members().get(id));
            ensure(member.is_none_or(|member| member.parked), "STR-1")?;
        }
        Ok(())
    }

    /// NODE-1: the mode that a client is told last is the node's. NODE-2: once a drain has begun, everybody is told to go.
    fn audit_modes(&self) -> Result<(), &'static str> {
        let mode = self.gateway.node().mode();
        let members = || self.gateway.cells().values().flat_map(|cell| cell.session.members().values());
        for connection in members().map(|member| &member.connection) {
            ensure(told(connection).is_none_or(|last| last == mode) || mode == Mode::Draining, "NODE-1")?;
        }
        let going =
            |connection: &Connection<Payload>| connection.is_closing() || matches!(connection.state(), Stage::Draining);
        let all = self.gateway.lobby().values().chain(members().map(|member| &member.connection)).all(going);
        ensure(mode != Mode::Draining || all, "NODE-2")
    }

    /// NODE-1: a mode that has just changed is on its way to everybody who is ready.
    pub(super) fn judge_told(&mut self, before: Mode) {
        let mode = self.gateway.node().mode();
        let mut cells = self.gateway.cells().values();
        let all = cells.all(|cell| {
            let mut members = cell.session.members().values().map(|member| &member.connection);
            members.all(|connection| !connection.is_reading() || told(connection) == Some(mode))
        });
        self.expect(mode == before || all, "NODE-1");
    }

    /// NODE-2: when the time for draining is over, no run is open and nobody stays.
    pub(super) fn judge_over(&mut self, timer: Timer) {
        let mut cells = self.gateway.cells().values();
        let over = cells.all(|cell| cell.session.runs().is_empty() && cell.session.members().is_empty());
        self.expect(timer != Timer::Drain || over, "NODE-2");
    }

    /// SES-1: whoever joins in place of an older connection finds it gone.
    pub(super) fn judge_replaced(&mut self, id: ConnectionId, older: Option<ConnectionId>) {
        let joined = self.gateway.user_of(id).is_some();
        let both = joined && older.is_some_and(|older| self.gateway.user_of(older).is_some());
        self.expect(!both, "SES-1");
    }
}

/// Which mode a connection's client will be told last, of what waits to be read.
fn told(connection: &Connection<Payload>) -> Option<Mode> {
    if !connection.has_frame() {
        return None;
    }
    let mut connection = connection.clone();
    let frames = core::iter::from_fn(|| connection.pull());
    let modes = frames.filter_map(|frame| match frame {
        Frame::Control(Control::Ready { mode, .. } | Control::Mode(mode)) => Some(mode),
        _ => None,
    });
    modes.last()
}

const fn ensure(holds: bool, property: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(property) }
}
