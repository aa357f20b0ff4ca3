//! Requests of the operator and the embedding service to the gateway.

use lockstep_model::gateway::Input;
use lockstep_model::{Cause, Mode, Refusal, RevocationGeneration, Successor, UserId, node, session};

use super::action::notice_id;
use super::setup::Setup;
use super::state::{Scratch, World};

impl World {
    pub(super) fn notice(&mut self, setup: &Setup, scratch: &mut Scratch) {
        let payload = setup.notices - self.left.notices;
        let before = self.appended(UserId(0));
        let fits = self.room(setup, UserId(0)).is_some_and(|room| room > 0);
        let over = self.gateway.node().mode() == Mode::Draining && !self.gateway.slots().contains_key(&UserId(0));
        let leaving = self
            .gateway
            .slots()
            .get(&UserId(0))
            .is_some_and(|slot| slot.session.state() == (session::State::Leaving { cause: Cause::GoingAway }));
        let input = Input::Notice { user: UserId(0), notice: notice_id(payload), thread: None, payload };
        let answer = self.answer(setup, input, scratch).map(|_| ());
        if answer.is_ok() {
            self.left.notices -= 1;
        }
        self.expect(answer.is_ok() == (fits && !leaving), "RUN-3");
        self.expect((answer == Err(Refusal::Retired)) == (over || leaving), "NODE-2");
        self.expect(self.gateway.slots().contains_key(&UserId(0)) != over, "SES-1");
        self.check_notice(before, answer);
    }

    pub(super) fn drain(&mut self, setup: &Setup, successor: Successor, scratch: &mut Scratch) {
        match successor {
            Successor::Absent => self.left.drains -= 1,
            Successor::Waiting => self.left.handovers -= 1,
        }
        self.check_drain(successor);
        self.feed(setup, Input::Node(node::Input::Drain { successor }), scratch);
    }

    pub(super) fn abort(&mut self, setup: &Setup, scratch: &mut Scratch) {
        (self.oracle.drained, self.oracle.successor) = (false, None);
        self.feed(setup, Input::Node(node::Input::HandoverAborted), scratch);
        self.check_told(Mode::HandingOver);
        self.check_abort();
    }

    pub(super) fn revoke(&mut self, setup: &Setup, scratch: &mut Scratch) {
        self.left.revocations -= 1;
        self.oracle.generation[0] += 1;
        let oldest = RevocationGeneration(self.oracle.generation[0]);
        self.check_revocation(UserId(0), oldest);
        self.feed(setup, Input::Revoke { user: UserId(0), credential: None }, scratch);
    }
}
