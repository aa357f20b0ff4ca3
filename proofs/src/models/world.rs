//! The gateway in a hostile world: the production [`Gateway`](lockstep_model::Gateway) and production
//! [`Client`](lockstep_model::Client)s, and between and around them an adversary.
//!
//! The adversary is the network (each connection is a FIFO both ways; it may be cut at any instant, with all that is in
//! flight lost, and each side notices at its own time), the verifier (any order, any verdict, late or never), the
//! timers (an armed one may fire at any moment), the agents (any order of emits, silence, death, emits after the end),
//! the log (late, failing, failing after having written, never answering, doing late what was given up, granting the
//! user to another owner, breaking its contract), the process (a crash at any moment, with any prefix of what was
//! on its way to the log durable after all) and the operator. What it may do how often is the world's [`Setup`].
//!
//! # What a world leaves out, and why no violation is lost
//!
//! * *Deadlines are ordered as their durations are.* A peer that is there is heard before it counts as idle. The models of the
//!   single machines let these timers fire at any moment. A verdict may come after any timer, for a process may be stopped
//!   between any two steps.
//! * *An upgrade is one step*: between accept and open a connection is known to nobody else. The model of the connection
//!   takes the two apart.
//! * *With [`Wire::Instant`] a pulled frame is handled in the same step.* A client's handling of a stream frame changes
//!   nothing but the client's position, which the gateway learns only by a resume. A frame that is still in flight then
//!   was, for the gateway, pulled and lost: a cut that neither side has noticed gives the same. `golden` has real queues.
//! * *After Halt an agent's late emit is tried at once* and must be refused; the run is gone from the session for good, so
//!   trying later gives the same answer.
//! * *A second connection of the same name space*: connection ids are never reused, as 64 random bits are not.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "the world picks out what it answers; that a new input or order is met by every machine is the machines' matter"
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
pub mod properties;
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
    /// Whether the promises of liveness are examined too, which needs the whole graph in memory.
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
