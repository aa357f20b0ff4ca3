//! One user on two nodes ([`lockstep_model::tenure`], [`lockstep_model::member`] and [`lockstep_model::stream`]): a
//! shared log, leases, and a client that moves.
//!
//! | actor | actions |
//! | --- | --- |
//! | the network | loses a call or its answer; delivers a call late, after others have acquired the user |
//! | the log | carries out calls, replicates, ends leases, fails over to the standby |
//! | a node | retries, joins, learns that its lease has ended, faults, crashes, drains and departs; is paused and wakes |
//! | the client | connects to either node, leaves, sends messages and repeats them, reads |
//! | an agent | ends its run, or never does |
//! | an operator | revokes the client's credential |
//!
//! A node is the production [`Membership`], and per session the production [`Ownership`] and [`Stream`]. The model
//! itself adds the other duties of a session and its driver: which connection waits for what, when a user is released,
//! which messages are known.
//!
//! The bounds are budgets, and each budget is an initial state of its own. If clocks are *wrong*, the log may end a
//! lease at any moment, even one that its node still counts on. Only OWN-5 depends on clocks, so nothing is revoked
//! there. If clocks are *right*, a node's own lease ends first, or the node is paused and wakes to that end.
//!
//! Abstractions. A user's calls are one at a time, as in the journal. Only one delayed call exists at a time. The answer to a
//! renewal is immediate or lost. A drain does not interrupt a run; the run may last forever, and the client must be
//! served meanwhile. The window retains everything, so a gap that a reader sees claims that entries are gone.
//!
//! The oracle knows what was shown to anyone in this epoch, every token that was granted, and the log.

mod action;
mod engine;
mod oracle;
mod relay;
mod setup;
mod step;

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::stream::{Cursor, Stream};
use lockstep_model::tenure::State as Phase;
use lockstep_model::{ConfirmationId, Membership, Ownership, RenewalId, Tenure};
use stateright::{Model, Property};

pub use self::action::{Action, Lease};
use self::engine::{Answer, Call, Engine};
pub use self::setup::{Budget, Clocks, Mistake, Standby, model};
use crate::engine::proof::{Promise, Proof};
use crate::models::harness::{checked, survives};

/// The model.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Each is an initial state.
    pub budgets: Vec<Budget>,
    /// A broken variant's mistake.
    pub mistake: Option<Mistake>,
}

/// How far a call is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Progress {
    /// On its way to the log.
    Sent,
    /// Carried out. The answer leaves once the standby has this many records.
    Done(Answer, usize),
}

/// A process, and its session of the user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    member: Membership,
    /// Incarnations so far.
    lives: u64,
    /// The renewal that is on its way.
    renewing: Option<RenewalId>,
    ownership: Option<Ownership>,
    stream: Option<Stream<u8>>,
    call: Option<(Call, Progress)>,
    /// The newest confirmation that waits for its turn.
    confirming: Option<ConfirmationId>,
    /// The message whose run is open here.
    open: Option<u8>,
    draining: bool,
    paused: bool,
    /// Whether it knows of the revocation.
    informed: bool,
    /// For a mistake: what was read before the user was acquired.
    early: Option<Vec<u8>>,
    /// For a mistake: how many entries were restored.
    restored: usize,
}

/// Where the client's connection is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    node: usize,
    /// The node that relays it.
    via: Option<usize>,
    /// Where it reads; `None` until it is ready.
    cursor: Option<Cursor>,
    /// The confirmation that it waits for.
    waits: Option<ConfirmationId>,
    /// Whether the next message was sent on it.
    sent: bool,
}

/// The client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Client {
    place: Option<Place>,
    /// What it has read: epoch and offset.
    position: (u64, u64),
    /// The message that it has not seen in the stream yet.
    next: u8,
    /// Whether it was told that its credential is revoked.
    rejected: bool,
}

/// Two nodes, a log, a client, and the oracle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    nodes: [Node; 2],
    log: Engine,
    late: Option<Call>,
    client: Client,
    left: Budget,
    /// The events of the present epoch that were shown, or confirmed as durable, each with the first token that did so.
    shown: BTreeMap<u64, (u8, u32)>,
    granted: BTreeSet<(u64, u32)>,
    broken: Option<&'static str>,
}

checked![
    Cluster, State;
    "OWN-1", "OWN-2", "OWN-3", "OWN-4", "OWN-5", "OWN-6", "STR-1", "STR-2", "RUN-1", "RUN-2", "LIVE-6",
];

impl Node {
    fn new() -> Self {
        Self {
            member: Membership::new(),
            lives: 0,
            renewing: None,
            ownership: None,
            stream: None,
            call: None,
            confirming: None,
            open: None,
            draining: false,
            paused: false,
            informed: false,
            early: None,
            restored: 0,
        }
    }

    /// Whether it is a member in its first life, and has no session.
    fn is_new(&self) -> bool {
        let is_idle = self.ownership.is_none() && self.call.is_none() && !self.paused;
        is_idle && self.lives == 1 && self.member.incarnation().is_some()
    }

    fn tenure(&self) -> Option<Tenure> {
        self.ownership.as_ref().and_then(Ownership::tenure)
    }

    fn phase(&self) -> Option<Phase> {
        self.ownership.as_ref().map(Ownership::state)
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.budgets.iter().map(|budget| State::new(self, *budget)).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_none() {
            state.actions(self, actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        next.act(self, action);
        next.judge(self);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = unbroken();
        all.extend([
            Property::sometimes("OWN-1.two", |_: &Self, state: &State| {
                state.nodes.iter().all(|node| node.tenure().is_some())
            }),
            Property::sometimes("OWN-1.fenced", |_: &Self, state: &State| state.nodes.iter().any(is_fenced)),
            Property::sometimes("OWN-2.taken-over", |_: &Self, state: &State| {
                let later = |tenure: Tenure| tenure.token.0 > 1;
                let holds = |node: &Node| node.stream.as_ref().is_some_and(|stream| stream.head().0 > 0);
                state.nodes.iter().any(|node| node.tenure().is_some_and(later) && holds(node))
            }),
            Property::sometimes("OWN-3.ahead", |_: &Self, state: &State| {
                let behind = |place: &Place| state.nodes[place.node].tenure() != Some(state.log.row().0);
                state.client.place.as_ref().is_some_and(|place| place.waits.is_some() && behind(place))
            }),
            Property::sometimes("OWN-4.handed-over", |_: &Self, state: &State| {
                let [one, other] = &state.nodes;
                let gone = |node: &Node| node.draining && node.ownership.is_none();
                let took = |node: &Node| node.tenure().is_some() && !state.log.contents().is_empty();
                (gone(one) && took(other)) || (gone(other) && took(one))
            }),
            Property::sometimes("OWN-5.cut-off", |_: &Self, state: &State| {
                state.log.returned && state.nodes.iter().any(|node| !node.informed)
            }),
            Property::sometimes("OWN-6.relayed", |_: &Self, state: &State| {
                state.client.place.as_ref().is_some_and(|place| place.via.is_some() && place.cursor.is_some())
            }),
            Property::sometimes("LIVE-5.served-again", |_: &Self, state: &State| {
                state.is_served() && state.log.leases.values().any(|lives| !lives) && state.client.position.1 > 0
            }),
            Property::sometimes("STR-2.new-epoch", |_: &Self, state: &State| {
                state.client.position.0 > 1 && state.client.position.1 > 0
            }),
        ]);
        if self.mistake.is_some() {
            // A broken variant need not reach every premise within its budget.
            all.retain(|property| property.expectation == stateright::Expectation::Always);
        }
        all
    }
}

/// Whether an owner is about to learn that it was replaced.
fn is_fenced(node: &Node) -> bool {
    node.tenure().is_some() && matches!(&node.call, Some((Call::Append { .. }, Progress::Done(Answer::Fenced, _))))
}

impl Proof for Cluster {
    fn name(&self) -> &'static str {
        "tenure"
    }

    fn about(&self) -> &'static str {
        "one user on two nodes and a shared log: owners that are replaced, leases that end, late calls, relays, fail-overs"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        let most = |part: fn(&Budget) -> u8| self.budgets.iter().map(part).max().unwrap_or(0).to_string();
        vec![
            ("nodes", "2".into()),
            ("messages", most(|budget| budget.messages)),
            ("lost or late calls", most(|budget| budget.losses)),
            ("leases that end", most(|budget| budget.expiries)),
            ("crashes and faults", most(|budget| budget.crashes)),
            ("moves of the client", most(|budget| budget.moves)),
            ("drains", most(|budget| budget.drains)),
            ("fail-overs", most(|budget| budget.failovers)),
            ("revocations", most(|budget| budget.revocations)),
        ]
    }

    fn fairness(&self, action: &Action) -> Option<u8> {
        let class = |base: u8, node: usize| Some(2 * base + u8::from(node > 0));
        match *action {
            Action::Process(node) => class(0, node),
            Action::Deliver(node) => class(1, node),
            Action::Retry(node) => class(2, node),
            Action::Repeat(node) => class(3, node),
            Action::Lease(node, Lease::Renew | Lease::Renewed) => class(4, node),
            Action::Lease(node, Lease::Join) => class(5, node),
            Action::Lease(node, Lease::Wake) => class(6, node),
            Action::Lease(node, Lease::Depart) => class(7, node),
            Action::Learn(node) => class(8, node),
            Action::Replicate => Some(18),
            Action::ExpireDead => Some(19),
            Action::Connect(_) => Some(20),
            Action::Lose(_)
            | Action::Delay(_)
            | Action::Arrive
            | Action::Vanish
            | Action::Failover
            | Action::Lease(_, Lease::NotRenewed | Lease::End | Lease::Expire | Lease::Sleep | Lease::Crash)
            | Action::Fault(_)
            | Action::Drain(_)
            | Action::Leave
            | Action::Send
            | Action::Read
            | Action::Finish(_)
            | Action::Revoke => None,
        }
    }

    fn survives(&self, state: &State) -> bool {
        let kept = |node: &Node| {
            survives(&node.member)
                && node.ownership.as_ref().is_none_or(survives)
                && node.stream.as_ref().is_none_or(survives)
        };
        state.nodes.iter().all(kept)
    }

    fn promises(&self) -> Vec<Promise<Self>> {
        vec![Promise {
            id: "LIVE-5",
            pending: |_, state| state.broken.is_none() && !state.client.rejected && !state.is_served(),
        }]
    }
}
