//! Shared by the tests of all machines: small bounds with distinct values, and laws that every machine keeps.

use core::fmt::Debug;
use core::time::Duration;

use lockstep_model::auth::Lifetime;
use lockstep_model::{
    AcquisitionId, Bounds, Concurrency, ConfirmationId, CredentialId, Grant, LookupId, RenewalId, RevocationGeneration,
    UserId, Verdict, VerificationId, Violation,
};
use proptest::test_runner::Config;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The payload of the tests: a tag.
pub(crate) type Tag = u8;

/// Bounds that a short sequence of inputs reaches, with distinct deadlines.
pub(crate) const SMALL: Bounds = Bounds {
    connections: 3,
    runs: 2,
    queued: 1,
    concurrency: Concurrency::Queue,
    tools: 2,
    events: 6,
    early: 3,
    outbox: 5,
    requests: 3,
    attempts: 2,
    retained: 5,
    retained_bytes: 1_000_000,
    retained_turns: 50,
    queries: 2,
    page: 64,
    joined: 3,
    apart: 1,
    pending: 8,
    failures: 2,
    revoked: 2,
    node_connections: 6,
    strikes: 2,
    recovery: 3,
    memory: 800,
    spare_files: 8,
    handshake: Duration::from_secs(101),
    idle: Duration::from_secs(103),
    allowance: Duration::from_secs(5),
    grace: Duration::from_secs(7),
    close: Duration::from_secs(11),
    verification: Duration::from_secs(13),
    silence: Duration::from_secs(17),
    execution: Duration::from_secs(71),
    deadline: Duration::from_secs(72),
    linger: Duration::from_secs(19),
    restore: Duration::from_secs(23),
    breaker: Duration::from_secs(31),
    retry: Duration::from_secs(37),
    log_answer: Duration::from_secs(59),
    pause: Duration::from_secs(777),
    seek: Duration::from_secs(67),
    probe: Duration::from_secs(41),
    drain: Duration::from_secs(43),
    slow_log: Duration::from_secs(3),
    backoff: Duration::from_secs(2),
    backoff_most: Duration::from_secs(9),
    connect: Duration::from_secs(47),
    heartbeat: Duration::from_secs(53),
    pong: Duration::from_secs(8),
    stable: Duration::from_secs(59),
    answer: Duration::from_secs(61),
};

/// As many cases as `PROPTEST_CASES` says; 256 by default.
pub(crate) fn cases() -> Config {
    Config { max_shrink_iters: 20_000, ..Config::default() }
}

/// A grant. The tests have few users, so that their inputs interact.
pub(crate) const fn grant(user: u64, credential: u64, generation: u32) -> Grant {
    Grant { user: UserId(user), credential: CredentialId(credential), generation: RevocationGeneration(generation) }
}

pub(crate) fn lifetime(seconds: u64) -> Lifetime {
    Lifetime::new(Duration::from_secs(seconds)).unwrap()
}

pub(crate) fn valid(grant: Grant, seconds: u64) -> Verdict {
    Verdict::Valid { grant, lifetime: lifetime(seconds) }
}

/// The ids that count requests.
pub(crate) trait Attempt {
    fn numbered(number: u32) -> Self;
}

macro_rules! attempts {
    ($($id:ident)*) => {
        $(impl Attempt for $id {
            fn numbered(number: u32) -> Self {
                Self(number)
            }
        })*
    };
}

attempts![VerificationId AcquisitionId ConfirmationId LookupId RenewalId];

/// The request of this number, of the kind that is expected.
pub(crate) fn attempt<T: Attempt>(number: u32) -> T {
    T::numbered(number)
}

/// Asserts that a value is equal after a round trip through JSON, as in a trace.
pub(crate) fn survives_json<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = serde_json::to_string(value).unwrap();
    let read: T = serde_json::from_str(&text).unwrap();
    assert_eq!(&read, value, "through {text}");
}

/// A value that no sequence of inputs reaches: `value` with the part at the JSON pointer replaced.
pub(crate) fn tampered<T: Serialize + DeserializeOwned>(value: &T, pointer: &str, part: &impl Serialize) -> T {
    let mut json = serde_json::to_value(value).unwrap();
    let Some(place) = json.pointer_mut(pointer) else { panic!("{pointer} is no part of {json}") };
    *place = serde_json::to_value(part).unwrap();
    serde_json::from_value(json).unwrap()
}

/// Asserts that a stale or refused input changed nothing and emitted nothing.
pub(crate) fn no_trace<M: PartialEq + Debug, O: Debug>(before: &M, after: &M, out: &[O]) {
    assert_eq!(after, before, "changed by an input that was not taken");
    assert!(out.is_empty(), "emitted by an input that was not taken: {out:?}");
}

/// The result of `check` on a broken value.
pub(crate) fn violates(property: &'static str) -> Result<(), Violation> {
    Err(Violation(property))
}
