//! What may happen.

use lockstep_model::gateway::Place;
use lockstep_model::{Incarnation, RunId, Timer, client, run};

use super::engine::Call;
use super::{Link, Node, State};

/// A step. The number names a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The log carries out the oldest call of a gateway.
    Execute(usize),
    /// Its answer arrives.
    Answer(usize),
    /// The call, or its answer, is lost.
    Lose(usize),
    /// The call is delayed, and the gateway gives up on it.
    Delay(usize),
    /// The delayed call arrives.
    Arrive,
    /// The delayed call never arrives.
    Vanish,
    /// The log ends a lease that its process counts on.
    EndLease(usize),
    /// The process learns of that.
    Learn(usize),
    /// The log ends the leases of processes that have ended.
    ExpireDead,
    /// The process ends, and another begins in its place.
    Crash(usize),
    /// The process begins to drain.
    Drain(usize),
    /// A timer fires.
    Expire(usize, Place, Timer),
    /// The client connects.
    Connect(usize),
    /// The client's pause is over.
    Pause,
    /// The client gets a token.
    Token,
    /// The client is cut.
    Cut,
    /// The client sends its message.
    Send,
    /// A gateway asks the owner's process to take the client's connection.
    Relay,
    /// The agent of this run emits its next event.
    Agent(usize, RunId),
}

impl State {
    pub(super) fn actions(&self, actions: &mut Vec<Action>) {
        for node in 0..if self.is_symmetric() { 1 } else { 2 } {
            if !self.nodes[node].stopped {
                self.calls(node, actions);
                self.processes(node, actions);
                self.timers(node, actions);
            }
        }
        if self.late.is_some() {
            actions.extend([Action::Arrive, Action::Vanish]);
        }
        if self.log.leases.iter().any(|incarnation| self.is_dead(*incarnation)) {
            actions.push(Action::ExpireDead);
        }
        if self.relay.as_ref().is_some_and(|relay| relay.far.is_none()) {
            actions.push(Action::Relay);
        }
        self.clients(actions);
    }

    /// Whether the gateways are interchangeable: what one may do is then explored once.
    fn is_symmetric(&self) -> bool {
        let is_new = |node: &Node| node.lives == 1 && node.calls.is_empty() && node.session().is_none();
        let is_unused = self.log.token == 0 && self.late.is_none() && self.side.link.is_none();
        let [one, other] = &self.nodes;
        is_unused && self.log.leases.len() == 2 && is_new(one) && is_new(other) && one.gateway == other.gateway
    }

    fn calls(&self, node: usize, actions: &mut Vec<Action>) {
        let losses = self.left.losses > 0;
        match self.nodes[node].calls.front() {
            Some((call, None)) => {
                actions.push(Action::Execute(node));
                // The driver repeats a release until it is answered.
                if losses && !matches!(call, Call::Release { .. }) {
                    actions.push(Action::Lose(node));
                }
                let changes = !matches!(call, Call::Read { .. } | Call::Confirm { .. });
                if losses && changes && self.late.is_none() {
                    actions.push(Action::Delay(node));
                }
            }
            Some((call, Some(_))) => {
                actions.push(Action::Answer(node));
                if losses && !matches!(call, Call::Release { .. }) {
                    actions.push(Action::Lose(node));
                }
            }
            None => {}
        }
    }

    fn processes(&self, node: usize, actions: &mut Vec<Action>) {
        let at = &self.nodes[node];
        let lives = self.log.leases.contains(&self.incarnation(node));
        if !lives {
            actions.push(Action::Learn(node));
        } else if self.left.expiries > 0 {
            actions.push(Action::EndLease(node));
        }
        if self.left.crashes > 0 {
            actions.push(Action::Crash(node));
        }
        if self.left.drains > 0 && !at.is_draining() {
            actions.push(Action::Drain(node));
        }
        for (run, generation) in &at.agents {
            let slot = at.gateway.slots().values().find(|slot| slot.generation == *generation);
            let Some(state) = slot.and_then(|slot| slot.session.runs().get(run)).map(lockstep_model::Run::state) else {
                continue;
            };
            if matches!(state, run::State::Accepted | run::State::Started | run::State::Working { .. }) {
                actions.push(Action::Agent(node, *run));
            }
        }
        if self.side.opening && self.left.sockets > 0 {
            actions.push(Action::Connect(node));
        }
    }

    fn timers(&self, node: usize, actions: &mut Vec<Action>) {
        let at = &self.nodes[node];
        for (place, timer) in &at.timers {
            let fires = match (place, timer) {
                // A log answers in time unless a call or an answer is lost.
                (Place::Session(..), Timer::LogAnswer) => at.calls.is_empty(),
                // A session without connections stays, unless its process is about to leave.
                (Place::Session(..), Timer::Linger) => at.is_draining(),
                // It also repeats a confirmation. That is necessary only if the call was lost.
                (Place::Session(..), Timer::Restore) => {
                    !at.calls.iter().any(|(call, _)| matches!(call, Call::Confirm { .. }))
                }
                _ => true,
            };
            if fires {
                actions.push(Action::Expire(node, *place, *timer));
            }
        }
    }

    fn clients(&self, actions: &mut Vec<Action>) {
        let side = &self.side;
        if side.pausing {
            actions.push(Action::Pause);
        }
        if side.wants_token {
            actions.push(Action::Token);
        }
        if side.link.is_some() && self.left.cuts > 0 {
            actions.push(Action::Cut);
        }
        let is_live = matches!(side.client.state(), client::State::Live { .. });
        if is_live && side.link.as_ref().is_some_and(|link: &Link| link.reader.at().is_some()) && self.left.messages > 0
        {
            actions.push(Action::Send);
        }
    }

    /// Whether no process counts on the lease of this incarnation.
    pub(super) fn is_dead(&self, incarnation: Incarnation) -> bool {
        let node = usize::from(!incarnation.0.is_multiple_of(2));
        self.incarnation(node) != incarnation || self.nodes[node].stopped
    }
}
