//! The ledger of a run: what was sent and seen, and what must follow from it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use lockstep::wire::event_type;
use lockstep_model::run::{Kind, Reason};
use lockstep_model::{Entry, MessageId, Offset, PauseId, Position, RunId};
use serde_json::Value;

use super::replies::Waiting;
use crate::frames::Payload;
use crate::simulated_client::Seen;

/// The maximum number of findings kept in words; further ones are only counted.
const MAX_TOLD: usize = 100;

/// A user's newest messages, which may be repeated under their names.
const MAX_AGAIN: usize = 2;

/// What is known of a tab.
#[derive(Debug, Default)]
pub struct Reader {
    /// Its name in the history.
    pub name: String,
    /// Where it began to read.
    pub began: Option<Position>,
    /// Where it has read to.
    pub position: Option<Position>,
    /// Whether it is connected and ready.
    pub live: bool,
    /// How often its socket was lost or closed.
    pub closes: u64,
    /// Messages that it sent and that have no answer.
    pub waiting: BTreeMap<MessageId, String>,
}

/// What is known of a user, over all of its tabs.
#[derive(Debug, Default)]
pub struct User {
    runs: BTreeMap<RunId, RunRecord>,
    /// Runs that began and have not ended, oldest first.
    open: Vec<RunId>,
    /// Runs that wait for a reply.
    paused: BTreeMap<RunId, PauseId>,
    /// Every entry that any tab read.
    entries: BTreeMap<Position, Read>,
    cancelled: BTreeSet<RunId>,
    /// Whether the user has deleted its thread, which cancels runs, and the position of the latest deletion.
    deletes: bool,
    deleted: Option<Position>,
    newest: Vec<(String, Value)>,
    /// The notices that the gateway has accepted, by number, and those that were seen.
    told: BTreeSet<u64>,
    seen_notices: BTreeSet<u64>,
}

/// What was read of an entry.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// The offset of the previous entry.
    pub previous: Offset,
    /// Its run.
    pub run: RunId,
    /// The frame's `type`.
    pub kind: &'static str,
    /// The digest of its data.
    pub data: u64,
}

impl Read {
    /// Whether both were read from the same entry.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.run, self.kind, self.data) == (other.run, other.kind, other.data)
    }
}

/// Digests an event's data. `queued` is left out: the log stores it beside the data.
#[must_use]
pub fn digest(data: &str) -> u64 {
    let mut value: Value = serde_json::from_str(data).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        members.remove("queued");
    }
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

#[derive(Debug, Default)]
struct RunRecord {
    begun: Option<Position>,
    ended: bool,
}

/// Everything that is known about a run, and its violations.
#[derive(Debug)]
pub struct Ledger {
    users: Vec<User>,
    /// The violations in words.
    pub findings: Vec<String>,
    /// The number of violations.
    pub wrong: u64,
    /// How often each thing happened.
    pub counts: BTreeMap<String, u64>,
}

impl Ledger {
    /// An empty ledger for `users` users.
    #[must_use]
    pub fn new(users: usize) -> Self {
        let users = (0..users).map(|_| User::default()).collect();
        Self { users, findings: Vec::new(), wrong: 0, counts: BTreeMap::new() }
    }

    /// Records a violation.
    pub fn find(&mut self, what: String) {
        self.wrong += 1;
        if self.findings.len() < MAX_TOLD {
            self.findings.push(what);
        }
    }

    /// Counts one occurrence of `what`.
    pub fn count(&mut self, what: &str) {
        match self.counts.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.counts.insert(what.to_owned(), 1)),
        }
    }

    /// The number of occurrences of `what`.
    #[must_use]
    pub fn counted(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }

    /// Records that a message is about to be sent.
    pub fn sends(&mut self, user: usize, reader: &mut Reader, message: MessageId, name: String, payload: Value) {
        self.count("messages sent");
        reader.waiting.insert(message, name.clone());
        let newest = &mut self.users[user].newest;
        newest.retain(|(known, _)| *known != name);
        newest.push((name, payload));
        if newest.len() > MAX_AGAIN {
            newest.remove(0);
        }
    }

    /// The user's newest message.
    #[must_use]
    pub fn newest(&self, user: usize) -> Option<(String, Value)> {
        self.users[user].newest.last().cloned()
    }

    /// The user's newest run that has not ended; the user is about to cancel it.
    pub fn cancels(&mut self, user: usize) -> Option<RunId> {
        let user = &mut self.users[user];
        let run = *user.open.last()?;
        user.cancelled.insert(run);
        Some(run)
    }

    /// Records that a user is about to delete its thread.
    pub fn deletes(&mut self, user: usize) {
        self.count("deletions sent");
        self.users[user].deletes = true;
    }

    /// All users' runs that have not ended.
    #[must_use]
    pub fn open(&self) -> Vec<RunId> {
        self.users.iter().flat_map(|user| user.open.iter().copied()).collect()
    }

    /// Records that the gateway has confirmed a notice for the user as durable.
    pub fn told(&mut self, user: usize, notice: u64) {
        self.users[user].told.insert(notice);
    }

    /// Records what a tab saw.
    pub fn take(&mut self, user: usize, reader: &mut Reader, seen: Seen) {
        match seen {
            Seen::Ready { .. } => self.count("connections"),
            Seen::At(position) => {
                reader.live = true;
                reader.began.get_or_insert(position);
                reader.position = Some(position);
            }
            Seen::Event { entry, .. } => self.event(user, reader, &entry),
            Seen::Reset(_, to) => {
                self.count("gaps told");
                if let Some(position) = &mut reader.position {
                    position.offset = position.offset.max(to);
                }
            }
            Seen::Accepted(message, run) => {
                reader.waiting.remove(&message);
                self.users[user].runs.entry(run).or_default();
                self.count("messages accepted");
            }
            Seen::Refused(message, code) => {
                reader.waiting.remove(&message);
                self.count(&format!("messages refused: {}", name(code)));
            }
            Seen::TooLong(message) => {
                reader.waiting.remove(&message);
                self.count("messages too long");
            }
            Seen::Unknown(message) => {
                reader.waiting.remove(&message);
                self.count("messages unknown");
            }
            Seen::Error(code) => self.count(&format!("errors told: {}", name(code))),
            Seen::Closed(code) => {
                reader.live = false;
                reader.closes += 1;
                self.count(&format!("closed {code}"));
                if code == 1011 {
                    self.find(format!("{}: the gateway closed with 1011, an internal fault", reader.name));
                }
            }
            Seen::Foreign(text) => {
                self.find(format!("{}: the gateway sent what is not on the wire: {text}", reader.name));
            }
        }
    }

    fn event(&mut self, user: usize, reader: &mut Reader, entry: &Entry<Payload>) {
        self.count("events read");
        let Some(position) = &mut reader.position else {
            return self.find(format!("{}: an event before connection_ready", reader.name));
        };
        position.offset = entry.offset;
        let (of, run) = (&mut self.users[user], entry.event.run);
        let data = digest(entry.event.payload.as_deref().unwrap_or_default());
        let read = Read { previous: entry.previous, run, kind: event_type(entry.event.kind), data };
        if of.entries.insert(*position, read).is_some() {
            return;
        }
        match entry.event.kind {
            Kind::Received(_) => {
                let known = of.runs.entry(run).or_default();
                known.begun = Some(*position);
                // A tab that reads faster may have seen the end already.
                of.open.extend((!known.ended).then_some(run));
                self.count("runs begun");
            }
            Kind::Completed | Kind::Error(_) => {
                of.runs.entry(run).or_default().ended = true;
                of.open.retain(|open| *open != run);
                of.paused.remove(&run);
                let end =
                    if let Kind::Error(reason) = entry.event.kind { name(reason) } else { "completed".to_owned() };
                if entry.event.kind == Kind::Error(Reason::Cancelled) && !of.cancelled.contains(&run) && !of.deletes {
                    let who = &reader.name;
                    self.find(format!("{who}: run {:016x} was cancelled, and not by its user", run.0));
                }
                self.count(&format!("runs ended: {end}"));
            }
            Kind::Notice => {
                let data = entry.event.payload.as_deref().map(serde_json::from_str::<Value>);
                let number = data.and_then(Result::ok).and_then(|data| data["number"].as_u64());
                if number.is_none_or(|number| !of.seen_notices.insert(number)) {
                    self.find(format!("{}: a notice that nobody sent, or a second time: {number:?}", reader.name));
                }
            }
            Kind::Deleted => {
                of.delete(*position);
                self.count("deletions read");
            }
            Kind::Started | Kind::Thinking | Kind::Delta(_) | Kind::ToolExecuting(_) | Kind::ToolCompleted(..) => {}
            Kind::Paused(pause) => {
                if of.runs.get(&run).is_none_or(|run| !run.ended) {
                    of.paused.insert(run, pause);
                }
                self.count("runs paused");
            }
            Kind::Resumed(_) => {
                of.paused.remove(&run);
                self.count("runs resumed");
            }
        }
    }

    /// What was read of a user in the newest epoch, except pieces of answers and deletions, and whether it was deleted
    /// later. Notices from before a deletion are left out: they stay in the stream, and are in no conversation then.
    #[must_use]
    pub fn newest_epoch(&self, user: usize) -> Vec<(Offset, Read, bool)> {
        let entries = &self.users[user].entries;
        let newest = entries.last_key_value().map(|(position, _)| position.epoch);
        let of_newest = entries.iter().filter(|(position, _)| Some(position.epoch) == newest);
        let whole = of_newest.filter(|(_, read)| !["agent_delta", "thread_deleted"].contains(&read.kind));
        let deleted = self.users[user].deleted;
        let gone = |at: &Position| Some(*at) < deleted;
        let judged = whole.filter(|(position, read)| read.kind != "notice" || !gone(position));
        judged.map(|(position, read)| (position.offset, *read, gone(position))).collect()
    }

    /// The runs whose end some tab should have seen, and none did.
    #[must_use]
    pub fn runs_without_end(&self) -> Vec<(usize, RunId)> {
        let users = self.users.iter().enumerate();
        users.flat_map(|(number, user)| user.runs_without_end().map(move |run| (number, run))).collect()
    }

    /// The durable notices that no tab saw, of users whose whole stream was read.
    #[must_use]
    pub fn unseen_notices(&self) -> Vec<(usize, u64)> {
        let whole = self.users.iter().enumerate().filter(|(_, user)| user.hole().is_none());
        whole
            .flat_map(|(number, user)| user.told.difference(&user.seen_notices).map(move |notice| (number, *notice)))
            .collect()
    }

    /// The runs that wait for their user.
    #[must_use]
    pub fn waiting(&self) -> Vec<Waiting> {
        let users = self.users.iter().enumerate();
        let waiting = |(user, of): (usize, &User)| {
            of.paused.iter().map(|(run, pause)| Waiting { user, run: *run, pause: *pause }).collect::<Vec<_>>()
        };
        users.flat_map(waiting).collect()
    }

    /// The number of runs whose end may lie in an unread part of the stream.
    #[must_use]
    pub fn unread(&self) -> usize {
        let left: usize = self.users.iter().map(|user| user.runs.values().filter(|run| !run.ended).count()).sum();
        left - self.runs_without_end().len()
    }
}

impl User {
    /// Removes what precedes this position: its runs have ended, whether their end was read or not.
    fn delete(&mut self, place: Position) {
        self.deleted = self.deleted.max(Some(place));
        let gone = |run: &RunRecord| run.begun.is_none_or(|begun| begun < place);
        for run in self.runs.values_mut().filter(|run| gone(run)) {
            run.ended = true;
        }
        self.open.retain(|run| self.runs.get(run).is_some_and(|run| !run.ended));
        self.paused.retain(|run, _| self.runs.get(run).is_some_and(|run| !run.ended));
    }

    /// The last entry before the last hole in what was read of the stream.
    fn hole(&self) -> Option<Position> {
        let mut hole = None;
        let mut last: Option<Position> = None;
        for (position, Read { previous, .. }) in &self.entries {
            match last {
                Some(last) if last.epoch != position.epoch || last.offset < *previous => hole = Some(last),
                None if previous.0 > 0 => hole = Some(Position { epoch: position.epoch, offset: *previous }),
                Some(_) | None => {}
            }
            last = Some(*position);
        }
        hole
    }

    fn runs_without_end(&self) -> impl Iterator<Item = RunId> {
        // Inside a hole, any run may have ended unseen.
        let hole = self.hole();
        let left = self.runs.iter().filter(|(_, run)| !run.ended);
        left.filter(move |(_, run)| hole.is_none_or(|hole| run.begun.is_some_and(|begun| begun > hole)))
            .map(|(run, _)| *run)
    }
}

fn name(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| Some(value.as_str()?.to_owned())).unwrap_or_default()
}
