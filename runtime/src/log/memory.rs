//! A log in memory: for tests, and for a gateway whose conversations need not outlive the process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep_model::run::Kind;
use lockstep_model::session::MAX_PAST;
use lockstep_model::{Epoch, FencingToken, Incarnation, MessageId, Offset, Tenure, UserId};

use super::conversations::{self, Page, Retention, Stale, Thread, ThreadPlace, Threads, Turns};
use super::deletions::{Deletions, message};
use super::retention::{self, Sizes};
use super::{Acquired, Conversations, Held, Log, LogError, Written, already_there};
use crate::BoxFuture;
use crate::payload::now_ms;
use crate::sync::lock;

/// Streams that last as long as the process. Each process is a separate epoch.
#[derive(Debug)]
pub struct MemoryLog {
    epoch: Epoch,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    users: BTreeMap<Arc<str>, UserId>,
    /// By user number, from one; `None` for erased users.
    subjects: Vec<Option<Arc<str>>>,
    streams: BTreeMap<UserId, Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    /// The newest token, and whether its owner still holds it.
    token: FencingToken,
    owned: bool,
    trimmed: Offset,
    head: Offset,
    read: Offset,
    /// The newest messages received in entries that are no longer in `entries`, in order, at most [`MAX_PAST`].
    past: VecDeque<(Offset, MessageId)>,
    /// An entry that is gone with its thread leaves its place and its message id, while its owner may append it again.
    entries: VecDeque<(Offset, FencingToken, Kept)>,
    /// The titles of renamed threads.
    titles: BTreeMap<Option<String>, String>,
}

#[derive(Debug)]
enum Kept {
    Entry(Written),
    Gone(Option<MessageId>),
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self { epoch: Epoch(now_ms()), inside: Mutex::default() }
    }

    fn with<R>(&self, act: impl FnOnce(&mut Inside) -> R) -> R {
        act(&mut lock(&self.inside))
    }

    fn ready<'a, R: Send + 'a>(&self, act: impl FnOnce(&mut Inside) -> R) -> BoxFuture<'a, R> {
        Box::pin(core::future::ready(self.with(act)))
    }

    /// Runs `act` on a user's stream if the caller is its owner.
    fn owner<'a, R: Send + 'a>(
        &self,
        user: UserId,
        tenure: Tenure,
        act: impl FnOnce(&mut Stream) -> Result<R, LogError>,
    ) -> BoxFuture<'a, Result<R, LogError>> {
        let epoch = self.epoch;
        self.ready(|inside| match inside.streams.get_mut(&user) {
            Some(stream) if stream.owned && tenure == (Tenure { epoch, token: stream.token }) => act(stream),
            Some(_) | None => Err(LogError::Fenced),
        })
    }
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl Kept {
    fn message(&self) -> Option<MessageId> {
        match self {
            Self::Entry(entry) => message(entry),
            Self::Gone(message) => *message,
        }
    }
}

impl Stream {
    fn held(&self) -> Held {
        let (mut past, mut entries) = (self.past.clone(), Vec::with_capacity(self.entries.len()));
        for (offset, _, kept) in &self.entries {
            match kept {
                Kept::Entry(entry) => entries.push((*offset, entry.clone())),
                Kept::Gone(message) => remember(&mut past, *offset, *message),
            }
        }
        let past = past.into_iter().map(|(_, message)| message).collect();
        Held { trimmed: self.trimmed, read: self.read, past, entries }
    }

    fn page(&self, after: Offset, through: Offset, bytes: usize) -> Page {
        let trimmed = after.max(self.trimmed).min(through);
        let behind = self.entries.partition_point(|(offset, ..)| *offset <= trimmed);
        let (mut entries, mut size) = (Vec::new(), 0);
        for (offset, _, kept) in self.entries.range(behind..).take_while(|(offset, ..)| *offset <= through) {
            let Kept::Entry(entry) = kept else { continue };
            if size > bytes
                && let Some((last, _)) = entries.last()
            {
                return Page { trimmed, through: *last, entries };
            }
            size += entry.record.data.get().len();
            entries.push((*offset, entry.clone()));
        }
        Page { trimmed, entries, through }
    }

    fn stale(&self, user: UserId, retention: &Retention, now: u64) -> Vec<Stale> {
        let entries = self.held().entries;
        let threads = conversations::threads_of(&entries);
        let deletions = Deletions::of(&entries);
        let sizes = |thread: &Thread| {
            let mut sizes = Sizes { updated: thread.updated, turns: 0, bytes: 0 };
            for (offset, entry) in &entries {
                if entry.record.thread == thread.name && !deletions.covers(*offset, thread.name.as_deref()) {
                    sizes.turns += u64::from(message(entry).is_some());
                    sizes.bytes += entry.record.data.get().len() as u64;
                }
            }
            (thread.name.clone(), sizes)
        };
        let open: Vec<_> = threads.iter().filter(|thread| thread.open).map(|thread| thread.name.clone()).collect();
        let sizes = threads.iter().map(sizes).collect();
        let stale = retention::stale(sizes, |thread| open.contains(thread), retention, now);
        stale.into_iter().map(|thread| Stale { user, thread, as_of: self.head }).collect()
    }

    /// Removes the content of the entries that are gone with a deletion.
    fn delete(&mut self, deletion: Offset, thread: Option<&str>) {
        let mut deletions = Deletions::default();
        deletions.add(deletion, thread);
        self.titles.remove(&thread.map(str::to_owned));
        for (offset, _, kept) in &mut self.entries {
            if let Kept::Entry(entry) = kept
                && deletions.is_gone(*offset, entry.kind, entry.record.thread.as_deref())
            {
                *kept = Kept::Gone(message(entry));
            }
        }
    }

    /// Removes the places of gone entries that an earlier owner has appended, because those are not repeated.
    fn compact(&mut self) {
        let (newest, past) = (self.token, &mut self.past);
        self.entries.retain(|(offset, token, kept)| match kept {
            Kept::Gone(message) if *token < newest => {
                remember(past, *offset, *message);
                false
            }
            Kept::Gone(_) | Kept::Entry(_) => true,
        });
    }
}

/// Inserts a message in order. Only the newest are kept.
fn remember(past: &mut VecDeque<(Offset, MessageId)>, offset: Offset, message: Option<MessageId>) {
    let Some(message) = message else { return };
    past.insert(past.partition_point(|(before, _)| *before < offset), (offset, message));
    if past.len() > MAX_PAST {
        past.pop_front();
    }
}

impl Inside {
    /// The subject of a number; `None` if the number was never assigned, `Some(None)` if its user is erased.
    fn subject(&mut self, user: UserId) -> Option<&mut Option<Arc<str>>> {
        let place = usize::try_from(user.0).ok()?.checked_sub(1)?;
        self.subjects.get_mut(place)
    }

    fn held(&mut self, user: UserId) -> Result<Held, LogError> {
        if self.subject(user).is_none_or(|subject| subject.is_none()) {
            return Err(LogError::Fenced);
        }
        let none = || Held { trimmed: Offset(0), read: Offset(0), past: Vec::new(), entries: Vec::new() };
        Ok(self.streams.get(&user).map_or_else(none, Stream::held))
    }
}

impl Log for MemoryLog {
    fn user<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<UserId, LogError>> {
        self.ready(|inside| {
            if let Some(user) = inside.users.get(subject) {
                return Ok(*user);
            }
            let subject: Arc<str> = Arc::from(subject);
            inside.subjects.push(Some(Arc::clone(&subject)));
            let user = UserId(inside.subjects.len() as u64);
            inside.users.insert(subject, user);
            Ok(user)
        })
    }

    fn subject(&self, user: UserId) -> BoxFuture<'_, Result<Arc<str>, LogError>> {
        let unknown = || LogError::Unavailable("the user is unknown".to_owned());
        self.ready(|inside| inside.subject(user).and_then(|subject| subject.clone()).ok_or_else(unknown))
    }

    fn acquire(&self, user: UserId, _: Incarnation) -> BoxFuture<'_, Result<Acquired, LogError>> {
        self.ready(|inside| {
            if inside.subject(user).is_some_and(|subject| subject.is_none()) {
                return Err(LogError::Fenced);
            }
            let stream = inside.streams.entry(user).or_default();
            stream.token = FencingToken(stream.token.0 + 1);
            stream.owned = true;
            stream.compact();
            Ok(Acquired::Owner(Tenure { epoch: self.epoch, token: stream.token }))
        })
    }

    fn restore(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<Held, LogError>> {
        self.owner(user, tenure, |stream| Ok(stream.held()))
    }

    fn append(
        &self,
        user: UserId,
        tenure: Tenure,
        after: Offset,
        batch: Vec<Written>,
    ) -> BoxFuture<'_, Result<Vec<Offset>, LogError>> {
        self.owner(user, tenure, |stream| {
            let is_newest = stream.entries.back().is_none_or(|(newest, ..)| *newest <= after);
            let behind = match is_newest {
                true => stream.entries.len(),
                false => stream.entries.partition_point(|(offset, ..)| *offset <= after),
            };
            let there = stream.entries.range(behind..).map(|(offset, token, _)| (*offset, *token));
            let mut offsets = already_there((stream.trimmed, stream.head), there, tenure, after, batch.len())?;
            for entry in batch.into_iter().skip(offsets.len()) {
                stream.head = Offset(stream.head.0 + 1);
                if entry.kind == Kind::Deleted {
                    stream.delete(stream.head, entry.record.thread.as_deref());
                }
                stream.entries.push_back((stream.head, tenure.token, Kept::Entry(entry)));
                offsets.push(stream.head);
            }
            Ok(offsets)
        })
    }

    fn trim(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        self.owner(user, tenure, |stream| {
            stream.trimmed = stream.trimmed.max(through.min(stream.head));
            while let Some((offset, _, kept)) = stream.entries.pop_front_if(|(offset, ..)| *offset <= through) {
                remember(&mut stream.past, offset, kept.message());
            }
            Ok(())
        })
    }

    fn read(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        self.owner(user, tenure, |stream| {
            stream.read = stream.read.max(through);
            Ok(())
        })
    }

    fn release(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<(), LogError>> {
        self.owner(user, tenure, |stream| {
            stream.owned = false;
            Ok(())
        })
    }

    fn erase(&self, user: UserId) -> BoxFuture<'_, Result<(), LogError>> {
        self.ready(|inside| {
            inside.streams.remove(&user);
            if let Some(subject) = inside.subject(user).and_then(Option::take) {
                inside.users.remove(&subject);
            }
            Ok(())
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<Duration, LogError>> {
        Box::pin(core::future::ready(Ok(Duration::ZERO)))
    }

    fn conversations(&self) -> Option<&dyn Conversations> {
        Some(self)
    }
}

/// The conversations of the retained entries.
impl Conversations for MemoryLog {
    /// Only retained entries are available.
    fn keeps(&self) -> bool {
        false
    }

    fn threads<'a>(
        &'a self,
        user: UserId,
        before: Option<&'a ThreadPlace>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Threads, LogError>> {
        self.ready(|inside| {
            let mut threads = conversations::threads_of(&inside.held(user)?.entries);
            if let Some(stream) = inside.streams.get(&user) {
                for thread in &mut threads {
                    let given = stream.titles.get(&thread.name.as_deref().map(str::to_owned));
                    thread.title = given.cloned().or(thread.title.take());
                }
            }
            Ok(conversations::page_of(threads, before, limit))
        })
    }

    fn turns<'a>(
        &'a self,
        user: UserId,
        thread: Option<&'a str>,
        before: Option<Offset>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Turns, LogError>> {
        self.ready(|inside| Ok(conversations::turns_of(inside.held(user)?, thread, before, limit)))
    }

    fn rename<'a>(
        &'a self,
        user: UserId,
        thread: Option<&'a str>,
        title: Option<&'a str>,
    ) -> BoxFuture<'a, Result<bool, LogError>> {
        self.ready(|inside| {
            let threads = conversations::threads_of(&inside.held(user)?.entries);
            if !threads.iter().any(|of_user| of_user.name.as_deref() == thread) {
                return Ok(false);
            }
            if let Some(stream) = inside.streams.get_mut(&user) {
                let thread = thread.map(str::to_owned);
                match title {
                    Some(title) => drop(stream.titles.insert(thread, title.to_owned())),
                    None => drop(stream.titles.remove(&thread)),
                }
            }
            Ok(true)
        })
    }

    fn page(
        &self,
        user: UserId,
        after: Offset,
        through: Offset,
        bytes: usize,
    ) -> BoxFuture<'_, Result<Page, LogError>> {
        self.ready(|inside| {
            if inside.subject(user).is_none_or(|subject| subject.is_none()) {
                return Err(LogError::Fenced);
            }
            let none = Stream::default();
            let stream = inside.streams.get(&user).unwrap_or(&none);
            Ok(stream.page(after, through, bytes))
        })
    }

    fn stale(&self, retention: Retention, now: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Stale>, LogError>> {
        self.ready(|inside| {
            let stale = inside.streams.iter().flat_map(|(user, stream)| stream.stale(*user, &retention, now));
            Ok(stale.take(limit).collect())
        })
    }
}
