//! A log on disk that keeps conversations: the output of runs is copied to a database, and conversations are read from
//! there.
//!
//! The log is designed for appending and resuming. Finding a thread's newest turns among a million, and deleting a
//! user's data permanently, are tasks for a database, so each does its own part. Sessions append to the log. Soon after
//! a run has ended, its new entries are copied to `conversations.db`, together with those of other runs. The log never
//! forgets an entry that was not copied. Entries that are *not* copied yet are read from the log. The offset between
//! the two is committed with the copy, so an entry is read exactly once, even after a crash at any point.
//! | event | result |
//! | --- | --- |
//! | a crash, or an error of the store, before the commit | nothing was copied; the copy is retried |
//! | a crash between the commit and the forgetting | the log has more than it needs |
//! | the log lost its end (a new epoch), which was copied | the copy is cut to its whole part; the rest is recopied |
//! | the log is another one | refused |
//! | the log is an older copy | a number that now means another user does not read the earlier one's content |
//!
//! A user's stream can be read from any offset, although pieces of a part are one entry in the store. The store knows
//! the boundaries of the pieces that were copied since its third version. For older ones, a page says where it cannot
//! be exact.
//!
//! A *deleted* thread leaves the store in the commit that copies its deletion, and then the store's journal. Until then
//! its rows are not read, because the log has the deletion. When the log is opened, users of whom it has more than was
//! copied are copied soon, because that may include a deletion.
//!
//! *Erasing* a user deletes from the store first, then from the log, and then entries that were copied in between.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use lockstep_model::session::MAX_PAST;
use lockstep_model::{Incarnation, MessageId, Offset, Tenure, UserId};
use tokio::sync::oneshot;

use super::conversations::{Page, Retention, Stale, ThreadPlace, Threads, Turns};
use super::disk::{DiskLog, Options, spawn};
use super::retention;
use super::{Acquired, Conversations, Held, Log, LogError, NotOpened, Written};
use crate::BoxFuture;
use crate::support::seldom::Seldom;
use crate::sync::lock;

mod keep;
mod keeper;
mod pack;
mod read;
mod schema;
mod store;

use self::keeper::{Job, Keeper};
use self::read::Kept;
use self::store::Store;

/// Threads that read from the store.
const READERS: usize = 2;

/// Queries that may wait; further queries are answered as unavailable.
const MAX_QUESTIONS: usize = 1_024;

/// A log in one directory, and the conversations copied from it in a file beside it.
pub struct KeptLog {
    log: Arc<DiskLog>,
    /// `None` only during drop.
    queues: Option<Queues>,
    threads: Vec<std::thread::JoinHandle<()>>,
    refusals: Arc<Seldom<&'static str>>,
}

struct Queues {
    keeper: mpsc::Sender<Job>,
    readers: mpsc::SyncSender<Question>,
}

type Question = Box<dyn FnOnce(&Store) + Send>;

impl KeptLog {
    /// Opens the log in `directory`, and the conversations in `directory/../conversations.db`, or creates them.
    ///
    /// # Errors
    ///
    /// [`NotOpened`], for a log or a store that is in use, damaged, belongs to another, or
    /// cannot be read or written.
    pub fn open(directory: &Path, options: &Options) -> Result<Self, NotOpened> {
        let log = Arc::new(DiskLog::open_with(directory, options)?);
        let path = directory.with_file_name("conversations.db");
        Self::with(log, &path, options.upkeep)
            .map_err(|error| format!("cannot open the conversations {}: {error}", path.display()).into())
    }

    fn with(log: Arc<DiskLog>, path: &Path, pause: Duration) -> Result<Self, String> {
        let mut store = Store::open(path, log.id())?;
        let mut behind: BTreeMap<UserId, Offset> = log.heads().into_iter().collect();
        let users = store.users().map_err(|error| error.to_string())?;
        for (user, high) in users {
            if behind.get(&user) == Some(&high) {
                behind.remove(&user);
            }
            let settled = match log.span(user) {
                Some((trimmed, head)) if head < high => store.cut(user, trimmed, head),
                Some(_) => Ok(()),
                None => store.erase(user),
            };
            settled.map_err(|error| error.to_string())?;
        }
        let (readers, questions) = mpsc::sync_channel(MAX_QUESTIONS);
        let questions = Arc::new(Mutex::new(questions));
        let mut threads = Vec::new();
        for _ in 0..READERS {
            let store = Store::connect(path).map_err(|error| error.to_string())?;
            let questions: Arc<Mutex<mpsc::Receiver<Question>>> = Arc::clone(&questions);
            threads.push(spawn("lockstep-read", move || {
                // The block releases the lock: the queue is locked while a thread waits, not while it reads.
                while let Ok(question) = { lock(&questions).recv() } {
                    question(&store);
                }
            })?);
        }
        let (keeper, jobs) = mpsc::channel();
        let writer = Keeper::new(Arc::clone(&log), store, path, pause);
        // The entries that were not copied may include a deletion.
        behind.retain(|_, head| *head > Offset(0));
        for (user, head) in behind {
            let _ = keeper.send(Job::Copy(user, head));
        }
        threads.push(spawn("lockstep-keep", move || writer.run(&jobs))?);
        let refusals = Arc::new(Seldom::new(Duration::from_secs(10)));
        Ok(Self { log, queues: Some(Queues { keeper, readers }), threads, refusals })
    }

    fn submit(&self, job: Job) {
        if let Some(queues) = &self.queues {
            let _ = queues.keeper.send(job);
        }
    }

    /// Deletes a user's data from the store.
    async fn erase_kept(&self, user: UserId) -> Result<(), LogError> {
        let (answer, answered) = oneshot::channel();
        self.submit(Job::Erase(user, answer));
        answered.await.map_err(|_| ended())?
    }

    /// Reads a user's data from the store and the log.
    fn of<T: Send + 'static>(
        &self,
        user: UserId,
        read: impl FnOnce(&mut Kept<'_>) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, LogError>> {
        let log = Arc::clone(&self.log);
        self.question(move |store| Kept::of(store, &log, user, read))
    }

    /// Returns the ids of the newest messages that the log has forgotten.
    fn past(&self, user: UserId, trimmed: Offset) -> BoxFuture<'static, Result<Vec<MessageId>, LogError>> {
        let (log, refusals) = (Arc::clone(&self.log), Arc::clone(&self.refusals));
        self.question(move |store| {
            let Some((subject, _)) = log.places(user) else { return Err(LogError::Fenced) };
            let kept = store.high(user, &subject).and_then(|high| match high {
                Some(_) => store.messages(user, trimmed, MAX_PAST),
                None => Ok(Vec::new()),
            });
            // The user is admitted anyway: the ids only protect from a client that sends an old message as a new one.
            Ok(kept.unwrap_or_else(|error| {
                if let Some(times) = refusals.say(&"past") {
                    tracing::warn!(%error, times, "earlier messages cannot be looked up; a repeated one may run again");
                }
                Vec::new()
            }))
        })
    }

    /// Runs a query on a reading thread.
    fn question<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Store) -> Result<T, LogError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, LogError>> {
        let (answer, answered) = oneshot::channel();
        let question: Question = Box::new(move |store| {
            let _ = answer.send(question(store));
        });
        let sent = self.queues.as_ref().is_some_and(|queues| queues.readers.try_send(question).is_ok());
        Box::pin(async move {
            if !sent {
                return Err(LogError::Unavailable("the read queue of conversations is full".to_owned()));
            }
            answered
                .await
                .map_err(|_| LogError::Unavailable("the reader thread of conversations has ended".to_owned()))?
        })
    }
}

impl core::fmt::Debug for KeptLog {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("KeptLog").field("log", &self.log).finish_non_exhaustive()
    }
}

impl Drop for KeptLog {
    /// Waits for work in progress. Entries that were not copied stay in the log.
    fn drop(&mut self) {
        self.queues = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn ended() -> LogError {
    LogError::Unavailable("the writer thread of conversations has ended".to_owned())
}

fn unavailable(error: &rusqlite::Error) -> LogError {
    LogError::Unavailable(format!("conversations: {error}"))
}

impl Log for KeptLog {
    fn user<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<UserId, LogError>> {
        self.log.user(subject)
    }

    fn subject(&self, user: UserId) -> BoxFuture<'_, Result<Arc<str>, LogError>> {
        self.log.subject(user)
    }

    fn acquire(&self, user: UserId, who: Incarnation) -> BoxFuture<'_, Result<Acquired, LogError>> {
        self.log.acquire(user, who)
    }

    fn restore(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<Held, LogError>> {
        Box::pin(async move {
            let mut held = self.log.restore(user, tenure).await?;
            let mut past = self.past(user, held.trimmed).await?;
            // The log knows the messages after `trimmed`.
            past.append(&mut held.past);
            held.past = past.split_off(past.len().saturating_sub(MAX_PAST));
            Ok(held)
        })
    }

    fn append(
        &self,
        user: UserId,
        tenure: Tenure,
        after: Offset,
        batch: Vec<Written>,
    ) -> BoxFuture<'_, Result<Vec<Offset>, LogError>> {
        let end = batch.iter().rposition(|entry| entry.kind.is_terminal());
        let appended = self.log.append(user, tenure, after, batch);
        Box::pin(async move {
            let offsets = appended.await?;
            if let Some(through) = end.and_then(|end| offsets.get(end)) {
                self.submit(Job::Copy(user, *through));
            }
            Ok(offsets)
        })
    }

    fn trim(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        let owned = self.log.owns(user, tenure);
        if owned.is_ok() {
            self.submit(Job::Trim(user, through));
        }
        Box::pin(core::future::ready(owned))
    }

    fn read(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        Log::read(&*self.log, user, tenure, through)
    }

    fn release(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<(), LogError>> {
        self.log.release(user, tenure)
    }

    fn erase(&self, user: UserId) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            self.erase_kept(user).await?;
            self.log.erase(user).await?;
            // Deletes entries that were copied in between.
            self.erase_kept(user).await
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<Duration, LogError>> {
        self.log.probe()
    }

    fn conversations(&self) -> Option<&dyn Conversations> {
        Some(self)
    }
}

impl Conversations for KeptLog {
    fn threads<'a>(
        &'a self,
        user: UserId,
        before: Option<&'a ThreadPlace>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Threads, LogError>> {
        let before = before.cloned();
        self.of(user, move |kept| kept.threads(before.as_ref(), limit))
    }

    fn turns<'a>(
        &'a self,
        user: UserId,
        thread: Option<&'a str>,
        before: Option<Offset>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Turns, LogError>> {
        let thread = thread.map(str::to_owned);
        self.of(user, move |kept| kept.turns(thread.as_deref(), before, limit))
    }

    fn rename<'a>(
        &'a self,
        user: UserId,
        thread: Option<&'a str>,
        title: Option<&'a str>,
    ) -> BoxFuture<'a, Result<bool, LogError>> {
        let (thread, title) = (thread.map(str::to_owned), title.map(str::to_owned));
        let (answer, answered) = oneshot::channel();
        self.submit(Job::Rename { user, thread, title, answer });
        Box::pin(async move { answered.await.map_err(|_| ended())? })
    }

    fn page(
        &self,
        user: UserId,
        after: Offset,
        through: Offset,
        bytes: usize,
    ) -> BoxFuture<'_, Result<Page, LogError>> {
        self.of(user, move |kept| kept.page(after, through, bytes))
    }

    fn stale(&self, retention: Retention, now: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Stale>, LogError>> {
        let log = Arc::clone(&self.log);
        self.question(move |store| {
            let most = |bound: Option<u64>| bound.unwrap_or(u64::MAX);
            let since = retention::since(&retention, now).unwrap_or_default();
            let users = store.over(since, most(retention.turns), most(retention.bytes));
            let (mut stale, mut failed) = (Vec::new(), None);
            for user in users.map_err(|error| unavailable(&error))? {
                match Kept::of(store, &log, user, |kept| kept.stale(&retention, now)) {
                    Ok(mut of_user) => stale.append(&mut of_user),
                    Err(LogError::Fenced) => {}
                    // Other users may still be readable.
                    Err(error) => failed = Some(error),
                }
                if stale.len() >= limit {
                    break;
                }
            }
            stale.truncate(limit);
            failed.filter(|_| stale.is_empty()).map_or(Ok(stale), Err)
        })
    }
}
