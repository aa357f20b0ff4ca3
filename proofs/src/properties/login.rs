//! AUTH-4 and AUTH-5: which logins are valid, from requests and answers alone.
//!
//! | rule | property |
//! | --- | --- |
//! | a login whose end was answered is invalid, in memory and on the disk, and so is one whose account has changed | AUTH-4 |
//! | a cookie is not accepted once its successor was used | AUTH-4 |
//! | a login that was admitted is valid, in memory and on the disk, until there is a reason to end it | AUTH-5 |
//!
//! The reasons are: a request to end it, a change of its account, too many logins, too long a life, too long without a
//! use, and a cookie that was presented by another than its browser.

use std::collections::BTreeMap;

use lockstep_model::CredentialId;
use lockstep_model::login::{Answer, LoginLimits, Reach};

/// A cookie: its login and its number.
pub(crate) type Cookie = (CredentialId, u64);

/// What is known of a login outside the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Login<S> {
    subject: S,
    /// The holder, and which of their passwords.
    pub(crate) holder: (u8, u8),
    pub(crate) admitted: bool,
    /// Whether its end was answered.
    pub(crate) ended: bool,
    /// Whether there is a reason to end it.
    excused: bool,
    pub(crate) reused: bool,
    /// The newest cookie that was answered.
    newest: u64,
    began: u64,
    /// The time of the last granted use.
    used: u64,
    /// The time of the first use that is not granted yet. Later uses before the answer may share the answer and the
    /// write.
    asked: Option<u64>,
}

/// What was observed of the logins of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Observed<S> {
    pub(crate) logins: BTreeMap<CredentialId, Login<S>>,
}

/// What is found of a login in the gateway.
pub(crate) struct Found {
    /// Whether its tokens are valid.
    pub(crate) good: bool,
    /// Whether the disk has it.
    pub(crate) kept: bool,
    /// Whether its account is known to have changed.
    pub(crate) changed: bool,
}

impl<S> Login<S> {
    const fn is_live(&self) -> bool {
        self.admitted && !self.excused
    }
}

impl<S: Clone + PartialEq> Observed<S> {
    pub(crate) const fn new() -> Self {
        Self { logins: BTreeMap::new() }
    }

    /// A holder asks for a login. Exceeding the number of a subject's logins ends another one.
    pub(crate) fn begins(&mut self, id: CredentialId, subject: S, holder: (u8, u8), time: u64, most: usize) {
        if self.logins.values().filter(|login| login.holder == holder).count() >= most {
            self.excuse_all();
        }
        let login = Login {
            subject,
            holder,
            admitted: false,
            ended: false,
            excused: false,
            reused: false,
            newest: 0,
            began: time,
            used: time,
            asked: None,
        };
        self.logins.insert(id, login);
    }

    /// There is a reason to end these.
    pub(crate) fn excuse(&mut self, logins: &[CredentialId]) {
        for login in logins {
            if let Some(login) = self.logins.get_mut(login) {
                login.excused = true;
            }
        }
    }

    /// There is a reason to end all: the account changes.
    pub(crate) fn excuse_all(&mut self) {
        self.logins.values_mut().for_each(|login| login.excused = true);
    }

    /// Returns the logins that a logout with a cookie of this login ends. That it reaches beyond this login is certain
    /// only if nothing else has ended it.
    pub(crate) fn ends(&self, id: CredentialId, reach: Reach) -> Vec<CredentialId> {
        let Some(this) = self.logins.get(&id) else { return Vec::new() };
        let meant = |other: &CredentialId, login: &Login<S>| {
            let reaches = reach == Reach::Everywhere && this.is_live();
            *other == id || (reaches && login.subject == this.subject && login.admitted)
        };
        self.logins.iter().filter(|(other, login)| meant(other, login)).map(|(other, _)| *other).collect()
    }

    /// A cookie is presented. The newest cookie shows that the login is in use. So does the one before, because the
    /// answer may have been lost.
    pub(crate) fn uses(&mut self, (id, cookie): Cookie, time: u64) {
        if let Some(login) = self.logins.get_mut(&id).filter(|login| cookie + 1 >= login.newest) {
            login.asked.get_or_insert(time);
        }
    }

    /// The process ends. A use that is not granted is no use.
    pub(crate) fn forget_uses(&mut self) {
        self.logins.values_mut().for_each(|login| login.asked = None);
    }

    /// The gateway reports that a cookie was used again.
    pub(crate) fn was_reused(&mut self, id: CredentialId) {
        if let Some(login) = self.logins.get_mut(&id) {
            login.reused = true;
        }
    }

    /// A login was answered. Returns whether it may be.
    pub(crate) fn begun(&mut self, id: CredentialId, answer: &Answer<S>) -> bool {
        match answer {
            Answer::Admitted { turn, .. } => self.logins.get_mut(&id).is_some_and(|login| {
                login.admitted = true;
                !login.ended && *turn == 0
            }),
            Answer::Ended => {
                self.end(&[id]);
                true
            }
            Answer::Refused | Answer::Unavailable => true,
        }
    }

    /// A refresh was answered, and others may wait for the same answer. Returns whether it may be so: a cookie is spent
    /// once its successor has been used. A wrong wall clock or a failing disk may refuse a cookie, which is no use.
    pub(crate) fn refreshed(&mut self, (id, cookie): Cookie, answer: &Answer<S>, shared: bool) -> bool {
        match answer {
            Answer::Admitted { turn, subject } => {
                let good = self.logins.get_mut(&id).is_some_and(|login| {
                    let spent = login.newest > cookie + 1;
                    login.newest = login.newest.max(*turn);
                    !spent && !login.ended && login.subject == *subject
                });
                self.used(id, true, shared);
                good
            }
            Answer::Ended => {
                self.end(&[id]);
                true
            }
            Answer::Refused | Answer::Unavailable => {
                self.used(id, false, shared);
                true
            }
        }
    }

    /// A logout of these was answered. Returns whether it may be so.
    pub(crate) fn logged_out(&mut self, logins: &[CredentialId], answer: &Answer<S>) -> bool {
        if *answer == Answer::Ended {
            self.end(logins);
        }
        !matches!(answer, Answer::Admitted { .. })
    }

    fn used(&mut self, id: CredentialId, granted: bool, shared: bool) {
        let Some(login) = self.logins.get_mut(&id) else { return };
        let asked = if shared { login.asked } else { login.asked.take() };
        if granted {
            login.used = login.used.max(asked.unwrap_or(0));
        }
    }

    fn end(&mut self, logins: &[CredentialId]) {
        for id in logins {
            if let Some(login) = self.logins.get_mut(id) {
                login.ended = true;
            }
        }
    }

    /// Time has come to this: logins that have lasted or were unused for too long may end.
    pub(crate) fn elapse(&mut self, time: u64, limits: &LoginLimits) {
        for login in self.logins.values_mut() {
            login.excused |= time >= login.used + limits.idle || time >= login.began + limits.longest;
        }
    }

    /// Returns the property that is violated by what is found of each login. `goes_on` says whether every cookie that
    /// its browser has would be accepted.
    pub(crate) fn violated_by(
        &self,
        find: impl Fn(CredentialId, &Login<S>) -> Found,
        goes_on: impl Fn(CredentialId) -> bool,
    ) -> Option<&'static str> {
        let found = || self.logins.iter().map(|(id, login)| (*id, login, find(*id, login)));
        let revived = |login: &Login<S>, found: &Found| {
            (login.ended && (found.good || found.kept)) || (found.good && found.changed)
        };
        let lost = |id, login: &Login<S>, found: &Found| login.is_live() && !(found.good && found.kept && goes_on(id));
        if found().any(|(_, login, found)| revived(login, &found)) {
            return Some("AUTH-4");
        }
        found().any(|(id, login, found)| lost(id, login, &found)).then_some("AUTH-5")
    }
}
