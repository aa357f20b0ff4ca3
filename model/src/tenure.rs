//! A user's ownership by one session: whether it may write the user's log, and until when.
//!
//! | state | meaning | ends |
//! | --- | --- | --- |
//! | seeking | the log is asked to acquire the user, or will be after a pause | acquired, elsewhere, given up |
//! | held | writes carry the granted [`Tenure`] | fenced, lost, released |
//! | leaving | writing has stopped, and a release of the user is in flight or paused | released, fenced, given up |
//! | over | final: released, elsewhere, fenced, or lost | |
//!
//! Ownership is a fencing token, not a lock. Each acquisition raises the user's token, even one by the current owner,
//! and the log compares epoch and token in the same step that appends. So the belief of a process decides nothing: an
//! owner that was replaced learns it from its next write. A lease only says when a user may be acquired from a process
//! that is silent; see [`member`](crate::member).
//!
//! The token is Kleppmann's fencing token (*How to do distributed locking*, 2016), the order "raise the token,
//! then read" is Paxos's first phase (Lamport, *The part-time parliament*, 1998), and confirming before an owner denies
//! something is the *read index* of Raft (Ongaro, *Consensus: bridging theory and practice*, 2014, section 6.4).
//!
//! * **OWN-1** Only [`State::Held`] gives a tenure to write with. Only the answer to the newest attempt grants, so a
//!   session never writes under a token that its own later request has replaced.
//! * **OWN-2** The stream is read after the user is acquired, never before or with it: if the acquisition waited for an
//!   append of the earlier owner, the read must include that append. [`Input::Acquired`] says that both are done.
//! * **OWN-3** An owner that was replaced can only show a true prefix of the stream. If a client has read further from
//!   the owner's successor, the owner must not tell it that those entries are gone. [`Input::Confirm`] asks the log
//!   with a *write*; the log's answer, or the fence, comes before the client gets one.
//! * **OWN-4** A session releases its user only when it has no open run and no event that the log has not confirmed.
//!   After [`Input::Release`] there is no tenure to write with.
//! * **OWN-6** [`Ending::Elsewhere`] names the owner. The caller relays a connection there, unless it was relayed here.
//! * **LIVE-6** However it ends, [`Output::Ended`] is emitted, once.
//!
//! [`Timer::LogAnswer`] is the log's time to answer, and [`Timer::Restore`] the pause before the next attempt. While
//! the user is held, [`Timer::LogAnswer`] belongs to the stream, and a confirmation uses [`Timer::Restore`] for both.

use alloc::vec::Vec;
use core::time::Duration;

use crate::Handled;
use crate::bounds::Bounds;
use crate::id::{AcquisitionId, ConfirmationId, Incarnation, Tenure};
use crate::timer::Timer;

/// How far a request to the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Request {
    /// The log could not carry it out, or did not answer. It is repeated after a pause.
    Pausing,
    /// It is in flight.
    Requested,
}

/// How an ownership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Ending {
    /// It was released, or given up before it was granted.
    Released,
    /// It was not granted: the user has a living owner.
    Elsewhere {
        /// The owner's process.
        owner: Incarnation,
    },
    /// The log has a newer owner, or has erased the user.
    Fenced,
    /// The process is no longer a member: its lease has ended.
    Lost,
}

/// The states of an ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// The user is not acquired yet.
    Seeking {
        /// The attempt whose answer counts.
        attempt: AcquisitionId,
        /// How far it is.
        request: Request,
    },
    /// The log has granted the user.
    Held {
        /// The right to write.
        tenure: Tenure,
        /// The newest confirmation that was asked for.
        asked: ConfirmationId,
        /// The newest one that was given.
        confirmed: ConfirmationId,
    },
    /// The user is handed over.
    Leaving {
        /// What is released.
        tenure: Tenure,
        /// How far that is.
        request: Request,
    },
    /// It has ended. Final.
    Over {
        /// How.
        ending: Ending,
    },
}

/// The inputs of an ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input {
    /// The log has granted the user, and the stream was read after that.
    Acquired {
        /// The attempt that is answered.
        attempt: AcquisitionId,
        /// The right to write.
        tenure: Tenure,
    },
    /// The user has a living owner.
    Elsewhere {
        /// The attempt that is answered.
        attempt: AcquisitionId,
        /// The owner's process.
        owner: Incarnation,
    },
    /// The log could not grant the user, or its stream could not be read.
    NotAcquired {
        /// The attempt that is answered.
        attempt: AcquisitionId,
    },
    /// Find out whether the user is still held, before something depends on it.
    Confirm,
    /// The log has taken an empty write under the tenure.
    Confirmed {
        /// The attempt that is answered.
        attempt: ConfirmationId,
    },
    /// The log could not say.
    NotConfirmed {
        /// The attempt that is answered.
        attempt: ConfirmationId,
    },
    /// Hand the user over: nothing is pending, and no run is open.
    Release,
    /// The log has released the user.
    Released,
    /// The log could not release the user.
    NotReleased,
    /// The log has a newer owner, or has erased the user.
    Fenced,
    /// The process has lost its lease.
    Lost,
    /// The session ends without waiting for the log.
    Abandon,
    /// A timer fired: [`Timer::LogAnswer`] or [`Timer::Restore`].
    Expired(Timer),
}

/// The outputs of an ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output {
    /// Acquire the user; once it is granted, read its stream.
    Acquire {
        /// The attempt that the answer must quote.
        attempt: AcquisitionId,
    },
    /// Write nothing under the tenure: the answer says that it was valid when the log took the request.
    Confirm {
        /// The tenure.
        tenure: Tenure,
        /// The attempt that the answer must quote.
        attempt: ConfirmationId,
    },
    /// Release the user.
    Release {
        /// The tenure.
        tenure: Tenure,
    },
    /// The user is acquired.
    Granted {
        /// The right to write.
        tenure: Tenure,
    },
    /// The user was held after this confirmation, and all before it, were asked for.
    Held {
        /// The confirmation.
        attempt: ConfirmationId,
    },
    /// It has ended.
    Ended(Ending),
    /// Set a timer.
    Arm(Timer, Duration),
    /// Cancel a timer.
    Disarm(Timer),
}

/// The state machine of an ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ownership {
    state: State,
}

impl Ownership {
    /// Begins to acquire the user.
    pub fn seek(bounds: &Bounds, out: &mut Vec<Output>) -> Self {
        Self { state: acquire(bounds, AcquisitionId(1), out) }
    }

    /// The current state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The right to write; `None` unless the user is held (OWN-1).
    #[must_use]
    pub const fn tenure(&self) -> Option<Tenure> {
        match self.state {
            State::Held { tenure, .. } => Some(tenure),
            State::Seeking { .. } | State::Leaving { .. } | State::Over { .. } => None,
        }
    }

    /// The newest attempt to acquire the user, and how far it is; `None` once that is decided.
    #[must_use]
    pub const fn seeking(&self) -> Option<(AcquisitionId, Request)> {
        match self.state {
            State::Seeking { attempt, request } => Some((attempt, request)),
            State::Held { .. } | State::Leaving { .. } | State::Over { .. } => None,
        }
    }

    /// The newest confirmation that was asked for and has not been given.
    #[must_use]
    pub fn unconfirmed(&self) -> Option<ConfirmationId> {
        match self.state {
            State::Held { asked, confirmed, .. } => (asked > confirmed).then_some(asked),
            State::Seeking { .. } | State::Leaving { .. } | State::Over { .. } => None,
        }
    }

    /// Takes one input. Total: nothing that the log or a timer does can make it fail.
    pub fn step(&mut self, bounds: &Bounds, input: Input, out: &mut Vec<Output>) -> Handled {
        let next = match (self.state, input) {
            (State::Over { .. }, _) => return Handled::Ignored,
            (State::Seeking { .. } | State::Held { .. } | State::Leaving { .. }, Input::Fenced) => {
                end(Ending::Fenced, out)
            }
            (State::Seeking { .. } | State::Held { .. } | State::Leaving { .. }, Input::Lost) => end(Ending::Lost, out),
            (State::Seeking { .. }, Input::Release | Input::Abandon)
            | (State::Held { .. } | State::Leaving { .. }, Input::Abandon) => end(Ending::Released, out),
            (State::Seeking { attempt, request }, input) => {
                return self.seek_on(bounds, (attempt, request), input, out);
            }
            (State::Held { tenure, asked, confirmed }, input) => {
                return self.hold_on(bounds, tenure, (asked, confirmed), input, out);
            }
            (State::Leaving { tenure, request }, input) => return self.leave_on(bounds, (tenure, request), input, out),
        };
        self.state = next;
        Handled::Done
    }

    fn seek_on(
        &mut self,
        bounds: &Bounds,
        (newest, request): (AcquisitionId, Request),
        input: Input,
        out: &mut Vec<Output>,
    ) -> Handled {
        self.state = match (request, input) {
            (Request::Requested, Input::Acquired { attempt, tenure }) if attempt == newest => {
                out.extend([Output::Disarm(Timer::LogAnswer), Output::Granted { tenure }]);
                State::Held { tenure, asked: ConfirmationId(0), confirmed: ConfirmationId(0) }
            }
            (Request::Requested, Input::Elsewhere { attempt, owner }) if attempt == newest => {
                end(Ending::Elsewhere { owner }, out)
            }
            (Request::Requested, Input::NotAcquired { attempt }) if attempt == newest => {
                out.extend([Output::Disarm(Timer::LogAnswer), Output::Arm(Timer::Restore, bounds.restore)]);
                State::Seeking { attempt, request: Request::Pausing }
            }
            (Request::Requested, Input::Expired(Timer::LogAnswer)) => {
                out.push(Output::Arm(Timer::Restore, bounds.restore));
                State::Seeking { attempt: newest, request: Request::Pausing }
            }
            (Request::Pausing, Input::Expired(Timer::Restore)) => acquire(bounds, newest.next(), out),
            (Request::Requested | Request::Pausing, _) => return Handled::Ignored,
        };
        Handled::Done
    }

    fn hold_on(
        &mut self,
        bounds: &Bounds,
        tenure: Tenure,
        (asked, confirmed): (ConfirmationId, ConfirmationId),
        input: Input,
        out: &mut Vec<Output>,
    ) -> Handled {
        self.state = match input {
            Input::Confirm => confirm(bounds, tenure, (asked, confirmed), out),
            Input::Confirmed { attempt } if attempt > confirmed && attempt <= asked => {
                if attempt == asked {
                    out.push(Output::Disarm(Timer::Restore));
                }
                out.push(Output::Held { attempt });
                State::Held { tenure, asked, confirmed: attempt }
            }
            Input::NotConfirmed { attempt } if attempt == asked && asked > confirmed => {
                out.push(Output::Arm(Timer::Restore, bounds.restore));
                self.state
            }
            Input::Expired(Timer::Restore) if asked > confirmed => confirm(bounds, tenure, (asked, confirmed), out),
            Input::Release => {
                out.push(Output::Disarm(Timer::Restore));
                release(bounds, tenure, out)
            }
            Input::Acquired { .. }
            | Input::Elsewhere { .. }
            | Input::NotAcquired { .. }
            | Input::Confirmed { .. }
            | Input::NotConfirmed { .. }
            | Input::Released
            | Input::NotReleased
            | Input::Fenced
            | Input::Lost
            | Input::Abandon
            | Input::Expired(_) => return Handled::Ignored,
        };
        Handled::Done
    }

    fn leave_on(
        &mut self,
        bounds: &Bounds,
        (tenure, request): (Tenure, Request),
        input: Input,
        out: &mut Vec<Output>,
    ) -> Handled {
        self.state = match (request, input) {
            (Request::Requested | Request::Pausing, Input::Released) => end(Ending::Released, out),
            (Request::Requested, Input::NotReleased) => {
                out.extend([Output::Disarm(Timer::LogAnswer), Output::Arm(Timer::Restore, bounds.restore)]);
                State::Leaving { tenure, request: Request::Pausing }
            }
            (Request::Requested, Input::Expired(Timer::LogAnswer)) => {
                out.push(Output::Arm(Timer::Restore, bounds.restore));
                State::Leaving { tenure, request: Request::Pausing }
            }
            (Request::Pausing, Input::Expired(Timer::Restore)) => release(bounds, tenure, out),
            (Request::Requested | Request::Pausing, _) => return Handled::Ignored,
        };
        Handled::Done
    }
}

fn acquire(bounds: &Bounds, attempt: AcquisitionId, out: &mut Vec<Output>) -> State {
    out.extend([Output::Acquire { attempt }, Output::Arm(Timer::LogAnswer, bounds.log_answer)]);
    State::Seeking { attempt, request: Request::Requested }
}

/// Each request is a new attempt: the log may have taken an earlier one before the client saw the entries that it
/// claims.
fn confirm(
    bounds: &Bounds,
    tenure: Tenure,
    (asked, confirmed): (ConfirmationId, ConfirmationId),
    out: &mut Vec<Output>,
) -> State {
    let attempt = asked.next();
    out.extend([Output::Confirm { tenure, attempt }, Output::Arm(Timer::Restore, bounds.log_answer)]);
    State::Held { tenure, asked: attempt, confirmed }
}

fn release(bounds: &Bounds, tenure: Tenure, out: &mut Vec<Output>) -> State {
    out.extend([Output::Release { tenure }, Output::Arm(Timer::LogAnswer, bounds.log_answer)]);
    State::Leaving { tenure, request: Request::Requested }
}

fn end(ending: Ending, out: &mut Vec<Output>) -> State {
    out.extend([Timer::LogAnswer, Timer::Restore].map(Output::Disarm));
    out.push(Output::Ended(ending));
    State::Over { ending }
}
