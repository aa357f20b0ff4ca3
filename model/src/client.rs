//! The client: connects, resumes, refreshes its credential, backs off, and detects a gateway that is gone.
//!
//! ```text
#![doc = include_str!("diagram/client.txt")]
//! ```
//!
//! The proofs use this machine as the gateway's environment, the Rust client and the load generator use it as their
//! code, and the JavaScript client follows it state by state.
//!
//! **CLIENT-1** The client follows each close code's advice, with one socket at a time.
//!
//! * It opens no socket before it has a credential: it requests one, and the first attempt follows the answer.
//! * Each socket has a [`SocketId`]. Inputs from an older socket are ignored.
//! * Every attempt to connect after the first is preceded by a pause that doubles, unless the user has disconnected and
//!   connects again: a user who asks does not wait. The edge draws the pause between half and all of the duration in
//!   the output, so that clients do not return in step. Pauses start over only once a connection has lasted for
//!   [`Bounds::stable`]: `connection_ready` does not prove that the gateway will stay, whatever code it closes with.
//! * A close code of 4500 or more stops the client until there is a new credential or the user connects again. So does
//!   a code that blames the client's frames (1002, 1003, 1007, 1009), unless messages written to that socket can be
//!   given up: then something has changed, and the client returns without them.
//! * The client reads from a gateway that goes away until it closes, or until the announced time is over. The client
//!   then returns at once. While it waits for the successor, its pauses stay short, for [`MAX_SHORT`] attempts. It
//!   expects a successor only if the old gateway had proved stable: one that repeatedly becomes ready and goes away
//!   gets the long pauses.
//! * The heartbeat detects a half-open socket, because a browser never sees protocol pings. While the client awaits the
//!   answer to a message or the rest of a run, the heartbeat comes after half of [`Bounds::pong`], and a gateway that
//!   is gone is detected within one and a half of that bound. After consecutive failures the gateway gets more time,
//!   because the network may be slow.
//! * A request for a new credential has a [`SocketId`] too. Only the newest credential counts, whether requested or
//!   presented.
//!
//! **CLIENT-2** Every message is settled: answered, refused, unknown, or returned to its user.
//!
//! * A message is repeated on the next connection, with the same id, until it is answered, so it runs once (RUN-2). A
//!   repetition is marked as one: if the entries that the client missed are no longer retained, the gateway does not
//!   know either whether the message ran, and refuses it as forgotten. For the same reason, a message that was written
//!   before a gap is not repeated after it. In both cases the user is told that it is unknown whether the message ran.
//!   (If `connection_ready` announced the gap, its `stream_reset` changes nothing for messages that were written
//!   since.)
//! * A message that is refused because the gateway is about to go away ([`Code::Draining`](crate::Code::Draining)) did
//!   not run there. It counts as not written to that socket. The client holds its messages until the next connection,
//!   or until the gateway says that it stays or is still there after [`Bounds::answer`].
//! * A message that is longer than the gateway takes is not written; it is returned to its user.
//! * A message is written to at most [`MAX_WRITES`] sockets, and a gateway that is alive but has not answered the
//!   oldest message within [`Bounds::answer`] will not answer it. In both cases the message becomes unknown, as do
//!   messages on a socket that was closed because of the frames that it carried. No message waits behind one that
//!   cannot be settled.
//!
//! **STR-1** Within an epoch, reading never goes back, whatever offset a `stream_reset` names.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::bounds::Bounds;
use crate::close::{Advice, Cause, advice};
use crate::frame::{ReadFrom, Request, Resume};
use crate::id::{ConnectionId, MessageId, Position, RunId, SocketId, ThreadId, TokenRequestId};
use crate::timer::Timer;
use crate::{Handled, Refusal, Violation, ensure};

mod io;
mod reading;
mod sending;

pub use self::io::{Heartbeat, Input, Outgoing, Output, State};

/// The state machine of a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Client<P> {
    state: State,
    socket: SocketId,
    asked: TokenRequestId,
    token: Option<P>,
    begin: ReadFrom,
    connection: Option<ConnectionId>,
    longest: u32,
    outgoing: VecDeque<Outgoing<P>>,
    /// Runs whose end the client awaits, with their threads.
    runs: BTreeMap<RunId, Option<ThreadId>>,
    tries: u8,
    /// The gateway announced that it goes away, and no other gateway has been ready since.
    succession: bool,
}

/// The maximum number of unsettled messages.
pub const MAX_OUTGOING: usize = 64;

/// The maximum number of sockets to which one message is written.
pub const MAX_WRITES: u8 = 8;

/// The maximum number of runs whose end a client tracks.
pub const MAX_RUNS: usize = 64;

/// How many attempts to reach the successor of a gateway use pauses of at most four times [`Bounds::backoff`].
pub const MAX_SHORT: u8 = 32;

/// The timers of a client.
pub const TIMERS: [Timer; 6] =
    [Timer::Backoff, Timer::Connect, Timer::Heartbeat, Timer::Stable, Timer::Leave, Timer::Answer];

impl<P: Clone> Client<P> {
    /// Creates a client that starts to read at `begin`.
    #[must_use]
    pub const fn new(begin: ReadFrom) -> Self {
        Self {
            state: State::Idle,
            socket: SocketId(0),
            asked: TokenRequestId(0),
            token: None,
            begin,
            connection: None,
            longest: u32::MAX,
            outgoing: VecDeque::new(),
            runs: BTreeMap::new(),
            tries: 0,
            succession: false,
        }
    }

    /// The current state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether the client has received `connection_ready` on its socket.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self.state, State::Live { .. } | State::Holding { .. } | State::Leaving { .. })
    }

    /// The newest socket.
    #[must_use]
    pub const fn socket(&self) -> SocketId {
        self.socket
    }

    /// The newest request for a credential.
    #[must_use]
    pub const fn asked(&self) -> TokenRequestId {
        self.asked
    }

    /// The position up to which the client has read, once it is known.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        match self.begin {
            ReadFrom::After(position) => Some(position),
            ReadFrom::Unread | ReadFrom::Latest | ReadFrom::Earliest | ReadFrom::Deferred => None,
        }
    }

    /// The messages that are not settled.
    #[must_use]
    pub const fn outgoing(&self) -> &VecDeque<Outgoing<P>> {
        &self.outgoing
    }

    /// The length in bytes of the longest message that the gateway takes; [`u32::MAX`] until the gateway has told it.
    #[must_use]
    pub const fn longest(&self) -> u32 {
        self.longest
    }

    /// How many consecutive attempts led to no connection that lasted.
    #[must_use]
    pub const fn tries(&self) -> u8 {
        self.tries
    }

    /// Whether the gateway announced that it goes away, and no other gateway has been ready since.
    #[must_use]
    pub const fn awaits_successor(&self) -> bool {
        self.succession
    }

    /// Takes one input.
    ///
    /// # Errors
    ///
    /// [`Refusal::Backpressure`] for a message over [`MAX_OUTGOING`], [`Refusal::Misuse`] for an id that is in use. A
    /// refused input changes nothing. Inputs from the gateway, the network and timers are never refused.
    pub fn step(&mut self, bounds: &Bounds, input: Input<P>, out: &mut Vec<Output<P>>) -> Result<Handled, Refusal> {
        let (before, due, awaited) = (self.state, self.due(), self.is_awaiting());
        let handled = self.take(bounds, input, out)?;
        if self.is_ready() {
            self.watch(bounds, before, due, awaited, out);
        }
        Ok(handled)
    }

    fn take(&mut self, bounds: &Bounds, input: Input<P>, out: &mut Vec<Output<P>>) -> Result<Handled, Refusal> {
        match (self.state, input) {
            (_, Input::Send { message, payload, size }) => return self.send(message, payload, size, out),
            (_, Input::Withdraw { message }) => return Ok(self.withdraw(message)),
            (_, Input::Token { asked, .. }) if asked != self.asked => return Ok(Handled::Ignored),
            (state, Input::Token { token, .. }) => self.present(bounds, state, token, out),
            (state, Input::Present { token }) => {
                self.asked = self.asked.next();
                self.present(bounds, state, token, out);
            }

            (State::Idle, Input::Connect) => self.open(bounds, out),
            (State::Stopped { .. }, Input::Connect) if self.token.is_none() => self.ask(out),
            (State::Stopped { .. }, Input::Connect) => self.pause(bounds, out),
            (State::Idle, Input::Disconnect) => return Ok(Handled::Ignored),
            (
                State::Backoff
                | State::Connecting
                | State::Authenticating
                | State::Live { .. }
                | State::Holding { .. }
                | State::Leaving { .. }
                | State::Stopped { .. },
                Input::Disconnect,
            ) => self.drop_socket(State::Idle, out),

            (State::Backoff, Input::Expired(Timer::Backoff)) => self.open(bounds, out),
            (State::Connecting, Input::Opened { socket }) if socket == self.socket => {
                let Some(token) = self.token.clone() else { return Ok(Handled::Ignored) };
                self.state = State::Authenticating;
                let resume = Resume { from: self.begin, replaces: self.connection };
                out.push(Output::Write(Request::Auth { token, resume }));
            }
            (State::Connecting | State::Authenticating, Input::Expired(Timer::Connect)) => self.pause(bounds, out),
            (State::Authenticating, Input::Limits { socket, longest }) if socket == self.socket => {
                self.limit(longest, out);
            }
            (
                State::Live { heartbeat } | State::Holding { heartbeat } | State::Leaving { heartbeat },
                Input::Expired(Timer::Heartbeat),
            ) => {
                if heartbeat == Heartbeat::Awaited {
                    self.pause(bounds, out);
                } else {
                    self.ping(bounds, out);
                }
            }
            (State::Live { .. } | State::Holding { .. } | State::Leaving { .. }, Input::Expired(Timer::Stable)) => {
                self.tries = 0;
            }
            (State::Live { .. } | State::Holding { .. } | State::Leaving { .. }, Input::Expired(Timer::Answer)) => {
                self.overdue(out);
            }
            (State::Leaving { .. }, Input::Expired(Timer::Leave)) => self.leave(bounds, out),

            (
                State::Authenticating | State::Live { .. } | State::Holding { .. } | State::Leaving { .. },
                Input::Frame { socket, connection, frame },
            ) if socket == self.socket => return Ok(self.frame(bounds, connection, frame, out)),
            (
                State::Connecting
                | State::Authenticating
                | State::Live { .. }
                | State::Holding { .. }
                | State::Leaving { .. },
                Input::Closed { socket, code },
            ) if socket == self.socket => self.closed(bounds, code, out),

            (
                State::Backoff
                | State::Connecting
                | State::Authenticating
                | State::Live { .. }
                | State::Holding { .. }
                | State::Leaving { .. },
                Input::Connect,
            )
            | (
                State::Idle
                | State::Backoff
                | State::Connecting
                | State::Authenticating
                | State::Live { .. }
                | State::Holding { .. }
                | State::Leaving { .. }
                | State::Stopped { .. },
                Input::Opened { .. }
                | Input::Limits { .. }
                | Input::Frame { .. }
                | Input::Closed { .. }
                | Input::Expired(_),
            ) => return Ok(Handled::Ignored),
        }
        Ok(Handled::Done)
    }

    /// Checks the invariants of this value.
    ///
    /// # Errors
    ///
    /// The id of the property that the value violates.
    pub fn check(&self) -> Result<(), Violation> {
        let sockets = self.outgoing.iter().map(|outgoing| outgoing.socket);
        ensure(sockets.max().is_none_or(|newest| newest <= self.socket), "CLIENT-1")?;
        ensure(self.socket == SocketId(0) || self.token.is_some(), "CLIENT-1")?;
        ensure(self.outgoing.iter().all(|outgoing| outgoing.size <= self.longest), "CLIENT-2")?;
        ensure(self.outgoing.iter().all(|outgoing| outgoing.writes <= MAX_WRITES), "CLIENT-2")?;
        ensure(self.outgoing.len() <= MAX_OUTGOING && self.runs.len() <= MAX_RUNS, "LIM-1")
    }

    /// The message that has waited longest for an answer on this socket.
    fn oldest(&self) -> Option<MessageId> {
        let written = |outgoing: &&Outgoing<P>| outgoing.socket == self.socket;
        self.outgoing.iter().filter(|_| self.is_ready()).find(written).map(|outgoing| outgoing.message)
    }

    /// What [`Timer::Answer`] waits for.
    fn due(&self) -> Option<Due> {
        let holds = matches!(self.state, State::Holding { .. }) && !self.outgoing.is_empty();
        self.oldest().map(Due::Answer).or(holds.then_some(Due::Departure))
    }

    fn is_awaiting(&self) -> bool {
        !self.runs.is_empty() || self.oldest().is_some()
    }

    /// Adjusts the deadlines to the awaited answers, after each step of a client that is ready.
    fn watch(&self, bounds: &Bounds, before: State, due: Option<Due>, awaited: bool, out: &mut Vec<Output<P>>) {
        match self.due() {
            same if same == due => {}
            Some(_) => out.push(Output::Arm(Timer::Answer, bounds.answer)),
            None => out.push(Output::Disarm(Timer::Answer)),
        }
        let (was_waiting, is_waiting) = (is_waiting(before), is_waiting(self.state));
        let answered = was_waiting != Some(false) && is_waiting == Some(false);
        if answered || (is_waiting == Some(false) && !awaited && self.is_awaiting()) {
            let after = if self.is_awaiting() { bounds.pong / 2 } else { bounds.heartbeat };
            out.push(Output::Arm(Timer::Heartbeat, after.min(bounds.heartbeat)));
        }
    }

    /// Asks the gateway for a sign of life.
    fn ping(&mut self, bounds: &Bounds, out: &mut Vec<Output<P>>) {
        if let State::Live { heartbeat } | State::Holding { heartbeat } | State::Leaving { heartbeat } = &mut self.state
        {
            *heartbeat = Heartbeat::Awaited;
        }
        let patience = bounds.pong.saturating_mul(1 << self.tries.min(3));
        out.extend([Output::Write(Request::Ping), Output::Arm(Timer::Heartbeat, patience)]);
    }

    fn present(&mut self, bounds: &Bounds, state: State, token: P, out: &mut Vec<Output<P>>) {
        self.token = Some(token.clone());
        match state {
            State::Live { .. } | State::Holding { .. } | State::Leaving { .. } => {
                out.push(Output::Write(Request::Auth { token, resume: Resume::default() }));
            }
            // There was no earlier attempt, so nothing is repeated.
            State::Stopped { .. } if self.socket == SocketId(0) => self.open(bounds, out),
            State::Stopped { .. } => self.pause(bounds, out),
            State::Idle | State::Backoff | State::Connecting | State::Authenticating => {}
        }
    }

    fn ask(&mut self, out: &mut Vec<Output<P>>) {
        self.asked = self.asked.next();
        out.push(Output::NeedToken { asked: self.asked });
    }

    /// Opens a socket, or requests the first credential.
    fn open(&mut self, bounds: &Bounds, out: &mut Vec<Output<P>>) {
        if self.token.is_none() {
            self.state = State::Stopped { code: Cause::CredentialMissing.code() };
            return self.ask(out);
        }
        self.socket = self.socket.next();
        self.state = State::Connecting;
        out.extend([Output::Open { socket: self.socket }, Output::Arm(Timer::Connect, bounds.connect)]);
    }

    fn closed(&mut self, bounds: &Bounds, code: u16, out: &mut Vec<Output<P>>) {
        if code == Cause::GoingAway.code() {
            self.expect_successor();
        } else if code != Cause::Lost.code() {
            self.succession = false;
        }
        match advice(code) {
            Advice::ComeBack | Advice::None => self.pause(bounds, out),
            Advice::StayAway if blames(code) && self.give_back(out) => self.pause(bounds, out),
            Advice::StayAway => {
                // A new credential is a change that lets the client return.
                self.drop_socket(State::Stopped { code }, out);
                self.ask(out);
            }
        }
    }

    /// The gateway goes away. A successor is expected if the gateway was stable.
    pub(super) const fn expect_successor(&mut self) {
        self.succession |= self.tries == 0;
    }

    fn drop_socket(&mut self, state: State, out: &mut Vec<Output<P>>) {
        out.extend(TIMERS.map(Output::Disarm));
        match self.state {
            State::Connecting
            | State::Authenticating
            | State::Live { .. }
            | State::Holding { .. }
            | State::Leaving { .. } => {
                out.push(Output::Close { socket: self.socket });
            }
            State::Idle | State::Backoff | State::Stopped { .. } => {}
        }
        self.state = state;
    }

    /// The announced time is over. It served as the pause, unless earlier attempts have failed.
    fn leave(&mut self, bounds: &Bounds, out: &mut Vec<Output<P>>) {
        if self.tries > 0 {
            return self.pause(bounds, out);
        }
        self.tries = 1;
        self.drop_socket(State::Backoff, out);
        self.open(bounds, out);
    }

    /// Drops the socket and returns after a pause.
    fn pause(&mut self, bounds: &Bounds, out: &mut Vec<Output<P>>) {
        self.drop_socket(State::Backoff, out);
        let short = self.succession && self.tries < MAX_SHORT;
        let longest = if short { bounds.backoff.saturating_mul(4) } else { bounds.backoff_most };
        let pause = bounds.backoff.saturating_mul(1 << self.tries.min(16)).min(longest).min(bounds.backoff_most);
        self.tries = self.tries.saturating_add(1);
        out.push(Output::Pause(pause));
    }
}

/// What [`Timer::Answer`] waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    /// The answer to this message.
    Answer(MessageId),
    /// The announced departure of the gateway.
    Departure,
}

/// Whether a heartbeat is unanswered; `None` if the client is not ready.
const fn is_waiting(state: State) -> Option<bool> {
    match state {
        State::Live { heartbeat } | State::Holding { heartbeat } | State::Leaving { heartbeat } => {
            Some(matches!(heartbeat, Heartbeat::Awaited))
        }
        State::Idle | State::Backoff | State::Connecting | State::Authenticating | State::Stopped { .. } => None,
    }
}

/// Whether a close code blames the client's frames.
const fn blames(code: u16) -> bool {
    matches!(code, 1002 | 1003 | 1007 | 1009)
}

/// The longest time to detect a gateway that is gone, while the client awaits something and no earlier attempt has
/// failed.
#[must_use]
pub fn found_within(bounds: &Bounds) -> Duration {
    bounds.pong / 2 + bounds.pong
}
