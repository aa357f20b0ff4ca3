//! Lookups in the log for connections: the entries that a reader has missed, and a client's queries about
//! conversations.
//!
//! A reader whose position is before the window is given the log's entries after that position, one page at a time.
//! When it reaches the window, it continues there (STR-3). So even after a long absence it reads what it would have
//! read live.
//!
//! When a deletion becomes readable, its thread is removed from a page that is being read, and lookups in flight are
//! repeated, because the log may have served them before the deletion (RET-1).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::{Output, Outputs, Session};
use crate::bounds::Bounds;
use crate::close::Cause;
use crate::connection;
use crate::frame::{Code, Control};
use crate::id::{ConnectionId, LookupId, Offset, ThreadId};
use crate::piece::Piece;
use crate::stream::{Cursor, Page, Read, Stream};
use crate::timer::{Owner, Timer};
use crate::{Handled, Violation, ensure};

/// A lookup in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Lookup<P> {
    /// The entries of the stream after a position, as a [`Page`] with about [`Bounds::page`] bytes of content.
    Page {
        /// The position.
        after: Offset,
        /// Entries after this offset are not requested: the window has them.
        through: Offset,
    },
    /// A client's query about conversations ([`Request::Query`](crate::Request::Query)).
    Query(P),
}

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Found<P> {
    /// The result of a [`Lookup::Page`].
    Page(Page<P>),
    /// The result of a [`Lookup::Query`].
    Answer(P),
}

/// The lookups of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Lookups<P> {
    /// The newest lookup.
    newest: LookupId,
    /// The lookups that are not answered.
    open: VecDeque<(LookupId, Lookup<P>)>,
    /// The page that is being read.
    page: Option<Page<P>>,
}

impl<P> Default for Lookups<P> {
    fn default() -> Self {
        Self { newest: LookupId(0), open: VecDeque::new(), page: None }
    }
}

impl<P: Piece> Lookups<P> {
    /// The lookups that are not answered, oldest first.
    #[must_use]
    pub const fn open(&self) -> &VecDeque<(LookupId, Lookup<P>)> {
        &self.open
    }

    /// Whether the reader must wait for a page before it can read on.
    #[must_use]
    pub fn is_awaiting_page(&self) -> bool {
        self.page.is_none() && self.open.iter().any(|(_, lookup)| matches!(lookup, Lookup::Page { .. }))
    }

    /// Reads one entry after the cursor, from the stream or from a page.
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

    fn request(&mut self, bounds: &Bounds, connection: ConnectionId, lookup: Lookup<P>, out: &mut Outputs<P>) {
        if self.open.is_empty() {
            out.list.push(Output::Arm(Owner::Connection(connection), Timer::Lookup, bounds.log_answer));
        }
        self.newest = self.newest.next();
        self.open.push_back((self.newest, lookup.clone()));
        out.list.push(Output::Lookup { connection, attempt: self.newest, lookup });
    }

    /// Removes a lookup that was answered or given up.
    fn close(&mut self, connection: ConnectionId, attempt: LookupId, out: &mut Outputs<P>) -> Option<Lookup<P>> {
        let index = self.open.iter().position(|(open, _)| *open == attempt)?;
        let (_, lookup) = self.open.remove(index)?;
        if self.open.is_empty() {
            out.list.push(Output::Disarm(Owner::Connection(connection), Timer::Lookup));
        }
        Some(lookup)
    }

    /// Removes the page that is being read, and the lookup of the next one: the reader continues elsewhere.
    pub(super) fn forget_page(&mut self, connection: ConnectionId, out: &mut Outputs<P>) {
        self.page = None;
        let page = self.open.iter().find(|(_, lookup)| matches!(lookup, Lookup::Page { .. }));
        if let Some(attempt) = page.map(|(attempt, _)| *attempt) {
            let _ = self.close(connection, attempt, out);
        }
    }

    /// Removes a deleted thread from the page, and repeats the lookups in flight.
    fn delete(&mut self, connection: ConnectionId, thread: Option<ThreadId>, out: &mut Outputs<P>) {
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
    /// Requests the next page for a reader that has reached the end of its entries, if the log has more.
    pub(super) fn look_up_page(&mut self, bounds: &Bounds, id: ConnectionId, out: &mut Outputs<P>) {
        let (Some(stream), Some(member)) = (&self.stream, self.members.get_mut(&id)) else { return };
        let Some(cursor) = member.cursor.filter(|_| !member.lookups.is_awaiting_page()) else { return };
        let lookup = Lookup::Page { after: cursor.passed(), through: stream.tail() };
        member.lookups.request(bounds, id, lookup, out);
    }

    /// Takes a client's query about conversations.
    pub(super) fn query(&mut self, bounds: &Bounds, id: ConnectionId, query: P, out: &mut Outputs<P>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.lookups.queries() < bounds.queries {
            member.lookups.request(bounds, id, Lookup::Query(query), out);
        } else {
            self.tell(bounds, id, Control::Unanswered { query, code: Code::Busy }, out);
        }
    }

    pub(super) fn found(
        &mut self,
        bounds: &Bounds,
        id: ConnectionId,
        attempt: LookupId,
        found: Found<P>,
        out: &mut Outputs<P>,
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

    /// The lookup failed. A reader that cannot read on is closed, and comes back to its position.
    pub(super) fn not_found(
        &mut self,
        bounds: &Bounds,
        id: ConnectionId,
        attempt: LookupId,
        out: &mut Outputs<P>,
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

    /// The lookup timed out: see [`Session::not_found`].
    pub(super) fn look_up_late(&mut self, bounds: &Bounds, id: ConnectionId, out: &mut Outputs<P>) -> Handled {
        let Some(member) = self.members.get(&id) else { return Handled::Ignored };
        let open: Vec<LookupId> = member.lookups.open.iter().map(|(attempt, _)| *attempt).collect();
        for attempt in &open {
            let _ = self.not_found(bounds, id, *attempt, out);
        }
        if open.is_empty() { Handled::Ignored } else { Handled::Done }
    }

    /// A deletion is readable: its thread is not read any longer, and earlier lookups are repeated.
    pub(super) fn forget_found(&mut self, thread: Option<ThreadId>, out: &mut Outputs<P>) {
        for (id, member) in &mut self.members {
            member.lookups.delete(*id, thread, out);
        }
    }
}
