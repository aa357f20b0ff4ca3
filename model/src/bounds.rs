//! Every bound and deadline of the machines, by name (LIM-1).
//!
//! Machines do not store them. They are passed to each step, so that one configuration value serves a whole process.

use core::time::Duration;

/// What happens to a message whose thread has an open run (RUN-4). Except with `Parallel`, the runs of a thread do not
/// overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Concurrency {
    /// The message is accepted, and its run waits until earlier runs have ended.
    Queue,
    /// The message is refused.
    Reject,
    /// The open runs of the thread are cancelled, and the message is accepted.
    Interrupt,
    /// The message is accepted, and its run begins at once, beside the others.
    Parallel,
}

/// Bounds (counts) and deadlines (durations). A connection or request that reaches a bound is closed or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Bounds {
    /// Connections of one user that are not closing.
    pub connections: usize,
    /// Open runs of one user that are not queued.
    pub runs: usize,
    /// Queued runs of one user: see [`Concurrency::Queue`].
    pub queued: usize,
    /// What happens to a message whose thread has an open run.
    pub concurrency: Concurrency,
    /// Open tools of one run.
    pub tools: usize,
    /// Events of one run, without its closing ones. At the bound, the run fails. This bounds the durable log, which
    /// keeps an open run's events from the first one.
    pub events: u32,
    /// Requests that wait for `connection_ready` on one connection.
    pub early: usize,
    /// Control frames that wait to be pulled on one connection.
    pub outbox: usize,
    /// Requests of one live connection per [`Bounds::allowance`]; zero disables the limit.
    pub requests: u16,
    /// Credentials that one connection may present before a verdict.
    pub attempts: u8,
    /// Durable entries of one user that stay in memory for readers.
    pub retained: usize,
    /// Bytes of content of the retained entries.
    pub retained_bytes: usize,
    /// Messages, and therefore turns, among the retained entries.
    pub retained_turns: usize,
    /// Unanswered queries about conversations, per connection.
    pub queries: usize,
    /// Bytes of content that a reader that catches up requests from the log at a time.
    pub page: usize,
    /// Bytes of an answer in one entry or frame. Consecutive pieces of a part are joined up to this size.
    pub joined: usize,
    /// Pieces of a part that stay separate, so that all readers at the head get the same frame. From twice this count,
    /// the older half is joined.
    pub apart: usize,
    /// Events of one user that the log has not confirmed.
    pub pending: usize,
    /// Consecutive failed runs that open the user's breaker; zero disables it.
    pub failures: u8,
    /// Individually revoked credentials that a session remembers. One more rejects every credential that was verified
    /// before.
    pub revoked: usize,
    /// Connections of one process, in any state.
    pub node_connections: u32,
    /// Consecutive bad probes that lower a node's mode.
    pub strikes: u8,
    /// Consecutive good probes that raise it again.
    pub recovery: u8,
    /// Resident memory, in bytes, at which a process admits no more connections. From seven eighths of it, the process
    /// begins no run. Zero disables the check.
    pub memory: u64,
    /// Spare file descriptors: with fewer, a process admits no more connections.
    pub spare_files: u64,

    /// See [`Timer::Handshake`](crate::Timer::Handshake).
    pub handshake: Duration,
    /// See [`Timer::Idle`](crate::Timer::Idle).
    pub idle: Duration,
    /// See [`Timer::Allowance`](crate::Timer::Allowance).
    pub allowance: Duration,
    /// See [`Timer::Grace`](crate::Timer::Grace). If nothing listens yet, clients are told to come back once it is
    /// over, spread randomly over the same duration again.
    pub grace: Duration,
    /// See [`Timer::Close`](crate::Timer::Close).
    pub close: Duration,
    /// See [`Timer::Verification`](crate::Timer::Verification).
    pub verification: Duration,
    /// See [`Timer::Silence`](crate::Timer::Silence).
    pub silence: Duration,
    /// See [`Timer::Silence`](crate::Timer::Silence), while a tool executes.
    pub execution: Duration,
    /// See [`Timer::Deadline`](crate::Timer::Deadline).
    pub deadline: Duration,
    /// See [`Timer::Pause`](crate::Timer::Pause).
    pub pause: Duration,
    /// See [`Timer::Linger`](crate::Timer::Linger).
    pub linger: Duration,
    /// See [`Timer::Restore`](crate::Timer::Restore).
    pub restore: Duration,
    /// See [`Timer::Breaker`](crate::Timer::Breaker).
    pub breaker: Duration,
    /// See [`Timer::Retry`](crate::Timer::Retry).
    pub retry: Duration,
    /// See [`Timer::LogAnswer`](crate::Timer::LogAnswer).
    pub log_answer: Duration,
    /// See [`Timer::Seek`](crate::Timer::Seek).
    pub seek: Duration,
    /// See [`Timer::Probe`](crate::Timer::Probe).
    pub probe: Duration,
    /// See [`Timer::Drain`](crate::Timer::Drain).
    pub drain: Duration,
    /// A log that takes longer than this counts as slow: see [`health`](crate::health).
    pub slow_log: Duration,
    /// The first pause of a client. Each further one doubles it, up to `backoff_most`.
    pub backoff: Duration,
    /// The longest pause of a client.
    pub backoff_most: Duration,
    /// See [`Timer::Connect`](crate::Timer::Connect).
    pub connect: Duration,
    /// See [`Timer::Heartbeat`](crate::Timer::Heartbeat).
    pub heartbeat: Duration,
    /// How long a client waits for the answer to a heartbeat. While it awaits something, it sends one after half of
    /// this.
    pub pong: Duration,
    /// See [`Timer::Stable`](crate::Timer::Stable).
    pub stable: Duration,
    /// See [`Timer::Answer`](crate::Timer::Answer).
    pub answer: Duration,
}

impl Bounds {
    /// The defaults of a gateway.
    pub const DEFAULT: Self = Self {
        connections: 20,
        runs: 8,
        queued: 16,
        concurrency: Concurrency::Queue,
        tools: 16,
        events: 20_000,
        early: 16,
        outbox: 64,
        requests: 120,
        attempts: 4,
        retained: 1_024,
        retained_bytes: 1_024 * 1_024,
        retained_turns: 256,
        queries: 4,
        page: 64 * 1_024,
        joined: 16 * 1_024,
        apart: 16,
        pending: 512,
        failures: 5,
        revoked: 64,
        node_connections: 16_000,
        strikes: 3,
        recovery: 3,
        memory: 0,
        spare_files: 64,
        handshake: Duration::from_secs(10),
        idle: Duration::from_secs(45),
        allowance: Duration::from_secs(10),
        grace: Duration::from_millis(250),
        close: Duration::from_secs(3),
        verification: Duration::from_secs(5),
        silence: Duration::from_secs(120),
        execution: Duration::from_secs(15 * 60),
        deadline: Duration::from_secs(60 * 60),
        pause: Duration::from_secs(24 * 60 * 60),
        linger: Duration::from_secs(60),
        restore: Duration::from_millis(500),
        breaker: Duration::from_secs(30),
        retry: Duration::from_millis(200),
        log_answer: Duration::from_secs(10),
        seek: Duration::from_secs(1),
        probe: Duration::from_secs(2),
        drain: Duration::from_secs(30),
        slow_log: Duration::from_millis(500),
        backoff: Duration::from_millis(200),
        backoff_most: Duration::from_secs(30),
        connect: Duration::from_secs(10),
        heartbeat: Duration::from_secs(20),
        pong: Duration::from_secs(3),
        stable: Duration::from_secs(10),
        answer: Duration::from_secs(30),
    };

    /// Checks that a gateway can keep its guarantees with these bounds.
    ///
    /// # Errors
    ///
    /// A sentence that names the field and the rule.
    pub fn validate(&self) -> Result<(), &'static str> {
        let rules = [
            (self.connections > 0, "`connections` must be at least 1"),
            (self.runs > 0, "`runs` must be at least 1"),
            (self.tools > 0, "`tools` must be at least 1"),
            (self.events > 0, "`events` must be at least 1"),
            (
                self.outbox >= 4,
                "`outbox` must be at least 4: a ready, a reset, a mode and an error frame may wait at once",
            ),
            (self.attempts > 0, "`attempts` must be at least 1"),
            (self.retained > 0, "`retained` must be at least 1"),
            (self.retained_bytes > 0, "`retained_bytes` must be at least 1"),
            (self.retained_turns > 0, "`retained_turns` must be at least 1"),
            (self.page > 0, "`page` must be at least 1"),
            (self.joined > 0, "`joined` must be at least 1"),
            (self.apart > 0, "`apart` must be at least 1"),
            (self.pending >= 2, "`pending` must be at least 2, for a message and its run's end"),
            (
                self.pending
                    >= self
                        .runs
                        .saturating_mul(self.tools.saturating_add(1))
                        .saturating_add(self.queued.saturating_mul(2)),
                "`pending` must be at least `runs` × (`tools` + 1) + `queued` × 2: every open run must be able to end",
            ),
            (self.strikes > 0 && self.recovery > 0, "`strikes` and `recovery` must be at least 1"),
            (self.execution >= self.silence, "`execution` must not be shorter than `silence`"),
            (self.deadline >= self.execution, "`deadline` must not be shorter than `execution`"),
            (self.idle > self.heartbeat, "`idle` must be longer than `heartbeat`"),
            (self.handshake > self.verification, "`handshake` must be longer than `verification`"),
            (self.log_answer > self.slow_log, "`log_answer` must be longer than `slow_log`"),
            (self.backoff_most >= self.backoff, "`backoff_most` must not be shorter than `backoff`"),
            (!self.backoff.is_zero(), "`backoff` must not be zero"),
            (self.pong <= self.heartbeat, "`pong` must not be longer than `heartbeat`"),
            (!self.pong.is_zero(), "`pong` must not be zero"),
            (!self.pause.is_zero(), "`pause` must not be zero"),
            (!self.answer.is_zero(), "`answer` must not be zero"),
        ];
        rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(rule))
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self::DEFAULT
    }
}
