//! The journal: between a session, which orders writes under its lock, and the log, which takes its time.
//!
//! One queue a user, in the order of the steps, and one task that works it off while it is not empty. So a session's
//! restoring waits for what its forerunner still had to write, and one user's slow write delays nobody else.
//!
//! The journal gives each event what the machine does not know: the time, the run's thread, and the data of events that
//! the machine makes by itself. That is the record which every reader gets ([`session::Input::Persisted`]).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use lockstep_model::run::Kind;
use lockstep_model::session;
use lockstep_model::stream::Snapshot;
use lockstep_model::{Attempt, Entry, Event, Generation, Offset, RunId, UserId};
use tokio::runtime::Handle;

use super::instruments::Instruments;
use super::{Sharded, Shell};
use crate::log::{Held, Log, Written};
use crate::payload::{Payload, Record, now_ms};
use crate::wire;

/// The queues of a process.
pub(super) struct Journal {
    shell: Weak<Shell>,
    log: Arc<dyn Log>,
    runtime: Handle,
    queues: Sharded<UserId, Queue>,
    instruments: Arc<Instruments>,
}

/// What one user's session wants of the log. It is bounded by the machine: one batch of at most
/// [`pending`](lockstep_model::Bounds::pending) events is under way, and one restoring.
#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    served: bool,
    /// The threads of the runs whose end is not written.
    threads: HashMap<RunId, Option<Arc<str>>>,
}

enum Work {
    Restore { generation: Generation, attempt: Attempt },
    Write { batch: Batch, after: Offset, event: Event<Payload> },
    Trim { through: Offset },
}

/// Which batch of which session.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Batch {
    session: Generation,
    number: Generation,
}

impl Journal {
    pub(super) fn new(shell: Weak<Shell>, log: Arc<dyn Log>, instruments: Arc<Instruments>, shards: usize) -> Self {
        Self { shell, log, runtime: Handle::current(), queues: Sharded::new(shards), instruments }
    }

    pub(super) fn restore(self: &Arc<Self>, user: UserId, generation: Generation, attempt: Attempt) {
        self.push(user, Work::Restore { generation, attempt });
    }

    pub(super) fn write(
        self: &Arc<Self>,
        user: UserId,
        session: Generation,
        number: Generation,
        after: Offset,
        event: Event<Payload>,
    ) {
        self.push(user, Work::Write { batch: Batch { session, number }, after, event });
    }

    pub(super) fn trim(self: &Arc<Self>, user: UserId, through: Offset) {
        self.push(user, Work::Trim { through });
    }

    fn push(self: &Arc<Self>, user: UserId, work: Work) {
        let mut queues = self.queues.lock(&user);
        let queue = queues.entry(user).or_default();
        queue.work.push_back(work);
        if !core::mem::replace(&mut queue.served, true) {
            self.runtime.spawn(Arc::clone(self).serve(user));
        }
    }

    /// What waits, or nothing: then nobody serves the queue any more.
    fn take(&self, user: UserId, threads: &mut HashMap<RunId, Option<Arc<str>>>) -> Option<VecDeque<Work>> {
        let mut queues = self.queues.lock(&user);
        let queue = queues.get_mut(&user)?;
        if !queue.work.is_empty() {
            return Some(core::mem::take(&mut queue.work));
        }
        if threads.is_empty() {
            queues.remove(&user);
        } else {
            queue.served = false;
            queue.threads = core::mem::take(threads);
        }
        None
    }

    async fn serve(self: Arc<Self>, user: UserId) {
        let mut threads = {
            let mut queues = self.queues.lock(&user);
            queues.get_mut(&user).map(|queue| core::mem::take(&mut queue.threads)).unwrap_or_default()
        };
        let mut last = Last::default();
        while let Some(mut work) = self.take(user, &mut threads) {
            // Only the last trim counts.
            let trim = work.iter().rev().find_map(|work| match work {
                Work::Trim { through } => Some(*through),
                Work::Restore { .. } | Work::Write { .. } => None,
            });
            while let Some(next) = work.pop_front() {
                match next {
                    Work::Trim { .. } => {}
                    Work::Restore { generation, attempt } => {
                        self.recall(user, generation, attempt, &mut threads).await;
                    }
                    Work::Write { batch, after, event } => {
                        let mut events = vec![event];
                        while let Some(Work::Write { batch: same, .. }) = work.front()
                            && *same == batch
                            && let Some(Work::Write { event, .. }) = work.pop_front()
                        {
                            events.push(event);
                        }
                        self.append(user, batch, after, events, &mut threads, &mut last).await;
                    }
                }
            }
            if let Some(through) = trim
                && let Err(error) = self.log.trim(user, through).await
            {
                // What is not forgotten now is forgotten with the next one.
                tracing::debug!(%error, "the log did not trim");
            }
        }
    }

    async fn recall(
        &self,
        user: UserId,
        generation: Generation,
        attempt: Attempt,
        threads: &mut HashMap<RunId, Option<Arc<str>>>,
    ) {
        let input = match self.log.restore(user).await {
            Ok(held) => {
                threads.clear();
                for (_, entry) in &held.entries {
                    follow(threads, entry.run, entry.kind, entry.record.thread.as_ref());
                }
                session::Input::Restored { attempt, snapshot: snapshot(held) }
            }
            Err(error) => {
                tracing::warn!(user = user.0, %error, "a stream cannot be restored");
                session::Input::NotRestored { attempt }
            }
        };
        self.tell(user, generation, input);
    }

    /// Appends events of one batch, and tells the session where each is. A batch may come here in several parts.
    async fn append(
        &self,
        user: UserId,
        batch: Batch,
        after: Offset,
        events: Vec<Event<Payload>>,
        threads: &mut HashMap<RunId, Option<Arc<str>>>,
        last: &mut Last,
    ) {
        let after = match last {
            Last { batch: Some(same), failed: true, .. } if *same == batch => return,
            Last { batch: Some(same), offset, .. } if *same == batch => *offset,
            Last { .. } => after,
        };
        let written: Vec<Written> = events.into_iter().map(|event| write_down(event, threads)).collect();
        let records: Vec<(Kind, Arc<Record>)> =
            written.iter().map(|entry| (entry.kind, Arc::clone(&entry.record))).collect();
        let began = tokio::time::Instant::now();
        let answer = self.log.append(user, after, written).await;
        self.instruments.log_append.record(began.elapsed());
        *last = Last { batch: Some(batch), offset: after, failed: answer.is_err() };
        match answer {
            Ok(offsets) => {
                for (offset, (kind, record)) in offsets.into_iter().zip(records) {
                    last.offset = offset;
                    self.instruments.events.of(kind).increment(1);
                    let record = Some(Payload::Record(record));
                    self.tell(user, batch.session, session::Input::Persisted { batch: batch.number, offset, record });
                }
            }
            Err(error) => {
                self.instruments.log_failures.increment(1);
                tracing::warn!(user = user.0, %error, "an append failed");
                self.tell(user, batch.session, session::Input::Failed { batch: batch.number });
            }
        }
    }

    fn tell(&self, user: UserId, generation: Generation, input: session::Input<Payload>) {
        if let Some(shell) = self.shell.upgrade() {
            // A session that is over, or asks for something else by now, ignores it.
            let _ = shell.session(user, generation, input);
        }
    }
}

/// What became of the last append.
#[derive(Default)]
struct Last {
    batch: Option<Batch>,
    offset: Offset,
    failed: bool,
}

/// Remembers the thread of a run until its end.
fn follow(threads: &mut HashMap<RunId, Option<Arc<str>>>, run: RunId, kind: Kind, thread: Option<&Arc<str>>) {
    if matches!(kind, Kind::Received(_)) {
        threads.insert(run, thread.cloned());
    } else if kind.is_terminal() {
        threads.remove(&run);
    }
}

/// The event with what the machine does not know of it.
fn write_down(event: Event<Payload>, threads: &mut HashMap<RunId, Option<Arc<str>>>) -> Written {
    let Event { run, kind, payload } = event;
    let said = match &payload {
        Some(Payload::Record(record)) => Some(&**record),
        Some(Payload::Token(_)) | None => None,
    };
    let thread = match kind {
        Kind::Received(_) | Kind::Notice => said.and_then(|record| record.thread.clone()),
        Kind::Started
        | Kind::Thinking
        | Kind::ToolExecuting(_)
        | Kind::ToolCompleted(..)
        | Kind::Completed
        | Kind::Error(_) => threads.get(&run).cloned().flatten(),
    };
    follow(threads, run, kind, thread.as_ref());
    let data = said.map_or_else(|| wire::data_of(kind), |record| record.data.clone());
    let mut record = Record::written(thread, data, now_ms());
    if let Some(said) = said {
        record.made = said.made;
    }
    Written { run, kind, record: Arc::new(record) }
}

fn snapshot(held: Held) -> Snapshot<Payload> {
    let Held { epoch, trimmed, entries } = held;
    let mut previous = trimmed;
    let entries = entries.into_iter().map(|(offset, Written { run, kind, record })| {
        let event = Event { run, kind, payload: Some(Payload::Record(record)) };
        Entry { offset, previous: core::mem::replace(&mut previous, offset), event }
    });
    Snapshot { epoch, trimmed, entries: entries.collect() }
}
