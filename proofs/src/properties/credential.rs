//! AUTH-1, AUTH-2, AUTH-3: which credential is valid, from what was presented and what the verifier answered.
//!
//! Only the verdict on the newest credential counts. A valid one makes its grant valid, for the user of the first grant
//! alone. A rejected one makes no grant valid. If the verifier cannot decide, an older grant stays valid, and without
//! one the credential has ended. Time and revocation end it too (LIM-1: so do too many attempts without a verdict).

use core::time::Duration;

use lockstep_model::auth::{Ending, Grant, Input, Verdict};
use lockstep_model::{Bounds, Timer, VerificationId};

/// What was observed of a credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Credential {
    /// The number of presented credentials, which is the newest attempt.
    pub(crate) presented: u32,
    /// The number presented since the last verdict; zero if none is awaited.
    pub(crate) unanswered: u8,
    /// The valid grant.
    pub(crate) valid: Option<Grant>,
    /// Why no grant will be valid again.
    pub(crate) ending: Option<Ending>,
}

/// What an input must bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: the input is late.
    Late,
    /// The verifier is asked.
    Asked(VerificationId),
    /// The first grant is valid, for this long.
    Granted(Grant, Duration),
    /// Another grant of the same user is valid, for this long.
    Renewed(Duration),
    /// The older grant stays valid.
    NotRenewed,
    /// The peer is told that the grant will expire.
    Expiring,
    /// No grant is valid.
    Ended(Ending),
}

impl Effect {
    /// The property that is violated if this does not come about.
    pub(crate) const fn property(self, input: &Input) -> &'static str {
        match (self, input) {
            (Self::Ended(Ending::Flooding), _) => "LIM-1",
            (Self::Ended(Ending::OtherUser), _) => "AUTH-2",
            (Self::Ended(Ending::Unavailable) | Self::Asked(_) | Self::NotRenewed, _)
            | (Self::Late, Input::Verdict { .. }) => "AUTH-3",
            (Self::Expiring, _) => "LIVE-4",
            (
                Self::Granted(..)
                | Self::Renewed(_)
                | Self::Late
                | Self::Ended(Ending::Expired | Ending::Revoked | Ending::Rejected | Ending::Abandoned),
                _,
            ) => "AUTH-1",
        }
    }

    /// The timers that must be armed, with their durations. The peer is warned after four fifths of the lifetime.
    pub(crate) fn arms(self, bounds: &Bounds) -> Vec<(Timer, Duration)> {
        match self {
            Self::Asked(_) => vec![(Timer::Verification, bounds.verification)],
            Self::Granted(_, lifetime) | Self::Renewed(lifetime) => {
                let warning = u64::try_from(lifetime.as_nanos() * 4 / 5).unwrap_or(u64::MAX);
                vec![(Timer::Warning, Duration::from_nanos(warning)), (Timer::Credential, lifetime)]
            }
            Self::Late | Self::NotRenewed | Self::Expiring | Self::Ended(_) => Vec::new(),
        }
    }
}

impl Credential {
    /// Whether a verdict is awaited.
    pub(crate) const fn is_awaited(&self) -> bool {
        self.unanswered > 0
    }

    /// Takes an input.
    pub(crate) fn feed(&mut self, bounds: &Bounds, input: &Input) -> Effect {
        let (awaited, valid) = (self.is_awaited(), self.valid.is_some());
        match *input {
            _ if self.ending.is_some() => Effect::Late,
            Input::Abandoned => self.end(Ending::Abandoned),
            Input::Presented if self.unanswered == bounds.attempts => self.end(Ending::Flooding),
            Input::Presented => {
                (self.presented, self.unanswered) = (self.presented + 1, self.unanswered + 1);
                Effect::Asked(VerificationId(self.presented))
            }
            Input::Verdict { attempt, .. } if !awaited || attempt.0 != self.presented => Effect::Late,
            Input::Verdict { verdict: Verdict::Rejected, .. } => self.end(Ending::Rejected),
            Input::Verdict { verdict: Verdict::Valid { grant, lifetime }, .. } => match self.valid {
                Some(older) if older.user != grant.user => self.end(Ending::OtherUser),
                older => {
                    (self.unanswered, self.valid) = (0, Some(grant));
                    let left = lifetime.left();
                    older.map_or(Effect::Granted(grant, left), |_| Effect::Renewed(left))
                }
            },
            Input::Verdict { verdict: Verdict::Unavailable, .. } | Input::Expired(Timer::Verification) if awaited => {
                if !valid {
                    return self.end(Ending::Unavailable);
                }
                self.unanswered = 0;
                Effect::NotRenewed
            }
            Input::Revoked if valid => self.end(Ending::Revoked),
            Input::Expired(Timer::Credential) if valid => self.end(Ending::Expired),
            Input::Expired(Timer::Warning) if valid => Effect::Expiring,
            Input::Verdict { .. } | Input::Revoked | Input::Expired(_) => Effect::Late,
        }
    }

    fn end(&mut self, ending: Ending) -> Effect {
        (self.valid, self.unanswered, self.ending) = (None, 0, Some(ending));
        Effect::Ended(ending)
    }
}
