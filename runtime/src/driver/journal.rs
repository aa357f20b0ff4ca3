//! The journal: the queues between sessions, which write under their locks, and the log, which takes its time.
//!
//! Each user has one queue, in the order of the steps, and one task that works on it, so one user's slow write delays no
//! other user. The task lasts as long as the queue, which is removed when there is nothing left to remember. Work that a
//! session no longer waits for is abandoned: a batch that is written again replaces its previous attempt, and a session
//! that restores the user, or ends, replaces everything before. Anything that the log still does late is fenced by the
//! tenure, or is at an offset that the log already has.
//!
//! The journal adds data to each event that the machine does not know: the time, the run's thread, and the data of
//! events that the machine makes by itself. Every reader gets the resulting record ([`session::Input::Persisted`]).

use core::future::poll_fn;
use core::task::{Context, Poll};
use std::sync::{Arc, Weak};
use std::time::Duration;

use lockstep_model::run::Kind;
use lockstep_model::session;
use lockstep_model::stream::Snapshot;
use lockstep_model::{
    AcquisitionId, BatchId, ConfirmationId, Entry, Event, Generation, Handled, Incarnation, Offset, Tenure, UserId,
};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::queue::{Batch, Job, Last, Pushed, Queue, Work};

use super::Core;
use super::instruments::Instruments;
use super::membership::MembershipDriver;
use crate::log::guarded::Guarded;
use crate::log::{Acquired, Conversations, Held, Log, LogError, Written};
use crate::payload::{Payload, Record, thread_id};
use crate::support::sharded::Sharded;

mod queue;

/// The queues of a process.
pub(super) struct Journal {
    core: Weak<Core>,
    log: Arc<Guarded>,
    runtime: Handle,
    queues: Sharded<UserId, Queue>,
    instruments: Arc<Instruments>,
    membership: Option<Arc<MembershipDriver>>,
    /// Notified when a queue has no work left.
    rested: Notify,
}

impl Journal {
    pub(super) fn new(
        core: Weak<Core>,
        log: Arc<Guarded>,
        membership: Option<Arc<MembershipDriver>>,
        instruments: Arc<Instruments>,
        shards: usize,
    ) -> Self {
        Self {
            core,
            log,
            runtime: Handle::current(),
            queues: Sharded::new(shards),
            instruments,
            membership,
            rested: Notify::new(),
        }
    }

    /// Waits until no queue has work, such as the release of a user. The log bounds how long that takes. Cancel safe.
    pub(super) async fn rests(&self) {
        loop {
            let mut rested = core::pin::pin!(self.rested.notified());
            rested.as_mut().enable();
            let mut working = false;
            self.queues.each(|shard| working |= shard.values().any(Queue::is_working));
            if !working {
                return;
            }
            rested.await;
        }
    }

    /// Acquires the user, and restores the stream.
    pub(super) fn restore(self: &Arc<Self>, user: UserId, generation: Generation, attempt: AcquisitionId) {
        self.push(user, |queue| {
            queue.abandon(|work| !matches!(work, Work::Read { .. } | Work::Release { .. }));
            queue.written.clear();
            queue.work.push_back(Work::Restore { generation, attempt });
        });
    }

    /// Writes nothing under the tenure, to learn whether it is still the newest.
    pub(super) fn confirm(
        self: &Arc<Self>,
        user: UserId,
        (generation, attempt): (Generation, ConfirmationId),
        tenure: Tenure,
        after: Offset,
    ) {
        self.push(user, |queue| queue.work.push_back(Work::Confirm { generation, attempt, tenure, after }));
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
            queue.ended();
            queue.work.extend(tenure.map(|tenure| Work::Release { tenure }));
        });
    }

    fn push(self: &Arc<Self>, user: UserId, change: impl FnOnce(&mut Queue)) {
        let pushed = self.queues.lock(&user).entry(user).or_default().push(change);
        if let Pushed::Unserved = pushed {
            self.runtime.spawn(Self::serve(Arc::downgrade(self), user));
        }
    }

    /// Ready with the next job, or without one when the queue was removed. `done` if the log has answered the last one.
    fn poll_next(&self, user: UserId, done: bool, last: &Last, context: &Context<'_>) -> Poll<Option<Job>> {
        let mut queues = self.queues.lock(&user);
        let Some(queue) = queues.get_mut(&user) else { return Poll::Ready(None) };
        if done {
            queue.unanswered = None;
        }
        let next = queue.poll_next(context, last);
        if let Poll::Ready(None) = next {
            queues.remove(&user);
        }
        drop(queues);
        if !matches!(next, Poll::Ready(Some(_))) {
            self.rested.notify_waiters();
        }
        next
    }

    /// Works on a user's queue until it is removed, or the journal is dropped.
    async fn serve(journal: Weak<Self>, user: UserId) {
        let (mut last, mut done) = (Last::default(), false);
        // A task that waits for work does not keep the journal.
        let next = async |last: &Last, done: bool| {
            poll_fn(|context| match journal.upgrade() {
                Some(journal) => journal.poll_next(user, done, last, context).map(|job| job.map(|job| (journal, job))),
                None => Poll::Ready(None),
            })
            .await
        };
        while let Some((journal, job)) = next(&last, done).await {
            let awaited = job.is_awaited();
            let abandoned = poll_fn(|context| match journal.queue(user, |queue| queue.is_abandoned(context)) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            });
            done = tokio::select! {
                biased;
                () = journal.work(user, job, &mut last) => awaited,
                () = abandoned => false,
            };
        }
    }

    async fn work(&self, user: UserId, job: Job, last: &mut Last) {
        match job {
            Job::Restore { generation, attempt } => self.restore_stream(user, generation, attempt).await,
            Job::Append { batch, tenure, after, events } => {
                self.append(user, batch, tenure, after, events, last).await;
            }
            Job::Confirm { generation, attempt, tenure, after } => {
                let input = match self.log.append(user, tenure, after, Vec::new()).await {
                    Ok(_) => session::Input::Confirmed { attempt },
                    Err(error) => final_input(user, &error).unwrap_or(session::Input::NotConfirmed { attempt }),
                };
                let _ = self.tell(user, generation, input);
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

    async fn restore_stream(&self, user: UserId, generation: Generation, attempt: AcquisitionId) {
        // A log that one process has to itself does not ask who acquires.
        let who = self.membership.as_ref().map_or(Incarnation(0), |membership| membership.incarnation());
        let held = async {
            let tenure = match self.log.acquire(user, who).await? {
                Acquired::Owner(tenure) => tenure,
                Acquired::Elsewhere(owner) => return Ok(Err(owner)),
            };
            match self.log.restore(user, tenure).await {
                // The newer tenure may be our own, from an acquire that was abandoned and completed late.
                Err(LogError::Fenced) => Err(LogError::Unavailable("the user has a newer tenure".to_owned())),
                held => Ok(Ok((tenure, held?))),
            }
        };
        let input = match held.await {
            Ok(Err(owner)) => session::Input::Elsewhere { attempt, owner },
            Ok(Ok((tenure, held))) => {
                self.queue(user, |queue| {
                    queue.restored(held.entries.iter().map(|(_, entry)| entry));
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

    /// Appends events of one batch, and tells the session the offset of each.
    async fn append(
        &self,
        user: UserId,
        batch: Batch,
        tenure: Tenure,
        after: Offset,
        events: Vec<Written>,
        last: &mut Last,
    ) {
        let records: Vec<(Kind, Arc<Record>)> =
            events.iter().map(|entry| (entry.kind, Arc::clone(&entry.record))).collect();
        let began = Instant::now();
        *last = Last { batch: Some(batch), offset: after, failed: true };
        let answer = self.log.append(user, tenure, after, events).await;
        self.instruments.log_append.record(began.elapsed());
        last.failed = answer.is_err();
        self.queue(user, |queue| queue.answered(batch));
        match answer {
            Ok(offsets) => {
                let inputs = offsets.into_iter().zip(records).map(|(offset, (kind, record))| {
                    last.offset = offset;
                    self.instruments.events.of(kind).increment(1);
                    let record = Some(Payload::Record(record));
                    session::Input::Persisted { batch: batch.number, offset, record }
                });
                let known = self.tell_all(user, batch.session, inputs);
                self.queue(user, |queue| drop(queue.written.drain(..known.min(queue.written.len()))));
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

    /// Returns how many of the inputs the session did not ignore.
    fn tell_all(
        &self,
        user: UserId,
        generation: Generation,
        inputs: impl Iterator<Item = session::Input<Payload>>,
    ) -> usize {
        let mut known = 0;
        if let Some(core) = self.core.upgrade() {
            core.session_each(user, generation, inputs, |answer| known += usize::from(answer == Ok(Handled::Done)));
        }
        known
    }

    /// Returns false if the session ignores the input because it is over or has made a newer request.
    fn tell(&self, user: UserId, generation: Generation, input: session::Input<Payload>) -> bool {
        let Some(core) = self.core.upgrade() else { return false };
        core.session(user, generation, input) == Ok(Handled::Done)
    }
}

impl Drop for Journal {
    /// Tasks that wait for work end.
    fn drop(&mut self) {
        self.queues.each(|shard| shard.values_mut().for_each(Queue::wake));
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

/// Turns records after `previous` into the machine's entries.
pub(super) fn entries(mut previous: Offset, found: Vec<(Offset, Written)>) -> impl Iterator<Item = Entry<Payload>> {
    found.into_iter().map(move |(offset, Written { run, kind, record })| {
        let record = if matches!(kind, Kind::Delta(_)) && !record.is_piece() {
            Arc::new(Record::written(record.thread.clone(), record.data.clone(), record.at()).into_piece())
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
