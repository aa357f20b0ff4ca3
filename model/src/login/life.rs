//! The transitions of a login.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::io::{Answer, Ask, Input, Login, LoginLimits, Moment, Output, Reach, Record, Why};
use super::write::Promise;
use super::{Logins, Stage, State};
use crate::id::CredentialId;

impl<S> Input<S> {
    /// The request that waits for an answer.
    pub(super) const fn asks(&self) -> Option<Ask> {
        match self {
            Self::LogIn { ask, .. }
            | Self::Refresh { ask, .. }
            | Self::LogOut { ask, .. }
            | Self::End { ask, .. }
            | Self::Revoke { ask, .. } => Some(*ask),
            Self::Seen { .. } | Self::Looked(_) | Self::GiveUp(_) | Self::Written | Self::NotWritten | Self::Retry => {
                None
            }
        }
    }
}

impl<S> Login<S> {
    /// Whether the login has lasted or was unused for too long, independent of the wall clock.
    pub(super) const fn is_over_by_age(&self, limits: &LoginLimits, age: u64) -> bool {
        age >= self.turned.age.saturating_add(limits.idle) || age >= self.began.age.saturating_add(limits.longest)
    }

    /// Whether the login has expired according to the wall clock.
    const fn is_over_by_wall(&self, limits: &LoginLimits, wall: u64) -> bool {
        wall >= self.turned.wall.saturating_add(limits.idle) || wall >= self.began.wall.saturating_add(limits.longest)
    }
}

impl<S: Clone> State<S> {
    /// The login, unless it has ended.
    #[must_use]
    pub const fn login(&self) -> Option<&Login<S>> {
        match self {
            Self::Beginning(login, _) | Self::Active(login) | Self::Turning(login, _) => Some(login),
            Self::Ending { .. } => None,
        }
    }

    /// The login's record in the file.
    pub(super) fn written(&self) -> Option<Login<S>> {
        match self {
            Self::Beginning(login, _) | Self::Active(login) => Some(login.clone()),
            Self::Turning(login, _) => Some(Login { turn: login.turn + 1, ..login.clone() }),
            Self::Ending { .. } => None,
        }
    }

    pub(super) const fn goes_under_way(&mut self) {
        match self {
            Self::Active(_) => {}
            Self::Beginning(_, stage) | Self::Turning(_, stage) | Self::Ending { stage, .. } => {
                *stage = Stage::UnderWay;
            }
        }
    }
}

impl<S: Clone + Ord> Logins<S> {
    #[expect(clippy::too_many_arguments, reason = "the fields of one input")]
    pub(super) fn log_in(
        &mut self,
        limits: &LoginLimits,
        ask: Ask,
        id: CredentialId,
        subject: S,
        version: u64,
        now: Moment,
        out: &mut Vec<Output<S>>,
    ) {
        let known = self.accounts.as_ref().map(|accounts| accounts.get(&subject) == Some(&version));
        let refused = match known {
            None => Some(Answer::Unavailable),
            // The password was changed while it was being compared.
            Some(false) => Some(Answer::Refused),
            Some(true) if self.logins.contains_key(&id) => Some(Answer::Unavailable),
            Some(true) => None,
        };
        if let Some(answer) = refused {
            return out.push(Output::Answer(ask, answer));
        }
        if self.logins.len() >= limits.logins {
            self.end_over(limits, now, out);
            return out.push(Output::Answer(ask, Answer::Unavailable));
        }
        self.make_room(limits, &subject, out);
        let login = Login { subject, version, began: now, turn: 0, turned: now };
        self.writer.add(Record::Login(id, login.clone()));
        self.logins.insert(id, State::Beginning(login, Stage::Queued));
        self.writer.touch(id);
        self.writer.wait(ask, Promise::Begun(id));
    }

    /// Ends some of a subject's logins if one more would exceed the limit.
    fn make_room(&mut self, limits: &LoginLimits, subject: &S, out: &mut Vec<Output<S>>) {
        let logins = self.logins.iter().filter_map(|(id, state)| Some((*id, state.login()?)));
        let of_subject = logins.filter(|(_, login)| login.subject == *subject);
        let mut of_subject: Vec<_> = of_subject.map(|(id, login)| (login.turned, id)).collect();
        of_subject.sort_unstable();
        let surplus = (of_subject.len() + 1).saturating_sub(limits.per_subject);
        for (_, id) in of_subject.into_iter().take(surplus) {
            self.end(id, Why::TooMany, out);
        }
    }

    /// Ends the logins that have lasted or were unused for too long.
    fn end_over(&mut self, limits: &LoginLimits, now: Moment, out: &mut Vec<Output<S>>) {
        let logins = self.logins.iter().filter_map(|(id, state)| Some((*id, state.login()?)));
        let over: Vec<_> =
            logins.filter(|(_, login)| login.is_over_by_age(limits, now.age)).map(|(id, _)| id).collect();
        for id in over {
            self.end(id, Why::Over, out);
        }
    }

    pub(super) fn refresh(
        &mut self,
        limits: &LoginLimits,
        ask: Ask,
        id: CredentialId,
        turn: u64,
        now: Moment,
        out: &mut Vec<Output<S>>,
    ) {
        let Some(state) = self.logins.get_mut(&id) else {
            return out.push(Output::Answer(ask, Answer::Ended));
        };
        let (login, turning) = match state {
            State::Ending { stage, .. } => {
                let stage = *stage;
                return self.wait(ask, Promise::Ended, stage);
            }
            State::Beginning(..) => return out.push(Output::Answer(ask, Answer::Unavailable)),
            State::Active(login) => (login, None),
            State::Turning(login, stage) => (login, Some(*stage)),
        };
        if self.accounts.is_none() {
            return out.push(Output::Answer(ask, Answer::Unavailable));
        }
        let (over, reused) = (login.is_over_by_age(limits, now.age), turn.saturating_add(1) < login.turn);
        if over || reused {
            self.end(id, if over { Why::Over } else { Why::Reused }, out);
            return self.wait(ask, Promise::Ended, Stage::Queued);
        }
        if turn > login.turn || login.is_over_by_wall(limits, now.wall) {
            return out.push(Output::Answer(ask, Answer::Refused));
        }
        if turn < login.turn {
            if turning.is_some() {
                let (subject, turn) = (login.subject.clone(), login.turn);
                return out.push(Output::Answer(ask, Answer::Admitted { subject, turn }));
            }
            // The answer was lost, perhaps long ago. The login is in use now, and a crash must not forget that.
            login.turned = now;
            let line = Record::Login(id, login.clone());
            self.writer.add(line);
            return self.wait(ask, Promise::Turned(id), Stage::Queued);
        }
        let stage = turning.unwrap_or(Stage::Queued);
        if turning.is_none() {
            let login = Login { turned: now, ..login.clone() };
            *state = State::Turning(login, stage);
            let written = state.written();
            self.writer.touch(id);
            if let Some(login) = written {
                self.writer.add(Record::Login(id, login));
            }
        }
        self.wait(ask, Promise::Turned(id), stage);
    }

    pub(super) fn log_out(&mut self, ask: Ask, id: CredentialId, turn: u64, reach: Reach, out: &mut Vec<Output<S>>) {
        let (subject, newest) = match self.logins.get(&id) {
            None => return out.push(Output::Answer(ask, Answer::Ended)),
            Some(State::Ending { subject, turn, .. }) => (subject.clone(), *turn),
            Some(State::Beginning(login, _) | State::Active(login) | State::Turning(login, _)) => {
                (login.subject.clone(), login.turn)
            }
        };
        // A cookie that was replaced long ago can end only its own login.
        let good = turn.saturating_add(1) >= newest;
        let which = if reach == Reach::Everywhere && good { None } else { Some(id) };
        self.end_of(&subject, which, Why::LoggedOut, out);
        self.answer_ended(ask, &subject, which, out);
    }

    /// Ends one login of a subject, or all.
    pub(super) fn end_of(&mut self, subject: &S, which: Option<CredentialId>, why: Why, out: &mut Vec<Output<S>>) {
        let meant =
            |id: &CredentialId, login: &Login<S>| login.subject == *subject && which.is_none_or(|one| one == *id);
        let logins = self.logins.iter().filter(|(id, state)| state.login().is_some_and(|login| meant(id, login)));
        let ids: Vec<_> = logins.map(|(id, _)| *id).collect();
        for id in ids {
            self.end(id, why, out);
        }
    }

    /// Answers that one login of a subject, or all, have ended, once each end is on disk.
    pub(super) fn answer_ended(
        &mut self,
        ask: Ask,
        subject: &S,
        which: Option<CredentialId>,
        out: &mut Vec<Output<S>>,
    ) {
        let stage = |(id, state): (&CredentialId, &State<S>)| match state {
            State::Ending { subject: of, stage, .. } if of == subject && which.is_none_or(|one| one == *id) => {
                Some(*stage)
            }
            State::Beginning(..) | State::Active(_) | State::Turning(..) | State::Ending { .. } => None,
        };
        // The next write comes after the one in flight, so the last end to be written decides.
        let stages = self.logins.iter().filter_map(stage);
        match stages.min() {
            None => out.push(Output::Answer(ask, Answer::Ended)),
            Some(stage) => self.wait(ask, Promise::Ended, stage),
        }
    }

    /// Ends a login: immediately in memory, then on disk.
    pub(super) fn end(&mut self, id: CredentialId, why: Why, out: &mut Vec<Output<S>>) {
        let Some(login) = self.logins.get(&id).and_then(State::login) else { return };
        let (subject, turn) = (login.subject.clone(), login.turn);
        self.logins.insert(id, State::Ending { subject: subject.clone(), turn, stage: Stage::Queued });
        self.writer.add(Record::Ended(id));
        self.writer.touch(id);
        out.push(Output::Ended { subject, login: id, why });
    }

    /// Ends the logins whose account is gone or has another password.
    pub(super) fn look(&mut self, accounts: BTreeMap<S, u64>, out: &mut Vec<Output<S>>) {
        let gone = |login: &Login<S>| accounts.get(&login.subject) != Some(&login.version);
        let gone = self.logins.iter().filter(|(_, state)| state.login().is_some_and(gone));
        let gone: Vec<_> = gone.map(|(id, _)| *id).collect();
        self.accounts = Some(accounts);
        for id in gone {
            self.end(id, Why::AccountChanged, out);
        }
    }

    fn wait(&mut self, ask: Ask, promise: Promise, stage: Stage) {
        match stage {
            Stage::Queued => self.writer.wait(ask, promise),
            Stage::UnderWay => self.writer.join(ask, promise),
        }
    }

    /// The disk has the records of these logins.
    pub(super) fn settle(&mut self, touched: Vec<CredentialId>) {
        for id in touched {
            let state = match self.logins.get_mut(&id) {
                Some(state @ (State::Beginning(_, Stage::UnderWay) | State::Turning(_, Stage::UnderWay))) => state,
                Some(State::Ending { stage: Stage::UnderWay, .. }) => {
                    self.logins.remove(&id);
                    continue;
                }
                // It has ended since, or its cookie was used again.
                Some(State::Beginning(..) | State::Active(_) | State::Turning(..) | State::Ending { .. }) | None => {
                    continue;
                }
            };
            if let Some(login) = state.written() {
                *state = State::Active(login);
            }
        }
    }

    /// The disk may or may not have the records of these logins. Ended ones stay ended, and their ends are written
    /// again.
    pub(super) fn undo(&mut self, touched: Vec<CredentialId>, out: &mut Vec<Output<S>>) {
        for id in touched {
            match self.logins.get_mut(&id) {
                Some(State::Beginning(_, Stage::UnderWay)) => self.end(id, Why::GivenUp, out),
                Some(state @ State::Turning(_, Stage::UnderWay)) => {
                    if let Some(login) = state.login().cloned() {
                        *state = State::Active(login);
                    }
                }
                Some(State::Ending { stage, .. }) => {
                    *stage = Stage::Queued;
                    self.writer.touch(id);
                }
                Some(State::Beginning(..) | State::Active(_) | State::Turning(..)) | None => {}
            }
        }
    }

    /// Answers the requests that waited for what is on disk now.
    pub(super) fn keep(&mut self, promises: Vec<(Ask, Promise)>, out: &mut Vec<Output<S>>) {
        for (ask, promise) in promises {
            match promise {
                Promise::Ended => out.push(Output::Answer(ask, Answer::Ended)),
                Promise::Begun(id) | Promise::Turned(id) => match self.logins.get(&id) {
                    Some(State::Active(login) | State::Turning(login, _)) => {
                        let (subject, turn) = (login.subject.clone(), login.turn);
                        out.push(Output::Answer(ask, Answer::Admitted { subject, turn }));
                    }
                    // It has ended in the meantime.
                    Some(State::Ending { stage, .. }) => {
                        let stage = *stage;
                        self.wait(ask, Promise::Ended, stage);
                    }
                    Some(State::Beginning(..)) | None => out.push(Output::Answer(ask, Answer::Ended)),
                },
            }
        }
    }
}
