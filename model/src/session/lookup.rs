//! What connections have the log looked up: what a reader has missed, and what a client wants of conversations.
//!
//! A reader whose place is before the window is given what the log has behind that place, a page at a time, and reads on in the
//! window when it has come there (STR-3). So however long it was away, it reads what it would have read live.
//!
//! A deletion that becomes readable takes its thread out of a page that is being read, and looks up again what is under way,
//! because that may have been read before (RET-1).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::{Orders, Output, Session};
use crate::bounds::Bounds;
use crate::close::Cause;
use crate::connection;
use crate::frame::{Code, Control};
use crate::id::{Attempt, ConnectionId, Offset, ThreadId};
use crate::piece::Piece;
use crate::stream::{Cursor, Page, Read, Stream};
use crate::timer::{Owner, Timer};
use crate::{Handled, Violation, ensure};

/// What the log is to look up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Lookup<P> {
    /// What the stream has behind a place, as a [`Page`] with about [`Bounds::page`] bytes of content.
    Page {
        /// The place.
        after: Offset,
        /// What is behind this is not wanted: the window has it.
        through: Offset,
    },
    /// What a client wants of conversations ([`Request::Query`](crate::Request::Query)).
    Query(P),
}

/// What the log has found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Found<P> {
    /// For [`Lookup::Page`].
    Page(Page<P>),
    /// For [`Lookup::Query`].
    Answer(P),
}

/// What one connection has the log look up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Lookups<P> {
    /// The newest one.
    newest: Attempt,
    /// Those that are not answered.
    open: VecDeque<(Attempt, Lookup<P>)>,
    /// What is being read.
    page: Option<Page<P>>,
}

impl<P> Default for Lookups<P> {
    fn default() -> Self {
        Self { newest: Attempt(0), open: VecDeque::new(), page: None }
    }
}

impl<P: Piece> Lookups<P> {
    /// Those that are not answered, oldest first.
    #[must_use]
    pub const fn open(&self) -> &VecDeque<(Attempt, Lookup<P>)> {
        &self.open
    }

    /// Whether the reader can go on only when a page has come.
    #[must_use]
    pub fn is_awaiting_page(&self) -> bool {
        self.page.is_none() && self.open.iter().any(|(_, lookup)| matches!(lookup, Lookup::Page { .. }))
    }

    /// Reads one entry after the cursor: in the stream, or in what was looked up.
    pub(super) fn read<'a>(&'a mut self, bounds: &Bounds, stream: &'a Stream<P>, cursor: &mut Cursor) -> Read<'a, P> {
        if self.page.as_ref().is_some_and(|page| page.finish(cursor)) {
            self.page = None;
        }
        match (&mut self.page, stream.read(bounds, cursor)) {
            (Some(page), Read::Missed) => page.read(bounds, cursor),
            (_, read) => read,
        }
    }

    pub(super) fn check(&self, bounds: &Bounds) -> Result<(), Violation> {
        ensure(self.queries() <= bounds.queries, "LIM-1")?;
        ensure(self.open.len() <= self.queries() + 1, "LIM-1")
    }

    fn queries(&self) -> usize {
        self.open.iter().filter(|(_, lookup)| matches!(lookup, Lookup::Query(_))).count()
    }

    fn order(&mut self, bounds: &Bounds, connection: ConnectionId, lookup: Lookup<P>, out: &mut Orders<P>) {
        if self.open.is_empty() {
            out.list.push(Output::Arm(Owner::Connection(connection), Timer::Lookup, bounds.log_answer));
        }
        self.newest = self.newest.next();
        self.open.push_back((self.newest, lookup.clone()));
        out.list.push(Output::Lookup { connection, attempt: self.newest, lookup });
    }

    /// One is answered, or given up.
    fn close(&mut self, connection: ConnectionId, attempt: Attempt, out: &mut Orders<P>) -> Option<Lookup<P>> {
        let index = self.open.iter().position(|(open, _)| *open == attempt)?;
        let (_, lookup) = self.open.remove(index)?;
        if self.open.is_empty() {
            out.list.push(Output::Disarm(Owner::Connection(connection), Timer::Lookup));
        }
        Some(lookup)
    }

    /// A thread was deleted.
    fn delete(&mut self, connection: ConnectionId, thread: Option<ThreadId>, out: &mut Orders<P>) {
        if let Some(page) = &mut self.page {
            page.delete(thread);
        }
        for (attempt, lookup) in &mut self.open {
            self.newest = self.newest.next();
            *attempt = self.newest;
            out.list.push(Output::Lookup { connection, attempt: *attempt, lookup: lookup.clone() });
        }
    }
}

impl<P: Piece> Session<P> {
    /// A reader has come to the end of what is at hand, and the log has more.
    pub(super) fn look_up_page(&mut self, bounds: &Bounds, id: ConnectionId, out: &mut Orders<P>) {
        let (Some(stream), Some(member)) = (&self.stream, self.members.get_mut(&id)) else { return };
        let Some(cursor) = member.cursor.filter(|_| !member.lookups.is_awaiting_page()) else { return };
        let lookup = Lookup::Page { after: cursor.passed(), through: stream.tail() };
        member.lookups.order(bounds, id, lookup, out);
    }

    /// A client wants something of conversations.
    pub(super) fn query(&mut self, bounds: &Bounds, id: ConnectionId, query: P, out: &mut Orders<P>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.lookups.queries() < bounds.queries {
            member.lookups.order(bounds, id, Lookup::Query(query), out);
        } else {
            self.tell(bounds, id, Control::Unanswered { query, code: Code::Busy }, out);
        }
    }

    pub(super) fn found(
        &mut self,
        bounds: &Bounds,
        id: ConnectionId,
        attempt: Attempt,
        found: Found<P>,
        out: &mut Orders<P>,
    ) -> Handled {
        let Some(member) = self.members.get_mut(&id) else { return Handled::Ignored };
        let Some(_) = member.lookups.close(id, attempt, out) else { return Handled::Ignored };
        match found {
            Found::Page(page) => {
                member.lookups.page = Some(page);
                self.wake(id, out);
            }
            Found::Answer(answer) => self.tell(bounds, id, Control::Answer(answer), out),
        }
        Handled::Done
    }

    /// The log could not look it up. A reader that cannot go on is sent away and comes back to its place.
    pub(super) fn not_found(
        &mut self,
        bounds: &Bounds,
        id: ConnectionId,
        attempt: Attempt,
        out: &mut Orders<P>,
    ) -> Handled {
        let Some(member) = self.members.get_mut(&id) else { return Handled::Ignored };
        match member.lookups.close(id, attempt, out) {
            Some(Lookup::Page { .. }) => {
                let _ = self.connection(bounds, id, connection::Input::Close(Cause::HistoryUnavailable), out);
            }
            Some(Lookup::Query(query)) => {
                self.tell(bounds, id, Control::Unanswered { query, code: Code::Busy }, out);
            }
            None => return Handled::Ignored,
        }
        Handled::Done
    }

    /// The log did not look it up in time: see [`Session::not_found`].
    pub(super) fn look_up_late(&mut self, bounds: &Bounds, id: ConnectionId, out: &mut Orders<P>) -> Handled {
        let Some(member) = self.members.get(&id) else { return Handled::Ignored };
        let open: Vec<Attempt> = member.lookups.open.iter().map(|(attempt, _)| *attempt).collect();
        for attempt in &open {
            let _ = self.not_found(bounds, id, *attempt, out);
        }
        if open.is_empty() { Handled::Ignored } else { Handled::Done }
    }

    /// A deletion is readable: nothing of its thread is read any more, nor what was looked up before that.
    pub(super) fn forget_found(&mut self, thread: Option<ThreadId>, out: &mut Orders<P>) {
        for (id, member) in &mut self.members {
            member.lookups.delete(*id, thread, out);
        }
    }
}
