//! How a session acquires its user, and restores the stream.

use alloc::vec::Vec;

use super::{Ahead, Output, Outputs, Session, State};
use crate::Handled;
use crate::bounds::Bounds;
use crate::close::Cause;
use crate::connection;
use crate::frame::ReadFrom;
use crate::id::{AcquisitionId, ConfirmationId, ConnectionId, Incarnation, Offset};
use crate::piece::Piece;
use crate::stream::{Snapshot, Stream};
use crate::tenure::{self, Request};
use crate::timer::Owner;

impl<P: Piece> Session<P> {
    /// The attempt whose answer counts, while a request to acquire the user is in flight.
    pub(super) fn seeking(&self) -> Option<AcquisitionId> {
        match self.ownership.seeking() {
            Some((attempt, Request::Requested)) => Some(attempt),
            Some((_, Request::Pausing)) | None => None,
        }
    }

    /// Gives the ownership an input.
    pub(super) fn own(&mut self, bounds: &Bounds, input: tenure::Input, out: &mut Outputs<P>) -> Handled {
        let handled = self.ownership.step(bounds, input, &mut out.ownership);
        if let Some(attempt) = self.owned(out) {
            self.confirmed(bounds, attempt, out);
        }
        handled
    }

    /// Passes the outputs of the ownership on. Returns the newest confirmation that was given.
    pub(super) fn owned(&self, out: &mut Outputs<P>) -> Option<ConfirmationId> {
        let mut held = None;
        for output in out.ownership.drain(..) {
            match output {
                tenure::Output::Acquire { attempt } => out.list.push(Output::Restore { attempt }),
                tenure::Output::Confirm { tenure, attempt } => {
                    let after = self.stream.as_ref().map_or(Offset(0), Stream::head);
                    out.list.push(Output::Confirm { tenure, attempt, after });
                }
                tenure::Output::Held { attempt } => held = Some(attempt),
                tenure::Output::Arm(timer, after) => out.list.push(Output::Arm(Owner::Session, timer, after)),
                tenure::Output::Disarm(timer) => out.list.push(Output::Disarm(Owner::Session, timer)),
                // The session knows that itself, and gives its user up when it retires.
                tenure::Output::Granted { .. } | tenure::Output::Release { .. } | tenure::Output::Ended(_) => {}
            }
        }
        held
    }

    /// Whether the client of a connection must wait for an answer until the log has confirmed that this session still
    /// holds the user. The client names a position that the session does not know, but that a later owner may know
    /// (OWN-3).
    pub(super) fn must_confirm(
        &mut self,
        bounds: &Bounds,
        id: ConnectionId,
        from: ReadFrom,
        out: &mut Outputs<P>,
    ) -> bool {
        if let Some(member) = self.members.get_mut(&id) {
            member.ahead = None;
        }
        let (Some(stream), ReadFrom::After(position)) = (&self.stream, from) else { return false };
        if position.epoch == stream.epoch() && position.offset <= stream.head() {
            return false;
        }
        let _ = self.own(bounds, tenure::Input::Confirm, out);
        if let (Some(attempt), Some(member)) = (self.ownership.unconfirmed(), self.members.get_mut(&id)) {
            member.ahead = Some(Ahead { attempt, position });
        }
        true
    }

    /// The session held the user when this confirmation was asked for, so the clients that wait are answered.
    fn confirmed(&mut self, bounds: &Bounds, attempt: ConfirmationId, out: &mut Outputs<P>) {
        let answered = |ahead: Ahead| ahead.attempt <= attempt;
        let waiting: Vec<(ConnectionId, Ahead)> = self
            .members
            .iter()
            .filter_map(|(id, member)| Some((*id, member.ahead.filter(|ahead| answered(*ahead))?)))
            .collect();
        for (id, ahead) in waiting {
            if let Some(member) = self.members.get_mut(&id) {
                member.ahead = None;
            }
            self.answer(bounds, id, ahead.position, out);
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
        attempt: AcquisitionId,
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

    pub(super) fn not_restored(&mut self, bounds: &Bounds, attempt: AcquisitionId, out: &mut Outputs<P>) -> Handled {
        if self.seeking() != Some(attempt) {
            return Handled::Ignored;
        }
        if self.members.is_empty() && !self.fence.is_up() {
            self.retire(bounds, out);
            return Handled::Done;
        }
        self.own(bounds, tenure::Input::NotAcquired { attempt }, out)
    }

    /// The user has a living owner: its connections are served there.
    pub(super) fn elsewhere(
        &mut self,
        bounds: &Bounds,
        attempt: AcquisitionId,
        owner: Incarnation,
        out: &mut Outputs<P>,
    ) -> Handled {
        if self.seeking() != Some(attempt) {
            return Handled::Ignored;
        }
        let waiting: Vec<ConnectionId> = self.members.keys().copied().collect();
        for connection in waiting {
            let _ = self.connection(bounds, connection, connection::Input::Relay { owner }, out);
        }
        out.list.push(Output::Elsewhere { owner });
        self.lose(bounds, tenure::Input::Elsewhere { attempt, owner }, Cause::Moved, out)
    }
}
