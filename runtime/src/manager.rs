//! The owner of all connections of a process: the type that a service embeds.

use core::fmt;
use core::future::Future;
use std::sync::Arc;
use std::time::Duration;

use lockstep_model::health::Trouble;
use lockstep_model::node::{self, Mode};
use lockstep_model::{Bounds, Cause, ConnectionId, RunId, Successor, UserId, connection};
use serde::Serialize;
use tokio::sync::watch;

use crate::agent::Agent;
use crate::cluster::Cluster;
use crate::driver::{Core, Credentials, Driver, broadcasts, notices, revocations};
use crate::log::conversations::Retention;
use crate::log::{Log, MemoryLog};
use crate::trace::Trace;
use crate::transport::{BufferLimits, Socket};
use crate::verify::Redeem;
use crate::verify::{Revocation, Verifier};
use crate::wire::{AGENT_NAME, Codec};

pub use crate::driver::Phase;
pub use crate::driver::connection::Opening;
pub use crate::driver::looks::NotAnswered;
pub use crate::driver::notices::NotSent;
pub use crate::driver::revocations::NotRecorded;
pub use process::Draining;
pub use user::{Sent, User};

mod process;
mod retention;
mod user;

/// The session layer of one process. Clones are handles to the same instance.
#[derive(Clone)]
pub struct Manager {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) core: Arc<Core>,
    pub(crate) limits: BufferLimits,
    pub(crate) origins: Vec<String>,
    /// The codec of a client that offers no subprotocol.
    pub(crate) codec: Codec,
    agent_name: Arc<str>,
    /// Becomes true when a drain begins.
    pub(crate) draining: watch::Sender<bool>,
}

/// Builds a [`Manager`].
pub struct Builder {
    verifier: Option<Arc<dyn Verifier>>,
    agent: Option<Arc<dyn Agent>>,
    log: Arc<dyn Log>,
    bounds: Bounds,
    limits: BufferLimits,
    origins: Vec<String>,
    codec: Codec,
    agent_name: Arc<str>,
    redeem: Option<Arc<dyn Redeem>>,
    trace: Option<Trace>,
    retention: Option<(Retention, Duration)>,
    cluster: Option<Cluster>,
}

/// Why a [`Manager`] cannot be built.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotBuilt {
    /// No [`Verifier`] was given. There is no default that admits everyone.
    NoVerifier,
    /// No [`Agent`] was given.
    NoAgent,
    /// The bounds cannot satisfy the gateway's guarantees. The text names the rule that they break.
    Bounds(&'static str),
    /// Several processes share the log, and others do not know where to reach this one: see [`Builder::cluster`].
    NoCluster,
    /// One process has the log to itself, so there is no cluster to take part in.
    NotShared,
}

impl fmt::Display for NotBuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVerifier => f.write_str("a verifier is missing: call Builder::verifier"),
            Self::NoAgent => f.write_str("an agent is missing: call Builder::agent"),
            Self::Bounds(rule) => write!(f, "the bounds are not valid: {rule}"),
            Self::NoCluster => f.write_str("several processes share this log: call Builder::cluster"),
            Self::NotShared => f.write_str("a cluster needs a log that several processes share"),
        }
    }
}

impl core::error::Error for NotBuilt {}

impl Builder {
    /// Sets the verifier, which determines a credential's user. A shared one is an [`Arc`].
    #[must_use]
    pub fn verifier(mut self, verifier: impl Verifier) -> Self {
        self.verifier = Some(Arc::new(verifier));
        self
    }

    /// Sets the agent, which answers messages. A shared one is an [`Arc`].
    #[must_use]
    pub fn agent(mut self, agent: impl Agent) -> Self {
        self.agent = Some(Arc::new(agent));
        self
    }

    /// Sets the log, which stores streams. A shared one is an [`Arc`]. The default is [`MemoryLog`].
    #[must_use]
    pub fn log(mut self, log: impl Log) -> Self {
        self.log = Arc::new(log);
        self
    }

    /// Deletes threads that this policy does not keep, looking for them once per `every`, if the log keeps
    /// conversations. Without a policy, all threads are kept.
    #[must_use]
    pub const fn retention(mut self, retention: Retention, every: Duration) -> Self {
        self.retention = Some((retention, every));
        self
    }

    /// Sets the bounds and deadlines of every machine. The default is [`Bounds::DEFAULT`].
    #[must_use]
    pub const fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Sets the bounds on the data that this process buffers for a peer. The default is [`BufferLimits::DEFAULT`].
    #[must_use]
    pub const fn limits(mut self, limits: BufferLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the origins, such as `https://chat.example.org`, whose pages may connect in addition to those of the
    /// gateway's own host.
    #[must_use]
    pub fn origins(mut self, origins: Vec<String>) -> Self {
        self.origins = origins;
        self
    }

    /// Sets the codec of clients that offer no subprotocol, such as those with a header or a `?ticket=` alone. The
    /// default is [`Codec::V1`].
    #[must_use]
    pub const fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Sets the `agent_name` of legacy frames, [`AGENT_NAME`] by default. An event whose data has an `agent_name` keeps
    /// its own.
    #[must_use]
    pub fn agent_name(mut self, name: &str) -> Self {
        self.agent_name = Arc::from(name);
        self
    }

    /// Sets what exchanges a ticket (`?ticket=`) for its credential. A shared one is an [`Arc`]. Without one, no ticket
    /// is valid.
    #[must_use]
    pub fn tickets(mut self, tickets: impl Redeem) -> Self {
        self.redeem = Some(Arc::new(tickets));
        self
    }

    /// Makes this process a member of a cluster, for a log that several processes share ([`Log::members`]). Serve
    /// [`Manager::serve_member`] at the cluster's address.
    #[must_use]
    pub fn cluster(mut self, cluster: Cluster) -> Self {
        self.cluster = Some(cluster);
        self
    }

    /// Writes each step of each machine into this trace, which must have been started with the same bounds. By default
    /// there is no trace. To have all of it on disk, close the trace after the machines have stopped.
    #[must_use]
    pub fn trace(mut self, trace: Trace) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Starts the machines. Must be called within a tokio runtime, which then drives them. Metrics go to the `metrics`
    /// recorder that is installed at this point.
    ///
    /// # Errors
    ///
    /// [`NotBuilt`].
    pub fn build(self) -> Result<Manager, NotBuilt> {
        let verifier = self.verifier.ok_or(NotBuilt::NoVerifier)?;
        let agent = self.agent.ok_or(NotBuilt::NoAgent)?;
        self.bounds.validate().map_err(NotBuilt::Bounds)?;
        if self.trace.as_ref().is_some_and(|trace| *trace.bounds() != self.bounds) {
            return Err(NotBuilt::Bounds("the trace was started with other bounds"));
        }
        match (self.log.members().is_some(), &self.cluster) {
            (true, None) => return Err(NotBuilt::NoCluster),
            (false, Some(_)) => return Err(NotBuilt::NotShared),
            (true, Some(_)) | (false, None) => {}
        }
        let shards = std::thread::available_parallelism().map_or(4, |threads| 4 * threads.get());
        let (log, bounds, trace) = (self.log, self.bounds, self.trace);
        let verifier = Credentials { verifier, tickets: self.redeem };
        let cluster = self.cluster.map(|cluster| (cluster, self.limits));
        let core = Arc::new_cyclic(|core| {
            crate::core::Core::new(bounds, Driver::new(core.clone(), verifier, log, agent, cluster, shards, trace))
        });
        core.effects().start();
        if let Some((retention, every)) = self.retention {
            core.effects().spawn(retention::enforce(Arc::downgrade(&core), retention, every));
        }
        // A node that was just created accepts this input.
        let _ = core.steer(node::Input::Started);
        Ok(Manager {
            inner: Arc::new(Inner {
                core,
                limits: self.limits,
                origins: self.origins,
                codec: self.codec,
                agent_name: self.agent_name,
                draining: watch::Sender::new(false),
            }),
        })
    }
}

/// A process's current state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// What the node admits.
    pub mode: Mode,
    /// Whether the node has stopped: every connection and session is gone.
    pub stopped: bool,
    /// Connections, in any state.
    pub connections: u32,
    /// Sessions in this process.
    pub sessions: u32,
    /// Runs that have an agent.
    pub runs: usize,
    /// Armed timers.
    pub timers: usize,
}

/// How many users a broadcast reached. In a cluster: of all its processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broadcast {
    /// Users whose streams have the notice.
    pub sent: usize,
    /// Users for whom it failed: their session was lost, or the gateway is draining. In a cluster: users whose streams
    /// do not have the notice yet, such as those of a process that has just died. They still get it.
    pub failed: usize,
}

impl Manager {
    /// Returns a builder with the defaults.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            verifier: None,
            agent: None,
            log: Arc::new(MemoryLog::new()),
            bounds: Bounds::DEFAULT,
            limits: BufferLimits::DEFAULT,
            origins: Vec::new(),
            codec: Codec::V1,
            agent_name: Arc::from(AGENT_NAME),
            redeem: None,
            trace: None,
            retention: None,
            cluster: None,
        }
    }

    /// Returns a handle to one user. It gives no access to any other user.
    pub fn user(&self, subject: &str) -> User {
        User { manager: self.clone(), subject: Arc::from(subject) }
    }

    /// Serves one connection over any socket, from its admission to its close. [`Manager::upgrade`] does this for a
    /// WebSocket. Dropping the future closes the connection as lost.
    pub fn serve<S, F>(&self, mut opening: Opening, socket: F) -> impl Future<Output = ()> + Send + use<S, F>
    where
        S: Socket,
        F: Future<Output = Option<S>> + Send,
    {
        opening.agent_name.get_or_insert_with(|| Arc::clone(&self.inner.agent_name));
        crate::driver::connection::serve(Arc::clone(&self.inner.core), opening, socket)
    }

    /// Returns this process's current state.
    #[must_use]
    pub fn health(&self) -> Health {
        let node = self.inner.core.node();
        let driver = self.inner.core.effects();
        Health {
            mode: node.mode(),
            stopped: matches!(node.state(), node::State::Stopped),
            connections: node.connections(),
            sessions: node.sessions(),
            runs: driver.runs(),
            timers: driver.timers.len(),
        }
    }

    /// Returns this process's current problems, as of the last measurement.
    #[must_use]
    pub fn troubles(&self) -> Vec<Trouble> {
        let core = &self.inner.core;
        core.effects().measured().troubles(core.bounds()).collect()
    }

    /// Whether a load balancer should send more clients here. False while this process starts, drains or is in
    /// emergency, and while its log refuses or does not answer.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let core = &self.inner.core;
        core.effects().measured().is_ready(core.node().mode(), core.bounds())
    }

    /// Pins the node's mode regardless of its health; `None` lets its health decide again. Ignored while draining.
    pub fn pin(&self, mode: Option<Mode>) {
        let _ = self.inner.core.steer(node::Input::Pin(mode));
    }

    /// Stops admitting, lets open runs end, then tells every client when and how to come back. Returns when the last
    /// session is gone and the sockets have closed. The machines' deadlines bound it, independent of agents, clients
    /// and the log: at most [`Bounds::drain`] plus a few times [`Bounds::grace`]. Dropping the future does not stop the
    /// drain.
    pub async fn drain(&self) {
        self.inner.draining.send_replace(true);
        // Members relay connections of users with an open run to this process until the last run has ended.
        let successor = match self.inner.core.effects().membership {
            Some(_) => Successor::Waiting,
            None => Successor::Absent,
        };
        let _ = self.inner.core.steer(node::Input::Drain { successor });
        self.reached(Phase::Stopped).await;
    }

    /// Closes one connection, in any state, even if its inbox is full. Returns false if no connection has this id.
    pub fn close(&self, connection: ConnectionId, cause: Cause) -> bool {
        let inbox = self.inner.core.inbox(connection);
        inbox.is_some_and(|inbox| inbox.send(connection::Input::Close(cause)).is_ok())
    }

    /// Revokes credentials. From the first poll on, none of them is live here, whether or not the verifier and the log
    /// can be reached. Once this returns, none becomes live again. Cancel safe: after its first poll, the revocation
    /// takes effect even if the future is dropped.
    ///
    /// # Errors
    ///
    /// [`NotRecorded`]: the revocation is in effect here, but the verifier could not record it, so a restart may forget
    /// it. In a cluster: or some of its processes may not have it yet.
    pub async fn revoke(&self, revocation: &Revocation) -> Result<(), NotRecorded> {
        let (core, revocation) = (Arc::clone(&self.inner.core), revocation.clone());
        let done = self.inner.core.effects().spawn(async move { revocations::everywhere(&core, revocation).await });
        let ends = |_| Err(NotRecorded { why: "the process is ending".into(), repeated: false });
        done.await.unwrap_or_else(ends)
    }

    /// Sends a notice to every user who has a session, exactly once per user, as [`User::send`] does. Returns when the
    /// last notice is durable.
    ///
    /// In a cluster, these are the users who are owned by any of its processes. Once the log has stored the broadcast,
    /// each of them gets the notice once, even if the user moves, the owner or this process dies, or the future is
    /// dropped. The call waits for twice the time of a lease; [`Broadcast::failed`] counts the users who are left.
    ///
    /// Without a cluster, dropping the future stops the broadcast: some users have received it then, and others have
    /// not.
    ///
    /// # Errors
    ///
    /// [`NotSent::NotJson`]. [`NotSent::Unavailable`] in a cluster: the broadcast may have been stored. (Without one, the
    /// system has no randomness for ids, and nothing was sent.) A failure for one user is counted in the [`Broadcast`].
    pub async fn broadcast(&self, data: &impl Serialize) -> Result<Broadcast, NotSent> {
        let core = &self.inner.core;
        if core.effects().membership.is_some() {
            let id = crate::random().map_err(|error| NotSent::Unavailable(error.to_string()))?;
            return self.broadcast_as(RunId(id), data).await;
        }
        let (sent, failed) = notices::send_to_all(core, data).await?;
        Ok(Broadcast { sent, failed })
    }

    /// Sends a notice to every user of the cluster who has a session, as [`Manager::broadcast`] does, under an id that
    /// the caller has chosen at random. A call with an id that was sent before, at any process, sends nothing: it waits
    /// for the users that are left and returns the same counts. The log keeps ids for some weeks.
    ///
    /// # Errors
    ///
    /// As [`Manager::broadcast`], and [`NotSent::NotShared`] without a cluster.
    pub async fn broadcast_as(&self, id: RunId, data: &impl Serialize) -> Result<Broadcast, NotSent> {
        let (core, data) = (&self.inner.core, notices::json_of(data)?);
        let membership = core.effects().membership.as_ref().ok_or(NotSent::NotShared)?;
        let progress = broadcasts::send(core, membership, id, &data).await?;
        let count = |users| usize::try_from(users).unwrap_or(usize::MAX);
        Ok(Broadcast { sent: count(progress.users.saturating_sub(progress.due)), failed: count(progress.due) })
    }

    /// Sends `connection_notice` to one connection, best effort. The notice has no place in the stream, is not retried,
    /// and goes to no other connection. Returns false if the connection is gone or its inbox is full. The connection
    /// ignores the notice unless it is live and its outbox is less than half full. To be sure that a notice arrives,
    /// send it to the user ([`User::send`]).
    ///
    /// # Errors
    ///
    /// [`NotSent::NotJson`].
    pub fn notify(&self, connection: ConnectionId, data: &impl Serialize) -> Result<bool, NotSent> {
        let payload = notices::record(None, data)?;
        let inbox = self.inner.core.inbox(connection);
        Ok(inbox.is_some_and(|inbox| inbox.send(connection::Input::Notify(payload)).is_ok()))
    }

    /// Counts the user's live connections here.
    async fn connections_of(&self, subject: &str) -> usize {
        match self.inner.core.effects().log.user(subject).await {
            Ok(user) => self.live(user).len(),
            Err(_) => 0,
        }
    }

    fn live(&self, user: UserId) -> Vec<ConnectionId> {
        let live = |_, session: &lockstep_model::Session<_>| {
            let members = session.members().iter();
            members.filter(|(_, member)| member.connection.is_reading()).map(|(id, _)| *id).collect()
        };
        self.inner.core.look(user, live).unwrap_or_default()
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("health", &self.health()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("bounds", &self.bounds).field("limits", &self.limits).finish_non_exhaustive()
    }
}
