//! Lookups in a world's log: pages for readers that catch up, and answers to queries. A lookup takes any time and
//! returns any number of entries. A page that was read before a deletion may arrive after it.

use std::collections::VecDeque;

use lockstep_model::run::Kind;
use lockstep_model::session::{Found, Input, Lookup};
use lockstep_model::stream::{Entry, Page, Stream};
use lockstep_model::{Bounds, ConnectionId, Generation, LookupId, Offset, Piece, UserId};

use super::action::Action;
use super::setup::Setup;
use super::state::{Log, Payload, Scratch, Sought, World};

/// A query.
pub(super) const QUERY: Payload = 0x30;

impl Log {
    /// The readable entries after one offset and through another, if only the first of the deletions are known.
    fn page(&self, after: Offset, through: Offset, deletions: usize, few: bool) -> Page<Payload> {
        let known = &self.deletions[..deletions.min(self.deletions.len())];
        let deleted = |offset: u64, thread| known.iter().any(|(at, of)| *at > offset && Some(*of) == thread);
        let found = (after.0 + 1..=through.0).filter_map(|offset| Some((offset, self.at(offset)?)));
        let left = found.filter(|(offset, event)| !deleted(*offset, event.thread));
        let mut entries: VecDeque<_> = left
            .map(|(offset, event)| Entry { offset: Offset(offset), previous: Offset(0), event: event.clone() })
            .collect();
        let more = few && entries.len() > 1;
        if more {
            entries.truncate(1);
        }
        let last = entries.back().filter(|_| more).map_or(through, |last| last.offset);
        Page { trimmed: after, entries, through: last }
    }

    /// The number of newest entries that must stay readable, at least.
    pub(super) fn retained(&self, bounds: &Bounds) -> u64 {
        let (mut turns, mut bytes) = (0, 0);
        let fits = |event: &&lockstep_model::Event<Payload>| {
            turns += usize::from(matches!(event.kind, Kind::Received(_)));
            bytes += event.payload.as_ref().map_or(0, Piece::size);
            turns <= bounds.retained_turns && bytes <= bounds.retained_bytes
        };
        self.entries.iter().rev().take(bounds.retained).take_while(fits).count() as u64
    }
}

impl World {
    pub(super) fn seek(
        &mut self,
        user: usize,
        session: Generation,
        connection: ConnectionId,
        attempt: LookupId,
        lookup: Lookup<Payload>,
    ) {
        let log = self.log(user);
        let deletions = log.deletions.len();
        log.lookups.push(Sought { session, connection, attempt, lookup, deletions });
    }

    pub(super) fn lookup_actions(&self, user: u8, out: &mut Vec<Action>) {
        let log = &self.logs[usize::from(user)];
        for (index, sought) in (0..).zip(&log.lookups) {
            let choices = match sought.lookup {
                Lookup::Page { after, through } => {
                    let many = log.page(after, through, log.deletions.len(), false).entries.len() > 1;
                    if many { &[false, true][..] } else { &[false] }
                }
                Lookup::Query(_) => &[false],
            };
            for few in choices {
                out.push(Action::Find { user, index, few: *few, outdated: false });
                if sought.deletions < log.deletions.len() {
                    out.push(Action::Find { user, index, few: *few, outdated: true });
                }
            }
            if self.left.lookup_failures > 0 {
                out.push(Action::NotFound { user, index });
            }
        }
    }

    /// The log answers. RET-1: a page that was read before a deletion became durable is not used.
    pub(super) fn find(
        &mut self,
        setup: &Setup,
        user: usize,
        index: usize,
        few: bool,
        outdated: bool,
        scratch: &mut Scratch,
    ) {
        let Sought { session, connection, attempt, lookup, deletions } = self.log(user).lookups.remove(index);
        let log = &self.logs[user];
        let known = if outdated { deletions } else { log.deletions.len() };
        let found = match lookup {
            Lookup::Page { after, through } => Found::Page(log.page(after, through, known, few)),
            Lookup::Query(query) => Found::Answer(query),
        };
        let waits = self.awaits(UserId(user as u64), connection, attempt);
        self.oracle.outdated |= outdated;
        self.expect(!(outdated && waits), "RET-1");
        let input = Input::Found { connection, attempt, found };
        let _ = self.session(setup, UserId(user as u64), session, input, scratch);
    }

    pub(super) fn not_found(&mut self, setup: &Setup, user: usize, index: usize, scratch: &mut Scratch) {
        self.left.lookup_failures -= 1;
        let Sought { session, connection, attempt, .. } = self.log(user).lookups.remove(index);
        let input = Input::NotFound { connection, attempt };
        let _ = self.session(setup, UserId(user as u64), session, input, scratch);
    }

    /// Whether a connection waits for this answer.
    fn awaits(&self, user: UserId, connection: ConnectionId, attempt: LookupId) -> bool {
        let slot = self.gateway.slots().get(&user);
        let member = slot.and_then(|slot| slot.session.members().get(&connection));
        member.is_some_and(|member| member.lookups.open().iter().any(|(open, _)| *open == attempt))
    }

    /// A lookup for a connection that is gone has no effect, whenever it is answered.
    pub(super) fn prune_lookups(&mut self) {
        for user in 0..self.logs.len() {
            let gone = |world: &Self, sought: &Sought| {
                let slot = world.gateway.slots().get(&UserId(user as u64));
                slot.is_none_or(|slot| !slot.session.members().contains_key(&sought.connection))
            };
            while let Some(index) = self.logs[user].lookups.iter().position(|sought| gone(self, sought)) {
                self.log(user).lookups.remove(index);
            }
        }
    }

    /// Whether a connection waits for a lookup.
    pub(super) fn has_lookup(&self, id: ConnectionId) -> bool {
        let slot = self.gateway.user_of(id).and_then(|user| self.gateway.slots().get(&user));
        let member = slot.and_then(|slot| slot.session.members().get(&id));
        member.is_some_and(|member| !member.lookups.open().is_empty())
    }

    /// Whether a lookup failed.
    pub(super) fn has_failed_lookup(&self, setup: &Setup) -> bool {
        setup.lookup_failures > self.left.lookup_failures || setup.unanswered > self.left.unanswered
    }

    /// STR-3: a waiting connection's lookup was emitted, for its reader's current position. LIVE-4: the wait is given
    /// up in time.
    pub(super) fn audit_lookups(&self) -> Result<(), &'static str> {
        for (user, slot) in self.gateway.slots() {
            let Some(log) = usize::try_from(user.0).ok().and_then(|user| self.logs.get(user)) else { continue };
            for (id, member) in slot.session.members() {
                for (attempt, lookup) in member.lookups.open() {
                    let sought =
                        log.lookups.iter().find(|sought| (sought.connection, sought.attempt) == (*id, *attempt));
                    let right =
                        sought.is_some_and(|sought| sought.lookup == *lookup && sought.session == slot.generation);
                    if !right {
                        return Err("STR-3");
                    }
                }
                let place = lockstep_model::gateway::Place::Connection(*id);
                let timer = (place, lockstep_model::Timer::Lookup);
                if self.left.unanswered > 0 && self.has_lookup(*id) && self.timers.binary_search(&timer).is_err() {
                    return Err("LIVE-4");
                }
            }
        }
        Ok(())
    }

    /// A query is answered.
    pub(super) fn check_answered(&mut self, id: ConnectionId) {
        let Some(socket) = self.socket(id) else { return };
        let asked = socket.observed.queries > 0;
        socket.observed.queries = socket.observed.queries.saturating_sub(1);
        let ready = self.socket_at(id).observed.reader.at().is_some();
        self.expect(asked && ready, "CONN-2");
    }

    /// Whether the entry at an offset is outside its user's window.
    pub(super) fn is_trimmed(&self, user: UserId, offset: Offset) -> bool {
        let stream = self.gateway.slots().get(&user).and_then(|slot| slot.session.stream());
        stream.map(Stream::tail).is_some_and(|tail| offset <= tail)
    }
}
