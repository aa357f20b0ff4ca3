//! Where a reader begins, and where a client asks to read on.
//!
//! A client that names its position with its credential reads from there. A client that cannot ([`ReadFrom::Deferred`])
//! is told that it is ready, and names its position in its first request. Nothing is read until then, so the entries
//! after that position are sent in order and once. If the client does not name one in time, reading begins as for a
//! client without a position, and a later [`Request::Seek`](crate::Request::Seek) repeats entries rather than lose
//! some.

use super::{Member, Output, Outputs, Reader, Session};
use crate::Handled;
use crate::bounds::Bounds;
use crate::connection;
use crate::frame::{Control, ReadFrom};
use crate::id::{ConnectionId, Offset, Position};
use crate::piece::Piece;
use crate::stream::Stream;
use crate::timer::{Owner, Timer};

impl<P: Piece> Member<P> {
    /// Sets the read position. Returns the `stream_reset` for the client, if the requested position is gone.
    fn seek(&mut self, stream: &Stream<P>, from: ReadFrom, read: Offset) -> Option<Control<P>> {
        let (cursor, gap) = stream.seek(from, read);
        self.cursor = Some(cursor);
        // A client that starts elsewhere may have missed the outcome of its messages.
        let whole = matches!(from, ReadFrom::After(_)) && gap.is_none() && cursor.at() >= stream.tail();
        self.start = whole.then_some(cursor.at());
        gap.map(|gap| Control::StreamReset { from: gap.offset, to: cursor.at() })
    }
}

impl<P: Piece> Session<P> {
    /// Makes an attaching connection live, if the stream is restored and has what the client has seen.
    pub(super) fn ready(&mut self, bounds: &Bounds, id: ConnectionId, out: &mut Outputs<P>) {
        let Some(resume) = self.members.get(&id).and_then(|member| member.connection.resume()) else { return };
        if !self.must_confirm(bounds, id, resume.from, out) {
            self.go_live(bounds, id, resume.from, out);
        }
    }

    /// Answers a client whose position the session does not know: it holds the user, so the position is gone.
    pub(super) fn answer(&mut self, bounds: &Bounds, id: ConnectionId, position: Position, out: &mut Outputs<P>) {
        match self.members.get(&id).and_then(|member| member.connection.resume()) {
            Some(_) => self.go_live(bounds, id, ReadFrom::After(position), out),
            None => self.read_after(bounds, id, position, out),
        }
    }

    fn go_live(&mut self, bounds: &Bounds, id: ConnectionId, from: ReadFrom, out: &mut Outputs<P>) {
        let (Some(stream), Some(member)) = (&self.stream, self.members.get_mut(&id)) else { return };
        let reset = member.seek(stream, from, self.read);
        let ready = Control::Ready {
            user: self.user,
            epoch: stream.epoch(),
            offset: member.cursor.map_or(Offset(0), |cursor| cursor.at()),
            head: stream.head(),
            resumed: reset.is_none(),
            mode: self.mode,
        };
        let _ = self.connection(bounds, id, connection::Input::Ready { ready, reset }, out);
        if self.members.get(&id).is_some_and(|member| member.reader == Reader::Deferred) {
            out.list.push(Output::Arm(Owner::Connection(id), Timer::Seek, bounds.seek));
        }
    }

    /// Reads on after this position, on a connection that is live.
    pub(super) fn seek(&mut self, bounds: &Bounds, id: ConnectionId, from: Position, out: &mut Outputs<P>) {
        if !self.must_confirm(bounds, id, ReadFrom::After(from), out) {
            self.read_after(bounds, id, from, out);
        }
    }

    fn read_after(&mut self, bounds: &Bounds, id: ConnectionId, from: Position, out: &mut Outputs<P>) {
        let (Some(stream), Some(member)) = (&self.stream, self.members.get_mut(&id)) else { return };
        let reset = member.seek(stream, ReadFrom::After(from), self.read);
        member.lookups.forget_page(id, out);
        if let Some(reset) = reset {
            self.tell(bounds, id, reset, out);
        }
        self.wake_behind(id, out);
    }

    /// Begins to read on a connection that waits for its client's position.
    pub(super) fn read_on(&mut self, id: ConnectionId, out: &mut Outputs<P>) -> Handled {
        let Some(member) = self.members.get_mut(&id) else { return Handled::Ignored };
        if core::mem::replace(&mut member.reader, Reader::Reading) == Reader::Reading {
            return Handled::Ignored;
        }
        out.list.push(Output::Disarm(Owner::Connection(id), Timer::Seek));
        self.wake_behind(id, out);
        Handled::Done
    }

    fn wake_behind(&mut self, id: ConnectionId, out: &mut Outputs<P>) {
        if self.members.get(&id).is_some_and(|member| member.is_behind(self.stream.as_ref())) {
            self.wake(id, out);
        }
    }
}
