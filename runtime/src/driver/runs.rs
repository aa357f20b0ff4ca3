//! Running agents, and the progress of their runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use lockstep_model::run;
use lockstep_model::session::{self, Begin};
use lockstep_model::{Generation, Offset, Refusal, RunId, Stream, UserId};
use serde_json::value::RawValue;
use tracing::Instrument;

use super::{Core, Driver};
use crate::BoxFuture;
use crate::agent::history;
use crate::agent::{Agent, Exchange, Message, Paused, Reporter, Reports, Run, RunSink, SoFar, Step, Turn, Until};
use crate::log::conversations::Turns;
use crate::log::guarded::Guarded;
use crate::log::{Log, LogError, Written};
use crate::payload::{Payload, Received, Record};
use crate::support::sharded::Sharded;

/// How long an agent waits for its thread's history from the log.
const HISTORY: Duration = Duration::from_secs(5);

/// Shown if the beginning of a paused run cannot be read.
const UNREADABLE: &str = "What was said before the question can no longer be read.";

/// How many pages of turns are read for one agent.
const PAGES: usize = 8;

/// How many turns of a thread are read at a time to find a run's beginning.
const TURNS: usize = 16;

/// How long an agent may continue after it has ended its run.
const TIDY: Duration = Duration::from_secs(30);

/// Runs that have an agent, or notices that are in flight to the log, each with the reporter of its progress.
pub(super) struct Runs(Sharded<(UserId, RunId), (Generation, Reporter)>);

impl Runs {
    pub(super) fn new(shards: usize) -> Self {
        Self(Sharded::new(shards))
    }

    pub(super) fn len(&self) -> usize {
        let mut runs = 0;
        self.0.each(|shard| runs += shard.len());
        runs
    }

    pub(super) fn open(&self, user: UserId, generation: Generation, run: RunId) -> Reports {
        let reporter = Reporter::default();
        let reports = reporter.reports();
        self.0.lock(&(user, run)).insert((user, run), (generation, reporter));
        reports
    }

    /// Removes an entry that is no longer awaited.
    pub(super) fn close(&self, user: UserId, run: RunId) {
        self.0.lock(&(user, run)).remove(&(user, run));
    }

    /// Counts a durable event of the run. Returns false if the run is unknown.
    pub(super) fn durable(&self, user: UserId, generation: Generation, run: RunId, last: bool) -> bool {
        let mut runs = self.0.lock(&(user, run));
        let Some((known, progress)) = runs.get(&(user, run)) else { return false };
        if *known == generation {
            progress.report(|progress| {
                progress.durable += 1;
                progress.last |= last;
            });
            if last {
                runs.remove(&(user, run));
            }
        }
        true
    }

    /// The run's machine has ended.
    pub(super) fn halt(&self, user: UserId, generation: Generation, run: RunId) {
        if let Some((known, progress)) = self.0.lock(&(user, run)).get(&(user, run))
            && *known == generation
        {
            progress.report(|progress| progress.halted = true);
        }
    }

    /// The session is lost, and its runs with it.
    pub(super) fn lose(&self, user: UserId, generation: Generation) {
        self.0.each(|runs| {
            runs.retain(|(owner, _), (known, progress)| {
                let lost = *owner == user && *known == generation;
                if lost {
                    progress.report(|progress| progress.lost = true);
                }
                !lost
            });
        });
    }
}

impl Driver {
    /// Gives a durable message to the agent.
    pub(super) fn launch(
        &self,
        user: UserId,
        generation: Generation,
        (run, begin): (RunId, Begin),
        payload: Option<&Payload>,
    ) {
        let progress = self.runs.open(user, generation, run);
        let sink =
            Arc::new(SessionSink { core: Weak::clone(&self.core), log: Arc::clone(&self.log), user, generation });
        let record = payload.and_then(Payload::record).cloned();
        let thread = record.as_ref().and_then(|record| record.thread.clone());
        // From here on, the run has a handle, and dropping it ends the run.
        let handle = Run::new(run, thread, sink, progress.clone());
        let (began, silent) = (Instant::now(), AtomicBool::new(true));
        let (first_token, whole) = (self.instruments.first_token.clone(), self.instruments.run.clone());
        let handle = handle.watched(move |_| {
            if silent.swap(false, Ordering::Relaxed) {
                first_token.record(began.elapsed());
            }
        });
        let (agent, log) = (Arc::clone(&self.agent), Arc::clone(&self.log));
        self.instruments.runs.increment(1);
        self.runtime.spawn(async move {
            let span = tracing::info_span!("run", run = %crate::wire::hex(run.0), user = user.0);
            answer(&*agent, &*log, (user, record, begin), handle, progress).instrument(span).await;
            whole.record(began.elapsed());
        });
    }
}

/// Lets the agent answer until the run has ended.
async fn answer(
    agent: &dyn Agent,
    log: &dyn Log,
    (user, record, begin): (UserId, Option<Arc<Record>>, Begin),
    handle: Run,
    progress: Reports,
) {
    let Ok(subject) = log.subject(user).await else { return };
    let thread = record.as_ref().and_then(|record| record.thread.clone());
    let ending = handle.ending();
    let mut answer = match begin {
        Begin::Resumed => match paused(record.as_deref(), thread, subject, &handle).await {
            Some(paused) => agent.resume(paused, handle),
            None => Box::pin(async {
                // If the run is over, the user has been told why.
                let _ = handle.fail(UNREADABLE).await;
            }),
        },
        Begin::New | Begin::Queued => {
            let Some(message) = message(record.as_deref(), thread, subject) else { return };
            // A queued run's `agent_started` is already in the stream.
            if begin == Begin::New && handle.begin().is_err() {
                return;
            }
            agent.answer(message, handle)
        }
    };
    tokio::select! {
        () = &mut answer => return,
        Some(_) = progress.wait(Until::Halted) => {}
    }
    if ending.load(Ordering::Acquire) {
        // The agent ended the run itself, and may clean up.
        let _ = tokio::time::timeout(TIDY, answer).await;
    } else {
        tracing::debug!("the run ended before its agent did");
    }
}

/// The paused run that a reply resumes.
async fn paused(record: Option<&Record>, thread: Option<Arc<str>>, subject: Arc<str>, handle: &Run) -> Option<Paused> {
    let (turn, id) = handle.so_far().await?;
    let Some(Step::Asked(Exchange { request, reply: Some(_) })) = turn.steps.last() else { return None };
    let request = RawValue::from_string(request.clone()).ok()?;
    let reply = history::reply(record?)?;
    let message = Message { subject, id, thread, payload: turn.message.clone() };
    Some(Paused { message, request, reply, turn })
}

fn message(record: Option<&Record>, thread: Option<Arc<str>>, subject: Arc<str>) -> Option<Message> {
    let received: Received<'_> = serde_json::from_str(record?.data.get()).ok()?;
    Some(Message { subject, id: received.message_id, thread, payload: received.payload.to_owned() })
}

/// Emits for the runs of one session.
struct SessionSink {
    core: Weak<Core>,
    log: Arc<Guarded>,
    user: UserId,
    generation: Generation,
}

impl RunSink for SessionSink {
    fn emit(&self, run: RunId, input: run::Input, payload: Option<Payload>) -> Result<(), Refusal> {
        let core = self.core.upgrade().ok_or(Refusal::Retired)?;
        core.session(self.user, self.generation, session::Input::Run { run, input, payload }).map(|_| ())
    }

    fn room(&self) -> BoxFuture<'static, ()> {
        match self.core.upgrade() {
            // A run that has another owner has ended here.
            Some(core) => Box::pin(core.effects().backpressure.wait(self.user).map(|_| ())),
            None => Box::pin(core::future::ready(())),
        }
    }

    fn silence(&self) -> Duration {
        self.core.upgrade().map_or(Duration::MAX, |core| core.bounds().silence)
    }

    fn so_far<'a>(&'a self, run: RunId, thread: Option<&'a str>) -> BoxFuture<'a, Option<SoFar>> {
        Box::pin(async move {
            let read = |entries: &[_]| {
                let so_far = history::so_far(entries, run);
                let is_enough = so_far.is_some();
                (so_far, is_enough)
            };
            let kept = self.read(thread, TURNS, read).await;
            kept.or_else(|| history::so_far(&self.retained(thread), run))
        })
    }

    fn history<'a>(&'a self, run: RunId, thread: Option<&'a str>, limit: usize) -> BoxFuture<'a, Vec<Turn>> {
        Box::pin(async move {
            let Some(queued) = self.core.upgrade().map(|core| core.bounds().queued) else { return Vec::new() };
            // The run itself, and the queued runs behind it. Some turns on a page may be superseded.
            let more = queued.saturating_add(1);
            let read = |entries: &[(_, _)]| {
                let turns = history::turns(entries.iter().cloned(), run);
                let is_enough = turns.len() >= limit;
                (turns, is_enough)
            };
            let mut turns = self.read(thread, limit.saturating_add(more), read).await;
            turns.drain(..turns.len().saturating_sub(limit));
            turns
        })
    }
}

/// Entries of a thread, in order.
type Entries = [(Offset, Written)];

impl SessionSink {
    /// Returns what `read` makes of the thread's newest entries: those that the log keeps, or else those that the
    /// session has in memory.
    async fn read<T>(&self, thread: Option<&str>, turns: usize, read: impl Fn(&Entries) -> (T, bool)) -> T {
        let late = |_| Err(LogError::Unavailable("it did not answer in time".to_owned()));
        match tokio::time::timeout(HISTORY, self.kept(thread, turns, &read)).await.unwrap_or_else(late) {
            Ok(Some(found)) => return found,
            Ok(None) => {}
            Err(error) => {
                if let Some(times) = self.log.refusals.say(&"history") {
                    tracing::warn!(user = self.user.0, %error, times, "agents get only retained turns as history");
                }
            }
        }
        read(&self.retained(thread)).0
    }

    /// Reads pages of this many turns, from the newest one back, until `read` has enough, or the newest [`PAGES`] pages
    /// are read.
    async fn kept<T>(
        &self,
        thread: Option<&str>,
        turns: usize,
        read: &impl Fn(&Entries) -> (T, bool),
    ) -> Result<Option<T>, LogError> {
        let (mut entries, mut found, mut before) = (Vec::new(), None, None);
        let Some(conversations) = self.log.conversations() else { return Ok(None) };
        for _ in 0..PAGES {
            let Turns { entries: mut earlier, next } = conversations.turns(self.user, thread, before, turns).await?;
            earlier.append(&mut entries);
            (entries, before) = (earlier, next);
            let (made, is_enough) = read(&entries);
            found = Some(made);
            if before.is_none() || is_enough {
                break;
            }
        }
        Ok(found)
    }

    /// Returns the entries of the thread that the session has in memory.
    fn retained(&self, thread: Option<&str>) -> Vec<(Offset, Written)> {
        let Some(core) = self.core.upgrade() else { return Vec::new() };
        let entries = core.look(self.user, |_, session| {
            let entries = session.stream().into_iter().flat_map(Stream::entries);
            let of_thread = entries.filter_map(|entry| {
                let record = entry.event.payload.as_ref().and_then(Payload::record)?;
                let (run, kind) = (entry.event.run, entry.event.kind);
                let written = || Written { run, kind, record: Arc::clone(record) };
                (record.thread.as_deref() == thread).then(|| (entry.offset, written()))
            });
            of_thread.collect::<Vec<_>>()
        });
        entries.unwrap_or_default()
    }
}
