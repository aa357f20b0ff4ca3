//! The other end: connects, resumes, refreshes, backs off, and notices a gateway that is gone.
//!
//! ```text
#![doc = include_str!("diagram/client.txt")]
//! ```
//!
//! The proofs use it as the environment of the gateway, the Rust client and the load generator as their code, and the
//! JavaScript client follows it state by state.
//!
//! * One socket at a time. Each has a [`Generation`]; what an older one still says is ignored.
//! * Every attempt to connect after the first is preceded by a pause that doubles, unless its user has disconnected and
//!   connects again: a person who asks is not made to wait. The edge draws the pause between half and the whole of what
//!   is ordered, so that clients do not come back in step.
//! * A close code of 4500 or more stops it until there is a new credential, or the user asks again.
//! * The application's heartbeat finds a half-open socket: a browser never sees protocol pings.
//! * A message is repeated on the next connection until it is answered, with the same id, so that it runs once (RUN-2).
//!   A repetition says that it is one: if what the client missed is not retained any more, neither is the knowledge
//!   whether the message ran, and the gateway refuses it as forgotten. What was written before a gap is not repeated
//!   behind it, for the same reason. Either way the user is told that it is not known whether the message ran. (A gap of
//!   which `connection_ready` told is behind when its `stream_reset` comes, which takes nothing that was written since.)
//! * Within an epoch reading never goes back, whatever offset a `stream_reset` names.
//! * A new credential is asked for with a [`Generation`] too, and only the newest answer counts.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::bounds::Bounds;
use crate::close::{Advice, advice};
use crate::frame::{Code, Control, Frame, From, Request, Resume};
use crate::id::{ConnectionId, Generation, MessageId, Offset, Position, RunId};
use crate::run::Kind;
use crate::stream::Entry;
use crate::timer::Timer;
use crate::{Handled, Refusal};

/// Where the client is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// Not asked to connect.
    Idle,
    /// Pausing before the next attempt.
    Backoff,
    /// The socket is being opened.
    Connecting,
    /// The credential was sent; `connection_ready` is awaited.
    Authenticating,
    /// Ready.
    Live {
        /// Whether a heartbeat is unanswered.
        waiting: bool,
    },
    /// The gateway said not to come back as before.
    Stopped {
        /// Its close code.
        code: u16,
    },
}

/// A message that is not answered yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Outgoing<P> {
    /// The client's name for it.
    pub message: MessageId,
    /// The message.
    pub payload: P,
    /// The newest socket that it was written to; zero before the first.
    pub socket: Generation,
}

/// What happens to a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input<P> {
    /// The user wants to be connected.
    Connect,
    /// The user does not.
    Disconnect,
    /// The user sends a message.
    Send {
        /// A fresh id.
        message: MessageId,
        /// The message.
        payload: P,
    },
    /// A credential: the first, or the answer to [`Output::NeedToken`].
    Token {
        /// Which asking it answers.
        asked: Generation,
        /// The credential.
        token: P,
    },
    /// The socket is open.
    Opened {
        /// Which socket.
        socket: Generation,
    },
    /// The gateway sent a frame.
    Frame {
        /// On which socket.
        socket: Generation,
        /// The connection's id, as `connection_ready` tells it.
        connection: ConnectionId,
        /// The frame.
        frame: Frame<P>,
    },
    /// The socket is closed or lost.
    Closed {
        /// Which socket.
        socket: Generation,
        /// The close code; 1006 when there was none.
        code: u16,
    },
    /// A timer fired: [`Timer::Backoff`], [`Timer::Connect`] or [`Timer::Heartbeat`].
    Expired(Timer),
}

/// What must be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output<P> {
    /// Open a socket.
    Open {
        /// Its generation.
        socket: Generation,
    },
    /// Drop the socket.
    Close {
        /// Its generation.
        socket: Generation,
    },
    /// Write a request. The edge fills in a run id of no meaning, for the gateway makes its own.
    Write(Request<P>),
    /// Get a new credential, and answer with [`Input::Token`].
    NeedToken {
        /// To be quoted with the answer.
        asked: Generation,
    },
    /// Show an event.
    Deliver(Entry<P>),
    /// Show what the service has for this connection alone.
    Notice(P),
    /// Show that what lay between is gone.
    Reset {
        /// The last offset before the gap.
        from: Offset,
        /// The last offset of the gap.
        to: Offset,
    },
    /// The message runs, or ran before.
    Accepted {
        /// The message.
        message: MessageId,
        /// Its run.
        run: RunId,
    },
    /// The message was not accepted. It may be sent again, with a new id.
    Refused {
        /// The message.
        message: MessageId,
        /// Why.
        code: Code,
    },
    /// It cannot be known whether the message ran.
    Unknown {
        /// The message.
        message: MessageId,
    },
    /// Something of ours was not understood, or not allowed.
    Error(Code),
    /// Set a timer.
    Arm(Timer, Duration),
    /// Set [`Timer::Backoff`] to a moment drawn between half of this and this.
    Pause(Duration),
    /// Call a timer off.
    Disarm(Timer),
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Client<P> {
    state: State,
    socket: Generation,
    asked: Generation,
    token: Option<P>,
    begin: From,
    connection: Option<ConnectionId>,
    outgoing: VecDeque<Outgoing<P>>,
    tries: u8,
}

/// Messages that a client keeps unanswered.
pub const MAX_OUTGOING: usize = 64;

impl<P: Clone> Client<P> {
    /// A client that will begin reading at `begin`.
    #[must_use]
    pub const fn new(begin: From) -> Self {
        Self {
            state: State::Idle,
            socket: Generation(0),
            asked: Generation(0),
            token: None,
            begin,
            connection: None,
            outgoing: VecDeque::new(),
            tries: 0,
        }
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Its newest socket.
    #[must_use]
    pub const fn socket(&self) -> Generation {
        self.socket
    }

    /// The newest asking for a credential.
    #[must_use]
    pub const fn asked(&self) -> Generation {
        self.asked
    }

    /// Where it has read to, once it knows.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        match self.begin {
            From::After(position) => Some(position),
            From::Latest | From::Earliest => None,
        }
    }

    /// Messages that are not answered.
    #[must_use]
    pub const fn outgoing(&self) -> &VecDeque<Outgoing<P>> {
        &self.outgoing
    }

    /// How many attempts in a row have failed.
    #[must_use]
    pub const fn tries(&self) -> u8 {
        self.tries
    }

    /// Takes one input.
    ///
    /// # Errors
    ///
    /// [`Refusal::Backpressure`] for a message over [`MAX_OUTGOING`], [`Refusal::Misuse`] for an id that is in use.
    /// Nothing changes then. What the gateway, the network and timers do is never refused.
    pub fn step(&mut self, bounds: &Bounds, input: Input<P>, out: &mut Vec<Output<P>>) -> Result<Handled, Refusal> {
        match (self.state, input) {
            (_, Input::Send { message, payload }) => return self.send(message, payload, out),
            (_, Input::Token { asked, .. }) if asked != self.asked => return Ok(Handled::Ignored),
            (state, Input::Token { token, .. }) => {
                self.token = Some(token.clone());
                match state {
                    State::Live { .. } => {
                        out.push(Output::Write(Request::Auth { token, resume: Resume::default() }));
                    }
                    State::Stopped { .. } => self.pause(bounds, out),
                    State::Idle | State::Backoff | State::Connecting | State::Authenticating => {}
                }
            }

            (State::Idle, Input::Connect) => self.open(bounds, out),
            (State::Stopped { .. }, Input::Connect) => self.pause(bounds, out),
            (State::Idle, Input::Disconnect) => return Ok(Handled::Ignored),
            (
                State::Backoff | State::Connecting | State::Authenticating | State::Live { .. } | State::Stopped { .. },
                Input::Disconnect,
            ) => {
                self.drop_socket(out);
                self.state = State::Idle;
            }

            (State::Backoff, Input::Expired(Timer::Backoff)) => self.open(bounds, out),
            (State::Connecting, Input::Opened { socket }) if socket == self.socket => {
                if let Some(token) = self.token.clone() {
                    self.state = State::Authenticating;
                    let resume = Resume { from: self.begin, replaces: self.connection };
                    out.push(Output::Write(Request::Auth { token, resume }));
                } else {
                    self.ask(out);
                    self.drop_socket(out);
                    self.state = State::Stopped { code: crate::Cause::CredentialMissing.code() };
                }
            }
            (State::Connecting | State::Authenticating, Input::Expired(Timer::Connect)) => self.pause(bounds, out),
            (State::Live { waiting: false }, Input::Expired(Timer::Heartbeat)) => {
                self.state = State::Live { waiting: true };
                out.extend([Output::Write(Request::Ping), Output::Arm(Timer::Heartbeat, bounds.heartbeat)]);
            }
            (State::Live { waiting: true }, Input::Expired(Timer::Heartbeat)) => self.pause(bounds, out),

            (State::Authenticating | State::Live { .. }, Input::Frame { socket, connection, frame })
                if socket == self.socket =>
            {
                return Ok(self.frame(bounds, connection, frame, out));
            }
            (State::Connecting | State::Authenticating | State::Live { .. }, Input::Closed { socket, code })
                if socket == self.socket =>
            {
                match advice(code) {
                    Advice::ComeBack | Advice::None => self.pause(bounds, out),
                    Advice::StayAway => self.stop(code, out),
                }
            }

            (State::Backoff | State::Connecting | State::Authenticating | State::Live { .. }, Input::Connect)
            | (
                State::Idle
                | State::Backoff
                | State::Connecting
                | State::Authenticating
                | State::Live { .. }
                | State::Stopped { .. },
                Input::Opened { .. } | Input::Frame { .. } | Input::Closed { .. } | Input::Expired(_),
            ) => return Ok(Handled::Ignored),
        }
        Ok(Handled::Done)
    }

    fn send(&mut self, message: MessageId, payload: P, out: &mut Vec<Output<P>>) -> Result<Handled, Refusal> {
        if self.outgoing.len() >= MAX_OUTGOING {
            return Err(Refusal::Backpressure);
        }
        if self.outgoing.iter().any(|outgoing| outgoing.message == message) {
            return Err(Refusal::Misuse);
        }
        self.outgoing.push_back(Outgoing { message, payload, socket: Generation(0) });
        if matches!(self.state, State::Live { .. }) {
            self.flush(out);
        }
        Ok(Handled::Done)
    }

    /// A frame on the newest socket.
    fn frame(
        &mut self,
        bounds: &Bounds,
        connection: ConnectionId,
        frame: Frame<P>,
        out: &mut Vec<Output<P>>,
    ) -> Handled {
        if let State::Live { waiting } = &mut self.state {
            *waiting = false;
        }
        match (self.state, frame) {
            (State::Authenticating, Frame::Control(Control::Ready { epoch, offset, resumed, .. })) => {
                if !resumed {
                    self.unknown(out);
                }
                self.state = State::Live { waiting: false };
                self.begin = From::After(Position { epoch, offset });
                self.connection = Some(connection);
                self.tries = 0;
                out.extend([Output::Disarm(Timer::Connect), Output::Arm(Timer::Heartbeat, bounds.heartbeat)]);
                self.flush(out);
            }
            (State::Live { .. }, Frame::Event(entry)) => return self.event(bounds, entry, out),
            (State::Live { .. }, Frame::Control(control)) => self.control(bounds, control, out),
            (State::Live { .. } | State::Authenticating, Frame::Close(cause)) => match cause.advice() {
                Advice::ComeBack | Advice::None => self.pause(bounds, out),
                Advice::StayAway => self.stop(cause.code(), out),
            },
            (
                State::Authenticating | State::Idle | State::Backoff | State::Connecting | State::Stopped { .. },
                Frame::Event(_) | Frame::Control(_) | Frame::Close(_),
            ) => return Handled::Ignored,
        }
        Handled::Done
    }

    fn event(&mut self, bounds: &Bounds, entry: Entry<P>, out: &mut Vec<Output<P>>) -> Handled {
        let From::After(position) = &mut self.begin else { return Handled::Ignored };
        if entry.offset <= position.offset {
            return Handled::Ignored;
        }
        if entry.previous > position.offset {
            // Something is missing, and nobody said so: ask again from the last entry that is certain.
            self.pause(bounds, out);
            return Handled::Done;
        }
        position.offset = entry.offset;
        if let Kind::Received(message) = entry.event.kind {
            self.answered(message, entry.event.run, out);
        }
        out.push(Output::Deliver(entry));
        Handled::Done
    }

    fn control(&mut self, bounds: &Bounds, control: Control<P>, out: &mut Vec<Output<P>>) {
        match control {
            Control::StreamReset { from, to } => {
                if let From::After(position) = &mut self.begin
                    && to > position.offset
                {
                    // Reading never goes back: what lies before was shown, and the entries in between will be ignored.
                    position.offset = to;
                    self.unknown(out);
                }
                out.push(Output::Reset { from, to });
            }
            Control::Known { message, run, .. } => self.answered(message, run, out),
            Control::Refused { message, code } => {
                self.outgoing.retain(|outgoing| outgoing.message != message);
                out.push(match code {
                    Code::Forgotten => Output::Unknown { message },
                    Code::Malformed
                    | Code::UnknownType
                    | Code::InvalidField
                    | Code::Degraded
                    | Code::Draining
                    | Code::TooManyRuns
                    | Code::BreakerOpen
                    | Code::Busy
                    | Code::UnknownRun
                    | Code::VerifierUnavailable => Output::Refused { message, code },
                });
            }
            Control::Error(code) => out.push(Output::Error(code)),
            Control::Notice(payload) => out.push(Output::Notice(payload)),
            Control::AuthExpiring => self.ask(out),
            Control::GoingAway(_) => self.pause(bounds, out),
            Control::Ready { .. } | Control::AuthOk | Control::Mode(_) | Control::Pong | Control::Probe => {}
        }
    }

    fn answered(&mut self, message: MessageId, run: RunId, out: &mut Vec<Output<P>>) {
        if let Some(index) = self.outgoing.iter().position(|outgoing| outgoing.message == message) {
            self.outgoing.remove(index);
            out.push(Output::Accepted { message, run });
        }
    }

    /// Gives up on every message that was ever written: whether it ran is not to be found out any more.
    fn unknown(&mut self, out: &mut Vec<Output<P>>) {
        let sent = |outgoing: &Outgoing<P>| outgoing.socket != Generation(0);
        let given_up = self.outgoing.iter().filter(|outgoing| sent(outgoing)).map(|outgoing| outgoing.message);
        out.extend(given_up.map(|message| Output::Unknown { message }));
        self.outgoing.retain(|outgoing| !sent(outgoing));
    }

    /// Writes what this socket has not carried yet.
    fn flush(&mut self, out: &mut Vec<Output<P>>) {
        for outgoing in self.outgoing.iter_mut().filter(|outgoing| outgoing.socket != self.socket) {
            let repeat = outgoing.socket != Generation(0);
            outgoing.socket = self.socket;
            let (message, payload) = (outgoing.message, outgoing.payload.clone());
            out.push(Output::Write(Request::Message { message, run: RunId(0), payload, repeat }));
        }
    }

    fn ask(&mut self, out: &mut Vec<Output<P>>) {
        self.asked = self.asked.next();
        out.push(Output::NeedToken { asked: self.asked });
    }

    fn open(&mut self, bounds: &Bounds, out: &mut Vec<Output<P>>) {
        self.socket = self.socket.next();
        self.state = State::Connecting;
        out.extend([Output::Open { socket: self.socket }, Output::Arm(Timer::Connect, bounds.connect)]);
    }

    fn drop_socket(&mut self, out: &mut Vec<Output<P>>) {
        out.extend([Timer::Backoff, Timer::Connect, Timer::Heartbeat].map(Output::Disarm));
        match self.state {
            State::Connecting | State::Authenticating | State::Live { .. } => {
                out.push(Output::Close { socket: self.socket });
            }
            State::Idle | State::Backoff | State::Stopped { .. } => {}
        }
    }

    /// Drops the socket and comes back after a pause.
    fn pause(&mut self, bounds: &Bounds, out: &mut Vec<Output<P>>) {
        self.drop_socket(out);
        self.state = State::Backoff;
        let pause = bounds.backoff.saturating_mul(1 << self.tries.min(16)).min(bounds.backoff_most);
        self.tries = self.tries.saturating_add(1);
        out.push(Output::Pause(pause));
    }

    /// Drops the socket and stays away until something changes; a new credential is such a thing.
    fn stop(&mut self, code: u16, out: &mut Vec<Output<P>>) {
        self.drop_socket(out);
        self.state = State::Stopped { code };
        self.ask(out);
    }
}
