//! One process among many: its incarnation and its lease.
//!
//! | state | meaning | ends |
//! | --- | --- | --- |
//! | apart | no incarnation | by [`Input::Join`] |
//! | joining | the log has not confirmed the incarnation | confirmed, refused, or told to leave |
//! | member | the lease runs, and is renewed after a third of it | refused, [`Deadline::Lease`], or told to leave |
//! | leaving | the log is asked to forget the incarnation | confirmed, or not answered in time |
//! | lost | the lease has ended; every session was told | by [`Input::Join`] with a new incarnation |
//! | gone | final | |
//!
//! A lease is a promise about *time*, so it decides only two matters of time: how soon a dead process's users are
//! served elsewhere, and how long a revocation waits for a process that cannot be reached. Only the log decides which
//! process may write a user's log, with a fencing token ([`tenure`](crate::tenure)). That holds even if every clock is
//! wrong. Gray and Cheriton, *Leases: an efficient fault-tolerant mechanism for distributed file cache consistency*
//! (SOSP 1989), give the rule for two clocks: the holder counts from before it asked, the grantor from when it granted,
//! so the holder's lease ends first if the clocks' rates differ by less than the margin. The fencing token is
//! Kleppmann's, *How to do distributed locking* (2016).
//!
//! * **OWN-5** The lease counts from the moment before the renewal was sent ([`Input::Renewed`]), less
//!   [`LeaseTimes::margin`]. An answer that took longer renews nothing. When the lease ends, each session ends with it
//!   ([`Output::Stop`]), so a process that the log no longer counts shows nothing. A process that was paused handles
//!   [`Deadline::Lease`] before anything else: that is the driver's duty.
//! * **LIVE-5** An incarnation whose lease has ended never comes back. The process joins again under a new one, so the
//!   log can tell the users of the earlier one from its own.

use alloc::vec::Vec;
use core::time::Duration;

use crate::Handled;
use crate::id::{Incarnation, RenewalId};

/// The times of a lease. All processes of a cluster have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LeaseTimes {
    /// For how long the log grants a lease.
    pub lease: Duration,
    /// By how much a process ends its own lease early, for clocks whose rates differ.
    pub margin: Duration,
}

impl LeaseTimes {
    /// A lease of ten seconds, with a margin of one.
    pub const DEFAULT: Self = Self { lease: Duration::from_secs(10), margin: Duration::from_secs(1) };

    /// The time from one renewal to the next. Two may fail before the lease ends.
    #[must_use]
    pub fn renewal(&self) -> Duration {
        self.lease / 3
    }

    /// The rest of a lease whose renewal was sent this long ago; `None` if it is over.
    #[must_use]
    pub fn left(&self, elapsed: Duration) -> Option<Duration> {
        let left = self.lease.checked_sub(self.margin)?.checked_sub(elapsed)?;
        (!left.is_zero()).then_some(left)
    }
}

/// The timers of a member. They belong to the process and not to a session, and are handled before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Deadline {
    /// Renew the lease; while leaving: the log has not answered in time.
    Renewal,
    /// The lease ends.
    Lease,
}

/// The states of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// It has no incarnation yet.
    Apart,
    /// The log has not confirmed the incarnation.
    Joining {
        /// The incarnation.
        incarnation: Incarnation,
    },
    /// The lease runs.
    Member {
        /// The incarnation.
        incarnation: Incarnation,
    },
    /// The log is asked to forget the incarnation.
    Leaving {
        /// The incarnation.
        incarnation: Incarnation,
    },
    /// The lease has ended.
    Lost,
    /// It has left. Final.
    Gone,
}

/// The inputs of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input {
    /// Become a member.
    Join {
        /// A fresh incarnation, made at the edge.
        incarnation: Incarnation,
    },
    /// The log has renewed the lease.
    Renewed {
        /// The incarnation that is answered.
        incarnation: Incarnation,
        /// The attempt that is answered.
        attempt: RenewalId,
        /// The time since just before the renewal was sent, by a clock that never jumps.
        elapsed: Duration,
    },
    /// The log says that the incarnation is no member: its lease has ended. An answer to a renewal, or to a request
    /// that only a member may make.
    Refused {
        /// The incarnation.
        incarnation: Incarnation,
    },
    /// Leave: no session is left.
    Leave,
    /// The log has forgotten the incarnation.
    Departed {
        /// The incarnation.
        incarnation: Incarnation,
    },
    /// A timer fired: [`Deadline::Renewal`] or [`Deadline::Lease`].
    Expired(Deadline),
}

/// The outputs of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output {
    /// Ask the log to renew the lease, or to grant the first one.
    Renew {
        /// The incarnation.
        incarnation: Incarnation,
        /// The attempt that the answer must quote.
        attempt: RenewalId,
    },
    /// Ask the log to forget the incarnation. If the answer is lost, the log forgets it when the lease ends.
    Depart {
        /// The incarnation.
        incarnation: Incarnation,
    },
    /// The process is a member: sessions may acquire users.
    Joined {
        /// The incarnation.
        incarnation: Incarnation,
    },
    /// The lease has ended: every session ends, and nothing more is shown to any client.
    Stop,
    /// Set a timer.
    Arm(Deadline, Duration),
    /// Cancel a timer.
    Disarm(Deadline),
}

/// The state machine of a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Membership {
    state: State,
    /// The newest renewal that was sent under the incarnation.
    sent: RenewalId,
    /// The newest one that counted. An older answer would shorten the lease.
    counted: RenewalId,
}

impl Membership {
    /// Creates the machine, apart.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::Apart, sent: RenewalId(0), counted: RenewalId(0) }
    }

    /// The current state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The incarnation under which users are acquired; `None` while the lease does not run.
    #[must_use]
    pub const fn incarnation(&self) -> Option<Incarnation> {
        match self.state {
            State::Member { incarnation } => Some(incarnation),
            State::Apart | State::Joining { .. } | State::Leaving { .. } | State::Lost | State::Gone => None,
        }
    }

    /// Takes one input. Total: nothing that the log or a timer does can make it fail.
    pub fn step(&mut self, limits: &LeaseTimes, input: Input, out: &mut Vec<Output>) -> Handled {
        let next = match (self.state, input) {
            (State::Apart | State::Lost, Input::Join { incarnation }) => {
                (self.sent, self.counted) = (RenewalId(0), RenewalId(0));
                self.renew(limits, incarnation, out);
                State::Joining { incarnation }
            }
            (
                State::Joining { incarnation } | State::Member { incarnation },
                Input::Renewed { incarnation: answered, attempt, elapsed },
            ) if answered == incarnation && attempt > self.counted && attempt <= self.sent => {
                let Some(left) = limits.left(elapsed) else { return Handled::Ignored };
                self.counted = attempt;
                if let State::Joining { .. } = self.state {
                    out.push(Output::Joined { incarnation });
                }
                out.push(Output::Arm(Deadline::Lease, left));
                State::Member { incarnation }
            }
            (
                State::Joining { incarnation } | State::Member { incarnation },
                Input::Refused { incarnation: refused },
            ) if refused == incarnation => self.lose(out),
            (State::Member { .. }, Input::Expired(Deadline::Lease)) => self.lose(out),
            (State::Joining { incarnation } | State::Member { incarnation }, Input::Expired(Deadline::Renewal)) => {
                self.renew(limits, incarnation, out);
                self.state
            }
            (State::Joining { incarnation } | State::Member { incarnation }, Input::Leave) => {
                out.extend([
                    Output::Depart { incarnation },
                    Output::Disarm(Deadline::Lease),
                    Output::Arm(Deadline::Renewal, limits.renewal()),
                ]);
                State::Leaving { incarnation }
            }
            (State::Leaving { incarnation }, Input::Departed { incarnation: departed }) if departed == incarnation => {
                out.push(Output::Disarm(Deadline::Renewal));
                State::Gone
            }
            (State::Leaving { .. }, Input::Expired(Deadline::Renewal)) | (State::Apart | State::Lost, Input::Leave) => {
                State::Gone
            }
            (State::Apart | State::Lost, Input::Renewed { .. } | Input::Refused { .. } | Input::Departed { .. })
            | (
                State::Joining { .. } | State::Member { .. },
                Input::Join { .. } | Input::Renewed { .. } | Input::Refused { .. } | Input::Departed { .. },
            )
            | (
                State::Leaving { .. },
                Input::Join { .. }
                | Input::Renewed { .. }
                | Input::Refused { .. }
                | Input::Leave
                | Input::Departed { .. },
            )
            | (State::Joining { .. } | State::Leaving { .. }, Input::Expired(Deadline::Lease))
            | (State::Apart | State::Lost, Input::Expired(_))
            | (State::Gone, _) => return Handled::Ignored,
        };
        self.state = next;
        Handled::Done
    }

    fn renew(&mut self, limits: &LeaseTimes, incarnation: Incarnation, out: &mut Vec<Output>) {
        self.sent = self.sent.next();
        out.push(Output::Renew { incarnation, attempt: self.sent });
        out.push(Output::Arm(Deadline::Renewal, limits.renewal()));
    }

    /// Ends the lease. A process that was never confirmed has no session to end.
    fn lose(&self, out: &mut Vec<Output>) -> State {
        if let State::Member { .. } = self.state {
            out.push(Output::Stop);
        }
        out.extend([Deadline::Renewal, Deadline::Lease].map(Output::Disarm));
        State::Lost
    }
}

impl Default for Membership {
    fn default() -> Self {
        Self::new()
    }
}
