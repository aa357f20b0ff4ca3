//! A log on the disk that keeps conversations: what is trimmed of it moves to a store, and is read from there.
//!
//! The log is made for appending and for resuming; finding a thread's newest turns among a million, or deleting one for good, is a
//! store's work. So each does its own. What sessions append is in the log alone, until nothing needs it for resuming
//! any more; then it is put into `conversations.db`, and when that is on the disk, the log forgets it. A crash between the two
//! leaves it in both, and it is put in again. So an entry is always in one of them, and where it is in both, the log's counts.
//!
//! | what happens | what there is |
//! | --- | --- |
//! | a crash, or an error of the store, before the commit | the log has it; it is tried again |
//! | a crash between the commit and the forgetting | the log's end decides; the next commit takes the place of this one |
//! | the log has lost its end (a new epoch) | what the store has behind that end is deleted when it is opened |
//! | the log is another one, or an older copy | refused; a number that means another user now reads nothing of the earlier one |
//!
//! *Erasing* a user deletes from the store first, then from the log, and then what moved in between.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use lockstep_model::{Offset, RunId, Tenure, UserId};
use tokio::sync::oneshot;

use super::conversations::{self, ThreadPlace, Threads, Turns};
use super::disk::{DiskLog, Options};
use super::{Acquired, Held, Log, LogError, Written};
use crate::seldom::Seldom;
use crate::sync::lock;
use crate::verify::BoxFuture;

mod store;

use self::store::{Store, Trimmed};

/// Threads that read from the store.
const READERS: usize = 2;

/// Questions that may wait; more are answered as unavailable.
const MAX_QUESTIONS: usize = 1_024;

/// Users of whom one commit takes something.
const MAX_USERS: usize = 256;

/// A log in one directory, and what was trimmed of it in the file beside it.
#[derive(Debug)]
pub struct KeptLog {
    log: Arc<DiskLog>,
    /// `None` only while this is dropped.
    queues: Option<Queues>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Queues {
    keeper: mpsc::Sender<Order>,
    readers: mpsc::SyncSender<Question>,
}

type Question = Box<dyn FnOnce(&Store) + Send>;

/// What is asked of the thread that writes to the store.
enum Order {
    Trim(UserId, Offset),
    Erase(UserId, oneshot::Sender<Result<(), LogError>>),
}

impl KeptLog {
    /// Opens the log in `directory`, and the conversations in `directory/../conversations.db`, or begins them.
    ///
    /// # Errors
    ///
    /// A sentence with the path and what to do, for a log or a store that is in use, damaged, belongs to another, or cannot
    /// be read or written.
    pub fn open(directory: &Path, options: &Options) -> Result<Self, String> {
        let log = Arc::new(DiskLog::open_with(directory, options)?);
        let path = directory.with_file_name("conversations.db");
        Self::with(log, &path, options.upkeep)
            .map_err(|error| format!("cannot open the conversations {}: {error}", path.display()))
    }

    fn with(log: Arc<DiskLog>, path: &Path, pause: Duration) -> Result<Self, String> {
        let mut store = Store::open(path, log.id())?;
        let users = store.users().map_err(|error| error.to_string())?;
        for (user, high) in users {
            let settled = match log.head(user) {
                Some(head) if head < high => store.cut(user, head),
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
                // A statement of its own: the queue is locked while a thread waits, not while it reads.
                while let Ok(question) = { lock(&questions).recv() } {
                    question(&store);
                }
            })?);
        }
        let (keeper, orders) = mpsc::channel();
        let keeping = Keeper { log: Arc::clone(&log), store, path: path.to_owned(), trimmed: BTreeMap::new(), pause };
        threads.push(spawn("lockstep-keep", move || keeping.run(&orders))?);
        Ok(Self { log, queues: Some(Queues { keeper, readers }), threads })
    }

    fn order(&self, order: Order) {
        if let Some(queues) = &self.queues {
            let _ = queues.keeper.send(order);
        }
    }

    /// Deletes what the store has of a user.
    async fn erase_kept(&self, user: UserId) -> Result<(), LogError> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Erase(user, answer));
        answered.await.map_err(|_| LogError::Unavailable("the thread that keeps conversations has ended".to_owned()))?
    }

    /// Reads, with what the log holds of the user and whether the store knows it by its name.
    fn read<T: Send + 'static>(
        &self,
        user: UserId,
        read: impl FnOnce(&Kept<'_>, Held) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, LogError>> {
        let (answer, answered) = oneshot::channel();
        let log = Arc::clone(&self.log);
        let question: Question = Box::new(move |store| {
            let _ = answer.send(Kept::of(store, &log, user, read));
        });
        let sent = self.queues.as_ref().is_some_and(|queues| queues.readers.try_send(question).is_ok());
        Box::pin(async move {
            if !sent {
                return Err(LogError::Unavailable("as many wait for conversations as may".to_owned()));
            }
            answered.await.map_err(|_| LogError::Unavailable("the thread that reads has ended".to_owned()))?
        })
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>, String> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| error.to_string())
}

impl Drop for KeptLog {
    /// Waits for what is under way. What was trimmed and is not in the store stays in the log.
    fn drop(&mut self) {
        self.queues = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// What the store has of one user.
struct Kept<'a> {
    /// `None` if it has nothing.
    store: Option<&'a Store>,
    user: UserId,
}

impl Kept<'_> {
    fn of<T>(
        store: &Store,
        log: &DiskLog,
        user: UserId,
        read: impl FnOnce(&Kept<'_>, Held) -> Result<T, rusqlite::Error>,
    ) -> Result<T, LogError> {
        // First the log: what moves from there to the store after this is in `held`, and not read twice.
        let Some((subject, held)) = log.look(user)? else { return Err(LogError::Fenced) };
        let read =
            store.knows(user, &subject).and_then(|known| read(&Kept { store: known.then_some(store), user }, held));
        // What was erased meanwhile is not given out.
        if log.head(user).is_none() {
            return Err(LogError::Fenced);
        }
        read.map_err(|error| unavailable(&error))
    }

    fn threads(&self, held: &Held, before: Option<&ThreadPlace>, limit: usize) -> Result<Threads, rusqlite::Error> {
        let mut threads = conversations::threads_of(&held.entries);
        let Some(store) = self.store else { return Ok(conversations::page_of(threads, before, limit)) };
        for thread in &mut threads {
            thread.title = store.title(self.user, thread.name.as_deref())?.or(thread.title.take());
        }
        let names: BTreeSet<_> = threads.iter().map(|thread| thread.name.clone()).collect();
        let mut kept = store.threads(self.user, before, limit + names.len() + 1)?;
        kept.retain(|thread| !names.contains(&thread.name));
        threads.append(&mut kept);
        Ok(conversations::page_of(threads, before, limit))
    }

    fn turns(
        &self,
        held: Held,
        thread: Option<&str>,
        before: Option<Offset>,
        limit: usize,
    ) -> Result<Turns, rusqlite::Error> {
        let trimmed = held.trimmed;
        let Some(store) = self.store else { return Ok(conversations::turns_of(held, thread, before, limit)) };
        let mut of_log = conversations::runs_of(held.entries, thread);
        let mut begun: Vec<(Offset, RunId)> = Vec::new();
        for (run, entries) in &of_log {
            let first = entries.first().map_or(Offset(0), |(offset, _)| *offset);
            // Part of it may be in the store.
            let begin = store.begin(self.user, *run)?.filter(|begin| *begin <= trimmed);
            begun.push((begin.unwrap_or(first), *run));
        }
        begun.retain(|(begin, _)| before.is_none_or(|before| *begin < before));
        let end = before.unwrap_or(Offset(u64::MAX)).min(Offset(trimmed.0.saturating_add(1)));
        for kept in store.runs(self.user, thread, end, limit + 1)? {
            if !of_log.contains_key(&kept.run) {
                begun.push((kept.begin, kept.run));
            }
        }
        begun.sort_unstable_by(|a, b| b.cmp(a));
        let more = begun.len() > limit;
        begun.truncate(limit);
        let next = begun.last().filter(|_| more).map(|(begin, _)| *begin);
        let mut runs = Vec::with_capacity(begun.len());
        for (_, run) in begun {
            let mut entries = store.events(self.user, run, trimmed)?;
            entries.append(&mut of_log.remove(&run).unwrap_or_default());
            runs.push(entries);
        }
        Ok(Turns { entries: conversations::in_order(runs), next })
    }
}

fn unavailable(error: &rusqlite::Error) -> LogError {
    LogError::Unavailable(format!("conversations: {error}"))
}

/// The thread that writes to the store.
struct Keeper {
    log: Arc<DiskLog>,
    store: Store,
    path: PathBuf,
    /// Up to where the log may forget what the store has.
    trimmed: BTreeMap<UserId, Offset>,
    /// How long what is trimmed waits for more.
    pause: Duration,
}

impl Keeper {
    fn run(mut self, orders: &mpsc::Receiver<Order>) {
        let refusals = Seldom::new(Duration::from_secs(10));
        let mut due: Option<Instant> = None;
        loop {
            let order = match due {
                None => orders.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                Some(due) => orders.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match order {
                Ok(Order::Trim(user, through)) => {
                    let trimmed = self.trimmed.entry(user).or_default();
                    *trimmed = through.max(*trimmed);
                    due.get_or_insert_with(|| Instant::now() + self.pause);
                }
                Ok(Order::Erase(user, answer)) => {
                    self.trimmed.remove(&user);
                    let _ = answer.send(self.store.erase(user).map_err(|error| unavailable(&error)));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if let Err(error) = self.keep()
                        && let Some(times) = refusals.say(&"keep")
                    {
                        let path = self.path.display();
                        tracing::warn!(%error, %path, times, "conversations cannot be kept now; they stay in the log");
                    }
                    due = (!self.trimmed.is_empty()).then(|| Instant::now() + self.pause);
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Moves what was trimmed of some users from the log to the store.
    fn keep(&mut self) -> Result<(), LogError> {
        let users: Vec<(UserId, Offset)> = self.trimmed.iter().take(MAX_USERS).map(|(user, to)| (*user, *to)).collect();
        let (mut found, mut failed) = (Vec::new(), Ok(()));
        for (user, through) in &users {
            match self.log.trimmable(*user, *through) {
                Ok(trimmable) => found.extend(trimmable.map(|trimmable| (*user, *through, trimmable))),
                Err(error) => failed = Err(error),
            }
        }
        let trimmed = found.iter_mut().map(|(user, through, (subject, held))| Trimmed {
            user: *user,
            subject,
            behind: held.trimmed,
            through: *through,
            entries: core::mem::take(&mut held.entries),
        });
        self.store.keep(trimmed.collect()).map_err(|error| unavailable(&error))?;
        for (user, through, _) in &found {
            self.log.forget(*user, *through);
        }
        for (user, _) in &users {
            self.trimmed.remove(user);
        }
        failed
    }
}

impl Log for KeptLog {
    fn user<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<UserId, LogError>> {
        self.log.user(subject)
    }

    fn subject(&self, user: UserId) -> BoxFuture<'_, Result<Arc<str>, LogError>> {
        self.log.subject(user)
    }

    fn acquire(&self, user: UserId) -> BoxFuture<'_, Result<Acquired, LogError>> {
        self.log.acquire(user)
    }

    fn restore(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<Held, LogError>> {
        self.log.restore(user, tenure)
    }

    fn append(
        &self,
        user: UserId,
        tenure: Tenure,
        after: Offset,
        batch: Vec<Written>,
    ) -> BoxFuture<'_, Result<Vec<Offset>, LogError>> {
        self.log.append(user, tenure, after, batch)
    }

    fn trim(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        let owned = self.log.owns(user, tenure);
        if owned.is_ok() {
            self.order(Order::Trim(user, through));
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
            // What moved between the two.
            self.erase_kept(user).await
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<Duration, LogError>> {
        self.log.probe()
    }

    fn threads<'a>(
        &'a self,
        user: UserId,
        before: Option<&'a ThreadPlace>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<Threads>, LogError>> {
        let before = before.cloned();
        let threads = self.read(user, move |kept, held| kept.threads(&held, before.as_ref(), limit));
        Box::pin(async move { threads.await.map(Some) })
    }

    fn turns<'a>(
        &'a self,
        user: UserId,
        thread: Option<&'a str>,
        before: Option<Offset>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<Turns>, LogError>> {
        let thread = thread.map(str::to_owned);
        let turns = self.read(user, move |kept, held| kept.turns(held, thread.as_deref(), before, limit));
        Box::pin(async move { turns.await.map(Some) })
    }
}
