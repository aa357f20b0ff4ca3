//! Where the client's connection goes, and what it is told.

use lockstep_model::frame::ReadFrom;
use lockstep_model::member::State as Member;
use lockstep_model::stream::{Entry, Read};
use lockstep_model::tenure::{self, State as Phase};
use lockstep_model::{ConfirmationId, Epoch, Incarnation, Offset, Ownership, Position, Tenure};

use super::step::bounds;
use super::{Action, Cluster, Mistake, Place, State};

impl State {
    pub(super) fn clients(&self, actions: &mut Vec<Action>) {
        let Some(place) = &self.client.place else { return };
        if self.left.moves > 0 {
            actions.push(Action::Leave);
        }
        let node = &self.nodes[place.node];
        let (Some(cursor), Some(stream)) = (place.cursor, &node.stream) else { return };
        if node.paused {
            return;
        }
        if stream.is_behind(cursor) {
            actions.push(Action::Read);
        }
        let begins = node.tenure().is_some() && node.open.is_none() && !node.draining;
        if begins && !place.sent && self.client.next <= self.left.messages {
            actions.push(Action::Send);
        }
    }

    /// Whether the client is connected to a session, and nothing that it sent waits for the log.
    pub(super) fn is_served(&self) -> bool {
        let Some(place) = &self.client.place else { return false };
        let stream = self.nodes[place.node].stream.as_ref();
        let is_written = stream.is_some_and(|stream| stream.pending().is_empty());
        place.cursor.is_some() && (!place.sent || is_written)
    }

    pub(super) fn connect(&mut self, cluster: &Cluster, node: usize) {
        self.client.place = Some(Place { node, via: None, cursor: None, waits: None, sent: false });
        self.serve(cluster, node);
    }

    /// Ends the connections of a node's session.
    pub(super) fn close(&mut self, node: usize) {
        let _ = self.client.place.take_if(|place| place.node == node);
    }

    /// Ends every connection of a process, relayed ones too.
    pub(super) fn cut(&mut self, node: usize) {
        let _ = self.client.place.take_if(|place| place.node == node || place.via == Some(node));
    }

    /// The node learns that the client's credential is revoked.
    pub(super) fn learn(&mut self, node: usize) {
        self.nodes[node].informed = true;
        if self.client.place.as_ref().is_some_and(|place| place.node == node) {
            self.reject();
        }
    }

    fn reject(&mut self) {
        self.client.place = None;
        self.client.rejected = true;
    }

    /// The node brings a connection that is not ready as far as it can.
    pub(super) fn serve(&mut self, cluster: &Cluster, node: usize) {
        let at = &self.nodes[node];
        let Some(place) = &self.client.place else { return };
        if place.node != node || place.cursor.is_some() || at.paused {
            return;
        }
        if at.informed {
            return self.reject();
        }
        if cluster.mistake == Some(Mistake::DrainRefuses) && at.draining && place.via.is_some() {
            return self.close(node);
        }
        match at.phase() {
            None if self.is_member(node) => {
                let mut out = Vec::new();
                self.nodes[node].ownership = Some(Ownership::seek(&bounds(), &mut out));
                self.owned(cluster, node, out);
            }
            None | Some(Phase::Leaving { .. } | Phase::Over { .. }) => self.close(node),
            Some(Phase::Seeking { .. }) => {}
            Some(Phase::Held { .. }) => self.attach(cluster, node, None),
        }
    }

    /// The session is held, and was after this confirmation was asked for.
    pub(super) fn held(&mut self, cluster: &Cluster, node: usize, attempt: ConfirmationId) {
        let waits = self.client.place.as_ref().filter(|place| place.node == node).and_then(|place| place.waits);
        if waits.is_some_and(|waits| waits <= attempt) {
            self.attach(cluster, node, Some(attempt));
        }
    }

    /// Makes the connection ready. A position that the stream does not have is denied by a confirmed owner only.
    fn attach(&mut self, cluster: &Cluster, node: usize, confirmed: Option<ConfirmationId>) {
        let (epoch, offset) = self.client.position;
        let Some(stream) = &self.nodes[node].stream else { return };
        let (here, from) = (stream.epoch(), Position { epoch: Epoch(epoch), offset: Offset(offset) });
        let (cursor, gap) = stream.seek(ReadFrom::After(from), Offset(0));
        if gap.is_some() && confirmed.is_none() && cluster.mistake != Some(Mistake::Denies) {
            self.own(cluster, node, tenure::Input::Confirm);
            let waits = self.nodes[node].ownership.as_ref().and_then(Ownership::unconfirmed);
            if let Some(place) = &mut self.client.place {
                place.waits = waits;
            }
            return;
        }
        let is_there = epoch == self.log.epoch && offset <= self.log.entries().count() as u64;
        self.expect(gap.is_none() || !is_there, "OWN-3");
        self.expect(!self.log.returned, "OWN-5");
        self.client.position = (here.0, cursor.at().0);
        if let Some(place) = &mut self.client.place {
            (place.cursor, place.waits) = (Some(cursor), None);
        }
    }

    /// Another process owns the user: the connection goes there, once.
    pub(super) fn relay(&mut self, cluster: &Cluster, node: usize, owner: Incarnation) {
        let Some(place) = self.client.place.take_if(|place| place.node == node) else { return };
        let to = usize::from(!owner.0.is_multiple_of(2));
        let is_there = self.nodes[to].member.state() == Member::Member { incarnation: owner };
        let is_relayed = place.via.is_some();
        if !is_there || (is_relayed && cluster.mistake != Some(Mistake::RelaysAgain)) {
            return;
        }
        self.expect(!is_relayed, "OWN-6");
        self.client.place = Some(Place { node: to, via: Some(node), ..place });
        self.serve(cluster, to);
    }

    pub(super) fn read(&mut self) {
        let (epoch, offset) = self.client.position;
        let Some(place) = &mut self.client.place else { return };
        let (Some(cursor), Some(stream)) = (&mut place.cursor, &self.nodes[place.node].stream) else { return };
        let found = match stream.read(&bounds(), cursor) {
            Read::Entry(entry) => Some(entry.into_owned()),
            Read::Head | Read::Missed | Read::Gap { .. } => None,
        };
        let under = stream.tenure();
        let Some(entry) = found else { return self.violated("STR-1") };
        if entry.event.payload == Some(self.client.next) {
            self.client.next += 1;
            place.sent = false;
        }
        self.client.position = (under.epoch.0, entry.offset.0);
        self.expect(entry.offset.0 == offset + 1 && under.epoch.0 == epoch, "STR-1");
        self.expect(!self.log.returned, "OWN-5");
        self.show(under, &entry);
    }

    /// The owner of this tenure shows an entry, or reports it as durable.
    pub(super) fn show(&mut self, under: Tenure, entry: &Entry<u8>) {
        let (Some(content), true) = (entry.event.payload, under.epoch.0 == self.log.epoch) else { return };
        let (shown, token) = self.shown.entry(entry.offset.0).or_insert((content, under.token.0));
        *token = under.token.0.min(*token);
        let is_same = *shown == content;
        self.expect(is_same, "STR-2");
    }
}
