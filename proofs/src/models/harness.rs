//! Shared parts of the models of single machines: each machine alone, under every input at every moment.
//!
//! The state of each model is the production machine, an oracle and the first violated property. The oracle receives
//! the same inputs as the machine, derives the required reaction from the rules alone, and compares. This is the worst
//! possible environment: any timer may fire, armed or not, and any answer may come late, twice or out of order. Each
//! model's header states what its environment may *not* do, with the reason.

use lockstep_model::auth::Lifetime;
use lockstep_model::{Bounds, Concurrency, Timer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Declares an `always` for each property id that the oracle of a state checks. No other id is accepted.
macro_rules! checked {
    ($model:ty, $state:ty; $($id:literal),* $(,)?) => {
        /// Returns an `always` for each id: no run has violated it.
        fn unbroken() -> Vec<stateright::Property<$model>> {
            vec![$(stateright::Property::always($id, |_: &$model, state: &$state| state.broken != Some($id))),*]
        }

        impl $state {
            /// Records the first violated property.
            ///
            /// # Panics
            /// When no `always` reports the property. A panic in a step is a counterexample, too.
            pub(crate) fn violated(&mut self, property: &'static str) {
                assert!([$($id),*].contains(&property), "{property} is violated, and no `always` reports it");
                self.broken.get_or_insert(property);
            }

            pub(crate) fn expect(&mut self, holds: bool, property: &'static str) {
                if !holds {
                    self.violated(property);
                }
            }
        }
    };
}
pub(crate) use checked;

/// Whether a machine is equal after a round trip through JSON.
pub(crate) fn survives<T: Serialize + DeserializeOwned + PartialEq>(machine: &T) -> bool {
    let read = serde_json::to_string(machine).and_then(|text| serde_json::from_str::<T>(&text));
    read.is_ok_and(|read| read == *machine)
}

/// The armed timers that have not fired, as a driver tracks them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Armed(u32);

impl Armed {
    const fn bit(timer: Timer) -> u32 {
        1 << timer as u32
    }

    pub(crate) const fn arm(&mut self, timer: Timer) {
        self.0 |= Self::bit(timer);
    }

    /// The timer fired or was disarmed.
    pub(crate) const fn disarm(&mut self, timer: Timer) {
        self.0 &= !Self::bit(timer);
    }

    pub(crate) const fn has(self, timer: Timer) -> bool {
        self.0 & Self::bit(timer) != 0
    }
}

/// Bounds small enough to be reached. No two deadlines are equal, so that a wrong one is detected.
pub(crate) fn small() -> Bounds {
    Bounds {
        queued: 0,
        concurrency: Concurrency::Queue,
        connections: 1,
        runs: 1,
        tools: 2,
        events: 4,
        early: 2,
        outbox: 3,
        requests: 2,
        attempts: 2,
        retained: 2,
        retained_bytes: 64,
        retained_turns: 8,
        queries: 1,
        page: 64,
        joined: 3,
        apart: 1,
        pending: 3,
        failures: 2,
        revoked: 1,
        node_connections: 2,
        strikes: 3,
        recovery: 2,
        memory: 800,
        spare_files: 8,
        handshake: Duration::from_secs(101),
        idle: Duration::from_secs(102),
        allowance: Duration::from_secs(103),
        grace: Duration::from_secs(104),
        close: Duration::from_secs(105),
        verification: Duration::from_secs(6),
        silence: Duration::from_secs(107),
        execution: Duration::from_secs(117),
        deadline: Duration::from_secs(118),
        linger: Duration::from_secs(108),
        restore: Duration::from_secs(109),
        breaker: Duration::from_secs(111),
        retry: Duration::from_secs(112),
        log_answer: Duration::from_secs(116),
        pause: Duration::from_secs(120),
        seek: Duration::from_secs(119),
        probe: Duration::from_secs(113),
        drain: Duration::from_secs(114),
        slow_log: Duration::from_secs(4),
        backoff: Duration::from_secs(1),
        backoff_most: Duration::from_secs(5),
        connect: Duration::from_secs(115),
        heartbeat: Duration::from_secs(16),
        pong: Duration::from_secs(4),
        stable: Duration::from_secs(117),
        answer: Duration::from_secs(118),
    }
}

/// The lifetime of a valid credential. It is not zero. No machine sees a clock.
pub(crate) fn lifetime() -> Lifetime {
    Lifetime::new(Duration::from_secs(600)).unwrap_or_else(|| unreachable!("not zero"))
}

/// The deadline with which a timer must be armed. `None` for the two that depend on a credential's lifetime, and for a
/// client's pause and heartbeat.
pub(crate) fn deadline(bounds: &Bounds, timer: Timer) -> Option<Duration> {
    Some(match timer {
        Timer::Handshake => bounds.handshake,
        Timer::Idle => bounds.idle,
        Timer::Allowance => bounds.allowance,
        Timer::Grace => bounds.grace,
        Timer::Close => bounds.close,
        Timer::Verification => bounds.verification,
        Timer::Silence => bounds.silence,
        Timer::Deadline => bounds.deadline,
        Timer::Linger => bounds.linger,
        Timer::Restore => bounds.restore,
        Timer::Breaker => bounds.breaker,
        Timer::Retry => bounds.retry,
        Timer::LogAnswer | Timer::Lookup => bounds.log_answer,
        Timer::Pause => bounds.pause,
        Timer::Seek => bounds.seek,
        Timer::Probe => bounds.probe,
        Timer::Drain => bounds.drain,
        Timer::Connect => bounds.connect,
        Timer::Stable => bounds.stable,
        Timer::Leave => bounds.backoff,
        Timer::Answer => bounds.answer,
        Timer::Warning | Timer::Credential | Timer::Backoff | Timer::Heartbeat => return None,
    })
}
