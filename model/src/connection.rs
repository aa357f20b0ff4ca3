//! One socket, one id, from accept to close.
//!
//! ```text
#![doc = include_str!("diagram/connection.txt")]
//! ```
//!
//! A connection belongs to the task that serves its socket until its credential is verified. It then moves into the
//! [`Session`](crate::Session) of its user, by value, and comes back when it is closing: so a session holds exactly the
//! connections that take a place, and whoever may touch a connection is whoever holds it.
//!
//! * **CONN-1** It has one id, and is closed once, with the [`Cause`] that was chosen first. A later failure, close or
//!   expiry does not change the cause.
//! * **CONN-2** What arrives before `connection_ready` waits in one bounded FIFO, credentials excepted; becoming live
//!   hands it over once, in order. There is one place that becomes live.
//! * **CONN-3** In every state but closed one of its own timers is armed, and what an expiry does is nearer to closed:
//!   see [`Connection::rank`]. So **LIVE-1** it becomes live or is closed, and **LIVE-4** a peer that is dead is found: two
//!   idle deadlines without a sign of life.
//! * **AUTH-1** Frames leave by [`Connection::pull`] alone, and an application frame only while the credential is valid. So a
//!   frame that is no request cannot be answered with an error before a credential was presented, and its sender would learn
//!   nothing until the handshake has taken too long. It closes the connection at once, with [`Cause::CredentialMissing`]. A
//!   request waits instead (CONN-2), for the credential may follow; so does what is no request behind a credential.

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

pub use self::io::{Input, Output, State};

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Connection<P> {
    id: ConnectionId,
    state: State<P>,
    auth: Auth,
    outbox: VecDeque<Control<P>>,
}

impl<P: Clone> Connection<P> {
    /// A connection that was just accepted.
    pub fn accept(bounds: &Bounds, id: ConnectionId, out: &mut Vec<Output<P>>) -> Self {
        out.push(Output::Arm(Timer::Handshake, bounds.handshake));
        Self { id, state: State::Opening, auth: Auth::new(), outbox: VecDeque::new() }
    }

    /// Its id, from accept to close.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> &State<P> {
        &self.state
    }

    /// Its credential.
    #[must_use]
    pub const fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Whether a stream may be read on it now: `connection_ready` was said and the credential is valid.
    #[must_use]
    pub const fn is_reading(&self) -> bool {
        matches!(self.state, State::Live { .. } | State::Draining)
    }

    /// Whether its cause is chosen.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing { .. } | State::Closed { .. })
    }

    /// Where the client wants to begin reading, until it is live.
    #[must_use]
    pub const fn resume(&self) -> Option<Resume> {
        match &self.state {
            State::Authenticating { resume, .. } | State::Attaching { resume, .. } => Some(*resume),
            State::Opening | State::Live { .. } | State::Draining | State::Closing { .. } | State::Closed { .. } => {
                None
            }
        }
    }

    /// How far it is from closed: every expiry of its own timers that is not ignored lowers it (CONN-3).
    #[must_use]
    pub const fn rank(&self) -> u8 {
        match self.state {
            State::Opening => 7,
            State::Authenticating { .. } => 6,
            State::Attaching { .. } => 5,
            State::Live { probing: false, .. } => 4,
            State::Live { probing: true, .. } => 3,
            State::Draining => 2,
            State::Closing { .. } => 1,
            State::Closed { .. } => 0,
        }
    }

    /// The control frame or close frame that leaves next, if there is one.
    pub fn pull(&mut self) -> Option<Frame<P>> {
        match &mut self.state {
            State::Live { .. } | State::Draining => self.outbox.pop_front().map(Frame::Control),
            State::Closing { cause, told } if !*told => {
                *told = true;
                Some(Frame::Close(*cause))
            }
            State::Opening
            | State::Authenticating { .. }
            | State::Attaching { .. }
            | State::Closing { .. }
            | State::Closed { .. } => None,
        }
    }

    /// Whether the control frame that leaves next is `going_away`, after which the client reads no more.
    #[must_use]
    pub fn is_going(&self) -> bool {
        matches!((&self.state, self.outbox.front()), (State::Draining, Some(Control::GoingAway(_))))
    }

    /// Whether [`Connection::pull`] would return a frame.
    #[must_use]
    pub fn has_frame(&self) -> bool {
        match self.state {
            State::Live { .. } | State::Draining => !self.outbox.is_empty(),
            State::Closing { told, .. } => !told,
            State::Opening | State::Authenticating { .. } | State::Attaching { .. } | State::Closed { .. } => false,
        }
    }

    /// Takes one input. Total: nothing that a peer, a timer or a transport does can make it fail.
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

            (State::Opening, Input::Opened) => {
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
            (State::Attaching { .. }, Input::Expired(Timer::Handshake)) => {
                self.close(bounds, Cause::HandshakeTimeout, out);
            }

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
                self.state = State::Live { probing: false, allowance: bounds.requests };
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
                // The other half is kept for what the peer asks for: too much of that closes the connection.
                if self.outbox.len() >= bounds.outbox / 2 {
                    return Handled::Ignored;
                }
                self.tell(bounds, Control::Notice(payload), out);
            }
            (State::Live { probing, .. }, Input::Expired(Timer::Idle)) => {
                if *probing {
                    self.close(bounds, Cause::HeartbeatLost, out);
                } else {
                    *probing = true;
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
                State::Authenticating { .. },
                Input::Opened | Input::Ready { .. } | Input::Tell(_) | Input::Notify(_) | Input::Expired(_),
            )
            | (State::Attaching { .. }, Input::Opened | Input::Tell(_) | Input::Notify(_) | Input::Expired(_))
            | (State::Live { .. }, Input::Opened | Input::Ready { .. } | Input::Expired(_))
            | (State::Draining, Input::Opened | Input::Ready { .. } | Input::Drain { .. } | Input::Expired(_)) => {
                return Handled::Ignored;
            }
        }
        Handled::Done
    }

    /// Which property this value breaks, if any.
    ///
    /// # Errors
    ///
    /// The id of the property.
    pub fn check(&self, bounds: &Bounds) -> Result<(), Violation> {
        let (early, valid) = match &self.state {
            State::Opening => (0, self.auth.grant().is_none()),
            State::Authenticating { early, .. } => (early.len(), self.auth.grant().is_none()),
            State::Attaching { early, .. } => (early.len(), self.auth.grant().is_some()),
            State::Live { .. } | State::Draining => (0, self.auth.grant().is_some()),
            State::Closing { .. } | State::Closed { .. } => (0, self.auth.grant().is_none()),
        };
        ensure(valid, "AUTH-1")?;
        ensure(self.is_reading() || self.outbox.is_empty(), "AUTH-1")?;
        ensure(early <= bounds.early, "LIM-1")?;
        ensure(self.outbox.len() <= bounds.outbox, "LIM-1")
    }

    /// Feeds the credential and acts on what it orders.
    fn credential(
        &mut self,
        bounds: &Bounds,
        input: auth::Input,
        token: Option<P>,
        out: &mut Vec<Output<P>>,
    ) -> Handled {
        let mut orders = Vec::new();
        let handled = self.auth.step(bounds, input, &mut orders);
        let mut token = token;
        for order in orders {
            if self.is_closing() {
                // What the peer would have been told was one frame too many: nothing is armed any more.
                break;
            }
            match order {
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

    /// The first verdict: leaves for the user's session with what has queued up.
    fn attach(&mut self, grant: Grant, out: &mut Vec<Output<P>>) {
        if let State::Authenticating { early, resume } = &mut self.state {
            self.state = State::Attaching { early: core::mem::take(early), resume: *resume };
            out.push(Output::Attach(grant));
        }
    }

    /// One request on a connection that is past `connection_ready`.
    fn receive(&mut self, bounds: &Bounds, request: Request<P>, out: &mut Vec<Output<P>>) {
        match request {
            Request::Ping => self.tell(bounds, Control::Pong, out),
            Request::Pong => {}
            Request::Invalid { code, message: None } => self.tell(bounds, Control::Error(code), out),
            Request::Invalid { code, message: Some(message) } => {
                self.tell(bounds, Control::Refused { message, code }, out);
            }
            Request::Message { .. } | Request::Cancel { .. } | Request::Delete { .. } | Request::Query { .. } => {
                out.push(Output::Handle(request));
            }
            Request::Auth { .. } | Request::Violation(_) => {
                debug_assert!(false, "handled before, whatever the state");
            }
        }
    }

    /// A sign of life: the idle deadline starts anew.
    fn heard(&mut self, bounds: &Bounds, out: &mut Vec<Output<P>>) {
        if let State::Live { probing, .. } = &mut self.state {
            *probing = false;
            out.push(Output::Arm(Timer::Idle, bounds.idle));
        }
    }

    /// Queues a control frame. A peer that does not read what it asks for is closed; news replaces its older self.
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

    /// Chooses the cause. What waited is dropped, and the credential is not needed any more.
    fn close(&mut self, bounds: &Bounds, cause: Cause, out: &mut Vec<Output<P>>) {
        if self.is_closing() {
            return;
        }
        self.outbox.clear();
        self.state = State::Closing { cause, told: false };
        let mut orders = Vec::new();
        let _ = self.auth.step(bounds, auth::Input::Abandoned, &mut orders);
        out.extend([Timer::Handshake, Timer::Idle, Timer::Allowance, Timer::Grace].map(Output::Disarm));
        out.extend([Timer::Verification, Timer::Warning, Timer::Credential].map(Output::Disarm));
        out.extend([Output::Arm(Timer::Close, bounds.close), Output::Closing(cause), Output::Wake]);
    }

    fn closed(&mut self, cause: Cause, out: &mut Vec<Output<P>>) {
        self.state = State::Closed { cause };
        out.extend([Output::Disarm(Timer::Close), Output::Closed(cause)]);
    }
}

impl<P> Request<P> {
    /// Whether it uses up allowance: everything that asks for an answer.
    const fn is_counted(&self) -> bool {
        match self {
            Self::Message { .. }
            | Self::Cancel { .. }
            | Self::Delete { .. }
            | Self::Query { .. }
            | Self::Invalid { .. }
            | Self::Ping => true,
            Self::Auth { .. } | Self::Pong | Self::Violation(_) => false,
        }
    }
}

impl<P> Control<P> {
    /// Whether a queued frame is out of date once this one is queued.
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
