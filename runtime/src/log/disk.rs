//! A log on the disk: files to which is only appended (*segments*), written by one thread.
//!
//! **Why no embedded store.** On this load – small appends of many users behind one group commit – redb writes thirty times,
//! SQLite forty times what is appended, and both take several times the processor time. fjall comes close (the command in
//! `tests/stores` prints all of it). But fjall refuses every write after one failed write or sync until it is opened again,
//! then takes for durable what the failed sync left in memory; a damaged journal is cut where the damage is, whatever
//! was committed behind it; and a delete is no delete until some compaction. A log needs the opposite of each, and little of
//! what a store has besides. So this is a log and nothing else, small enough to be cut, flipped and filled at every byte by its tests.
//!
//! # Files
//!
//! | file | what |
//! | --- | --- |
//! | `00000001.log` … | segments: groups of records, each with checksums (`format.rs`); only the last one is written |
//! | `manifest` | which segments there are and how long; epoch and format; replaced in one step when a segment begins or goes |
//! | `mark` | how far the last segment was answered, and synced; written after each group, never synced |
//! | `lock` | held by the process that writes |
//!
//! Records may be read in any order, since numbers in them only grow and erasures are final. So *cleaning* moves what is left of an old
//! segment to the end of the log, and a crash in the middle of that is no case of its own. What is moved is packed (`entries.rs`);
//! a segment that is half of what was not is moved for that, and the one that is written is left for it when nothing was
//! appended for thirty times [`Options::upkeep`]. What is gone with a deleted thread is not moved (`scrub.rs`). A user's entries
//! are in *extents*, in which each record names the one before; memory holds a user, its extents, and no entry.
//!
//! # What an answer means
//!
//! [`Durability`] says after what an append is answered. *The epoch rule* holds at each level: what was delivered at an offset is
//! never replaced by something else in the same epoch. An end is known by three things: whether the log was closed, whether the
//! machine was started since (its boot id), and the mark, which the operating system keeps when the process is killed.
//!
//! | last end | `always` | `interval`, `never` |
//! | --- | --- | --- |
//! | closed | all is there | all is there |
//! | process killed | all is there | all is there |
//! | machine stopped | all is there; a new epoch if the last group is not whole | a new epoch: some may be lost |
//!
//! Where the end is shorter than what was answered, the epoch is new, and the log says so. Where something is damaged that is followed
//! by what was answered later, or a file is missing, the log does not open, and says what to do: [`Options::repair`] keeps
//! what can be read, and begins a new epoch. A log that is replaced by an older copy of itself cannot know it: begin a
//! new one then.
//!
//! Whatever is read is checked, and each entry names the one before it: a user of whom something is missing is refused.
//!
//! # When the disk fails
//!
//! A segment whose write or sync failed is left at the last byte that was synced. What was answered behind that (not at
//! `always`) is written again into the next segment, what was not is refused as [`LogError::Unavailable`] and comes again.
//! So a failed sync is never trusted, and the log works again as soon as the disk does. It tells of both once.
//!
//! Someone may remove or replace files while the log has them open. It looks at the segment that is written before each answer,
//! and at the others each second that it is asked anything, and writes again what they hold: nothing stays that only this
//! process can read.

use core::fmt;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use lockstep_model::run::Kind;
use lockstep_model::session::MAX_PAST;
use lockstep_model::{Epoch, MessageId, Offset, Tenure, UserId};
use tokio::sync::oneshot;

use super::deletions;
use super::{Acquired, Held, Log, LogError, Written};
use crate::sync::lock;
use crate::verify::BoxFuture;

mod clean;
pub(in crate::log) mod entries;
pub(in crate::log) mod format;
mod index;
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

/// Requests that may wait for the writing thread; more are answered as unavailable.
const MAX_QUEUE: usize = 16_384;

/// Users whose entries may wait to be read; more are answered as unavailable.
const MAX_READS: usize = 4_096;

/// Threads that read.
const READERS: usize = 2;

/// Bytes of a segment.
const SEGMENT_BYTES: u64 = 16 << 20;

/// How many times [`Options::upkeep`] nothing is appended before what was is packed.
const IDLE: u32 = 30;

/// Bytes that were not packed, below which it is not worth it, as a part of a segment.
const LOOSE: u64 = 512;

/// How long may wait what can wait.
const UPKEEP: Duration = Duration::from_secs(1);

/// When an append is answered, and so what may be lost of what was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the disk has it. Nothing is lost when the process, the system or the power fails.
    Always,
    /// When the operating system has it, which is asked to put it on the disk each time this has passed. If the system or
    /// the power fails, about as much is lost as came in that time. If the process fails, nothing is.
    Interval(Duration),
    /// When the operating system has it, which puts it on the disk when it likes: within half a minute on most. If the system or
    /// the power fails, that much is lost. If the process fails, nothing is.
    Never,
}

/// How a log is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// When an append is answered.
    pub durability: Durability,
    /// Keeps what can be read of a log that is damaged, in a new epoch, instead of refusing to open it.
    pub repair: bool,
    /// Bytes after which a segment is full.
    pub segment_bytes: u64,
    /// How long may wait what can wait: cleaning, and saying what readers have read.
    pub upkeep: Duration,
}

impl Options {
    /// Those of a log that is answered so.
    #[must_use]
    pub const fn new(durability: Durability) -> Self {
        Self { durability, repair: false, segment_bytes: SEGMENT_BYTES, upkeep: UPKEEP }
    }
}

/// A log in the files of one directory.
pub struct DiskLog {
    /// `None` only while the log is dropped.
    writer: Option<mpsc::SyncSender<Write>>,
    reader: mpsc::SyncSender<Read>,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What the threads share.
#[derive(Debug)]
struct Shared {
    index: Mutex<Index>,
    commit_us: AtomicU64,
    epoch: Epoch,
    /// What tells this log from others.
    id: u64,
}

/// A user whose entries are asked for.
struct Read {
    user: UserId,
    tenure: Tenure,
    answer: oneshot::Sender<Result<Held, LogError>>,
}

impl DiskLog {
    /// Opens the log in that directory, or begins one there.
    ///
    /// # Errors
    ///
    /// A sentence with the path and what to do, for a log that is in use, damaged, or cannot be read or written.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, String> {
        Self::open_with(path, &Options::new(durability))
    }

    /// Opens the log in that directory, or begins one there.
    ///
    /// # Errors
    ///
    /// A sentence with the path and what to do, for a log that is in use, damaged, or cannot be read or written.
    pub fn open_with(path: &Path, options: &Options) -> Result<Self, String> {
        let opened = Files::open(path).and_then(|files| Self::on(Arc::new(files), options));
        opened.map_err(|error| format!("cannot open the log {}: {error}", path.display()))
    }

    /// Opens the log on that storage, or begins one there.
    ///
    /// # Errors
    ///
    /// A sentence, for a log that is damaged, or cannot be read or written.
    pub fn on(storage: Arc<dyn Storage>, options: &Options) -> Result<Self, String> {
        let found = recover::recover(&*storage, options.repair)?;
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
                // A statement of its own: the queue is locked while a thread waits, not while it reads.
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
                return Err(LogError::Unavailable("as much waits to be written as may".to_owned()));
            }
            answered.await.map_err(|_| LogError::Unavailable("the writing thread has ended".to_owned()))?
        })
    }

    /// Answers at once.
    fn at_once<'a, T: Send + 'a>(
        &self,
        act: impl FnOnce(&mut Index) -> Result<T, LogError>,
    ) -> BoxFuture<'a, Result<T, LogError>> {
        Box::pin(core::future::ready(act(&mut lock(&self.shared.index))))
    }
}

/// Begins a thread with that name.
pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>, String> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| error.to_string())
}

/// For the conversations that are kept beside the log.
impl DiskLog {
    pub(super) fn id(&self) -> u64 {
        self.shared.id
    }

    /// What is trimmed of a user, and the newest offset; `None` if the user is erased, or was never known.
    pub(super) fn span(&self, user: UserId) -> Option<(Offset, Offset)> {
        lock(&self.shared.index).users.get(&user).map(|user| (user.trimmed, user.head))
    }

    /// The user's name, and where its entries are now; `None` if the user is erased.
    pub(super) fn places(&self, user: UserId) -> Option<(Arc<str>, Places)> {
        let index = lock(&self.shared.index);
        let user = index.users.get(&user)?;
        Some((Arc::clone(&user.subject), Places::of(&index, user)))
    }

    /// Users, and the newest offset of each.
    pub(super) fn heads(&self) -> Vec<(UserId, Offset)> {
        lock(&self.shared.index).users.iter().map(|(id, user)| (*id, user.head)).collect()
    }

    /// What is in these places behind one offset, up to another. Blocks.
    pub(super) fn between(user: UserId, places: Places, behind: Offset, through: Offset) -> Result<Between, LogError> {
        found(user, &places.between(behind, through), false)
    }

    /// Whether that is the tenure of the user's owner.
    pub(super) fn owns(&self, user: UserId, tenure: Tenure) -> Result<(), LogError> {
        self.shared.owned(&lock(&self.shared.index), user, tenure).map(|_| ())
    }

    /// Forgets what is at or before that offset.
    pub(super) fn forget(&self, user: UserId, through: Offset) {
        lock(&self.shared.index).trim(user, through);
    }
}

/// What there is of a user between two offsets.
pub(super) struct Between {
    pub(super) entries: Vec<(Offset, Written)>,
    /// The messages that are gone with their threads.
    pub(super) gone: Vec<(Offset, MessageId)>,
}

/// What is in these places.
fn found(user: UserId, places: &Places, whole: bool) -> Result<Between, LogError> {
    let unavailable = |why: String| LogError::Unavailable(format!("user {}: {why}", user.0));
    let found = if whole { places.entries() } else { places.linked() }.map_err(unavailable)?;
    let (mut entries, mut gone) = (Vec::with_capacity(found.len()), Vec::new());
    for entry in found {
        match format::entry(&entry.content) {
            Some(format::Entry::There(written)) => entries.push((entry.offset, written)),
            Some(format::Entry::Gone(message)) => gone.extend(message.map(|message| (entry.offset, message))),
            None => return Err(unavailable(format!("what is at offset {} is no event", entry.offset.0))),
        }
    }
    // What was not scrubbed yet is gone as well.
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
    /// Waits until everything is on the disk.
    fn drop(&mut self) {
        self.writer = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The user, if this is the tenure of its owner.
    fn owned<'a>(&self, index: &'a Index, user: UserId, tenure: Tenure) -> Result<&'a User, LogError> {
        let user = index.users.get(&user).ok_or(LogError::Fenced)?;
        let newest = Tenure { epoch: self.epoch, generation: user.generation };
        if user.owned && tenure == newest { Ok(user) } else { Err(LogError::Fenced) }
    }

    fn read(&self, user: UserId, tenure: Tenure) -> Result<Held, LogError> {
        let places = {
            let index = lock(&self.index);
            Places::of(&index, self.owned(&index, user, tenure)?)
        };
        let Between { entries, gone } = found(user, &places, true)?;
        let past = gone.iter().skip(gone.len().saturating_sub(MAX_PAST)).map(|(_, message)| *message).collect();
        // What was erased meanwhile is not given out.
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

    fn acquire(&self, user: UserId) -> BoxFuture<'_, Result<Acquired, LogError>> {
        let acquired = self.ask(|answer| Write::Acquire(user, answer));
        Box::pin(async move { acquired.await.map(Acquired::Owner) })
    }

    fn restore(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<Held, LogError>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.reader.try_send(Read { user, tenure, answer }).is_ok();
        Box::pin(async move {
            if !sent {
                return Err(LogError::Unavailable("as many wait to be read as may".to_owned()));
            }
            answered.await.map_err(|_| LogError::Unavailable("the reading thread has ended".to_owned()))?
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
