//! One user's session and its environment: connections, agents, a log, and an operator.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lockstep_model::frame::{Control, ReadFrom};
use lockstep_model::run::{Kind, Received, Schedule};
use lockstep_model::session::{Found, Input, Lookup, Member, Output, Outputs, State};
use lockstep_model::stream::{Page, Writer};
use lockstep_model::timer::Owner;
use lockstep_model::{
    Attempt, ConnectionId, Entry, Frame, Grant, Handled, MessageId, Mode, Offset, Refusal, Run, RunId, Scope, Session,
    Stream, ThreadId, Timer, ToolId,
};

use proptest::sample::Index;

use super::USER;
use crate::log::Log;
use crate::properties::run::Grammar;
use crate::properties::stream;
use crate::support::{SMALL, Tag, attempt, lawful, survives_json};

/// A connection from its client's side.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) grant: Grant,
    pub(super) from: ReadFrom,
    /// What it was sent of the stream.
    stream: stream::Reader,
}

impl Reader {
    pub(super) fn new(grant: Grant, from: ReadFrom) -> Self {
        Self { grant, from, stream: stream::Reader::default() }
    }
}

pub(super) struct World {
    pub(super) session: Session<Tag>,
    pub(super) log: Log,
    /// The newest unanswered restore.
    pub(super) restoring: Option<u32>,
    pub(super) readers: BTreeMap<ConnectionId, Reader>,
    pub(super) armed: BTreeSet<(Owner, Timer)>,
    /// Revocations since the fence was last lowered.
    fence: Vec<Scope>,
    pub(super) mode: Mode,
    /// Appended and not durable, in order.
    waiting: Vec<(RunId, Kind)>,
    /// Deletions that were confirmed as durable to the session.
    deletions: Vec<(Offset, Option<ThreadId>)>,
    launched: BTreeSet<RunId>,
    pub(super) retired: bool,
    /// The log's pending lookups, with the deletions known at the time of each request.
    lookups: Vec<Sought>,
}

type Sought = (ConnectionId, Attempt, Lookup<Tag>, Vec<(Offset, Option<ThreadId>)>);

impl World {
    pub(super) fn new() -> Self {
        let mut outputs = Outputs::new();
        let session = Session::open(&SMALL, USER, Mode::Ready, &mut outputs);
        let mut world = Self {
            session,
            log: Log::default(),
            restoring: None,
            readers: BTreeMap::new(),
            armed: BTreeSet::new(),
            fence: Vec::new(),
            mode: Mode::Ready,
            waiting: Vec::new(),
            deletions: Vec::new(),
            launched: BTreeSet::new(),
            retired: false,
            lookups: Vec::new(),
        };
        world.dispatch(outputs.list);
        world
    }

    pub(super) fn step(&mut self, input: Input<Tag>) -> Result<Handled, Refusal> {
        if let Input::Expired(owner, timer) = &input {
            self.armed.remove(&(*owner, *timer));
            if (*owner, *timer) == (Owner::Session, Timer::LogAnswer) {
                // It is abandoned, whether it was done or not.
                self.log.disconnect();
                self.restoring = None;
            }
        }
        let (before, mut outputs) = (self.session.clone(), Outputs::new());
        let handled = self.session.step(&SMALL, input.clone(), &mut outputs);
        lawful(&before, &self.session, handled, &outputs.list);
        survives_json(&input);
        survives_json(&outputs.list);
        survives_json(&self.session);
        match &input {
            Input::Revoke(scope) if !self.retired => self.fence.push(*scope),
            Input::Verified(oldest) if self.fence.iter().all(|scope| scope.generation() <= *oldest) => {
                self.fence.clear();
            }
            Input::Mode(mode) if self.mode != Mode::Draining && !self.retired => self.mode = *mode,
            Input::Persisted { offset, .. } if handled == Ok(Handled::Done) => {
                let taken = self.log.history().iter().filter(|entry| entry.offset <= *offset).cloned();
                self.deletions = deletions(&taken.collect::<Vec<_>>());
                self.waiting.remove(0);
            }
            Input::Restored { .. } if handled == Ok(Handled::Done) => {
                self.deletions = deletions(self.log.history());
            }
            Input::Delete { thread, .. } if handled == Ok(Handled::Done) => {
                let mut runs = self.session.runs().values();
                assert!(runs.all(|run| run.thread() != *thread), "RET-1: no run of it goes on");
            }
            Input::Run { .. } | Input::Notice { .. } if handled == Ok(Handled::Done) => {
                assert!(self.appended() > self.waiting.len(), "RUN-3: what is taken is in the stream");
            }
            Input::Run { .. }
            | Input::Notice { .. }
            | Input::Delete { .. }
            | Input::Revoke(_)
            | Input::Expired(..)
            | Input::Mode(_) => {}
            Input::Verified(_) => {}
            Input::Persisted { .. } | Input::Restored { .. } | Input::NotRestored { .. } | Input::Join { .. } => {}
            Input::Connection { .. } | Input::Pull { .. } | Input::Failed { .. } => {}
            Input::Fenced | Input::Broken | Input::Leave(_) | Input::Stop => {}
            Input::Found { .. } | Input::NotFound { .. } => {}
        }
        self.waiting = self.pending();
        self.dispatch(outputs.list);
        self.check_properties();
        handled
    }

    /// The log answers a lookup, with at most `most` entries of a page, or fails it.
    pub(super) fn find(&mut self, of: Index, most: usize, fails: bool) {
        if self.lookups.is_empty() {
            return;
        }
        let (connection, attempt, lookup, deletions) = self.lookups.remove(of.index(self.lookups.len()));
        let found = match lookup {
            Lookup::Page { after, through } => {
                let wanted = |entry: &&Entry<Tag>| entry.offset > after && entry.offset <= through;
                let left = self.log.history().iter().filter(wanted).filter(|entry| !is_deleted(&deletions, entry));
                let mut entries: VecDeque<_> = left.cloned().collect();
                let more = entries.len() > most;
                entries.truncate(most);
                let through = entries.back().filter(|_| more).map_or(through, |last| last.offset);
                Found::Page(Page { trimmed: after, entries, through })
            }
            Lookup::Query(query) => Found::Answer(query),
        };
        let input =
            if fails { Input::NotFound { connection, attempt } } else { Input::Found { connection, attempt, found } };
        let waits = |member: &Member<Tag>| member.lookups.open().iter().any(|(open, _)| *open == attempt);
        let waits = !self.retired && self.session.members().get(&connection).is_some_and(waits);
        let expected = if waits { Handled::Done } else { Handled::Ignored };
        assert_eq!(self.step(input), Ok(expected));
    }

    fn pending(&self) -> Vec<(RunId, Kind)> {
        let stream = self.session.stream();
        stream.map_or(vec![], |stream| stream.pending().iter().map(|event| (event.run, event.kind)).collect())
    }

    /// Room that the ends of open runs will need.
    pub(super) fn reserve(&self) -> usize {
        self.session.runs().values().map(Run::reserve).sum()
    }

    pub(super) fn appended(&self) -> usize {
        self.session.stream().map_or(0, |stream| stream.pending().len())
    }

    fn dispatch(&mut self, outputs: Vec<Output<Tag>>) {
        for output in outputs {
            assert!(!self.retired, "SES-1: {output:?} after the end");
            match output {
                Output::Restore { attempt } => self.restoring = Some(attempt.0),
                Output::Send { connection, frame } => self.sent(connection, frame),
                Output::Release { connection } => {
                    let id = connection.id();
                    assert!(self.readers.remove(&id).is_some(), "CONN-1: released once");
                    assert!(connection.is_closing());
                    self.armed.retain(|(owner, _)| *owner != Owner::Connection(id));
                }
                Output::Write { batch, after, event, .. } => self.log.write(batch, after, event),
                Output::Trim { through, .. } => self.log.trim(through),
                Output::Read { through, .. } => assert!(through <= self.session.read(), "STR-1"),
                Output::Launch { run, .. } => assert!(self.launched.insert(run), "RUN-2: launched once"),
                Output::Durable { run, offset, .. } => {
                    let entry = self.log.history().iter().find(|entry| entry.offset == offset).unwrap();
                    assert_eq!(entry.event.run, run, "STR-2");
                }
                Output::Arm(owner, timer, after) => {
                    assert!(!after.is_zero());
                    self.armed.insert((owner, timer));
                }
                Output::Disarm(owner, timer) => drop(self.armed.remove(&(owner, timer))),
                Output::Retire => self.retired = true,
                Output::Lookup { connection, attempt, lookup } => {
                    self.lookups.push((connection, attempt, lookup, self.deletions.clone()));
                }
                Output::Verify { .. } | Output::Wake { .. } | Output::Halt { .. } | Output::Lose => {}
                Output::Busy | Output::Quiet => {}
                Output::Relinquish { .. } => self.log.disconnect(),
            }
        }
    }

    /// STR-1, STR-2, AUTH-1: the frames that leave on a connection.
    fn sent(&mut self, id: ConnectionId, frame: Frame<Tag>) {
        let reader = self.readers.get_mut(&id).unwrap();
        let revoked = self.fence.iter().any(|scope| is_meant(*scope, reader.grant));
        assert!(!revoked && frame.is_application(), "AUTH-1: {frame:?} for {reader:?}");
        match (frame, reader.stream.at()) {
            (Frame::Control(Control::Ready { user, epoch, offset, resumed, .. }), _) => {
                assert_eq!(user, reader.grant.user, "AUTH-2: it is told whose stream it reads");
                assert_eq!(epoch, self.log.epoch());
                if let (ReadFrom::After(position), true) = (reader.from, resumed) {
                    assert_eq!((position.epoch, position.offset), (epoch, offset), "resumed means from there");
                }
                assert_eq!(reader.stream.ready(offset, resumed), Ok(()), "CONN-2");
            }
            (Frame::Control(Control::StreamReset { from, to }), _) => {
                assert!(reader.stream.has_gap() || !self.log.keeps, "STR-3: what is kept is read");
                assert_eq!(reader.stream.reset(from, to), Ok(()), "STR-1");
            }
            (Frame::Event(entry), Some(at)) => {
                let gone = |next: &Entry<Tag>| is_deleted(&self.deletions, next);
                let next = self.log.history().iter().find(|next| next.offset > at && !gone(next));
                let next = next.map(|next| Entry { previous: at, ..next.clone() });
                assert_eq!(Some(entry.clone()), next, "STR-1, RET-1: the next durable entry, and no other");
                assert_eq!(reader.stream.entry(entry.previous, entry.offset), Ok(()), "STR-1");
            }
            (Frame::Control(_), Some(_)) => {}
            (frame, at) => panic!("CONN-2: {frame:?} at {at:?}"),
        }
    }

    fn check_properties(&self) {
        assert_eq!(self.session.check(&SMALL), Ok(()));
        let members: Vec<_> = self.session.members().iter().map(|(id, _)| *id).collect();
        assert!(members.iter().eq(self.readers.keys()), "A27: no ghost and no orphan");
        assert!(members.len() <= SMALL.connections && self.session.runs().len() <= SMALL.runs + SMALL.queued, "LIM-1");
        for reader in self.readers.values() {
            assert!(!self.fence.iter().any(|scope| is_meant(*scope, reader.grant)), "AUTH-1: {reader:?}");
        }
        assert_eq!(self.session.state() == State::Retired, self.retired);
        if !self.retired {
            self.check_deadlines();
            assert_eq!(self.session.fence().is_up(), !self.fence.is_empty());
        }
        // RET-1: agents read nothing that was deleted.
        let mut entries = self.session.stream().into_iter().flat_map(Stream::entries);
        assert!(entries.all(|entry| !is_deleted(&self.deletions, entry)), "RET-1");
        // LIM-1: known messages are those that are retained, pending, or in a run that has not settled.
        let stream = self.session.stream();
        let retained = stream.map_or(0, |stream| stream.entries().len() + stream.pending().len());
        assert!(self.session.known().len() <= retained + self.session.unsettled().len());
        // RUN-2: of every other message that the log ever took, it is remembered that it ran.
        let remembered =
            |message: &MessageId| self.session.known().contains_key(message) || self.session.past().contains(message);
        assert!(stream.is_none() || self.log.messages().all(|message| remembered(&message)), "RUN-2");
    }

    /// LIVE-1 to LIVE-4, as far as one state shows it: everything that waits has its deadline.
    fn check_deadlines(&self) {
        let armed = |owner, timer| self.armed.contains(&(owner, timer));
        let session = |timer| armed(Owner::Session, timer);
        let restoring = matches!(self.session.state(), State::Restoring { .. });
        let (asked, pauses) = (self.restoring.is_some(), session(Timer::Restore));
        assert!(if restoring { asked != pauses } else { !pauses }, "the log is asked, or will be");
        assert_eq!(self.session.state() == State::Vacant, session(Timer::Linger));
        assert_eq!(self.session.breaker().is_open(), session(Timer::Breaker));
        let waits = self.session.stream().is_some_and(|stream| stream.writer() == Writer::Waiting);
        assert_eq!(waits, session(Timer::Retry));
        assert_eq!(
            asked || self.log.is_asked(),
            session(Timer::LogAnswer),
            "LIVE-4: the log has its time, and no more"
        );
        let begun = || self.session.runs().iter().filter(|(_, run)| !run.is_queued());
        for (run, _) in begun() {
            assert!(armed(Owner::Run(*run), Timer::Silence), "{run:?}");
            assert!(armed(Owner::Run(*run), Timer::Deadline), "{run:?}");
        }
        for (id, _) in self.session.members() {
            let deadlines = [Timer::Idle, Timer::Grace, Timer::Handshake];
            assert_eq!(deadlines.iter().filter(|timer| armed(Owner::Connection(*id), **timer)).count(), 1);
            assert!(armed(Owner::Connection(*id), Timer::Credential));
        }
        let runs = self.armed.iter().filter(|(owner, _)| matches!(owner, Owner::Run(_))).count();
        assert_eq!(runs, 2 * begun().count(), "no deadline outlives its run, or comes before it begins");
    }

    /// The log answers the restore.
    pub(super) fn restore(&mut self) {
        if let Some(number) = self.restoring.take() {
            let _ = self.step(Input::Restored { attempt: attempt(number), snapshot: self.log.snapshot() });
        }
    }

    pub(super) fn persist(&mut self, hole: u64) {
        if let Some((batch, offset)) = self.log.take(hole) {
            assert_eq!(self.step(Input::Persisted { batch, offset, record: None }), Ok(Handled::Done));
        }
    }

    pub(super) fn fail(&mut self) {
        if let Some(batch) = self.log.fail() {
            assert_eq!(self.step(Input::Failed { batch }), Ok(Handled::Done));
        }
    }

    /// The process restarts, or the session has retired and its user comes back.
    pub(super) fn begin_again(&mut self) {
        self.log.disconnect();
        let mode = if self.mode == Mode::Draining { Mode::Ready } else { self.mode };
        let mut outputs = Outputs::new();
        self.session = Session::open(&SMALL, USER, mode, &mut outputs);
        (self.readers, self.armed, self.fence) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        (self.mode, self.retired, self.waiting) = (mode, false, Vec::new());
        self.deletions.clear();
        self.dispatch(outputs.list);
    }

    /// RUN-4: of a thread's runs that are open at any offset of the log, only the first has begun, and those after it
    /// are queued.
    fn check_threads(&self) {
        let mut open: Vec<(ThreadId, RunId)> = Vec::new();
        for entry in self.log.history() {
            let run = entry.event.run;
            let first = |thread| open.iter().find(|(of, _)| *of == thread).map(|(_, run)| *run);
            if let Kind::Received(Received { thread, schedule, .. }) = entry.event.kind {
                assert_eq!(schedule == Schedule::Queued, first(thread).is_some(), "RUN-4: {entry:?}");
                open.push((thread, run));
            } else if entry.event.kind == Kind::Started {
                let thread = open.iter().find(|(_, of)| *of == run).unwrap().0;
                assert_eq!(first(thread), Some(run), "RUN-4: {entry:?}");
            } else if entry.event.kind.is_terminal() {
                open.retain(|(_, of)| *of != run);
            }
        }
    }

    /// RUN-1, RUN-2: the grammar over all that the log ever took.
    pub(super) fn check_history(&self, complete: bool) {
        self.check_threads();
        let mut runs: BTreeMap<RunId, Grammar<ToolId>> = BTreeMap::new();
        let mut begun: BTreeSet<MessageId> = BTreeSet::new();
        for entry in self.log.history() {
            let grammar = runs.entry(entry.event.run).or_default();
            assert_eq!(grammar.take(entry.event.kind.into()), Ok(()), "RUN-1: {entry:?}");
            if let Kind::Received(received) = entry.event.kind {
                assert!(begun.insert(received.message), "RUN-2: {entry:?}");
            }
        }
        if complete {
            assert!(runs.values().all(Grammar::has_ended), "LIVE-2: each accepted run ends");
        }
    }
}

/// The deletions among these entries.
fn deletions(entries: &[Entry<Tag>]) -> Vec<(Offset, Option<ThreadId>)> {
    let found = entries.iter().filter(|entry| entry.event.kind == Kind::Deleted);
    found.map(|entry| (entry.offset, entry.event.thread)).collect()
}

/// Whether an entry was deleted with its thread.
fn is_deleted(deletions: &[(Offset, Option<ThreadId>)], entry: &Entry<Tag>) -> bool {
    deletions.iter().any(|(offset, thread)| *offset > entry.offset && *thread == entry.event.thread)
}

/// Whether a grant was verified before this revocation, so that only a session can know.
fn is_meant(scope: Scope, grant: Grant) -> bool {
    scope.covers(grant) && grant.generation < scope.generation()
}
