//! The journal: the queues between sessions, which write under their locks, and the log, which takes its time.
//!
//! Each user has one queue, in the order of the steps, and one task that works on it while it is not empty, so one
//! user's slow write delays no other user. Work that a session no longer waits for is abandoned: a batch that is
//! written again replaces its previous attempt, and a session that restores the user, or ends, replaces everything
//! before. Anything that the log still does late is fenced by the tenure, or is at an offset that the log already has.
//!
//! The journal adds to each event what the machine does not know: the time, the run's thread, and the data of events
//! that the machine makes by itself. Every reader gets the resulting record ([`session::Input::Persisted`]).

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

use super::Core;
use super::instruments::Instruments;
use crate::log::guarded::Guarded;
use crate::log::{Acquired, Conversations, Held, Log, LogError, Written};
use crate::payload::{Payload, Record, now_ms, thread_id};
use crate::sharded::Sharded;
use crate::wire;

/// The queues of a process.
pub(super) struct Journal {
    core: Weak<Core>,
    log: Arc<Guarded>,
    runtime: Handle,
    queues: Sharded<UserId, Queue>,
    instruments: Arc<Instruments>,
}

/// The runs whose end is not written yet.
type Open = HashMap<RunId, Followed>;

/// What the events of a run contain that its machine does not know.
#[derive(Clone, Debug, Default)]
struct Followed {
    thread: Option<Arc<str>>,
    /// The names of the tools that are executing.
    tools: HashMap<ToolId, Box<str>>,
}

/// The part of a `tool_executing` that is read.
#[derive(Deserialize)]
struct Executing<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// The work of one user's session for the log. The machine bounds it: at most one batch of at most
/// [`pending`](lockstep_model::Bounds::pending) events and one restore are in progress.
#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    served: bool,
    /// The newest batch that is not answered.
    batch: Option<Batch>,
    /// Since when the log has not answered.
    unanswered: Option<Instant>,
    /// Cancels the job in progress.
    cancel: Option<oneshot::Sender<()>>,
    /// The oldest events that the session does not know to be durable, as they were written: appending them again
    /// writes the same.
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

/// Work that is done in one call of the log.
enum Job {
    Restore { generation: Generation, attempt: Attempt },
    Append { batch: Batch, tenure: Tenure, after: Offset, events: Vec<Event<Payload>> },
    Trim { tenure: Tenure, through: Offset },
    Read { tenure: Tenure, through: Offset },
    Release { tenure: Tenure },
}

impl Job {
    /// Whether a session waits for this job.
    const fn is_awaited(&self) -> bool {
        match self {
            Self::Restore { .. } | Self::Append { .. } => true,
            Self::Trim { .. } | Self::Read { .. } | Self::Release { .. } => false,
        }
    }
}

/// A batch of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Batch {
    session: Generation,
    number: BatchId,
}

impl Queue {
    /// Abandons the job in progress, and the queued work that `also` selects.
    fn abandon(&mut self, also: impl Fn(&Work) -> bool) {
        self.work.retain(|work| !also(work));
        self.batch = None;
        if let Some(waiting) = self.cancel.take() {
            // The job may be done already.
            let _ = waiting.send(());
        }
    }

    /// Forgets the batch if the log has answered all of it that was written so far.
    fn answered(&mut self, batch: Batch) {
        if self.batch == Some(batch) && !self.work.iter().any(|work| matches!(work, Work::Write { .. })) {
            self.batch = None;
        }
    }

    /// Turns events into the records that the log gets.
    fn complete(&mut self, events: Vec<Event<Payload>>) -> Vec<Written> {
        let mut batch: Vec<Written> = self.written.iter().take(events.len()).cloned().collect();
        for event in events.into_iter().skip(batch.len()) {
            let written = complete(event, &mut self.open);
            self.written.push_back(written.clone());
            batch.push(written);
        }
        batch
    }

    /// Takes the next job. Consecutive trims become one, and so do the queued events of a batch.
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

    /// Acquires the user, and restores the stream.
    pub(super) fn restore(self: &Arc<Self>, user: UserId, generation: Generation, attempt: Attempt) {
        self.push(user, |queue| {
            queue.abandon(|work| !matches!(work, Work::Read { .. } | Work::Release { .. }));
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
                queue.abandon(|work| matches!(work, Work::Write { .. }));
            }
            queue.batch = Some(batch);
            queue.work.push_back(Work::Write { batch, tenure, after, event });
        });
    }

    /// The longest time for which a session has waited for the log.
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
            // Only the newest read position counts.
            queue.work.retain(|work| !matches!(work, Work::Read { .. }));
            queue.work.push_back(Work::Read { tenure, through });
        });
    }

    /// Ends the session's work.
    pub(super) fn relinquish(self: &Arc<Self>, user: UserId, tenure: Option<Tenure>) {
        self.push(user, |queue| {
            queue.abandon(|work| !matches!(work, Work::Read { .. }));
            queue.unanswered = None;
            queue.written.clear();
            queue.open.clear();
            queue.work.extend(tenure.map(|tenure| Work::Release { tenure }));
        });
    }

    fn push(self: &Arc<Self>, user: UserId, change: impl FnOnce(&mut Queue)) {
        let mut queues = self.queues.lock(&user);
        let queue = queues.entry(user).or_default();
        change(queue);
        if !core::mem::replace(&mut queue.served, true) {
            self.runtime.spawn(Arc::clone(self).serve(user));
        }
    }

    /// Takes the next job, with the channel that cancels it. Returns `None`, and stops serving the queue, if there is
    /// none.
    fn take(&self, user: UserId) -> Option<(Job, oneshot::Receiver<()>)> {
        let mut queues = self.queues.lock(&user);
        let queue = queues.get_mut(&user)?;
        if let Some(job) = queue.next() {
            let (waiting, cancelled) = oneshot::channel();
            queue.cancel = Some(waiting);
            if job.is_awaited() {
                queue.unanswered.get_or_insert_with(Instant::now);
            }
            return Some((job, cancelled));
        }
        queue.cancel = None;
        queue.served = false;
        // Records that may be written again are kept: the session repeats the batch after its pause.
        if queue.open.is_empty() && queue.written.is_empty() && queue.unanswered.is_none() {
            queues.remove(&user);
        }
        None
    }

    async fn serve(self: Arc<Self>, user: UserId) {
        let mut last = Last::default();
        while let Some((job, cancelled)) = self.take(user) {
            let awaited = job.is_awaited();
            let work = self.work(user, job, &mut last);
            tokio::select! {
                biased;
                () = work => self.queue(user, |queue| queue.unanswered = queue.unanswered.filter(|_| !awaited)),
                Ok(()) = cancelled => {}
            }
        }
    }

    async fn work(&self, user: UserId, job: Job, last: &mut Last) {
        match job {
            Job::Restore { generation, attempt } => self.restore_stream(user, generation, attempt).await,
            Job::Append { batch, tenure, after, events } => {
                self.append(user, batch, tenure, after, events, last).await;
            }
            Job::Trim { tenure, through } => {
                if let Err(error) = self.log.trim(user, tenure, through).await {
                    // The next trim includes this one.
                    tracing::debug!(%error, "the log did not trim a stream");
                }
            }
            Job::Read { tenure, through } => {
                if let Err(error) = self.log.read(user, tenure, through).await {
                    // A reader that names no position may see entries again.
                    tracing::debug!(%error, "the log did not store the position of readers");
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

    async fn restore_stream(&self, user: UserId, generation: Generation, attempt: Attempt) {
        let held = async {
            let Acquired::Owner(tenure) = self.log.acquire(user).await?;
            match self.log.restore(user, tenure).await {
                // The newer tenure may be our own, from an acquire that was abandoned and completed late.
                Err(LogError::Fenced) => Err(LogError::Unavailable("the user has a newer tenure".to_owned())),
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
            Err(error) => final_input(user, &error).unwrap_or_else(|| {
                if let Some(times) = self.log.refusals.say(&"restore") {
                    tracing::warn!(user = user.0, %error, times, "streams cannot be restored");
                }
                session::Input::NotRestored { attempt }
            }),
        };
        let _ = self.tell(user, generation, input);
    }

    /// Appends events of one batch, and tells the session the offset of each. A batch may arrive in several parts.
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
        let written = self.queue(user, |queue| queue.complete(events));
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
                let input = final_input(user, &error).unwrap_or_else(|| {
                    if let Some(times) = self.log.refusals.say(&"append") {
                        tracing::warn!(user = user.0, %error, times, "appends failed");
                    }
                    session::Input::Failed { batch: batch.number }
                });
                let _ = self.tell(user, batch.session, input);
            }
        }
    }

    /// Accesses the user's queue, which exists as long as it is served.
    fn queue<R: Default>(&self, user: UserId, act: impl FnOnce(&mut Queue) -> R) -> R {
        self.queues.lock(&user).get_mut(&user).map(act).unwrap_or_default()
    }

    /// Returns false if the session ignores the input because it is over or has made a newer request.
    fn tell(&self, user: UserId, generation: Generation, input: session::Input<Payload>) -> bool {
        let Some(core) = self.core.upgrade() else { return false };
        core.session(user, generation, input) == Ok(Handled::Done)
    }
}

/// The session input for an error that ends the session.
fn final_input(user: UserId, error: &LogError) -> Option<session::Input<Payload>> {
    match error {
        LogError::Unavailable(_) => None,
        LogError::Fenced => {
            tracing::error!(user = user.0, %error, "a session ends: it no longer owns its user");
            Some(session::Input::Fenced)
        }
        LogError::Broken(_) => {
            tracing::error!(user = user.0, %error, "a session ends: the log violated its contract");
            Some(session::Input::Broken)
        }
    }
}

/// The outcome of the last append.
#[derive(Default)]
struct Last {
    batch: Option<Batch>,
    offset: Offset,
    failed: bool,
}

/// Remembers a run's thread and the names of its open tools, until the run ends.
fn follow(open: &mut Open, run: RunId, kind: Kind, record: &Record) {
    match kind {
        Kind::Received(_) => {
            open.insert(run, Followed { thread: record.thread.clone(), tools: HashMap::new() });
        }
        Kind::ToolExecuting(tool) => {
            if let Some(followed) = open.get_mut(&run)
                && let Ok(Executing { name }) = serde_json::from_str(record.data.get())
            {
                followed.tools.insert(tool, name.into());
            }
        }
        Kind::ToolCompleted(tool, _) => {
            if let Some(followed) = open.get_mut(&run) {
                followed.tools.remove(&tool);
            }
        }
        Kind::Started | Kind::Thinking | Kind::Delta(_) | Kind::Paused(_) | Kind::Resumed(_) => {}
        Kind::Completed | Kind::Error(_) | Kind::Notice | Kind::Deleted => {
            open.remove(&run);
        }
    }
}

/// Adds to the event what the machine does not know.
fn complete(event: Event<Payload>, open: &mut Open) -> Written {
    let Event { run, kind, payload, .. } = event;
    let given = match &payload {
        Some(Payload::Record(record)) => Some(&**record),
        Some(Payload::Token(_) | Payload::Query(_) | Payload::Answer(_)) | None => None,
    };
    let thread = if matches!(kind, Kind::Received(_) | Kind::Notice | Kind::Deleted) {
        given.and_then(|record| record.thread.clone())
    } else {
        open.get(&run).and_then(|followed| followed.thread.clone())
    };
    let data = match (given, kind) {
        (Some(record), Kind::Paused(pause)) => wire::data_of_pause(pause, &record.data),
        (Some(record), _) => record.data.clone(),
        (None, Kind::ToolCompleted(tool, ToolEnd::Abandoned(ending))) => {
            let name = open.get(&run).and_then(|followed| followed.tools.get(&tool));
            wire::data_of_abandoned(tool, ending, name.map(|name| &**name))
        }
        (None, _) => wire::data_of(kind),
    };
    let record = Record::written(thread, data, now_ms());
    let record = match given {
        Some(given) => record.made_as(given),
        None => record,
    };
    follow(open, run, kind, &record);
    Written { run, kind, record: Arc::new(record) }
}

/// Turns records after `previous` into the machine's entries.
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
