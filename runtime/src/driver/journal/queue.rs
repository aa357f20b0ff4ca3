//! The work of one user's session for the log, in the order of the steps, and the task that works on it.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use lockstep_model::run::{Kind, ToolEnd};
use lockstep_model::{AcquisitionId, BatchId, ConfirmationId, Event, Generation, Offset, RunId, Tenure, ToolId};
use serde::Deserialize;
use tokio::time::Instant;

use crate::log::Written;
use crate::payload::{self, Payload, Record, now_ms};

/// The runs whose end is not written yet.
type Open = HashMap<RunId, Followed>;

/// The data in a run's events that its machine does not know.
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
pub(super) struct Queue {
    pub(super) work: VecDeque<Work>,
    server: Server,
    /// The newest batch that is not answered.
    pub(super) batch: Option<Batch>,
    /// Since when the log has not answered.
    pub(super) unanswered: Option<Instant>,
    /// The oldest events that the session does not know to be durable, as they were written: appending them again
    /// writes the same.
    pub(super) written: VecDeque<Written>,
    open: Open,
}

/// The task that works on a queue.
#[derive(Default)]
enum Server {
    /// There is none.
    #[default]
    None,
    /// It works on a job. The waker is that of a task that waits for the log.
    Working(Option<Waker>),
    /// The job in progress is abandoned.
    Abandoned,
    /// It waits for work.
    Parked(Waker),
}

/// The result of adding work to a queue.
pub(super) enum Pushed {
    /// The queue has a task, which will find the work.
    Served,
    /// The queue needs a task.
    Unserved,
}

pub(super) enum Work {
    Restore { generation: Generation, attempt: AcquisitionId },
    Confirm { generation: Generation, attempt: ConfirmationId, tenure: Tenure, after: Offset },
    Write { batch: Batch, tenure: Tenure, after: Offset, event: Event<Payload> },
    Trim { tenure: Tenure, through: Offset },
    Read { tenure: Tenure, through: Offset },
    Release { tenure: Tenure },
}

/// Work that is done in one call of the log.
pub(super) enum Job {
    Restore { generation: Generation, attempt: AcquisitionId },
    Confirm { generation: Generation, attempt: ConfirmationId, tenure: Tenure, after: Offset },
    Append { batch: Batch, tenure: Tenure, after: Offset, events: Vec<Written> },
    Trim { tenure: Tenure, through: Offset },
    Read { tenure: Tenure, through: Offset },
    Release { tenure: Tenure },
}

impl Job {
    /// Whether a session waits for this job.
    pub(super) const fn is_awaited(&self) -> bool {
        match self {
            Self::Restore { .. } | Self::Confirm { .. } | Self::Append { .. } => true,
            Self::Trim { .. } | Self::Read { .. } | Self::Release { .. } => false,
        }
    }
}

/// A batch of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) session: Generation,
    pub(super) number: BatchId,
}

/// The outcome of the last append.
#[derive(Default)]
pub(super) struct Last {
    pub(super) batch: Option<Batch>,
    pub(super) offset: Offset,
    pub(super) failed: bool,
}

impl Queue {
    /// Adds work, and wakes the task that waits for it.
    pub(super) fn push(&mut self, change: impl FnOnce(&mut Self)) -> Pushed {
        change(self);
        match core::mem::take(&mut self.server) {
            Server::None => {
                self.server = Server::Working(None);
                return Pushed::Unserved;
            }
            Server::Parked(waker) => {
                self.server = Server::Working(None);
                waker.wake();
            }
            working @ (Server::Working(_) | Server::Abandoned) => self.server = working,
        }
        Pushed::Served
    }

    /// Abandons the job in progress, and the queued work that `also` selects.
    pub(super) fn abandon(&mut self, also: impl Fn(&Work) -> bool) {
        self.work.retain(|work| !also(work));
        self.batch = None;
        if let Server::Working(waker) = &mut self.server {
            let waker = waker.take();
            // The job may be done already.
            self.server = Server::Abandoned;
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Whether the job in progress is abandoned. If it is not, the task is woken when it is.
    pub(super) fn is_abandoned(&mut self, context: &Context<'_>) -> bool {
        if let Server::Working(waker) = &mut self.server {
            *waker = Some(context.waker().clone());
            return false;
        }
        true
    }

    /// Whether there is work, queued or in progress.
    pub(super) fn is_working(&self) -> bool {
        let serves = match self.server {
            Server::None | Server::Parked(_) => false,
            Server::Working(_) | Server::Abandoned => true,
        };
        serves || !self.work.is_empty()
    }

    /// Wakes the task if it waits for work.
    pub(super) fn wake(&mut self) {
        let _ = self.push(|_| {});
    }

    /// Takes the next job. Ready without one if there is nothing left to remember, so that the queue can be removed.
    /// Otherwise, the task waits for work.
    pub(super) fn poll_next(&mut self, context: &Context<'_>, last: &Last) -> Poll<Option<Job>> {
        if let Some(job) = self.next(last) {
            self.server = Server::Working(None);
            if job.is_awaited() {
                self.unanswered.get_or_insert_with(Instant::now);
            }
            return Poll::Ready(Some(job));
        }
        // Records that may be written again are kept: the session repeats the batch after its pause.
        if self.open.is_empty() && self.written.is_empty() && self.unanswered.is_none() {
            return Poll::Ready(None);
        }
        self.server = Server::Parked(context.waker().clone());
        Poll::Pending
    }

    /// Forgets the batch if the log has answered all of it that was written so far.
    pub(super) fn answered(&mut self, batch: Batch) {
        if self.batch == Some(batch) && !self.work.iter().any(|work| matches!(work, Work::Write { .. })) {
            self.batch = None;
        }
    }

    /// Forgets what the session may ask for again, because it is over.
    pub(super) fn ended(&mut self) {
        self.unanswered = None;
        self.written.clear();
        self.open.clear();
    }

    /// Remembers only the runs of these entries.
    pub(super) fn restored<'a>(&mut self, entries: impl Iterator<Item = &'a Written>) {
        self.open.clear();
        for entry in entries {
            follow(&mut self.open, entry.run, entry.kind, &entry.record);
        }
    }

    /// Takes the next job. Consecutive trims become one, and so do the queued events of a batch. A batch may come in
    /// several parts; after a part has failed, the others are not written.
    fn next(&mut self, last: &Last) -> Option<Job> {
        loop {
            return Some(match self.work.pop_front()? {
                Work::Restore { generation, attempt } => Job::Restore { generation, attempt },
                Work::Confirm { generation, attempt, tenure, after } => {
                    Job::Confirm { generation, attempt, tenure, after }
                }
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
                    let events = self.rest_of(batch, event);
                    let after = match last {
                        Last { batch: Some(same), failed: true, .. } if *same == batch => continue,
                        Last { batch: Some(same), offset, .. } if *same == batch => *offset,
                        Last { .. } => after,
                    };
                    Job::Append { batch, tenure, after, events: self.complete(events) }
                }
            });
        }
    }

    /// The queued events of a batch, of which this is the first.
    fn rest_of(&mut self, batch: Batch, event: Event<Payload>) -> Vec<Event<Payload>> {
        let mut events = vec![event];
        while let Some(Work::Write { batch: same, .. }) = self.work.front()
            && *same == batch
            && let Some(Work::Write { event, .. }) = self.work.pop_front()
        {
            events.push(event);
        }
        events
    }

    /// Turns events into the records that the log gets.
    fn complete(&mut self, events: Vec<Event<Payload>>) -> Vec<Written> {
        let mut batch = Vec::with_capacity(events.len());
        batch.extend(self.written.iter().take(events.len()).cloned());
        for event in events.into_iter().skip(batch.len()) {
            let written = complete(event, &mut self.open);
            self.written.push_back(written.clone());
            batch.push(written);
        }
        batch
    }
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

/// Adds the data that the machine does not know to the event. A record that lacks nothing, and is not another entry's,
/// is not copied.
fn complete(event: Event<Payload>, open: &mut Open) -> Written {
    let Event { run, kind, payload, .. } = event;
    let given = payload.as_ref().and_then(Payload::record);
    let (followed, now) = (open.get(&run), now_ms());
    let begins = matches!(kind, Kind::Received(_) | Kind::Notice | Kind::Deleted);
    let thread = match given {
        Some(given) if begins => &given.thread,
        Some(_) | None => followed.map_or(&None, |followed| &followed.thread),
    };
    let record = match (given, kind) {
        (Some(given), Kind::Paused(pause)) => {
            Arc::new(Record::new(thread.clone(), payload::data_of_pause(pause, &given.data)).made_as(given))
        }
        (Some(given), _) if given.thread == *thread && given.stamp(now) => Arc::clone(given),
        (Some(given), _) => Arc::new(Record::new(thread.clone(), given.data.clone()).made_as(given)),
        (None, Kind::ToolCompleted(tool, ToolEnd::Abandoned(ending))) => {
            let name = followed.and_then(|followed| followed.tools.get(&tool));
            Arc::new(Record::new(thread.clone(), payload::data_of_abandoned(tool, ending, name.map(|name| &**name))))
        }
        (None, _) => Arc::new(Record::new(thread.clone(), payload::data_of(kind))),
    };
    let _ = record.stamp(now);
    follow(open, run, kind, &record);
    Written { run, kind, record }
}
