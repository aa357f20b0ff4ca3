//! The driver: it executes the outputs of the machines. The few choices that this needs are listed, with their reasons,
//! in the [guide](crate::guide::proofs#decisions-outside-the-machines).
//!
//! | file | what it does |
//! | --- | --- |
//! | [`connection`] | one task per connection: reads, steps, pulls and writes in batches |
//! | [`instruments`] | metrics |
//! | [`measure`] | measurements of the process |
//! | [`journal`] | one queue per user between a session and its log |
//! | [`runs`] | agents, and the progress of their runs |
//! | [`membership`] | the lease of a process that shares its log |
//! | [`commands`] | notices and deletions for a user whom another process owns |
//! | [`broadcasts`] | notices to everyone in a cluster |
//! | [`looks`] | what an operator sees of a session |
//! | [`relay`] | connections whose user another process owns |
//! | [`notices`] | notices and deletions by the embedding service |
//! | [`backpressure`] | commands that wait for room in a stream |
//! | [`revocations`] | revocations, until sessions have them |
//! | [`verdicts`] | credentials, from the verifier's answer to a verdict |
//!
//! This file has the rest: timers, probes. Outputs arrive under the core's locks, so nothing here blocks
//! or calls the core. It spawns a task, or wakes one.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use lockstep_model::gateway::{Output, Place, SessionOutput};
use lockstep_model::health::{Measured, Probe};
use lockstep_model::node;
use lockstep_model::session;
use lockstep_model::timer::Owner;
use lockstep_model::{
    Cause, ConnectionId, Generation, Incarnation, RevocationGeneration, Timer, UserId, Verdict, VerificationId,
    connection as machine,
};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::agent::Agent;
use crate::cluster::Cluster;
use crate::core::watch::{Step, Taken};
use crate::core::{Effects, Fault};
use crate::log::Log;
use crate::log::guarded::Guarded;
use crate::payload::{Payload, Token};
use crate::support::sharded::Sharded;
use crate::sync::lock;
use crate::timers::Timers;
use crate::trace::Trace;
use crate::transport::BufferLimits;
use crate::verify::Reports;

mod backpressure;
pub(crate) mod broadcasts;
pub(crate) mod commands;
pub(crate) mod connection;
mod instruments;
mod journal;
pub(crate) mod looks;
mod lookups;
mod measure;
mod membership;
pub(crate) mod notices;
mod relay;
pub(crate) mod revocations;
mod runs;
mod verdicts;

use self::backpressure::Backpressure;
use self::instruments::Instruments;
use self::journal::Journal;
use self::measure::{Process, Verifications};
use self::membership::MembershipDriver;
use self::revocations::Revocations;
use self::runs::Runs;
pub(crate) use self::verdicts::Credentials;
use self::verdicts::verdict_for;

/// The machines of a process, driven by this crate.
pub(crate) type Core = crate::core::Core<Payload, Driver>;

/// How far a node has progressed towards its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The node serves, or waits for open runs.
    Serving,
    /// Every client is told to leave.
    Leaving,
    /// No session is left, so nothing is written any longer.
    Released,
    /// The node has stopped.
    Stopped,
}

/// What a connection's task and its verifications share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The client's address, if it is known.
    client: Option<IpAddr>,
    names: Mutex<Names>,
    /// Why the connection was closed; unset while it is open.
    pub(crate) closed: OnceLock<Cause>,
    /// The process that serves the connection, if it is another one.
    relay: OnceLock<Incarnation>,
    /// The credential that was found valid last, until the connection is live: a relay hands it over.
    credential: Mutex<Option<Token>>,
    /// Notified when a connection becomes live.
    pub(crate) arrivals: Arc<Notify>,
}

/// The users, with their names at the issuer, that verdicts on one connection have found. Verdicts come in any order;
/// the machine decides which one counts, and so which user the connection belongs to. Until then, there are at most as
/// many users as attempts without a verdict.
#[derive(Debug, Default)]
struct Names {
    found: Vec<(UserId, Arc<str>)>,
    pinned: bool,
}

impl Shared {
    /// Records a user that a verifier has found.
    fn found(&self, user: UserId, subject: Arc<str>) {
        let mut names = lock(&self.names);
        if !names.pinned && names.found.iter().all(|(known, _)| *known != user) {
            names.found.push((user, subject));
        }
    }

    /// Returns the user of this name if a verdict has found it.
    fn named(&self, subject: &str) -> Option<UserId> {
        lock(&self.names).found.iter().find(|(_, found)| **found == *subject).map(|(user, _)| *user)
    }

    /// Returns the name of this user, which the machine has chosen, and forgets all others.
    pub(crate) fn pin(&self, user: UserId) -> Option<Arc<str>> {
        let mut names = lock(&self.names);
        names.pinned = true;
        names.found.retain(|(found, _)| *found == user);
        names.found.first().map(|(_, subject)| Arc::clone(subject))
    }

    /// Takes the credential. Nothing needs it later.
    fn take_credential(&self) -> Option<Token> {
        lock(&self.credential).take()
    }
}

/// Executes outputs.
pub(crate) struct Driver {
    core: Weak<Core>,
    runtime: Handle,
    pub(crate) credentials: Credentials,
    pub(crate) log: Arc<Guarded>,
    agent: Arc<dyn Agent>,
    pub(crate) timers: Arc<Timers>,
    journal: Arc<Journal>,
    /// The membership of a process that shares its log.
    pub(crate) membership: Option<Arc<MembershipDriver>>,
    limits: BufferLimits,
    runs: Arc<Runs>,
    notices: Runs,
    backpressure: Arc<Backpressure>,
    connections: Sharded<ConnectionId, Arc<Shared>>,
    revocations: Arc<Revocations>,
    /// How far the node has progressed towards its end.
    phase: watch::Sender<Phase>,
    pub(crate) arrivals: Arc<Notify>,
    trace: Option<Trace>,
    instruments: Arc<Instruments>,
    verifications: Arc<Verifications>,
    /// The last measurement.
    measured: Arc<Mutex<Measured>>,
    reports: Arc<Reports>,
}

impl Driver {
    pub(crate) fn new(
        core: Weak<Core>,
        credentials: Credentials,
        log: Arc<dyn Log>,
        agent: Arc<dyn Agent>,
        cluster: Option<(Cluster, BufferLimits)>,
        shards: usize,
        trace: Option<Trace>,
    ) -> Self {
        let instruments = Arc::new(Instruments::new());
        let log = Arc::new(Guarded::new(log));
        let limits = cluster.as_ref().map(|(_, limits)| *limits).unwrap_or_default();
        let membership = cluster.map(|(cluster, _)| Arc::new(MembershipDriver::new(cluster)));
        let journal =
            Journal::new(Weak::clone(&core), Arc::clone(&log), membership.clone(), Arc::clone(&instruments), shards);
        Self {
            membership,
            limits,
            journal: Arc::new(journal),
            runs: Arc::new(Runs::new(shards)),
            notices: Runs::new(shards),
            backpressure: Arc::new(Backpressure::new(shards)),
            timers: Arc::new(Timers::new(shards)),
            connections: Sharded::new(shards),
            revocations: Arc::default(),
            phase: watch::Sender::new(Phase::Serving),
            arrivals: Arc::default(),
            runtime: Handle::current(),
            core,
            credentials,
            log,
            agent,
            trace,
            instruments,
            verifications: Arc::default(),
            measured: Arc::new(Mutex::new(Measured::WELL)),
            reports: Arc::new(Reports::new()),
        }
    }

    /// Starts to serve the timers, and joins the cluster, if there is one.
    pub(crate) fn start(&self) {
        if let Some(membership) = &self.membership {
            let log = Arc::clone(&self.log);
            self.runtime.spawn(Arc::clone(membership).serve(Weak::clone(&self.core), Arc::clone(&log)));
            self.runtime.spawn(broadcasts::serve(Weak::clone(&self.core), log, Arc::clone(membership)));
        }
        for shard in 0..self.timers.shards() {
            let core = Weak::clone(&self.core);
            self.runtime.spawn(Arc::clone(&self.timers).serve(shard, move |place, timer| {
                if let Some(core) = core.upgrade() {
                    expired(&core, place, timer);
                }
            }));
        }
    }

    /// Creates the entry of a connection that is about to ask for admission.
    pub(crate) fn register(&self, connection: ConnectionId, client: Option<IpAddr>) -> Arc<Shared> {
        let shared = Arc::new(Shared { client, arrivals: Arc::clone(&self.arrivals), ..Shared::default() });
        self.connections.lock(&connection).insert(connection, Arc::clone(&shared));
        shared
    }

    /// The address of a connection's client, if it is known.
    pub(crate) fn client(&self, connection: ConnectionId) -> Option<IpAddr> {
        self.connections.lock(&connection).get(&connection)?.client
    }

    /// Removes the entry of a connection that was not admitted or is closed.
    pub(crate) fn forget(&self, connection: ConnectionId) {
        self.connections.lock(&connection).remove(&connection);
    }

    /// How far the node has progressed towards its end.
    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Closes the trace, if there is one, and waits until it is written.
    pub(crate) fn close_trace(&self) {
        if let Some(trace) = &self.trace {
            trace.close();
        }
    }

    /// The number of runs that have an agent.
    pub(crate) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Runs `work` to completion even if the caller's future is dropped.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.runtime.spawn(work)
    }

    fn verify(
        &self,
        connection: ConnectionId,
        attempt: VerificationId,
        token: Payload,
        generation: RevocationGeneration,
    ) {
        let Payload::Token(token) = token else { return };
        let (core, shared) = (Weak::clone(&self.core), self.connections.lock(&connection).get(&connection).cloned());
        let (credentials, log, reports) = (self.credentials.clone(), Arc::clone(&self.log), Arc::clone(&self.reports));
        let instruments = Arc::clone(&self.instruments);
        let verifications = Arc::clone(&self.verifications);
        self.runtime.spawn(async move {
            let verdict = verdict_for(&core, &credentials, &log, &token, generation, shared.as_deref(), &reports).await;
            instruments.verdicts.of(&verdict).increment(1);
            match verdict {
                Verdict::Unavailable => verifications.unavailable(),
                Verdict::Valid { .. } | Verdict::Rejected => verifications.verdict(),
            }
            if let Some(core) = core.upgrade() {
                deliver(&core, connection, machine::Input::Verdict { attempt, verdict });
            }
        });
    }

    /// Returns the last measurement of the process.
    pub(crate) fn measured(&self) -> Measured {
        *lock(&self.measured)
    }

    /// Waits until what sessions have left for the log is done, and until this process has left its cluster.
    pub(crate) async fn rests(&self) {
        self.journal.rests().await;
        if let (Some(membership), Some(core)) = (&self.membership, self.core.upgrade()) {
            membership.leaves(&core).await;
        }
    }

    /// Leaves the cluster, if there is one.
    fn depart(&self) {
        if let Some(membership) = self.membership.clone() {
            let core = Weak::clone(&self.core);
            self.runtime.spawn(async move {
                if let Some(core) = core.upgrade() {
                    membership.leave(&core);
                }
            });
        }
    }

    /// Whether a relay may need a connection's credential.
    fn keeps_credentials(&self) -> bool {
        self.membership.is_some()
    }

    fn probe(&self) {
        let (core, log) = (Weak::clone(&self.core), Arc::clone(&self.log));
        let (journal, verifications) = (Arc::clone(&self.journal), Arc::clone(&self.verifications));
        let measured = Arc::clone(&self.measured);
        self.runtime.spawn(async move {
            let Some(within) = core.upgrade().map(|core| core.bounds().probe) else { return };
            let process = tokio::task::spawn_blocking(Process::measure);
            let log = match tokio::time::timeout(within, log.probe()).await {
                Ok(Ok(took)) => Probe::Answered(took),
                Ok(Err(error)) => {
                    if let Some(times) = log.refusals.say(&"probe") {
                        tracing::warn!(%error, times, "the log refuses probes");
                    }
                    Probe::Refused
                }
                Err(_) => Probe::Unanswered,
            };
            let Process { memory, files, file_limit } = process.await.unwrap_or_default();
            let (waiting, verifier) = (journal.waiting(), verifications.take());
            let now = Measured { log, waiting, verifier, memory, files, file_limit };
            *lock(&measured) = now;
            if let Some(core) = core.upgrade() {
                let _ = core.steer(node::Input::Probed(now));
            }
        });
    }
}

impl Effects<Payload> for Driver {
    fn apply(&self, output: Output<Payload>) {
        match output {
            Output::Verify { connection, attempt, token, generation } => {
                self.verify(connection, attempt, token, generation);
            }
            Output::Session { user, generation, output } => match output {
                SessionOutput::Restore { attempt } => self.journal.restore(user, generation, attempt),
                SessionOutput::Confirm { tenure, attempt, after } => {
                    self.journal.confirm(user, (generation, attempt), tenure, after);
                }
                SessionOutput::Lookup { connection, attempt, lookup } => {
                    self.look_up((user, generation), (connection, attempt), lookup);
                }
                SessionOutput::Write { tenure, batch, after, event } => {
                    self.journal.write(user, (generation, batch), tenure, after, event);
                }
                SessionOutput::Trim { tenure, through } => self.journal.trim(user, tenure, through),
                SessionOutput::Read { tenure, through } => self.journal.read(user, tenure, through),
                SessionOutput::Launch { run, payload, begin } => {
                    self.launch(user, generation, (run, begin), payload.as_ref());
                }
                SessionOutput::Durable { run, last, .. } => {
                    let _ = self.runs.durable(user, generation, run, last)
                        || self.notices.durable(user, generation, run, last);
                }
                SessionOutput::Halt { run } => self.runs.halt(user, generation, run),
                SessionOutput::Lose => {
                    self.runs.lose(user, generation);
                    self.notices.lose(user, generation);
                }
                SessionOutput::Relinquish { tenure } => self.journal.relinquish(user, tenure),
                SessionOutput::Room => self.backpressure.notify(user),
                SessionOutput::Elsewhere { owner } => self.backpressure.elsewhere(user, owner),
            },
            Output::Relay { connection, owner } => {
                if let Some(shared) = self.connections.lock(&connection).get(&connection) {
                    let _ = shared.relay.set(owner);
                }
            }
            Output::Closed { connection, cause } => {
                self.instruments.closed.of(cause).increment(1);
                if let Some(shared) = self.connections.lock(&connection).remove(&connection) {
                    let _ = shared.closed.set(cause);
                }
            }
            Output::Probe => self.probe(),
            Output::Leaving => {
                self.phase.send_replace(Phase::Leaving);
            }
            Output::Released => {
                self.depart();
                self.phase.send_replace(Phase::Released);
            }
            Output::Stopped => {
                self.phase.send_replace(Phase::Stopped);
            }
            Output::Arm(place, timer, after) => self.timers.arm(place, timer, after),
            Output::Disarm(place, timer) => self.timers.disarm(place, timer),
            Output::Wake { .. } | Output::Send { .. } | Output::Refused { .. } => {
                debug_assert!(false, "the core handles these itself");
            }
        }
    }

    fn quiet(&self) {
        let core = Weak::clone(&self.core);
        self.runtime.spawn(async move {
            if let Some(core) = core.upgrade() {
                core.settle_quiet();
            }
        });
    }

    fn fault(&self, user: UserId, generation: Generation, fault: Fault) {
        self.instruments.faults.increment(1);
        // Writing the log line may block.
        self.runtime.spawn(async move {
            tracing::error!(user = user.0, generation = generation.0, ?fault, "a session violated an invariant");
        });
        self.runs.lose(user, generation);
        self.notices.lose(user, generation);
        // The session is gone: what it refused, the next one may accept.
        self.backpressure.notify(user);
        if let Some(trace) = &self.trace {
            trace.fault(user, generation);
        }
    }

    fn before(&self, step: Step<'_, Payload>) {
        if let Some(trace) = &self.trace {
            trace.before(step);
        }
    }

    fn after(&self, taken: Taken<'_, Payload>) {
        if let Some(trace) = &self.trace {
            trace.after(&taken);
        }
    }
}

/// Sends a verdict or an expiry to a connection's inbox, which has a reserved place for each.
fn deliver(core: &Core, connection: ConnectionId, input: machine::Input<Payload>) {
    if let Some(inbox) = core.inbox(connection) {
        // A closed inbox belongs to a connection that needs nothing more.
        let _ = inbox.send(input);
    }
}

/// Delivers an expiry to its machine.
fn expired(core: &Arc<Core>, place: Place, timer: Timer) {
    match place {
        Place::Node => {
            let _ = core.steer(node::Input::Expired(timer));
        }
        Place::Connection(connection) => deliver(core, connection, machine::Input::Expired(timer)),
        Place::Session(user, generation) => {
            let _ = core.session(user, generation, session::Input::Expired(Owner::Session, timer));
        }
        Place::Run(user, generation, run) => {
            let _ = core.session(user, generation, session::Input::Expired(Owner::Run(run), timer));
        }
    }
}
