//! The logins of a gateway: who is logged in, what has ended, and what of it is on the disk.
//!
//! One *login* is one credential: its tokens name it, and its cookie asks for the next token. A login that is not in the
//! table is good for nothing, so there is nothing else to be remembered of one that has ended, and one line of one file
//! ends all that was ever issued for it.
//!
//! ```text
#![doc = include_str!("diagram/login.txt")]
//! ```
//!
//! # What a cookie is worth
//!
//! Cookies of a login are numbered: each use makes the next one.
//!
//! | the cookie | what it is | what happens |
//! | --- | --- | --- |
//! | the newest | the cookie | the next one is made |
//! | the one before | an answer that was lost, or a second tab: its successor was never used | the newest, once more, when the disk knows of the use |
//! | an older one | a copy: its successor was used | the login ends, for both |
//! | a later one | of a file that was lost | refused, nothing changes |
//!
//! * **AUTH-4** What was answered ended or revoked is good for nothing afterwards, across crashes, restarts and clocks.
//!   An end is in effect at once, and is answered when it is on the disk: also when it is asked for again, for what the
//!   table does not know any more may still be in the file. After a write that failed the whole file is replaced. No end
//!   depends on a clock, and none is forgotten because a clock says so: see [`revoked`] for another issuer's tokens.
//! * **AUTH-5** A lost answer or a second tab does not end a login in use. A cookie is answered when its number is on the
//!   disk, so that a crash cannot forget it. Two clocks tell when a login is over: the clock on the wall, which may be
//!   wrong, can only refuse it; the time for which gateways have run ends it. Accounts that cannot be read end nothing.
//! * **LIM-1** Logins, waiting requests and revocations have bounds ([`Limits`]).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::id::CredentialId;
use crate::{Handled, Violation, ensure};

mod io;
mod life;
pub mod revoked;
pub mod roster;
mod write;

pub use io::{Answer, Ask, Input, Limits, Login, Moment, Now, Output, Reach, Record, Why};
pub use revoked::Revoked;
pub use roster::{Holders, NotChanged, Person, Roster};

use write::{Promise, Writer};

/// Whether what the file says has been ordered, or is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Stage {
    /// It goes with the next write.
    Queued,
    /// It goes with the write that is under way.
    UnderWay,
}

/// Where a login is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State<S> {
    /// It is not on the disk yet, and good for nothing.
    Beginning(Login<S>, Stage),
    /// Good.
    Active(Login<S>),
    /// Good; the next cookie is not on the disk yet.
    Turning(Login<S>, Stage),
    /// Good for nothing; the disk may not know that yet. After that it is gone.
    Ending {
        /// Whose it was.
        subject: S,
        /// The number of its newest cookie.
        turn: u64,
        /// How far that is written.
        stage: Stage,
    },
}

/// What the verifier is told of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Its tokens are good.
    Good,
    /// It is none of this subject's, or has ended.
    Ended,
    /// The accounts were not read since the process began.
    Unknown,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound(deserialize = "S: Ord + serde::Deserialize<'de>")))]
pub struct Logins<S: Ord> {
    logins: BTreeMap<CredentialId, State<S>>,
    accounts: Option<BTreeMap<S, u64>>,
    revoked: Revoked<S>,
    writer: Writer<S>,
    /// For how long gateways had run on the file when this one began.
    before: u64,
    /// For how long they have run now, as far as an input has told.
    age: u64,
}

impl<S: Ord> Default for Logins<S> {
    fn default() -> Self {
        Self {
            logins: BTreeMap::new(),
            accounts: None,
            revoked: Revoked::default(),
            writer: Writer::default(),
            before: 0,
            age: 0,
        }
    }
}

impl<S: Clone + Ord> Logins<S> {
    /// No login, and an empty file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a line of the file, in the order of the lines, before anything else happens.
    pub fn note(&mut self, record: Record<S>) {
        match record {
            Record::Login(id, login) => {
                self.age = self.age.max(login.turned.age);
                self.logins.insert(id, State::Active(login));
            }
            Record::Ended(id) => drop(self.logins.remove(&id)),
            Record::Revoked { subject, credential, at } => {
                self.age = self.age.max(at.age);
                self.revoked.note(subject, credential, at);
            }
            Record::Mark { age, seen, floor } => {
                self.age = self.age.max(age);
                self.revoked.note_mark(seen, floor);
            }
        }
        self.before = self.age;
    }

    /// Whether the file tells all that is in effect.
    #[must_use]
    pub const fn is_written(&self) -> bool {
        self.writer.is_settled()
    }

    /// Drops what is too old to count, once the file was read: what a gateway does before it writes the file anew.
    pub fn sweep(&mut self, limits: &Limits) {
        let age = self.age;
        self.logins.retain(|_, state| !state.login().is_some_and(|login| login.is_over_by_age(limits, age)));
        self.revoked.sweep(limits, age);
    }

    /// Every line that counts: what a file must hold that replaces the one that is there.
    #[must_use]
    pub fn records(&self) -> Vec<Record<S>> {
        let mark = Record::Mark { age: self.age, seen: self.revoked.seen(), floor: self.revoked.floor() };
        let logins = self.logins.iter().filter_map(|(id, state)| Some(Record::Login(*id, state.written()?)));
        [mark].into_iter().chain(logins).chain(self.revoked.records()).collect()
    }

    /// Whether the tokens of this login are good.
    #[must_use]
    pub fn standing(&self, subject: &S, login: CredentialId) -> Standing {
        match self.logins.get(&login) {
            Some(State::Active(login) | State::Turning(login, _)) if login.subject == *subject => {
                if self.accounts.is_some() { Standing::Good } else { Standing::Unknown }
            }
            Some(State::Beginning(..) | State::Active(_) | State::Turning(..) | State::Ending { .. }) | None => {
                Standing::Ended
            }
        }
    }

    /// The logins by their names.
    #[must_use]
    pub const fn logins(&self) -> &BTreeMap<CredentialId, State<S>> {
        &self.logins
    }

    /// What is revoked of another issuer's tokens.
    #[must_use]
    pub const fn revoked(&self) -> &Revoked<S> {
        &self.revoked
    }

    /// Takes one input. Total: nothing that a peer, a clock or a disk does can make it fail.
    pub fn step(&mut self, limits: &Limits, input: Input<S>, out: &mut Vec<Output<S>>) -> Handled {
        if let Some(ask) = input.asks()
            && self.writer.waiting() >= limits.waiting
        {
            out.push(Output::Answer(ask, Answer::Unavailable));
            return Handled::Done;
        }
        match input {
            Input::LogIn { ask, login, subject, version, now } => {
                let now = self.moment(now);
                self.log_in(limits, ask, login, subject, version, now, out);
            }
            Input::Refresh { ask, login, turn, now } => {
                let now = self.moment(now);
                self.refresh(limits, ask, login, turn, now, out);
            }
            Input::LogOut { ask, login, turn, reach } => self.log_out(ask, login, turn, reach, out),
            Input::End { ask, subject, login } => {
                self.end_of(&subject, login, Why::Revoked, out);
                self.answer_ended(ask, &subject, login, out);
            }
            Input::Revoke { ask, subject, credential, now } => {
                let now = self.moment(now);
                let record = self.revoked.revoke(limits, subject, credential, now);
                self.writer.add(record);
                self.writer.wait(ask, Promise::Ended);
            }
            Input::Seen { issued } => {
                if issued <= self.revoked.seen() {
                    return Handled::Ignored;
                }
                if self.revoked.see(issued) {
                    let (seen, floor) = (self.revoked.seen(), self.revoked.floor());
                    self.writer.add(Record::Mark { age: self.age, seen, floor });
                }
            }
            Input::Looked(accounts) => self.look(accounts, out),
            Input::GiveUp(ask) => match self.writer.give_up(ask) {
                None => return Handled::Ignored,
                Some(Promise::Begun(login)) if matches!(self.logins.get(&login), Some(State::Beginning(..))) => {
                    self.end(login, Why::GivenUp, out);
                }
                Some(Promise::Begun(_) | Promise::Turned(_) | Promise::Ended) => {}
            },
            Input::Written => {
                let Some(batch) = self.writer.written() else { return Handled::Ignored };
                self.settle(batch.touched);
                self.keep(batch.promises, out);
            }
            Input::NotWritten => {
                let Some(batch) = self.writer.not_written() else { return Handled::Ignored };
                self.undo(batch.touched, out);
                let unavailable = |(ask, _)| Output::Answer(ask, Answer::Unavailable);
                out.extend(batch.promises.into_iter().map(unavailable));
                if self.writer.rest() {
                    out.push(Output::Retry);
                }
            }
            Input::Retry => {
                if !self.writer.wake() {
                    return Handled::Ignored;
                }
            }
        }
        self.write(limits, out);
        Handled::Done
    }

    /// Begins the next write, if there is something to write and no write is under way.
    fn write(&mut self, limits: &Limits, out: &mut Vec<Output<S>>) {
        let count = self.logins.len() + self.revoked.len() + 1;
        if self.writer.is_writing() {
            return self.writer.bound(limits, count);
        }
        if !self.writer.is_wanted() {
            return;
        }
        let touched: Vec<CredentialId> = self.writer.touched().to_vec();
        let lines = self.writer.begin(limits, count);
        for id in touched {
            if let Some(state) = self.logins.get_mut(&id) {
                state.goes_under_way();
            }
        }
        out.push(match lines {
            Some(records) => Output::Append(records),
            None => Output::Replace(self.records()),
        });
    }

    /// What the machine promises of itself after each step.
    ///
    /// # Errors
    ///
    /// The property that does not hold.
    pub fn check(&self, limits: &Limits) -> Result<(), Violation> {
        ensure(self.logins.len() <= limits.logins, "LIM-1")?;
        ensure(self.writer.waiting() <= limits.waiting, "LIM-1")?;
        self.revoked.check(limits)?;
        let ending = |id: &CredentialId| matches!(self.logins.get(id), Some(State::Ending { .. }));
        let (queued, under_way) = (self.writer.touched(), self.writer.under_way());
        for (id, state) in &self.logins {
            let stage = match state {
                State::Active(_) => continue,
                State::Beginning(_, stage) | State::Turning(_, stage) | State::Ending { stage, .. } => stage,
            };
            let place = if *stage == Stage::Queued { queued } else { under_way };
            // Whatever waits for the disk is in a write that is under way or will be.
            ensure(place.contains(id), if ending(id) { "AUTH-4" } else { "AUTH-5" })?;
        }
        if let Some(accounts) = &self.accounts {
            let matches = |login: &Login<S>| accounts.get(&login.subject) == Some(&login.version);
            ensure(self.logins.values().filter_map(State::login).all(matches), "AUTH-4")?;
        }
        Ok(())
    }

    /// The moment of an input.
    fn moment(&mut self, now: Now) -> Moment {
        self.age = self.age.max(self.before.saturating_add(now.up));
        Moment { age: self.age, wall: now.wall }
    }
}
