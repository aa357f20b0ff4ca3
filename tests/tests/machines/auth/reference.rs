//! The reference has no states: it counts what was presented, and remembers what the newest verdict allowed.

use std::collections::BTreeSet;

use lockstep_model::auth::Input;
use lockstep_model::{Attempt, Grant, Handled, Timer, UserId, Verdict};

use crate::support::SMALL;

#[derive(Default)]
pub(crate) struct Reference {
    pub(crate) presented: u32,
    /// The number presented since the last verdict that counted.
    unanswered: u32,
    pub(crate) valid: Option<Grant>,
    pub(crate) pinned: Option<UserId>,
    pub(crate) over: bool,
    pub(crate) armed: BTreeSet<Timer>,
}

impl Reference {
    /// The expected result of an input; updates the reference.
    pub(crate) fn expect(&mut self, input: Input) -> Handled {
        if self.over {
            return Handled::Ignored;
        }
        let waiting = self.unanswered > 0;
        match input {
            Input::Presented if self.unanswered == u32::from(SMALL.attempts) => self.end(),
            Input::Presented => {
                self.presented += 1;
                self.unanswered += 1;
            }
            Input::Verdict { attempt, .. } if !waiting || attempt != Attempt(self.presented) => {
                return Handled::Ignored;
            }
            Input::Verdict { verdict: Verdict::Valid { grant, .. }, .. } => {
                self.unanswered = 0;
                if *self.pinned.get_or_insert(grant.user) == grant.user {
                    self.valid = Some(grant);
                } else {
                    self.end();
                }
            }
            Input::Verdict { verdict: Verdict::Rejected, .. } | Input::Abandoned => self.end(),
            Input::Expired(Timer::Verification) if !waiting => return Handled::Ignored,
            Input::Verdict { verdict: Verdict::Unavailable, .. } | Input::Expired(Timer::Verification) => {
                self.unanswered = 0;
                if self.valid.is_none() {
                    self.end();
                }
            }
            Input::Revoked | Input::Expired(Timer::Credential) if self.valid.is_some() => self.end(),
            Input::Expired(Timer::Warning) if self.valid.is_some() => {}
            Input::Revoked | Input::Expired(_) => return Handled::Ignored,
        }
        Handled::Done
    }

    fn end(&mut self) {
        (self.over, self.valid, self.unanswered) = (true, None, 0);
    }
}
