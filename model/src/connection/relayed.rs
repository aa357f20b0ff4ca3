//! A connection whose user another process owns.

use alloc::vec::Vec;

use super::{Connection, Input, Liveness, Origin, Output, Relay, State};
use crate::Handled;
use crate::auth;
use crate::bounds::Bounds;
use crate::close::Cause;
use crate::frame::Control;
use crate::id::Incarnation;
use crate::timer::Timer;

impl<P: Clone> Connection<P> {
    /// The process that serves the connection, if it is another one.
    #[must_use]
    pub const fn relayed_to(&self) -> Option<Incarnation> {
        match self.state {
            State::Relayed { owner, .. } => Some(owner),
            State::Opening
            | State::Authenticating { .. }
            | State::Attaching { .. }
            | State::Live { .. }
            | State::Draining
            | State::Closing { .. }
            | State::Closed { .. } => None,
        }
    }

    /// The user's owner is another process. A connection that was relayed here is not relayed again. If the user has
    /// moved once more in the meantime, the connection is closed and its client comes back (OWN-6).
    pub(super) fn relay(&mut self, bounds: &Bounds, owner: Incarnation, out: &mut Vec<Output<P>>) {
        if self.origin == Origin::Member {
            return self.close(bounds, Cause::Moved, out);
        }
        self.end_credential(bounds, out);
        self.state = State::Relayed { owner, relay: Relay::Opening };
        out.push(Output::Relay { owner });
    }

    /// Takes one input of a relayed connection, except those that close it. The owner's process answers requests. A
    /// silent client or owner is detected as on any other connection: both are probed in turn.
    pub(super) fn pass(&mut self, bounds: &Bounds, input: &Input<P>, out: &mut Vec<Output<P>>) -> Handled {
        let State::Relayed { relay, .. } = &mut self.state else { return Handled::Ignored };
        match (relay, input) {
            (_, Input::Drain { .. }) => self.close(bounds, Cause::GoingAway, out),
            (relay @ Relay::Opening, Input::RelayOpened) => {
                *relay = Relay::Open { client: Liveness::Heard, owner: Liveness::Heard };
                out.extend([Output::Disarm(Timer::Handshake), Output::Arm(Timer::Idle, bounds.idle)]);
            }
            (Relay::Open { client, .. }, Input::Received(_)) => *client = Liveness::Heard,
            (Relay::Open { owner, .. }, Input::RelayHeard) => *owner = Liveness::Heard,
            (Relay::Open { client, owner }, Input::Expired(Timer::Idle)) => {
                if *client == Liveness::Probed || *owner == Liveness::Probed {
                    self.close(bounds, Cause::HeartbeatLost, out);
                    return Handled::Done;
                }
                (*client, *owner) = (Liveness::Probed, Liveness::Probed);
                if self.outbox.is_empty() {
                    self.outbox.push_back(Control::Probe);
                    out.push(Output::Wake);
                }
                out.push(Output::Arm(Timer::Idle, bounds.idle));
            }
            (Relay::Opening | Relay::Open { .. }, _) => return Handled::Ignored,
        }
        Handled::Done
    }

    /// The credential is no longer needed here.
    pub(super) fn end_credential(&mut self, bounds: &Bounds, out: &mut Vec<Output<P>>) {
        let mut outputs = Vec::new();
        let _ = self.auth.step(bounds, auth::Input::Abandoned, &mut outputs);
        out.extend([Timer::Verification, Timer::Warning, Timer::Credential].map(Output::Disarm));
    }
}
