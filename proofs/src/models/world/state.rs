//! The state of a world: the production gateway and the production clients, and around them a network, a verifier, a
//! log, agents and timers, each as small as possible.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use litemap::LiteMap;
use lockstep_model::auth::Grant;
use lockstep_model::gateway::Place;
use lockstep_model::session::Lookup;
use lockstep_model::stream::Event;
use lockstep_model::{
    AcquisitionId, BatchId, Client, ConfirmationId, ConnectionId, FencingToken, Frame, Gateway, Generation, LookupId,
    MessageId, Offset, Request, RevocationGeneration, RunId, SocketId, Successor, ThreadId, Timer, UserId,
    VerificationId, gateway,
};

pub use super::shared::Payload;
use super::shared::{Remembered, Shared};
use crate::properties::stream::Reader;

/// The production composition, with memoised sessions.
pub type CheckedGateway = Gateway<Payload, Remembered>;
/// A user's session slot in it.
pub type Slot = gateway::Slot<Remembered>;

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The production machines.
    pub gateway: CheckedGateway,
    /// The client machines and their surroundings.
    pub peers: Vec<SimulatedClient>,
    /// The sockets that either side still holds.
    pub sockets: LiteMap<ConnectionId, Socket>,
    /// Verifications under way.
    pub verifier: Vec<Verification>,
    /// Each user's log.
    pub logs: Vec<Shared<Log>>,
    /// Each run's agent, while its emits could still be received.
    pub agents: LiteMap<RunId, Agent>,
    /// Timers of the gateway that are armed, sorted.
    pub timers: Vec<(Place, Timer)>,
    /// The adversary's remaining budgets.
    pub left: Left,
    /// What the oracle remembers.
    pub oracle: Oracle,
    /// The violated property, if any. Nothing happens after a violation.
    pub broken: Option<&'static str>,
}

/// A client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SimulatedClient {
    /// The machine.
    pub client: Client<Payload>,
    /// Messages that its user has sent.
    pub sent: u8,
    /// Whether it waits for its socket to open.
    pub opening: bool,
    /// Whether it waits before it opens its next socket: a backoff pause, or one that a leaving gateway requested.
    pub backoff: bool,
    /// The last token that it was given, as a number within its user.
    pub token: u8,
    /// Whether it wants a new token.
    pub wants_token: bool,
}

/// One socket. It is dropped when neither side holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Socket {
    /// The socket's client.
    pub peer: u8,
    /// The client's name for it.
    pub generation: SocketId,
    /// From the client to the gateway.
    pub up: VecDeque<Request<Payload>>,
    /// From the gateway to the client.
    pub down: VecDeque<Frame<Payload>>,
    /// Whether it was cut: nothing passes, and neither side may have noticed yet.
    pub cut: bool,
    /// Whether the client has let go of it.
    pub client_gone: bool,
    /// Whether the gateway has let go of it.
    pub server_gone: bool,
    /// Whether its writer was woken.
    pub woken: bool,
    /// Whether the gateway was told that the peer is gone and has not closed the socket.
    pub told: bool,
    /// The oracle's observations of it.
    pub observed: Observed,
}

/// What the oracle remembers of one socket. Neither the gateway nor the adversary knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Observed {
    /// The oracle's own view of the credential that makes frames on the socket legitimate.
    pub valid: Option<Grant>,
    /// The newest attempt that the gateway asked about.
    pub newest: VerificationId,
    /// Its position in the stream, from what was sent on it.
    pub reader: Reader,
    /// The position at which `connection_ready` resumed it, while it is ready and everything after that can still be
    /// read.
    pub began: Option<Offset>,
    /// Whether a gap was specified on it.
    pub reset: bool,
    /// Whether all its user's places were taken when it needed one.
    pub full: bool,
    /// Whether the close frame was sent. Nothing may follow it.
    pub closing: bool,
    /// Queries that were received on it and not answered.
    pub queries: u8,
    /// Idle deadlines, at most two, that have passed since the peer was gone.
    pub quiet: u8,
}

/// A verification under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verification {
    /// The connection.
    pub connection: ConnectionId,
    /// The attempt.
    pub attempt: VerificationId,
    /// The presented token.
    pub token: Payload,
    /// How often the user's credentials had been revoked when the verification began.
    pub generation: RevocationGeneration,
    /// The gateway's value for `generation`.
    pub mark: RevocationGeneration,
}

/// One user's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Log {
    /// The number of trimmed entries.
    pub trimmed: u64,
    /// The position of readers, as the log was told.
    pub read: u64,
    /// The messages that began at or before `trimmed`, oldest first.
    pub past: Vec<MessageId>,
    /// Deletions that a session was told of: the offset and thread of each.
    pub deletions: Vec<(u64, ThreadId)>,
    /// The trimmed entries from the first, if the log keeps them.
    pub kept: Vec<Event<Payload>>,
    /// The entries that are not trimmed. Offset `trimmed + n` is entry `n - 1`.
    pub entries: VecDeque<Event<Payload>>,
    /// Lookups that are not answered.
    pub lookups: Vec<Sought>,
    /// Writes that are not answered.
    pub writes: VecDeque<Write>,
    /// Abandoned writes that the log may still execute.
    pub late: VecDeque<Write>,
    /// The newest fencing token that it has granted.
    pub token: FencingToken,
    /// The session to which it was granted, and the token.
    pub granted: (Generation, FencingToken),
    /// A restore that is not answered.
    pub restore: Option<(Generation, AcquisitionId)>,
    /// A confirmation of the owner that is not answered.
    pub confirm: Option<(Generation, ConfirmationId)>,
}

/// A lookup.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sought {
    /// The session that emitted it.
    pub session: Generation,
    /// The connection that waits for it.
    pub connection: ConnectionId,
    /// The attempt.
    pub attempt: LookupId,
    /// The lookup.
    pub lookup: Lookup<Payload>,
    /// The number of deletions in the log when the lookup was emitted. The log may read at a time when it knows only
    /// these.
    pub deletions: usize,
}

/// A write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// The session that emitted it.
    pub session: Generation,
    /// The fencing token under which it is written.
    pub owner: FencingToken,
    /// The batch.
    pub batch: BatchId,
    /// The preceding offset: after the batch's predecessor and the batch's earlier writes.
    pub at: u64,
    /// The event.
    pub event: Event<Payload>,
}

/// One run's agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Agent {
    /// The run's user.
    pub user: UserId,
    /// The session that launched it.
    pub session: Generation,
    /// `agent_thinking` events that it may still emit.
    pub thinking: u8,
    /// Pieces of its answer that it may still emit.
    pub pieces: u8,
    /// Tools that it may still call.
    pub tools: u8,
    /// Pauses that it may still make.
    pub pauses: u8,
    /// Whether it emits nothing more on its own.
    pub silent: bool,
}

/// The adversary's remaining budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the budget of the same name in the setup")]
pub struct Left {
    pub deaths: u8,
    pub replies: u8,
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

/// What the oracle must remember to detect violations, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Oracle {
    /// Messages whose agent was launched: at most once each, across crashes.
    pub launched: u16,
    /// Replies that were given to an agent: two bits per message.
    pub resumed: u16,
    /// Messages whose `message_received` was ever durable.
    pub received: u16,
    /// The number of arrivals of each message, from which the edge assigns run ids.
    pub arrivals: [u8; 4],
    /// Each user's credential generation.
    pub generation: [u32; 2],
    /// How far each user's readers were sent the stream, or told that it is gone.
    pub pulled: [u64; 2],
    /// Each user's number of consecutive failed runs.
    pub failures: [u8; 2],
    /// The newest session that was opened.
    pub opened: u32,
    /// Whether the process was told to end.
    pub drained: bool,
    /// Whether a reader was sent several pieces in one frame.
    pub joined: bool,
    /// Whether a reader that resumed inside a part was sent the rest.
    pub inside: bool,
    /// Whether a reader was sent an entry that follows deleted ones which it had read.
    pub passed: bool,
    /// Whether a reader was sent an entry that was no longer in the window.
    pub caught_up: bool,
    /// Whether a page that was read before a deletion arrived after it.
    pub outdated: bool,
    /// The last announced successor.
    pub successor: Option<Successor>,
    /// Whether the time for open runs is over.
    pub overdue: bool,
    /// Whether the log was released.
    pub released: bool,
}

/// Buffers of one step. They are not part of the state.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The gateway's outputs.
    pub outputs: gateway::Outputs<Payload>,
    /// A client's outputs.
    pub client: Vec<lockstep_model::client::Output<Payload>>,
    /// The gateway's inputs and outputs, if the step will be drawn.
    pub drawings: Option<Vec<crate::engine::proof::Drawing>>,
    /// Runs whose agents were halted in this step.
    pub halted: Vec<(UserId, Generation, RunId)>,
    /// The users whose agents were told in this step that pending events are lost.
    pub lost: [bool; 2],
    /// The users whose waiting commands were told in this step that there is room.
    pub room: [bool; 2],
    /// The users of whom a session ended in this step.
    pub ended: [bool; 2],
    /// What agents were told in this step: a launch, or an event's offset.
    pub told: Vec<(RunId, Option<Offset>)>,
}

impl Hash for Left {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Self { deaths, cancels, cuts, crashes, log_failures, restore_failures, rejections, silences, .. } = *self;
        let Self { expiries, warnings, revocations, notices, deletions, pins, drains, handovers, .. } = *self;
        let Self { lingers, garbage, eager, unanswered, fences, breaches, queries, lookup_failures, replies, .. } =
            *self;
        hasher.write(&[deaths, cancels, cuts, crashes, log_failures, restore_failures, rejections, silences]);
        hasher.write(&[expiries, warnings, revocations, notices, pins, drains, lingers, garbage]);
        hasher.write(&[eager, unanswered, fences, breaches, handovers, deletions, queries, lookup_failures, replies]);
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

    /// Whether the gateway can know that the peer is gone.
    pub fn is_known_dead(&self) -> bool {
        self.told || self.observed.quiet > 1
    }

    /// The gateway's side dies: it reads nothing more, and frames in flight are lost.
    pub(super) fn crash(&mut self) {
        self.server_gone = true;
        self.up.clear();
        self.down.clear();
        (self.woken, self.told) = (false, false);
        let observed = &mut self.observed;
        observed.valid = None;
        observed.reader.leave();
        observed.began = None;
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
