//! The environment: the log's initial content, requests on the session's connections, the timers that fire, and the
//! required effects.

use lockstep_model::connection::{self, Connection};
use lockstep_model::frame::ReadFrom;
use lockstep_model::run::{Kind, Reason, Received};
use lockstep_model::session::Input;
use lockstep_model::stream::{Entry, Event};
use lockstep_model::timer::Owner;
use lockstep_model::{
    Bounds, ConnectionId, Epoch, MessageId, Offset, Position, Request, Resume, RunId, ThreadId, Timer, VerificationId,
};

use super::{Member, Seen, State, valid};

/// The log's initial content: the first message, which ran twice, having been forgotten in between. A crash ended both
/// runs.
pub(super) fn past() -> Vec<Entry<u8>> {
    let event = |run, kind| Event { run, thread: Some(ThreadId(1)), kind, payload: None };
    let received = Received::immediate(MessageId(1), ThreadId(1));
    let run = |run| [Kind::Received(received), Kind::Error(Reason::Interrupted)].map(|kind| event(run, kind));
    let offsets = (0..).map(Offset).zip((1..).map(Offset));
    let events = [run_of(0), run_of(1)].into_iter().flat_map(run);
    offsets.zip(events).map(|((previous, offset), event)| Entry { offset, previous, event }).collect()
}

/// A message.
pub(super) const fn asked(message: MessageId, thread: ThreadId, run: RunId, repeat: bool) -> Request<u8> {
    Request::Message { message, thread, run, payload: 1, repeat, replaces: None }
}

/// The run of a message.
pub(super) const fn run_of(message: u64) -> RunId {
    RunId(0x40 - message)
}

/// The position that a connection names. No connection resumes: those with the first credential name a position in a
/// stream that the log has lost, at an offset that also exists in the present one.
pub(super) const fn wanted(credential: u64) -> ReadFrom {
    match credential {
        1 => ReadFrom::After(Position { epoch: Epoch(2), offset: Offset(0) }),
        2 => ReadFrom::Earliest,
        _ => ReadFrom::Latest,
    }
}

impl State {
    /// The offset after which the stream can be read.
    pub(super) const fn tail(&self, bounds: &Bounds) -> u64 {
        self.events.saturating_sub(bounds.retained as u64)
    }

    /// The offset through which the log may trim after a restore: entries that can neither be read nor belong to an
    /// open run.
    pub(super) fn needless(&self, bounds: &Bounds) -> u64 {
        if self.session.stream().is_none() {
            return 0;
        }
        let begun = |message: &usize| self.runs.contains(&run_of(*message as u64));
        let oldest = (1..=self.begun.len()).find(begun).map_or(u64::MAX, |message| self.begun[message - 1] - 1);
        oldest.min(self.tail(bounds))
    }

    /// Where the run of a remembered message began: the entries after it can be read, or the run is open. A connection
    /// that has not resumed knows of no other message.
    pub(super) fn known(&self, bounds: &Bounds, message: u64) -> Option<Offset> {
        let begun = usize::try_from(message - 1).ok().and_then(|index| self.begun.get(index)).copied().unwrap_or(0);
        (begun > self.tail(bounds) || self.runs.contains(&run_of(message))).then_some(Offset(begun))
    }

    /// Whether a revocation is remembered.
    pub(super) const fn is_up(&self) -> bool {
        self.raised.is_some()
    }

    /// Whether no remembered revocation excludes a grant.
    pub(super) fn admits(&self, credential: u64, generation: u32) -> bool {
        self.oldest.is_none_or(|oldest| generation >= oldest) && !self.single.contains(&credential)
    }

    /// A timer of the session fires: its breaker closes, it retires, or it asks the log again.
    pub(super) fn expire(&mut self, bounds: &Bounds, timer: Timer, seen: &mut Seen) {
        self.armed.disarm(timer);
        let gone = timer == Timer::Linger && !self.is_up();
        if timer == Timer::Breaker {
            (self.failures, self.open) = (0, false);
        }
        self.feed(bounds, Input::Expired(Owner::Session, timer), seen);
        self.expect(self.retired == gone, "SES-1");
    }

    pub(super) fn renew(
        &mut self,
        bounds: &Bounds,
        connection: ConnectionId,
        credential: u64,
        generation: u32,
        seen: &mut Seen,
    ) {
        let auth = Request::Auth { token: 2, resume: Resume::default() };
        self.feed(bounds, Input::Connection { connection, input: connection::Input::Received(auth) }, seen);
        let member = self.session.members().get(&connection);
        let attempt = member.map_or(VerificationId(0), |member| member.connection.auth().newest());
        let input = connection::Input::Verdict { attempt, verdict: valid(credential, generation) };
        self.feed(bounds, Input::Connection { connection, input }, seen);
    }

    /// The first connected member sends a request.
    pub(super) fn say(&mut self, bounds: &Bounds, request: Request<u8>, seen: &mut Seen) {
        if let Some(Member { id: connection, .. }) = self.members.first().copied() {
            let input = connection::Input::Received(request);
            self.feed(bounds, Input::Connection { connection, input }, seen);
        }
    }
}

/// A verified connection that is about to join the session.
pub(super) fn attaching(
    bounds: &Bounds,
    id: ConnectionId,
    credential: u64,
    generation: u32,
    replaces: Option<ConnectionId>,
) -> Connection<u8> {
    let mut out = Vec::new();
    let mut connection = Connection::accept(bounds, id, &mut out);
    let auth = Request::Auth { token: 1, resume: Resume { from: wanted(credential), replaces } };
    let verdict = connection::Input::Verdict { attempt: VerificationId(1), verdict: valid(credential, generation) };
    for input in [connection::Input::Opened, connection::Input::Received(auth), verdict] {
        let _ = connection.step(bounds, input, &mut out);
    }
    connection
}
