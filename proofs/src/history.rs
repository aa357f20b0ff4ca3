//! Checks a gateway from outside: from what its clients sent and received, and from nothing else.
//!
//! A history is JSON Lines, one fact per line, in the order in which the recorder observed them:
//!
//! | field | meaning |
//! | --- | --- |
//! | `at` | microseconds since the recording began; for people, not checked |
//! | `client` | the client; a recorder that cannot tell names the socket |
//! | `user` | the credential's user; if unknown, omitted: the socket's first `connection_ready` names it |
//! | `socket` | which of the client's sockets; a later one has a higher number |
//! | `fact` | `open`, `sent`, `received`, `closed`; for an agent `acked` |
//! | `frame` | the frame that was sent or received (`lockstep.v1`, or the older `jwt-auth`, see `legacy`), omitted if it was not one; for `acked` the event's `{"type", "run_id"}`, and for a tool `"data": {"tool_id"}` |
//! | `code` | the close code, for `closed` |
//!
//! Facts of one socket are in the order in which they happened. Between sockets the only assumption is that a frame
//! read on a socket was sent after the `open` before it. Unknown facts are not checked: a history may begin late and
//! end early. Frames that clients sent are for people, except the `resume` of an `auth` and an older client's
//! `session_restore`. Checking takes time and memory linear in the history's length.
//!
//! The checker uses no machine, and of this crate only the observers of [`properties`](crate::properties): it is
//! independent of what it checks.
//!
//! | id | violation |
//! | --- | --- |
//! | AUTH-1 | a frame before `connection_ready`, or on a closed socket |
//! | ISO-1 | `connection_ready` for another user than the socket's; a run that two users see |
//! | STR-1 | an event that does not follow its predecessor on the socket, from where the socket began or was reset to |
//! | STR-2 | an offset of an epoch with two contents |
//! | STR-3 | a part of an answer with two contents, however its frames were cut and joined |
//! | RET-1 | an event from before its thread's `thread_deleted`, on a socket opened after another had read that |
//! | RUN-1 | an event that the grammar of runs does not allow after its predecessors in the stream |
//! | RUN-2 | a message with two runs |
//! | RUN-4 | a run that begins while an earlier one in its thread is open, unless `limits.concurrency` is `parallel` |
//! | RUN-3 | an event that was acknowledged to the agent and is missing from a fully observed part of the stream |
//! | OWN-2 | a `head` below what a socket of the user had read, in the same epoch, before this one was opened |
//! | OWN-3 | `resumed: false` for a position that the epoch retains, or from an older epoch than the position's |

use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;

use ahash::RandomState;
use lockstep_model::Offset;
use serde::Serialize;

use crate::properties::stream::Reader;

pub mod content;
mod deletions;
mod grammar;
mod legacy;
mod line;
mod owners;
mod parts;
mod threads;

use line::{Fact, Frame, Line};

/// The result of checking a history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Lines that were read.
    pub lines: u64,
    /// Sockets that were opened.
    pub sockets: u64,
    /// Events that were received, counting repetitions.
    pub events: u64,
    /// Contradictions, ordered by the later line. At most [`MAX_CONTRADICTIONS`].
    pub contradictions: Vec<Contradiction>,
}

/// The maximum number of reported contradictions. One contradiction often implies further ones.
pub const MAX_CONTRADICTIONS: usize = 20;

/// Two lines that cannot both be right if the gateway keeps its promises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contradiction {
    /// The violated property.
    pub property: &'static str,
    /// The two lines, counted from 1; twice the same line if it is wrong on its own.
    pub lines: [u64; 2],
    /// What is wrong.
    pub why: String,
}

/// Why a history cannot be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAHistory {
    /// It cannot be read.
    Unreadable(String),
    /// A line is not a fact: its number, and why.
    NotAFact(u64, String),
    /// It has no lines.
    Empty,
}

impl core::fmt::Display for NotAHistory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "the history cannot be read: {why}"),
            Self::NotAFact(line, why) => write!(f, "line {line} is not a fact of a history: {why}"),
            Self::Empty => f.write_str("the history is empty: nothing was recorded"),
        }
    }
}

impl core::error::Error for NotAHistory {}

/// The state of a socket.
#[derive(Default)]
struct Socket {
    opened: u64,
    /// Its user, and the line that says so.
    user: Option<First>,
    ready: Option<Reading>,
    closed: Option<u64>,
    /// The position that the client named with its credential.
    named: Option<owners::Named>,
    legacy: legacy::Socket,
}

/// A live socket's position in the stream.
struct Reading {
    epoch: u64,
    reader: Reader,
    /// The line that states it.
    line: u64,
}

/// The first line that states a fact, and its user.
#[derive(Clone, Copy)]
struct First {
    user: usize,
    line: u64,
}

/// An entry of a stream, as it was first seen.
struct Seen {
    previous: u64,
    /// Its content in `lockstep.v1` and in the older protocol, as far as it was seen.
    contents: [Option<u64>; 2],
    line: u64,
    run: u64,
    thread: u64,
    kind: grammar::Kind,
    /// A line that names another predecessor.
    relinked: Option<u64>,
}

/// The knowledge so far.
struct Checker {
    hasher: RandomState,
    names: HashMap<String, usize, RandomState>,
    sockets: HashMap<(u64, u64), Socket, RandomState>,
    parts: parts::Parts,
    deletions: deletions::Deletions,
    shown: owners::Shown,
    streams: HashMap<(usize, u64), BTreeMap<u64, Seen>, RandomState>,
    runs: HashMap<u64, First, RandomState>,
    started: HashMap<(usize, u64), (u64, u64), RandomState>,
    /// Whether runs of a thread follow each other, for users for whom that was stated.
    queues: HashMap<usize, bool, RandomState>,
    acked: Vec<(u64, u64, grammar::Kind)>,
    /// The texts that older clients were told at the end of a run, by user, epoch and offset.
    results: HashMap<(usize, u64, u64), (u64, u64), RandomState>,
    /// A buffer for the digests of contents.
    members: Vec<(u64, u64)>,
    findings: Findings,
}

/// Checks a history.
///
/// # Errors
///
/// [`NotAHistory`] if the input is not a history.
pub fn check(mut lines: impl BufRead) -> Result<Findings, NotAHistory> {
    let mut checker = Checker::new();
    let mut text = String::new();
    loop {
        text.clear();
        let read = lines.read_line(&mut text).map_err(|error| NotAHistory::Unreadable(error.to_string()))?;
        if read == 0 {
            break;
        }
        checker.findings.lines += 1;
        let number = checker.findings.lines;
        let line: Line<'_> =
            serde_json::from_str(&text).map_err(|error| NotAHistory::NotAFact(number, error.to_string()))?;
        checker.take(number, &line)?;
    }
    if checker.findings.lines == 0 {
        return Err(NotAHistory::Empty);
    }
    checker.finish();
    let mut findings = checker.findings;
    findings.contradictions.sort_by_key(|contradiction| contradiction.lines[1]);
    findings.contradictions.truncate(MAX_CONTRADICTIONS);
    Ok(findings)
}

impl Checker {
    fn new() -> Self {
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        Self {
            names: HashMap::with_hasher(hasher.clone()),
            sockets: HashMap::with_hasher(hasher.clone()),
            parts: parts::Parts::default(),
            deletions: deletions::Deletions::new(&hasher),
            shown: owners::Shown::new(&hasher),
            streams: HashMap::with_hasher(hasher.clone()),
            runs: HashMap::with_hasher(hasher.clone()),
            started: HashMap::with_hasher(hasher.clone()),
            queues: HashMap::with_hasher(hasher.clone()),
            acked: Vec::new(),
            results: HashMap::with_hasher(hasher.clone()),
            members: Vec::new(),
            findings: Findings::default(),
            hasher,
        }
    }

    fn take(&mut self, number: u64, line: &Line<'_>) -> Result<(), NotAHistory> {
        let missing = |what: &str| NotAHistory::NotAFact(number, format!("`{what}` is missing"));
        let place = (self.hasher.hash_one(&*line.client.0), line.socket);
        match line.fact {
            Fact::Open => {
                self.findings.sockets += 1;
                let user = line.user.as_ref().map(|user| First { user: self.user(&user.0), line: number });
                self.sockets.insert(place, Socket { opened: number, user, ..Socket::default() });
            }
            Fact::Closed => self.sockets.entry(place).or_default().closed = Some(number),
            Fact::Sent => self.sockets.entry(place).or_default().sent(number, line.frame),
            Fact::Acked => {
                let frame = Frame::parse(number, line.frame)?.ok_or_else(|| missing("frame"))?;
                let run = self.hasher.hash_one(&*frame.run_id.ok_or_else(|| missing("frame.run_id"))?.0);
                let kind = grammar::Kind::of(&frame.r#type.0, frame.data, &self.hasher);
                let kind = kind.ok_or_else(|| NotAHistory::NotAFact(number, "`frame` is no event".to_owned()))?;
                self.acked.push((number, run, kind));
            }
            Fact::Received => {
                let user = line.user.as_ref().map(|user| self.user(&user.0));
                let frame = Frame::parse(number, line.frame)?;
                match frame.as_ref().and_then(legacy::Translated::of) {
                    Some(translated) => self.receive_legacy(number, user, place, &translated)?,
                    None => self.receive(number, user, place, frame)?,
                }
            }
        }
        Ok(())
    }

    fn receive(
        &mut self,
        number: u64,
        user: Option<usize>,
        place: (u64, u64),
        frame: Option<Frame<'_>>,
    ) -> Result<(), NotAHistory> {
        let missing = |what: &str| NotAHistory::NotAFact(number, format!("`frame.{what}` is missing"));
        let socket = self.sockets.entry(place).or_default();
        if let Some(closed) = socket.closed {
            self.refuse("AUTH-1", closed, number, "a frame on a socket that was closed".to_owned());
            return Ok(());
        }
        if let (None, Some(user)) = (socket.user, user) {
            socket.user = Some(First { user, line: number });
        }
        let opened = socket.opened.max(1);
        let Some(frame) = frame else {
            if socket.ready.is_none() {
                self.refuse("AUTH-1", opened, number, "a text came before connection_ready".to_owned());
            }
            return Ok(());
        };
        if frame.r#type.0 == "connection_ready" {
            let epoch = frame.epoch.ok_or_else(|| missing("epoch"))?;
            let offset = frame.offset.ok_or_else(|| missing("offset"))?;
            socket.legacy.ready((epoch, offset));
            let mut reader = Reader::default();
            // A recorder may name several sockets alike. Only what comes after the newest beginning is compared.
            let _ = reader.ready(Offset(offset), frame.resumed != Some(false));
            socket.ready = Some(Reading { epoch, reader, line: number });
            let queues = threads::queues(frame.limits).unwrap_or(false);
            return match (socket.user, &frame.user_id) {
                (None, None) => Err(missing("user_id")),
                (Some(First { user, .. }), None) => {
                    *self.queues.entry(user).or_insert(true) &= queues;
                    self.owned(number, user, place, &frame);
                    Ok(())
                }
                (before, Some(named)) => {
                    let user = self.user(&named.0);
                    let first = before.unwrap_or(First { user, line: number });
                    if let Some(socket) = self.sockets.get_mut(&place) {
                        socket.user = Some(first);
                    }
                    *self.queues.entry(user).or_insert(true) &= queues;
                    if first.user != user {
                        self.refuse("ISO-1", first.line, number, format!("the connection is ready for {}", named.0));
                    } else {
                        self.owned(number, user, place, &frame);
                    }
                    Ok(())
                }
            };
        }
        let (Some(reading), Some(First { user, .. })) = (&mut socket.ready, socket.user) else {
            if frame.r#type.0 != legacy::HANDSHAKE {
                self.refuse("AUTH-1", opened, number, format!("`{}` came before connection_ready", frame.r#type.0));
            }
            return Ok(());
        };
        match &*frame.r#type.0 {
            "stream_reset" => {
                let (from, to) = (frame.from.ok_or_else(|| missing("from"))?, frame.to.ok_or_else(|| missing("to"))?);
                let (last, order) = (reading.line, reading.reader.reset(Offset(from), Offset(to)));
                reading.line = number;
                // The gap may be the answer to a place that an older client has named.
                let sought = socket.legacy.reset(from);
                if let Err(wrong) = order
                    && !sought
                {
                    self.refuse("STR-1", last, number, wrong.to_string());
                }
            }
            "message_known" => {
                let message = frame.message_id.ok_or_else(|| missing("message_id"))?;
                let run = frame.run_id.ok_or_else(|| missing("run_id"))?;
                let (message, run) = (self.hasher.hash_one(&*message.0), self.hasher.hash_one(&*run.0));
                self.runs_of(user, message, run, number);
            }
            _ => {
                if let Some(previous) = frame.previous {
                    let offset = frame.offset.ok_or_else(|| missing("offset"))?;
                    if socket.legacy.seeks((reading.epoch, previous)) {
                        reading.reader = Reader::resumed(Offset(previous));
                    }
                    let order = reading.reader.entry(Offset(previous), Offset(offset));
                    let (last, epoch) = (core::mem::replace(&mut reading.line, number), reading.epoch);
                    if let Err(wrong) = order {
                        self.refuse("STR-1", last, number, wrong.to_string());
                    }
                    self.event(number, (user, epoch, opened), offset, previous, &frame)?;
                }
            }
        }
        Ok(())
    }

    /// Checks an event of the stream.
    fn event(
        &mut self,
        number: u64,
        (user, epoch, opened): (usize, u64, u64),
        offset: u64,
        previous: u64,
        frame: &Frame<'_>,
    ) -> Result<(), NotAHistory> {
        let missing = |what: &str| NotAHistory::NotAFact(number, format!("`frame.{what}` is missing"));
        self.findings.events += 1;
        self.shown.take((user, epoch), offset, number);
        let name = &*frame.run_id.as_ref().ok_or_else(|| missing("run_id"))?.0;
        let run = self.hasher.hash_one(name);
        let thread = self.hasher.hash_one(frame.thread_id.as_ref().map(|thread| &*thread.0));
        let first = self.runs.entry(run).or_insert(First { user, line: number });
        if first.user != user {
            let line = first.line;
            self.refuse("ISO-1", line, number, format!("run {name} is seen by two users"));
        }
        let kind = grammar::Kind::of(&frame.r#type.0, frame.data, &self.hasher);
        let kind = kind.ok_or_else(|| NotAHistory::NotAFact(number, format!("`{}` is no event", frame.r#type.0)))?;
        if let grammar::Kind::Received(message) = kind {
            self.runs_of(user, message, run, number);
        }
        let in_thread = kind != grammar::Kind::Notice || frame.thread_id.is_some();
        if kind == grammar::Kind::Deleted {
            self.deletions.take((user, epoch, thread), offset, number);
        } else if in_thread && let Some(line) = self.deletions.deleted((user, epoch, thread), offset, opened) {
            self.refuse("RET-1", line, number, format!("offset {offset} was deleted with its thread"));
        }
        if kind == grammar::Kind::Delta {
            if !self.parts.take((user, epoch, run), (previous, offset, number), frame.data) {
                return Err(NotAHistory::NotAFact(number, "`agent_delta` without `part` and `text`".to_owned()));
            }
            let stream = self.streams.entry((user, epoch)).or_default();
            let new = Seen { previous, contents: [None; 2], line: number, run, thread, kind, relinked: None };
            let seen = stream.entry(offset).or_insert(new);
            seen.previous = seen.previous.min(previous);
            if (seen.run, seen.kind) != (run, kind) {
                let line = seen.line;
                self.refuse("STR-2", line, number, format!("offset {offset} has two contents in epoch {epoch}"));
            }
            return Ok(());
        }
        // The part in which two recordings of one event must agree, however the JSON is written.
        let data = frame.data.map(|data| content::digest(data, &self.hasher, &mut self.members));
        let content = self.hasher.hash_one((&*frame.r#type.0, run, data));
        let stream = self.streams.entry((user, epoch)).or_default();
        let new = Seen { previous, contents: [None; 2], line: number, run, thread, kind, relinked: None };
        let seen = stream.entry(offset).or_insert(new);
        if seen.previous != previous {
            seen.relinked = Some(number);
        }
        // The older protocol says the same in other members: its frames are compared with each other.
        let known = *seen.contents[usize::from(frame.legacy)].get_or_insert(content);
        if known != content || (seen.run, seen.kind) != (run, kind) {
            let line = seen.line;
            self.refuse("STR-2", line, number, format!("offset {offset} has two contents in epoch {epoch}"));
        }
        Ok(())
    }

    /// A message has at most one run.
    fn runs_of(&mut self, user: usize, message: u64, run: u64, number: u64) {
        let (first, line) = *self.started.entry((user, message)).or_insert((run, number));
        if first != run {
            self.refuse("RUN-2", line, number, "one message has two runs".to_owned());
        }
    }

    /// Checks what requires the whole stream: the grammar of its runs, and that no acknowledged event is missing.
    fn finish(&mut self) {
        let mut contradictions = Vec::new();
        contradictions.extend(self.parts.finish().into_iter().map(|(lines, why)| ("STR-3", lines, why)));
        let mut known: HashMap<u64, grammar::Whole, RandomState> = HashMap::with_hasher(self.hasher.clone());
        for ((user, epoch), stream) in &self.streams {
            let deleted = self.deletions.newest(*user, *epoch);
            let mut runs = grammar::Runs::new(&self.hasher);
            let queues = self.queues.get(user).is_some_and(|queues| *queues);
            let mut threads = threads::Threads::new(&self.hasher);
            let mut last = None;
            for (offset, seen) in stream {
                // A frame that joins pieces may begin before the pieces that another reader has seen.
                let joins = |last: u64| seen.kind == grammar::Kind::Delta && seen.previous < last;
                let unlinked = deleted.is_some_and(|deleted| *offset <= deleted);
                if let Some(line) = seen.relinked.filter(|_| !unlinked) {
                    let why = format!("offset {offset} has two entries before it in epoch {epoch}");
                    contradictions.push(("STR-2", [seen.line, line], why));
                }
                if last.is_some_and(|last| last != seen.previous && !joins(last)) {
                    runs.gap();
                    threads.gap();
                }
                last = Some(*offset);
                if let Err((line, why)) = runs.take(seen.run, seen.kind, seen.line) {
                    contradictions.push(("RUN-1", [line, seen.line], why));
                }
                if queues && let Err((line, why)) = threads.take(seen.thread, seen.run, seen.kind, seen.line) {
                    contradictions.push(("RUN-4", [line, seen.line], why));
                }
                if seen.kind == grammar::Kind::Deleted {
                    // The runs that it has ended may not have been seen.
                    runs.gap();
                    threads.gap();
                }
            }
            known.extend(runs.whole());
        }
        for (line, run, kind) in &self.acked {
            if let Some(whole) = known.get_mut(run)
                && !whole.take(*kind)
            {
                let why = "an event that was acknowledged to the agent is not in the stream".to_owned();
                contradictions.push(("RUN-3", [*line, whole.ended], why));
            }
        }
        for (property, lines, why) in contradictions {
            self.refuse(property, lines[0], lines[1], why);
        }
    }

    fn user(&mut self, name: &str) -> usize {
        match self.names.get(name) {
            Some(user) => *user,
            None => {
                let user = self.names.len();
                self.names.insert(name.to_owned(), user);
                user
            }
        }
    }

    fn refuse(&mut self, property: &'static str, first: u64, second: u64, why: String) {
        let lines = [first.min(second), first.max(second)];
        self.findings.contradictions.push(Contradiction { property, lines, why });
    }
}
