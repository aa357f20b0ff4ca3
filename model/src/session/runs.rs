//! The messages, runs and stream of a session.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::{Begin, Known, Member, Output, Outputs, Session, State as SessionState, Unsettled, Waiting};
use crate::bounds::Bounds;
use crate::close::Cause;
use crate::frame::{Cancel, Code, Control, Request};
use crate::id::{ConnectionId, MessageId, Offset, PauseId, RunId, ThreadId};
use crate::piece::Piece;
use crate::run::{self, Kind, Received, Run, Schedule, State};
use crate::stream::{self, Entry, Event, Snapshot, Stream};
use crate::timer::{Owner, Timer};
use crate::{Handled, Refusal};

impl<P: Piece> Session<P> {
    /// Handles a request on a connection that is past `connection_ready`.
    pub(super) fn handle(&mut self, bounds: &Bounds, from: ConnectionId, request: Request<P>, out: &mut Outputs<P>) {
        match request {
            Request::Message { message, thread, run, payload, repeat, replaces } => {
                let untold = repeat && self.members.get(&from).is_none_or(|member| member.start.is_none());
                let forgotten = untold || self.past.contains(&message);
                if let Some(answer) = self.accept(bounds, (message, thread, replaces), run, payload, forgotten, out) {
                    self.tell(bounds, from, answer, out);
                }
            }
            Request::Cancel { runs: Cancel::Run(run) } if !self.runs.contains_key(&run) => {
                self.tell(bounds, from, Control::Error(Code::UnknownRun), out);
            }
            Request::Cancel { runs } => self.cancel_all(bounds, runs, out),
            Request::Reply { run, pause, payload } => {
                if let Err(code) = self.reply(bounds, run, pause, payload, out) {
                    self.tell(bounds, from, Control::Error(code), out);
                }
            }
            Request::Seek { from: position } => self.seek(bounds, from, position, out),
            Request::Delete { thread, deletion, payload } => {
                if self.delete(bounds, thread, deletion, payload, out).is_err() {
                    self.tell(bounds, from, Control::Error(Code::Busy), out);
                }
            }
            Request::Query { query } => self.query(bounds, from, query, out),
            Request::Auth { .. } | Request::Ping | Request::Pong | Request::Invalid { .. } | Request::Violation(_) => {
                debug_assert!(false, "the connection answers these itself");
            }
        }
        let _ = self.read_on(from, out);
    }

    /// Starts or queues a run for a new message. Returns the immediate answer to a repetition or a refusal, which need
    /// no event.
    fn accept(
        &mut self,
        bounds: &Bounds,
        (message, thread, replaces): (MessageId, ThreadId, Option<Offset>),
        run: RunId,
        payload: P,
        forgotten: bool,
        out: &mut Outputs<P>,
    ) -> Option<Control<P>> {
        match self.known.get(&message) {
            Some(Known { run, offset: Some(offset) }) => {
                return Some(Control::Known { message, run: *run, offset: *offset });
            }
            // Its `message_received` will reach every connection of the user.
            Some(Known { offset: None, .. }) => return None,
            None => {}
        }
        let schedule = if forgotten {
            Err(Code::Forgotten)
        } else if let Some(code) = self.mode.refuses_runs() {
            Err(code)
        } else if self.breaker.is_open() {
            Err(Code::BreakerOpen)
        } else {
            self.schedule(bounds, thread, replaces)
        };
        let schedule = match schedule {
            Err(code) => return Some(Control::Refused { message, code }),
            Ok(schedule) => schedule,
        };
        let mut outputs = core::mem::take(&mut out.run);
        let accepted = Run::accept(bounds, Received { message, thread, schedule, replaces }, &mut outputs);
        if self.room(bounds) < 1 + accepted.reserve() || self.runs.contains_key(&run) {
            outputs.clear();
            out.run = outputs;
            return Some(Control::Refused { message, code: Code::Busy });
        }
        self.make_way(bounds, thread, replaces, out);
        if schedule == Schedule::Queued {
            self.queue.push_back(Waiting { run, payload: None });
        }
        self.runs.insert(run, accepted);
        self.known.insert(message, Known { run, offset: None });
        self.apply(bounds, (run, thread), Some(payload), &mut outputs, out);
        out.run = outputs;
        None
    }

    /// Resumes a paused run.
    fn reply(
        &mut self,
        bounds: &Bounds,
        id: RunId,
        pause: PauseId,
        payload: P,
        out: &mut Outputs<P>,
    ) -> Result<(), Code> {
        let run = self.runs.get(&id).ok_or(Code::UnknownRun)?;
        if run.paused() != Some(pause) {
            return Err(Code::NotPaused);
        }
        if self.mode.awaits_runs() {
            return Err(Code::Draining);
        }
        let _ = self.run(bounds, id, run::Input::Resume(pause), Some(payload), out);
        Ok(())
    }

    /// Steps one run and acts on its outputs.
    pub(super) fn run(
        &mut self,
        bounds: &Bounds,
        id: RunId,
        input: run::Input,
        payload: Option<P>,
        out: &mut Outputs<P>,
    ) -> Result<Handled, Refusal> {
        let lacks_room = self.room(bounds) < Run::needs(&input);
        let Some(run) = self.runs.get_mut(&id) else {
            return if input.is_ours() { Ok(Handled::Ignored) } else { Err(Refusal::RunEnded) };
        };
        if run.has_agent() && lacks_room {
            return Err(Refusal::Backpressure);
        }
        let mut outputs = core::mem::take(&mut out.run);
        let thread = run.thread();
        let handled = run.step(bounds, input, &mut outputs);
        let ended = (!run.is_open()).then(|| run.state().clone());
        if ended.is_some() {
            self.runs.remove(&id);
            self.queue.retain(|waiting| waiting.run != id);
        }
        self.apply(bounds, (id, thread), payload, &mut outputs, out);
        out.run = outputs;
        if let Some(state) = ended {
            self.ended(bounds, &state, out);
        }
        handled
    }

    /// Ends the open runs of a thread, and appends its deletion.
    pub(super) fn delete(
        &mut self,
        bounds: &Bounds,
        thread: ThreadId,
        deletion: RunId,
        payload: P,
        out: &mut Outputs<P>,
    ) -> Result<Handled, Refusal> {
        self.is_open_to(bounds, deletion)?;
        self.cancel_all(bounds, Cancel::Thread(thread), out);
        let event = Event { run: deletion, thread: Some(thread), kind: Kind::Deleted, payload: Some(payload) };
        self.announce(bounds, event, out)
    }

    /// Whether the thread has no known event since `as_of`, and nothing under way.
    pub(super) fn is_unchanged(&self, thread: ThreadId, as_of: Option<Offset>) -> Result<(), Refusal> {
        let (Some(as_of), Some(stream)) = (as_of, &self.stream) else { return Ok(()) };
        let is_newer = |entry: &Entry<P>| entry.event.thread == Some(thread) && entry.offset > as_of;
        let changed = stream.tail() > as_of
            || stream.entries().iter().any(is_newer)
            || stream.pending().iter().any(|event| event.thread == Some(thread))
            || self.runs.values().any(|run| run.thread() == thread);
        if changed { Err(Refusal::Changed) } else { Ok(()) }
    }

    /// Appends an event that belongs to no run.
    pub(super) fn announce(
        &mut self,
        bounds: &Bounds,
        event: Event<P>,
        out: &mut Outputs<P>,
    ) -> Result<Handled, Refusal> {
        self.is_open_to(bounds, event.run)?;
        Ok(self.log(bounds, stream::Input::Append(event), out))
    }

    /// Checks that the stream takes an event that belongs to no run, and still has room for the ends of open runs.
    fn is_open_to(&self, bounds: &Bounds, id: RunId) -> Result<(), Refusal> {
        if self.runs.contains_key(&id) {
            return Err(Refusal::Misuse);
        }
        if self.state == (SessionState::Leaving { cause: Cause::GoingAway }) {
            return Err(Refusal::Retired);
        }
        if self.room(bounds) == 0 {
            return Err(Refusal::Backpressure);
        }
        Ok(())
    }

    /// Acts on the outputs of a run of that thread. The payload goes with the last event, because the events before it
    /// close tools.
    fn apply(
        &mut self,
        bounds: &Bounds,
        (run, thread): (RunId, ThreadId),
        mut payload: Option<P>,
        outputs: &mut Vec<run::Output>,
        out: &mut Outputs<P>,
    ) {
        let last = outputs.iter().rposition(|output| matches!(output, run::Output::Emit(_)));
        for (index, output) in outputs.drain(..).enumerate() {
            match output {
                run::Output::Emit(kind) => {
                    let payload = if Some(index) == last { payload.take() } else { None };
                    let event = Event { run, thread: Some(thread), kind, payload };
                    let _ = self.log(bounds, stream::Input::Append(event), out);
                }
                run::Output::Stop => out.list.push(Output::Halt { run }),
                run::Output::Arm(timer, after) => out.list.push(Output::Arm(Owner::Run(run), timer, after)),
                run::Output::Disarm(timer) => out.list.push(Output::Disarm(Owner::Run(run), timer)),
            }
        }
    }

    fn ended(&mut self, bounds: &Bounds, state: &State, out: &mut Outputs<P>) {
        match state {
            State::Completed => self.breaker.succeeded(),
            State::Failed => {
                if self.breaker.failed(bounds) {
                    out.list.push(Output::Arm(Owner::Session, Timer::Breaker, bounds.breaker));
                }
            }
            State::Queued
            | State::Accepted
            | State::Started
            | State::Working { .. }
            | State::Paused { .. }
            | State::Cancelled
            | State::Interrupted => {}
        }
    }

    /// Messages that ran and whose outcome is no longer known, oldest first. They are refused as forgotten.
    #[must_use]
    pub const fn past(&self) -> &VecDeque<MessageId> {
        &self.past
    }

    /// How much unreserved room the stream has. A command that needs more is refused. A retired session refuses no
    /// command for lack of room.
    pub(super) fn room(&self, bounds: &Bounds) -> usize {
        let room = |stream: &Stream<P>| bounds.pending.saturating_sub(stream.pending().len() + self.reserve());
        if self.state == SessionState::Retired { usize::MAX } else { self.stream.as_ref().map_or(0, room) }
    }

    /// The room in the stream that open runs need to end, and queued ones to begin.
    pub(super) fn reserve(&self) -> usize {
        self.runs.values().map(Run::reserve).sum()
    }

    /// Steps the stream and acts on its outputs.
    pub(super) fn log(&mut self, bounds: &Bounds, input: stream::Input<P>, out: &mut Outputs<P>) -> Handled {
        let Some(stream) = &mut self.stream else { return Handled::Ignored };
        let mut outputs = core::mem::take(&mut out.stream);
        let handled = stream.step(bounds, input, &mut outputs);
        for output in outputs.drain(..) {
            match output {
                stream::Output::Write { tenure, batch, after, event } => {
                    out.list.push(Output::Write { tenure, batch, after, event });
                }
                stream::Output::Readable(entry) => self.readable(entry, out),
                stream::Output::Trimmed(entry) => self.forget(&entry, out),
                stream::Output::Deleted(entry) => self.deleted(bounds, &entry, out),
                stream::Output::Arm(timer, after) => out.list.push(Output::Arm(Owner::Session, timer, after)),
                stream::Output::Disarm(timer) => out.list.push(Output::Disarm(Owner::Session, timer)),
            }
        }
        out.stream = outputs;
        handled
    }

    fn readable(&mut self, entry: Entry<P>, out: &mut Outputs<P>) {
        let Entry { offset, event: Event { run, thread, kind, payload }, .. } = entry;
        let waiting = self.queue.iter().position(|waiting| waiting.run == run);
        if let Kind::Received(Received { message, schedule, .. }) = kind {
            self.known.insert(message, Known { run, offset: Some(offset) });
            self.unsettled.insert(run, Unsettled { message, offset });
            if let Some(waiting) = waiting {
                self.queue[waiting].payload = payload;
            } else if schedule == Schedule::Immediate && self.runs.contains_key(&run) {
                out.list.push(Output::Launch { run, payload, begin: Begin::New });
            }
        } else if matches!(kind, Kind::Resumed(_)) && self.runs.contains_key(&run) {
            out.list.push(Output::Launch { run, payload, begin: Begin::Resumed });
        } else if let Some(Waiting { payload, .. }) = waiting.and_then(|waiting| self.queue.remove(waiting)) {
            // The first event of an open run without an agent is its `agent_started`.
            out.list.push(Output::Launch { run, payload, begin: Begin::Queued });
        } else {
            out.list.push(Output::Durable { run, offset, last: kind.is_terminal() });
        }
        if kind.is_terminal() {
            self.settle_run(run);
        }
        if kind == Kind::Deleted {
            self.forget_found(thread, out);
        }
        self.wake_readers(out);
        if kind.is_terminal() {
            self.trim(out);
        }
    }

    /// An entry was deleted with its thread. Readers that have not read this `message_received` are told that the
    /// message is known.
    fn deleted(&mut self, bounds: &Bounds, entry: &Entry<P>, out: &mut Outputs<P>) {
        let Kind::Received(Received { message, .. }) = entry.event.kind else { return };
        let (run, offset) = (entry.event.run, entry.offset);
        self.forget_message(message, run);
        let behind = |member: &Member<P>| member.cursor.is_some_and(|cursor| cursor.at() < offset);
        let untold: Vec<ConnectionId> =
            self.members.iter().filter(|(_, member)| behind(member)).map(|(id, _)| *id).collect();
        for connection in untold {
            self.tell(bounds, connection, Control::Known { message, run, offset }, out);
        }
    }

    /// The end of a run is durable, so its beginning may be forgotten.
    fn settle_run(&mut self, run: RunId) {
        let tail = self.stream.as_ref().map_or(Offset(0), Stream::tail);
        if let Some(Unsettled { message, offset }) = self.unsettled.remove(&run)
            && offset <= tail
        {
            self.forget_message(message, run);
        }
    }

    /// Forgets a message, if this is the last run that it has started. An earlier run does not count: a restart may
    /// find one that the log has not trimmed yet.
    fn forget_message(&mut self, message: MessageId, run: RunId) {
        if self.known.get(&message).is_some_and(|known| known.run == run) {
            self.known.remove(&message);
            if self.past.len() == super::MAX_PAST {
                self.past.pop_front();
            }
            self.past.push_back(message);
        }
    }

    /// An entry was trimmed. Its message is forgotten once the end of its run is durable.
    fn forget(&mut self, entry: &Entry<P>, out: &mut Outputs<P>) {
        for (_, member) in &mut self.members {
            member.start = member.start.filter(|start| *start >= entry.offset);
        }
        if let Kind::Received(Received { message, .. }) = entry.event.kind
            && !self.unsettled.contains_key(&entry.event.run)
        {
            self.forget_message(message, entry.event.run);
        }
        self.trim(out);
    }

    /// Lets the log forget entries that are neither readable nor part of a run whose end is not durable.
    fn trim(&mut self, out: &mut Outputs<P>) {
        let Some(stream) = &self.stream else { return };
        let oldest = self.unsettled.values().map(|run| Offset(run.offset.0 - 1)).min();
        let through = oldest.map_or(stream.tail(), |oldest| oldest.min(stream.tail()));
        if through > self.trimmed {
            self.trimmed = through;
            out.list.push(Output::Trim { tenure: stream.tenure(), through });
        }
    }

    /// Takes over the log's snapshot: rebuilds runs and message ids, and ends the runs that had an agent. If a bound
    /// has become smaller, queued and paused runs beyond it end too.
    pub(super) fn recall(&mut self, bounds: &Bounds, snapshot: Snapshot<P>, out: &mut Outputs<P>) {
        for Entry { offset, event, .. } in &snapshot.entries {
            if let Kind::Received(received) = event.kind {
                let Received { message, schedule, .. } = received;
                self.known.insert(message, Known { run: event.run, offset: Some(*offset) });
                self.unsettled.insert(event.run, Unsettled { message, offset: *offset });
                self.runs.insert(event.run, Run::recall(received));
                if schedule == Schedule::Queued {
                    self.queue.push_back(Waiting { run: event.run, payload: event.payload.clone() });
                }
            } else if let Some(run) = self.runs.get_mut(&event.run) {
                run.replay(event.kind);
                if event.kind.is_terminal() {
                    self.unsettled.remove(&event.run);
                }
            }
        }
        self.runs.retain(|_, run| run.is_open());
        self.queue.retain(|waiting| self.runs.get(&waiting.run).is_some_and(Run::is_queued));
        let older = snapshot.past.len().saturating_sub(super::MAX_PAST);
        self.past = snapshot.past.iter().skip(older).copied().collect();
        self.trimmed = snapshot.trimmed;
        (self.read, self.noted) = (snapshot.read, snapshot.read);
        let mut outputs = core::mem::take(&mut out.stream);
        self.stream = Some(Stream::restore(bounds, snapshot, &mut outputs));
        for output in outputs.drain(..) {
            match output {
                stream::Output::Trimmed(entry) => self.forget(&entry, out),
                stream::Output::Deleted(entry) => self.deleted(bounds, &entry, out),
                stream::Output::Write { .. }
                | stream::Output::Readable(_)
                | stream::Output::Arm(..)
                | stream::Output::Disarm(_) => {}
            }
        }
        out.stream = outputs;
        // A paused run needs room for one event more than its end.
        let ends = self.reserve() - self.runs.values().filter(|run| run.paused().is_some()).count();
        let most = bounds.runs.min(bounds.pending.saturating_sub(ends));
        let is_kept = |(_, run): &(&RunId, &Run)| run.paused().is_some() && run.check(bounds).is_ok();
        let paused = self.runs.iter().filter(is_kept).take(most).map(|(id, _)| *id);
        let queued = self.queue.iter().take(bounds.queued).map(|waiting| waiting.run);
        let kept: Vec<RunId> = queued.chain(paused).collect();
        let all: Vec<RunId> = self.runs.keys().copied().collect();
        for run in all {
            if kept.contains(&run) {
                self.recover(bounds, run, out);
            } else {
                let _ = self.run(bounds, run, run::Input::Interrupt, None, out);
            }
        }
    }

    /// Arms the timer of a run that a restart found paused.
    fn recover(&mut self, bounds: &Bounds, id: RunId, out: &mut Outputs<P>) {
        let Some(run) = self.runs.get(&id) else { return };
        let mut outputs = core::mem::take(&mut out.run);
        run.recover(bounds, &mut outputs);
        let thread = run.thread();
        self.apply(bounds, (id, thread), None, &mut outputs, out);
        out.run = outputs;
    }
}

impl run::Input {
    /// Whether the input comes from our own side, so that arriving too late is not an error.
    const fn is_ours(&self) -> bool {
        match self {
            Self::Dequeue | Self::Resume(_) | Self::Abandon | Self::Cancel | Self::Interrupt | Self::Expired(_) => true,
            Self::Start
            | Self::Think
            | Self::Say(_)
            | Self::Alive
            | Self::OpenTool(_)
            | Self::CloseTool(..)
            | Self::Pause
            | Self::Complete
            | Self::Fail => false,
        }
    }
}
