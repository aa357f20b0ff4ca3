//! The driver of a [`member`]: it renews this process's lease, and ends every session when the lease has ended.

use core::future::pending;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lockstep_model::member::{self, Deadline, Input, Output};
use lockstep_model::{Attempt, Incarnation};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Core;
use crate::cluster::Cluster;
use crate::log::guarded::Guarded;
use crate::log::{LogError, Members};
use crate::sync::lock;

/// No incarnation, and no deadline.
const NONE: u64 = 0;

/// The membership of this process.
pub(crate) struct Membership {
    cluster: Cluster,
    state: Mutex<State>,
    /// The incarnation under which users are acquired.
    incarnation: AtomicU64,
    /// When the lease ends, in milliseconds after `began`.
    ends: AtomicU64,
    began: Instant,
    /// Notified when the task has something to do.
    changed: Notify,
}

struct State {
    machine: member::Membership,
    renewal: Option<Instant>,
    lease: Option<Instant>,
    calls: Vec<Call>,
}

/// A call of the log.
enum Call {
    Renew(Incarnation, Attempt),
    Depart(Incarnation),
}

impl Membership {
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
        }
    }

    /// What this process is in its cluster.
    pub(crate) const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The incarnation under which users are acquired. Without a lease, it is one that is never a member, so the log
    /// grants nothing.
    pub(super) fn incarnation(&self) -> Incarnation {
        Incarnation(self.incarnation.load(Ordering::Acquire))
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

    /// Serves the machine until it has left, or the core is gone.
    pub(super) async fn serve(self: Arc<Self>, core: Weak<Core>, log: Arc<Guarded>) {
        let mut calls = FuturesUnordered::new();
        if let Some(core) = core.upgrade() {
            self.join(&core);
        }
        loop {
            let (lease, renewal) = {
                let mut state = lock(&self.state);
                calls.extend(core::mem::take(&mut state.calls).into_iter().map(|call| self.call(&log, call)));
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

    async fn call(&self, log: &Guarded, call: Call) -> Option<Input> {
        match call {
            Call::Renew(incarnation, attempt) => {
                // The lease counts from before it was asked for.
                let began = Instant::now();
                let renewed = log.renew(incarnation, &self.cluster.address, self.cluster.limits.lease).await;
                match renewed {
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
            Call::Depart(incarnation) => {
                log.depart(incarnation).await.is_ok().then_some(Input::Departed { incarnation })
            }
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
