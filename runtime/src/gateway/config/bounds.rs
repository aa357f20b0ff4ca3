//! [`Bounds`] as a file holds them: durations are milliseconds.

use std::time::Duration;

use lockstep_model::{Bounds, Concurrency};
use serde::{Deserialize, Serialize};

use super::table::Sentences;

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
            $($(#[doc = $meaning])+ pub $ms: u64,)*
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
            /// What the documentation says, for `lockstep config`.
            pub(super) const SENTENCES: Sentences = (
                &[" Bounds and deadlines of the machines. A bound that is reached closes or refuses the one who reached it."],
                &[
                    $((stringify!($count), &[$($about),+]),)*
                    $((stringify!($ms), &[$($meaning),+]),)*
                ],
            );

            /// The name of the field here that sets the field of that name of [`Bounds`].
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
        /// Connections of one user that are not closing.
        connections: usize,
        /// Open runs of one user that are not queued.
        runs: usize,
        /// Messages of one user that wait for a run before them in their thread to end. They survive a restart.
        queued: usize,
        /// What becomes of a message whose thread has an open run: "queue", it waits; "reject", it is refused; "interrupt", that run is cancelled; "parallel", both run at once.
        concurrency: Concurrency,
        /// Open tools of one run.
        tools: usize,
        /// Events of one run, its closing ones not counted; the run then fails.
        events: u32,
        /// Requests that wait for `connection_ready` on one connection.
        early: usize,
        /// Control frames that wait to be sent on one connection.
        outbox: usize,
        /// Requests of one live connection in `allowance_ms`; zero means that none are counted.
        requests: u16,
        /// Credentials that one connection may present without a verdict in between.
        attempts: u8,
        /// Events of one user that stay in memory, for readers that come back; pieces of a part that follow each other count once. Who was away for longer reads from the log.
        retained: usize,
        /// Bytes of content of these.
        retained_bytes: usize,
        /// Messages, and so turns, among these.
        retained_turns: usize,
        /// What one connection may ask of conversations without having an answer.
        queries: usize,
        /// Bytes of content that are read from the log at a time, for a reader that was away for longer.
        page: usize,
        /// Bytes of an answer in one entry or frame: pieces of a part that follow each other are joined up to this.
        joined: usize,
        /// Newest pieces of a part that stay apart, so that all who keep up get the same frame.
        apart: usize,
        /// Events of one user that the log has not confirmed.
        pending: usize,
        /// Failed runs in a row that open the user's breaker; zero means never.
        failures: u8,
        /// Single revoked credentials that a session remembers; one more revokes all that were issued before.
        revoked: usize,
        /// Connections of one process, whatever their state.
        node_connections: u32,
        /// Bad probes in a row that lower a node's mode.
        strikes: u8,
        /// Good probes in a row that raise it again.
        recovery: u8,
        /// Resident memory, in bytes, at which the process admits no more connections; from seven eighths of it, it begins no run. Zero
        /// means that memory is not looked at.
        memory: u64,
        /// The process admits no more connections when fewer files than this may still be opened.
        spare_files: u64,
    }
    durations {
        /// Connection: milliseconds from accept to `connection_ready`.
        handshake => handshake_ms,
        /// Connection: milliseconds in which nothing was heard; the first expiry probes, the second closes.
        idle => idle_ms,
        /// Connection: milliseconds until a new allowance of requests.
        allowance => allowance_ms,
        /// Connection: milliseconds that one may stay that was told to go.
        grace => grace_ms,
        /// Connection: milliseconds that a peer may take to answer our close.
        close => close_ms,
        /// Credential: milliseconds that the verifier may take.
        verification => verification_ms,
        /// Run: milliseconds of an agent's silence that end its run. An agent that waits for a model is not silent.
        silence => silence_ms,
        /// Run: the same while a tool executes.
        execution => execution_ms,
        /// Run: milliseconds after which it ends, whatever its agent does.
        deadline => deadline_ms,
        /// Session: milliseconds after its last connection and run until it may retire.
        linger => linger_ms,
        /// Session: milliseconds until a log that could not restore the stream is asked again.
        restore => restore_ms,
        /// Session: milliseconds until the user's breaker closes again.
        breaker => breaker_ms,
        /// Stream: milliseconds until what the log refused is written again.
        retry => retry_ms,
        /// Session and stream: milliseconds that the log may take to answer; it is then asked again.
        log_answer => log_answer_ms,
        /// Node: milliseconds between two looks at its health.
        probe => probe_ms,
        /// Node: milliseconds that open runs have to end before every client is told to go.
        drain => drain_ms,
        /// Node: a log that takes more milliseconds than this to make an append durable is poor.
        slow_log => slow_log_ms,
        /// Client: the first pause, in milliseconds; each further one doubles it, up to `backoff_most_ms`.
        backoff => backoff_ms,
        /// Client: the longest pause, in milliseconds.
        backoff_most => backoff_most_ms,
        /// Client: milliseconds from the first byte to `connection_ready`.
        connect => connect_ms,
        /// Client: milliseconds between heartbeats while nothing is awaited.
        heartbeat => heartbeat_ms,
        /// Client: milliseconds that the answer to a heartbeat may take; then the gateway is gone. While something is awaited, a heartbeat comes after half of that.
        pong => pong_ms,
        /// Client: milliseconds that a connection must last for its pauses to start over.
        stable => stable_ms,
        /// Client: milliseconds that the oldest message may wait for its answer; then it is unknown whether it ran.
        answer => answer_ms,
    }
}
