//! Runs that wait for a reply, and RUN-5, checked against the log and against what agents are given: the first reply to
//! a pause resumes the run, once, and a run that waits outlives the process. See [`oracle`](super::oracle).

use lockstep_model::run::Kind;
use lockstep_model::session::Begin;
use lockstep_model::stream::Event;
use lockstep_model::{Code, ConnectionId, PauseId, Request, RunId, Timer, UserId, gateway::Place};

use super::action::{Action, message_of};
use super::audit::Due;
use super::setup::Setup;
use super::state::{Agent, Log, Payload, Slot, World};
use super::storage::recorded;
use crate::properties::run::Grammar;

/// The payload of a reply to this pause.
pub(super) fn reply_payload(pause: PauseId) -> Payload {
    0x20 | u8::try_from(pause.0).unwrap_or(0xf)
}

impl Log {
    fn grammar(&self, run: RunId) -> Grammar<lockstep_model::ToolId> {
        let mut grammar = Grammar::default();
        for event in self.entries.iter().filter(|event| event.run == run) {
            let _ = grammar.take(event.kind.into());
        }
        grammar
    }

    /// The pause whose reply the run waits for, as the log has it.
    pub(super) fn paused(&self, run: RunId) -> Option<PauseId> {
        self.grammar(run).paused()
    }

    fn count(&self, run: RunId, is: impl Fn(Kind) -> bool) -> u8 {
        let events = self.entries.iter().filter(|event| event.run == run && is(event.kind));
        u8::try_from(events.count()).unwrap_or(u8::MAX)
    }
}

impl World {
    /// The agent that a launched run gets. One that resumes a run goes on where the earlier one stopped.
    pub(super) fn new_agent(
        &self,
        setup: &Setup,
        user: UserId,
        session: lockstep_model::Generation,
        run: RunId,
    ) -> Agent {
        let log = &self.logs[usize::try_from(user.0).unwrap_or(0)];
        let pieces = log.count(run, |kind| matches!(kind, Kind::Delta(_)));
        let pauses = log.count(run, |kind| matches!(kind, Kind::Paused(_)));
        let resumed = pauses > 0;
        Agent {
            user,
            session,
            thinking: if resumed { 0 } else { setup.thinking },
            pieces: setup.pieces.saturating_sub(pieces),
            tools: if resumed { 0 } else { setup.tools },
            pauses: setup.pauses.saturating_sub(pauses),
            silent: false,
        }
    }

    /// Replies that a client may send: to a pause of any run of its user, present, past or future.
    pub(super) fn reply_actions(&self, setup: &Setup, id: ConnectionId, out: &mut Vec<Action>) {
        if self.left.replies == 0 {
            return;
        }
        let slot = self.gateway.user_of(id).and_then(|user| self.gateway.slots().get(&user));
        let runs = slot.into_iter().flat_map(|slot| {
            let ending = slot.session.unsettled().keys().filter(|run| !slot.session.runs().contains_key(run));
            slot.session.runs().keys().chain(ending)
        });
        for run in runs {
            out.extend((1..=u32::from(setup.pauses)).map(|pause| Action::Reply(id, *run, PauseId(pause))));
        }
    }

    /// Sends a reply.
    pub(super) fn reply(&mut self, id: ConnectionId, run: RunId, pause: PauseId) {
        self.left.replies -= 1;
        self.push_up(id, Request::Reply { run, pause, payload: reply_payload(pause) });
    }

    /// The required result of a reply.
    pub(super) fn due_reply(&self, slot: &Slot, user: UserId, run: RunId, pause: PauseId) -> Due {
        match slot.session.runs().get(&run) {
            None => Due::Unknown,
            Some(open) if open.paused() != Some(pause) => Due::NotResumed(Code::NotPaused),
            Some(_) if !self.is_serving() => Due::NotResumed(Code::Draining),
            Some(_) => Due::Resumed(user, run),
        }
    }

    /// RUN-5: an accepted reply resumes its run at once.
    pub(super) fn check_reply(&mut self, user: UserId, run: RunId) {
        let session = self.gateway.slots().get(&user).map(|slot| &slot.session);
        let resumed = session.and_then(|session| session.runs().get(&run)).is_some_and(lockstep_model::Run::has_agent);
        self.expect(resumed, "RUN-5");
    }

    /// RUN-5: an agent resumes a run that is open, with the reply that the log has as the run's newest event, and no
    /// other agent has had that reply.
    pub(super) fn check_resumed(&mut self, user: UserId, run: RunId, begin: Begin, payload: Option<Payload>) -> bool {
        if begin != Begin::Resumed {
            return false;
        }
        let log = &self.logs[usize::try_from(user.0).unwrap_or(0)];
        let newest = log.entries.iter().rfind(|event| event.run == run);
        let Some(Event { kind: Kind::Resumed(pause), payload: logged, .. }) = newest else {
            self.violated("RUN-5");
            return true;
        };
        let bit = 1 << (message_of(run) * 2 + u64::from(pause.0) - 1);
        let right = payload == *logged && self.oracle.resumed & bit == 0 && !self.agents.contains_key(&run);
        let slot = self.gateway.slots().get(&user);
        let open = slot.and_then(|slot| slot.session.runs().get(&run)).is_some_and(lockstep_model::Run::has_agent);
        self.oracle.resumed |= bit;
        self.expect(right && open, "RUN-5");
        true
    }

    /// RUN-5: a reply is written only for the pause that it names.
    pub(super) fn check_written_reply(&mut self, event: &Event<Payload>) {
        if let Kind::Resumed(pause) = event.kind {
            self.expect(event.payload == Some(recorded(Some(reply_payload(pause)))), "RUN-5");
        }
    }

    /// LIVE-2: a run waits for a reply or for its agent exactly while the timer that ends this wait is armed.
    pub(super) fn audit_runs(&self, user: UserId, slot: &Slot) -> Result<(), &'static str> {
        for (id, run) in slot.session.runs() {
            let armed = |timer| self.timers.binary_search(&(Place::Run(user, slot.generation, *id), timer)).is_ok();
            if armed(Timer::Pause) != run.paused().is_some() || armed(Timer::Deadline) != run.has_agent() {
                return Err("LIVE-2");
            }
        }
        Ok(())
    }
}
