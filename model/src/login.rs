//! The logins of a gateway: which are valid, which have ended, and which of these records are on disk.
//!
//! One *login* is one credential: its tokens name it, and its cookie requests the next token. A login that is not in
//! the table is invalid. So an ended login needs no further record, and a single line in one file ends everything that
//! was issued for it.
//!
//! ```text
#![doc = include_str!("diagram/login.txt")]
//! ```
//!
//! # The validity of a cookie
//!
//! The cookies of a login are numbered, and each use creates the next one.
//!
//! | the cookie | what it indicates | what happens |
//! | --- | --- | --- |
//! | the newest | normal use | the next one is created |
//! | the one before | a lost answer or a second tab: its successor is unused | once that is on disk, the newest again |
//! | an older one | a copy: its successor was used | the login ends, for both holders |
//! | a later one | a file that was lost | refused, nothing changes |
//!
//! * **AUTH-4** A login or token that was reported as ended or revoked stays invalid, across crashes, restarts and
//!   clock changes. An end takes effect at once and is answered once it is on disk. This also holds for a repeated
//!   request, because the file may still contain what the table no longer knows. After a failed write, the whole file
//!   is replaced. No end depends on a clock, and none is forgotten because of a clock: see [`revoked`] for another
//!   issuer's tokens.
//! * **AUTH-5** A lost answer or a second tab does not end a login that is in use. A cookie is answered once its number
//!   is on disk, so a crash cannot forget it. Two clocks decide when a login has expired: the wall clock, which may be
//!   wrong, can only refuse it; the time for which gateways have run ends it. Unreadable accounts end nothing.
//! * **LIM-1** Logins, pending requests and revocations are bounded ([`LoginLimits`]). Wrong passwords are bounded by
//!   [`attempts`].

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::id::CredentialId;
use crate::{Handled, Violation, ensure};

pub mod attempts;
mod io;
mod life;
pub mod revoked;
pub mod roster;
mod write;

pub use io::{Answer, Ask, Input, Login, LoginLimits, Moment, Now, Output, Reach, Record, Why};
pub use revoked::Revoked;
pub use roster::{Holder, Holders, NotChanged, Roster};

use write::{Promise, Writer};

/// Whether a login's record is queued or is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Stage {
    /// The record is part of the next write.
    Queued,
    /// The record is part of the write in flight.
    UnderWay,
}

/// The states of a login.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State<S> {
    /// Not on disk yet, and not valid yet.
    Beginning(Login<S>, Stage),
    /// Valid.
    Active(Login<S>),
    /// Valid; the next cookie is not on disk yet.
    Turning(Login<S>, Stage),
    /// Invalid; the end may not be on disk yet. Once it is, the login is removed.
    Ending {
        /// The login's subject.
        subject: S,
        /// The number of the newest cookie.
        turn: u64,
        /// The stage of the end's record.
        stage: Stage,
    },
}

/// The answer to the verifier about a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// The login's tokens are valid.
    Good,
    /// The login is not one of the subject's, or has ended.
    Ended,
    /// The accounts have not been read since the process began.
    Unknown,
}

/// The state machine of all logins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound(deserialize = "S: Ord + serde::Deserialize<'de>")))]
pub struct Logins<S: Ord> {
    logins: BTreeMap<CredentialId, State<S>>,
    accounts: Option<BTreeMap<S, u64>>,
    revoked: Revoked<S>,
    writer: Writer<S>,
    /// How long gateways had run on the file when this one began.
    before: u64,
    /// How long they have run now, according to the newest input.
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
    /// Creates the machine, without logins and with an empty file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies a line of the file. All lines are applied in order, before any input.
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

    /// Whether the file reflects everything that is in effect.
    #[must_use]
    pub const fn is_written(&self) -> bool {
        self.writer.is_settled()
    }

    /// Drops records that are too old to matter, once the file was read. A gateway does this before it rewrites the
    /// file.
    pub fn sweep(&mut self, limits: &LoginLimits) {
        let age = self.age;
        self.logins.retain(|_, state| !state.login().is_some_and(|login| login.is_over_by_age(limits, age)));
        self.revoked.sweep(limits, age);
    }

    /// Returns every record that matters: the content of a file that replaces the current one.
    #[must_use]
    pub fn records(&self) -> Vec<Record<S>> {
        let mark = Record::Mark { age: self.age, seen: self.revoked.seen(), floor: self.revoked.floor() };
        let logins = self.logins.iter().filter_map(|(id, state)| Some(Record::Login(*id, state.written()?)));
        [mark].into_iter().chain(logins).chain(self.revoked.records()).collect()
    }

    /// Whether the tokens of this login are valid.
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

    /// The logins by id.
    #[must_use]
    pub const fn logins(&self) -> &BTreeMap<CredentialId, State<S>> {
        &self.logins
    }

    /// The revocations of another issuer's tokens.
    #[must_use]
    pub const fn revoked(&self) -> &Revoked<S> {
        &self.revoked
    }

    /// Takes one input. Total: no peer, clock or disk can make it fail.
    pub fn step(&mut self, limits: &LoginLimits, input: Input<S>, out: &mut Vec<Output<S>>) -> Handled {
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

    /// Begins the next write, if there is something to write and no write is in flight.
    fn write(&mut self, limits: &LoginLimits, out: &mut Vec<Output<S>>) {
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

    /// Checks the invariants after a step.
    ///
    /// # Errors
    ///
    /// The id of the property that is violated.
    pub fn check(&self, limits: &LoginLimits) -> Result<(), Violation> {
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
            // Everything that waits for the disk is part of the write in flight or of the next one.
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
