//! What may happen.

use lockstep_model::Incarnation;
use lockstep_model::member::State as Member;
use lockstep_model::stream::{Stream, Writer};
use lockstep_model::tenure::{Request, State as Phase};

use super::engine::Call;
use super::{Clocks, Cluster, Mistake, Progress, State};

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The log carries out the node's call.
    Process(usize),
    /// Its answer arrives.
    Deliver(usize),
    /// The call, or its answer, is lost.
    Lose(usize),
    /// The call is delayed, and the node gives up on it.
    Delay(usize),
    /// The delayed call arrives.
    Arrive,
    /// The delayed call never arrives.
    Vanish,
    /// A refused batch is written again.
    Retry(usize),
    /// The log is asked again to acquire, confirm or release.
    Repeat(usize),
    /// The standby catches up.
    Replicate,
    /// The log fails over to the standby.
    Failover,
    /// Something happens to a node's lease.
    Lease(usize, Lease),
    /// The log ends the leases of all processes that have ended.
    ExpireDead,
    /// The session ends by a fault of ours.
    Fault(usize),
    /// The node begins to drain.
    Drain(usize),
    /// The client connects.
    Connect(usize),
    /// The client's connection is lost.
    Leave,
    /// The client sends its message, or repeats it.
    Send,
    /// The client reads an entry.
    Read,
    /// The agent ends its run.
    Finish(usize),
    /// The client's credential is revoked.
    Revoke,
    /// The node learns of that.
    Learn(usize),
}

/// What happens to a node's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// The node renews it, or asks for the first one.
    Renew,
    /// That is answered.
    Renewed,
    /// The answer is lost.
    NotRenewed,
    /// It ends for the node.
    End,
    /// It ends for the log.
    Expire,
    /// The process is paused until it has ended.
    Sleep,
    /// The process goes on.
    Wake,
    /// The node joins under a new incarnation.
    Join,
    /// The process ends, and another begins in its place.
    Crash,
    /// The node has no session left, and departs.
    Depart,
}

impl State {
    pub(super) fn actions(&self, cluster: &Cluster, actions: &mut Vec<Action>) {
        for node in 0..if self.is_symmetric() { 1 } else { 2 } {
            self.calls(node, actions);
            self.leases(node, actions);
            if !self.nodes[node].paused {
                self.sessions(node, actions);
            }
        }
        self.network(cluster, actions);
        self.clients(actions);
    }

    /// Whether the nodes are interchangeable: what one may do is then explored once.
    fn is_symmetric(&self) -> bool {
        let is_unused = self.log.records.is_empty() && self.late.is_none() && self.client.place.is_none();
        let is_live = (0..2).all(|node| self.log.is_live(self.incarnation(node)));
        let [one, other] = &self.nodes;
        let is_same = one.draining == other.draining && one.informed == other.informed;
        is_unused && is_live && is_same && one.is_new() && other.is_new()
    }

    fn calls(&self, node: usize, actions: &mut Vec<Action>) {
        let (at, losses) = (&self.nodes[node], self.left.losses > 0);
        match &at.call {
            Some((call, Progress::Sent)) => {
                actions.push(Action::Process(node));
                let is_late = !matches!(call, Call::Restore { .. } | Call::Confirm { .. });
                if losses && !at.paused {
                    actions.push(Action::Lose(node));
                    actions.extend((is_late && self.late.is_none()).then_some(Action::Delay(node)));
                }
            }
            Some((_, Progress::Done(_, need))) if !at.paused => {
                actions.extend((self.log.durable >= *need).then_some(Action::Deliver(node)));
                actions.extend(losses.then_some(Action::Lose(node)));
            }
            Some((_, Progress::Done(..))) | None => {}
        }
    }

    fn leases(&self, node: usize, actions: &mut Vec<Action>) {
        let at = &self.nodes[node];
        if at.paused {
            actions.push(Action::Lease(node, Lease::Wake));
            return;
        }
        let (lives, expiries) = (self.log.is_live(self.incarnation(node)), self.left.expiries > 0);
        match at.member.state() {
            Member::Apart | Member::Lost if !at.draining => actions.push(Action::Lease(node, Lease::Join)),
            Member::Joining { .. } | Member::Member { .. } if at.renewing.is_some() => {
                actions.push(Action::Lease(node, Lease::Renewed));
                actions.extend((self.left.losses > 0).then_some(Action::Lease(node, Lease::NotRenewed)));
            }
            Member::Joining { .. } => actions.push(Action::Lease(node, Lease::Renew)),
            Member::Member { .. } if !lives => actions.push(Action::Lease(node, Lease::Renew)),
            Member::Apart | Member::Lost | Member::Member { .. } | Member::Leaving { .. } | Member::Gone => {}
        }
        if self.is_member(node) && expiries {
            actions.push(Action::Lease(node, Lease::End));
            match self.left.clocks {
                Clocks::Wrong if lives => actions.push(Action::Lease(node, Lease::Expire)),
                Clocks::Right if lives => actions.push(Action::Lease(node, Lease::Sleep)),
                Clocks::Wrong | Clocks::Right => {}
            }
        }
    }

    fn sessions(&self, node: usize, actions: &mut Vec<Action>) {
        let at = &self.nodes[node];
        let is_free = at.call.is_none();
        let writer = at.stream.as_ref().map(Stream::writer);
        if is_free && writer == Some(Writer::Waiting) {
            actions.push(Action::Retry(node));
        }
        let repeats = match at.phase() {
            Some(Phase::Seeking { request, .. } | Phase::Leaving { request, .. }) => request == Request::Pausing,
            Some(Phase::Held { asked, confirmed, .. }) => asked > confirmed && at.confirming.is_none(),
            Some(Phase::Over { .. }) | None => false,
        };
        if is_free && repeats {
            actions.push(Action::Repeat(node));
        }
        if at.open.is_some() && at.tenure().is_some() {
            actions.push(Action::Finish(node));
        }
        let is_gone = at.member.state() == Member::Gone;
        if self.left.crashes > 0 && !is_gone {
            actions.push(Action::Lease(node, Lease::Crash));
            actions.extend(at.ownership.map(|_| Action::Fault(node)));
        }
        if self.left.drains > 0 && self.is_member(node) {
            actions.push(Action::Drain(node));
        }
        let is_used = self.client.place.as_ref().is_some_and(|place| place.node == node);
        if at.draining && at.ownership.is_none() && !is_used && !is_gone {
            actions.push(Action::Lease(node, Lease::Depart));
        }
        if self.log.revoked && !at.informed && self.is_member(node) {
            actions.push(Action::Learn(node));
        }
        if self.client.place.is_none() && !self.client.rejected && self.is_member(node) && !at.draining {
            actions.push(Action::Connect(node));
        }
    }

    fn network(&self, cluster: &Cluster, actions: &mut Vec<Action>) {
        if self.late.is_some() {
            actions.extend([Action::Arrive, Action::Vanish]);
        }
        if self.log.durable < self.log.records.len() {
            actions.push(Action::Replicate);
        }
        if self.left.failovers > 0 {
            actions.push(Action::Failover);
        }
        if self.has_dead_leases() && cluster.mistake != Some(Mistake::LeaseForever) {
            actions.push(Action::ExpireDead);
        }
        if self.left.revocations > 0 {
            actions.push(Action::Revoke);
        }
    }

    fn has_dead_leases(&self) -> bool {
        self.log.leases.iter().any(|(incarnation, lives)| *lives && self.is_dead(*incarnation))
    }

    /// Whether no process counts on the lease of this incarnation.
    pub(super) fn is_dead(&self, incarnation: Incarnation) -> bool {
        let node = usize::from(!incarnation.0.is_multiple_of(2));
        let counts = match self.nodes[node].member.state() {
            Member::Joining { incarnation } | Member::Member { incarnation } => Some(incarnation),
            Member::Apart | Member::Leaving { .. } | Member::Lost | Member::Gone => None,
        };
        counts != Some(incarnation)
    }
}
