//! What must hold.

use lockstep_model::frame::ReadFrom;
use lockstep_model::run::Kind;
use lockstep_model::stream::Event;
use lockstep_model::{Control, Frame, Generation, Offset, Position, Request, RunId, Tenure};

use super::{Payload, State};
use crate::properties::run::Grammar;

impl State {
    /// A frame reaches the client.
    pub(super) fn check_frame(&mut self, frame: &Frame<Payload>) {
        let head = self.log.entries.len() as u64;
        let presented = self.presented().filter(|position| position.offset.0 <= head);
        let Some(link) = &mut self.side.link else { return };
        let (order, property) = match frame {
            Frame::Control(Control::Ready { offset, resumed, .. }) => {
                // Nothing is ever trimmed, so reading goes on from any position that the log has.
                let right = presented.is_none_or(|position| *resumed && position.offset == *offset);
                (link.reader.ready(*offset, *resumed), (!right).then_some("OWN-3"))
            }
            Frame::Control(Control::StreamReset { from, to }) => {
                (link.reader.reset(*from, *to), (from.0 <= head).then_some("OWN-3"))
            }
            Frame::Event(entry) => {
                let there = self.log.entries.get(usize::try_from(entry.offset.0 - 1).unwrap_or(usize::MAX));
                let same = there.is_some_and(|(_, event)| *event == entry.event);
                (link.reader.entry(entry.previous, entry.offset), (!same).then_some("OWN-2"))
            }
            Frame::Control(_) | Frame::Close(_) => (Ok(()), None),
        };
        self.expect(order.is_ok(), "STR-1");
        if let Some(property) = property {
            self.violated(property);
        }
    }

    /// The position with which the client came back.
    fn presented(&self) -> Option<Position> {
        let Some(Request::Auth { resume, .. }) = &self.side.auth else { return None };
        match resume.from {
            ReadFrom::After(position) => Some(position),
            ReadFrom::Latest | ReadFrom::Earliest | ReadFrom::Unread | ReadFrom::Deferred => None,
        }
    }

    /// Whether the run was received and has not ended, as the log says.
    fn is_open(&self, run: RunId) -> bool {
        let mut events = self.log.entries.iter().filter(|(_, event)| event.run == run);
        !events.any(|(_, event)| event.kind.is_terminal())
    }

    /// The log has carried out a call, and has these entries now.
    pub(super) fn check_log(&mut self, before: usize) {
        let entries = &self.log.entries;
        let rising = entries.is_sorted_by_key(|(token, _)| *token);
        let mut grammar = true;
        for index in before..entries.len() {
            let run = entries[index].1.run;
            let mut words = Grammar::default();
            for (_, event) in entries[..index].iter().filter(|(_, event)| event.run == run) {
                let _ = words.take(event.kind.into());
            }
            grammar &= words.allows(entries[index].1.kind.into()).is_ok();
        }
        let messages: Vec<_> = entries
            .iter()
            .filter_map(
                |(_, event)| if let Kind::Received(received) = event.kind { Some(received.message) } else { None },
            )
            .collect();
        let once = messages.iter().enumerate().all(|(index, message)| !messages[..index].contains(message));
        self.expect(rising, "OWN-1");
        self.expect(grammar, "RUN-1");
        self.expect(once, "RUN-2");
    }

    /// OWN-4: a process that counts on its lease gives its user up.
    pub(super) fn check_release(&mut self, node: usize, tenure: Tenure) {
        if !self.log.is_newest(tenure) || !self.log.leases.contains(&self.incarnation(node)) {
            return;
        }
        let open = self.log.entries.iter().any(|(_, event)| self.is_open(event.run));
        self.expect(!open, "OWN-4");
        self.observed.handed_over = true;
    }

    /// RUN-2, STR-2: an agent is launched for a message that is durable, and once.
    pub(super) fn check_launch(&mut self, run: RunId) {
        let bit = 1 << (run.0 / 8);
        self.expect(self.observed.launched & bit == 0, "RUN-2");
        self.observed.launched |= bit;
        let there = self.log.entries.iter().any(|(_, event)| event.run == run);
        self.expect(there, "STR-2");
    }

    /// OWN-2, RUN-3: if an agent is told that an event is durable, the log has it.
    pub(super) fn check_durable(&mut self, run: RunId, Offset(offset): Offset) {
        let there = self.log.entries.get(usize::try_from(offset - 1).unwrap_or(usize::MAX));
        let there = there.is_some_and(|(_, event)| event.run == run);
        self.expect(there, "OWN-2");
    }

    /// LIVE-2: a session that has restored its stream ends each run that was open, because its agent is gone.
    pub(super) fn check_restored(&mut self, node: usize) {
        let Some(stream) = self.nodes[node].session().and_then(|session| session.stream()) else { return };
        let received = |event: &Event<Payload>| matches!(event.kind, Kind::Received(_));
        let runs: Vec<RunId> = stream
            .entries()
            .iter()
            .map(|entry| &entry.event)
            .filter(|event| received(event))
            .map(|event| event.run)
            .collect();
        let ends = |run: RunId| {
            let there = stream.entries().iter().map(|entry| &entry.event).chain(stream.pending());
            there.into_iter().any(|event| event.run == run && event.kind.is_terminal())
        };
        let ended = runs.into_iter().all(ends);
        self.expect(ended, "LIVE-2");
    }

    /// LIVE-6: a session that has lost its user has no connection, no run, no agent, and no pending event.
    pub(super) fn check_lost(&mut self, node: usize, lost: Generation) {
        let agents = self.nodes[node].agents.values().any(|generation| *generation == lost);
        self.expect(!agents, "LIVE-6");
        let waits = self.nodes[node].session().is_some_and(|session| {
            let pending = session.stream().is_some_and(|stream| !stream.pending().is_empty());
            pending || !session.members().is_empty() || !session.runs().is_empty()
        });
        self.expect(!waits, "LIVE-6");
    }
}
