//! The journal: between a session, which orders writes under its lock, and the log, which takes its time.
//!
//! One queue a user, in the order of the steps, and one task that works it off while it is not empty, so one user's slow
//! write delays nobody else. What the session has given up stops waiting: a batch that is written again takes the place of the
//! one before it, and a session that asks for the user, or is over, that of everything before. Whatever of this the log does
//! late is fenced by the tenure, or is at a place that the log has already.
//!
//! The journal gives each event what the machine does not know: the time, the run's thread, and the data of events that
//! the machine makes by itself. That is the record which every reader gets ([`session::Input::Persisted`]).

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use lockstep_model::run::{Kind, ToolEnd};
use lockstep_model::session;
use lockstep_model::stream::Snapshot;
use lockstep_model::{Attempt, BatchId, Entry, Event, Generation, Handled, Offset, RunId, Tenure, ToolId, UserId};
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::instruments::Instruments;
use super::{Core, Sharded};
use crate::log::guarded::Guarded;
use crate::log::{Acquired, Conversations, Held, Log, LogError, Written};
use crate::payload::{Payload, Record, now_ms, thread_id};
use crate::wire;

/// The queues of a process.
pub(super) struct Journal {
    core: Weak<Core>,
    log: Arc<Guarded>,
    runtime: Handle,
    queues: Sharded<UserId, Queue>,
    instruments: Arc<Instruments>,
}

/// The runs whose end is not written.
type Open = HashMap<RunId, Followed>;

/// What the events of a run say that its machine does not know.
#[derive(Clone, Debug, Default)]
struct Followed {
    thread: Option<Arc<str>>,
    /// The names of the tools that execute.
    tools: HashMap<ToolId, Box<str>>,
}

/// What is read of a `tool_executing`.
#[derive(Deserialize)]
struct Executing<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// What one user's session wants of the log. It is bounded by the machine: one batch of at most
/// [`pending`](lockstep_model::Bounds::pending) events is under way, and one restoring.
#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    served: bool,
    /// The batch that was ordered last and is not answered.
    batch: Option<Batch>,
    /// Since when the log has answered nothing that was asked of it.
    unanswered: Option<Instant>,
    /// Whom to tell that what is under way is given up.
    under_way: Option<oneshot::Sender<()>>,
    /// The oldest events that the session does not know to be durable, as they were written down: what is appended again is the
    /// same.
    written: VecDeque<Written>,
    open: Open,
}

enum Work {
    Restore { generation: Generation, attempt: Attempt },
    Write { batch: Batch, tenure: Tenure, after: Offset, event: Event<Payload> },
    Trim { tenure: Tenure, through: Offset },
    Read { tenure: Tenure, through: Offset },
    Release { tenure: Tenure },
}

/// What is done at once.
enum Job {
    Restore { generation: Generation, attempt: Attempt },
    Append { batch: Batch, tenure: Tenure, after: Offset, events: Vec<Event<Payload>> },
    Trim { tenure: Tenure, through: Offset },
    Read { tenure: Tenure, through: Offset },
    Release { tenure: Tenure },
}

impl Job {
    /// Whether a session does nothing until it is done.
    const fn is_waited_for(&self) -> bool {
        match self {
            Self::Restore { .. } | Self::Append { .. } => true,
            Self::Trim { .. } | Self::Read { .. } | Self::Release { .. } => false,
        }
    }
}

/// Which batch of which session.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Batch {
    session: Generation,
    number: BatchId,
}

impl Queue {
    /// Nothing that was ordered before is waited for any more.
    fn give_up(&mut self, also: impl Fn(&Work) -> bool) {
        self.work.retain(|work| !also(work));
        self.batch = None;
        if let Some(waiting) = self.under_way.take() {
            // It may have its answer already.
            let _ = waiting.send(());
        }
    }

    /// The log has answered what was ordered of a batch so far.
    fn answered(&mut self, batch: Batch) {
        if self.batch == Some(batch) && !self.work.iter().any(|work| matches!(work, Work::Write { .. })) {
            self.batch = None;
        }
    }

    /// The events as the log gets them.
    fn write_down(&mut self, events: Vec<Event<Payload>>) -> Vec<Written> {
        let mut batch: Vec<Written> = self.written.iter().take(events.len()).cloned().collect();
        for event in events.into_iter().skip(batch.len()) {
            let written = write_down(event, &mut self.open);
            self.written.push_back(written.clone());
            batch.push(written);
        }
        batch
    }

    /// The next thing to do: of trims the last, of a batch as much as is there.
    fn next(&mut self) -> Option<Job> {
        Some(match self.work.pop_front()? {
            Work::Restore { generation, attempt } => Job::Restore { generation, attempt },
            Work::Release { tenure } => Job::Release { tenure },
            Work::Trim { tenure, through } => {
                let mut through = through;
                while let Some(Work::Trim { through: later, .. }) = self.work.front() {
                    through = through.max(*later);
                    self.work.pop_front();
                }
                Job::Trim { tenure, through }
            }
            Work::Read { tenure, through } => Job::Read { tenure, through },
            Work::Write { batch, tenure, after, event } => {
                let mut events = vec![event];
                while let Some(Work::Write { batch: same, .. }) = self.work.front()
                    && *same == batch
                    && let Some(Work::Write { event, .. }) = self.work.pop_front()
                {
                    events.push(event);
                }
                Job::Append { batch, tenure, after, events }
            }
        })
    }
}

impl Journal {
    pub(super) fn new(core: Weak<Core>, log: Arc<Guarded>, instruments: Arc<Instruments>, shards: usize) -> Self {
        Self { core, log, runtime: Handle::current(), queues: Sharded::new(shards), instruments }
    }

    /// Acquires the user, and asks for the stream.
    pub(super) fn restore(self: &Arc<Self>, user: UserId, generation: Generation, attempt: Attempt) {
        self.push(user, |queue| {
            queue.give_up(|work| !matches!(work, Work::Read { .. } | Work::Release { .. }));
            queue.written.clear();
            queue.work.push_back(Work::Restore { generation, attempt });
        });
    }

    pub(super) fn write(
        self: &Arc<Self>,
        user: UserId,
        (session, number): (Generation, BatchId),
        tenure: Tenure,
        after: Offset,
        event: Event<Payload>,
    ) {
        let batch = Batch { session, number };
        self.push(user, |queue| {
            if queue.batch.is_some_and(|before| before != batch) {
                queue.give_up(|work| matches!(work, Work::Write { .. }));
            }
            queue.batch = Some(batch);
            queue.work.push_back(Work::Write { batch, tenure, after, event });
        });
    }

    /// How long the oldest of what sessions wait for has waited.
    pub(super) fn waiting(&self) -> Duration {
        let mut oldest = Duration::ZERO;
        self.queues.each(|shard| {
            let waiting = shard.values().filter_map(|queue| queue.unanswered).map(|since| since.elapsed());
            oldest = waiting.fold(oldest, Duration::max);
        });
        oldest
    }

    pub(super) fn trim(self: &Arc<Self>, user: UserId, tenure: Tenure, through: Offset) {
        self.push(user, |queue| queue.work.push_back(Work::Trim { tenure, through }));
    }

    pub(super) fn read(self: &Arc<Self>, user: UserId, tenure: Tenure, through: Offset) {
        self.push(user, |queue| {
            // How far readers have come counts once, and waits for nothing.
            queue.work.retain(|work| !matches!(work, Work::Read { .. }));
            queue.work.push_back(Work::Read { tenure, through });
        });
    }

    /// The session is over.
    pub(super) fn relinquish(self: &Arc<Self>, user: UserId, tenure: Option<Tenure>) {
        self.push(user, |queue| {
            queue.give_up(|work| !matches!(work, Work::Read { .. }));
            queue.unanswered = None;
            queue.written.clear();
            queue.open.clear();
            queue.work.extend(tenure.map(|tenure| Work::Release { tenure }));
        });
    }

    fn push(self: &Arc<Self>, user: UserId, order: impl FnOnce(&mut Queue)) {
        let mut queues = self.queues.lock(&user);
        let queue = queues.entry(user).or_default();
        order(queue);
        if !core::mem::replace(&mut queue.served, true) {
            self.runtime.spawn(Arc::clone(self).serve(user));
        }
    }

    /// What is next, and what is told when it is given up; or nothing: then nobody serves the queue any more.
    fn take(&self, user: UserId) -> Option<(Job, oneshot::Receiver<()>)> {
        let mut queues = self.queues.lock(&user);
        let queue = queues.get_mut(&user)?;
        if let Some(job) = queue.next() {
            let (waiting, given_up) = oneshot::channel();
            queue.under_way = Some(waiting);
            if job.is_waited_for() {
                queue.unanswered.get_or_insert_with(Instant::now);
            }
            return Some((job, given_up));
        }
        queue.under_way = None;
        queue.served = false;
        // What is to be written again is kept: the session will order it after its pause.
        if queue.open.is_empty() && queue.written.is_empty() && queue.unanswered.is_none() {
            queues.remove(&user);
        }
        None
    }

    async fn serve(self: Arc<Self>, user: UserId) {
        let mut last = Last::default();
        while let Some((job, given_up)) = self.take(user) {
            let waited_for = job.is_waited_for();
            let work = self.work(user, job, &mut last);
            tokio::select! {
                biased;
                () = work => self.queue(user, |queue| queue.unanswered = queue.unanswered.filter(|_| !waited_for)),
                Ok(()) = given_up => {}
            }
        }
    }

    async fn work(&self, user: UserId, job: Job, last: &mut Last) {
        match job {
            Job::Restore { generation, attempt } => self.recall(user, generation, attempt).await,
            Job::Append { batch, tenure, after, events } => {
                self.append(user, batch, tenure, after, events, last).await;
            }
            Job::Trim { tenure, through } => {
                if let Err(error) = self.log.trim(user, tenure, through).await {
                    // What is not forgotten now is forgotten with the next one.
                    tracing::debug!(%error, "the log did not trim");
                }
            }
            Job::Read { tenure, through } => {
                if let Err(error) = self.log.read(user, tenure, through).await {
                    // A reader that names no place may see again what was read.
                    tracing::debug!(%error, "the log did not note how far readers are");
                }
            }
            Job::Release { tenure } => {
                if let Err(error) = self.log.release(user, tenure).await {
                    // The next owner's tenure fences this one.
                    tracing::debug!(%error, "the log did not release a user");
                }
            }
        }
    }

    async fn recall(&self, user: UserId, generation: Generation, attempt: Attempt) {
        let held = async {
            let Acquired::Owner(tenure) = self.log.acquire(user).await?;
            match self.log.restore(user, tenure).await {
                // It may be our own: an acquire that was given up, and done late.
                Err(LogError::Fenced) => Err(LogError::Unavailable("the user was acquired meanwhile".to_owned())),
                held => Ok((tenure, held?)),
            }
        };
        let input = match held.await {
            Ok((tenure, held)) => {
                self.queue(user, |queue| {
                    queue.open.clear();
                    for (_, entry) in &held.entries {
                        follow(&mut queue.open, entry.run, entry.kind, &entry.record);
                    }
                });
                session::Input::Restored {
                    attempt,
                    snapshot: snapshot(tenure, held, self.log.conversations().is_some_and(Conversations::keeps)),
                }
            }
            Err(error) => ended(user, &error).unwrap_or_else(|| {
                if let Some(times) = self.log.refusals.say(&"restore") {
                    tracing::warn!(user = user.0, %error, times, "streams cannot be restored");
                }
                session::Input::NotRestored { attempt }
            }),
        };
        let _ = self.tell(user, generation, input);
    }

    /// Appends events of one batch, and tells the session where each is. A batch may come here in several parts.
    async fn append(
        &self,
        user: UserId,
        batch: Batch,
        tenure: Tenure,
        after: Offset,
        events: Vec<Event<Payload>>,
        last: &mut Last,
    ) {
        let after = match last {
            Last { batch: Some(same), failed: true, .. } if *same == batch => return,
            Last { batch: Some(same), offset, .. } if *same == batch => *offset,
            Last { .. } => after,
        };
        let written = self.queue(user, |queue| queue.write_down(events));
        let records: Vec<(Kind, Arc<Record>)> =
            written.iter().map(|entry| (entry.kind, Arc::clone(&entry.record))).collect();
        let began = Instant::now();
        *last = Last { batch: Some(batch), offset: after, failed: true };
        let answer = self.log.append(user, tenure, after, written).await;
        self.instruments.log_append.record(began.elapsed());
        last.failed = answer.is_err();
        self.queue(user, |queue| queue.answered(batch));
        match answer {
            Ok(offsets) => {
                for (offset, (kind, record)) in offsets.into_iter().zip(records) {
                    last.offset = offset;
                    self.instruments.events.of(kind).increment(1);
                    let record = Some(Payload::Record(record));
                    let input = session::Input::Persisted { batch: batch.number, offset, record };
                    if self.tell(user, batch.session, input) {
                        self.queue(user, |queue| drop(queue.written.pop_front()));
                    }
                }
            }
            Err(error) => {
                self.instruments.log_failures.increment(1);
                let input = ended(user, &error).unwrap_or_else(|| {
                    if let Some(times) = self.log.refusals.say(&"append") {
                        tracing::warn!(user = user.0, %error, times, "appends failed");
                    }
                    session::Input::Failed { batch: batch.number }
                });
                let _ = self.tell(user, batch.session, input);
            }
        }
    }

    /// The user's queue, which is there as long as it is served.
    fn queue<R: Default>(&self, user: UserId, act: impl FnOnce(&mut Queue) -> R) -> R {
        self.queues.lock(&user).get_mut(&user).map(act).unwrap_or_default()
    }

    /// False if the session is over, or asks for something else by now, and ignores it.
    fn tell(&self, user: UserId, generation: Generation, input: session::Input<Payload>) -> bool {
        let Some(core) = self.core.upgrade() else { return false };
        core.session(user, generation, input) == Ok(Handled::Done)
    }
}

/// What an error says that ends the session.
fn ended(user: UserId, error: &LogError) -> Option<session::Input<Payload>> {
    match error {
        LogError::Unavailable(_) => None,
        LogError::Fenced => {
            tracing::error!(user = user.0, %error, "a session has lost its user");
            Some(session::Input::Fenced)
        }
        LogError::Broken(_) => {
            tracing::error!(user = user.0, %error, "a session ends");
            Some(session::Input::Broken)
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

/// Remembers the thread of a run, and the names of its open tools, until its end.
fn follow(open: &mut Open, run: RunId, kind: Kind, record: &Record) {
    match kind {
        Kind::Received(_) => {
            open.insert(run, Followed { thread: record.thread.clone(), tools: HashMap::new() });
        }
        Kind::ToolExecuting(tool) => {
            if let Some(of) = open.get_mut(&run)
                && let Ok(Executing { name }) = serde_json::from_str(record.data.get())
            {
                of.tools.insert(tool, name.into());
            }
        }
        Kind::ToolCompleted(tool, _) => {
            if let Some(of) = open.get_mut(&run) {
                of.tools.remove(&tool);
            }
        }
        Kind::Started | Kind::Thinking | Kind::Delta(_) => {}
        Kind::Completed | Kind::Error(_) | Kind::Notice | Kind::Deleted => {
            open.remove(&run);
        }
    }
}

/// The event with what the machine does not know of it.
fn write_down(event: Event<Payload>, open: &mut Open) -> Written {
    let Event { run, kind, payload, .. } = event;
    let said = match &payload {
        Some(Payload::Record(record)) => Some(&**record),
        Some(Payload::Token(_) | Payload::Query(_) | Payload::Answer(_)) | None => None,
    };
    let thread = match kind {
        Kind::Received(_) | Kind::Notice | Kind::Deleted => said.and_then(|record| record.thread.clone()),
        Kind::Started
        | Kind::Thinking
        | Kind::Delta(_)
        | Kind::ToolExecuting(_)
        | Kind::ToolCompleted(..)
        | Kind::Completed
        | Kind::Error(_) => open.get(&run).and_then(|of| of.thread.clone()),
    };
    let data = match (said, kind) {
        (Some(record), _) => record.data.clone(),
        (None, Kind::ToolCompleted(tool, ToolEnd::Abandoned(ending))) => {
            let name = open.get(&run).and_then(|of| of.tools.get(&tool));
            wire::data_of_abandoned(tool, ending, name.map(|name| &**name))
        }
        (None, _) => wire::data_of(kind),
    };
    let record = Record::written(thread, data, now_ms());
    let record = match said {
        Some(said) => record.made_as(said),
        None => record,
    };
    follow(open, run, kind, &record);
    Written { run, kind, record: Arc::new(record) }
}

/// Entries behind `previous`, as the machine has them.
pub(super) fn entries(mut previous: Offset, found: Vec<(Offset, Written)>) -> impl Iterator<Item = Entry<Payload>> {
    found.into_iter().map(move |(offset, Written { run, kind, record })| {
        let record = if matches!(kind, Kind::Delta(_)) && !record.is_piece() {
            Arc::new(Record::written(record.thread.clone(), record.data.clone(), record.at).into_piece())
        } else {
            record
        };
        let thread = match (kind, record.thread.as_deref()) {
            (Kind::Notice, None) => None,
            (_, name) => Some(thread_id(name)),
        };
        let event = Event { run, thread, kind, payload: Some(Payload::Record(record)) };
        Entry { offset, previous: core::mem::replace(&mut previous, offset), event }
    })
}

fn snapshot(tenure: Tenure, held: Held, keeps: bool) -> Snapshot<Payload> {
    let Held { trimmed, read, past, entries: found } = held;
    Snapshot { tenure, trimmed, read, past, entries: entries(trimmed, found).collect(), keeps }
}
