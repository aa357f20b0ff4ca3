//! What must hold in every state.

use lockstep_model::member::State as Member;
use lockstep_model::stream::Stream;
use lockstep_model::tenure::{Input, State as Phase};
use lockstep_model::{AcquisitionId, ConfirmationId, FencingToken, Handled, Incarnation};

use super::engine::Record;
use super::step::{FINISHED, INTERRUPTED, bounds};
use super::{Cluster, Mistake, Node, State};

impl State {
    pub(super) fn judge(&mut self, cluster: &Cluster) {
        self.revocation_returns(cluster);
        let contents = self.log.contents();
        let in_order = self.is_in_order();
        self.expect(in_order, "OWN-1");
        for (at, (content, _)) in self.shown.clone() {
            let there = usize::try_from(at).ok().and_then(|at| contents.get(at - 1));
            self.expect(there.is_some(), "OWN-2");
            self.expect(there.is_none_or(|there| *there == content), "STR-2");
        }
        let count = |content: u8| contents.iter().filter(|other| **other == content).count();
        for message in contents.iter().copied().filter(|content| *content < FINISHED) {
            self.expect(count(message) == 1, "RUN-2");
            self.expect(count(FINISHED + message) + count(INTERRUPTED + message) <= 1, "RUN-1");
        }
        for node in 0..2 {
            let is_over = lives_on(&self.nodes[node]);
            self.expect(is_over, "LIVE-6");
            let is_ignored = ignores_stale(&self.nodes[node]);
            self.expect(is_ignored, "OWN-1");
            if let Some(Err(violation)) = self.nodes[node].stream.as_ref().map(|stream| stream.check(&bounds())) {
                self.violated(violation.0);
            }
        }
    }

    /// A revocation returns once each process that has a lease knows of it.
    fn revocation_returns(&mut self, cluster: &Cluster) {
        let knows = |incarnation: &Incarnation| {
            let node = usize::from(!incarnation.0.is_multiple_of(2));
            self.nodes[node].informed && !self.is_dead(*incarnation)
        };
        let returns = if cluster.mistake == Some(Mistake::RevokesWhereReached) {
            self.nodes.iter().any(|node| node.informed)
        } else {
            self.log.leases.iter().filter(|(_, lives)| **lives).all(|(incarnation, _)| knows(incarnation))
        };
        self.log.returned |= self.log.revoked && returns;
    }

    /// Whether each entry has the token of the newest acquisition before it, tokens only rise, and only the
    /// newest was released.
    fn is_in_order(&self) -> bool {
        let (mut newest, mut is_owned) = ((0, FencingToken(0)), false);
        self.log.records.iter().all(|record| match record {
            Record::Acquired { tenure, .. } => {
                let rises = (tenure.epoch.0, tenure.token) > newest;
                (newest, is_owned) = ((tenure.epoch.0, tenure.token), true);
                rises
            }
            Record::Released { tenure } => {
                is_owned = false;
                (tenure.epoch.0, tenure.token) == newest
            }
            Record::Entry { token, .. } => is_owned && *token == newest.1,
        })
    }
}

/// Whether a process without a lease has no session, and a session has a stream only while it owns one.
fn lives_on(node: &Node) -> bool {
    let has_lease = match node.member.state() {
        Member::Member { .. } => true,
        Member::Apart | Member::Joining { .. } | Member::Leaving { .. } | Member::Lost | Member::Gone => false,
    };
    let has_stream = match node.phase() {
        Some(Phase::Held { .. } | Phase::Leaving { .. }) => true,
        Some(Phase::Seeking { .. } | Phase::Over { .. }) | None => false,
    };
    (has_lease || node.ownership.is_none()) && node.stream.as_ref().map(Stream::head).is_some() == has_stream
}

/// Whether answers that no present request waits for change nothing.
fn ignores_stale(node: &Node) -> bool {
    let Some(ownership) = node.ownership else { return true };
    let (attempt, owner) = (AcquisitionId(u32::MAX), Incarnation(0));
    let confirmation = ConfirmationId(u32::MAX);
    let mut stale = vec![
        Input::Elsewhere { attempt, owner },
        Input::NotAcquired { attempt },
        Input::Confirmed { attempt: confirmation },
        Input::Confirmed { attempt: ConfirmationId(0) },
        Input::NotConfirmed { attempt: confirmation },
    ];
    if !matches!(ownership.state(), Phase::Leaving { .. }) {
        stale.extend([Input::Released, Input::NotReleased]);
    }
    stale.into_iter().all(|input| {
        let (mut same, mut out) = (ownership, Vec::new());
        same.step(&bounds(), input, &mut out) == Handled::Ignored && same == ownership && out.is_empty()
    })
}
