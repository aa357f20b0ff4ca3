//! What a node and the log do.

use core::time::Duration;

use lockstep_model::member::{self, Deadline};
use lockstep_model::run::Kind;
use lockstep_model::stream::{self, Entry, Event, Snapshot, Stream, Writer};
use lockstep_model::tenure::{self, Ending, State as Phase};
use lockstep_model::{AcquisitionId, Bounds, Incarnation, Offset, RunId, Tenure, ThreadId, Timer};

use super::engine::{Answer, Call, Engine};
use super::{Action, Budget, Client, Cluster, Lease, Mistake, Node, Progress, Standby, State};
use crate::models::harness::small;

/// The end of a message's run, by its agent.
pub(super) const FINISHED: u8 = 16;
/// The end of a message's run, by a later owner.
pub(super) const INTERRUPTED: u8 = 32;

/// A lease ends a margin early, and its renewal takes no time.
const LIMITS: member::LeaseTimes = member::LeaseTimes::DEFAULT;

pub(super) fn bounds() -> Bounds {
    Bounds { retained: 16, retained_turns: 16, pending: 8, ..small() }
}

fn event(content: u8) -> Event<u8> {
    Event { run: RunId(u64::from(content)), thread: Some(ThreadId(0)), kind: Kind::Thinking, payload: Some(content) }
}

const fn incarnation(node: usize, lives: u64) -> Incarnation {
    Incarnation(2 * lives + node as u64)
}

impl State {
    pub(super) fn new(cluster: &Cluster, left: Budget) -> Self {
        let client = Client { place: None, position: (1, 0), next: 1, rejected: false };
        let mut state = Self {
            nodes: [Node::new(), Node::new()],
            log: Engine::new(),
            late: None,
            client,
            left,
            shown: [].into(),
            granted: [].into(),
            broken: None,
        };
        for node in 0..2 {
            state.join(cluster, node);
            state.renewed(cluster, node);
        }
        state
    }

    pub(super) fn incarnation(&self, node: usize) -> Incarnation {
        incarnation(node, self.nodes[node].lives)
    }

    /// Whether the node counts on a lease.
    pub(super) fn is_member(&self, node: usize) -> bool {
        self.nodes[node].member.incarnation().is_some()
    }

    pub(super) fn act(&mut self, cluster: &Cluster, action: Action) {
        match action {
            Action::Process(node) => self.process(cluster, node),
            Action::Deliver(node) => self.deliver(cluster, node),
            Action::Lose(node) => {
                self.left.losses -= 1;
                self.give_up(cluster, node);
            }
            Action::Delay(node) => {
                self.left.losses -= 1;
                self.late = self.nodes[node].call.as_ref().map(|(call, _)| call.clone());
                self.give_up(cluster, node);
            }
            Action::Arrive => {
                if let Some(call) = self.late.take() {
                    let _ = self.log.call(&call, cluster.mistake);
                }
            }
            Action::Vanish => self.late = None,
            Action::Retry(node) => self.write(node, stream::Input::Expired(Timer::Retry)),
            Action::Repeat(node) => self.own(cluster, node, tenure::Input::Expired(Timer::Restore)),
            Action::Replicate => self.log.durable = self.log.records.len(),
            Action::Failover => self.fail_over(cluster),
            Action::Finish(node) => {
                let run = self.nodes[node].open.take().unwrap_or(0);
                self.write(node, stream::Input::Append(event(FINISHED + run)));
            }
            Action::Fault(node) => {
                self.left.crashes -= 1;
                self.close(node);
                self.drop_session(node);
            }
            Action::Drain(node) => {
                self.left.drains -= 1;
                self.nodes[node].draining = true;
            }
            Action::Revoke => {
                self.left.revocations -= 1;
                self.log.revoked = true;
            }
            Action::Learn(node) => self.learn(node),
            Action::Connect(node) => self.connect(cluster, node),
            Action::Leave => {
                self.left.moves -= 1;
                self.client.place = None;
            }
            Action::Send => self.send(cluster),
            Action::Read => self.read(),
            Action::Lease(node, lease) => self.change_lease(cluster, node, lease),
            Action::ExpireDead => {
                let mut leases = core::mem::take(&mut self.log.leases);
                leases.iter_mut().for_each(|(incarnation, lives)| *lives &= !self.is_dead(*incarnation));
                self.log.leases = leases;
            }
        }
        for node in 0..2 {
            self.settle(cluster, node);
        }
        if self.left.standby == Standby::None {
            self.log.durable = self.log.records.len();
        }
    }

    /// Sends the calls that are due, and releases the user of a node that drains.
    fn settle(&mut self, cluster: &Cluster, node: usize) {
        let at = &mut self.nodes[node];
        let (Some(tenure), Some(stream)) = (at.tenure(), &at.stream) else { return };
        let is_idle = stream.pending().is_empty() && at.open.is_none() && at.call.is_none();
        if at.draining && !at.paused && (is_idle || cluster.mistake == Some(Mistake::LeavesEarly)) {
            return self.own(cluster, node, tenure::Input::Release);
        }
        if at.call.is_some() {
            return;
        }
        let call = match (stream.writer(), at.confirming) {
            (Writer::Writing { left } | Writer::Retrying { left }, _) => {
                let batch = stream.pending().iter().take(left).filter_map(|event| event.payload).collect();
                Some(Call::Append { tenure, after: stream.head().0, batch })
            }
            (Writer::Idle | Writer::Waiting, Some(attempt)) => {
                at.confirming = None;
                Some(Call::Confirm { tenure, attempt })
            }
            (Writer::Idle | Writer::Waiting, None) => None,
        };
        at.call = call.map(|call| (call, Progress::Sent));
    }

    fn process(&mut self, cluster: &Cluster, node: usize) {
        let Some((call, _)) = &self.nodes[node].call else { return };
        let (answer, need) = self.log.call(call, cluster.mistake);
        let need = if self.left.standby == Standby::Synchronous { need } else { 0 };
        if let Some((_, progress)) = &mut self.nodes[node].call {
            *progress = Progress::Done(answer, need);
        }
    }

    fn deliver(&mut self, cluster: &Cluster, node: usize) {
        let Some((call, Progress::Done(answer, _))) = self.nodes[node].call.take() else { return };
        match answer {
            Answer::Granted(tenure) => {
                let is_new = self.granted.insert((tenure.epoch.0, tenure.token.0));
                self.expect(is_new, "OWN-1");
                match self.nodes[node].early.take() {
                    Some(early) => self.restored(cluster, node, tenure, &early),
                    None => self.nodes[node].call = Some((Call::Restore { tenure }, Progress::Sent)),
                }
            }
            Answer::Held(contents) => {
                if let Call::Restore { tenure } = call {
                    self.restored(cluster, node, tenure, &contents);
                }
            }
            Answer::Elsewhere(owner) => {
                let attempt = self.seeking(node);
                self.own(cluster, node, tenure::Input::Elsewhere { attempt, owner });
            }
            Answer::NoMember => {
                if let Call::Acquire { incarnation } = call {
                    self.lease(cluster, node, member::Input::Refused { incarnation });
                }
            }
            Answer::Appended(offsets) => {
                for offset in offsets.into_iter().map(Offset) {
                    let Some(batch) = self.nodes[node].stream.as_ref().map(Stream::batch) else { return };
                    self.write(node, stream::Input::Persisted { batch, offset, record: None });
                }
            }
            Answer::Confirmed => {
                // A later confirmation may have been asked for meanwhile: this answer is for the one that was sent.
                if let Call::Confirm { attempt, .. } = call {
                    self.own(cluster, node, tenure::Input::Confirmed { attempt });
                }
            }
            Answer::Released => self.own(cluster, node, tenure::Input::Released),
            Answer::Fenced => self.fenced(cluster, node, &call),
            Answer::Broken => self.failed(cluster, node, &call),
        }
    }

    fn fenced(&mut self, cluster: &Cluster, node: usize, call: &Call) {
        match call {
            // The newer owner may be an earlier request of this node, which the log carried out late.
            Call::Acquire { .. } | Call::Restore { .. } => self.failed(cluster, node, call),
            Call::Append { .. } | Call::Confirm { .. } | Call::Release { .. } => {
                if cluster.mistake == Some(Mistake::FencedIsFailed) {
                    self.failed(cluster, node, call);
                } else {
                    self.own(cluster, node, tenure::Input::Fenced);
                }
                self.expect(self.nodes[node].ownership.is_none(), "LIVE-6");
            }
        }
    }

    /// The log did not answer in time, or could not carry out the call.
    fn failed(&mut self, cluster: &Cluster, node: usize, call: &Call) {
        let attempt = self.seeking(node);
        match call {
            Call::Acquire { .. } | Call::Restore { .. } => {
                self.own(cluster, node, tenure::Input::NotAcquired { attempt });
            }
            Call::Append { .. } => {
                if let Some(batch) = self.nodes[node].stream.as_ref().map(Stream::batch) {
                    self.write(node, stream::Input::Failed { batch });
                }
            }
            Call::Confirm { attempt, .. } => {
                self.own(cluster, node, tenure::Input::NotConfirmed { attempt: *attempt });
            }
            Call::Release { .. } => self.own(cluster, node, tenure::Input::NotReleased),
        }
    }

    fn give_up(&mut self, cluster: &Cluster, node: usize) {
        if let Some((call, _)) = self.nodes[node].call.take() {
            self.failed(cluster, node, &call);
        }
    }

    fn seeking(&self, node: usize) -> AcquisitionId {
        match self.nodes[node].phase() {
            Some(Phase::Seeking { attempt, .. }) => attempt,
            Some(Phase::Held { .. } | Phase::Leaving { .. } | Phase::Over { .. }) | None => AcquisitionId(0),
        }
    }

    /// The standby becomes the log. Answers that it does not know about never come.
    fn fail_over(&mut self, cluster: &Cluster) {
        self.left.failovers -= 1;
        self.log.records.truncate(self.log.durable);
        if self.left.standby == Standby::Asynchronous && cluster.mistake != Some(Mistake::SameEpoch) {
            self.log.epoch += 1;
            self.shown.clear();
        }
        for node in 0..2 {
            if let Some((_, Progress::Done(_, need))) = self.nodes[node].call
                && need > self.log.durable
            {
                self.give_up(cluster, node);
            }
        }
    }

    /// Gives the ownership of a session an input.
    pub(super) fn own(&mut self, cluster: &Cluster, node: usize, input: tenure::Input) {
        let mut out = Vec::new();
        if let Some(ownership) = &mut self.nodes[node].ownership {
            let _ = ownership.step(&bounds(), input, &mut out);
        }
        self.owned(cluster, node, out);
    }

    pub(super) fn owned(&mut self, cluster: &Cluster, node: usize, outputs: Vec<tenure::Output>) {
        for output in outputs {
            match output {
                tenure::Output::Acquire { .. } => {
                    let early = cluster.mistake == Some(Mistake::ReadsFirst);
                    self.nodes[node].early = early.then(|| self.log.contents());
                    let call = Call::Acquire { incarnation: self.incarnation(node) };
                    self.nodes[node].call = Some((call, Progress::Sent));
                }
                tenure::Output::Confirm { attempt, .. } => self.nodes[node].confirming = Some(attempt),
                tenure::Output::Release { tenure } => {
                    let at = &mut self.nodes[node];
                    let is_written = at.stream.as_ref().is_some_and(|stream| stream.pending().is_empty());
                    let is_idle = is_written && at.open.is_none();
                    at.call = Some((Call::Release { tenure }, Progress::Sent));
                    self.expect(is_idle, "OWN-4");
                }
                tenure::Output::Held { attempt } => self.held(cluster, node, attempt),
                tenure::Output::Ended(ending) => self.ended(cluster, node, ending),
                tenure::Output::Granted { .. } | tenure::Output::Arm(..) | tenure::Output::Disarm(_) => {}
            }
        }
    }

    fn ended(&mut self, cluster: &Cluster, node: usize, ending: Ending) {
        self.drop_session(node);
        match ending {
            Ending::Elsewhere { owner } => self.relay(cluster, node, owner),
            Ending::Released | Ending::Fenced | Ending::Lost => self.close(node),
        }
    }

    /// The session is over. A call on its way may still arrive.
    pub(super) fn drop_session(&mut self, node: usize) {
        let at = &mut self.nodes[node];
        let kept = Node { call: None, ownership: None, stream: None, open: None, ..at.clone() };
        let dropped = core::mem::replace(at, Node { confirming: None, early: None, restored: 0, ..kept });
        if let Some((call, Progress::Sent)) = dropped.call
            && matches!(call, Call::Acquire { .. } | Call::Append { .. } | Call::Release { .. })
        {
            self.late.get_or_insert(call);
        }
    }

    fn restored(&mut self, cluster: &Cluster, node: usize, tenure: Tenure, contents: &[u8]) {
        let has = |(at, (content, token)): (&u64, &(u8, u32))| {
            *token > tenure.token.0 || usize::try_from(*at).ok().and_then(|at| contents.get(at - 1)) == Some(content)
        };
        let has_all = tenure.epoch.0 != self.log.epoch || self.shown.iter().all(has);
        self.expect(has_all, "OWN-2");
        let entry = |(place, content): (u64, &u8)| Entry {
            offset: Offset(place + 1),
            previous: Offset(place),
            event: event(*content),
        };
        let entries = (0..).zip(contents).map(entry).collect();
        let snapshot = Snapshot { entries, ..Snapshot::empty(tenure) };
        let attempt = self.seeking(node);
        self.own(cluster, node, tenure::Input::Acquired { attempt, tenure });
        self.nodes[node].stream = Some(Stream::restore(&bounds(), snapshot, &mut Vec::new()));
        if cluster.mistake == Some(Mistake::ForgetsMessages) {
            self.nodes[node].restored = contents.len();
        }
        let ends = |run: u8| contents.contains(&(FINISHED + run)) || contents.contains(&(INTERRUPTED + run));
        for run in contents.iter().copied().filter(|content| *content < FINISHED && !ends(*content)) {
            self.write(node, stream::Input::Append(event(INTERRUPTED + run)));
        }
        self.serve(cluster, node);
    }

    /// Gives the stream of a session an input.
    fn write(&mut self, node: usize, input: stream::Input<u8>) {
        let (mut out, tenure) = (Vec::new(), self.nodes[node].tenure());
        let Some(stream) = &mut self.nodes[node].stream else { return };
        let (_, under) = (stream.step(&bounds(), input, &mut out), stream.tenure());
        for output in out {
            match output {
                stream::Output::Write { tenure: quoted, .. } => self.expect(Some(quoted) == tenure, "OWN-1"),
                stream::Output::Readable(entry) => self.show(under, &entry),
                stream::Output::Trimmed(_)
                | stream::Output::Deleted(_)
                | stream::Output::Arm(..)
                | stream::Output::Disarm(_) => {}
            }
        }
    }

    fn send(&mut self, cluster: &Cluster) {
        let message = self.client.next;
        let Some(place) = &mut self.client.place else { return };
        place.sent = true;
        let (node, at) = (place.node, &mut self.nodes[place.node]);
        let forgotten = if cluster.mistake == Some(Mistake::ForgetsMessages) { at.restored } else { 0 };
        let Some(stream) = &at.stream else { return };
        let entries = stream.entries().iter().skip(forgotten).map(|entry| &entry.event);
        let is_known = entries.chain(stream.pending()).any(|event| event.payload == Some(message));
        if !is_known {
            at.open = Some(message);
            self.write(node, stream::Input::Append(event(message)));
        }
    }

    fn join(&mut self, cluster: &Cluster, node: usize) {
        self.nodes[node].lives += 1;
        let incarnation = self.incarnation(node);
        self.lease(cluster, node, member::Input::Join { incarnation });
    }

    fn renewed(&mut self, cluster: &Cluster, node: usize) {
        let incarnation = self.incarnation(node);
        let Some(attempt) = self.nodes[node].renewing.take() else { return };
        let input = if self.log.renew(incarnation, cluster.mistake) {
            member::Input::Renewed { incarnation, attempt, elapsed: Duration::ZERO }
        } else {
            member::Input::Refused { incarnation }
        };
        self.lease(cluster, node, input);
    }

    fn change_lease(&mut self, cluster: &Cluster, node: usize, lease: Lease) {
        match lease {
            Lease::Join => self.join(cluster, node),
            Lease::Renew => self.lease(cluster, node, member::Input::Expired(Deadline::Renewal)),
            Lease::Renewed => self.renewed(cluster, node),
            Lease::NotRenewed => {
                self.left.losses -= 1;
                self.nodes[node].renewing = None;
                let _ = self.log.renew(self.incarnation(node), cluster.mistake);
            }
            Lease::End => {
                self.left.expiries -= 1;
                self.lease(cluster, node, member::Input::Expired(Deadline::Lease));
            }
            Lease::Expire | Lease::Sleep => {
                self.left.expiries -= 1;
                self.nodes[node].paused = lease == Lease::Sleep;
                self.log.leases.insert(self.incarnation(node), false);
            }
            Lease::Wake => self.wake(cluster, node),
            Lease::Crash => {
                self.left.crashes -= 1;
                self.drop_session(node);
                self.cut(node);
                self.nodes[node] = Node { lives: self.nodes[node].lives, ..Node::new() };
            }
            Lease::Depart => {
                let incarnation = self.incarnation(node);
                self.lease(cluster, node, member::Input::Leave);
                self.lease(cluster, node, member::Input::Departed { incarnation });
                self.nodes[node].renewing = None;
                self.cut(node);
            }
        }
    }

    /// A process that was paused handles the end of its lease before anything else.
    fn wake(&mut self, cluster: &Cluster, node: usize) {
        self.nodes[node].paused = false;
        match cluster.mistake {
            Some(Mistake::RenewedLate) => {
                self.lease(cluster, node, member::Input::Expired(Deadline::Renewal));
                self.renewed(cluster, node);
            }
            Some(Mistake::ClockJumps) => {}
            Some(_) | None => {
                self.lease(cluster, node, member::Input::Expired(Deadline::Lease));
                self.close(node);
            }
        }
        self.serve(cluster, node);
    }

    fn lease(&mut self, cluster: &Cluster, node: usize, input: member::Input) {
        let mut out = Vec::new();
        let _ = self.nodes[node].member.step(&LIMITS, input, &mut out);
        for output in out {
            match output {
                member::Output::Renew { attempt, .. } => self.nodes[node].renewing = Some(attempt),
                member::Output::Depart { incarnation } => {
                    self.log.leases.insert(incarnation, false);
                }
                // A process reads which credentials are revoked before it serves anyone.
                member::Output::Joined { .. } => self.nodes[node].informed = self.log.revoked,
                member::Output::Stop => {
                    self.nodes[node].informed = false;
                    self.nodes[node].renewing = None;
                    if cluster.mistake != Some(Mistake::OutlivesLease) {
                        self.own(cluster, node, tenure::Input::Lost);
                    }
                }
                member::Output::Arm(..) | member::Output::Disarm(_) => {}
            }
        }
    }
}
