//! The small common subset of the wire that every server here answers: Lockstep's own frames (see the guide's chapter
//! `protocol`), and a payload that says what to emit.
//!
//! | client | server |
//! | --- | --- |
//! | `{"type":"auth","token":…,"resume":{"epoch":…,"offset":…}}` | `connection_ready` with `epoch` and `offset`, then the events after that offset |
//! | `{"type":"user_message","message_id":…,"payload":`[`Plan`]`}` | `message_received`, `agent_started`, the plan's events, `agent_completed` |
//! | `{"type":"ping"}` | `{"type":"pong"}` |
//!
//! An event's text begins with the microsecond at which it was due, so the client measures from the intended time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

/// Signs the tokens of these runs; good for nothing else.
pub(crate) const SECRET: &str = "a secret of measurements on loopback, good for nothing else";

/// Digits of a microsecond since 1970.
pub(crate) const DIGITS: usize = 16;

/// Events that a server keeps of each user, in every server that can resume.
pub(crate) const RETAINED: usize = 1_024;

/// What the agent shall emit.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Events between `agent_started` and `agent_completed`.
    pub(crate) n: u32,
    /// Events that are emitted at once; the next batch follows when all of them are accepted.
    pub(crate) batch: u32,
    /// Microseconds from one batch to the next, by the clock; 0: at once.
    pub(crate) every: u64,
    /// Bytes of an event's text.
    pub(crate) size: usize,
    /// What the events are.
    pub(crate) kind: Kind,
}

/// What is emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A piece of an answer, which a server may join with the next one once every reader has it.
    Token,
    /// An event of its own.
    Event,
    /// One notice to each connected user.
    Broadcast,
}

impl Plan {
    /// The text of an event that was due then.
    pub(crate) fn text(&self, due: u64) -> String {
        format!("{due:.<size$}", size = self.size.max(DIGITS))
    }

    /// The sizes of the batches, each with when it is due, in microseconds after the start.
    pub(crate) fn batches(self) -> impl Iterator<Item = (u64, u32)> {
        let batch = self.batch.max(1);
        (0..self.n.div_ceil(batch)).map(move |k| (u64::from(k) * self.every, batch.min(self.n - k * batch)))
    }
}

/// Microseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Waits for that long after `start`, if it is not over.
pub(crate) async fn until(start: tokio::time::Instant, after: u64) {
    let due = start + Duration::from_micros(after);
    if due > tokio::time::Instant::now() {
        tokio::time::sleep_until(due).await;
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    iat: u64,
    exp: u64,
}

/// A token for a user, signed with HS256.
pub(crate) fn token(user: &str) -> String {
    let iat = now() / 1_000_000;
    let claims = Claims { sub: user.to_owned(), iat, exp: iat + 3_600 };
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap_or_default()
}

/// Whose token it is.
pub(crate) fn verify(token: &str, key: &DecodingKey, rules: &Validation) -> Option<String> {
    jsonwebtoken::decode::<Claims>(token, key, rules).ok().map(|token| token.claims.sub)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_emits_all_of_its_events_at_their_times() {
        let plan = Plan { n: 10, batch: 4, every: 7, size: 20, kind: Kind::Event };
        assert_eq!(plan.batches().collect::<Vec<_>>(), [(0, 4), (7, 4), (14, 2)]);
    }

    #[test]
    fn a_text_begins_with_its_time_and_has_its_size() {
        let plan = Plan { n: 1, batch: 1, every: 0, size: 20, kind: Kind::Token };
        assert_eq!(plan.text(1_795_348_729_814_123), "1795348729814123....");
    }

    #[test]
    fn a_token_is_its_users_and_a_changed_one_is_none() {
        let (key, rules) = (DecodingKey::from_secret(SECRET.as_bytes()), Validation::default());
        let good = token("ada");
        assert_eq!(verify(&good, &key, &rules).as_deref(), Some("ada"));
        assert_eq!(verify(&good[..good.len() - 4], &key, &rules), None);
    }
}
