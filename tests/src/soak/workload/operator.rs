//! The operator's requests, each in a task of its own.

use std::time::Instant;

use serde_json::json;

use super::super::plan::Place;
use super::super::watch;
use super::{Done, LONG, Workload, user_name};
use crate::process::token;

/// One of this many notices is for everyone.
const TO_EVERYONE: u64 = 4;

impl Workload {
    pub(super) fn revoke(&mut self, user: usize) {
        self.ledger.count("revocations");
        let name = user_name(user);
        let now = Instant::now();
        let tabs = self.tabs[user].iter().enumerate().filter(|(_, tab)| tab.reader.live && tab.paused_until < now);
        let live = tabs.map(|(number, tab)| (Place { user, tab: number }, tab.loads, tab.reader.closes)).collect();
        let old = core::mem::replace(&mut self.tokens[user], token(&name, LONG));
        let (address, operator, sequence) = (self.address, self.operator.clone(), self.undisturbed());
        self.done.spawn(async move {
            let body = json!({ "subject": name }).to_string();
            let answer = watch::ask(address, "POST", "/operator/revoke", &operator, &body).await;
            Done::Revoked { user, sequence, live, old, answer }
        });
    }

    pub(super) fn notice(&mut self, user: usize) {
        self.ledger.count("notices");
        let number = self.ledger.counted("notices");
        if number.is_multiple_of(TO_EVERYONE) {
            self.tell_all(number);
            return;
        }
        let (address, operator, sequence) = (self.address, self.operator.clone(), self.undisturbed());
        self.done.spawn(async move {
            let body = json!({ "subject": user_name(user), "data": { "number": number } }).to_string();
            let answer = watch::ask(address, "POST", "/operator/notice", &operator, &body).await;
            Done::Noticed { user, number, sequence, answer }
        });
    }

    /// Tells all users who have a session; in a cluster twice, with one id.
    fn tell_all(&mut self, number: u64) {
        self.ledger.count("notices to everyone");
        let in_cluster = !self.settles.is_zero();
        let (address, operator, sequence) = (self.address, self.operator.clone(), self.undisturbed());
        self.done.spawn(async move {
            let mut body = json!({ "data": { "number": number } });
            if in_cluster {
                body["id"] = json!(format!("{:016x}", 0xE0_0000 + number));
            }
            let mut answer = watch::ask(address, "POST", "/operator/notice", &operator, &body.to_string()).await;
            if in_cluster {
                answer = watch::ask(address, "POST", "/operator/notice", &operator, &body.to_string()).await;
            }
            Done::NoticedAll { sequence, answer }
        });
    }

    pub(super) fn pin(&mut self, mode: &'static str) {
        let (address, operator, sequence) = (self.address, self.operator.clone(), self.undisturbed());
        self.done.spawn(async move {
            let body = format!("{{\"mode\":{mode}}}");
            Done::Pinned { sequence, answer: watch::ask(address, "POST", "/operator/mode", &operator, &body).await }
        });
    }
}
