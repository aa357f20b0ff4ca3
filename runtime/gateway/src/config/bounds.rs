//! [`Bounds`] in a configuration file: durations are in milliseconds, or texts with a unit.

use std::time::Duration;

use lockstep_model::{Bounds, Concurrency};
use serde::{Deserialize, Serialize};

use super::table::Sentences;
use super::units;

macro_rules! machine_bounds {
    (
        counts { $($(#[doc = $about:literal])+ $count:ident: $type:ty,)* }
        durations { $($(#[doc = $meaning:literal])+ $duration:ident => $ms:ident,)* }
    ) => {
        /// Bounds and deadlines of the machines.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct MachineBounds {
            $($(#[doc = $about])+ pub $count: $type,)*
            $($(#[doc = $meaning])+ #[serde(deserialize_with = "units::milliseconds")] pub $ms: u64,)*
        }

        impl Default for MachineBounds {
            fn default() -> Self {
                let bounds = Bounds::DEFAULT;
                Self {
                    $($count: bounds.$count,)*
                    $($ms: u64::try_from(bounds.$duration.as_millis()).unwrap_or(u64::MAX),)*
                }
            }
        }

        impl MachineBounds {
            /// The documentation, for `lockstep config`.
            pub(super) const SENTENCES: Sentences = (
                &[" Bounds and deadlines of the machines. Beyond a bound, requests are refused or connections closed."],
                &[
                    $((stringify!($count), "usize", &[$($about),+]),)*
                    $((stringify!($ms), "u64", &[$($meaning),+]),)*
                ],
            );

            /// The name of the field here that sets the field `of_bounds` of [`Bounds`].
            pub(super) fn field(of_bounds: &str) -> Option<&'static str> {
                let fields = [
                    $((stringify!($count), stringify!($count)),)*
                    $((stringify!($duration), stringify!($ms)),)*
                ];
                fields.into_iter().find(|(name, _)| *name == of_bounds).map(|(_, field)| field)
            }
        }

        impl From<&MachineBounds> for Bounds {
            fn from(config: &MachineBounds) -> Self {
                Self {
                    $($count: config.$count,)*
                    $($duration: Duration::from_millis(config.$ms),)*
                }
            }
        }
    };
}

machine_bounds! {
    counts {
        /// The most connections of one user, not counting closing ones.
        connections: usize,
        /// The most open runs of one user, not counting queued ones.
        runs: usize,
        /// The most messages of one user that wait for an earlier run of their thread to end. They survive a restart.
        queued: usize,
        /// What happens to a message whose thread has an open run: "queue", it waits; "reject", it is refused;
        /// "interrupt", that run is cancelled; "parallel", both run at once.
        concurrency: Concurrency,
        /// The most open tools of one run.
        tools: usize,
        /// The most events of one run, not counting its closing ones; beyond that, the run fails.
        events: u32,
        /// The most requests that wait for `connection_ready` on one connection.
        early: usize,
        /// The most control frames that wait to be sent on one connection.
        outbox: usize,
        /// The most requests of one live connection in `allowance_ms`; 0 for no limit.
        requests: u16,
        /// The most credentials that one connection may present without a verdict in between.
        attempts: u8,
        /// The most events of one user that stay in memory, for readers that come back; successive pieces of a part
        /// count once. Readers that were away for longer read from the log.
        retained: usize,
        /// The most bytes of content of these events.
        retained_bytes: usize,
        /// The most messages, and therefore turns, among these events.
        retained_turns: usize,
        /// The most unanswered conversation requests of one connection.
        queries: usize,
        /// The most bytes of content that are read from the log at a time, for a reader that was away for longer.
        page: usize,
        /// The most bytes of an answer in one entry or frame: successive pieces of a part are joined up to this size.
        joined: usize,
        /// The number of newest pieces of a part that are not joined, so that all readers that keep up get the same
        /// frame.
        apart: usize,
        /// The most events of one user that the log has not confirmed.
        pending: usize,
        /// The number of failed runs in a row that opens the user's breaker; 0 for never.
        failures: u8,
        /// The most single revoked credentials that a session remembers; one more revokes all that were issued before.
        revoked: usize,
        /// The most connections of one process, whatever their state.
        node_connections: u32,
        /// The number of bad probes in a row that lowers a node's mode.
        strikes: u8,
        /// The number of good probes in a row that raises it again.
        recovery: u8,
        /// Resident memory, in bytes, at which the process admits no further connections; from seven eighths of it, it
        /// starts no runs. 0 disables the check.
        memory: u64,
        /// The process admits no further connections when fewer files than this may still be opened.
        spare_files: u64,
    }
    durations {
        /// Connection: the most milliseconds from accept to `connection_ready`.
        handshake => handshake_ms,
        /// Connection: milliseconds of silence; the first expiry probes, the second closes.
        idle => idle_ms,
        /// Connection: milliseconds until the allowance of requests is renewed.
        allowance => allowance_ms,
        /// Connection: milliseconds for which a connection may stay after it was told to go.
        grace => grace_ms,
        /// Connection: the most milliseconds for the peer to answer our close.
        close => close_ms,
        /// Credential: the most milliseconds for the verifier.
        verification => verification_ms,
        /// Run: milliseconds of an agent's silence that end its run. An agent that waits for a model is not silent.
        silence => silence_ms,
        /// Run: the same while a tool executes.
        execution => execution_ms,
        /// Run: milliseconds after which it ends, whatever its agent does.
        deadline => deadline_ms,
        /// Run: milliseconds for which a paused run waits for the user's reply, one day by default.
        pause => pause_ms,
        /// Session: milliseconds after its last connection and run until it may retire.
        linger => linger_ms,
        /// Session: milliseconds until it retries to restore the stream from a log that failed.
        restore => restore_ms,
        /// Session: milliseconds until the user's breaker closes again.
        breaker => breaker_ms,
        /// Stream: milliseconds until a refused write to the log is retried.
        retry => retry_ms,
        /// Session and stream: the most milliseconds for an answer of the log; the request is then repeated.
        log_answer => log_answer_ms,
        /// Session: milliseconds for a legacy client to name its place once it is told that it is connected; then reading
        /// begins at the unread entries.
        seek => seek_ms,
        /// Node: milliseconds between two health probes.
        probe => probe_ms,
        /// Node: milliseconds for open runs to end before every client is told to go.
        drain => drain_ms,
        /// Node: a log that takes more milliseconds than this to make an append durable counts as poor.
        slow_log => slow_log_ms,
        /// Client: the first pause, in milliseconds; each further pause is twice as long, up to `backoff_most_ms`.
        backoff => backoff_ms,
        /// Client: the longest pause, in milliseconds.
        backoff_most => backoff_most_ms,
        /// Client: the most milliseconds from the first byte to `connection_ready`.
        connect => connect_ms,
        /// Client: milliseconds between heartbeats while no answer is awaited.
        heartbeat => heartbeat_ms,
        /// Client: the most milliseconds for the answer to a heartbeat; after that the gateway counts as gone. While an
        /// answer is awaited, heartbeats follow at half of this.
        pong => pong_ms,
        /// Client: milliseconds that a connection must last before its pauses start over.
        stable => stable_ms,
        /// Client: the most milliseconds that the oldest message waits for its answer; after that it is unknown whether
        /// it ran.
        answer => answer_ms,
    }
}
