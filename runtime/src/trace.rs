//! Traces: a record of each step of each machine, which `prove replay` can execute again.
//!
//! The core reports each step under the lock of its machine ([`crate::core::watch`]), so the order in the trace is the
//! order of the steps. Under that lock the input is encoded, outputs and state are digested, and the record is put into
//! a buffer. A separate thread numbers the records, chains them and writes them to files ([`format`](mod@format)).
//!
//! * **Bounded.** A full file is closed and the next one begun; the oldest files of the directory are removed. Each
//!   file begins with checkpoints of the machines that step. Checkpoints take at most half of a file; otherwise, if the
//!   sessions' state filled a whole file, every step would be a checkpoint. If the buffer is full because the disk is
//!   slow, records are dropped and counted, and the trace says where: the gateway never waits for the trace. A trace
//!   that can no longer be written ends, and an error is logged.
//! * **No user data.** Messages, answers and credentials are payloads, which no machine reads; each is written as a
//!   number ([`Payload`] says which). Ids of messages and credentials are already digests when they reach a machine.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
//! use lockstep::testing::{AnyToken, Echo, TestClient};
//! use lockstep::trace::{Settings, Trace};
//! use lockstep::{Manager, log::MemoryLog};
//! use lockstep_model::Bounds;
//!
//! let directory = std::env::temp_dir().join(format!("lockstep-doc-{}", std::process::id()));
//! let trace = Trace::start(&Settings::new(&directory), &Bounds::DEFAULT).unwrap();
//! let manager = Manager::builder().verifier(AnyToken).agent(Echo).trace(trace.clone()).build().unwrap();
//! let mut ada = TestClient::connect(&manager);
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

/// The longest time that a record waits before it is written.
const WRITE_EVERY: Duration = Duration::from_millis(50);

/// Where a trace is kept, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The directory. It is created if it does not exist, readable only by its owner.
    pub directory: PathBuf,
    /// The size after which a file is closed and the next one begun; not before it is twice as large as its
    /// checkpoints.
    pub file_bytes: u64,
    /// The number of files that are kept in the directory, including those of earlier processes.
    pub files: usize,
    /// The bytes of records that may wait to be written; further records are dropped.
    pub buffer_bytes: usize,
}

impl Settings {
    /// At most 16 files of 64 MiB, and a buffer of 8 MiB.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), file_bytes: 64 << 20, files: 16, buffer_bytes: 8 << 20 }
    }

    /// Sets the size of a file.
    #[must_use]
    pub fn file_bytes(mut self, file_bytes: u64) -> Self {
        self.file_bytes = file_bytes;
        self
    }

    /// Sets how many files are kept.
    #[must_use]
    pub fn files(mut self, files: usize) -> Self {
        self.files = files;
        self
    }

    /// Sets how many bytes may wait to be written.
    #[must_use]
    pub fn buffer_bytes(mut self, buffer_bytes: usize) -> Self {
        self.buffer_bytes = buffer_bytes;
        self
    }
}

/// The trace of one process. Clones are handles to the same trace; dropping the last one closes it.
#[derive(Clone)]
pub struct Trace(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    bounds: Bounds,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// The state that the stepping threads and the writer share.
struct Shared {
    buffer: Mutex<Buffer>,
    filled: Condvar,
    capacity: usize,
    file_bytes: u64,
    began: Instant,
    /// Raised when a reader that starts here may not know any machine: each machine then writes its whole state once.
    era: AtomicU32,
    dropped: AtomicU64,
    over: AtomicBool,
}

/// The bodies of records, each after its length; an empty body marks the start of the next file. A thread that holds
/// the lock adds one body, or takes all.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Bytes of the newest file, including those already taken.
    file: u64,
    /// Of these, the bytes of checkpoints.
    checkpoints: u64,
    missing: u64,
    closed: bool,
}

thread_local! {
    /// The record of the step in progress on this thread.
    static BODY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static STEPS: Cell<u32> = const { Cell::new(0) };
}

impl Trace {
    /// Starts a trace: creates the directory and the first file.
    ///
    /// # Errors
    ///
    /// The file system's error.
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

    /// The bounds that the machines of this trace must have.
    pub(crate) fn bounds(&self) -> &Bounds {
        &self.0.bounds
    }

    /// Returns how many records were dropped because the writer was behind.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.shared.dropped.load(Ordering::Relaxed)
    }

    /// Ends the trace and waits until it is written. Later steps are not recorded.
    pub fn close(&self) {
        self.0.close();
    }

    /// See [`Effects::before`](crate::core::Effects::before).
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

    /// See [`Effects::after`](crate::core::Effects::after).
    pub(crate) fn after(&self, taken: &Taken<'_, Payload>) {
        let shared = &*self.0.shared;
        if shared.is_over() {
            return;
        }
        let mut body = BODY.take();
        let (outputs, state, whole) = match *taken {
            Taken::Node { handled, outputs, node } => (digest(&(handled, outputs)), digest(node), true),
            Taken::Connection { handled, outputs, connection } => {
                (digest(&(handled, outputs)), digest(connection), true)
            }
            Taken::Pulled { frames, connection } => {
                let number = u32::try_from(frames.len()).unwrap_or(u32::MAX);
                body.clear();
                body = put(body, Kind::Pulled, &(shared.now(), connection.id(), number));
                (digest(frames), digest(connection), true)
            }
            Taken::Session { answer, outputs, session } => {
                let whole = is_small(session)
                    || session.state() == State::Retired
                    || STEPS.replace(STEPS.get().wrapping_add(1)).is_multiple_of(format::WHOLE_EVERY);
                let state = if whole { digest(session) } else { sketch(session) };
                (digest(&(answer, outputs)), state, whole)
            }
        };
        // Empty if the trace was started between the two calls, or was over at the call before this one.
        if !body.is_empty() {
            body = extend(body, &(outputs, state, whole));
            shared.push(&body);
        }
        body.clear();
        BODY.set(body);
    }

    /// See [`Effects::fault`](crate::core::Effects::fault).
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

    /// Records a machine's state, if a reader that starts here may not know it.
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
        // Decided here and not by the writer, so that checkpoints follow at once even if the writer is behind.
        if buffer.file >= self.file_bytes.max(2 * buffer.checkpoints) {
            buffer.begin_file();
            self.era.fetch_add(1, Ordering::Release);
        }
        buffer.put(body);
        if before < half && buffer.bytes.len() >= half {
            self.filled.notify_one();
        }
    }

    /// The writer: takes and writes the buffered records, until the trace is closed.
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

/// Encodes a record's kind and first fields.
fn put<T: Serialize + ?Sized>(mut body: Vec<u8>, kind: Kind, fields: &T) -> Vec<u8> {
    body.push(kind as u8);
    extend(body, fields)
}

/// Appends more fields of a record.
fn extend<T: Serialize + ?Sized>(body: Vec<u8>, fields: &T) -> Vec<u8> {
    postcard::to_extend(fields, body)
        .expect("a vector takes everything, and no machine has a value that cannot be told")
}

impl Payload {
    /// The number that stands for the payload in a trace: that of the record; zero for a payload that is not part of
    /// the stream.
    fn tag(&self) -> u64 {
        match self {
            Self::Token(_) | Self::Query(_) | Self::Answer(_) => 0,
            Self::Record(record) => record.number(),
        }
    }
}

impl Hash for Payload {
    /// Hashes the [`format::Tag`] that stands for the payload.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.tag());
    }
}

impl Serialize for Payload {
    /// Serializes the [`format::Tag`] that stands for the payload: neither credentials nor messages can leak this way.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.tag())
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}
