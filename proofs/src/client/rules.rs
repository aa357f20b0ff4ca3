//! What must come of each input to a client, from the inputs alone.

use lockstep_model::client::{Input, Output};
use lockstep_model::frame::From;
use lockstep_model::run::Kind;
use lockstep_model::{
    Bounds, Code, ConnectionId, Control, Frame, Generation, MessageId, Position, Refusal, Request, Resume, RunId, Timer,
};
use std::time::Duration;

use crate::machines::Armed;

/// Where the client must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Idle,
    Backoff,
    Connecting,
    Authenticating,
    Live,
    Stopped(u16),
}

/// A message that nobody has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Unanswered {
    pub(super) message: MessageId,
    pub(super) payload: u8,
    /// Whether this socket has carried it.
    pub(super) here: bool,
    /// Whether any has.
    pub(super) ever: bool,
}

/// What is known of a client without asking it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rules {
    pub(super) phase: Phase,
    pub(super) waiting: bool,
    pub(super) socket: u32,
    pub(super) asked: u32,
    pub(super) token: Option<u8>,
    pub(super) begin: From,
    pub(super) connection: Option<ConnectionId>,
    pub(super) queue: Vec<Unanswered>,
    pub(super) failures: u8,
    pub(super) forgot: bool,
}

/// What must come of an input: orders other than timers; nothing; or a refusal.
pub(super) type Answer = Result<Option<Vec<Output<u8>>>, Refusal>;

impl Rules {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Idle,
            waiting: false,
            socket: 0,
            asked: 0,
            token: None,
            begin: From::Latest,
            connection: None,
            queue: Vec::new(),
            failures: 0,
            forgot: false,
        }
    }

    pub(super) fn has_socket(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::Authenticating | Phase::Live)
    }

    pub(super) fn timers(&self) -> Armed {
        let mut armed = Armed::default();
        match self.phase {
            Phase::Idle | Phase::Stopped(_) => {}
            Phase::Backoff => armed.arm(Timer::Backoff),
            Phase::Connecting | Phase::Authenticating => armed.arm(Timer::Connect),
            Phase::Live => armed.arm(Timer::Heartbeat),
        }
        armed
    }

    /// The pause after so many failures in a row: it doubles, up to the most.
    fn pause_length(&self, bounds: &Bounds) -> Duration {
        (0..self.failures).fold(bounds.backoff, |pause, _| (pause * 2).min(bounds.backoff_most))
    }

    pub(super) fn hear(&mut self, bounds: &Bounds, input: &Input<u8>) -> Answer {
        let mut out = Vec::new();
        let current = Generation(self.socket);
        match (self.phase, input) {
            (_, Input::Send { message, payload }) => {
                if self.queue.iter().any(|queued| queued.message == *message) {
                    return Err(Refusal::Misuse);
                }
                self.queue.push(Unanswered { message: *message, payload: *payload, here: false, ever: false });
                if self.phase == Phase::Live {
                    self.flush(&mut out);
                }
            }
            (_, Input::Token { asked, .. }) if asked.0 != self.asked => return Ok(None),
            (phase, Input::Token { token, .. }) => {
                self.token = Some(*token);
                match phase {
                    Phase::Live => {
                        let auth = Request::Auth { token: *token, resume: Resume::default() };
                        out.push(Output::Write(auth));
                    }
                    Phase::Stopped(_) => self.pause(bounds, &mut out),
                    Phase::Idle | Phase::Backoff | Phase::Connecting | Phase::Authenticating => {}
                }
            }
            (Phase::Idle, Input::Connect) | (Phase::Backoff, Input::Expired(Timer::Backoff)) => {
                self.socket += 1;
                for queued in &mut self.queue {
                    queued.here = false;
                }
                self.phase = Phase::Connecting;
                out.push(Output::Open { socket: Generation(self.socket) });
            }
            (Phase::Stopped(_), Input::Connect) => self.pause(bounds, &mut out),
            (Phase::Idle, Input::Disconnect) => return Ok(None),
            (_, Input::Disconnect) => self.leave(Phase::Idle, &mut out),
            (Phase::Connecting, Input::Opened { socket }) if *socket == current => match self.token {
                Some(token) => {
                    self.phase = Phase::Authenticating;
                    let resume = Resume { from: self.begin, replaces: self.connection };
                    out.push(Output::Write(Request::Auth { token, resume }));
                }
                None => {
                    self.ask(&mut out);
                    self.leave(Phase::Stopped(4504), &mut out);
                }
            },
            (Phase::Connecting | Phase::Authenticating, Input::Expired(Timer::Connect)) => self.pause(bounds, &mut out),
            (Phase::Live, Input::Expired(Timer::Heartbeat)) if self.waiting => self.pause(bounds, &mut out),
            (Phase::Live, Input::Expired(Timer::Heartbeat)) => {
                self.waiting = true;
                out.push(Output::Write(Request::Ping));
            }
            (Phase::Authenticating | Phase::Live, Input::Frame { socket, connection, frame }) if *socket == current => {
                return Ok(self.frame(bounds, *connection, frame));
            }
            (Phase::Connecting | Phase::Authenticating | Phase::Live, Input::Closed { socket, code })
                if *socket == current =>
            {
                self.closed(bounds, *code, &mut out);
            }
            (
                _,
                Input::Connect | Input::Opened { .. } | Input::Frame { .. } | Input::Closed { .. } | Input::Expired(_),
            ) => return Ok(None),
        }
        Ok(Some(out))
    }

    fn frame(&mut self, bounds: &Bounds, connection: ConnectionId, frame: &Frame<u8>) -> Option<Vec<Output<u8>>> {
        let mut out = Vec::new();
        let live = self.phase == Phase::Live;
        match frame {
            Frame::Control(Control::Ready { epoch, offset, resumed, .. }) if !live => {
                if !resumed {
                    self.give_up(&mut out);
                }
                (self.phase, self.failures) = (Phase::Live, 0);
                self.begin = From::After(Position { epoch: *epoch, offset: *offset });
                self.connection = Some(connection);
                self.flush(&mut out);
            }
            Frame::Close(cause) => self.closed(bounds, cause.code(), &mut out),
            Frame::Control(_) | Frame::Event(_) if !live => return None,
            Frame::Event(entry) => {
                self.waiting = false;
                let From::After(position) = &mut self.begin else { return None };
                if entry.offset <= position.offset {
                    return None;
                }
                if entry.previous != position.offset {
                    self.pause(bounds, &mut out);
                    return Some(out);
                }
                position.offset = entry.offset;
                if let Kind::Received(message) = entry.event.kind {
                    self.answered(message, entry.event.run, &mut out);
                }
                out.push(Output::Deliver(entry.clone()));
            }
            Frame::Control(control) => {
                self.waiting = false;
                self.control(bounds, control, &mut out);
            }
        }
        Some(out)
    }

    fn control(&mut self, bounds: &Bounds, control: &Control<u8>, out: &mut Vec<Output<u8>>) {
        match control {
            Control::StreamReset { from, to } => {
                // Up to where it reads everything was seen, or given up when it was told to be gone.
                let known = matches!(self.begin, From::After(position) if *to <= position.offset);
                if !known {
                    self.give_up(out);
                }
                if let From::After(position) = &mut self.begin {
                    position.offset = position.offset.max(*to);
                }
                out.push(Output::Reset { from: *from, to: *to });
            }
            Control::Known { message, run, .. } => self.answered(*message, *run, out),
            Control::Refused { message, code } => {
                let message = *message;
                self.queue.retain(|queued| queued.message != message);
                let unknown = *code == Code::Forgotten;
                out.push(if unknown { Output::Unknown { message } } else { Output::Refused { message, code: *code } });
            }
            Control::Error(code) => out.push(Output::Error(*code)),
            Control::Notice(payload) => out.push(Output::Notice(*payload)),
            Control::AuthExpiring => self.ask(out),
            Control::GoingAway(_) => self.pause(bounds, out),
            Control::Ready { .. } | Control::AuthOk | Control::Mode(_) | Control::Pong | Control::Probe => {}
        }
    }

    fn answered(&mut self, message: MessageId, run: RunId, out: &mut Vec<Output<u8>>) {
        let before = self.queue.len();
        self.queue.retain(|queued| queued.message != message);
        if self.queue.len() < before {
            out.push(Output::Accepted { message, run });
        }
    }

    /// Nobody will tell any more whether what was written ran.
    fn give_up(&mut self, out: &mut Vec<Output<u8>>) {
        for queued in std::mem::take(&mut self.queue) {
            if queued.ever {
                self.forgot = true;
                out.push(Output::Unknown { message: queued.message });
            } else {
                self.queue.push(queued);
            }
        }
    }

    /// What this socket has not carried is written once, and says whether another has.
    fn flush(&mut self, out: &mut Vec<Output<u8>>) {
        for Unanswered { message, payload, here, ever } in &mut self.queue {
            if !*here {
                let (message, payload, repeat) = (*message, *payload, *ever);
                out.push(Output::Write(Request::Message { message, run: RunId(0), payload, repeat }));
            }
            (*here, *ever) = (true, true);
        }
    }

    fn ask(&mut self, out: &mut Vec<Output<u8>>) {
        self.asked += 1;
        out.push(Output::NeedToken { asked: Generation(self.asked) });
    }

    fn leave(&mut self, phase: Phase, out: &mut Vec<Output<u8>>) {
        if self.has_socket() {
            out.push(Output::Close { socket: Generation(self.socket) });
        }
        (self.phase, self.waiting) = (phase, false);
    }

    fn pause(&mut self, bounds: &Bounds, out: &mut Vec<Output<u8>>) {
        self.leave(Phase::Backoff, out);
        out.push(Output::Pause(self.pause_length(bounds)));
        self.failures += 1;
    }

    fn closed(&mut self, bounds: &Bounds, code: u16, out: &mut Vec<Output<u8>>) {
        if away(code) {
            self.leave(Phase::Stopped(code), out);
            self.ask(out);
        } else {
            self.pause(bounds, out);
        }
    }
}

/// 4500 and more, and what would only fail again: not until something changes. Everything else: come back.
pub(super) fn away(code: u16) -> bool {
    matches!(code, 1002 | 1003 | 1007 | 1008 | 1009 | 1010 | 4500..5000)
}
