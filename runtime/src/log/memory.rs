//! A log in memory: for tests, and for a gateway whose chats need not outlive it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep_model::{Epoch, Offset, UserId};

use super::{Held, Log, LogError, Written};
use crate::payload::now_ms;
use crate::sync::lock;
use crate::verify::BoxFuture;

/// Streams that last as long as the process. Each process is an epoch of its own.
#[derive(Debug)]
pub struct MemoryLog {
    epoch: Epoch,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    users: BTreeMap<Arc<str>, UserId>,
    subjects: Vec<Arc<str>>,
    streams: BTreeMap<UserId, Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    trimmed: Offset,
    head: Offset,
    entries: VecDeque<(Offset, Written)>,
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
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl Log for MemoryLog {
    fn user<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<UserId, LogError>> {
        let user = self.with(|inside| {
            if let Some(user) = inside.users.get(subject) {
                return *user;
            }
            let subject: Arc<str> = Arc::from(subject);
            inside.subjects.push(Arc::clone(&subject));
            let user = UserId(inside.subjects.len() as u64);
            inside.users.insert(subject, user);
            user
        });
        Box::pin(core::future::ready(Ok(user)))
    }

    fn subject(&self, user: UserId) -> BoxFuture<'_, Result<Arc<str>, LogError>> {
        let place = usize::try_from(user.0).ok().and_then(|number| number.checked_sub(1));
        let subject = self.with(|inside| inside.subjects.get(place?).cloned());
        let unknown = || LogError::Unavailable("the user is unknown".to_owned());
        Box::pin(core::future::ready(subject.ok_or_else(unknown)))
    }

    fn restore(&self, user: UserId) -> BoxFuture<'_, Result<Held, LogError>> {
        let held = self.with(|inside| {
            let stream = inside.streams.entry(user).or_default();
            let entries = stream.entries.iter().cloned().collect();
            Held { epoch: self.epoch, trimmed: stream.trimmed, entries }
        });
        Box::pin(core::future::ready(Ok(held)))
    }

    fn append(&self, user: UserId, after: Offset, batch: Vec<Written>) -> BoxFuture<'_, Result<Vec<Offset>, LogError>> {
        let offsets = self.with(|inside| {
            let stream = inside.streams.entry(user).or_default();
            let there = stream.entries.iter().filter(|(offset, _)| *offset > after);
            let mut offsets = super::already_there(there.map(|(offset, entry)| (*offset, entry)), &batch)?;
            for entry in batch.into_iter().skip(offsets.len()) {
                stream.head = Offset(stream.head.0.max(after.0) + 1);
                stream.entries.push_back((stream.head, entry));
                offsets.push(stream.head);
            }
            Ok(offsets)
        });
        Box::pin(core::future::ready(offsets))
    }

    fn trim(&self, user: UserId, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        self.with(|inside| {
            let stream = inside.streams.entry(user).or_default();
            while stream.entries.front().is_some_and(|(offset, _)| *offset <= through) {
                stream.trimmed = through;
                stream.entries.pop_front();
            }
        });
        Box::pin(core::future::ready(Ok(())))
    }

    fn probe(&self) -> BoxFuture<'_, Result<Duration, LogError>> {
        Box::pin(core::future::ready(Ok(Duration::ZERO)))
    }
}
