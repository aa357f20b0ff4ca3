//! One connection's credential.
//!
//! ```text
#![doc = include_str!("diagram/auth.txt")]
//! ```
//!
//! * **AUTH-1** A credential is valid from a verdict to its expiry, its revocation or a refusal, and at no other time.
//! * **AUTH-2** The first verdict pins the identity: a refresh for another user ends the credential.
//! * **AUTH-3** A verdict carries its attempt. Only the newest attempt's verdict counts; an older one changes nothing.
//!   An unreachable verifier admits no connection: a first verification ends, and a refresh leaves the old credential
//!   valid until its own expiry.
//! * **LIVE-4** While the credential is valid, [`Timer::Credential`] is armed for its expiry at the latest, so it is
//!   refreshed or it ends.
//!
//! A lifetime is never zero and never missing ([`Lifetime`]), so a verdict cannot be valid and expired at once, nor
//! valid forever.

use alloc::vec::Vec;
use core::time::Duration;

use crate::Handled;
use crate::bounds::Bounds;
use crate::id::{CredentialId, RevocationGeneration, UserId, VerificationId};
use crate::timer::Timer;

/// The content of a valid credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Grant {
    /// The credential's user.
    pub user: UserId,
    /// The credential.
    pub credential: CredentialId,
    /// When the verification began, as the number of revocations until then.
    pub generation: RevocationGeneration,
}

/// How long a credential remains valid, as the verifier found when it answered. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Lifetime(Duration);

impl Lifetime {
    /// Returns `None` for a duration of zero: such a credential has expired and must be rejected.
    #[must_use]
    pub const fn new(left: Duration) -> Option<Self> {
        if left.is_zero() { None } else { Some(Self(left)) }
    }

    /// The remaining time.
    #[must_use]
    pub const fn left(self) -> Duration {
        self.0
    }
}

/// The verifier's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Verdict {
    /// The credential is valid.
    Valid {
        /// The grant.
        grant: Grant,
        /// How long it remains valid.
        lifetime: Lifetime,
    },
    /// The credential is not valid.
    Rejected,
    /// The verifier could not decide.
    Unavailable,
}

listed! {
    /// Why a credential ended.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub enum Ending {
        /// It expired.
        Expired,
        /// It was revoked.
        Revoked,
        /// The verifier rejected it, or a refresh.
        Rejected,
        /// The verifier could not be reached, and there was no older credential to rely on.
        Unavailable,
        /// A refresh was for another user.
        OtherUser,
        /// More credentials were presented before a verdict than [`Bounds::attempts`] allows.
        Flooding,
        /// The connection ended first.
        Abandoned,
    }
}

/// The states of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// No credential was presented.
    Absent,
    /// The first is being verified.
    Verifying {
        /// How many credentials were presented since the last verdict.
        tries: u8,
    },
    /// Verified.
    Valid {
        /// The grant.
        grant: Grant,
    },
    /// Verified, and a newer one is being verified.
    Refreshing {
        /// The grant of the older credential.
        grant: Grant,
        /// How many credentials were presented since the last verdict.
        tries: u8,
    },
    /// The credential has ended. Final.
    Ended {
        /// The cause.
        ending: Ending,
    },
}

/// The inputs of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input {
    /// The peer presents a credential: the first, a refresh, or a newer one before the last verdict.
    Presented,
    /// The verifier answers an attempt.
    Verdict {
        /// The attempt.
        attempt: VerificationId,
        /// The verifier's result.
        verdict: Verdict,
    },
    /// It was revoked.
    Revoked,
    /// A timer fired: [`Timer::Verification`], [`Timer::Warning`] or [`Timer::Credential`].
    Expired(Timer),
    /// The connection has ended, and the credential is no longer needed.
    Abandoned,
}

/// The outputs of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output {
    /// Ask the verifier about the credential that was just presented.
    Verify(VerificationId),
    /// Set a timer.
    Arm(Timer, Duration),
    /// Cancel a timer.
    Disarm(Timer),
    /// The first credential is valid.
    Granted(Grant),
    /// A refresh was accepted.
    Renewed,
    /// The verifier could not be reached for a refresh; the old credential stays valid.
    NotRenewed,
    /// The credential will expire soon.
    Expiring,
    /// The credential has ended before its connection.
    Ended(Ending),
}

/// The state machine of a credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Auth {
    state: State,
    newest: VerificationId,
}

impl Auth {
    /// Creates the machine, without a credential.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::Absent, newest: VerificationId(0) }
    }

    /// The current state.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The newest attempt. The verdict of an older one is stale.
    #[must_use]
    pub const fn newest(&self) -> VerificationId {
        self.newest
    }

    /// The grant of the valid credential; `None` if there is none (AUTH-1).
    #[must_use]
    pub const fn grant(&self) -> Option<Grant> {
        match self.state {
            State::Valid { grant } | State::Refreshing { grant, .. } => Some(grant),
            State::Absent | State::Verifying { .. } | State::Ended { .. } => None,
        }
    }

    /// Whether the newest attempt's verdict is pending.
    #[must_use]
    pub const fn is_verifying(&self) -> bool {
        match self.state {
            State::Verifying { .. } | State::Refreshing { .. } => true,
            State::Absent | State::Valid { .. } | State::Ended { .. } => false,
        }
    }

    /// Takes one input. Total: no peer, timer or verifier can make it fail.
    pub fn step(&mut self, bounds: &Bounds, input: Input, out: &mut Vec<Output>) -> Handled {
        let next = match (self.state, input) {
            (State::Ended { .. }, _) => return Handled::Ignored,

            (State::Absent, Input::Presented) => self.verify(bounds, State::Verifying { tries: 1 }, out),
            (State::Valid { grant }, Input::Presented) => {
                self.verify(bounds, State::Refreshing { grant, tries: 1 }, out)
            }
            (State::Verifying { tries } | State::Refreshing { tries, .. }, Input::Presented)
                if tries >= bounds.attempts =>
            {
                end(Ending::Flooding, out)
            }
            (State::Verifying { tries }, Input::Presented) => {
                self.verify(bounds, State::Verifying { tries: tries + 1 }, out)
            }
            (State::Refreshing { grant, tries }, Input::Presented) => {
                self.verify(bounds, State::Refreshing { grant, tries: tries + 1 }, out)
            }

            (State::Absent | State::Valid { .. }, Input::Verdict { .. }) => return Handled::Ignored,
            (State::Verifying { .. } | State::Refreshing { .. }, Input::Verdict { attempt, .. })
                if attempt != self.newest =>
            {
                return Handled::Ignored;
            }
            (State::Verifying { .. }, Input::Verdict { verdict: Verdict::Valid { grant, lifetime }, .. }) => {
                out.push(Output::Granted(grant));
                rely(grant, lifetime, out)
            }
            (
                State::Refreshing { grant, .. },
                Input::Verdict { verdict: Verdict::Valid { grant: new, lifetime }, .. },
            ) => {
                if new.user == grant.user {
                    out.push(Output::Renewed);
                    rely(new, lifetime, out)
                } else {
                    end(Ending::OtherUser, out)
                }
            }
            (State::Verifying { .. } | State::Refreshing { .. }, Input::Verdict { verdict: Verdict::Rejected, .. }) => {
                end(Ending::Rejected, out)
            }
            (State::Verifying { .. }, Input::Verdict { verdict: Verdict::Unavailable, .. })
            | (State::Verifying { .. }, Input::Expired(Timer::Verification)) => end(Ending::Unavailable, out),
            (State::Refreshing { grant, .. }, Input::Verdict { verdict: Verdict::Unavailable, .. })
            | (State::Refreshing { grant, .. }, Input::Expired(Timer::Verification)) => {
                out.extend([Output::Disarm(Timer::Verification), Output::NotRenewed]);
                State::Valid { grant }
            }

            (State::Valid { .. } | State::Refreshing { .. }, Input::Expired(Timer::Warning)) => {
                out.push(Output::Expiring);
                self.state
            }
            (State::Valid { .. } | State::Refreshing { .. }, Input::Expired(Timer::Credential)) => {
                end(Ending::Expired, out)
            }
            (State::Valid { .. } | State::Refreshing { .. }, Input::Revoked) => end(Ending::Revoked, out),
            (State::Absent | State::Verifying { .. }, Input::Revoked) => return Handled::Ignored,
            (
                State::Absent | State::Verifying { .. } | State::Valid { .. } | State::Refreshing { .. },
                Input::Abandoned,
            ) => {
                disarm_all(out);
                State::Ended { ending: Ending::Abandoned }
            }
            (
                State::Absent | State::Verifying { .. } | State::Valid { .. } | State::Refreshing { .. },
                Input::Expired(_),
            ) => return Handled::Ignored,
        };
        self.state = next;
        Handled::Done
    }

    fn verify(&mut self, bounds: &Bounds, next: State, out: &mut Vec<Output>) -> State {
        self.newest = self.newest.next();
        out.extend([Output::Verify(self.newest), Output::Arm(Timer::Verification, bounds.verification)]);
        next
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self::new()
    }
}

/// Relies on a grant for its lifetime, with a warning after four fifths of it.
fn rely(grant: Grant, lifetime: Lifetime, out: &mut Vec<Output>) -> State {
    out.extend([
        Output::Disarm(Timer::Verification),
        Output::Arm(Timer::Warning, lifetime.left() * 4 / 5),
        Output::Arm(Timer::Credential, lifetime.left()),
    ]);
    State::Valid { grant }
}

fn end(ending: Ending, out: &mut Vec<Output>) -> State {
    disarm_all(out);
    out.push(Output::Ended(ending));
    State::Ended { ending }
}

fn disarm_all(out: &mut Vec<Output>) {
    out.extend([Timer::Verification, Timer::Warning, Timer::Credential].map(Output::Disarm));
}
