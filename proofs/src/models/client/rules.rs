//! The required reaction of a client to each input, from the inputs alone.

use lockstep_model::client::{Input, Output};
use lockstep_model::frame::ReadFrom;
use lockstep_model::run::Kind;
use lockstep_model::{
    Bounds, Code, ConnectionId, Control, Frame, MessageId, Mode, Position, Refusal, Request, Resume, RunId, SocketId,
    ThreadId, Timer, TokenRequestId,
};
use std::time::Duration;

use std::collections::BTreeMap;

use crate::models::harness::Armed;

/// The expected phase of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Idle,
    Backoff,
    Connecting,
    Authenticating,
    Live,
    /// The gateway takes no message, because it is leaving.
    Holding,
    Leaving,
    Stopped(u16),
}

/// An unsettled message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Unanswered {
    pub(super) message: MessageId,
    pub(super) payload: u8,
    pub(super) size: u32,
    /// Whether it was written to the current socket.
    pub(super) here: bool,
    /// The number of sockets to which it was written.
    pub(super) times: u8,
}

/// How a message was settled in the last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Settled {
    No,
    Answered,
    Refused,
    TooLong,
    Unknown,
}

/// The expected state of a client, from the inputs alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rules {
    pub(super) phase: Phase,
    pub(super) waiting: bool,
    pub(super) socket: u32,
    pub(super) asked: u32,
    pub(super) token: Option<u8>,
    pub(super) begin: ReadFrom,
    pub(super) connection: Option<ConnectionId>,
    pub(super) queue: Vec<Unanswered>,
    pub(super) failures: u8,
    /// Whether the connection has yet to prove stable.
    pub(super) unproven: bool,
    pub(super) longest: u32,
    /// Open runs.
    pub(super) runs: BTreeMap<RunId, Option<ThreadId>>,
    /// Whether the gateway left as planned and nothing has taken its place.
    pub(super) succession: bool,
    pub(super) settled: Settled,
    /// The deadlines that the last input must arm.
    pub(super) deadlines: Vec<(Timer, Duration)>,
}

/// The required answer to an input: outputs other than timers, nothing, or a refusal.
pub(super) type Answer = Result<Option<Vec<Output<u8>>>, Refusal>;

impl Rules {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Idle,
            waiting: false,
            socket: 0,
            asked: 0,
            token: None,
            begin: ReadFrom::Latest,
            connection: None,
            queue: Vec::new(),
            failures: 0,
            unproven: false,
            longest: u32::MAX,
            runs: BTreeMap::new(),
            succession: false,
            settled: Settled::No,
            deadlines: Vec::new(),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Live | Phase::Holding | Phase::Leaving)
    }

    pub(super) fn has_socket(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::Authenticating) || self.is_ready()
    }

    pub(super) fn timers(&self) -> Armed {
        let mut armed = Armed::default();
        match self.phase {
            Phase::Idle | Phase::Stopped(_) => {}
            Phase::Backoff => armed.arm(Timer::Backoff),
            Phase::Connecting | Phase::Authenticating => armed.arm(Timer::Connect),
            Phase::Live | Phase::Holding | Phase::Leaving => {
                armed.arm(Timer::Heartbeat);
                let others = [
                    (self.unproven, Timer::Stable),
                    (self.oldest().is_some() || self.holds(), Timer::Answer),
                    (self.phase == Phase::Leaving, Timer::Leave),
                ];
                for (_, timer) in others.into_iter().filter(|(runs, _)| *runs) {
                    armed.arm(timer);
                }
            }
        }
        armed
    }

    /// Returns the message that has waited longest for its answer on this socket.
    fn oldest(&self) -> Option<MessageId> {
        self.queue.iter().filter(|_| self.is_ready()).find(|queued| queued.here).map(|queued| queued.message)
    }

    /// Whether messages wait because the gateway said that it is leaving.
    fn holds(&self) -> bool {
        self.phase == Phase::Holding && !self.queue.is_empty()
    }

    fn awaits(&self) -> bool {
        self.oldest().is_some() || !self.runs.is_empty()
    }

    /// Returns the pause after a number of consecutive failures: it doubles up to the maximum, which is lower while a
    /// successor is awaited.
    fn pause_length(&self, bounds: &Bounds) -> Duration {
        let most = if self.succession { bounds.backoff_most.min(bounds.backoff * 4) } else { bounds.backoff_most };
        (0..self.failures).fold(bounds.backoff, |pause, _| (pause * 2).min(most))
    }

    pub(super) fn feed(&mut self, bounds: &Bounds, input: &Input<u8>) -> Answer {
        (self.settled, self.deadlines) = (Settled::No, Vec::new());
        let quiet = !self.waiting && self.is_ready();
        let (oldest, holds, awaits) = (self.oldest(), self.holds(), self.awaits());
        let answer = self.input(bounds, input);
        if !self.is_ready() {
            return answer;
        }
        let asked = self.oldest().is_some() && self.oldest() != oldest;
        let begins_to_hold = self.oldest().is_none() && self.holds() && (oldest.is_some() || !holds);
        if asked || begins_to_hold {
            self.deadlines.push((Timer::Answer, bounds.answer));
        }
        if !self.waiting && (!quiet || self.awaits() & !awaits) {
            let next = if self.awaits() { bounds.pong / 2 } else { bounds.heartbeat };
            self.deadlines.push((Timer::Heartbeat, next));
        }
        answer
    }

    fn input(&mut self, bounds: &Bounds, input: &Input<u8>) -> Answer {
        let mut out = Vec::new();
        let current = SocketId(self.socket);
        match (self.phase, input) {
            (_, Input::Send { message, payload, size }) => {
                if self.queue.iter().any(|queued| queued.message == *message) {
                    return Err(Refusal::Misuse);
                }
                let (message, payload, size) = (*message, *payload, *size);
                self.queue.push(Unanswered { message, payload, size, here: false, times: 0 });
                self.shorten(&mut out);
                self.flush(&mut out);
            }
            (_, Input::Withdraw { message }) => {
                let before = self.queue.len();
                self.queue.retain(|queued| queued.times > 0 || queued.message != *message);
                if self.queue.len() == before {
                    return Ok(None);
                }
            }
            (_, Input::Token { asked, .. }) if asked.0 != self.asked => return Ok(None),
            (_, Input::Token { token, .. }) => self.credential(bounds, *token, &mut out),
            (_, Input::Present { token }) => {
                self.asked += 1;
                self.credential(bounds, *token, &mut out);
            }
            (Phase::Idle, Input::Connect) | (Phase::Backoff, Input::Expired(Timer::Backoff)) => {
                self.open(bounds, &mut out);
            }
            (Phase::Stopped(_), Input::Connect) if self.token.is_none() => self.ask(&mut out),
            (Phase::Stopped(_), Input::Connect) => self.pause(bounds, &mut out),
            (Phase::Idle, Input::Disconnect) => return Ok(None),
            (_, Input::Disconnect) => self.leave(Phase::Idle, &mut out),
            (Phase::Connecting, Input::Opened { socket }) if *socket == current => {
                let Some(token) = self.token else { return Ok(None) };
                self.phase = Phase::Authenticating;
                let resume = Resume { from: self.begin, replaces: self.connection };
                out.push(Output::Write(Request::Auth { token, resume }));
            }
            (Phase::Connecting | Phase::Authenticating, Input::Expired(Timer::Connect)) => self.pause(bounds, &mut out),
            (Phase::Authenticating, Input::Limits { socket, longest }) if *socket == current => {
                self.longest = *longest;
                self.shorten(&mut out);
            }
            (Phase::Live | Phase::Holding | Phase::Leaving, Input::Expired(Timer::Heartbeat)) if self.waiting => {
                self.pause(bounds, &mut out);
            }
            (Phase::Live | Phase::Holding | Phase::Leaving, Input::Expired(Timer::Heartbeat)) => {
                self.waiting = true;
                out.push(Output::Write(Request::Ping));
                let patience = bounds.pong * [1, 2, 4, 8][usize::from(self.failures.min(3))];
                self.deadlines.push((Timer::Heartbeat, patience));
            }
            (Phase::Live | Phase::Holding | Phase::Leaving, Input::Expired(Timer::Stable)) => {
                (self.failures, self.unproven) = (0, false);
            }
            (Phase::Holding, Input::Expired(Timer::Answer)) if self.oldest().is_none() => self.go_on(&mut out),
            (Phase::Live | Phase::Holding | Phase::Leaving, Input::Expired(Timer::Answer)) => {
                let oldest = self.oldest();
                self.unknown(|queued| Some(queued.message) == oldest, &mut out);
            }
            (Phase::Leaving, Input::Expired(Timer::Leave)) if self.failures == 0 => {
                self.failures = 1;
                self.leave(Phase::Backoff, &mut out);
                self.open(bounds, &mut out);
            }
            (Phase::Leaving, Input::Expired(Timer::Leave)) => self.pause(bounds, &mut out),
            (
                Phase::Authenticating | Phase::Live | Phase::Holding | Phase::Leaving,
                Input::Frame { socket, connection, frame },
            ) if *socket == current => {
                return Ok(self.frame(bounds, *connection, frame));
            }
            (_, Input::Closed { socket, code }) if *socket == current && self.has_socket() => {
                self.closed(bounds, *code, &mut out);
            }
            (
                _,
                Input::Connect
                | Input::Opened { .. }
                | Input::Limits { .. }
                | Input::Frame { .. }
                | Input::Closed { .. }
                | Input::Expired(_),
            ) => return Ok(None),
        }
        Ok(Some(out))
    }

    fn frame(&mut self, bounds: &Bounds, connection: ConnectionId, frame: &Frame<u8>) -> Option<Vec<Output<u8>>> {
        let mut out = Vec::new();
        let (ready, heard) = (self.is_ready(), std::mem::take(&mut self.waiting));
        match frame {
            Frame::Control(Control::Ready { epoch, offset, resumed, .. }) if !ready => {
                if !resumed {
                    self.unknown(|queued| queued.times > 0, &mut out);
                    self.runs.clear();
                }
                (self.phase, self.unproven, self.succession) = (Phase::Live, true, false);
                self.deadlines.push((Timer::Stable, bounds.stable));
                self.begin = ReadFrom::After(Position { epoch: *epoch, offset: *offset });
                self.connection = Some(connection);
                self.flush(&mut out);
            }
            Frame::Close(cause) => self.closed(bounds, cause.code(), &mut out),
            Frame::Control(_) | Frame::Event(_) if !ready => return None,
            Frame::Event(entry) => {
                let ReadFrom::After(position) = &mut self.begin else { return None };
                if entry.offset <= position.offset {
                    return heard.then_some(out);
                }
                if entry.previous != position.offset {
                    self.pause(bounds, &mut out);
                    return Some(out);
                }
                position.offset = entry.offset;
                if let Kind::Received(received) = entry.event.kind {
                    self.answered(received.message, entry.event.run, &mut out);
                }
                match entry.event.kind {
                    Kind::Completed | Kind::Error(_) | Kind::Paused(_) | Kind::Notice => {
                        self.runs.remove(&entry.event.run);
                    }
                    Kind::Deleted => self.runs.retain(|_, thread| *thread != entry.event.thread),
                    Kind::Received(_)
                    | Kind::Started
                    | Kind::Thinking
                    | Kind::Delta(_)
                    | Kind::ToolExecuting(_)
                    | Kind::ToolCompleted(..)
                    | Kind::Resumed(_) => {
                        self.runs.insert(entry.event.run, entry.event.thread);
                    }
                }
                out.push(Output::Deliver(entry.clone()));
            }
            Frame::Control(control) => self.control(bounds, control, &mut out),
        }
        Some(out)
    }

    fn control(&mut self, bounds: &Bounds, control: &Control<u8>, out: &mut Vec<Output<u8>>) {
        match control {
            Control::StreamReset { from, to } => {
                // Everything before the read position was seen, or was skipped because it was reported as gone.
                let known = matches!(self.begin, ReadFrom::After(position) if *to <= position.offset);
                if !known {
                    self.unknown(|queued| queued.times > 0, out);
                    self.runs.clear();
                }
                if let ReadFrom::After(position) = &mut self.begin {
                    position.offset = position.offset.max(*to);
                }
                out.push(Output::Reset { from: *from, to: *to });
            }
            Control::Known { message, run, .. } => self.answered(*message, *run, out),
            Control::Answer(_) | Control::Unanswered { .. } => {}
            Control::Refused { message, code: Code::Draining }
                if self.queue.iter().any(|queued| queued.message == *message) =>
            {
                // It has not run, so it counts as not written to this socket.
                for queued in self.queue.iter_mut().filter(|queued| queued.here && queued.message == *message) {
                    (queued.here, queued.times) = (false, queued.times - 1);
                }
                if self.phase == Phase::Live {
                    self.phase = Phase::Holding;
                }
            }
            Control::Mode(mode) if !matches!(mode, Mode::HandingOver | Mode::Draining) => self.go_on(out),
            Control::Refused { message, code } => {
                let message = *message;
                self.queue.retain(|queued| queued.message != message);
                let unknown = *code == Code::Forgotten;
                self.settled = if unknown { Settled::Unknown } else { Settled::Refused };
                out.push(if unknown { Output::Unknown { message } } else { Output::Refused { message, code: *code } });
            }
            Control::Error(code) => out.push(Output::Error(*code)),
            Control::Notice(payload) => out.push(Output::Notice(*payload)),
            Control::AuthExpiring => self.ask(out),
            Control::GoingAway(_) => {
                self.phase = Phase::Leaving;
                self.goes();
                self.deadlines.push((Timer::Leave, bounds.backoff));
            }
            Control::Ready { .. } | Control::AuthOk | Control::Mode(_) | Control::Pong | Control::Probe => {}
        }
    }

    /// The gateway stays after all: waiting messages are written.
    fn go_on(&mut self, out: &mut Vec<Output<u8>>) {
        if self.phase == Phase::Holding {
            self.phase = Phase::Live;
            self.flush(out);
        }
    }

    /// The gateway leaves, and will be succeeded if it had proved stable.
    fn goes(&mut self) {
        if self.failures == 0 {
            self.succession = true;
        }
    }

    fn answered(&mut self, message: MessageId, run: RunId, out: &mut Vec<Output<u8>>) {
        let before = self.queue.len();
        self.queue.retain(|queued| queued.message != message);
        if self.queue.len() < before {
            self.settled = Settled::Answered;
            out.push(Output::Accepted { message, run });
        }
    }

    /// It can no longer be determined whether these messages ran.
    fn unknown(&mut self, which: impl Fn(&Unanswered) -> bool, out: &mut Vec<Output<u8>>) {
        for queued in std::mem::take(&mut self.queue) {
            if which(&queued) {
                self.settled = Settled::Unknown;
                out.push(Output::Unknown { message: queued.message });
            } else {
                self.queue.push(queued);
            }
        }
    }

    /// Messages that the gateway would not accept go back to their user, unless they were already written to a socket.
    fn shorten(&mut self, out: &mut Vec<Output<u8>>) {
        for queued in std::mem::take(&mut self.queue) {
            let message = queued.message;
            if queued.size <= self.longest {
                self.queue.push(queued);
            } else if queued.times > 0 {
                self.settled = Settled::Unknown;
                out.push(Output::Unknown { message });
            } else {
                self.settled = Settled::TooLong;
                out.push(Output::TooLong { message });
            }
        }
    }

    /// Each message that was not written to this socket is written once, and says whether another socket had it. The
    /// search does not go far enough to write a message too often: see [`super::Peer::repeats`].
    fn flush(&mut self, out: &mut Vec<Output<u8>>) {
        if self.phase != Phase::Live {
            return;
        }
        for Unanswered { message, payload, here, times, .. } in &mut self.queue {
            if !*here {
                let (message, payload, repeat) = (*message, *payload, *times > 0);
                out.push(Output::Write(Request::Message {
                    message,
                    thread: ThreadId(0),
                    run: RunId(0),
                    payload,
                    repeat,
                    replaces: None,
                }));
                (*here, *times) = (true, *times + 1);
            }
        }
    }

    fn credential(&mut self, bounds: &Bounds, token: u8, out: &mut Vec<Output<u8>>) {
        self.token = Some(token);
        match self.phase {
            Phase::Live | Phase::Holding | Phase::Leaving => {
                out.push(Output::Write(Request::Auth { token, resume: Resume::default() }));
            }
            Phase::Stopped(_) if self.socket == 0 => self.open(bounds, out),
            Phase::Stopped(_) => self.pause(bounds, out),
            Phase::Idle | Phase::Backoff | Phase::Connecting | Phase::Authenticating => {}
        }
    }

    fn ask(&mut self, out: &mut Vec<Output<u8>>) {
        self.asked += 1;
        out.push(Output::NeedToken { asked: TokenRequestId(self.asked) });
    }

    fn open(&mut self, bounds: &Bounds, out: &mut Vec<Output<u8>>) {
        if self.token.is_none() {
            self.phase = Phase::Stopped(4504);
            return self.ask(out);
        }
        self.socket += 1;
        for queued in &mut self.queue {
            queued.here = false;
        }
        self.phase = Phase::Connecting;
        self.deadlines.push((Timer::Connect, bounds.connect));
        out.push(Output::Open { socket: SocketId(self.socket) });
    }

    fn leave(&mut self, phase: Phase, out: &mut Vec<Output<u8>>) {
        if self.has_socket() {
            out.push(Output::Close { socket: SocketId(self.socket) });
        }
        (self.phase, self.waiting, self.unproven) = (phase, false, false);
    }

    fn pause(&mut self, bounds: &Bounds, out: &mut Vec<Output<u8>>) {
        self.leave(Phase::Backoff, out);
        out.push(Output::Pause(self.pause_length(bounds)));
        self.failures += 1;
    }

    fn closed(&mut self, bounds: &Bounds, code: u16, out: &mut Vec<Output<u8>>) {
        match code {
            4000 => self.goes(),
            // A lost socket implies nothing about a gateway that has said that it is leaving.
            1006 => {}
            _ => self.succession = false,
        }
        let before = self.queue.len();
        if matches!(code, 1002 | 1003 | 1007 | 1009) {
            self.unknown(|queued| queued.here, out);
        }
        if away(code) && self.queue.len() == before {
            self.leave(Phase::Stopped(code), out);
            self.ask(out);
        } else {
            self.pause(bounds, out);
        }
    }
}

/// 4500 and above, and codes where a retry would only fail again: stay away until something changes. All others: come
/// back.
pub(super) fn away(code: u16) -> bool {
    matches!(code, 1002 | 1003 | 1007 | 1008 | 1009 | 1010 | 4500..5000)
}
