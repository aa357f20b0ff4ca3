//! Two whole gateways on one shared log: the production [`Gateway`] twice, and a production [`Client`] that moves
//! between them.
//!
//! | actor | actions |
//! | --- | --- |
//! | the client | connects to either gateway, is cut, sends a message |
//! | the agents | start, and complete |
//! | the log | carries out a call, answers it; loses a call or its answer, or carries it out late; ends a lease |
//! | a gateway | learns that its lease has ended; crashes; drains; opens a relay; its timers fire |
//!
//! [`tenure`](crate::models::tenure) explores leases, replication and revocation with parts of a session. This model
//! explores the hand-over with a whole session: acquire and restore, confirm, relay, drain, fence.
//!
//! Each budget is an initial state of its own. A lease may end at any moment, even while its process counts on it.
//!
//! Abstractions. A gateway's calls are answered in order, as its journal sends them. A restore is read after the user
//! is acquired, in a call of its own. Frames and verdicts arrive in the step that emits them. To the machines, a frame
//! that is lost with its socket is the same as a cut before the next step. A gateway notices a cut at once. A relay
//! ends when either of its ends does, and opens if the owner's process still lives.

mod action;
mod engine;
mod oracle;
mod setup;
mod step;
mod wire;

use std::collections::{BTreeMap, VecDeque};

use lockstep_model::gateway::Place;
use lockstep_model::stream::Entry;
use lockstep_model::{
    Client, ConnectionId, Gateway, Generation, Incarnation, Mode, Request, RunId, SocketId, Timer, UserId, session,
};
use stateright::{Model, Property};

pub use self::action::Action;
use self::engine::{Answer, Call, Engine};
pub use self::setup::{Budget, Mistake, model};
use crate::engine::proof::Proof;
use crate::models::harness::checked;
use crate::models::world::shared::{Payload, Remembered};
use crate::properties::stream::Reader;

/// The one user.
const USER: UserId = UserId(0);

/// The model.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Each is an initial state.
    pub budgets: Vec<Budget>,
    /// A broken variant's mistake.
    pub mistake: Option<Mistake>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    gateway: Gateway<Payload, Remembered>,
    /// Incarnations so far.
    lives: u64,
    /// The calls of the log that are not answered, oldest first, each with its answer once it was carried out.
    calls: VecDeque<(Call, Option<Answer>)>,
    /// Armed timers, sorted.
    timers: Vec<(Place, Timer)>,
    agents: BTreeMap<RunId, Generation>,
    /// For a mistake: what was read before the user was acquired.
    early: Option<Vec<Entry<Payload>>>,
    /// Whether its process may end: it does once its calls are answered.
    ended: bool,
    stopped: bool,
}

/// The client's socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Link {
    node: usize,
    connection: ConnectionId,
    socket: SocketId,
    /// Its position, from what arrived on it.
    reader: Reader,
}

/// A relay of the client's connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Relay {
    /// The gateway that relays.
    via: usize,
    /// The connection there.
    near: ConnectionId,
    owner: Incarnation,
    /// The owner's gateway and the connection there, once the relay is open.
    far: Option<(usize, ConnectionId)>,
}

/// The client's side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Side {
    client: Client<Payload>,
    sent: u8,
    opening: bool,
    pausing: bool,
    wants_token: bool,
    /// The credential and the position that it presented last.
    auth: Option<Request<Payload>>,
    link: Option<Link>,
}

/// What the oracle remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Observed {
    /// How often each message's agent was launched.
    launched: u8,
    /// Arrivals of messages, from which run ids are made.
    arrivals: u8,
    /// Whether a user was handed over.
    handed_over: bool,
    /// Whether the owner was fenced.
    fenced: bool,
    /// Whether an event reached the client through a relay.
    relayed: bool,
}

/// Two gateways, a log, a client, and the oracle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    nodes: [Node; 2],
    side: Side,
    relay: Option<Relay>,
    log: Engine,
    /// A call that arrives late.
    late: Option<Call>,
    left: Budget,
    observed: Observed,
    broken: Option<&'static str>,
}

checked![
    Pair, State;
    "AUTH-1", "AUTH-3", "CONN-1", "CONN-2", "ISO-1", "LIM-1", "NODE-1", "NODE-2", "OWN-1", "OWN-2", "OWN-3", "OWN-4",
    "OWN-6", "RET-1", "RUN-1", "RUN-2", "RUN-3", "RUN-4", "RUN-5", "SES-1", "STR-1", "STR-2", "STR-3", "LIVE-2",
    "LIVE-6",
];

impl Node {
    /// The session of the user.
    fn session(&self) -> Option<&lockstep_model::Session<Payload>> {
        self.gateway.slots().get(&USER).map(|slot| &*slot.session)
    }

    /// Whether the session holds the user, as far as it knows.
    fn holds(&self) -> bool {
        self.session().is_some_and(|session| session.ownership().tenure().is_some())
    }

    fn is_draining(&self) -> bool {
        self.gateway.node().mode() != Mode::Ready
    }
}

impl State {
    /// Whether the client reads its stream at the user's owner.
    fn is_served(&self) -> bool {
        let Some(link) = &self.side.link else { return false };
        self.side.client.is_ready() && link.reader.at().is_some()
    }
}

impl Model for Pair {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.budgets.iter().map(|budget| State::new(self, *budget)).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_none() {
            state.actions(actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        next.act(self, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = unbroken();
        if self.mistake.is_some() {
            // A broken variant need not reach every premise within its budget.
            return all;
        }
        all.extend([
            Property::sometimes("OWN-1.two", |_: &Self, state: &State| state.nodes.iter().all(Node::holds)),
            Property::sometimes("OWN-1.fenced", |_: &Self, state: &State| state.observed.fenced),
            Property::sometimes("OWN-2.taken-over", |_: &Self, state: &State| {
                let runs = state.log.entries.iter().filter(|(_, event)| event.kind.is_terminal()).count();
                state.log.token > 1 && runs > 0 && state.is_served()
            }),
            Property::sometimes("OWN-3.ahead", |_: &Self, state: &State| {
                let waits = |session: &session::Session<Payload>| {
                    session.members().values().any(|member| member.ahead.is_some())
                };
                state.nodes.iter().any(|node| node.session().is_some_and(waits))
            }),
            Property::sometimes("OWN-4.handed-over", |_: &Self, state: &State| {
                state.observed.handed_over && state.is_served()
            }),
            Property::sometimes("OWN-6.relayed", |_: &Self, state: &State| state.observed.relayed),
            Property::sometimes("LIVE-5.served-again", |_: &Self, state: &State| {
                state.is_served() && state.log.token > 1 && !state.log.entries.is_empty()
            }),
        ]);
        all
    }
}

impl Proof for Pair {
    fn name(&self) -> &'static str {
        "cluster"
    }

    fn about(&self) -> &'static str {
        "two whole gateways on one log: hand-over, take-over, relays, fences, a client that moves"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        let most = |part: fn(&Budget) -> u8| self.budgets.iter().map(part).max().unwrap_or(0).to_string();
        vec![
            ("gateways", "2".into()),
            ("messages", most(|budget| budget.messages)),
            ("cuts", most(|budget| budget.cuts)),
            ("lost or late calls", most(|budget| budget.losses)),
            ("leases that end", most(|budget| budget.expiries)),
            ("crashes", most(|budget| budget.crashes)),
            ("drains", most(|budget| budget.drains)),
            ("sockets", most(|budget| budget.sockets)),
        ]
    }

    fn is_short(&self) -> bool {
        true
    }
}
