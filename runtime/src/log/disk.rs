//! A log in one file: an embedded store with transactions ([`redb`]), written by one thread.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `about` | name | epoch |
//! | `users` | subject | number |
//! | `subjects` | number | subject |
//! | `streams` | user | trimmed, head |
//! | `tenures` | user | newest generation, and 1 while it is held |
//! | `reads` | user | how far a reader has come |
//! | `entries` | user, offset | generation, run, kind, thread, time and data, as JSON |
//!
//! Appends of all users that arrive while a transaction is being made durable share the next one, so that the cost of a
//! sync is spread over them, and an append is answered after its own transaction is durable. The time of the last commit
//! is what [`Log::probe`] tells.

use core::time::Duration;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use lockstep_model::run::Kind;
use lockstep_model::{Epoch, Generation, Offset, RunId, Tenure, UserId};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::{Acquired, Held, Log, LogError, Written, already_there};
use crate::payload::{Record, now_ms};
use crate::verify::BoxFuture;

const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
const USERS: TableDefinition<'_, &str, u64> = TableDefinition::new("users");
const SUBJECTS: TableDefinition<'_, u64, &str> = TableDefinition::new("subjects");
const STREAMS: TableDefinition<'_, u64, (u64, u64)> = TableDefinition::new("streams");
const TENURES: TableDefinition<'_, u64, (u32, u64)> = TableDefinition::new("tenures");
const READS: TableDefinition<'_, u64, u64> = TableDefinition::new("reads");
const ENTRIES: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("entries");

/// Requests that may wait for the writing thread; more are answered as unavailable.
const MAX_QUEUE: usize = 16_384;

/// Requests that share one transaction at most.
const MAX_BATCH: usize = 4_096;

/// A log in one file.
#[derive(Debug)]
pub struct DiskLog {
    writer: mpsc::SyncSender<Write>,
    database: Arc<Database>,
    commit_us: Arc<AtomicU64>,
}

/// What the writing thread does.
enum Write {
    User(String, Answer<UserId>),
    Acquire(UserId, Answer<Acquired>),
    Append(UserId, Tenure, Offset, Vec<Written>, Answer<Vec<Offset>>),
    Trim(UserId, Tenure, Offset, Answer<()>),
    Read(UserId, Tenure, Offset, Answer<()>),
    Release(UserId, Tenure, Answer<()>),
    Erase(UserId, Answer<()>),
    Sync(Answer<()>),
}

type Answer<T> = oneshot::Sender<Result<T, LogError>>;

/// An entry as the file holds it.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    #[serde(default)]
    generation: u32,
    run: u64,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    thread: Option<Arc<str>>,
    at: u64,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl DiskLog {
    /// Opens the log, or begins one, with a new epoch, if the file does not exist. With `sync`, an append is answered
    /// when the file system says that it is on the disk; without, when the operating system has it.
    ///
    /// # Errors
    ///
    /// A sentence with the path, for a file that is not a log, is in use, or cannot be read or written.
    pub fn open(path: &Path, sync: bool) -> Result<Self, String> {
        let fail = |error: &dyn core::fmt::Display| format!("cannot open the log {}: {error}", path.display());
        let database = Database::create(path).map_err(|error| fail(&error))?;
        let epoch = begin(&database).map_err(|error| fail(&error))?;
        let (database, commit_us) = (Arc::new(database), Arc::new(AtomicU64::new(0)));
        let (writer, queue) = mpsc::sync_channel(MAX_QUEUE);
        let durability = if sync { Durability::Immediate } else { Durability::None };
        let thread = Writer { database: Arc::clone(&database), durability, epoch, commit_us: Arc::clone(&commit_us) };
        std::thread::Builder::new()
            .name("lockstep-log".to_owned())
            .spawn(move || thread.run(&queue))
            .map_err(|error| fail(&error))?;
        Ok(Self { writer, database, commit_us })
    }

    fn ask<T: Send + 'static>(
        &self,
        write: impl FnOnce(Answer<T>) -> Write,
    ) -> BoxFuture<'static, Result<T, LogError>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.writer.try_send(write(answer));
        Box::pin(async move {
            sent.map_err(|_| unavailable(&"as much waits to be written as may"))?;
            answered.await.map_err(|_| unavailable(&"the writing thread has ended"))?
        })
    }
}

impl Log for DiskLog {
    fn user<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<UserId, LogError>> {
        Box::pin(async move {
            match find(&self.database, subject).map_err(|error| unavailable(&error))? {
                Some(user) => Ok(user),
                None => self.ask(|answer| Write::User(subject.to_owned(), answer)).await,
            }
        })
    }

    fn subject(&self, user: UserId) -> BoxFuture<'_, Result<Arc<str>, LogError>> {
        let subject = name(&self.database, user).map_err(|error| unavailable(&error));
        let subject = subject.and_then(|subject| subject.ok_or_else(|| unavailable(&"the user is unknown")));
        Box::pin(core::future::ready(subject))
    }

    fn acquire(&self, user: UserId) -> BoxFuture<'_, Result<Acquired, LogError>> {
        self.ask(|answer| Write::Acquire(user, answer))
    }

    fn restore(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<Held, LogError>> {
        let database = Arc::clone(&self.database);
        Box::pin(async move {
            tokio::task::spawn_blocking(move || read(&database, user, tenure))
                .await
                .map_err(|error| unavailable(&error))?
                .map_err(|error| unavailable(&error))?
        })
    }

    fn append(
        &self,
        user: UserId,
        tenure: Tenure,
        after: Offset,
        batch: Vec<Written>,
    ) -> BoxFuture<'_, Result<Vec<Offset>, LogError>> {
        self.ask(|answer| Write::Append(user, tenure, after, batch, answer))
    }

    fn trim(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        self.ask(|answer| Write::Trim(user, tenure, through, answer))
    }

    fn read(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        self.ask(|answer| Write::Read(user, tenure, through, answer))
    }

    fn release(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<(), LogError>> {
        self.ask(|answer| Write::Release(user, tenure, answer))
    }

    fn erase(&self, user: UserId) -> BoxFuture<'_, Result<(), LogError>> {
        self.ask(|answer| Write::Erase(user, answer))
    }

    fn probe(&self) -> BoxFuture<'_, Result<Duration, LogError>> {
        let synced = self.ask(Write::Sync);
        Box::pin(async move {
            synced.await?;
            Ok(Duration::from_micros(self.commit_us.load(Ordering::Relaxed)))
        })
    }
}

fn unavailable(error: &dyn core::fmt::Display) -> LogError {
    LogError::Unavailable(error.to_string())
}

/// Makes the tables, and gives a new log its epoch.
fn begin(database: &Database) -> Result<Epoch, redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(USERS)?;
    transaction.open_table(SUBJECTS)?;
    transaction.open_table(STREAMS)?;
    transaction.open_table(TENURES)?;
    transaction.open_table(READS)?;
    transaction.open_table(ENTRIES)?;
    let epoch = {
        let mut about = transaction.open_table(ABOUT)?;
        let known = about.get("epoch")?.map(|epoch| epoch.value());
        let epoch = known.unwrap_or_else(now_ms);
        if known.is_none() {
            about.insert("epoch", epoch)?;
        }
        epoch
    };
    transaction.commit()?;
    Ok(Epoch(epoch))
}

fn find(database: &Database, subject: &str) -> Result<Option<UserId>, redb::Error> {
    let users = database.begin_read()?.open_table(USERS)?;
    Ok(users.get(subject)?.map(|user| UserId(user.value())))
}

fn name(database: &Database, user: UserId) -> Result<Option<Arc<str>>, redb::Error> {
    let subjects = database.begin_read()?.open_table(SUBJECTS)?;
    Ok(subjects.get(user.0)?.map(|subject| Arc::from(subject.value())))
}

fn read(database: &Database, user: UserId, tenure: Tenure) -> Result<Result<Held, LogError>, redb::Error> {
    let transaction = database.begin_read()?;
    let newest = transaction.open_table(TENURES)?.get(user.0)?.map(|tenure| tenure.value());
    if newest != Some((tenure.generation.0, 1)) {
        return Ok(Err(LogError::Fenced));
    }
    let read = transaction.open_table(READS)?.get(user.0)?.map_or(0, |read| read.value());
    let (trimmed, _) = transaction.open_table(STREAMS)?.get(user.0)?.map_or((0, 0), |stream| stream.value());
    let table = transaction.open_table(ENTRIES)?;
    let mut entries = Vec::new();
    for entry in table.range((user.0, 0)..=(user.0, u64::MAX))? {
        let (key, value) = entry?;
        let offset = Offset(key.value().1);
        entries.push((offset, decode(value.value()).ok_or_else(|| corrupted(user, offset))?.1));
    }
    Ok(Ok(Held { trimmed: Offset(trimmed), read: Offset(read), entries }))
}

fn corrupted(user: UserId, offset: Offset) -> redb::Error {
    redb::Error::Corrupted(format!("entry {} of user {} is not an event", offset.0, user.0))
}

fn decode(bytes: &[u8]) -> Option<(Generation, Written)> {
    let stored: Stored<'_> = serde_json::from_slice(bytes).ok()?;
    let record = Record::written(stored.thread, stored.data.to_owned(), stored.at);
    let written = Written { run: RunId(stored.run), kind: stored.kind, record: Arc::new(record) };
    Some((Generation(stored.generation), written))
}

fn encode(generation: Generation, entry: &Written) -> Result<Vec<u8>, LogError> {
    let Record { thread, at, data, .. } = &*entry.record;
    let stored =
        Stored { generation: generation.0, run: entry.run.0, kind: entry.kind, thread: thread.clone(), at: *at, data };
    serde_json::to_vec(&stored).map_err(|error| unavailable(&error))
}

/// The one thread that writes.
struct Writer {
    database: Arc<Database>,
    durability: Durability,
    epoch: Epoch,
    commit_us: Arc<AtomicU64>,
}

/// What is sent when the transaction is durable, or has failed.
type Reply = Box<dyn FnOnce(Result<(), LogError>) + Send>;

impl Writer {
    fn run(&self, queue: &mpsc::Receiver<Write>) {
        while let Ok(first) = queue.recv() {
            let began = Instant::now();
            let mut replies = Vec::new();
            let writes = core::iter::once(first).chain(queue.try_iter().take(MAX_BATCH - 1));
            let written = self.transact(writes, &mut replies).map_err(|error| unavailable(&error));
            let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.commit_us.store(took, Ordering::Relaxed);
            for reply in replies {
                reply(written.clone());
            }
        }
    }

    /// Does all of it in one transaction. If that fails, nothing of it has happened, and everybody is told so.
    fn transact(&self, writes: impl Iterator<Item = Write>, replies: &mut Vec<Reply>) -> Result<(), redb::Error> {
        // Even when the transaction cannot begin, what was asked must be taken from the queue and answered.
        let writes: Vec<Write> = writes.collect();
        let mut transaction = self.database.begin_write().inspect_err(|error| {
            tracing::error!(%error, "the log cannot begin a transaction");
        });
        if let Ok(transaction) = &mut transaction {
            transaction.set_durability(self.durability)?;
        }
        let mut failed = None;
        for write in writes {
            let transaction = transaction.as_ref().ok();
            match write {
                Write::User(subject, answer) => {
                    answer_later(answer, replies, transaction, &mut failed, |transaction| {
                        enroll(transaction, &subject)
                    });
                }
                Write::Acquire(user, answer) => {
                    answer_later(answer, replies, transaction, &mut failed, |transaction| {
                        acquire(transaction, self.epoch, user)
                    });
                }
                Write::Append(user, tenure, after, batch, answer) => {
                    answer_later(answer, replies, transaction, &mut failed, |transaction| {
                        append(transaction, user, tenure, after, &batch)
                    });
                }
                Write::Trim(user, tenure, through, answer) => {
                    answer_later(answer, replies, transaction, &mut failed, |transaction| {
                        trim(transaction, user, tenure, through)
                    });
                }
                Write::Read(user, tenure, through, answer) => {
                    answer_later(answer, replies, transaction, &mut failed, |transaction| {
                        note(transaction, user, tenure, through)
                    });
                }
                Write::Release(user, tenure, answer) => {
                    answer_later(answer, replies, transaction, &mut failed, |transaction| {
                        release(transaction, user, tenure)
                    });
                }
                Write::Erase(user, answer) => {
                    answer_later(answer, replies, transaction, &mut failed, |transaction| erase(transaction, user));
                }
                Write::Sync(answer) => answer_later(answer, replies, transaction, &mut failed, |_| Ok(Ok(()))),
            }
        }
        let transaction = transaction?;
        match failed {
            Some(error) => Err(error),
            None => Ok(transaction.commit()?),
        }
    }
}

/// Does one write, and remembers whom to tell once it is durable.
fn answer_later<T: Send + 'static>(
    answer: Answer<T>,
    replies: &mut Vec<Reply>,
    transaction: Option<&WriteTransaction>,
    failed: &mut Option<redb::Error>,
    write: impl FnOnce(&WriteTransaction) -> Result<Result<T, LogError>, redb::Error>,
) {
    let result = match (transaction, &failed) {
        (Some(transaction), None) => match write(transaction) {
            Ok(result) => result,
            Err(error) => {
                let told = unavailable(&error);
                *failed = Some(error);
                Err(told)
            }
        },
        (_, _) => Err(unavailable(&"the transaction has failed")),
    };
    replies.push(Box::new(move |written| {
        // Whoever asked may be gone.
        let _ = answer.send(written.and(result));
    }));
}

fn enroll(transaction: &WriteTransaction, subject: &str) -> Result<Result<UserId, LogError>, redb::Error> {
    let mut users = transaction.open_table(USERS)?;
    if let Some(user) = users.get(subject)? {
        return Ok(Ok(UserId(user.value())));
    }
    let mut about = transaction.open_table(ABOUT)?;
    let next = about.get("users")?.map_or(0, |users| users.value()) + 1;
    about.insert("users", next)?;
    users.insert(subject, next)?;
    transaction.open_table(SUBJECTS)?.insert(next, subject)?;
    Ok(Ok(UserId(next)))
}

fn acquire(
    transaction: &WriteTransaction,
    epoch: Epoch,
    user: UserId,
) -> Result<Result<Acquired, LogError>, redb::Error> {
    if transaction.open_table(SUBJECTS)?.get(user.0)?.is_none() {
        return Ok(Err(LogError::Fenced));
    }
    let mut tenures = transaction.open_table(TENURES)?;
    let generation = tenures.get(user.0)?.map_or(0, |tenure| tenure.value().0) + 1;
    tenures.insert(user.0, (generation, 1))?;
    Ok(Ok(Acquired::Owner(Tenure { epoch, generation: Generation(generation) })))
}

fn owns(transaction: &WriteTransaction, user: UserId, tenure: Tenure) -> Result<bool, redb::Error> {
    let newest = transaction.open_table(TENURES)?.get(user.0)?.map(|tenure| tenure.value());
    Ok(newest == Some((tenure.generation.0, 1)))
}

fn append(
    transaction: &WriteTransaction,
    user: UserId,
    tenure: Tenure,
    after: Offset,
    batch: &[Written],
) -> Result<Result<Vec<Offset>, LogError>, redb::Error> {
    if !owns(transaction, user, tenure)? {
        return Ok(Err(LogError::Fenced));
    }
    let (mut streams, mut entries) = (transaction.open_table(STREAMS)?, transaction.open_table(ENTRIES)?);
    let (trimmed, mut head) = streams.get(user.0)?.map_or((0, 0), |stream| stream.value());
    let mut there = Vec::new();
    if head > after.0 {
        for entry in entries.range((user.0, after.0 + 1)..=(user.0, u64::MAX))? {
            let (key, value) = entry?;
            let offset = Offset(key.value().1);
            there.push((offset, decode(value.value()).ok_or_else(|| corrupted(user, offset))?.0));
        }
    }
    let place = (Offset(trimmed), Offset(head));
    let mut offsets = match already_there(place, there.into_iter(), tenure, after, batch.len()) {
        Ok(offsets) => offsets,
        Err(broken) => return Ok(Err(broken)),
    };
    let encoded: Result<Vec<_>, _> =
        batch[offsets.len()..].iter().map(|entry| encode(tenure.generation, entry)).collect();
    let encoded = match encoded {
        Ok(encoded) => encoded,
        Err(error) => return Ok(Err(error)),
    };
    for bytes in encoded {
        head += 1;
        entries.insert((user.0, head), bytes.as_slice())?;
        offsets.push(Offset(head));
    }
    streams.insert(user.0, (trimmed, head))?;
    Ok(Ok(offsets))
}

fn trim(
    transaction: &WriteTransaction,
    user: UserId,
    tenure: Tenure,
    through: Offset,
) -> Result<Result<(), LogError>, redb::Error> {
    if !owns(transaction, user, tenure)? {
        return Ok(Err(LogError::Fenced));
    }
    let (mut streams, mut entries) = (transaction.open_table(STREAMS)?, transaction.open_table(ENTRIES)?);
    let (trimmed, head) = streams.get(user.0)?.map_or((0, 0), |stream| stream.value());
    if through.0 > trimmed {
        entries.retain_in((user.0, 0)..=(user.0, through.0), |_, _| false)?;
        streams.insert(user.0, (through.0, head.max(through.0)))?;
    }
    Ok(Ok(()))
}

fn note(
    transaction: &WriteTransaction,
    user: UserId,
    tenure: Tenure,
    through: Offset,
) -> Result<Result<(), LogError>, redb::Error> {
    if !owns(transaction, user, tenure)? {
        return Ok(Err(LogError::Fenced));
    }
    let mut reads = transaction.open_table(READS)?;
    let read = reads.get(user.0)?.map_or(0, |read| read.value());
    reads.insert(user.0, read.max(through.0))?;
    Ok(Ok(()))
}

fn release(transaction: &WriteTransaction, user: UserId, tenure: Tenure) -> Result<Result<(), LogError>, redb::Error> {
    if !owns(transaction, user, tenure)? {
        return Ok(Err(LogError::Fenced));
    }
    transaction.open_table(TENURES)?.insert(user.0, (tenure.generation.0, 0))?;
    Ok(Ok(()))
}

fn erase(transaction: &WriteTransaction, user: UserId) -> Result<Result<(), LogError>, redb::Error> {
    let subject = transaction.open_table(SUBJECTS)?.remove(user.0)?.map(|subject| subject.value().to_owned());
    if let Some(subject) = subject {
        transaction.open_table(USERS)?.remove(subject.as_str())?;
    }
    transaction.open_table(STREAMS)?.remove(user.0)?;
    transaction.open_table(TENURES)?.remove(user.0)?;
    transaction.open_table(READS)?.remove(user.0)?;
    transaction.open_table(ENTRIES)?.retain_in((user.0, 0)..=(user.0, u64::MAX), |_, _| false)?;
    Ok(Ok(()))
}
