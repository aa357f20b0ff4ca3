//! A log on disk: append-only files (*segments*), written by one thread.
//!
//! **Why no embedded database.** For this load, small appends of many users behind one group commit, redb writes thirty
//! times and SQLite forty times what is appended, and both take several times the processor time. fjall comes close
//! (the command in `tests/stores` prints all figures). But after one failed write or sync, fjall refuses every write
//! until it is opened again, and then treats data that the failed sync left in memory as durable. It cuts a damaged
//! journal at the damage, even if more was committed after it. Deleted data stays until some compaction. A log needs
//! the opposite in each case, and few of a database's other features. So this is a log and nothing else, small enough
//! that its tests can cut, flip and fill it at every byte.
//!
//! # Files
//!
//! | file | content |
//! | --- | --- |
//! | `00000001.log` … | segments: groups of records, each with checksums (`format.rs`); only the last one is written |
//! | `manifest` | the segments and their lengths, epoch and format; replaced atomically when a segment begins or goes |
//! | `mark` | how far the last segment was acknowledged, and synced; written after each group, never synced |
//! | `lock` | held by the process that writes |
//!
//! Records may be read in any order, because their numbers only grow and erasures are final. *Cleaning* therefore moves
//! the live records of an old segment to the end of the log, and a crash in the middle needs no special handling. Moved
//! entries are packed (`entries.rs`). A segment is also moved in order to pack it, if at least half of its live bytes
//! are unpacked; the active segment is closed for this once nothing was appended for thirty times [`Options::upkeep`].
//! Content that is gone with a deleted thread is not moved (`scrub.rs`). A user's entries are in *extents*, in which
//! each record names the one before; memory holds a user and its extents, but no entries.
//!
//! # What an answer means
//!
//! [`Durability`] says when an append is acknowledged. *The epoch rule* holds at each level: an entry that was
//! delivered at an offset is never replaced by a different one in the same epoch. Three facts tell how the log ended:
//! whether it was closed, whether the machine was restarted since (its boot id), and the mark, which the operating
//! system keeps when the process is killed.
//!
//! | last end | `always` | `interval`, `never` |
//! | --- | --- | --- |
//! | closed | everything is there | everything is there |
//! | process killed | everything is there | everything is there |
//! | machine stopped | everything; a new epoch if the last group is not whole | a new epoch: some may be lost |
//!
//! If acknowledged data is missing at the end, a new epoch begins, and the log says so. If damage is followed by data
//! that was acknowledged later, or a file is missing, the log does not open, and says what to do: [`Damage::Repair`]
//! keeps the readable data, and begins a new epoch. A log that is replaced by an older copy of itself cannot detect
//! this: start a new log in that case.
//!
//! All reads are checked, and each entry names the one before it: a user with missing entries is refused.
//!
//! # When the disk fails
//!
//! A segment whose write or sync failed ends at its last synced byte. Data that was acknowledged after that byte (not
//! at `always`) is written again into the next segment; other requests are refused as [`LogError::Unavailable`] and are
//! retried. A failed sync is therefore never trusted, and the log works again as soon as the disk does. It logs each
//! change once.
//!
//! Files may be removed or replaced while the log has them open. The log checks the active segment before each answer,
//! and the others at most once a second while requests arrive, and rewrites missing content: no data stays readable for
//! this process only.

use core::fmt;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use lockstep_model::run::Kind;
use lockstep_model::session::MAX_PAST;
use lockstep_model::{Epoch, Incarnation, MessageId, Offset, Tenure, UserId};
use tokio::sync::oneshot;

use super::deletions;
use super::{Acquired, Held, Log, LogError, NotOpened, Written};
use crate::BoxFuture;
use crate::sync::lock;

mod clean;
pub(in crate::log) mod entries;
pub(in crate::log) mod format;
mod index;
mod pace;
mod pieces;
pub(in crate::log) mod read;
mod recover;
mod scrub;
mod segment;
pub mod storage;
mod writer;

use self::index::{Index, User};
use self::read::Places;
use self::segment::Segments;
use self::storage::{Files, Storage};
use self::writer::{Append, Write, Writer};

/// Requests that may wait for the writing thread; further requests are answered as unavailable.
const MAX_QUEUE: usize = 16_384;

/// Reads of a user's entries that may wait; further reads are answered as unavailable.
const MAX_READS: usize = 4_096;

/// Threads that read.
const READERS: usize = 2;

/// The default size of a segment, in bytes.
const SEGMENT_BYTES: u64 = 16 << 20;

/// The number of [`Options::upkeep`] periods without an append after which unpacked entries are packed.
const IDLE: u32 = 30;

/// The fraction of a segment's size, as a divisor, that must be unpacked to make packing worthwhile.
const LOOSE: u64 = 512;

/// How long deferrable work may wait.
const UPKEEP: Duration = Duration::from_secs(1);

/// When an append is acknowledged, and so which acknowledged data may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Once the disk has it. Nothing is lost when the process, the system or the power fails. While more than 64 users
    /// write, commits begin at least 2 ms apart, so that more appends share a sync.
    Always,
    /// Once the operating system has it, which is asked to sync it once per interval. If the system or the power fails,
    /// about one interval of data is lost. If the process fails, nothing is lost.
    Interval(Duration),
    /// Once the operating system has it, which writes it to the disk at its own pace: within half a minute on most
    /// systems. If the system or the power fails, that much is lost. If the process fails, nothing is lost.
    Never,
}

/// What happens to a damaged log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It is not opened.
    Refuse,
    /// The readable data is kept, in a new epoch.
    Repair,
}

/// How to open a log.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Options {
    /// When an append is acknowledged.
    pub durability: Durability,
    /// What happens to a damaged log.
    pub damage: Damage,
    /// The size in bytes at which a segment is full.
    pub segment_bytes: u64,
    /// How long deferrable work may wait: cleaning, and recording how far readers have read.
    pub upkeep: Duration,
}

impl Options {
    /// The default options with this durability.
    #[must_use]
    pub const fn new(durability: Durability) -> Self {
        Self { durability, damage: Damage::Refuse, segment_bytes: SEGMENT_BYTES, upkeep: UPKEEP }
    }

    /// Sets when an append is acknowledged.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets what happens to a damaged log.
    #[must_use]
    pub const fn damage(mut self, damage: Damage) -> Self {
        self.damage = damage;
        self
    }

    /// Sets the size of a segment.
    #[must_use]
    pub const fn segment_bytes(mut self, segment_bytes: u64) -> Self {
        self.segment_bytes = segment_bytes;
        self
    }

    /// Sets how long deferrable work may wait.
    #[must_use]
    pub const fn upkeep(mut self, upkeep: Duration) -> Self {
        self.upkeep = upkeep;
        self
    }
}

/// A log in the files of one directory.
pub struct DiskLog {
    /// `None` only during drop.
    writer: Option<mpsc::SyncSender<Write>>,
    reader: mpsc::SyncSender<Read>,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// The state that the threads share.
#[derive(Debug)]
struct Shared {
    index: Mutex<Index>,
    commit_us: AtomicU64,
    epoch: Epoch,
    /// Distinguishes this log from others.
    #[cfg_attr(not(feature = "kept"), expect(dead_code))]
    id: u64,
}

/// A request to read a user's entries.
struct Read {
    user: UserId,
    tenure: Tenure,
    answer: oneshot::Sender<Result<Held, LogError>>,
}

impl DiskLog {
    /// Opens the log in that directory, or creates one.
    ///
    /// # Errors
    ///
    /// [`NotOpened`], for a log that is in use, damaged, or cannot be read or written.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, NotOpened> {
        Self::open_with(path, &Options::new(durability))
    }

    /// Opens the log in that directory, or creates one.
    ///
    /// # Errors
    ///
    /// [`NotOpened`], for a log that is in use, damaged, or cannot be read or written.
    pub fn open_with(path: &Path, options: &Options) -> Result<Self, NotOpened> {
        let opened = Files::open(path).and_then(|files| Self::on(Arc::new(files), options));
        opened.map_err(|error| NotOpened::because(format!("cannot open the log {}: {error}", path.display()), error))
    }

    /// Opens the log on that storage, or creates one.
    ///
    /// # Errors
    ///
    /// [`NotOpened`], for a log that is damaged, or cannot be read or written.
    pub fn on(storage: Arc<dyn Storage>, options: &Options) -> Result<Self, NotOpened> {
        let found = recover::recover(&*storage, options.damage)?;
        let epoch = Epoch(found.manifest.epoch);
        let id = found.manifest.id;
        let shared = Arc::new(Shared { index: Mutex::new(found.index), commit_us: AtomicU64::new(0), epoch, id });
        let synced = options.durability == Durability::Always;
        let segments = Segments::open(storage, Arc::clone(&shared), found.manifest, found.last, &found.damaged, synced)
            .map_err(|error| error.to_string())?;
        let writer = Writer::new(segments, Arc::clone(&shared), *options);
        let (send, queue) = mpsc::sync_channel(MAX_QUEUE);
        let thread = spawn("lockstep-log", move || writer.run(&queue))?;
        let (reader, reads) = mpsc::sync_channel(MAX_READS);
        let reads = Arc::new(Mutex::new(reads));
        for _ in 0..READERS {
            let (shared, reads) = (Arc::clone(&shared), Arc::clone(&reads));
            spawn("lockstep-log-read", move || {
                // The block releases the lock: the queue is locked while a thread waits, not while it reads.
                while let Ok(read) = { lock(&reads).recv() } {
                    let Read { user, tenure, answer } = read;
                    let _ = answer.send(shared.read(user, tenure));
                }
            })?;
        }
        Ok(Self { writer: Some(send), reader, shared, thread: Some(thread) })
    }

    fn ask<T: Send + 'static>(
        &self,
        write: impl FnOnce(oneshot::Sender<Result<T, LogError>>) -> Write,
    ) -> BoxFuture<'static, Result<T, LogError>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.writer.as_ref().is_some_and(|writer| writer.try_send(write(answer)).is_ok());
        Box::pin(async move {
            if !sent {
                return Err(LogError::Unavailable("its write queue is full".to_owned()));
            }
            answered.await.map_err(|_| LogError::Unavailable("its writer thread has ended".to_owned()))?
        })
    }

    /// Answers immediately, from the index.
    fn at_once<'a, T: Send + 'a>(
        &self,
        act: impl FnOnce(&mut Index) -> Result<T, LogError>,
    ) -> BoxFuture<'a, Result<T, LogError>> {
        Box::pin(core::future::ready(act(&mut lock(&self.shared.index))))
    }
}

/// Starts a thread with that name.
pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>, String> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| error.to_string())
}

/// For the conversations that are kept beside the log.
#[cfg(feature = "kept")]
impl DiskLog {
    pub(super) fn id(&self) -> u64 {
        self.shared.id
    }

    /// Returns a user's `trimmed` and newest offset; `None` if the user is erased, or was never known.
    pub(super) fn span(&self, user: UserId) -> Option<(Offset, Offset)> {
        lock(&self.shared.index).users.get(&user).map(|user| (user.trimmed, user.head))
    }

    /// Returns a user's subject and the current places of its entries; `None` if the user is erased.
    pub(super) fn places(&self, user: UserId) -> Option<(Arc<str>, Places)> {
        let index = lock(&self.shared.index);
        let user = index.users.get(&user)?;
        Some((Arc::clone(&user.subject), Places::of(&index, user)))
    }

    /// Returns all users, each with its newest offset.
    pub(super) fn heads(&self) -> Vec<(UserId, Offset)> {
        lock(&self.shared.index).users.iter().map(|(id, user)| (*id, user.head)).collect()
    }

    /// Reads the entries in these places after one offset, up to another. Blocks.
    pub(super) fn between(user: UserId, places: Places, behind: Offset, through: Offset) -> Result<Between, LogError> {
        found(user, &places.between(behind, through), false)
    }

    /// Checks that this is the tenure of the user's owner.
    pub(super) fn owns(&self, user: UserId, tenure: Tenure) -> Result<(), LogError> {
        self.shared.owned(&lock(&self.shared.index), user, tenure).map(|_| ())
    }

    /// Forgets everything at or before that offset.
    pub(super) fn forget(&self, user: UserId, through: Offset) {
        lock(&self.shared.index).trim(user, through);
    }
}

/// A user's entries between two offsets.
pub(super) struct Between {
    pub(super) entries: Vec<(Offset, Written)>,
    /// The messages that are gone with their threads.
    pub(super) gone: Vec<(Offset, MessageId)>,
}

/// Reads the entries in these places.
fn found(user: UserId, places: &Places, whole: bool) -> Result<Between, LogError> {
    let unavailable = |why: String| LogError::Unavailable(format!("user {}: {why}", user.0));
    let found = if whole { places.entries() } else { places.linked() }.map_err(unavailable)?;
    let (mut entries, mut gone) = (Vec::with_capacity(found.len()), Vec::new());
    for entry in found {
        match format::entry(&entry.content) {
            Some(format::Decoded::There(written)) => entries.push((entry.offset, written)),
            Some(format::Decoded::Gone(message)) => gone.extend(message.map(|message| (entry.offset, message))),
            None => return Err(unavailable(format!("the entry at offset {} is not an event", entry.offset.0))),
        }
    }
    // Entries that are not scrubbed yet are gone as well.
    gone.append(&mut deletions::take_out(&mut entries));
    gone.sort_unstable();
    Ok(Between { entries, gone })
}

impl fmt::Debug for DiskLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskLog").field("epoch", &self.shared.epoch).finish_non_exhaustive()
    }
}

impl Drop for DiskLog {
    /// Waits until everything is on disk.
    fn drop(&mut self) {
        self.writer = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Returns the user, if this is the tenure of its owner.
    fn owned<'a>(&self, index: &'a Index, user: UserId, tenure: Tenure) -> Result<&'a User, LogError> {
        let user = index.users.get(&user).ok_or(LogError::Fenced)?;
        let newest = Tenure { epoch: self.epoch, token: user.generation };
        if user.owned && tenure == newest { Ok(user) } else { Err(LogError::Fenced) }
    }

    fn read(&self, user: UserId, tenure: Tenure) -> Result<Held, LogError> {
        let places = {
            let index = lock(&self.index);
            Places::of(&index, self.owned(&index, user, tenure)?)
        };
        let Between { entries, gone } = found(user, &places, true)?;
        let past = gone.iter().skip(gone.len().saturating_sub(MAX_PAST)).map(|(_, message)| *message).collect();
        // Data that was erased meanwhile is not returned.
        self.owned(&lock(&self.index), user, tenure)?;
        Ok(Held { trimmed: places.trimmed, read: places.read, past, entries })
    }
}

impl Log for DiskLog {
    fn user<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<UserId, LogError>> {
        let known = lock(&self.shared.index).subjects.get(subject).copied();
        match known {
            Some(user) => Box::pin(core::future::ready(Ok(user))),
            None => self.ask(|answer| Write::User(Arc::from(subject), answer)),
        }
    }

    fn subject(&self, user: UserId) -> BoxFuture<'_, Result<Arc<str>, LogError>> {
        self.at_once(|index| match index.users.get(&user) {
            Some(user) => Ok(Arc::clone(&user.subject)),
            None => Err(LogError::Unavailable(format!("user {} is unknown", user.0))),
        })
    }

    fn acquire(&self, user: UserId, _: Incarnation) -> BoxFuture<'_, Result<Acquired, LogError>> {
        let acquired = self.ask(|answer| Write::Acquire(user, answer));
        Box::pin(async move { acquired.await.map(Acquired::Owner) })
    }

    fn restore(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<Held, LogError>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.reader.try_send(Read { user, tenure, answer }).is_ok();
        Box::pin(async move {
            if !sent {
                return Err(LogError::Unavailable("its read queue is full".to_owned()));
            }
            answered.await.map_err(|_| LogError::Unavailable("its reader thread has ended".to_owned()))?
        })
    }

    fn append(
        &self,
        user: UserId,
        tenure: Tenure,
        after: Offset,
        batch: Vec<Written>,
    ) -> BoxFuture<'_, Result<Vec<Offset>, LogError>> {
        let deletion = batch.iter().rposition(|entry| entry.kind == Kind::Deleted);
        match batch.iter().map(format::content).collect() {
            Ok(batch) => self.ask(|answer| Write::Append(Append { user, tenure, after, batch, deletion }, answer)),
            Err(error) => Box::pin(core::future::ready(Err(LogError::Broken(error)))),
        }
    }

    fn trim(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        self.at_once(|index| {
            self.shared.owned(index, user, tenure)?;
            index.trim(user, through);
            Ok(())
        })
    }

    fn read(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        self.at_once(|index| {
            self.shared.owned(index, user, tenure)?;
            index.read(user, through);
            Ok(())
        })
    }

    fn release(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<(), LogError>> {
        self.at_once(|index| {
            self.shared.owned(index, user, tenure)?;
            if let Some(user) = index.users.get_mut(&user) {
                user.owned = false;
            }
            Ok(())
        })
    }

    fn erase(&self, user: UserId) -> BoxFuture<'_, Result<(), LogError>> {
        self.ask(|answer| Write::Erase(user, answer))
    }

    fn probe(&self) -> BoxFuture<'_, Result<Duration, LogError>> {
        self.ask(Write::Probe)
    }
}
