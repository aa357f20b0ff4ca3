//! What must be true of a login, from what was asked and answered alone.

use lockstep_model::CredentialId;
use lockstep_model::login::{Answer, Ask, Input, Logins, Now, Output, Reach};

use super::{Cookie, Gateway, Request, State, Subject, Tab};

/// What is known of a login outside of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Truth {
    pub(crate) subject: Subject,
    /// Which person, with which password.
    pub(crate) person: (u8, u8),
    pub(crate) admitted: bool,
    /// It was answered that it has ended.
    pub(crate) ended: bool,
    /// There is a reason to end it.
    pub(crate) excused: bool,
    pub(crate) reused: bool,
    /// The newest cookie that was answered.
    pub(crate) newest: u64,
    began: u64,
    /// When the last use came that was granted.
    used: u64,
    /// When the first use came that is not granted yet. Others that come before the answer may share it, and what is written.
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

    /// One more login than a subject may have ends another.
    pub(super) fn make_room(&mut self, most: usize) {
        if self.truths.values().filter(|truth| truth.person == self.file.person).count() >= most {
            self.excuse_person();
        }
    }

    /// What a logout with a cookie of this login ends. That it reaches further than this login is certain only while
    /// nothing else has ended it.
    pub(super) fn ends(&self, login: CredentialId, reach: Reach) -> Vec<CredentialId> {
        let Some(this) = self.truths.get(&login) else { return Vec::new() };
        let meant = |id: &CredentialId, other: &Truth| {
            *id == login
                || (reach == Reach::Everywhere && this.is_live() && other.subject == this.subject && other.admitted)
        };
        self.truths.iter().filter(|(id, truth)| meant(id, truth)).map(|(id, _)| *id).collect()
    }

    /// A cookie is presented. The newest one shows that the login is in use, and so does the one before, as the answer may
    /// have been lost.
    pub(super) fn used(&mut self, cookie: Cookie) {
        let time = self.time;
        if let Some(truth) = self.truths.get_mut(&cookie.0).filter(|truth| cookie.1 + 1 >= truth.newest) {
            truth.asked.get_or_insert(time);
        }
    }

    /// A refresh is over: granted, which makes it a use, or not.
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
            // A clock on the wall that is wrong, or a disk that fails, refuses a cookie; what is refused is no use.
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

    /// Holds the machine and the disk to what was answered.
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

    /// Whether every cookie of the browser for that login would be taken, now and after a crash.
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

    /// Whether a cookie would be taken, by a clock on the wall that says nothing against it.
    fn takes(&self, gateway: &Gateway, logins: &Logins<Subject>, cookie: Cookie, up: u64) -> bool {
        let (mut logins, mut outputs, ask) = (logins.clone(), Vec::new(), Ask(9));
        let now = Now { wall: 0, up };
        let input = Input::Refresh { ask, login: cookie.0, turn: cookie.1, now };
        let Some(input) = (gateway.mistake.hears)(self, input) else { return false };
        let _ = logins.step(&gateway.limits, input, &mut outputs);
        !outputs
            .iter()
            .any(|output| matches!(output, Output::Answer(_, Answer::Ended | Answer::Refused) | Output::Ended { .. }))
    }
}
