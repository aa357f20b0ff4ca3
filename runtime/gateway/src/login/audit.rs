//! The audit log of login and operator requests: each refusal is logged and counted.
//!
//! A client that tries often must not fill the operator's log. The number of lines of each kind is limited, and the
//! next line says how many were left out. A typed name is logged only if there is such an account, because it may be a
//! password in the wrong field.

use lockstep::internal::lock;
use lockstep::verify::clock::Clock;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use super::limit::{Limiter, Rate};

/// The rate of lines of one kind.
const LINES: Rate = Rate { burst: 20, refill: Duration::from_secs(3) };
/// The most kinds of lines.
const KINDS: usize = 32;

/// Counts every request, and decides which are logged.
pub(crate) struct Audit {
    lines: Limiter<&'static str>,
    skipped: Mutex<BTreeMap<&'static str, u64>>,
}

impl Audit {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { lines: Limiter::new(LINES, KINDS, clock), skipped: Mutex::default() }
    }

    /// The number of lines of that kind that were left out since the last one, if a line may be written now.
    fn line(&self, kind: &'static str) -> Option<u64> {
        let mut skipped = lock(&self.skipped);
        let count = skipped.entry(kind).or_default();
        if self.lines.take(&kind).is_err() {
            *count += 1;
            return None;
        }
        Some(core::mem::take(count))
    }

    /// The result of a login attempt. `user` is the name of an account.
    pub(super) fn login(&self, result: &'static str, user: Option<&str>, address: IpAddr) {
        let Some(left_out) = self.line(result) else { return };
        let user = user.unwrap_or("unknown");
        if result == "good" {
            tracing::info!(user, %address, left_out, "a user logged in");
        } else {
            tracing::warn!(user, %address, result, left_out, "a login was refused");
        }
    }

    /// A login has ended without its user's request.
    pub(super) fn ended(&self, why: &'static str, user: &str) {
        metrics::counter!("lockstep_logins_ended_total", "reason" => why).increment(1);
        if let Some(left_out) = self.line(why) {
            tracing::warn!(user, why, left_out, "a login has ended");
        }
    }

    /// A request to the operator's routes without the operator's token.
    pub(crate) fn operator_refused(&self, why: &'static str, path: &str, address: IpAddr) {
        metrics::counter!("lockstep_operator_refused_total", "reason" => why).increment(1);
        if let Some(left_out) = self.line(why) {
            tracing::warn!(path, %address, why, left_out, "an operator's request was refused");
        }
    }

    /// An action of the operator. Every action is logged, because only the operator can cause these lines.
    pub(crate) fn operator(&self, action: &'static str, about: &str, status: u16, address: IpAddr) {
        metrics::counter!("lockstep_operator_actions_total", "action" => action).increment(1);
        tracing::info!(action, about, status, %address, "an operator's action");
    }
}
