//! What a world consists of: the production gateway and the production clients, and around them a network, a
//! verifier, a log, agents and timers, each as small as it can be.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use litemap::LiteMap;
use lockstep_model::auth::Grant;
use lockstep_model::gateway::Place;
use lockstep_model::session::Lookup;
use lockstep_model::stream::Event;
use lockstep_model::{
    Attempt, BatchId, Client, ConnectionId, FencingToken, Frame, Gateway, Generation, MessageId, Offset, Request,
    RevocationGeneration, RunId, SocketId, Successor, ThreadId, Timer, UserId, gateway,
};

pub use super::shared::Payload;
use super::shared::{Remembered, Shared};

/// The production composition, whose sessions' steps are remembered.
pub type CheckedGateway = Gateway<Payload, Remembered>;
/// One user's session in it.
pub type Slot = gateway::Slot<Remembered>;

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The production machines.
    pub gateway: CheckedGateway,
    /// The client machines and what surrounds them.
    pub peers: Vec<Peer>,
    /// The sockets that either side still holds.
    pub sockets: LiteMap<ConnectionId, Socket>,
    /// Verifications under way.
    pub verifier: Vec<Verification>,
    /// Each user's log.
    pub logs: Vec<Shared<Log>>,
    /// Each run's agent, as long as anybody could hear it.
    pub agents: LiteMap<RunId, Agent>,
    /// Timers of the gateway that are armed, sorted.
    pub timers: Vec<(Place, Timer)>,
    /// What the adversary may still do.
    pub left: Left,
    /// What the oracle remembers.
    pub oracle: Oracle,
    /// The property that was broken, if any. Nothing happens after that.
    pub broken: Option<&'static str>,
}

/// A client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The machine.
    pub client: Client<Payload>,
    /// Messages that its user has sent.
    pub sent: u8,
    /// Whether it waits for its socket to open.
    pub opening: bool,
    /// Whether it waits before it opens its next socket: a pause, or what a gateway told that goes away.
    pub backoff: bool,
    /// The token that it was last given, as a number within its user.
    pub token: u8,
    /// Whether it wants a new token.
    pub wants_token: bool,
}

/// One socket. It is dropped when neither side holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Socket {
    /// Whose it is.
    pub peer: u8,
    /// The client's name for it.
    pub generation: SocketId,
    /// From the client to the gateway.
    pub up: VecDeque<Request<Payload>>,
    /// From the gateway to the client.
    pub down: VecDeque<Frame<Payload>>,
    /// Whether it was cut: nothing passes, and each side has yet to notice.
    pub cut: bool,
    /// Whether the client has let go of it.
    pub client_gone: bool,
    /// Whether the gateway has let go of it.
    pub server_gone: bool,
    /// Whether its writer was woken.
    pub woken: bool,
    /// Whether the gateway was told that the peer is gone, and has not closed it.
    pub told: bool,
    /// What the oracle has seen on it.
    pub observed: Observed,
}

/// What the oracle remembers of one socket, and neither the gateway nor the adversary knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Observed {
    /// The oracle's own view of the credential: what makes frames on it legitimate.
    pub valid: Option<Grant>,
    /// The newest attempt that the gateway asked about.
    pub newest: Attempt,
    /// How far the oracle has seen the stream on it; `None` before `connection_ready`.
    pub seen: Option<Offset>,
    /// Where `connection_ready` said that it resumed, as long as it is ready and all that follows can still be read.
    pub began: Option<Offset>,
    /// Whether `connection_ready` said that the place asked for is gone, and the gap was not yet named.
    pub owes_reset: bool,
    /// Whether a gap was named on it.
    pub reset: bool,
    /// Whether its user's places were all taken when it came for one.
    pub full: bool,
    /// Whether the close frame was sent: nothing may follow.
    pub closing: bool,
    /// Queries that came on it and have no answer.
    pub queries: u8,
    /// Idle deadlines, at most two, that have passed on a connection whose peer is gone.
    pub quiet: u8,
}

/// A verification under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verification {
    /// For which connection.
    pub connection: ConnectionId,
    /// Which attempt.
    pub attempt: Attempt,
    /// What was presented.
    pub token: Payload,
    /// How often the user's credentials were revoked when the verification began.
    pub generation: RevocationGeneration,
    /// What the gateway says of that.
    pub mark: RevocationGeneration,
}

/// One user's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Log {
    /// How many entries were given up.
    pub trimmed: u64,
    /// How far readers have come, as it was told.
    pub read: u64,
    /// The messages that began at or before `trimmed`, oldest first.
    pub past: Vec<MessageId>,
    /// Deletions that a session was told of: where each is, and its thread.
    pub deletions: Vec<(u64, ThreadId)>,
    /// What was given up, from the first, if it is kept.
    pub kept: Vec<Event<Payload>>,
    /// The others. Offset `trimmed + n` is entry `n - 1`.
    pub entries: VecDeque<Event<Payload>>,
    /// What it is to look up, and has not answered.
    pub lookups: Vec<Sought>,
    /// Writes that are ordered and not answered.
    pub writes: VecDeque<Write>,
    /// Writes that were given up, and that it may still do.
    pub late: VecDeque<Write>,
    /// The newest fencing token that it has granted.
    pub token: FencingToken,
    /// Which session it was granted to, and the token.
    pub granted: (Generation, FencingToken),
    /// A restore that is ordered and not answered.
    pub restore: Option<(Generation, Attempt)>,
}

/// Something to look up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sought {
    /// Whose session ordered it.
    pub session: Generation,
    /// For which connection.
    pub connection: ConnectionId,
    /// Which one.
    pub attempt: Attempt,
    /// What.
    pub lookup: Lookup<Payload>,
    /// How many deletions the log had when it was ordered: as many as it may know of when it looks.
    pub deletions: usize,
}

/// One ordered write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// Whose session ordered it.
    pub session: Generation,
    /// By which right.
    pub owner: FencingToken,
    /// Which batch.
    pub batch: BatchId,
    /// Where it belongs: behind the batch's predecessor and the batch's earlier writes.
    pub at: u64,
    /// What to write.
    pub event: Event<Payload>,
}

/// One run's agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Agent {
    /// Whose run.
    pub user: UserId,
    /// Which session launched it.
    pub session: Generation,
    /// `agent_thinking` events that it may still emit.
    pub thinking: u8,
    /// Pieces of its answer that it may still emit.
    pub pieces: u8,
    /// Tools that it may still call.
    pub tools: u8,
    /// It will say nothing more by itself.
    pub silent: bool,
}

/// What is left of the adversary's budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the budget of the same name in the setup")]
pub struct Left {
    pub deaths: u8,
    pub cancels: u8,
    pub cuts: u8,
    pub crashes: u8,
    pub log_failures: u8,
    pub restore_failures: u8,
    pub unanswered: u8,
    pub fences: u8,
    pub breaches: u8,
    pub rejections: u8,
    pub silences: u8,
    pub expiries: u8,
    pub warnings: u8,
    pub revocations: u8,
    pub notices: u8,
    pub deletions: u8,
    pub queries: u8,
    pub lookup_failures: u8,
    pub pins: u8,
    pub drains: u8,
    pub handovers: u8,
    pub lingers: u8,
    pub garbage: u8,
    pub eager: u8,
}

/// What the oracle must remember to tell right from wrong, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Oracle {
    /// Messages whose agent was launched: at most once each, whatever crashes.
    pub launched: u16,
    /// Messages whose `message_received` was ever durable.
    pub received: u16,
    /// Arrivals of each message, so that the edge gives each a run id of its own.
    pub arrivals: [u8; 4],
    /// Each user's credential generation.
    pub generation: [u32; 2],
    /// How far each user's readers were sent the stream, or told that it is gone.
    pub pulled: [u64; 2],
    /// Failed runs in a row of each user.
    pub failures: [u8; 2],
    /// The newest session that was opened.
    pub opened: u32,
    /// Whether the process is to end.
    pub drained: bool,
    /// Whether a reader was sent several pieces in one frame.
    pub joined: bool,
    /// Whether a reader that came back inside a part was sent what followed.
    pub inside: bool,
    /// Whether a reader was sent something that follows what was deleted when it had read it.
    pub passed: bool,
    /// Whether a reader was sent what was not in the window any more.
    pub caught_up: bool,
    /// Whether something that was looked up before a deletion came after it.
    pub outdated: bool,
    /// What was there for its clients when that was last said.
    pub successor: Option<Successor>,
    /// Whether the time for open runs is over.
    pub overdue: bool,
    /// Whether the log was released.
    pub released: bool,
}

/// Buffers of one step. They are no part of the state.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The gateway's orders.
    pub outputs: gateway::Outputs<Payload>,
    /// A client's orders.
    pub client: Vec<lockstep_model::client::Output<Payload>>,
    /// What goes into the gateway and what comes out, if it is to be drawn.
    pub drawings: Option<Vec<crate::engine::proof::Drawing>>,
    /// Runs whose agents were told to stop in this step.
    pub halted: Vec<(UserId, Generation, RunId)>,
    /// Of which users the agents were told in this step that what is pending is lost.
    pub lost: [bool; 2],
    /// Of which users a session ended in this step.
    pub ended: [bool; 2],
    /// What agents were told in this step: a launch, or where an event is.
    pub told: Vec<(RunId, Option<Offset>)>,
}

impl Hash for Left {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Self { deaths, cancels, cuts, crashes, log_failures, restore_failures, rejections, silences, .. } = *self;
        let Self { expiries, warnings, revocations, notices, deletions, pins, drains, handovers, .. } = *self;
        let Self { lingers, garbage, eager, unanswered, fences, breaches, queries, lookup_failures, .. } = *self;
        hasher.write(&[deaths, cancels, cuts, crashes, log_failures, restore_failures, rejections, silences]);
        hasher.write(&[expiries, warnings, revocations, notices, pins, drains, lingers, garbage]);
        hasher.write(&[eager, unanswered, fences, breaches, handovers, deletions, queries, lookup_failures]);
    }
}

impl Socket {
    pub(super) fn new(peer: u8, generation: SocketId) -> Self {
        Self {
            peer,
            generation,
            up: VecDeque::new(),
            down: VecDeque::new(),
            cut: false,
            client_gone: false,
            server_gone: false,
            woken: false,
            told: false,
            observed: Observed::default(),
        }
    }

    /// Whether the gateway can know that nobody is there.
    pub fn is_known_dead(&self) -> bool {
        self.told || self.observed.quiet > 1
    }

    /// The gateway's side dies: nothing more is read, what is in flight is lost.
    pub(super) fn crash(&mut self) {
        self.server_gone = true;
        self.up.clear();
        self.down.clear();
        (self.woken, self.told) = (false, false);
        let observed = &mut self.observed;
        observed.valid = None;
        (observed.seen, observed.began) = (None, None);
        (observed.quiet, observed.queries) = (0, 0);
    }
}

impl Agent {
    pub(super) fn is_open(&self, gateway: &CheckedGateway, run: RunId) -> bool {
        gateway
            .slots()
            .get(&self.user)
            .is_some_and(|slot| slot.generation == self.session && slot.session.runs().contains_key(&run))
    }
}
