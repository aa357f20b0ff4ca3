//! How a session acquires its user, and restores the stream.

use alloc::vec::Vec;

use super::{Output, Outputs, Session, State};
use crate::Handled;
use crate::bounds::Bounds;
use crate::close::Cause;
use crate::id::{Attempt, ConnectionId, Incarnation};
use crate::piece::Piece;
use crate::stream::Snapshot;
use crate::tenure::{self, Request};
use crate::timer::Owner;

impl<P: Piece> Session<P> {
    /// The attempt whose answer counts, while a request to acquire the user is in flight.
    pub(super) fn seeking(&self) -> Option<Attempt> {
        match self.ownership.seeking() {
            Some((attempt, Request::Requested)) => Some(attempt),
            Some((_, Request::Pausing)) | None => None,
        }
    }

    /// Gives the ownership an input.
    pub(super) fn own(&mut self, bounds: &Bounds, input: tenure::Input, out: &mut Outputs<P>) -> Handled {
        let handled = self.ownership.step(bounds, input, &mut out.ownership);
        self.owned(out);
        handled
    }

    pub(super) fn owned(&self, out: &mut Outputs<P>) {
        for output in out.ownership.drain(..) {
            match output {
                tenure::Output::Acquire { attempt } => out.list.push(Output::Restore { attempt }),
                tenure::Output::Arm(timer, after) => out.list.push(Output::Arm(Owner::Session, timer, after)),
                tenure::Output::Disarm(timer) => out.list.push(Output::Disarm(Owner::Session, timer)),
                // The session knows that itself; it confirms nothing, and gives its user up when it retires.
                tenure::Output::Granted { .. }
                | tenure::Output::Held { .. }
                | tenure::Output::Confirm { .. }
                | tenure::Output::Release { .. }
                | tenure::Output::Ended(_) => {}
            }
        }
    }

    /// Ends the ownership. The session disarms its timers itself.
    pub(super) fn disown(&mut self, bounds: &Bounds, input: tenure::Input, out: &mut Outputs<P>) {
        let _ = self.ownership.step(bounds, input, &mut out.ownership);
        out.ownership.clear();
    }

    pub(super) fn restored(
        &mut self,
        bounds: &Bounds,
        attempt: Attempt,
        snapshot: Snapshot<P>,
        out: &mut Outputs<P>,
    ) -> Handled {
        let tenure = snapshot.tenure;
        if self.own(bounds, tenure::Input::Acquired { attempt, tenure }, out) == Handled::Ignored {
            return Handled::Ignored;
        }
        self.state = State::Occupied;
        self.recall(bounds, snapshot, out);
        let waiting: Vec<ConnectionId> = self.members.keys().copied().collect();
        for connection in waiting {
            self.ready(bounds, connection, out);
        }
        Handled::Done
    }

    pub(super) fn not_restored(&mut self, bounds: &Bounds, attempt: Attempt, out: &mut Outputs<P>) -> Handled {
        if self.seeking() != Some(attempt) {
            return Handled::Ignored;
        }
        if self.members.is_empty() && !self.fence.is_up() {
            self.retire(bounds, out);
            return Handled::Done;
        }
        self.own(bounds, tenure::Input::NotAcquired { attempt }, out)
    }

    /// The user has a living owner: its connections come back, and are served where it is.
    pub(super) fn elsewhere(
        &mut self,
        bounds: &Bounds,
        attempt: Attempt,
        owner: Incarnation,
        out: &mut Outputs<P>,
    ) -> Handled {
        if self.seeking() != Some(attempt) {
            return Handled::Ignored;
        }
        self.lose(bounds, tenure::Input::Elsewhere { attempt, owner }, Cause::Moved, out)
    }
}
