//! One connection's credential.
//!
//! ```text
#![doc = include_str!("diagram/auth.txt")]
//! ```
//!
//! * **AUTH-1** A credential is valid from a verdict to its expiry, its revocation or a refusal, and at no other time.
//! * **AUTH-2** The identity is pinned by the first verdict: a refresh for another user ends the credential.
//! * **AUTH-3** A verdict carries its attempt. Only the newest attempt's verdict counts; an older one changes nothing.
//!   A verifier that is out of reach admits nobody: a first verification ends, a refresh leaves the old credential to
//!   its own expiry.
//! * **LIVE-4** While it is valid, [`Timer::Credential`] is armed, at its expiry at the latest: it is refreshed or it ends.
//!
//! A lifetime is never zero and never missing ([`Lifetime`]), so a verdict cannot be valid and expired, nor valid for
//! ever.

use alloc::vec::Vec;
use core::time::Duration;

use crate::Handled;
use crate::bounds::Bounds;
use crate::id::{Attempt, CredentialId, Generation, UserId};
use crate::timer::Timer;

/// What a valid credential says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Grant {
    /// Whose it is.
    pub user: UserId,
    /// Which one it is.
    pub credential: CredentialId,
    /// When the verification began, counted in revocations: each raises it.
    pub generation: Generation,
}

/// How long a credential is still valid, as the verifier found when it answered. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Lifetime(Duration);

impl Lifetime {
    /// `None` for a duration of zero: that credential has expired and must be rejected.
    #[must_use]
    pub const fn new(left: Duration) -> Option<Self> {
        if left.is_zero() { None } else { Some(Self(left)) }
    }

    /// The duration.
    #[must_use]
    pub const fn left(self) -> Duration {
        self.0
    }
}

/// What the verifier found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Verdict {
    /// The credential is good.
    Valid {
        /// What it says.
        grant: Grant,
        /// For how long.
        lifetime: Lifetime,
    },
    /// The credential is not good.
    Rejected,
    /// The verifier could not find out.
    Unavailable,
}

listed! {
    /// Why a credential ended.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    pub enum Ending {
        /// Its time was over.
        Expired,
        /// It was revoked.
        Revoked,
        /// The verifier rejected it, or a refresh.
        Rejected,
        /// The verifier was out of reach when there was nothing else to rely on.
        Unavailable,
        /// A refresh was for another user.
        OtherUser,
        /// More were presented than [`Bounds::attempts`] allows before a verdict.
        Flooding,
        /// The connection ended first.
        Abandoned,
    }
}

/// Where the credential is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// None was presented.
    Absent,
    /// The first is being verified.
    Verifying {
        /// How many were presented since the last verdict.
        tries: u8,
    },
    /// Verified.
    Valid {
        /// What it says.
        grant: Grant,
    },
    /// Verified, and a newer one is being verified.
    Refreshing {
        /// What the older one says.
        grant: Grant,
        /// How many were presented since the last verdict.
        tries: u8,
    },
    /// Over. Final.
    Ended {
        /// Why.
        ending: Ending,
    },
}

/// What happens to a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input {
    /// The peer presents one: the first, a refresh, or a newer one before the verdict on the last.
    Presented,
    /// The verifier answers an attempt.
    Verdict {
        /// Which one.
        attempt: Attempt,
        /// What it found.
        verdict: Verdict,
    },
    /// It was revoked.
    Revoked,
    /// A timer fired: [`Timer::Verification`], [`Timer::Warning`] or [`Timer::Credential`].
    Expired(Timer),
    /// The connection is over; nothing is needed any more.
    Abandoned,
}

/// What must be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output {
    /// Ask the verifier about what was just presented.
    Verify(Attempt),
    /// Set a timer.
    Arm(Timer, Duration),
    /// Call a timer off.
    Disarm(Timer),
    /// The first credential is valid.
    Granted(Grant),
    /// A refresh was accepted.
    Renewed,
    /// The verifier was out of reach for a refresh; the credential stays as it is.
    NotRenewed,
    /// The credential will expire soon.
    Expiring,
    /// The credential is over, and not because the connection was.
    Ended(Ending),
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Auth {
    state: State,
    newest: Attempt,
}

impl Auth {
    /// No credential yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::Absent, newest: Attempt(0) }
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The newest attempt; an older one's verdict is stale.
    #[must_use]
    pub const fn newest(&self) -> Attempt {
        self.newest
    }

    /// What the valid credential says; `None` when there is no valid one (AUTH-1).
    #[must_use]
    pub const fn grant(&self) -> Option<Grant> {
        match self.state {
            State::Valid { grant } | State::Refreshing { grant, .. } => Some(grant),
            State::Absent | State::Verifying { .. } | State::Ended { .. } => None,
        }
    }

    /// Whether a verdict is awaited: the newest attempt's.
    #[must_use]
    pub const fn is_verifying(&self) -> bool {
        match self.state {
            State::Verifying { .. } | State::Refreshing { .. } => true,
            State::Absent | State::Valid { .. } | State::Ended { .. } => false,
        }
    }

    /// Takes one input. Total: nothing that a peer, a timer or a verifier does can make it fail.
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

/// Relies on a grant until its lifetime is over, with a warning when four fifths of it are.
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
