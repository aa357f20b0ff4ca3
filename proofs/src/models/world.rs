//! The gateway in a hostile world: the production [`Gateway`](lockstep_model::Gateway) and production
//! [`Client`](lockstep_model::Client)s, surrounded by an adversary.
//!
//! The adversary controls:
//!
//! * the network: each connection is a FIFO queue in both directions. It may be cut at any moment, which loses
//!   everything in flight, and each side notices at its own time;
//! * the verifier: any order, any verdict, late or never;
//! * the timers: an armed timer may fire at any moment;
//! * the agents: any order of emits, silence, death, emits after the end;
//! * the log: late, failing, failing after having written, never answering, executing an abandoned request late,
//!   granting the user to another owner, breaking its contract;
//! * the process: a crash at any moment, after which any prefix of the writes in flight may be durable;
//! * the operator.
//!
//! The world's [`Setup`] bounds how often each may happen.
//!
//! # What a world abstracts away, and why this hides no violation
//!
//! * *Deadlines are ordered by their durations.* A frame of a responsive peer arrives before the peer counts as idle.
//!   The models of the single machines let these timers fire at any moment. A verdict may come after any timer, because
//!   a process may be suspended between any two steps.
//! * *An upgrade is one step.* Between accept and open no other part knows the connection. The connection's model
//!   separates the two.
//! * *With [`Wire::Instant`] a pulled frame is handled in the same step.* Handling a stream frame changes only the
//!   client's position, which the gateway learns only from a resume. To the gateway, a frame that is still in flight is
//!   therefore a frame that was pulled and lost, and a cut that neither side has noticed covers that case. `golden` has
//!   real queues.
//! * *After Halt an agent's late emit is tried at once* and must be refused. The run is gone from the session for good,
//!   so a later attempt has the same result.
//! * *No connection id is reused*, because ids are 64 random bits.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "the world handles selected variants; the machines match every input and output by name"
)]

pub mod action;
pub mod audit;
pub mod census;
pub mod deletion;
pub mod draw;
pub mod fairness;
pub mod lookup;
pub mod mistake;
pub mod oracle;
pub mod outputs;
pub mod pausing;
pub mod properties;
pub mod refusals;
pub mod room;
pub mod service;
pub mod setup;
pub mod shared;
pub mod state;
pub mod step;
pub mod storage;
pub mod turns;

use std::cell::RefCell;

use stateright::{Model, Property};

pub use self::action::Action;
pub use self::mistake::Mistake;
pub use self::setup::{ClientSetup, Setup, Threads, Wire};
pub use self::state::World;
use crate::engine::proof::{Drawing, Promise, Proof};

/// A world as a model.
#[derive(Clone, Debug)]
pub struct Explored {
    /// Its bounds and budgets.
    pub setup: Setup,
    /// Whether liveness is checked too, which needs the whole graph in memory.
    pub live: bool,
}

thread_local! {
    static SCRATCH: RefCell<state::Scratch> = RefCell::default();
}

impl Model for Explored {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.setup)]
    }

    fn actions(&self, state: &World, actions: &mut Vec<Action>) {
        state.actions(&self.setup, actions);
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut next = last.clone();
        SCRATCH.with_borrow_mut(|scratch| next.act(&self.setup, action, scratch));
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::properties(&self.setup)
    }
}

impl Proof for Explored {
    fn name(&self) -> &'static str {
        self.setup.name
    }

    fn about(&self) -> &'static str {
        self.setup.about
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        self.setup.describe()
    }

    fn is_short(&self) -> bool {
        true
    }

    fn weight(&self, action: &Action) -> u32 {
        match action {
            Action::Expire(..) => 2,
            Action::Send(_) => 8,
            _ if action.fairness(&self.setup).is_some() => 8,
            _ => 1,
        }
    }

    fn fairness(&self, action: &Action) -> Option<u8> {
        action.fairness(&self.setup)
    }

    fn promises(&self) -> Vec<Promise<Self>> {
        if self.live { properties::promises(&self.setup) } else { Vec::new() }
    }

    fn depict(&self, before: &World, action: &Action, after: &World) -> Vec<Drawing> {
        draw::depict(&self.setup, before, action, after)
    }
}
