//! The possible actions of each actor, and their effects.
#![expect(clippy::wildcard_enum_match_arm, reason = "one action is looked for among all")]

use std::mem;

use lockstep_model::CredentialId;
use lockstep_model::login::{Answer, Ask, Holder, Input, Logins, Now, Output, Reach, Record, Standing, Why};

use super::{Action, Cookie, Gateway, NAME, Request, State, Subject, THIEF, Tab, Write};
use crate::properties::login::{Found, Login};

impl State {
    pub(super) fn actions(&self, begun: usize, actions: &mut Vec<Action>) {
        self.requests(begun, actions);
        for (index, tab) in self.tabs.iter().enumerate() {
            match tab {
                Tab::Idle => {}
                Tab::Sent(_) => actions.push(Action::Arrive(index)),
                Tab::Waiting(_) if self.trouble > 0 => actions.push(Action::GiveUp(index)),
                Tab::Waiting(_) => {}
                Tab::Answered(..) => {
                    actions.push(Action::Deliver(index));
                    if self.trouble > 0 && index != THIEF {
                        actions.push(Action::Lose(index));
                    }
                }
            }
        }
        if self.write.is_some() {
            actions.push(Action::Written);
        }
        if self.retry {
            actions.push(Action::Retry);
        }
        if !self.file.absent && !self.file.looked {
            actions.push(Action::Look);
        }
        if self.file.absent {
            actions.push(Action::Absent(false));
        }
        if !self.unwritten.is_empty() && !self.is_ending() {
            actions.push(Action::Second);
        }
        if self.trouble > 0 {
            self.troubles(actions);
        }
    }

    fn requests(&self, begun: usize, actions: &mut Vec<Action>) {
        if self.requests == 0 {
            return;
        }
        // The tabs are interchangeable: the second is used if the first is busy.
        let free = self.tabs[..THIEF].iter().position(|tab| *tab == Tab::Idle);
        if let Some(tab) = free {
            if tab == 0
                && !self.file.absent
                && self.file.roster.accounts().contains_key(&NAME)
                && self.observed.logins.len() < begun
            {
                actions.push(Action::LogIn(tab));
            }
            if self.may_refresh() {
                actions.push(Action::Refresh(tab));
            }
            if self.jar.is_some() {
                actions.extend([Reach::This, Reach::Everywhere].map(|reach| Action::LogOut(tab, reach)));
            }
        }
        if self.stolen.is_some() && self.tabs[THIEF] == Tab::Idle {
            actions.push(Action::Refresh(THIEF));
        }
    }

    /// Whether no request or answer of the other tab has been overtaken yet.
    fn may_refresh(&self) -> bool {
        let Some(jar) = self.jar else { return false };
        let current = |tab: &Tab| match tab {
            Tab::Sent(cookie) | Tab::Waiting(Request::Refresh(cookie)) => cookie.0 != jar.0 || cookie.1 >= jar.1,
            Tab::Answered(Request::Refresh(cookie), Answer::Admitted { turn, .. }) => {
                cookie.0 != jar.0 || *turn >= jar.1
            }
            Tab::Idle | Tab::Waiting(_) | Tab::Answered(..) => true,
        };
        self.tabs[..THIEF].iter().all(current)
    }

    fn troubles(&self, actions: &mut Vec<Action>) {
        let lines = self.write.as_ref().map_or(0, |write| if write.replaces { 1 } else { write.records.len() });
        if self.write.is_some() {
            actions.extend((0..=lines).map(Action::Fail));
        }
        if !self.file.absent {
            actions.extend((0..=lines).map(Action::Crash));
            actions.push(if self.file.roster.accounts().is_empty() { Action::Add } else { Action::Remove });
            if !self.file.roster.accounts().is_empty() {
                actions.push(Action::Password);
            }
            actions.push(Action::Absent(true));
        }
        if self.stolen.is_none() && self.jar.is_some() {
            actions.push(Action::Steal);
        }
        actions.extend([Action::Elapse, Action::Jump(-8), Action::Jump(8)]);
    }

    pub(super) fn act(&mut self, gateway: &Gateway, action: Action) {
        let ask = |tab: usize| Ask(u64::try_from(tab).unwrap_or(u64::MAX));
        match action {
            Action::LogIn(tab) => self.log_in(gateway, tab),
            Action::Refresh(tab) => {
                self.requests -= 1;
                let cookie = if tab == THIEF { self.stolen } else { self.jar };
                let Some(cookie) = cookie else { return };
                self.tabs[tab] = Tab::Sent(cookie);
                if tab != 0 {
                    self.arrive(gateway, tab);
                }
            }
            Action::Arrive(tab) => self.arrive(gateway, tab),
            Action::LogOut(tab, reach) => {
                self.requests -= 1;
                let Some((login, turn)) = self.jar else { return };
                let ended = self.observed.ends(login, reach);
                self.observed.excuse(&ended);
                if reach == Reach::Everywhere {
                    self.observed.excuse_all();
                }
                self.tabs[tab] = Tab::Waiting(Request::LogOut(ended));
                self.feed(gateway, Input::LogOut { ask: ask(tab), login, turn, reach });
            }
            Action::Deliver(tab) => self.deliver(tab),
            Action::Lose(tab) => {
                self.trouble -= 1;
                self.tabs[tab] = Tab::Idle;
            }
            Action::GiveUp(tab) => {
                self.trouble -= 1;
                if let Tab::Waiting(Request::LogIn(login)) = mem::take(&mut self.tabs[tab]) {
                    self.observed.excuse(&[login]);
                }
                self.feed(gateway, Input::GiveUp(ask(tab)));
            }
            Action::Steal => {
                self.trouble -= 1;
                self.stolen = self.jar;
            }
            Action::Written => {
                self.apply(usize::MAX);
                self.feed(gateway, Input::Written);
            }
            Action::Fail(lines) => {
                self.trouble -= 1;
                self.apply(lines);
                self.feed(gateway, Input::NotWritten);
            }
            Action::Retry => {
                self.retry = false;
                self.feed(gateway, Input::Retry);
            }
            Action::Crash(lines) => {
                self.trouble -= 1;
                self.apply(lines);
                self.restart(gateway);
            }
            Action::Look => self.look(gateway),
            Action::Remove | Action::Add | Action::Password => self.administer(action),
            Action::Absent(absent) => {
                self.trouble -= u8::from(absent);
                self.file.absent = absent;
            }
            Action::Elapse => {
                self.trouble -= 1;
                (self.time, self.now.up, self.now.wall) = (self.time + 1, self.now.up + 1, self.now.wall + 1);
            }
            Action::Jump(by) => {
                self.trouble -= 1;
                self.now.wall = self.now.wall.saturating_add_signed(by);
            }
            Action::Second => {
                for (ask, login) in mem::take(&mut self.unwritten) {
                    self.second_file.push(login);
                    self.dispatch(Output::Answer(ask, Answer::Ended));
                }
            }
        }
    }

    fn log_in(&mut self, gateway: &Gateway, tab: usize) {
        self.requests -= 1;
        let Some((subject, version)) = self.file.roster.versions().next() else { return };
        let id = CredentialId(1 + self.observed.logins.len() as u64);
        let (holder, most) = (self.file.holder, gateway.limits.per_subject);
        self.observed.begins(id, subject.clone(), holder, self.time, most);
        self.tabs[tab] = Tab::Waiting(Request::LogIn(id));
        let ask = Ask(u64::try_from(tab).unwrap_or(u64::MAX));
        self.feed(gateway, Input::LogIn { ask, login: id, subject, version, now: self.now });
    }

    fn arrive(&mut self, gateway: &Gateway, tab: usize) {
        let Tab::Sent(cookie) = self.tabs[tab] else { return };
        if tab == THIEF {
            self.observed.excuse(&[cookie.0]);
        }
        self.observed.uses(cookie, self.time);
        self.tabs[tab] = Tab::Waiting(Request::Refresh(cookie));
        let ask = Ask(u64::try_from(tab).unwrap_or(u64::MAX));
        self.feed(gateway, Input::Refresh { ask, login: cookie.0, turn: cookie.1, now: self.now });
    }

    fn deliver(&mut self, tab: usize) {
        let Tab::Answered(request, answer) = mem::take(&mut self.tabs[tab]) else { return };
        let cookie = match (request, answer) {
            (Request::LogIn(login) | Request::Refresh((login, _)), Answer::Admitted { turn, .. }) => {
                Some((login, turn))
            }
            (Request::LogOut(_), Answer::Ended) => None,
            (_, Answer::Admitted { .. } | Answer::Ended | Answer::Refused | Answer::Unavailable) => return,
        };
        *(if tab == THIEF { &mut self.stolen } else { &mut self.jar }) = cookie;
    }

    fn administer(&mut self, action: Action) {
        self.trouble -= 1;
        self.observed.excuse_all();
        let (file, at) = (&mut self.file, self.now.wall);
        let done = match action {
            Action::Add => {
                file.holder = (file.holder.0 + 1, 1);
                file.roster.add(NAME, (), at)
            }
            Action::Password => {
                file.holder.1 += 1;
                file.roster.change(&NAME, (), at)
            }
            _ => file.roster.remove(&NAME),
        };
        done.unwrap_or_else(|_| unreachable!("only what can be done is done"));
        file.looked = false;
    }

    /// Applies the lines of a write that reach the disk. A replacement applies completely or not at all.
    fn apply(&mut self, lines: usize) {
        let Some(Write { replaces, records }) = self.write.take() else { return };
        if replaces && lines > 0 {
            self.disk = read(records);
        } else if !replaces {
            records.into_iter().take(lines).for_each(|record| self.disk.note(record));
        }
    }

    /// The start of a gateway.
    fn restart(&mut self, gateway: &Gateway) {
        let mut logins = self.disk.clone();
        logins.sweep(&gateway.limits);
        self.disk = read(logins.records());
        (self.logins, self.now, self.retry) = (logins, Now { up: 0, ..self.now }, false);
        self.unwritten.clear();
        for tab in &mut self.tabs {
            if matches!(tab, Tab::Waiting(_)) {
                *tab = Tab::Idle;
            }
        }
        self.observed.forget_uses();
        self.look(gateway);
    }

    pub(super) fn look(&mut self, gateway: &Gateway) {
        self.file.looked = true;
        self.feed(gateway, Input::Looked(self.file.roster.versions().collect()));
    }

    fn feed(&mut self, gateway: &Gateway, input: Input<Subject>) {
        let Some(input) = (gateway.mistake.feed)(self, input) else { return };
        let mut outputs = Vec::new();
        let _ = self.logins.step(&gateway.limits, input, &mut outputs);
        if let Err(violation) = self.logins.check(&gateway.limits) {
            self.violated(violation.0);
        }
        for output in (gateway.mistake.outputs)(self, outputs) {
            self.dispatch(output);
        }
    }

    fn dispatch(&mut self, output: Output<Subject>) {
        match output {
            Output::Answer(Ask(number), answer) => {
                // A tab that has given up, or was answered, is not waiting.
                let tab = usize::try_from(number).ok().and_then(|tab| self.tabs.get_mut(tab));
                let Some(tab) = tab.filter(|tab| matches!(tab, Tab::Waiting(_))) else { return };
                if let Tab::Waiting(request) = mem::take(tab) {
                    *tab = Tab::Answered(request.clone(), answer.clone());
                    self.answered(&request, &answer);
                }
            }
            Output::Append(records) => self.begin(Write { replaces: false, records }),
            Output::Replace(records) => self.begin(Write { replaces: true, records }),
            Output::Ended { login, why, .. } => {
                if why == Why::Reused {
                    self.observed.was_reused(login);
                }
            }
            Output::Retry => {
                self.expect(!self.retry, "LIM-1");
                self.retry = true;
            }
        }
    }

    fn answered(&mut self, request: &Request, answer: &Answer<Subject>) {
        let right = match request {
            Request::LogIn(login) => self.observed.begun(*login, answer),
            Request::Refresh(cookie) => {
                let waits = |tab: &Tab| matches!(tab, Tab::Waiting(Request::Refresh((other, _))) if *other == cookie.0);
                let shared = self.tabs.iter().any(waits);
                self.observed.refreshed(*cookie, answer, shared)
            }
            Request::LogOut(ended) => self.observed.logged_out(ended, answer),
        };
        self.expect(right, "AUTH-4");
    }

    /// Checks the machine and the disk against the answers so far.
    pub(super) fn check(&mut self, gateway: &Gateway) {
        self.observed.elapse(self.time, &gateway.limits);
        let exists = !self.file.roster.accounts().is_empty();
        let find = |id: CredentialId, login: &Login<Subject>| Found {
            good: (gateway.mistake.good)(self, id),
            kept: self.disk.logins().contains_key(&id),
            changed: self.file.looked && !(exists && login.holder == self.file.holder),
        };
        if let Some(property) = self.observed.violated_by(find, |id| self.goes_on(gateway, id)) {
            self.violated(property);
        }
    }

    /// Whether some login satisfies this.
    pub(super) fn any(&self, is: impl Fn(&Login<Subject>) -> bool) -> bool {
        self.observed.logins.values().any(is)
    }

    fn begin(&mut self, write: Write) {
        self.expect(self.write.is_none(), "AUTH-4");
        self.write = Some(write);
    }

    /// Whether the tokens of a login are valid.
    pub(crate) fn is_good(&self, login: CredentialId) -> bool {
        let subject = self.logins.logins().get(&login).and_then(|state| state.login()).map(|login| &login.subject);
        subject.is_some_and(|subject| self.logins.standing(subject, login) == Standing::Good)
    }

    pub(super) fn is_ending(&self) -> bool {
        self.logins.logins().values().any(|state| state.login().is_none())
    }

    /// Whether every cookie that the browser has for the login would be accepted, now and after a crash.
    fn goes_on(&self, gateway: &Gateway, login: CredentialId) -> bool {
        let sent = self.tabs[..THIEF].iter().filter_map(|tab| match tab {
            Tab::Sent(cookie) => Some(*cookie),
            Tab::Answered(Request::LogIn(login) | Request::Refresh((login, _)), Answer::Admitted { turn, .. }) => {
                Some((*login, *turn))
            }
            Tab::Idle | Tab::Waiting(_) | Tab::Answered(..) => None,
        });
        let mut cookies = sent.chain(self.jar).filter(|cookie| cookie.0 == login);
        cookies.all(|cookie| {
            let mut restarted = self.disk.clone();
            let looked = Input::Looked(self.file.roster.versions().collect());
            let _ = restarted.step(&gateway.limits, looked, &mut Vec::new());
            self.takes(gateway, &self.logins, cookie, self.now.up) && self.takes(gateway, &restarted, cookie, 0)
        })
    }

    /// Whether a cookie would be accepted, unless the wall clock is against it.
    fn takes(&self, gateway: &Gateway, logins: &Logins<Subject>, cookie: Cookie, up: u64) -> bool {
        let (mut logins, mut outputs, ask) = (logins.clone(), Vec::new(), Ask(9));
        let now = Now { wall: 0, up };
        let input = Input::Refresh { ask, login: cookie.0, turn: cookie.1, now };
        let Some(input) = (gateway.mistake.feed)(self, input) else { return false };
        let _ = logins.step(&gateway.limits, input, &mut outputs);
        !outputs
            .iter()
            .any(|output| matches!(output, Output::Answer(_, Answer::Ended | Answer::Refused) | Output::Ended { .. }))
    }
}

/// Returns the logins restored from a file with these lines.
pub(super) fn read(records: Vec<Record<Holder<u8>>>) -> Logins<Holder<u8>> {
    let mut logins = Logins::new();
    records.into_iter().for_each(|record| logins.note(record));
    logins
}
