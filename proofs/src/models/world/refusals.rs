//! The part of the oracle that judges refused messages. See [`oracle`](super::oracle).
//!
//! A message is refused in the step in which it arrives, or in which its connection joins its session. The frame that
//! says so may leave much later. Only such steps are searched for refusals. The reason of a refusal must be true when
//! the session decides. Only "forgotten" is judged when it leaves, because it depends on where the connection began to
//! read, and the client is told that first.

use lockstep_model::gateway::Input;
use lockstep_model::{Code, Connection, ConnectionId, Control, Frame, UserId, session};

use super::audit::waiting;
use super::setup::Setup;
use super::state::{Payload, World};
use super::turns::begun;

/// Whether a step with this input may refuse a message: the message arrives, its connection joins, or early messages
/// are handled because the stream was restored or the owner confirmed.
pub(super) const fn may_refuse(input: &Input<Payload>) -> bool {
    match input {
        Input::Connection { .. } => true,
        Input::Session { input, .. } => match input {
            session::Input::Restored { .. }
            | session::Input::Confirmed { .. }
            | session::Input::Join { .. }
            | session::Input::Connection { .. } => true,
            session::Input::NotRestored { .. }
            | session::Input::NotConfirmed { .. }
            | session::Input::Pull { .. }
            | session::Input::Run { .. }
            | session::Input::Notice { .. }
            | session::Input::Delete { .. }
            | session::Input::Found { .. }
            | session::Input::NotFound { .. }
            | session::Input::Persisted { .. }
            | session::Input::Failed { .. }
            | session::Input::Elsewhere { .. }
            | session::Input::Fenced
            | session::Input::Lost
            | session::Input::Broken
            | session::Input::Revoke(_)
            | session::Input::Verified(_)
            | session::Input::Mode(_)
            | session::Input::Leave(_)
            | session::Input::Stop
            | session::Input::Expired(..) => false,
        },
        Input::Accept { .. }
        | Input::Pull { .. }
        | Input::Revoke { .. }
        | Input::Notice { .. }
        | Input::Delete { .. }
        | Input::Node(_) => false,
    }
}

impl World {
    /// For each connection that will be told of refused messages, their number.
    pub(super) fn refused(&self) -> Vec<(ConnectionId, usize)> {
        let refused = |id: &ConnectionId| refusals(self.gateway.connection(*id)?).map(|told| (*id, told.count()));
        self.sockets.keys().filter_map(refused).collect()
    }

    /// Judges each refusal that a step has decided. `before` is what [`World::refused`] was before the step.
    pub(super) fn check_refusals(&mut self, setup: &Setup, before: &[(ConnectionId, usize)]) {
        let mut decided = Vec::new();
        for (id, socket) in &self.sockets {
            let Some(told) = self.gateway.connection(*id).and_then(refusals) else { continue };
            let known = before.iter().find(|(other, _)| other == id).map_or(0, |(_, count)| *count);
            let own = UserId(u64::from(setup.clients[usize::from(socket.peer)].user));
            let user = socket.observed.valid.map_or(own, |valid| valid.user);
            decided.extend(told.skip(known).map(|code| (user, code)));
        }
        for (user, code) in decided {
            self.check_refusal(setup, user, code);
        }
    }

    /// ISO-1: no message is refused because of another user's runs. LIM-1: nor for a breaker whose time is over.
    /// NODE-1: nor for a mode that the node is not in.
    fn check_refusal(&mut self, setup: &Setup, user: UserId, code: Code) {
        let index = usize::try_from(user.0).unwrap_or(0);
        let slot = self.gateway.slots().get(&user);
        let open = slot.map_or(0, |slot| slot.session.runs().len());
        let runs = slot.map_or(0, |slot| begun(&slot.session));
        match code {
            Code::BreakerOpen => {
                // Open because of another user's failures, or still open after its own time.
                let others = self.oracle.failures.iter().any(|failures| *failures >= setup.bounds.failures);
                let property = if others { "ISO-1" } else { "LIM-1" };
                self.expect(self.oracle.failures[index] >= setup.bounds.failures, property);
            }
            Code::TooManyRuns => self.expect(runs >= setup.bounds.runs, "ISO-1"),
            Code::QueueFull => self.expect(open - runs >= setup.bounds.queued, "ISO-1"),
            Code::ThreadBusy => self.expect(open > 0, "ISO-1"),
            Code::Degraded => self.expect(setup.pins > self.left.pins, "NODE-1"),
            Code::Draining => self.expect(self.oracle.drained, "NODE-2"),
            _ => {}
        }
    }
}

/// The codes of the refused messages that a connection will be told of. `None` if it has nothing to tell.
fn refusals(connection: &Connection<Payload>) -> Option<impl Iterator<Item = Code>> {
    let codes = |frame| match frame {
        Frame::Control(Control::Refused { code, .. }) => Some(code),
        _ => None,
    };
    connection.has_frame().then(|| waiting(connection).filter_map(codes))
}
