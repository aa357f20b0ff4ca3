//! The connections of a session: their inputs, and the frames that leave on them.

use alloc::boxed::Box;

use super::{Member, Output, Outputs, Reader, Session, translate};
use crate::Handled;
use crate::auth::Verdict;
use crate::bounds::Bounds;
use crate::connection;
use crate::frame::{Control, Frame};
use crate::id::{ConnectionId, Offset};
use crate::piece::Piece;
use crate::stream::Read;
use crate::timer::{Owner, Timer};

impl<P: Piece> Session<P> {
    /// Steps one connection and acts on its outputs. A connection that starts to close leaves the session in the same
    /// step.
    pub(super) fn connection(
        &mut self,
        bounds: &Bounds,
        id: ConnectionId,
        input: connection::Input<P>,
        out: &mut Outputs<P>,
    ) -> Handled {
        if matches!(input, connection::Input::Expired(Timer::Lookup)) {
            return self.look_up_late(bounds, id, out);
        }
        if matches!(input, connection::Input::Expired(Timer::Seek)) {
            return self.read_on(id, out);
        }
        let input = self.fenced(input);
        let Some(member) = self.members.get_mut(&id) else { return Handled::Ignored };
        let mut outputs = core::mem::take(&mut out.connection);
        let handled = member.connection.step(bounds, input, &mut outputs);
        for output in outputs.drain(..) {
            if let connection::Output::Handle(request) = output {
                self.handle(bounds, id, request, out);
            } else if matches!(output, connection::Output::Wake) {
                self.wake(id, out);
            } else {
                out.list.extend(translate(id, output));
            }
        }
        out.connection = outputs;
        let leaves =
            |connection: &connection::Connection<P>| connection.is_closing() || connection.relayed_to().is_some();
        if self.members.get(&id).is_some_and(|member| leaves(&member.connection))
            && let Some(Member { connection, lookups, reader, .. }) = self.members.remove(&id)
        {
            if reader == Reader::Deferred {
                out.list.push(Output::Disarm(Owner::Connection(id), Timer::Seek));
            }
            if !lookups.open().is_empty() {
                out.list.push(Output::Disarm(Owner::Connection(id), Timer::Lookup));
            }
            out.list.push(Output::Release { connection: Box::new(connection) });
            self.note(0, out);
        }
        handled
    }

    /// Turns a grant that was revoked while it was being verified into a rejection.
    fn fenced(&self, input: connection::Input<P>) -> connection::Input<P> {
        if let connection::Input::Verdict { attempt, verdict: Verdict::Valid { grant, .. } } = &input
            && !self.fence.admits(*grant)
        {
            return connection::Input::Verdict { attempt: *attempt, verdict: Verdict::Rejected };
        }
        input
    }

    pub(super) fn tell(&mut self, bounds: &Bounds, id: ConnectionId, control: Control<P>, out: &mut Outputs<P>) {
        let _ = self.connection(bounds, id, connection::Input::Tell(control), out);
    }

    /// Wakes a parked connection, once.
    pub(super) fn wake(&mut self, id: ConnectionId, out: &mut Outputs<P>) {
        if let Some(member) = self.members.get_mut(&id)
            && core::mem::replace(&mut member.parked, false)
        {
            out.list.push(Output::Wake { connection: id });
        }
    }

    /// Wakes every parked reader.
    pub(super) fn wake_readers(&mut self, out: &mut Outputs<P>) {
        for (id, member) in &mut self.members {
            let reads = member.cursor.is_some() && member.reader == Reader::Reading;
            let reads = reads && !member.lookups.is_awaiting_page();
            if reads && core::mem::replace(&mut member.parked, false) {
                out.list.push(Output::Wake { connection: *id });
            }
        }
    }

    /// Sends up to `budget` frames: control frames first, then the entries after the cursor, and `going_away` once the
    /// reader has everything. A connection with fewer frames than its budget is parked.
    pub(super) fn pull(&mut self, bounds: &Bounds, id: ConnectionId, budget: usize, out: &mut Outputs<P>) -> Handled {
        let Some(member) = self.members.get_mut(&id) else { return Handled::Ignored };
        let mut missed = false;
        for _ in 0..budget {
            let behind = member.is_behind(self.stream.as_ref());
            let control = if behind && member.connection.is_going() { None } else { member.connection.pull() };
            let frame = match (control, &mut member.cursor, &self.stream) {
                (Some(frame), _, _) => frame,
                (None, Some(_), Some(_)) if member.reader == Reader::Deferred => {
                    member.parked = true;
                    break;
                }
                (None, Some(cursor), Some(stream)) => match member.lookups.read(bounds, stream, cursor) {
                    Read::Entry(entry) => Frame::Event(entry.into_owned()),
                    Read::Gap { from, to } => Frame::Control(Control::StreamReset { from, to }),
                    Read::Head => {
                        member.parked = true;
                        break;
                    }
                    Read::Missed => {
                        member.parked = true;
                        missed = true;
                        break;
                    }
                },
                (None, None, _) | (None, _, None) => {
                    member.parked = true;
                    break;
                }
            };
            out.list.push(Output::Send { connection: id, frame });
        }
        // The end of a gap counts as read only once the reader was told of the gap.
        let told = !member.connection.has_frame();
        let at = member.cursor.filter(|_| told).map_or(Offset(0), |cursor| cursor.at());
        self.read = self.read.max(at);
        if missed {
            self.look_up_page(bounds, id, out);
        }
        self.note(super::NOTE_EVERY, out);
        Handled::Done
    }

    /// Tells the log the furthest offset of any reader, if it is more than `ahead` beyond what the log was last told.
    fn note(&mut self, ahead: u64, out: &mut Outputs<P>) {
        if let Some(stream) = &self.stream
            && self.read.0 > self.noted.0.saturating_add(ahead)
        {
            self.noted = self.read;
            out.list.push(Output::Read { tenure: stream.tenure(), through: self.read });
        }
    }
}
