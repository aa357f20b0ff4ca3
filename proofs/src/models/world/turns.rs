//! RUN-4, checked against the log and against what agents are given: in a thread that queues, runs do not overlap and
//! keep the order of their messages, and a queued run begins once or is taken back. See [`oracle`](super::oracle).

use lockstep_model::bounds::Concurrency;
use lockstep_model::run::{Kind, Reason, Received, Schedule};
use lockstep_model::stream::Event;
use lockstep_model::{MessageId, Offset, RunId, Session, ThreadId, UserId};

use super::action::message_of;
use super::setup::{Setup, Threads};
use super::state::{Log, Payload, World};

impl Threads {
    /// The thread of a message.
    pub fn of(self, message: u64) -> ThreadId {
        match self {
            Self::Own => ThreadId(message),
            Self::Shared => ThreadId(0),
        }
    }
}

/// The number of a session's runs that have an agent, or are about to.
pub(super) fn begun(session: &Session<Payload>) -> usize {
    session.runs().values().filter(|run| run.has_agent()).count()
}

impl Log {
    fn of_run(&self, run: RunId) -> impl Iterator<Item = Kind> {
        self.entries.iter().filter(move |event| event.run == run).map(|event| event.kind)
    }

    fn has(&self, run: RunId, is: impl Fn(Kind) -> bool) -> bool {
        self.of_run(run).any(is)
    }

    /// Whether the run was queued when its message came.
    pub(crate) fn is_queued(&self, run: RunId) -> bool {
        self.has(run, |kind| matches!(kind, Kind::Received(Received { schedule: Schedule::Queued, .. })))
    }

    /// Whether the run is queued: it has neither begun nor ended.
    pub(super) fn waits(&self, run: RunId) -> bool {
        self.is_queued(run) && !self.has(run, |kind| kind == Kind::Started || kind.is_terminal())
    }

    /// Whether the run was taken back before it began.
    fn is_taken_back(&self, run: RunId) -> bool {
        let cancelled = self.has(run, |kind| kind == Kind::Error(Reason::Cancelled));
        self.is_queued(run) && cancelled && !self.has(run, |kind| kind == Kind::Started)
    }

    /// The position of the first turn in the log.
    pub(super) fn first_turn(&self) -> Option<Offset> {
        let begins = |event: &Event<Payload>| matches!(event.kind, Kind::Received(_));
        (self.trimmed + 1..=self.head()).find(|offset| self.at(*offset).is_some_and(begins)).map(Offset)
    }

    /// Whether the thread has an open run that began at or after this position.
    fn is_open_from(&self, threads: Threads, run: RunId, from: Offset) -> bool {
        let thread = |run| threads.of(message_of(run));
        let open = self.open_runs().filter(|offset| *offset >= from.0).filter_map(|offset| self.at(offset));
        open.map(|event| event.run).any(|open| open != run && thread(open) == thread(run))
    }

    /// Whether an earlier run of its thread is open.
    fn is_behind(&self, threads: Threads, run: RunId) -> bool {
        let thread = |run| threads.of(message_of(run));
        self.under_way().take_while(|earlier| *earlier != run).any(|earlier| thread(earlier) == thread(run))
    }
}

impl World {
    /// RUN-4: checks a thread in the log. A message's replaced turns have ended before it is received. A message waits
    /// if and only if an earlier run is open. A run begins once the earlier ones have ended. A queued run ends before
    /// it begins only if it is taken back.
    pub(super) fn check_turn(&mut self, setup: &Setup, user: usize, event: &Event<Payload>) {
        let log = &self.logs[user];
        let behind = log.is_behind(setup.threads, event.run);
        let right = match (event.kind, setup.bounds.concurrency) {
            (_, Concurrency::Parallel) => true,
            (Kind::Received(received), Concurrency::Queue) => (received.schedule == Schedule::Queued) == behind,
            (Kind::Received(_), Concurrency::Reject | Concurrency::Interrupt) | (Kind::Started, _) => !behind,
            (Kind::Error(Reason::Cancelled), _) => true,
            (kind, _) => !kind.is_terminal() || !log.waits(event.run),
        };
        let replaced = match event.kind {
            Kind::Received(Received { replaces: Some(from), .. }) => !log.is_open_from(setup.threads, event.run, from),
            _ => true,
        };
        self.expect(right && replaced, "RUN-4");
    }

    /// RUN-4: an agent is launched once the earlier runs of its thread have ended, and a queued run's agent once the
    /// log has its beginning, and only once. RET-1: no agent is launched for a deleted message.
    pub(super) fn check_begin(&mut self, setup: &Setup, user: usize, run: RunId) {
        let log = &self.logs[user];
        let again = log.is_queued(run) && self.oracle.launched & (1 << message_of(run)) != 0;
        let overlaps = log.is_behind(setup.threads, run) && setup.bounds.concurrency != Concurrency::Parallel;
        let slot = self.gateway.slots().get(&UserId(user as u64));
        let taken_back = log.is_queued(run) && slot.is_none_or(|slot| !slot.session.runs().contains_key(&run));
        let ended = taken_back || log.has(run, |kind| kind.is_terminal());
        let gone = self.is_message_deleted(UserId(user as u64), MessageId(message_of(run)));
        let right = !again && !overlaps && !ended && !log.waits(run);
        self.expect(!gone, "RET-1");
        self.expect(right, "RUN-4");
    }

    /// NODE-2: a node that is about to end begins no run.
    pub(super) fn check_begun(&mut self, before: usize) {
        self.expect(self.is_serving() || self.begun_runs() <= before, "NODE-2");
    }

    /// The number of open runs of all users that have an agent.
    pub(super) fn begun_runs(&self) -> usize {
        self.gateway.slots().values().map(|slot| begun(&slot.session)).sum()
    }

    /// Whether a run waits for its turn.
    pub(super) fn has_queued(&self) -> bool {
        self.logs.iter().any(|log| log.under_way().any(|run| log.waits(run)))
    }

    /// Whether a run was taken back.
    pub(super) fn has_taken_back(&self) -> bool {
        self.logs.iter().any(|log| log.entries.iter().any(|event| log.is_taken_back(event.run)))
    }

    /// Whether a queued run began after a run that a crash interrupted.
    pub(super) fn has_resumed(&self) -> bool {
        self.logs.iter().any(|log| {
            let interrupted = |event: &Event<Payload>| event.kind == Kind::Error(Reason::Interrupted);
            let mut after = log.entries.iter().skip_while(|event| !interrupted(event));
            after.any(|event| event.kind == Kind::Started && log.is_queued(event.run))
        })
    }
}
