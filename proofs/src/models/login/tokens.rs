//! Revocations of another issuer's tokens ([`lockstep_model::login::revoked`]): tokens of one subject, an operator, a
//! disk, and clocks.
//!
//! Dates of issue are true, because the issuer's clock is correct. Our clock may be ahead or behind, and jump at any
//! time. A token is checked against our clock as the verifier does: neither expired nor issued in the future.
//!
//! The oracle is `properties::revocation`.

use lockstep_model::CredentialId;
use lockstep_model::login::revoked::Issued;
use lockstep_model::login::{Answer, Ask, Input, Logins, Now, Output, Record};
use stateright::{Model, Property};

use super::limits;
use crate::engine::profile::Profile;
use crate::engine::proof::Proof;
use crate::models::harness::checked;
use crate::properties::revocation::Observed;

/// The model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokens {
    /// The number of issued tokens.
    pub(crate) tokens: usize,
    /// Revocations, disk faults, crashes, time steps and clock jumps.
    pub(crate) trouble: u8,
    /// How a gateway changes the state that it has read.
    pub(crate) begins: fn(&mut Logins<u8>, u64),
}

/// Returns the model at the bounds of a profile.
pub(crate) fn model(profile: Profile) -> Tokens {
    let (tokens, trouble) = match profile {
        Profile::Quick => (2, 5),
        Profile::Ci => (2, 6),
        Profile::Deep => (3, 7),
    };
    Tokens { tokens, trouble, begins: |logins, _| logins.sweep(&limits()) }
}

/// Returns the model at bounds for long random walks.
pub(crate) fn long() -> Tokens {
    Tokens { tokens: 30, trouble: 100, ..model(Profile::Quick) }
}

/// The smallest model that a mistake needs.
pub(crate) fn small() -> Tokens {
    Tokens { tokens: 1, trouble: 4, ..model(Profile::Quick) }
}

/// Drops whatever is too old by the wall clock, as if it had never existed.
pub(crate) fn sweep_by_wall(logins: &mut Logins<u8>, wall: u64) {
    let (records, mut kept) = (logins.records(), Logins::new());
    let young = |record: &Record<u8>| match record {
        Record::Revoked { at, .. } => at.wall.saturating_add(limits().retention) >= wall,
        Record::Login(..) | Record::Ended(_) | Record::Mark { .. } => true,
    };
    records.into_iter().filter(young).for_each(|record| kept.note(record));
    *logins = kept;
}

/// The subject of all tokens.
const SUBJECT: u8 = 1;
/// How long a token lives: no longer than its revocation is remembered.
const LIFE: u64 = 2;

/// A write in progress.
type Write = (bool, Vec<Record<u8>>);

/// The gateway, its disk, the tokens, and the oracle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    logins: Logins<u8>,
    disk: Logins<u8>,
    write: Option<Write>,
    retry: bool,
    time: u64,
    wall: u64,
    up: u64,
    observed: Observed,
    trouble: u8,
    broken: Option<&'static str>,
}

checked![Tokens, State; "AUTH-4", "LIM-1"];

/// An action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The issuer issues a token.
    Issue,
    /// A token is presented.
    Present(usize),
    /// One token is revoked, or all are.
    Revoke(Option<usize>),
    /// The current write completes.
    Written,
    /// The current write fails; all of it is on the disk, or nothing.
    Fail(bool),
    /// The retry delay ends.
    Retry,
    /// The process ends, with all of a write on the disk or nothing, and restarts.
    Crash(bool),
    /// Time passes.
    Elapse,
    /// Our clock is set to the true time, ahead or behind.
    Set(i64),
}

const fn credential(token: usize) -> CredentialId {
    CredentialId(token as u64)
}

impl State {
    fn admits(&self, logins: &Logins<u8>, token: usize) -> bool {
        let issued = self.observed.tokens[token].issued;
        let dates = Issued { at: Some(issued), earliest: issued, leeway: 0 };
        let dated = issued <= self.wall && self.wall < issued + LIFE;
        dated && logins.revoked().check_token(&SUBJECT, credential(token), dates).is_ok()
    }

    fn feed(&mut self, input: Input<u8>) {
        let mut outputs = Vec::new();
        let _ = self.logins.step(&limits(), input, &mut outputs);
        if let Err(violation) = self.logins.check(&limits()) {
            self.violated(violation.0);
        }
        for output in outputs {
            match output {
                Output::Answer(_, answer) => self.observed.answered(answer == Answer::Ended),
                Output::Append(records) => self.write = Some((false, records)),
                Output::Replace(records) => self.write = Some((true, records)),
                Output::Retry => self.retry = true,
                Output::Ended { .. } => self.violated("AUTH-4"),
            }
        }
    }

    fn revoke(&mut self, which: Option<usize>) {
        self.trouble -= 1;
        self.observed.asks(which, self.wall);
        let now = Now { wall: self.wall, up: self.up };
        let credential = which.map(credential);
        self.feed(Input::Revoke { ask: Ask(1), subject: SUBJECT, credential, now });
    }

    fn apply(&mut self, done: bool) {
        let Some((replaces, records)) = self.write.take() else { return };
        if done && replaces {
            self.disk = Logins::new();
        }
        if done {
            records.into_iter().for_each(|record| self.disk.note(record));
        }
    }

    fn restart(&mut self, model: Tokens) {
        self.logins = self.disk.clone();
        (model.begins)(&mut self.logins, self.wall);
        self.disk = Logins::new();
        self.logins.records().into_iter().for_each(|record| self.disk.note(record));
        (self.up, self.retry) = (0, false);
    }
}

impl Model for Tokens {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            logins: Logins::new(),
            disk: Logins::new(),
            write: None,
            retry: false,
            time: 10,
            wall: 10,
            up: 0,
            observed: Observed::default(),
            trouble: self.trouble,
            broken: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        let tokens = &state.observed.tokens;
        if tokens.len() < self.tokens {
            actions.push(Action::Issue);
        }
        let unseen = |number: &usize| !tokens[*number].seen && state.admits(&state.logins, *number);
        actions.extend((0..tokens.len()).filter(unseen).map(Action::Present));
        if state.write.is_some() {
            actions.push(Action::Written);
        }
        if state.retry {
            actions.push(Action::Retry);
        }
        if state.trouble == 0 {
            return;
        }
        if !state.observed.is_asked() && !tokens.is_empty() {
            actions.push(Action::Revoke(None));
            actions.extend((0..tokens.len()).map(Some).map(Action::Revoke));
        }
        if state.write.is_some() {
            actions.extend([false, true].map(Action::Fail));
        }
        actions.extend([Action::Crash(false), Action::Crash(true), Action::Elapse]);
        actions.extend([-4, 0, 4].map(Action::Set));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        match action {
            Action::Issue => {
                next.observed.issued(next.time);
            }
            Action::Present(number) => {
                next.observed.tokens[number].seen = true;
                next.feed(Input::Seen { issued: next.observed.tokens[number].issued });
            }
            Action::Revoke(which) => next.revoke(which),
            Action::Written => {
                next.apply(true);
                next.feed(Input::Written);
            }
            Action::Fail(done) => {
                next.trouble -= 1;
                next.apply(done);
                next.feed(Input::NotWritten);
            }
            Action::Retry => {
                next.retry = false;
                next.feed(Input::Retry);
            }
            Action::Crash(done) => {
                next.trouble -= 1;
                next.apply(done);
                next.restart(*self);
                next.observed.forget(next.logins.revoked().seen());
            }
            Action::Elapse => {
                next.trouble -= 1;
                (next.time, next.wall, next.up) = (next.time + 1, next.wall + 1, next.up + 1);
            }
            Action::Set(by) => {
                next.trouble -= 1;
                next.wall = next.time.saturating_add_signed(by);
            }
        }
        let accepts = |number| next.admits(&next.logins, number) || next.admits(&next.disk, number);
        let violated = next.observed.is_violated_by(accepts);
        next.expect(!violated, "AUTH-4");
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = unbroken();
        all.extend([
            Property::sometimes("AUTH-4.revoked", |_, state: &State| {
                state.observed.tokens.iter().any(|token| token.revoked)
            }),
            Property::sometimes("AUTH-4.good", |_, state: &State| {
                state.observed.tokens.iter().any(|token| token.revoked)
                    && (0..state.observed.tokens.len()).any(|number| state.admits(&state.logins, number))
            }),
            Property::sometimes("LIM-1.dropped", |_, state: &State| state.logins.revoked().floor() > 0),
        ]);
        all
    }
}

impl Proof for Tokens {
    fn name(&self) -> &'static str {
        "revoked"
    }

    fn about(&self) -> &'static str {
        "revocations of another issuer's tokens: crashes, a disk that fails, a clock that jumps, a bound on memory"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![
            ("tokens", self.tokens.to_string()),
            ("revocations, faults, crashes, steps of time and jumps", self.trouble.to_string()),
            ("revocations remembered", limits().revocations.to_string()),
        ]
    }

    fn is_short(&self) -> bool {
        true
    }
}
