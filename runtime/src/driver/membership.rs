//! The driver of a [`member`]: it renews this process's lease, and ends every session when the lease has ended.

use core::future::pending;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lockstep_model::member::{self, Deadline, Input, Output};
use lockstep_model::{Incarnation, RenewalId};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::Core;
use super::revocations::{self, AsOf};
use crate::cluster::Cluster;
use crate::log::guarded::Guarded;
use crate::log::members::{Mark, Revoked};
use crate::log::{LogError, Members};
use crate::payload::now_ms;
use crate::sync::lock;
use crate::verify::{NotRevoked, Revocation};

/// No incarnation, and no deadline.
const NONE: u64 = 0;

/// The membership of this process.
pub(crate) struct MembershipDriver {
    cluster: Cluster,
    state: Mutex<State>,
    /// The incarnation under which users are acquired.
    incarnation: AtomicU64,
    /// When the lease ends, in milliseconds after `began`.
    ends: AtomicU64,
    began: Instant,
    /// Notified when the task has something to do.
    changed: Notify,
    /// The newest revocation of the log that was applied here.
    applied: tokio::sync::Mutex<Mark>,
    /// Notified when this process has sent a notice to everyone.
    pub(super) announced: Notify,
    /// Whether this process has left.
    left: watch::Sender<bool>,
}

/// The interval between polls for revocations of other processes.
const LOOK: Duration = Duration::from_millis(500);

/// The poll interval while a revocation waits for all processes to apply it.
const LOOK_BEHIND: Duration = Duration::from_millis(50);

/// The most revocations that are read at once.
const MAX_REVOCATIONS: usize = 1_024;

struct State {
    machine: member::Membership,
    renewal: Option<Instant>,
    lease: Option<Instant>,
    calls: Vec<Call>,
}

/// A call of the log.
enum Call {
    Renew(Incarnation, RenewalId),
    Depart(Incarnation),
    /// Look for revocations.
    Look(Incarnation),
}

impl MembershipDriver {
    pub(crate) fn new(cluster: Cluster) -> Self {
        let state = State { machine: member::Membership::new(), renewal: None, lease: None, calls: Vec::new() };
        Self {
            cluster,
            state: Mutex::new(state),
            incarnation: AtomicU64::new(NONE),
            ends: AtomicU64::new(NONE),
            // A deadline is at least a millisecond later.
            began: Instant::now(),
            changed: Notify::new(),
            applied: tokio::sync::Mutex::default(),
            announced: Notify::new(),
            left: watch::Sender::new(false),
        }
    }

    /// This process's part in its cluster.
    pub(crate) const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The incarnation under which users are acquired. Without a lease, it is one that is never a member, so the log
    /// grants nothing.
    pub(super) fn incarnation(&self) -> Incarnation {
        Incarnation(self.incarnation.load(Ordering::Acquire))
    }

    /// The incarnation of this process, while it has a lease.
    pub(super) fn member(&self) -> Option<Incarnation> {
        Some(self.incarnation()).filter(|who| *who != Incarnation(NONE))
    }

    /// Ends the lease if its time is over. A process that was paused calls this before it shows anything to a client
    /// (OWN-5).
    pub(super) fn check(&self, core: &Core) {
        let ends = self.ends.load(Ordering::Acquire);
        if ends != NONE && self.millis(Instant::now()) >= ends {
            self.step(core, Input::Expired(Deadline::Lease));
        }
    }

    /// Leaves the cluster: no session is left.
    pub(super) fn leave(&self, core: &Core) {
        self.step(core, Input::Leave);
    }

    /// Leaves the cluster, and returns when it has left, or shortly before the lease ends. Cancel safe.
    pub(super) async fn leaves(&self, core: &Core) {
        let mut left = self.left.subscribe();
        self.leave(core);
        let _ = left.wait_for(|left| *left).await;
    }

    /// Serves the machine until it has left, or the core is gone.
    pub(super) async fn serve(self: Arc<Self>, core: Weak<Core>, log: Arc<Guarded>) {
        self.serve_machine(core, log).await;
        self.left.send_replace(true);
    }

    async fn serve_machine(&self, core: Weak<Core>, log: Arc<Guarded>) {
        let mut calls = FuturesUnordered::new();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if let Some(core) = core.upgrade() {
            self.join(&core);
        }
        loop {
            let (lease, renewal) = {
                let mut state = lock(&self.state);
                calls.extend(core::mem::take(&mut state.calls).into_iter().map(|call| self.call(&core, &log, call)));
                if state.machine.state() == member::State::Gone {
                    return;
                }
                (state.lease, state.renewal)
            };
            let input = tokio::select! {
                biased;
                () = at(lease) => Some(Input::Expired(Deadline::Lease)),
                Some(answer) = calls.next() => answer,
                () = at(renewal) => Some(Input::Expired(Deadline::Renewal)),
                () = self.changed.notified() => None,
                _ = looks.tick(), if self.member().is_some() => {
                    lock(&self.state).calls.push(Call::Look(self.incarnation()));
                    None
                }
            };
            let Some(core) = core.upgrade() else { return };
            if let Some(input) = input {
                self.step(&core, input);
            }
        }
    }

    /// Joins under a fresh incarnation.
    fn join(&self, core: &Core) {
        match crate::random() {
            Ok(random) => self.step(core, Input::Join { incarnation: Incarnation(random.max(NONE + 1)) }),
            Err(error) => tracing::error!(%error, "this process cannot join its cluster"),
        }
    }

    fn step(&self, core: &Core, input: Input) {
        let (mut out, mut stops) = (Vec::new(), false);
        let lost = {
            let mut state = lock(&self.state);
            let _ = state.machine.step(&self.cluster.limits, input, &mut out);
            for output in out {
                match output {
                    Output::Renew { incarnation, attempt } => state.calls.push(Call::Renew(incarnation, attempt)),
                    Output::Depart { incarnation } => state.calls.push(Call::Depart(incarnation)),
                    Output::Joined { incarnation } => {
                        tracing::info!(incarnation = incarnation.0, address = &*self.cluster.address, "joined");
                        self.incarnation.store(incarnation.0, Ordering::Release);
                    }
                    Output::Stop => stops = true,
                    Output::Arm(deadline, after) => state.set(deadline, Some(Instant::now() + after)),
                    Output::Disarm(deadline) => state.set(deadline, None),
                }
            }
            if state.machine.incarnation().is_none() {
                self.incarnation.store(NONE, Ordering::Release);
            }
            self.ends.store(state.lease.map_or(NONE, |lease| self.millis(lease).max(1)), Ordering::Release);
            state.machine.state() == member::State::Lost
        };
        // A session that opens from here on asks under an incarnation that is no member.
        if stops {
            tracing::warn!("this process was cut off from the log: its lease has ended, and its sessions end");
            core.lose();
        }
        if lost {
            self.join(core);
        }
        self.changed.notify_one();
    }

    async fn call(&self, core: &Weak<Core>, log: &Guarded, call: Call) -> Option<Input> {
        match call {
            Call::Renew(incarnation, attempt) => {
                // The lease counts from before the request was sent.
                let began = Instant::now();
                // A process has every revocation before it serves anyone.
                let renewed = async {
                    log.renew(incarnation, &self.cluster.address, self.cluster.limits.lease).await?;
                    let applied = self.catch_up(core, log).await?;
                    log.applied(incarnation, applied).await
                };
                match renewed.await {
                    Ok(()) => Some(Input::Renewed { incarnation, attempt, elapsed: began.elapsed() }),
                    Err(LogError::Fenced) => Some(Input::Refused { incarnation }),
                    Err(error @ (LogError::Unavailable(_) | LogError::Broken(_))) => {
                        if let Some(times) = log.refusals.say(&"renew") {
                            tracing::warn!(%error, times, "the lease of this process cannot be renewed");
                        }
                        None
                    }
                }
            }
            Call::Look(incarnation) => {
                let looked = async {
                    let before = *self.applied.lock().await;
                    let applied = self.catch_up(core, log).await?;
                    if applied > before { log.applied(incarnation, applied).await } else { Ok(()) }
                };
                if let Err(error) = looked.await
                    && let Some(times) = log.refusals.say(&"revocations")
                {
                    tracing::warn!(%error, times, "revocations of other processes cannot be read");
                }
                None
            }
            Call::Depart(incarnation) => {
                log.depart(incarnation).await.is_ok().then_some(Input::Departed { incarnation })
            }
        }
    }

    /// Applies the revocations of other processes, and returns the mark of the newest.
    async fn catch_up(&self, core: &Weak<Core>, log: &Guarded) -> Result<Mark, LogError> {
        let mut applied = self.applied.lock().await;
        loop {
            let revoked = log.revocations(*applied, MAX_REVOCATIONS).await?;
            let Some(last) = revoked.last().map(|revoked| revoked.mark) else { return Ok(*applied) };
            for Revoked { revocation, at, .. } in revoked {
                let Some(core) = core.upgrade() else { return Ok(*applied) };
                if let Err(error) = revocations::here(&core, revocation, AsOf::Millis(at)).await {
                    tracing::warn!(%error, "a revocation of another process is in effect, but not stored");
                }
            }
            *applied = last;
        }
    }

    /// Tells all processes of a revocation that is in effect here, and returns when it is in effect in each, or the
    /// lease of one that cannot be reached has ended (OWN-5).
    pub(crate) async fn publish(&self, core: &Core, revocation: &Revocation) -> Result<(), NotRevoked> {
        let log = &core.effects().log;
        let failed = |error: LogError| {
            NotRevoked::because(format!("the other processes of the cluster may not have it: {error}"), error)
        };
        let mark = log.publish(revocation, now_ms()).await.map_err(failed)?;
        let everywhere = async {
            while log.behind(mark).await? > 0 {
                tokio::time::sleep(LOOK_BEHIND).await;
            }
            Ok(())
        };
        // After a lease, a process that does not answer has none.
        match tokio::time::timeout(2 * self.cluster.limits.lease, everywhere).await {
            Ok(done) => done.map_err(failed),
            Err(_) => Err("some processes of the cluster have not answered that they have it".into()),
        }
    }

    fn millis(&self, instant: Instant) -> u64 {
        u64::try_from(instant.duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }
}

impl State {
    const fn set(&mut self, deadline: Deadline, at: Option<Instant>) {
        match deadline {
            Deadline::Renewal => self.renewal = at,
            Deadline::Lease => self.lease = at,
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
}
