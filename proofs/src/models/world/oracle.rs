//! The oracle decides from outside whether a step is correct: from the credentials, writes and frames, and never from a
//! machine's own state. The first violation ends a run.

use lockstep_model::auth::{Grant, Verdict};
use lockstep_model::run::Kind;
use lockstep_model::stream::{Entry, Event};
use lockstep_model::{
    Cause, Code, ConnectionId, Control, Frame, Generation, MessageId, Mode, Offset, Piece, Refusal,
    RevocationGeneration, RunId, Successor, Timer, UserId, VerificationId,
};

use super::action::{AgentStep, is_received, message_of, notice_id};
use super::setup::Setup;
use super::state::{Payload, Verification, World};
use super::storage::recorded;
use crate::properties::stream::Wrong;

impl World {
    /// The user whose message a run answers: each client has two message ids of its own. Notices go to user 0.
    fn user_of_run(&self, setup: &Setup, run: RunId) -> Option<UserId> {
        if run >= notice_id(0) {
            return Some(UserId(0));
        }
        let peer = usize::try_from(message_of(run) / 2).unwrap_or(usize::MAX);
        setup.clients.get(peer).map(|client| UserId(u64::from(client.user)))
    }

    /// AUTH-1, AUTH-3: only the newest attempt's verdict counts, unless it was revoked meanwhile or the connection has
    /// ended.
    pub fn check_verdict(&mut self, asked: &Verification, verdict: Verdict) {
        let generation = self.oracle.generation;
        if self.gateway.connection(asked.connection).is_none_or(lockstep_model::Connection::is_closing) {
            return;
        }
        let Some(socket) = self.sockets.get_mut(&asked.connection) else { return };
        if asked.attempt != socket.observed.newest {
            return;
        }
        socket.observed.valid = match verdict {
            Verdict::Valid { grant, .. } => {
                let index = usize::try_from(grant.user.0).unwrap_or(0);
                let revoked = asked.generation.0 < generation[index];
                let same = socket.observed.valid.is_none_or(|valid| valid.user == grant.user);
                (!revoked && same).then_some(Grant { generation: asked.generation, ..grant })
            }
            Verdict::Rejected => None,
            Verdict::Unavailable => socket.observed.valid,
        };
    }

    /// AUTH-1: no credential is valid after its expiry.
    pub fn check_expiry(&mut self, id: ConnectionId, timer: Timer) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        match timer {
            Timer::Credential => socket.observed.valid = None,
            // The attempt was given up, and a later verdict does not count.
            Timer::Verification => socket.observed.newest = VerificationId(0),
            // A peer that is gone sends nothing, even if it is probed.
            Timer::Idle if socket.cut || socket.client_gone => {
                socket.observed.quiet = (socket.observed.quiet + 1).min(2);
            }
            // The peer had its time to be told.
            Timer::Close => socket.observed.closing = true,
            _ => {}
        }
    }

    /// AUTH-1: no credential is valid after its revocation.
    pub fn check_revocation(&mut self, user: UserId, oldest: RevocationGeneration) {
        for socket in self.sockets.iter_mut().map(|(_, socket)| socket) {
            if socket.observed.valid.is_some_and(|grant| grant.user == user && grant.generation < oldest) {
                socket.observed.valid = None;
            }
        }
    }

    /// CONN-1, CONN-2, AUTH-1, AUTH-2, ISO-1, STR-1, STR-2: every frame that leaves on a socket.
    pub fn check_frame(&mut self, setup: &Setup, id: ConnectionId, frame: &Frame<Payload>) {
        let Some(socket) = self.sockets.get(&id) else { return self.violated("CONN-1") };
        if socket.server_gone || socket.observed.closing {
            return self.violated("CONN-1");
        }
        let Some(valid) = socket.observed.valid.or_else(|| (!frame.is_application()).then_some(NO_GRANT)) else {
            return self.violated("AUTH-1");
        };
        match frame {
            Frame::Close(cause) => {
                self.expect(*cause != Cause::Fault || setup.breaches > self.left.breaches, "CONN-1");
                self.check_cause(setup, id, *cause);
                self.check_away(id, *cause);
                if let Some(socket) = self.sockets.get_mut(&id) {
                    socket.observed.closing = true;
                }
            }
            Frame::Control(Control::Ready { user, offset, resumed, .. }) => {
                self.expect(*user == valid.user, "AUTH-2");
                self.check_ready(setup, id, *offset, *resumed);
            }
            Frame::Control(Control::StreamReset { from, to }) => {
                // Entries that the log keeps can be read, however old they are.
                self.expect(!setup.keeps, "STR-3");
                self.check_reset(id, valid, *from, *to);
            }
            Frame::Control(Control::Answer(_) | Control::Unanswered { .. }) => self.check_answered(id),
            Frame::Control(Control::Known { message, run, offset }) => {
                let right = self.written(valid.user, *offset).map_or_else(
                    || self.oracle.received & (1 << message.0) != 0,
                    |event| is_received(event.kind, *message) && event.run == *run,
                );
                self.expect(right, "RUN-2");
            }
            Frame::Control(Control::Refused { code: Code::Forgotten, message })
                if self.is_message_deleted(valid.user, *message) => {}
            // RUN-2: nothing is forgotten while everything after the position where the connection began can be read.
            Frame::Control(Control::Refused { code: Code::Forgotten, .. }) => {
                self.expect(self.socket_at(id).observed.began.is_none(), "RUN-2");
            }
            // See `refusals`.
            Frame::Control(Control::Refused { .. }) => {}
            Frame::Control(Control::GoingAway(successor)) => self.check_going(id, *successor),
            Frame::Control(_) => self.expect(socket.observed.reader.at().is_some(), "CONN-2"),
            Frame::Event(entry) => self.check_entry(setup, id, valid, entry),
        }
    }

    /// ISO-1, SES-1: no connection is closed because of another user's operator, token or connections.
    fn check_cause(&mut self, setup: &Setup, id: ConnectionId, cause: Cause) {
        let peer = usize::from(self.socket_at(id).peer);
        let user = usize::from(setup.clients[peer].user);
        let own = match cause {
            Cause::CredentialRevoked => self.oracle.generation[user] > 0,
            Cause::TooManyConnections => self.socket_at(id).observed.full,
            Cause::GoingAway => self.oracle.drained,
            Cause::HistoryUnavailable => self.has_failed_lookup(setup),
            Cause::Moved => setup.fences > self.left.fences,
            Cause::UserMismatch => false,
            _ => true,
        };
        self.expect(own, "ISO-1");
        let socket = self.socket_at(id);
        let deserved = match cause {
            Cause::CredentialRevoked | Cause::CredentialRejected | Cause::CredentialExpired => {
                socket.observed.valid.is_none()
            }
            Cause::Superseded => self.peers[peer].client.socket() > socket.generation,
            _ => true,
        };
        self.expect(deserved, "CONN-1");
    }

    /// Records how a run ended, for its user's breaker alone.
    pub fn check_end(&mut self, setup: &Setup, user: UserId, failed: bool) {
        let failures = &mut self.oracle.failures[usize::try_from(user.0).unwrap_or(0)];
        if *failures < setup.bounds.failures {
            *failures = if failed { *failures + 1 } else { 0 };
        }
    }

    /// A breaker whose time is over starts over.
    pub fn check_rest(&mut self, user: UserId, timer: Timer) {
        if timer == Timer::Breaker {
            self.oracle.failures[usize::try_from(user.0).unwrap_or(0)] = 0;
        }
    }

    fn check_ready(&mut self, setup: &Setup, id: ConnectionId, offset: Offset, resumed: bool) {
        let socket = self.socket_at(id);
        let wanted = self.peers[usize::from(socket.peer)].client.position();
        // A client that has let go of the socket does not read this frame, and may already use another.
        let there = !self.socket_at(id).client_gone;
        let right = wanted.is_none_or(|wanted| !resumed || wanted.offset == offset) && (resumed || !setup.keeps);
        self.expect(!there || right, "STR-1");
        let client = setup.clients[usize::from(self.socket_at(id).peer)];
        let unread = !client.earliest && wanted.is_none();
        // Entries that no reader was sent are not skipped.
        self.expect(!unread || !resumed || offset.0 <= self.oracle.pulled[usize::from(client.user)], "STR-1");
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        socket.observed.began = (resumed && wanted.is_some()).then_some(offset);
        let first = socket.observed.reader.ready(offset, resumed);
        self.expect(first.is_ok(), "CONN-2");
    }

    fn check_reset(&mut self, id: ConnectionId, valid: Grant, from: Offset, to: Offset) {
        let user = usize::try_from(valid.user.0).unwrap_or(0);
        let end = self.logs[user].head();
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let right = socket.observed.reader.reset(from, to);
        self.oracle.pulled[user] = self.oracle.pulled[user].max(to.0);
        socket.observed.reset = true;
        self.expect(right.is_ok() && to.0 <= end, "STR-1");
    }

    /// STR-3: a frame of a part is exactly what the log has between the reader's old and new position.
    fn check_pieces(&mut self, id: ConnectionId, valid: Grant, entry: &Entry<Payload>) -> bool {
        let socket = self.socket_at(id);
        let (seen, began) = (socket.observed.reader.at().map_or(0, |seen| seen.0), socket.observed.began);
        let mut content = None;
        for offset in seen + 1..=entry.offset.0 {
            if self.is_deleted(valid.user, Offset(offset)) {
                continue;
            }
            let Some(event) = self.written(valid.user, Offset(offset)) else { return false };
            if (event.run, event.kind) != (entry.event.run, entry.event.kind) {
                return false;
            }
            content = match (content, event.payload) {
                (None, next) => next,
                (Some(before), Some(next)) => Some(Piece::join(&before, &next)),
                (Some(_), None) => None,
            };
        }
        let before = self.written(valid.user, Offset(seen));
        let inside = began == Some(Offset(seen))
            && before.is_some_and(|event| (event.run, event.kind) == (entry.event.run, entry.event.kind));
        self.oracle.joined |= entry.offset.0 > seen + 1;
        self.oracle.inside |= inside;
        content == entry.event.payload
    }

    fn check_entry(&mut self, setup: &Setup, id: ConnectionId, valid: Grant, entry: &Entry<Payload>) {
        let (whole, written) = match entry.event.kind {
            Kind::Delta(_) => (self.check_pieces(id, valid, entry), true),
            _ => {
                let seen = self.socket_at(id).observed.reader.at().unwrap_or_default();
                let next = self.is_nothing_between(valid.user, seen, entry.offset);
                self.expect(next, "STR-1");
                (true, self.written(valid.user, entry.offset) == Some(&entry.event))
            }
        };
        let gone = self.is_deleted(valid.user, entry.offset);
        self.oracle.caught_up |= self.is_trimmed(valid.user, entry.offset);
        self.oracle.passed |=
            self.socket_at(id).observed.reader.at().is_some_and(|seen| self.is_deleted(valid.user, seen));
        let owner = self.user_of_run(setup, entry.event.run);
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let in_order = socket.observed.reader.entry(entry.previous, entry.offset);
        let pulled = &mut self.oracle.pulled[usize::try_from(valid.user.0).unwrap_or(0)];
        *pulled = entry.offset.0.max(*pulled);
        self.expect(!gone, "RET-1");
        self.expect(in_order != Err(Wrong::NotReady), "CONN-2");
        self.expect(owner == Some(valid.user), "ISO-1");
        self.expect(in_order.is_ok(), "STR-1");
        self.expect(written, "STR-2");
        self.expect(whole, "STR-3");
    }

    fn is_deleted(&self, user: UserId, offset: Offset) -> bool {
        usize::try_from(user.0).ok().and_then(|user| self.logs.get(user)).is_some_and(|log| log.is_deleted(offset.0))
    }

    fn written(&self, user: UserId, offset: Offset) -> Option<&Event<Payload>> {
        let log = self.logs.get(usize::try_from(user.0).ok()?)?;
        log.at(offset.0)
    }

    /// STR-1: nothing counts as read that no reader was sent.
    pub fn check_read(&mut self, user: UserId, through: Offset) {
        let user = usize::try_from(user.0).unwrap_or(0);
        let right = through.0 <= self.oracle.pulled[user] && through.0 > self.logs[user].read;
        self.log(user).read = through.0;
        self.expect(right, "STR-1");
    }

    /// STR-2: the log may drop neither retained entries nor those that an open run will need.
    pub fn check_trim(&mut self, setup: &Setup, user: usize, through: Offset) {
        let log = &self.logs[user];
        let kept = log.head().saturating_sub(log.retained(&setup.bounds));
        let needed = log.open_runs().any(|first| first <= through.0);
        self.expect(through.0 <= kept && !needed, "STR-2");
        let log = self.log(user);
        while log.trimmed < through.0
            && let Some(event) = log.entries.pop_front()
        {
            log.trimmed += 1;
            if setup.keeps {
                log.kept.push(event.clone());
            }
            if let Kind::Received(received) = event.kind {
                log.past.push(received.message);
            }
        }
        let trimmed = log.trimmed;
        log.deletions.retain(|(at, _)| setup.keeps || *at > trimmed);
    }

    /// RUN-2: an agent is launched once per message, for a durable message of its user. RUN-3: it is given that
    /// message.
    pub fn check_launch(&mut self, setup: &Setup, user: UserId, run: RunId, payload: Option<Payload>) {
        let message = message_of(run);
        let bit = 1 << message;
        let log = &self.logs[usize::try_from(user.0).unwrap_or(0)];
        let durable = log.entries.iter().any(|event| event.run == run && is_received(event.kind, MessageId(message)));
        let told = payload == Some(recorded(u8::try_from(message).ok()));
        self.expect(self.oracle.launched & bit == 0, "RUN-2");
        self.expect(self.user_of_run(setup, run) == Some(user), "ISO-1");
        self.expect(durable, "STR-2");
        self.expect(told, "RUN-3");
        self.oracle.launched |= bit;
    }

    /// STR-2, RUN-1: an event that is reported durable to the agent is in the log, and the run's end is reported as
    /// such.
    pub fn check_durable(&mut self, user: usize, run: RunId, offset: Offset, last: bool) {
        let event = self.written(UserId(user as u64), offset).filter(|event| event.run == run);
        let (right, ends) = (event.is_some(), event.is_some_and(|event| event.kind.is_terminal()));
        self.expect(right, "STR-2");
        self.expect(ends == last, "RUN-1");
    }

    /// The number of a user's events that are in the log or being written.
    pub fn appended(&self, user: UserId) -> u64 {
        self.gateway
            .slots()
            .get(&user)
            .and_then(|slot| slot.session.stream())
            .map_or(0, |stream| stream.head().0 + stream.pending().len() as u64)
    }

    /// RUN-3: an accepted emit is in the stream, and a refused one is not. It is refused for lack of room only if there
    /// is none.
    pub fn check_emit(
        &mut self,
        user: UserId,
        step: AgentStep,
        before: u64,
        answer: Result<(), Refusal>,
        open: bool,
        full: bool,
    ) {
        let after = self.appended(user);
        let right = match answer {
            Ok(()) if step == AgentStep::Vanish && !open => after == before,
            Ok(()) => open && after > before && !full,
            Err(Refusal::Backpressure) => open && full && after == before,
            Err(_) => !open && after == before,
        };
        self.expect(right, "RUN-3");
    }

    /// RUN-3: an accepted notice is in the stream, and a refused one is not.
    pub fn check_notice(&mut self, before: u64, answer: Result<(), Refusal>) {
        let after = self.appended(UserId(0));
        self.expect(after == before + u64::from(answer.is_ok()), "RUN-3");
    }

    /// RUN-3: a client that was told that its message runs will find it in the log.
    pub fn check_accepted(&mut self, message: MessageId) {
        let durable = self.oracle.received & (1 << message.0) != 0;
        self.expect(durable, "RUN-3");
    }

    /// The number of open runs of all users.
    pub fn open_runs(&self) -> usize {
        self.gateway.slots().values().map(|slot| slot.session.runs().len()).sum()
    }

    /// NODE-1, NODE-2: no run begins while the mode admits none. LIM-1: nor while its user's breaker is open.
    pub fn check_admission(&mut self, setup: &Setup, peer: usize, before: usize) {
        let grew = self.open_runs() > before;
        let failures = self.oracle.failures[usize::from(setup.clients[peer].user)];
        let open = setup.bounds.failures > 0 && failures >= setup.bounds.failures;
        self.expect(!open || !grew, "LIM-1");
        match self.gateway.node().mode() {
            Mode::Ready => {}
            Mode::Degraded | Mode::Emergency => self.expect(!grew, "NODE-1"),
            Mode::HandingOver | Mode::Draining => self.expect(!grew, "NODE-2"),
        }
        self.expect(!grew || !self.oracle.drained, "NODE-2");
    }

    /// NODE-1, NODE-2: no connection is admitted while the mode admits none.
    pub fn check_accept(&mut self, id: ConnectionId, before: Mode) {
        if self.gateway.connection(id).is_some() {
            self.expect(before != Mode::Emergency, "NODE-1");
            let shared = self.oracle.successor == Some(Successor::Waiting) && !self.oracle.released;
            self.expect(before != Mode::Draining && (shared || !self.oracle.drained), "NODE-2");
        }
    }

    /// SES-1: no session retires while it is needed. AUTH-2: a member's user is its credential's.
    pub fn check_state(&mut self, setup: &Setup) {
        let slots = self.gateway.slots();
        let alive =
            |user: &UserId, generation: Generation| slots.get(user).is_some_and(|slot| slot.generation == generation);
        let agents = self.agents.values().all(|agent| alive(&agent.user, agent.session));
        let writes = self
            .logs
            .iter()
            .enumerate()
            .all(|(user, log)| log.writes.iter().all(|write| alive(&UserId(user as u64), write.session)));
        let readers = self.sockets.iter().all(|(id, socket)| {
            socket.server_gone || socket.observed.closing || self.gateway.connection(*id).is_some()
        });
        self.expect(agents && writes && readers, "SES-1");
        self.check_remains();
        self.check_places(setup);
    }
}

/// Stands in for the credential of a close frame, which needs none.
const NO_GRANT: Grant =
    Grant { user: UserId(u64::MAX), credential: lockstep_model::CredentialId(0), generation: RevocationGeneration(0) };
