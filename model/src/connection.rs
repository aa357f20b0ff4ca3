//! One socket with one id, from accept to close.
//!
//! ```text
#![doc = include_str!("diagram/connection.txt")]
//! ```
//!
//! A connection belongs to the task that serves its socket until its credential is verified. It then moves by value
//! into its user's [`Session`](crate::Session), and moves back when it starts to close. A session therefore holds
//! exactly the connections that count against its bound, and only the owner of a connection can touch it.
//!
//! * **CONN-1** A connection has one id and is closed once, with the [`Cause`] that was chosen first. A later failure,
//!   close or expiry does not change the cause.
//! * **CONN-2** Requests that arrive before `connection_ready` wait in one bounded FIFO, except credentials. Becoming
//!   live hands the requests over once, in order. Only one place in the code makes a connection live.
//! * **CONN-3** In every state but closed, one of the connection's own timers is armed, and each expiry brings it
//!   closer to closed: see [`Connection::rank`]. So **LIVE-1** it becomes live or is closed, and **LIVE-4** a dead peer
//!   is found after two idle deadlines without a sign of life.
//! * **OWN-6** A connection whose user another process owns is relayed there, unless it was relayed here. It no longer
//!   needs its credential, because the owner's process verifies it. The client and that process are probed in turn, so
//!   **LIVE-4** covers both.
//! * **AUTH-1** Frames leave by [`Connection::pull`] alone, and application frames only while the credential is valid.
//!   An invalid frame can therefore not be answered with an error before a credential is presented, and its sender
//!   would learn nothing until the handshake times out. It closes the connection at once instead, with
//!   [`Cause::CredentialMissing`]. A valid request waits (CONN-2), because the credential may follow; so does an
//!   invalid frame that arrives after a credential.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::auth::{self, Auth, Ending, Grant};
use crate::bounds::Bounds;
use crate::close::Cause;
use crate::frame::{Control, Frame, Request, Resume};
use crate::id::ConnectionId;
use crate::timer::Timer;
use crate::{Handled, Violation, ensure};

mod io;
mod relayed;

pub use self::io::{CloseFrame, Input, Liveness, Origin, Output, Relay, State};

/// The state machine of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Connection<P> {
    id: ConnectionId,
    /// Where it comes from. Cleared once it can no longer be relayed.
    origin: Origin,
    state: State<P>,
    auth: Auth,
    outbox: VecDeque<Control<P>>,
}

impl<P: Clone> Connection<P> {
    /// Creates a connection that was just accepted.
    pub fn accept(bounds: &Bounds, id: ConnectionId, out: &mut Vec<Output<P>>) -> Self {
        out.push(Output::Arm(Timer::Handshake, bounds.handshake));
        Self { id, origin: Origin::Client, state: State::Opening, auth: Auth::new(), outbox: VecDeque::new() }
    }

    /// The connection's id, from accept to close.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// The current state.
    #[must_use]
    pub const fn state(&self) -> &State<P> {
        &self.state
    }

    /// The connection's credential.
    #[must_use]
    pub const fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Whether the stream may be read on this connection now: `connection_ready` was queued and the credential is
    /// valid.
    #[must_use]
    pub const fn is_reading(&self) -> bool {
        matches!(self.state, State::Live { .. } | State::Draining)
    }

    /// Whether the cause of the close is chosen.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing { .. } | State::Closed { .. })
    }

    /// Where the client wants to start reading. `None` once the connection is live.
    #[must_use]
    pub const fn resume(&self) -> Option<Resume> {
        match &self.state {
            State::Authenticating { resume, .. } | State::Attaching { resume, .. } => Some(*resume),
            State::Opening
            | State::Live { .. }
            | State::Draining
            | State::Relayed { .. }
            | State::Closing { .. }
            | State::Closed { .. } => None,
        }
    }

    /// How far the connection is from closed. Every expiry of its own timers that is not ignored lowers the rank
    /// (CONN-3).
    #[must_use]
    pub const fn rank(&self) -> u8 {
        match self.state {
            State::Opening => 7,
            State::Authenticating { .. } => 6,
            State::Attaching { .. } => 5,
            State::Live { liveness: Liveness::Heard, .. } => 4,
            State::Live { liveness: Liveness::Probed, .. } => 3,
            State::Relayed { relay: Relay::Opening, .. } => 4,
            State::Relayed { relay: Relay::Open { client: Liveness::Heard, owner: Liveness::Heard }, .. } => 3,
            State::Draining | State::Relayed { .. } => 2,
            State::Closing { .. } => 1,
            State::Closed { .. } => 0,
        }
    }

    /// Returns the next control frame or close frame to send, if there is one.
    pub fn pull(&mut self) -> Option<Frame<P>> {
        match &mut self.state {
            State::Live { .. } | State::Draining | State::Relayed { .. } => self.outbox.pop_front().map(Frame::Control),
            State::Closing { cause, frame } if *frame == CloseFrame::Queued => {
                *frame = CloseFrame::Sent;
                Some(Frame::Close(*cause))
            }
            State::Opening
            | State::Authenticating { .. }
            | State::Attaching { .. }
            | State::Closing { .. }
            | State::Closed { .. } => None,
        }
    }

    /// Whether the next control frame is `going_away`, after which the client reads no further.
    #[must_use]
    pub fn is_going(&self) -> bool {
        matches!((&self.state, self.outbox.front()), (State::Draining, Some(Control::GoingAway(_))))
    }

    /// Whether [`Connection::pull`] would return a frame.
    #[must_use]
    pub fn has_frame(&self) -> bool {
        match self.state {
            State::Live { .. } | State::Draining | State::Relayed { .. } => !self.outbox.is_empty(),
            State::Closing { frame, .. } => frame == CloseFrame::Queued,
            State::Opening | State::Authenticating { .. } | State::Attaching { .. } | State::Closed { .. } => false,
        }
    }

    /// Takes one input. Total: no peer, timer or transport can make it fail.
    pub fn step(&mut self, bounds: &Bounds, input: Input<P>, out: &mut Vec<Output<P>>) -> Handled {
        match (&mut self.state, input) {
            (State::Closed { .. }, _) => return Handled::Ignored,
            (State::Closing { cause, .. }, Input::Gone(_) | Input::Expired(Timer::Close)) => {
                let cause = *cause;
                self.closed(cause, out);
            }
            (State::Closing { .. }, _) => return Handled::Ignored,

            (_, Input::Gone(cause)) => {
                self.close(bounds, cause, out);
                self.closed(cause, out);
            }
            (_, Input::Close(cause) | Input::Received(Request::Violation(cause))) => self.close(bounds, cause, out),

            (State::Opening, input @ (Input::Opened | Input::OpenedByMember)) => {
                if let Input::OpenedByMember = input {
                    self.origin = Origin::Member;
                }
                self.state = State::Authenticating { early: VecDeque::new(), resume: Resume::default() };
            }
            (State::Opening, Input::Expired(Timer::Handshake)) => self.close(bounds, Cause::HandshakeTimeout, out),
            (State::Authenticating { .. }, Input::Expired(Timer::Handshake)) => {
                let cause = match self.auth.state() {
                    auth::State::Absent => Cause::CredentialMissing,
                    auth::State::Verifying { .. }
                    | auth::State::Valid { .. }
                    | auth::State::Refreshing { .. }
                    | auth::State::Ended { .. } => Cause::HandshakeTimeout,
                };
                self.close(bounds, cause, out);
            }
            (
                State::Attaching { .. } | State::Relayed { relay: Relay::Opening, .. },
                Input::Expired(Timer::Handshake),
            ) => self.close(bounds, Cause::HandshakeTimeout, out),
            (State::Attaching { .. }, Input::Relay { owner }) => self.relay(bounds, owner, out),
            (State::Relayed { .. }, input) => return self.pass(bounds, &input, out),

            (
                State::Authenticating { .. } | State::Attaching { .. } | State::Live { .. } | State::Draining,
                Input::Received(Request::Auth { token, resume }),
            ) => {
                if let (State::Authenticating { resume: wanted, .. }, auth::State::Absent) =
                    (&mut self.state, self.auth.state())
                {
                    *wanted = resume;
                }
                self.heard(bounds, out);
                return self.credential(bounds, auth::Input::Presented, Some(token), out);
            }
            (State::Authenticating { .. }, Input::Received(Request::Invalid { .. }))
                if matches!(self.auth.state(), auth::State::Absent) =>
            {
                self.close(bounds, Cause::CredentialMissing, out);
            }
            (State::Authenticating { early, .. } | State::Attaching { early, .. }, Input::Received(request)) => {
                if early.len() < bounds.early {
                    early.push_back(request);
                } else {
                    self.close(bounds, Cause::TooEager, out);
                }
            }
            (State::Live { allowance, .. }, Input::Received(request)) => {
                if bounds.requests > 0 && request.is_counted() {
                    if *allowance == 0 {
                        self.close(bounds, Cause::Flooding, out);
                        return Handled::Done;
                    }
                    if *allowance == bounds.requests {
                        out.push(Output::Arm(Timer::Allowance, bounds.allowance));
                    }
                    *allowance -= 1;
                }
                self.heard(bounds, out);
                self.receive(bounds, request, out);
            }
            (State::Draining, Input::Received(request)) => self.receive(bounds, request, out),

            (
                State::Authenticating { .. } | State::Attaching { .. } | State::Live { .. } | State::Draining,
                Input::Verdict { attempt, verdict },
            ) => return self.credential(bounds, auth::Input::Verdict { attempt, verdict }, None, out),
            (
                State::Authenticating { .. } | State::Attaching { .. } | State::Live { .. } | State::Draining,
                Input::Revoked,
            ) => return self.credential(bounds, auth::Input::Revoked, None, out),
            (
                State::Authenticating { .. } | State::Attaching { .. } | State::Live { .. } | State::Draining,
                Input::Expired(timer @ (Timer::Verification | Timer::Warning | Timer::Credential)),
            ) => return self.credential(bounds, auth::Input::Expired(timer), None, out),

            (State::Attaching { early, .. }, Input::Ready { ready, reset }) => {
                let early = core::mem::take(early);
                (self.state, self.origin) =
                    (State::Live { liveness: Liveness::Heard, allowance: bounds.requests }, Origin::Client);
                out.extend([Output::Disarm(Timer::Handshake), Output::Arm(Timer::Idle, bounds.idle)]);
                self.tell(bounds, ready, out);
                if let Some(reset) = reset {
                    self.tell(bounds, reset, out);
                }
                for request in early {
                    if self.is_closing() {
                        break;
                    }
                    self.receive(bounds, request, out);
                }
            }
            (State::Live { .. } | State::Draining, Input::Tell(control)) => self.tell(bounds, control, out),
            (State::Live { .. } | State::Draining, Input::Notify(payload)) => {
                // The other half is reserved for answers to the peer's requests. Too many of those close the
                // connection.
                if self.outbox.len() >= bounds.outbox / 2 {
                    return Handled::Ignored;
                }
                self.tell(bounds, Control::Notice(payload), out);
            }
            (State::Live { liveness, .. }, Input::Expired(Timer::Idle)) => {
                if *liveness == Liveness::Probed {
                    self.close(bounds, Cause::HeartbeatLost, out);
                } else {
                    *liveness = Liveness::Probed;
                    out.push(Output::Arm(Timer::Idle, bounds.idle));
                    self.tell(bounds, Control::Probe, out);
                }
            }
            (State::Live { allowance, .. }, Input::Expired(Timer::Allowance)) => *allowance = bounds.requests,
            (State::Live { .. }, Input::Drain { successor }) => {
                self.state = State::Draining;
                out.extend([Timer::Idle, Timer::Allowance].map(Output::Disarm));
                out.push(Output::Arm(Timer::Grace, bounds.grace));
                self.tell(bounds, Control::GoingAway(successor), out);
            }
            (State::Opening | State::Authenticating { .. } | State::Attaching { .. }, Input::Drain { .. })
            | (State::Draining, Input::Expired(Timer::Grace)) => self.close(bounds, Cause::GoingAway, out),

            (
                State::Opening,
                Input::Received(_)
                | Input::Verdict { .. }
                | Input::Ready { .. }
                | Input::Tell(_)
                | Input::Notify(_)
                | Input::Revoked
                | Input::Expired(_),
            )
            | (
                State::Opening | State::Authenticating { .. } | State::Live { .. } | State::Draining,
                Input::Relay { .. },
            )
            | (
                State::Opening
                | State::Authenticating { .. }
                | State::Attaching { .. }
                | State::Live { .. }
                | State::Draining,
                Input::RelayOpened | Input::RelayHeard,
            )
            | (
                State::Authenticating { .. },
                Input::Opened
                | Input::OpenedByMember
                | Input::Ready { .. }
                | Input::Tell(_)
                | Input::Notify(_)
                | Input::Expired(_),
            )
            | (
                State::Attaching { .. },
                Input::Opened | Input::OpenedByMember | Input::Tell(_) | Input::Notify(_) | Input::Expired(_),
            )
            | (State::Live { .. }, Input::Opened | Input::OpenedByMember | Input::Ready { .. } | Input::Expired(_))
            | (
                State::Draining,
                Input::Opened | Input::OpenedByMember | Input::Ready { .. } | Input::Drain { .. } | Input::Expired(_),
            ) => {
                return Handled::Ignored;
            }
        }
        Handled::Done
    }

    /// Checks the invariants of this value.
    ///
    /// # Errors
    ///
    /// The id of the property that the value violates.
    pub fn check(&self, bounds: &Bounds) -> Result<(), Violation> {
        let (early, valid) = match &self.state {
            State::Opening => (0, self.auth.grant().is_none()),
            State::Authenticating { early, .. } => (early.len(), self.auth.grant().is_none()),
            State::Attaching { early, .. } => (early.len(), self.auth.grant().is_some()),
            State::Live { .. } | State::Draining => (0, self.auth.grant().is_some()),
            State::Relayed { .. } | State::Closing { .. } | State::Closed { .. } => (0, self.auth.grant().is_none()),
        };
        ensure(valid, "AUTH-1")?;
        let probes = self.relayed_to().is_some() && matches!(self.outbox.front(), Some(Control::Probe));
        ensure(self.is_reading() || probes || self.outbox.is_empty(), "AUTH-1")?;
        ensure(self.origin == Origin::Client || self.relayed_to().is_none(), "OWN-6")?;
        ensure(early <= bounds.early, "LIM-1")?;
        ensure(self.outbox.len() <= bounds.outbox, "LIM-1")
    }

    /// Steps the credential and acts on its outputs.
    fn credential(
        &mut self,
        bounds: &Bounds,
        input: auth::Input,
        token: Option<P>,
        out: &mut Vec<Output<P>>,
    ) -> Handled {
        let mut outputs = Vec::new();
        let handled = self.auth.step(bounds, input, &mut outputs);
        let mut token = token;
        for output in outputs {
            if self.is_closing() {
                // The frame to the peer overflowed the outbox and closed the connection: no more timers are armed.
                break;
            }
            match output {
                auth::Output::Verify(attempt) => {
                    if let Some(token) = token.take() {
                        out.push(Output::Verify { attempt, token });
                    }
                }
                auth::Output::Arm(timer, after) => out.push(Output::Arm(timer, after)),
                auth::Output::Disarm(timer) => out.push(Output::Disarm(timer)),
                auth::Output::Granted(grant) => self.attach(grant, out),
                auth::Output::Renewed => self.tell(bounds, Control::AuthOk, out),
                auth::Output::NotRenewed => {
                    self.tell(bounds, Control::Error(crate::Code::VerifierUnavailable), out);
                }
                auth::Output::Expiring => self.tell(bounds, Control::AuthExpiring, out),
                auth::Output::Ended(ending) => self.close(bounds, cause_of(ending), out),
            }
        }
        handled
    }

    /// The first valid verdict: moves to the user's session, with the queued requests.
    fn attach(&mut self, grant: Grant, out: &mut Vec<Output<P>>) {
        if let State::Authenticating { early, resume } = &mut self.state {
            self.state = State::Attaching { early: core::mem::take(early), resume: *resume };
            out.push(Output::Attach(grant));
        }
    }

    /// Takes one request on a connection that is past `connection_ready`.
    fn receive(&mut self, bounds: &Bounds, request: Request<P>, out: &mut Vec<Output<P>>) {
        match request {
            Request::Ping => self.tell(bounds, Control::Pong, out),
            Request::Pong => {}
            Request::Invalid { code, message: None } => self.tell(bounds, Control::Error(code), out),
            Request::Invalid { code, message: Some(message) } => {
                self.tell(bounds, Control::Refused { message, code }, out);
            }
            Request::Message { .. }
            | Request::Cancel { .. }
            | Request::Reply { .. }
            | Request::Seek { .. }
            | Request::Delete { .. }
            | Request::Query { .. } => out.push(Output::Handle(request)),
            Request::Auth { .. } | Request::Violation(_) => {
                debug_assert!(false, "handled before, whatever the state");
            }
        }
    }

    /// A sign of life: restarts the idle deadline.
    fn heard(&mut self, bounds: &Bounds, out: &mut Vec<Output<P>>) {
        if let State::Live { liveness, .. } = &mut self.state {
            *liveness = Liveness::Heard;
            out.push(Output::Arm(Timer::Idle, bounds.idle));
        }
    }

    /// Queues a control frame, in place of an older one that it makes obsolete. If the outbox is full, the peer does
    /// not read what it requests, and the connection is closed.
    fn tell(&mut self, bounds: &Bounds, control: Control<P>, out: &mut Vec<Output<P>>) {
        if !self.is_reading() {
            return;
        }
        if let Some(older) = self.outbox.iter_mut().find(|queued| control.replaces(queued)) {
            *older = control;
        } else if self.outbox.len() < bounds.outbox {
            self.outbox.push_back(control);
            out.push(Output::Wake);
        } else {
            self.close(bounds, Cause::Slow, out);
        }
    }

    /// Chooses the cause. Queued frames are dropped, and the credential is no longer needed.
    fn close(&mut self, bounds: &Bounds, cause: Cause, out: &mut Vec<Output<P>>) {
        if self.is_closing() {
            return;
        }
        self.outbox.clear();
        (self.state, self.origin) = (State::Closing { cause, frame: CloseFrame::Queued }, Origin::Client);
        out.extend([Timer::Handshake, Timer::Idle, Timer::Allowance, Timer::Grace].map(Output::Disarm));
        self.end_credential(bounds, out);
        out.extend([Output::Arm(Timer::Close, bounds.close), Output::Closing(cause), Output::Wake]);
    }

    fn closed(&mut self, cause: Cause, out: &mut Vec<Output<P>>) {
        self.state = State::Closed { cause };
        out.extend([Output::Disarm(Timer::Close), Output::Closed(cause)]);
    }
}

impl<P> Control<P> {
    /// Whether this frame makes a queued one obsolete.
    fn replaces(&self, queued: &Self) -> bool {
        matches!(
            (self, queued),
            (Self::Mode(_), Self::Mode(_))
                | (Self::Probe, Self::Probe)
                | (Self::AuthExpiring, Self::AuthExpiring)
                | (Self::GoingAway(_), Self::GoingAway(_))
        )
    }
}

const fn cause_of(ending: Ending) -> Cause {
    match ending {
        Ending::Expired => Cause::CredentialExpired,
        Ending::Revoked => Cause::CredentialRevoked,
        Ending::Rejected => Cause::CredentialRejected,
        Ending::Unavailable => Cause::VerifierUnavailable,
        Ending::OtherUser => Cause::UserMismatch,
        Ending::Flooding => Cause::Flooding,
        Ending::Abandoned => Cause::PeerClosed,
    }
}
