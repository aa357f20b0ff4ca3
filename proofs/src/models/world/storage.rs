//! The log of a world: late, failing, failing after having written, and storing payloads in its own form.

use lockstep_model::piece;
use lockstep_model::run::{Kind, Reason, Schedule, ToolEnd};
use lockstep_model::session::Input;
use lockstep_model::stream::{Entry, Event, Snapshot};
use lockstep_model::{
    Epoch, FencingToken, Gateway, Generation, MessageId, Offset, RunId, Tenure, UserId, gateway, node,
};

use super::action::{deletion_id, message_of, notice_id};
use super::deletion::deleted;
use super::pausing::reply_payload;
use super::setup::Setup;
use super::state::{Log, Payload, Scratch, World, Write};
use crate::properties::run::Grammar;

/// The payload that an agent passes with an event of this kind.
pub(super) const fn agent_payload(kind: Kind) -> Option<Payload> {
    match kind {
        Kind::Started => Some(0x10),
        Kind::Thinking => Some(0x11),
        // The agent knows which piece it is.
        Kind::Delta(_) => None,
        Kind::ToolExecuting(_) => Some(0x12),
        Kind::ToolCompleted(_, ToolEnd::Success | ToolEnd::Failure) => Some(0x13),
        Kind::Paused(_) => Some(0x16),
        Kind::Completed => Some(0x14),
        Kind::Error(Reason::Failed) => Some(0x15),
        Kind::ToolCompleted(_, ToolEnd::Abandoned(_))
        | Kind::Error(
            Reason::Abandoned
            | Reason::Silent
            | Reason::TimedOut
            | Reason::Cancelled
            | Reason::NoReply
            | Reason::Interrupted,
        )
        | Kind::Resumed(_)
        | Kind::Received(_)
        | Kind::Notice
        | Kind::Deleted => None,
    }
}

/// The content of an event: the user's message, the agent's words, the notice, or nothing for the gateway's own events.
fn content_of(event: &Event<Payload>) -> Option<Payload> {
    match event.kind {
        Kind::Received(_) => u8::try_from(message_of(event.run)).ok(),
        Kind::Notice => event.run.0.checked_sub(notice_id(0).0).and_then(|notice| u8::try_from(notice).ok()),
        Kind::Deleted => event.run.0.checked_sub(deletion_id(0).0).and_then(|n| u8::try_from(n).ok()).map(deleted),
        Kind::Resumed(pause) => Some(reply_payload(pause)),
        kind => agent_payload(kind),
    }
}

/// The form in which the log stores a payload, and in which it is read from then on.
pub(crate) fn recorded(payload: Option<Payload>) -> Payload {
    payload.map_or(0xff, |payload| payload | 0x80)
}

impl World {
    /// The log takes a write and confirms it. A write that it already has is confirmed again and not written twice.
    pub(super) fn persist(&mut self, setup: &Setup, user: usize, scratch: &mut Scratch) {
        let Some(Write { owner, session, .. }) = self.logs[user].writes.front() else { return };
        if *owner != self.logs[user].token {
            let session = *session;
            self.log(user).writes.clear();
            return self.end(setup, user, session, Input::Fenced, scratch);
        }
        let Some(write) = self.log(user).writes.pop_front() else { return };
        self.store(setup, user, &write);
        self.delete_from(user, write.at, &write.event);
        let record = Some(recorded(write.event.payload));
        let input = Input::Persisted { batch: write.batch, offset: Offset(write.at), record };
        let run = write.event.run;
        let slot = self.gateway.slots().get(&UserId(user as u64));
        let open = slot.is_some_and(|slot| slot.session.runs().contains_key(&run));
        scratch.told.clear();
        let _ = self.session(setup, UserId(user as u64), write.session, input, scratch);
        let due = match write.event.kind {
            Kind::Received(received) => (open && received.schedule == Schedule::Immediate).then_some((run, None)),
            Kind::Started if open && self.logs[user].is_queued(run) => Some((run, None)),
            Kind::Resumed(_) if open => Some((run, None)),
            _ => Some((run, Some(Offset(write.at)))),
        };
        let told = scratch.told.iter().copied().eq(due);
        self.expect(told, "RUN-3");
    }

    pub(super) fn refuse(&mut self, setup: &Setup, user: usize, written: u8, scratch: &mut Scratch) {
        self.left.log_failures -= 1;
        let writes = std::mem::take(&mut self.log(user).writes);
        for write in writes.iter().take(usize::from(written)) {
            self.store(setup, user, write);
        }
        // The log may still execute a write that it reported as not done.
        if setup.unanswered > 0 {
            self.log(user).late.extend(writes.iter().skip(usize::from(written)).cloned());
        }
        if let Some(Write { session, batch, .. }) = writes.front() {
            let input = Input::Failed { batch: *batch };
            let _ = self.session(setup, UserId(user as u64), *session, input, scratch);
        }
    }

    /// LIVE-2: runs that were open when the process died are first of all interrupted. RUN-4: queued runs are not lost.
    pub(super) fn restore(&mut self, setup: &Setup, user: usize, scrubbed: bool, scratch: &mut Scratch) {
        let log = self.log(user);
        let Some((generation, attempt)) = log.restore.take() else { return };
        log.token = FencingToken(log.token.0 + 1);
        log.granted = (generation, log.token);
        let tenure = Tenure { epoch: Epoch(1), token: log.token };
        let (trimmed, read) = (Offset(log.trimmed), Offset(log.read));
        let (past, entries) = if scrubbed { log.scrubbed() } else { (log.past.clone(), log.readable()) };
        let snapshot = Snapshot { tenure, trimmed, read, past, entries, keeps: setup.keeps };
        log.tell_deletions();
        let paused: Vec<RunId> = log.under_way().filter(|run| log.paused(*run).is_some()).collect();
        let with_agent = log.under_way().filter(|run| !paused.contains(run));
        let (queued, under_way): (Vec<RunId>, Vec<RunId>) = with_agent.partition(|run| log.waits(*run));
        let slot = self.gateway.slots().get(&UserId(user as u64));
        let waits = slot.is_some_and(|slot| slot.generation == generation) && self.is_restoring(user);
        let input = Input::Restored { attempt, snapshot };
        let _ = self.session(setup, UserId(user as u64), generation, input, scratch);
        let stream = self.gateway.slots().get(&UserId(user as u64)).and_then(|slot| slot.session.stream());
        let pending = |run, kind| stream.is_some_and(|s| s.pending().iter().any(|e| e.run == run && e.kind == kind));
        let interrupted = under_way.iter().all(|run| pending(*run, Kind::Error(Reason::Interrupted)));
        let taken_back = |run: &RunId| pending(*run, Kind::Error(Reason::Cancelled));
        let slot = self.gateway.slots().get(&UserId(user as u64));
        let kept = |runs: &[RunId]| {
            slot.is_some_and(|slot| runs.iter().all(|run| slot.session.runs().contains_key(run) || taken_back(run)))
        };
        // A session that retires at once leaves them to the next.
        let [queued, paused] = [&queued, &paused].map(|runs| kept(runs) || !waits || !self.is_serving());
        self.expect(interrupted || !waits, "LIVE-2");
        self.expect(queued, "RUN-4");
        self.expect(paused, "RUN-5");
    }

    /// OWN-3: the log answers a session whether it holds its user.
    pub(super) fn confirm(&mut self, setup: &Setup, user: usize, scratch: &mut Scratch) {
        let log = self.log(user);
        let Some((generation, attempt)) = log.confirm.take() else { return };
        let holds = log.granted == (generation, log.token);
        let input = if holds { Input::Confirmed { attempt } } else { Input::Fenced };
        let _ = self.session(setup, UserId(user as u64), generation, input, scratch);
    }

    /// The process crashes with `kept` pending writes of each user durable, and a new process starts.
    pub(super) fn crash(&mut self, setup: &Setup, kept: usize, scratch: &mut Scratch) {
        self.left.crashes -= 1;
        for user in 0..self.logs.len() {
            let writes = std::mem::take(&mut self.log(user).writes);
            for write in writes.iter().take(kept) {
                self.store(setup, user, write);
            }
            (self.log(user).restore, self.log(user).confirm) = (None, None);
            self.log(user).late.clear();
            self.log(user).lookups.clear();
        }
        self.gateway = Gateway::hosting();
        self.verifier.clear();
        self.agents.clear();
        self.timers.clear();
        self.oracle.failures = [0; 2];
        self.oracle.opened = 0;
        for socket in self.sockets.iter_mut().map(|(_, socket)| socket) {
            socket.crash();
        }
        self.sockets.retain(|_, socket| !socket.client_gone);
        // The old process's drain ended with it. The new process serves.
        (self.oracle.drained, self.oracle.successor) = (false, None);
        (self.oracle.overdue, self.oracle.released) = (false, false);
        self.feed(setup, gateway::Input::Node(node::Input::Started), scratch);
    }

    /// The last request is abandoned: the log may execute it later, or never.
    pub(super) fn abandon(&mut self, user: usize) {
        let log = self.log(user);
        (log.restore, log.confirm) = (None, None);
        let writes = std::mem::take(&mut log.writes);
        log.late.extend(writes);
    }

    /// The log executes an abandoned request late, and answers the session that made it.
    pub(super) fn late(&mut self, setup: &Setup, user: usize, scratch: &mut Scratch) {
        let Some(write) = self.log(user).late.pop_front() else { return };
        self.store(setup, user, &write);
        let record = Some(recorded(write.event.payload));
        let input = Input::Persisted { batch: write.batch, offset: Offset(write.at), record };
        let _ = self.session(setup, UserId(user as u64), write.session, input, scratch);
    }

    /// OWN-1: a session writes under the fencing token that it was granted, and no other.
    pub(super) fn check_owner(&mut self, user: usize, session: Generation, tenure: Tenure) {
        let granted = self.logs[user].granted;
        self.expect(granted == (session, tenure.token), "OWN-1");
    }

    /// The number of accepted events of each user's session that are unconfirmed, even after this input.
    pub(super) fn unconfirmed(&self, input: &gateway::Input<Payload>) -> [usize; 2] {
        [0, 1].map(UserId).map(|of| {
            let slot = self.gateway.slots().get(&of);
            let pending = slot.and_then(|slot| slot.session.stream()).map_or(0, |stream| stream.pending().len());
            let confirms = match input {
                gateway::Input::Session { user, generation, input } => {
                    *user == of
                        && slot.is_some_and(|slot| slot.generation == *generation)
                        && matches!(input, Input::Persisted { .. })
                }
                _ => false,
            };
            pending - usize::from(pending > 0 && confirms)
        })
    }

    /// RUN-3: when a session ends, its agents are told that its unconfirmed events are lost.
    pub(super) fn check_losses(&mut self, waiting: [usize; 2], scratch: &mut Scratch) {
        let (ended, lost) = (std::mem::take(&mut scratch.ended), std::mem::take(&mut scratch.lost));
        let told = (0..2).all(|user| !ended[user] || lost[user] || waiting[user] == 0);
        self.expect(told, "RUN-3");
    }

    /// Another owner acquires the user.
    pub(super) fn fence(&mut self, user: usize) {
        self.left.fences -= 1;
        let log = self.log(user);
        log.token = FencingToken(log.token.0 + 1);
    }

    /// The newest generation that the log has granted for a user.
    pub(crate) fn newest_owner(&self, user: UserId) -> FencingToken {
        self.logs[usize::try_from(user.0).unwrap_or(0)].token
    }

    pub(super) fn breach(&mut self, setup: &Setup, user: usize, scratch: &mut Scratch) {
        self.left.breaches -= 1;
        let log = self.log(user);
        let asked = log.writes.front().map(|write| write.session).or(log.restore.map(|(session, _)| session));
        log.writes.clear();
        (log.restore, log.confirm) = (None, None);
        if let Some(session) = asked {
            self.end(setup, user, session, Input::Broken, scratch);
        }
    }

    /// OWN-1, LIVE-6: a session that has lost its user has no connection and no run, and has told its agents.
    fn end(&mut self, setup: &Setup, user: usize, session: Generation, input: Input<Payload>, scratch: &mut Scratch) {
        let of = UserId(user as u64);
        let waiting = |world: &Self| {
            let slot = world.gateway.slots().get(&of).filter(|held| held.generation == session);
            slot.is_some_and(|slot| {
                let pending = slot.session.stream().is_some_and(|stream| !stream.pending().is_empty());
                pending || !slot.session.members().is_empty() || !slot.session.runs().is_empty()
            })
        };
        scratch.told.clear();
        let _ = self.session(setup, of, session, input, scratch);
        let over = !waiting(self);
        self.expect(over, "LIVE-6");
        self.expect(scratch.told.is_empty(), "OWN-1");
    }

    /// The log takes a write. An entry that it already has must be equal (STR-2). A new one must follow the existing
    /// entries (STR-2) and the grammar of its run (RUN-1) and have the emitted content (RUN-3), and a message runs once
    /// (RUN-2).
    pub(super) fn store(&mut self, setup: &Setup, user: usize, write: &Write) {
        let log = &self.logs[user];
        if write.owner != log.token || write.at <= log.trimmed {
            return;
        }
        let event = Event { payload: Some(recorded(write.event.payload)), ..write.event.clone() };
        if let Some(there) = log.at(write.at) {
            let same = *there == event;
            return self.expect(same, "STR-2");
        }
        if write.at != log.head() + 1 {
            return self.violated("STR-2");
        }
        let grammatical = log.accepts(&event);
        let whole = match event.kind {
            // STR-3: the next piece of its part.
            Kind::Delta(_) => {
                let of_part = |earlier: &&Event<Payload>| earlier.run == event.run && earlier.kind == event.kind;
                let next = u8::try_from(log.entries.iter().filter(of_part).count()).unwrap_or(u8::MAX);
                write.event.payload == Some(piece::pieces(next, next + 1))
            }
            // For a run that was queued, the session writes its beginning.
            Kind::Started if log.is_queued(event.run) => write.event.payload.is_none(),
            _ => write.event.payload == content_of(&event),
        };
        let kind = event.kind;
        self.expect(grammatical, "RUN-1");
        self.check_written_reply(&event);
        if let Kind::Received(received) = kind {
            let bit = 1 << received.message.0;
            self.expect(self.oracle.received & bit == 0, "RUN-2");
            self.oracle.received |= bit;
        }
        self.expect(whole, "RUN-3");
        self.check_turn(setup, user, &event);
        self.check_thread(setup, user, &event);
        self.log(user).entries.push_back(event);
    }
}

impl Log {
    /// The offset of its newest entry.
    pub fn head(&self) -> u64 {
        self.trimmed + self.entries.len() as u64
    }

    /// The entry at an offset, unless it was trimmed and is not kept.
    pub fn at(&self, offset: u64) -> Option<&Event<Payload>> {
        if offset <= self.trimmed {
            return self.kept.get(usize::try_from(offset.checked_sub(1)?).ok()?);
        }
        self.entries.get(usize::try_from(offset.checked_sub(self.trimmed + 1)?).ok()?)
    }

    fn numbered(&self) -> impl Iterator<Item = (u64, &Event<Payload>)> {
        (self.trimmed + 1..).zip(&self.entries)
    }

    /// Every message that it ever took, including those whose beginning was trimmed.
    pub fn messages(&self) -> impl Iterator<Item = MessageId> {
        let begun = |event: &Event<Payload>| match event.kind {
            Kind::Received(received) => Some(received.message),
            _ => None,
        };
        self.past.iter().copied().chain(self.entries.iter().filter_map(begun))
    }

    /// The entries that are not trimmed, as a restore returns them.
    pub fn readable(&self) -> Vec<Entry<Payload>> {
        self.numbered()
            .map(|(offset, event)| Entry { offset: Offset(offset), previous: Offset(offset - 1), event: event.clone() })
            .collect()
    }

    /// The offsets at which open runs begin.
    pub fn open_runs(&self) -> impl Iterator<Item = u64> {
        self.numbered().filter_map(|(offset, first)| {
            let ended = || self.entries.iter().any(|event| event.run == first.run && event.kind.is_terminal());
            (matches!(first.kind, Kind::Received(_)) && !ended()).then_some(offset)
        })
    }

    /// The open runs that begin in it.
    pub fn under_way(&self) -> impl Iterator<Item = RunId> {
        self.open_runs().filter_map(|offset| self.at(offset)).map(|event| event.run)
    }

    /// RUN-1: whether the grammar of a run allows this event next.
    pub fn accepts(&self, event: &Event<Payload>) -> bool {
        let mut grammar = Grammar::default();
        for earlier in self.entries.iter().filter(|earlier| earlier.run == event.run) {
            // Each event was judged when the log took it. Of an ended run the log may have the end alone.
            let _ = grammar.take(earlier.kind.into());
        }
        grammar.allows(event.kind.into()).is_ok()
    }
}
