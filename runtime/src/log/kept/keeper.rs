//! The thread that copies from the log to the store, and lets the log forget the copied entries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use lockstep_model::run::Kind;
use lockstep_model::{Offset, UserId};
use tokio::sync::oneshot;

use super::keep::Copied;
use super::store::{self, Store};
use super::unavailable;
use crate::log::LogError;
use crate::log::disk::{Between, DiskLog};
use crate::support::seldom::Seldom;

/// The number of commit pauses without work after which the store's journal is truncated.
const IDLE: u32 = 30;

/// The most users in one commit.
const MAX_USERS: usize = 256;

/// A request to the thread that writes to the store.
pub(super) enum Job {
    /// Copies up to this offset: a run has ended there, or a thread was deleted.
    Copy(UserId, Offset),
    /// Allows the log to forget everything at or before this offset.
    Trim(UserId, Offset),
    Erase(UserId, oneshot::Sender<Result<(), LogError>>),
    Rename {
        user: UserId,
        thread: Option<String>,
        title: Option<String>,
        answer: oneshot::Sender<Result<bool, LogError>>,
    },
}

/// The thread that writes to the store.
pub(super) struct Keeper {
    log: Arc<DiskLog>,
    store: Store,
    path: PathBuf,
    /// The identity of the file at `path` when it was opened.
    file: Option<u64>,
    due: BTreeMap<UserId, Due>,
    /// Whether the store's journal may contain deleted data.
    uncut: bool,
    /// How long due work waits for more.
    pause: Duration,
}

/// The work that is due for one user.
#[derive(Clone, Copy, Default)]
struct Due {
    copy: Offset,
    forget: Offset,
}

impl Keeper {
    pub(super) fn new(log: Arc<DiskLog>, store: Store, path: &Path, pause: Duration) -> Self {
        Self {
            log,
            store,
            path: path.to_owned(),
            file: store::identity(path),
            due: BTreeMap::new(),
            uncut: true,
            pause,
        }
    }

    pub(super) fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        let refusals = Seldom::new(Duration::from_secs(10));
        let (mut at, mut tidy) = (None::<Instant>, false);
        loop {
            let order = match at {
                None if tidy => jobs.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                None => jobs.recv_timeout(self.pause * IDLE),
                Some(at) => jobs.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match order {
                Ok(Job::Copy(user, through)) => {
                    let due = self.due(user);
                    due.copy = through.max(due.copy);
                }
                Ok(Job::Trim(user, through)) => {
                    let due = self.due(user);
                    due.forget = through.max(due.forget);
                }
                Ok(Job::Erase(user, answer)) => {
                    self.due.remove(&user);
                    let erased = self.store.erase(user).map_err(|error| unavailable(&error));
                    self.uncut = true;
                    self.cut();
                    let _ = answer.send(erased);
                }
                Ok(Job::Rename { user, thread, title, answer }) => {
                    let _ = answer.send(self.rename(user, thread.as_deref(), title.as_deref()));
                }
                Err(mpsc::RecvTimeoutError::Timeout) if at.is_none() => {
                    // A journal that cannot be truncated now is truncated after the next commit.
                    self.cut();
                    tidy = true;
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    (at, tidy) = (None, false);
                    if let Err(error) = self.work()
                        && let Some(times) = refusals.say(&"copy")
                    {
                        let path = self.path.display();
                        tracing::warn!(%error, %path, times, "conversations cannot be stored; they stay in the log");
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            if at.is_none() && (!self.due.is_empty() || self.uncut) {
                at = Some(Instant::now() + self.pause);
            }
        }
    }

    /// Truncates the store's journal. If that is not possible now, it is retried after the next commit, or soon after a
    /// deletion.
    fn cut(&mut self) {
        self.uncut &= !self.store.checkpoint().unwrap_or(false);
    }

    fn due(&mut self, user: UserId) -> &mut Due {
        self.due.entry(user).or_default()
    }

    /// Copies everything of the user first, because the thread may be only in the log.
    fn rename(&mut self, user: UserId, thread: Option<&str>, title: Option<&str>) -> Result<bool, LogError> {
        let (_, head) = self.log.span(user).ok_or(LogError::Fenced)?;
        self.due(user).copy = head;
        let due = *self.due(user);
        self.settle(vec![(user, due)])?;
        self.store.rename(user, thread, title).map_err(|error| unavailable(&error))
    }

    /// Does the due work.
    fn work(&mut self) -> Result<(), LogError> {
        let users = self.due.iter().take(MAX_USERS).map(|(user, due)| (*user, *due)).collect();
        let settled = self.settle(users);
        if self.uncut {
            self.cut();
        }
        settled
    }

    /// Does the due work of these users, in one commit.
    fn settle(&mut self, users: Vec<(UserId, Due)>) -> Result<(), LogError> {
        if users.is_empty() {
            return Ok(());
        }
        if store::identity(&self.path) != self.file {
            let why = "the file was removed or replaced; restart the gateway";
            return Err(LogError::Unavailable(why.to_owned()));
        }
        let (mut found, mut failed) = (Vec::new(), Ok(()));
        for (user, due) in &users {
            match self.fresh(*user, due.copy.max(due.forget)) {
                Ok(fresh) => found.extend(fresh),
                Err(error) => failed = Err(error),
            }
        }
        let deletes = |fresh: &Fresh| fresh.3.entries.iter().any(|(_, entry)| entry.kind == Kind::Deleted);
        self.uncut |= found.iter().any(deletes);
        let copied = found.iter_mut().map(|(user, subject, through, Between { entries, gone })| Copied {
            user: *user,
            subject,
            through: *through,
            entries: core::mem::take(entries),
            gone: core::mem::take(gone),
        });
        self.store.keep(copied.collect()).map_err(|error| unavailable(&error))?;
        for (user, Due { forget, .. }) in users {
            // Nothing is forgotten of a user whose entries cannot be read.
            if found.iter().any(|(of, ..)| *of == user) {
                self.log.forget(user, forget);
            }
            self.due.remove(&user);
        }
        failed
    }

    /// Returns the user's entries up to an offset that the log has and the store does not.
    fn fresh(&self, user: UserId, through: Offset) -> Result<Option<Fresh>, LogError> {
        let Some((subject, places)) = self.log.places(user) else { return Ok(None) };
        let high = self.store.high(user, &subject).map_err(|error| unavailable(&error))?.unwrap_or_default();
        let between = DiskLog::between(user, places, high, through)?;
        Ok(Some((user, subject, through, between)))
    }
}

/// A user, its subject, an offset, and the entries up to it.
type Fresh = (UserId, Arc<str>, Offset, Between);
