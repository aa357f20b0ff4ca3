//! The connections: some append, as many others do everything else.
//!
//! A task for each connection opens it, and opens it again after it has ended. A task that appends takes all appends
//! that wait, at most one of each user, and executes them as one statement. Later ones wait for the next statement.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio_postgres::Row;

use super::NotConnected;
use super::appends::{self, Append};
use super::connection::{Connection, Parameters};
use super::settings::Settings;
use crate::log::LogError;
use crate::support::seldom::Seldom;
use crate::sync::lock;

/// The most users in one statement.
const MAX_GROUP: usize = 1_024;

/// Bytes of content after which a statement takes no more appends.
const MAX_BYTES: usize = 4 << 20;

/// Appends that may wait; further ones are answered as unavailable.
const MAX_WAITING: usize = 65_536;

/// The pause before a connection is opened again: the first, doubled up to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How long a statement that reads or removes much may take.
pub(super) const SLOW: Duration = Duration::from_secs(60);

/// The connections to one engine. Dropping it closes them.
pub(super) struct Pool {
    shared: Arc<Shared>,
    for_calls: Vec<watch::Receiver<CallConnection>>,
    next: AtomicUsize,
    tasks: Vec<AbortHandle>,
}

/// The state that the tasks share. `waiting` is locked only to put or take appends.
struct Shared {
    settings: Settings,
    waiting: Mutex<VecDeque<Append>>,
    arrived: Notify,
    /// The number of open connections that append.
    appending: AtomicUsize,
    /// How long the last append took, in microseconds.
    last: AtomicU64,
    refusals: Seldom<&'static str>,
}

/// A connection for calls that are not appends, or why there is none.
#[derive(Clone)]
enum CallConnection {
    Open(Arc<Connection>),
    Closed(String),
}

impl Pool {
    /// Opens all connections.
    pub(super) async fn open(settings: Settings) -> Result<Self, NotConnected> {
        let count = settings.connections.get();
        let opening = (0..2 * count).map(|_| Connection::open(&settings));
        let mut opened = futures_util::future::try_join_all(opening).await?;
        let shared = Arc::new(Shared {
            settings,
            waiting: Mutex::default(),
            arrived: Notify::new(),
            appending: AtomicUsize::new(0),
            last: AtomicU64::new(0),
            refusals: Seldom::new(Duration::from_secs(10)),
        });
        let mut tasks = Vec::with_capacity(2 * count);
        for connection in opened.drain(..count) {
            tasks.push(tokio::spawn(Arc::clone(&shared).append(connection)).abort_handle());
        }
        let mut for_calls = Vec::with_capacity(count);
        for connection in opened {
            let connection = Arc::new(connection);
            let (slot, of_slot) = watch::channel(CallConnection::Open(Arc::clone(&connection)));
            for_calls.push(of_slot);
            tasks.push(tokio::spawn(Arc::clone(&shared).keep(connection, slot)).abort_handle());
        }
        Ok(Self { shared, for_calls, next: AtomicUsize::new(0), tasks })
    }

    /// Queues an append.
    pub(super) fn append(&self, append: Append) {
        let refused = {
            let mut waiting = lock(&self.shared.waiting);
            if waiting.len() < MAX_WAITING {
                waiting.push_back(append);
                None
            } else {
                Some(append)
            }
        };
        match refused {
            None => self.shared.arrived.notify_one(),
            Some(append) => {
                let full = LogError::Unavailable("the queue of appends to PostgreSQL is full".to_owned());
                appends::refuse(vec![append], &full);
            }
        }
    }

    /// Executes a statement on a connection that does not append.
    pub(super) async fn execute(
        &self,
        statement: &'static str,
        parameters: Parameters<'_>,
        timeout: Option<Duration>,
    ) -> Result<Vec<Row>, LogError> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut why = String::new();
        for turn in 0..self.for_calls.len() {
            let slot = self.for_calls[(first + turn) % self.for_calls.len()].borrow().clone();
            match slot {
                CallConnection::Open(connection) => {
                    return Ok(connection.execute(statement, parameters, timeout).await?);
                }
                CallConnection::Closed(reason) => why = reason,
            }
        }
        Err(LogError::Unavailable(why))
    }

    /// How long the last append took.
    pub(super) fn last(&self) -> Duration {
        Duration::from_micros(self.shared.last.load(Ordering::Relaxed))
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.shared.settings
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Shared {
    /// Opens a connection, and retries until it succeeds. `failed` is called with the reason of each failure.
    async fn reopen(&self, failed: impl Fn(&NotConnected)) -> Connection {
        let mut pause = PAUSES.0;
        loop {
            match Connection::open(&self.settings).await {
                Ok(connection) => return connection,
                Err(error) => {
                    if let Some(times) = self.refusals.say(&"connect") {
                        tracing::warn!(%error, times, "the log cannot connect");
                    }
                    failed(&error);
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Keeps a connection for calls open.
    async fn keep(self: Arc<Self>, mut connection: Arc<Connection>, slot: watch::Sender<CallConnection>) {
        loop {
            connection.ended().await;
            let closed = |why: String| slot.send_replace(CallConnection::Closed(why));
            closed("the connection to PostgreSQL is lost".to_owned());
            connection = Arc::new(self.reopen(|error| drop(closed(error.to_string()))).await);
            slot.send_replace(CallConnection::Open(Arc::clone(&connection)));
        }
    }

    /// Keeps a connection open, and executes the appends that wait.
    async fn append(self: Arc<Self>, mut connection: Connection) {
        loop {
            self.appending.fetch_add(1, Ordering::Relaxed);
            self.serve(&connection).await;
            self.appending.fetch_sub(1, Ordering::Relaxed);
            connection = self.reopen(|error| self.refuse(error)).await;
        }
    }

    /// Refuses the appends that wait, unless another connection takes them.
    fn refuse(&self, why: &NotConnected) {
        if self.appending.load(Ordering::Relaxed) == 0 {
            let waiting = core::mem::take(&mut *lock(&self.waiting));
            appends::refuse(waiting.into(), &LogError::Unavailable(why.to_string()));
        }
    }

    /// Executes the appends that wait, until the connection ends.
    async fn serve(&self, connection: &Connection) {
        let mut ended = core::pin::pin!(connection.ended());
        loop {
            tokio::select! {
                () = &mut ended => return,
                () = self.arrived.notified() => {}
            }
            loop {
                // The task that has appended first wakes this one. One answer has woken other tasks too, which are
                // about to append: their appends belong into the same statement.
                tokio::task::yield_now().await;
                let group = self.take();
                if group.is_empty() {
                    break;
                }
                let began = Instant::now();
                appends::append(connection, self.settings.failover, group).await;
                let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.last.store(took, Ordering::Relaxed);
                if connection.client().is_closed() {
                    // The next append is for another connection.
                    self.arrived.notify_one();
                    break;
                }
            }
        }
    }

    /// Takes the appends of one statement, in the order of users.
    fn take(&self) -> Vec<Append> {
        let mut waiting = lock(&self.waiting);
        let (mut group, mut later, mut bytes) = (BTreeMap::new(), VecDeque::new(), 0);
        while group.len() < MAX_GROUP
            && bytes < MAX_BYTES
            && let Some(append) = waiting.pop_front()
        {
            match group.entry(append.user) {
                Entry::Occupied(_) => later.push_back(append),
                Entry::Vacant(place) => {
                    bytes += append.bytes();
                    place.insert(append);
                }
            }
        }
        while let Some(append) = later.pop_back() {
            waiting.push_front(append);
        }
        if !waiting.is_empty() {
            self.arrived.notify_one();
        }
        group.into_values().collect()
    }
}
