//! The expected state of a login, from requests and answers alone.

use lockstep_model::CredentialId;
use lockstep_model::login::{Answer, Ask, Input, Logins, Now, Output, Reach};

use super::{Cookie, Gateway, Request, State, Subject, Tab};

/// What is known of a login outside the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Truth {
    pub(crate) subject: Subject,
    /// The person, and which of their passwords.
    pub(crate) person: (u8, u8),
    pub(crate) admitted: bool,
    /// Whether its end was answered.
    pub(crate) ended: bool,
    /// Whether there is a reason to end it.
    pub(crate) excused: bool,
    pub(crate) reused: bool,
    /// The newest cookie that was answered.
    pub(crate) newest: u64,
    began: u64,
    /// The time of the last granted use.
    used: u64,
    /// The time of the first use that is not granted yet. Later uses before the answer may share the answer and the
    /// write.
    pub(super) asked: Option<u64>,
}

impl Truth {
    pub(super) const fn new(subject: Subject, person: (u8, u8), time: u64) -> Self {
        Self {
            subject,
            person,
            admitted: false,
            ended: false,
            excused: false,
            reused: false,
            newest: 0,
            began: time,
            used: time,
            asked: None,
        }
    }

    const fn is_live(&self) -> bool {
        self.admitted && !self.excused
    }
}

impl State {
    pub(super) fn excuse(&mut self, logins: &[CredentialId]) {
        for login in logins {
            if let Some(truth) = self.truths.get_mut(login) {
                truth.excused = true;
            }
        }
    }

    /// The account changes.
    pub(super) fn excuse_person(&mut self) {
        self.truths.values_mut().for_each(|truth| truth.excused = true);
    }

    /// Exceeding the number of a subject's logins ends another one.
    pub(super) fn make_room(&mut self, most: usize) {
        if self.truths.values().filter(|truth| truth.person == self.file.person).count() >= most {
            self.excuse_person();
        }
    }

    /// Returns the logins that a logout with a cookie of this login ends. That it reaches beyond this login is certain
    /// only if nothing else has ended it.
    pub(super) fn ends(&self, login: CredentialId, reach: Reach) -> Vec<CredentialId> {
        let Some(this) = self.truths.get(&login) else { return Vec::new() };
        let meant = |id: &CredentialId, other: &Truth| {
            *id == login
                || (reach == Reach::Everywhere && this.is_live() && other.subject == this.subject && other.admitted)
        };
        self.truths.iter().filter(|(id, truth)| meant(id, truth)).map(|(id, _)| *id).collect()
    }

    /// A cookie is presented. The newest cookie shows that the login is in use. So does the one before, because the
    /// answer may have been lost.
    pub(super) fn used(&mut self, cookie: Cookie) {
        let time = self.time;
        if let Some(truth) = self.truths.get_mut(&cookie.0).filter(|truth| cookie.1 + 1 >= truth.newest) {
            truth.asked.get_or_insert(time);
        }
    }

    /// A refresh ends. If it was granted, it counts as a use.
    fn answered_use(&mut self, login: CredentialId, granted: bool) {
        let waits = |tab: &Tab| matches!(tab, Tab::Waiting(Request::Refresh((other, _))) if *other == login);
        let shared = self.tabs.iter().any(waits);
        let Some(truth) = self.truths.get_mut(&login) else { return };
        let asked = if shared { truth.asked } else { truth.asked.take() };
        if granted {
            truth.used = truth.used.max(asked.unwrap_or(0));
        }
    }

    pub(super) fn answered(&mut self, request: &Request, answer: &Answer<Subject>) {
        match (request, answer) {
            (Request::LogIn(login), Answer::Admitted { turn, .. }) => {
                let first = self.truths.get_mut(login).is_some_and(|truth| {
                    truth.admitted = true;
                    !truth.ended
                });
                self.expect(first && *turn == 0, "AUTH-4");
            }
            (Request::Refresh((login, cookie)), Answer::Admitted { turn, subject }) => {
                let good = self.truths.get_mut(login).is_some_and(|truth| {
                    // A cookie is spent once its successor has been used.
                    let spent = truth.newest > cookie + 1;
                    truth.newest = truth.newest.max(*turn);
                    !spent && !truth.ended && truth.subject == *subject
                });
                self.answered_use(*login, true);
                self.expect(good, "AUTH-4");
            }
            (Request::LogIn(login) | Request::Refresh((login, _)), Answer::Ended) => self.end(&[*login]),
            (Request::LogOut(ended), Answer::Ended) => self.end(ended),
            (Request::LogOut(_), Answer::Admitted { .. }) => self.violated("AUTH-4"),
            // A wrong wall clock or a failing disk may refuse a cookie. A refused cookie is no use.
            (Request::Refresh((login, _)), Answer::Refused | Answer::Unavailable) => self.answered_use(*login, false),
            (_, Answer::Refused | Answer::Unavailable) => {}
        }
    }

    fn end(&mut self, logins: &[CredentialId]) {
        for login in logins {
            if let Some(truth) = self.truths.get_mut(login) {
                truth.ended = true;
            }
        }
    }

    /// Checks the machine and the disk against the answers so far.
    pub(super) fn check(&mut self, gateway: &Gateway) {
        let (time, limits) = (self.time, &gateway.limits);
        for truth in self.truths.values_mut() {
            truth.excused |= time >= truth.used + limits.idle || time >= truth.began + limits.longest;
        }
        let exists = !self.file.roster.accounts().is_empty();
        let (mut ended, mut lasting) = (true, true);
        for (id, truth) in &self.truths {
            let good = (gateway.mistake.good)(self, *id);
            let on_disk = self.disk.logins().contains_key(id);
            let current = exists && truth.person == self.file.person;
            ended &= !(truth.ended && (good || on_disk));
            ended &= !good || current || !self.file.looked;
            lasting &= !truth.is_live() || (good && on_disk && self.goes_on(gateway, *id));
        }
        self.expect(ended, "AUTH-4");
        self.expect(lasting, "AUTH-5");
    }

    /// Whether every cookie that the browser has for the login would be accepted, now and after a crash.
    fn goes_on(&self, gateway: &Gateway, login: CredentialId) -> bool {
        let sent = self.tabs[..super::THIEF].iter().filter_map(|tab| match tab {
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

    /// Whether a cookie would be accepted, if the wall clock does not speak against it.
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
