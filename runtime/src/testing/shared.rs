//! A log in memory that several managers of one process share, as processes share a log elsewhere.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use lockstep_model::run::Kind;
use lockstep_model::{Incarnation, Offset, RunId, Tenure, UserId};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::BoxFuture;
use crate::log::members::{Due, Mark, Member, Progress, Revoked};
use crate::log::{Acquired, Conversations, Held, Log, LogError, Members, MemoryLog, Written};
use crate::sync::lock;
use crate::verify::Revocation;

/// Streams, owners and leases in memory. Clones are handles to the same log. Leases follow tokio's clock.
#[derive(Clone, Debug, Default)]
pub struct SharedLog {
    log: Arc<MemoryLog>,
    owners: Arc<Mutex<Owners>>,
    /// Milliseconds by which answers are late.
    late: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Owners {
    of: BTreeMap<UserId, (Incarnation, Tenure)>,
    leases: BTreeMap<Incarnation, Lease>,
    revoked: Vec<Revoked>,
    broadcasts: Vec<Broadcast>,
}

#[derive(Debug)]
struct Broadcast {
    notice: RunId,
    data: Arc<RawValue>,
    /// The users for whom it was stored.
    users: u64,
    /// Those whose streams do not have it yet, with its run there.
    due: BTreeMap<UserId, RunId>,
}

#[derive(Debug)]
struct Lease {
    address: Arc<str>,
    /// `None` if it has departed.
    ends: Option<Instant>,
    /// The newest revocation that it has applied.
    applied: Mark,
}

impl Lease {
    fn left(&self) -> Option<Duration> {
        self.ends?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}

impl Owners {
    fn lives(&self, who: Incarnation) -> bool {
        self.leases.get(&who).is_some_and(|lease| lease.left().is_some())
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(core::future::ready(value))
}

impl SharedLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends a lease at once, as if its process could not renew it in time.
    pub fn expire(&self, who: Incarnation) {
        if let Some(lease) = lock(&self.owners).leases.get_mut(&who) {
            lease.ends = None;
        }
    }

    /// Lets answers to appends, and what is due, arrive this much later than they were true.
    pub fn delay(&self, late: Duration) {
        self.late.store(u64::try_from(late.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn answer<'a, T: Send + 'a>(&self, value: T) -> BoxFuture<'a, T> {
        let late = Duration::from_millis(self.late.load(Ordering::Relaxed));
        Box::pin(async move {
            if !late.is_zero() {
                tokio::time::sleep(late).await;
            }
            value
        })
    }

    /// The user's owner, if it has one.
    #[must_use]
    pub fn owner(&self, user: UserId) -> Option<Incarnation> {
        lock(&self.owners).of.get(&user).map(|(owner, _)| *owner)
    }
}

impl Log for SharedLog {
    fn user<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<UserId, LogError>> {
        self.log.user(subject)
    }

    fn subject(&self, user: UserId) -> BoxFuture<'_, Result<Arc<str>, LogError>> {
        self.log.subject(user)
    }

    fn acquire(&self, user: UserId, who: Incarnation) -> BoxFuture<'_, Result<Acquired, LogError>> {
        Box::pin(async move {
            {
                let owners = lock(&self.owners);
                if !owners.lives(who) {
                    return Err(LogError::Unavailable("the process has no lease".to_owned()));
                }
                if let Some((owner, _)) = owners.of.get(&user)
                    && *owner != who
                    && owners.lives(*owner)
                {
                    return Ok(Acquired::Elsewhere(*owner));
                }
            }
            // Two callers raise the generation one after the other, and the newest owns the user.
            let acquired = self.log.acquire(user, who).await?;
            if let Acquired::Owner(tenure) = acquired {
                let mut owners = lock(&self.owners);
                let newest = owners.of.get(&user).is_none_or(|(_, known)| known.token < tenure.token);
                if newest {
                    owners.of.insert(user, (who, tenure));
                }
            }
            Ok(acquired)
        })
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
        let runs: Vec<RunId> = batch.iter().filter(|entry| entry.kind == Kind::Notice).map(|entry| entry.run).collect();
        // Under the lock, so that no process reads that a notice is due which is in the stream.
        let mut owners = lock(&self.owners);
        let appended = self.log.append(user, tenure, after, batch).now_or_never();
        let appended = appended.unwrap_or_else(|| Err(LogError::Unavailable("the log in memory waits".to_owned())));
        if appended.is_ok() {
            for broadcast in &mut owners.broadcasts {
                broadcast.due.retain(|of, run| *of != user || !runs.contains(run));
            }
        }
        self.answer(appended)
    }

    fn trim(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        self.log.trim(user, tenure, through)
    }

    fn read(&self, user: UserId, tenure: Tenure, through: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        self.log.read(user, tenure, through)
    }

    fn release(&self, user: UserId, tenure: Tenure) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            self.log.release(user, tenure).await?;
            let mut owners = lock(&self.owners);
            if owners.of.get(&user).is_some_and(|(_, known)| *known == tenure) {
                owners.of.remove(&user);
            }
            Ok(())
        })
    }

    fn erase(&self, user: UserId) -> BoxFuture<'_, Result<(), LogError>> {
        let mut owners = lock(&self.owners);
        owners.of.remove(&user);
        for broadcast in &mut owners.broadcasts {
            broadcast.due.remove(&user);
        }
        self.log.erase(user)
    }

    fn probe(&self) -> BoxFuture<'_, Result<Duration, LogError>> {
        self.log.probe()
    }

    fn conversations(&self) -> Option<&dyn Conversations> {
        self.log.conversations()
    }

    fn members(&self) -> Option<&dyn Members> {
        Some(self)
    }
}

impl Members for SharedLog {
    fn renew<'a>(&'a self, who: Incarnation, address: &'a str, lease: Duration) -> BoxFuture<'a, Result<(), LogError>> {
        let mut owners = lock(&self.owners);
        if owners.leases.get(&who).is_some_and(|lease| lease.left().is_none()) {
            return ready(Err(LogError::Fenced));
        }
        let ends = Some(Instant::now() + lease);
        let applied = owners.leases.get(&who).map_or(Mark(0), |lease| lease.applied);
        owners.leases.insert(who, Lease { address: Arc::from(address), ends, applied });
        ready(Ok(()))
    }

    fn depart(&self, who: Incarnation) -> BoxFuture<'_, Result<(), LogError>> {
        // Also one that was never a member: its first renewal may be late.
        let departed = Lease { address: Arc::from(""), ends: None, applied: Mark(0) };
        lock(&self.owners).leases.entry(who).or_insert(departed).ends = None;
        ready(Ok(()))
    }

    fn address(&self, who: Incarnation) -> BoxFuture<'_, Result<Option<Arc<str>>, LogError>> {
        let owners = lock(&self.owners);
        let lease = owners.leases.get(&who).filter(|lease| lease.left().is_some());
        ready(Ok(lease.map(|lease| Arc::clone(&lease.address))))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Member>, LogError>> {
        let owners = lock(&self.owners);
        let members = owners
            .leases
            .iter()
            .filter_map(|(who, lease)| lease.left().map(|left| Member::new(*who, Arc::clone(&lease.address), left)));
        ready(Ok(members.collect()))
    }

    fn owner(&self, user: UserId) -> BoxFuture<'_, Result<Option<Member>, LogError>> {
        let owners = lock(&self.owners);
        let member = owners.of.get(&user).and_then(|(owner, _)| {
            let lease = owners.leases.get(owner)?;
            Some(Member::new(*owner, Arc::clone(&lease.address), lease.left()?))
        });
        ready(Ok(member))
    }

    fn publish<'a>(&'a self, revocation: &'a Revocation, at: u64) -> BoxFuture<'a, Result<Mark, LogError>> {
        let mut owners = lock(&self.owners);
        let mark = Mark(owners.revoked.len() as u64 + 1);
        owners.revoked.push(Revoked { mark, revocation: revocation.clone(), at });
        ready(Ok(mark))
    }

    fn revocations(&self, after: Mark, limit: usize) -> BoxFuture<'_, Result<Vec<Revoked>, LogError>> {
        let owners = lock(&self.owners);
        ready(Ok(owners.revoked.iter().filter(|revoked| revoked.mark > after).take(limit).cloned().collect()))
    }

    fn applied(&self, who: Incarnation, through: Mark) -> BoxFuture<'_, Result<(), LogError>> {
        if let Some(lease) = lock(&self.owners).leases.get_mut(&who) {
            lease.applied = lease.applied.max(through);
        }
        ready(Ok(()))
    }

    fn behind(&self, mark: Mark) -> BoxFuture<'_, Result<u64, LogError>> {
        let owners = lock(&self.owners);
        let behind = owners.leases.values().filter(|lease| lease.left().is_some() && lease.applied < mark);
        ready(Ok(behind.count() as u64))
    }

    fn broadcast<'a>(&'a self, notice: RunId, data: &'a RawValue) -> BoxFuture<'a, Result<(), LogError>> {
        let mut owners = lock(&self.owners);
        if owners.broadcasts.iter().all(|known| known.notice != notice) {
            let owned = owners.of.iter().filter(|(_, (owner, _))| owners.lives(*owner)).map(|(user, _)| *user);
            let random = |user: UserId| (user, RunId(crate::random().unwrap_or(notice.0 ^ user.0)));
            let due: BTreeMap<UserId, RunId> = owned.map(random).collect();
            owners.broadcasts.push(Broadcast {
                notice,
                data: Arc::from(data.to_owned()),
                users: due.len() as u64,
                due,
            });
        }
        ready(Ok(()))
    }

    fn due(&self, who: Incarnation, limit: usize) -> BoxFuture<'_, Result<Vec<Due>, LogError>> {
        let owners = lock(&self.owners);
        let is_named =
            |user: &UserId| owners.of.get(user).is_none_or(|(owner, _)| *owner == who || !owners.lives(*owner));
        let due = owners.broadcasts.iter().flat_map(|broadcast| {
            let Broadcast { notice, data, due, .. } = broadcast;
            due.iter().map(|(user, run)| Due { user: *user, notice: *notice, run: *run, data: Arc::clone(data) })
        });
        self.answer(Ok(due.filter(|due| is_named(&due.user)).take(limit).collect()))
    }

    fn progress(&self, notice: RunId) -> BoxFuture<'_, Result<Progress, LogError>> {
        let owners = lock(&self.owners);
        let broadcast = owners.broadcasts.iter().find(|broadcast| broadcast.notice == notice);
        let progress = broadcast.map(|of| Progress { users: of.users, due: of.due.len() as u64 });
        ready(progress.ok_or_else(|| LogError::Unavailable("there is no such broadcast".to_owned())))
    }
}
