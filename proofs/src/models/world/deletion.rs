//! RET-1, checked against the log: once a session learns that a deletion is durable, no earlier entry of the thread is
//! read. See [`oracle`](super::oracle).

use lockstep_model::run::Kind;
use lockstep_model::stream::{Entry, Event};
use lockstep_model::{
    Cause, ConnectionId, MessageId, Mode, Offset, Refusal, Request, RunId, Session, Stream, ThreadId, UserId, gateway,
    session,
};

use super::action::{deletion_id, is_received, message_of};
use super::setup::Setup;
use super::state::{Log, Payload, Scratch, World};

/// The payload of the `n`th deletion.
pub(super) const fn deleted(n: u8) -> Payload {
    0x20 + n
}

impl Log {
    /// Whether the entry at an offset is deleted with its thread.
    pub(super) fn is_deleted(&self, offset: u64) -> bool {
        let thread = self.at(offset).and_then(|event| event.thread);
        thread.is_some_and(|thread| self.deletions.iter().any(|(at, of)| *at > offset && *of == thread))
    }

    /// Marks every deletion in the log as known to a session.
    pub(super) fn tell_deletions(&mut self) {
        let found = (1..=self.head()).filter_map(|offset| Some((offset, self.at(offset)?)));
        let found = found.filter(|(_, event)| event.kind == Kind::Deleted);
        self.deletions = found.filter_map(|(offset, event)| Some((offset, event.thread?))).collect();
    }

    /// Whether the log has entries left that it need not return.
    pub(super) fn can_scrub(&self) -> bool {
        let mut log = self.clone();
        log.tell_deletions();
        (log.trimmed + 1..=log.head()).any(|offset| log.is_deleted(offset))
    }

    /// What a restore returns once the log retains only message ids of deleted entries.
    pub(super) fn scrubbed(&self) -> (Vec<MessageId>, Vec<Entry<Payload>>) {
        let mut log = self.clone();
        log.tell_deletions();
        let (gone, left): (Vec<_>, Vec<_>) =
            log.readable().into_iter().partition(|entry| log.is_deleted(entry.offset.0));
        let received = gone.iter().filter_map(|entry| match entry.event.kind {
            Kind::Received(received) => Some(received.message),
            _ => None,
        });
        let mut before = Offset(log.trimmed);
        let left = left.into_iter().map(|entry| {
            let previous = core::mem::replace(&mut before, entry.offset);
            Entry { previous, ..entry }
        });
        (log.past.iter().copied().chain(received).collect(), left.collect())
    }
}

impl World {
    /// The threads of the messages that have arrived.
    pub(super) fn threads(&self, setup: &Setup) -> Vec<ThreadId> {
        let arrived = self.oracle.arrivals.iter().zip(0..).filter(|(arrivals, _)| **arrivals > 0);
        let mut threads: Vec<_> = arrived.map(|(_, message)| setup.threads.of(message)).collect();
        threads.dedup();
        threads
    }

    /// Whether user 0 has a connection on which it could delete.
    pub(super) fn is_connected(&self) -> bool {
        self.gateway
            .slots()
            .get(&UserId(0))
            .is_some_and(|slot| slot.session.members().values().any(|member| member.connection.is_reading()))
    }

    /// User 0 deletes a thread, on a connection or through the embedding service.
    pub(super) fn delete(&mut self, setup: &Setup, by: Option<ConnectionId>, thread: ThreadId, scratch: &mut Scratch) {
        let number = setup.deletions - self.left.deletions;
        let (deletion, payload) = (deletion_id(number), deleted(number));
        if let Some(id) = by {
            self.left.deletions -= 1;
            return self.push_up(id, Request::Delete { thread, deletion, payload });
        }
        let (before, user) = (self.appended(UserId(0)), UserId(0));
        let fits = self.room(setup, user).is_some_and(|room| room > 0);
        let over = self.gateway.node().mode() == Mode::Draining && !self.gateway.slots().contains_key(&user);
        let leaving = self.gateway.slots().get(&user).map(|slot| slot.session.state());
        let over = over || leaving == Some(session::State::Leaving { cause: Cause::GoingAway });
        let input = gateway::Input::Delete { user, thread, deletion, payload, as_of: None };
        let answer = self.answer(setup, input, scratch).map(|_| ());
        if answer.is_ok() {
            self.left.deletions -= 1;
        }
        self.expect((answer == Err(Refusal::Retired)) == over, "NODE-2");
        self.expect(answer.is_ok() == (fits && !over), "RET-1");
        let after = self.appended(user);
        self.expect(if answer.is_ok() { after > before } else { after == before }, "RUN-3");
        self.check_deletion(user, thread, deletion, answer.is_ok());
    }

    /// An accepted deletion is being written and no run of its thread goes on; a refused one changes nothing.
    pub(super) fn check_deletion(&mut self, user: UserId, thread: ThreadId, deletion: RunId, taken: bool) {
        let slot = self.gateway.slots().get(&user);
        let open = slot.is_some_and(|slot| slot.session.runs().values().any(|run| run.thread() == thread));
        let stream = slot.and_then(|slot| slot.session.stream());
        let there = stream.is_some_and(|stream| stream.pending().iter().any(|event| event.run == deletion));
        self.expect(there == taken && !(taken && open), "RET-1");
    }

    /// Checks an event that the log takes: it belongs to its run's thread, and runs of a deleted thread have ended.
    pub(super) fn check_thread(&mut self, setup: &Setup, user: usize, event: &Event<Payload>) {
        let of = |run: RunId| Some(setup.threads.of(message_of(run)));
        let right = match event.kind {
            Kind::Notice => event.thread.is_none(),
            Kind::Deleted => !self.logs[user].under_way().any(|run| of(run) == event.thread),
            _ => event.thread == of(event.run),
        };
        self.expect(right, "RET-1");
    }

    /// Records that the session was told that a deletion is durable.
    pub(super) fn delete_from(&mut self, user: usize, offset: u64, event: &Event<Payload>) {
        if let (Kind::Deleted, Some(thread)) = (event.kind, event.thread) {
            self.log(user).deletions.push((offset, thread));
        }
    }

    /// Nothing deleted is in a session's memory, from which agents read the earlier conversation.
    pub(super) fn check_remains(&mut self) {
        let gone = |(user, session): (&UserId, &Session<Payload>)| {
            let log = usize::try_from(user.0).ok().and_then(|user| self.logs.get(user));
            let entries = session.stream().into_iter().flat_map(Stream::entries);
            log.is_some_and(|log| {
                !log.deletions.is_empty() && entries.clone().any(|entry| log.is_deleted(entry.offset.0))
            })
        };
        let remains = self.gateway.slots().iter().any(|(user, slot)| {
            let session: &Session<Payload> = &slot.session;
            gone((user, session))
        });
        self.expect(!remains, "RET-1");
    }

    /// Whether the message was received in a thread that has been deleted since.
    pub(super) fn is_message_deleted(&self, user: UserId, message: MessageId) -> bool {
        let log = usize::try_from(user.0).ok().and_then(|user| self.logs.get(user));
        log.is_some_and(|log| {
            let mut offsets = 1..=log.head();
            let received = |offset| log.at(offset).is_some_and(|event| is_received(event.kind, message));
            offsets.any(|offset| received(offset) && log.is_deleted(offset))
        })
    }

    /// Whether everything between two offsets is deleted.
    pub(super) fn is_nothing_between(&self, user: UserId, after: Offset, before: Offset) -> bool {
        let log = usize::try_from(user.0).ok().and_then(|user| self.logs.get(user));
        log.is_some_and(|log| (after.0 + 1..before.0).all(|offset| log.is_deleted(offset)))
    }
}
