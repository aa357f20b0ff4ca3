//! Traces: each step of each machine, written down so that `prove replay` can take it again.
//!
//! The core tells of each step under the lock of its machine ([`crate::core::watch`]), so the order in the trace is the
//! order of the steps. What happens under that lock: the input is encoded, orders and state are digested, and the record
//! is put into a buffer. A thread of its own numbers the records, chains them and writes them into files ([`format`](mod@format)).
//!
//! * **Bounded.** A file that is full is closed and the next one begun; of the directory's files the oldest are removed.
//!   Each file begins with checkpoints of what steps; they are at most half of it, or every step of a gateway whose
//!   sessions fill a file would be a checkpoint.
//!   When the buffer is full because the disk is slow, records are dropped and counted, and the trace says where: the
//!   gateway never waits for it. A trace that cannot be written any more ends, and the log says so.
//! * **Nothing of a user's.** Messages, answers and credentials are payloads, which no machine looks into; each is
//!   written as a number ([`Payload`] says which). Ids of messages and credentials are digests before they come to a machine.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
//! use lockstep::testing::{AnyToken, Echo, Peer};
//! use lockstep::trace::{Settings, Trace};
//! use lockstep::{Manager, log::MemoryLog};
//! use lockstep_model::Bounds;
//!
//! let directory = std::env::temp_dir().join(format!("lockstep-doc-{}", std::process::id()));
//! let trace = Trace::start(&Settings::new(&directory), &Bounds::DEFAULT).unwrap();
//! let manager = Manager::builder().verifier(AnyToken).agent(Echo).trace(trace.clone()).build().unwrap();
//! let mut ada = Peer::connect(&manager);
//! ada.say(r#"{"type":"auth","token":"ada"}"#);
//! assert_eq!(ada.next().await["type"], "connection_ready");
//! trace.close();
//! assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
//! # std::fs::remove_dir_all(directory).unwrap();
//! # });
//! ```

use core::fmt;
use core::hash::{Hash, Hasher};
use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lockstep_model::session::State;
use lockstep_model::{Bounds, Generation, UserId};
use serde::{Serialize, Serializer};

use crate::core::watch::{Step, Taken};
use crate::payload::Payload;
use crate::sync::lock;

mod files;
pub mod format;

use self::files::Files;
use self::format::{Kind, digest, is_small, sketch};

/// How long a record waits at most before it is written.
const WRITE_EVERY: Duration = Duration::from_millis(50);

/// Where a trace is kept, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The directory. It is made if it does not exist, readable for its owner alone.
    pub directory: PathBuf,
    /// After so many bytes a file is closed and the next one begun; not before it has twice what its checkpoints take.
    pub file_bytes: u64,
    /// So many files are kept in the directory, those of earlier processes among them.
    pub files: usize,
    /// So many bytes of records wait to be written; more are dropped.
    pub buffer_bytes: usize,
}

impl Settings {
    /// At most 16 files of 64 MiB, and 8 MiB that wait.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), file_bytes: 64 << 20, files: 16, buffer_bytes: 8 << 20 }
    }
}

/// The trace of one process. A clone is another handle to the same; the last one to be dropped closes it.
#[derive(Clone)]
pub struct Trace(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    bounds: Bounds,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What those who step and the writer share.
struct Shared {
    buffer: Mutex<Buffer>,
    filled: Condvar,
    capacity: usize,
    file_bytes: u64,
    began: Instant,
    /// Raised when whoever reads on from here may know no machine: each then writes its whole state once.
    era: AtomicU32,
    dropped: AtomicU64,
    over: AtomicBool,
}

/// Bodies of records, each behind its length; an empty one stands where the next file begins. Whoever holds the lock puts
/// one in, or takes all.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// The newest file's bytes, of these and of those taken before.
    file: u64,
    /// Those of them that are checkpoints'.
    checkpoints: u64,
    missing: u64,
    closed: bool,
}

thread_local! {
    /// The record whose step is under way on this thread.
    static BODY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static STEPS: Cell<u32> = const { Cell::new(0) };
}

impl Trace {
    /// Begins a trace: makes the directory and the first file.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn start(settings: &Settings, bounds: &Bounds) -> io::Result<Self> {
        let mut files = Files::create(settings, bounds)?;
        let shared = Arc::new(Shared {
            buffer: Mutex::default(),
            filled: Condvar::new(),
            capacity: settings.buffer_bytes,
            file_bytes: settings.file_bytes,
            began: Instant::now(),
            era: AtomicU32::new(0),
            dropped: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let writer = std::thread::Builder::new().name("trace".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.write(&mut files)
        })?;
        Ok(Self(Arc::new(Handle { shared, bounds: *bounds, writer: Mutex::new(Some(writer)) })))
    }

    /// What the machines of this trace must be given.
    pub(crate) fn bounds(&self) -> &Bounds {
        &self.0.bounds
    }

    /// How many records were dropped, because the writer was behind.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.shared.dropped.load(Ordering::Relaxed)
    }

    /// Ends the trace and waits until it is written. What happens after this is not in it.
    pub fn close(&self) {
        self.0.close();
    }

    /// As [`Effects::before`](crate::core::Effects::before).
    pub(crate) fn before(&self, step: Step<'_, Payload>) {
        let shared = &*self.0.shared;
        if shared.is_over() {
            return;
        }
        let at = shared.now();
        let mut body = BODY.take();
        body.clear();
        let body = match step {
            Step::Node { input, node, mark } => {
                shared.checkpoint(mark, || put(Vec::new(), Kind::NodeState, &(at, node)));
                put(body, Kind::Node, &(at, input))
            }
            Step::Accept(connection) => put(body, Kind::Accepted, &(at, connection)),
            Step::Connection(connection, input) => put(body, Kind::Connection, &(at, connection, input)),
            Step::Open { user, generation, mode } => put(body, Kind::Opened, &(at, user, generation, mode)),
            Step::Session { user, generation, input, session, mark } => {
                shared.checkpoint(mark, || put(Vec::new(), Kind::SessionState, &(at, user, generation, session)));
                put(body, Kind::Session, &(at, user, generation, input))
            }
        };
        BODY.set(body);
    }

    /// As [`Effects::after`](crate::core::Effects::after).
    pub(crate) fn after(&self, taken: &Taken<'_, Payload>) {
        let shared = &*self.0.shared;
        if shared.is_over() {
            return;
        }
        let mut body = BODY.take();
        let (orders, state, whole) = match *taken {
            Taken::Node { handled, orders, node } => (digest(&(handled, orders)), digest(node), true),
            Taken::Connection { handled, orders, connection } => (digest(&(handled, orders)), digest(connection), true),
            Taken::Pulled { frames, connection } => {
                let number = u32::try_from(frames.len()).unwrap_or(u32::MAX);
                body.clear();
                body = put(body, Kind::Pulled, &(shared.now(), connection.id(), number));
                (digest(frames), digest(connection), true)
            }
            Taken::Session { answer, orders, session } => {
                let whole = is_small(session)
                    || session.state() == State::Retired
                    || STEPS.replace(STEPS.get().wrapping_add(1)).is_multiple_of(format::WHOLE_EVERY);
                let state = if whole { digest(session) } else { sketch(session) };
                (digest(&(answer, orders)), state, whole)
            }
        };
        // Empty if the trace was begun between the two calls, or the call before this one met a trace that was over.
        if !body.is_empty() {
            body = extend(body, &(orders, state, whole));
            shared.push(&body);
        }
        body.clear();
        BODY.set(body);
    }

    /// As [`Effects::fault`](crate::core::Effects::fault).
    pub(crate) fn fault(&self, user: UserId, generation: Generation) {
        let shared = &*self.0.shared;
        shared.push(&put(Vec::new(), Kind::Fault, &(shared.now(), user, generation)));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        lock(&self.buffer)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Writes a machine's state down, if whoever reads on from here may not know it.
    fn checkpoint(&self, mark: &mut u32, record: impl FnOnce() -> Vec<u8>) {
        let era = self.era.load(Ordering::Acquire);
        if core::mem::replace(mark, era) != era {
            self.push(&record());
        }
    }

    fn push(&self, body: &[u8]) {
        let mut buffer = self.lock();
        if buffer.closed {
            return;
        }
        if buffer.bytes.len() + body.len() + 64 > self.capacity {
            buffer.missing += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if buffer.missing > 0 {
            buffer.note_missing();
            self.era.fetch_add(1, Ordering::Release);
        }
        let half = self.capacity / 2;
        let before = buffer.bytes.len();
        // Decided here and not by the writer, so that checkpoints follow at once, however far behind it is.
        if buffer.file >= self.file_bytes.max(2 * buffer.checkpoints) {
            buffer.begin_file();
            self.era.fetch_add(1, Ordering::Release);
        }
        buffer.put(body);
        if before < half && buffer.bytes.len() >= half {
            self.filled.notify_one();
        }
    }

    /// The writer: takes what waits and writes it, until the trace is closed.
    fn write(&self, files: &mut Files) {
        let mut taken = Vec::new();
        loop {
            let closed = {
                let wait = |buffer: &mut Buffer| !buffer.closed && buffer.bytes.len() < self.capacity / 2;
                let (mut buffer, _) = self
                    .filled
                    .wait_timeout_while(self.lock(), WRITE_EVERY, wait)
                    .unwrap_or_else(PoisonError::into_inner);
                core::mem::swap(&mut taken, &mut buffer.bytes);
                if buffer.closed && buffer.missing > 0 {
                    core::mem::swap(&mut taken, &mut buffer.bytes);
                    buffer.note_missing();
                    core::mem::swap(&mut taken, &mut buffer.bytes);
                }
                buffer.closed
            };
            let written = files.write(&taken);
            taken.clear();
            if let Err(error) = if closed { written.and_then(|()| files.end()) } else { written } {
                metrics::counter!("lockstep_trace_failures_total").increment(1);
                tracing::error!(%error, "the trace cannot be written and ends here");
                self.over.store(true, Ordering::Relaxed);
                self.lock().closed = true;
                return;
            }
            if closed {
                return;
            }
        }
    }
}

impl Buffer {
    fn put(&mut self, body: &[u8]) {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(body);
        let framed = (format::HEAD + body.len()) as u64;
        self.file += framed;
        if body.first().is_some_and(|kind| [Kind::NodeState as u8, Kind::SessionState as u8].contains(kind)) {
            self.checkpoints += framed;
        }
    }

    fn begin_file(&mut self) {
        self.put(&[]);
        (self.file, self.checkpoints) = (0, 0);
    }

    fn note_missing(&mut self) {
        let missing = core::mem::take(&mut self.missing);
        self.put(&put(Vec::new(), Kind::Hole, &missing));
    }
}

impl Handle {
    fn close(&self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.shared.lock().closed = true;
        self.shared.filled.notify_one();
        let writer = lock(&self.writer).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the writer of the trace panicked");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

/// A record's kind and first fields.
fn put<T: Serialize + ?Sized>(mut body: Vec<u8>, kind: Kind, fields: &T) -> Vec<u8> {
    body.push(kind as u8);
    extend(body, fields)
}

/// More fields of a record.
fn extend<T: Serialize + ?Sized>(body: Vec<u8>, fields: &T) -> Vec<u8> {
    postcard::to_extend(fields, body)
        .expect("a vector takes everything, and no machine has a value that cannot be told")
}

impl Payload {
    /// What stands for it in a trace: the record's own number for a record, zero for what is not of the stream.
    fn tag(&self) -> u64 {
        match self {
            Self::Token(_) | Self::Query(_) | Self::Answer(_) => 0,
            Self::Record(record) => record.number(),
        }
    }
}

impl Hash for Payload {
    /// As the [`format::Tag`] that stands for it.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.tag());
    }
}

impl Serialize for Payload {
    /// As the [`format::Tag`] that stands for it: neither a credential nor a message can leave by this way.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.tag())
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}
