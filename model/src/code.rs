//! The codes of `error` frames.

listed! {
    /// The `code` of an `error` frame.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    #[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
    pub enum Code {
        /// Not a JSON object, or nested too deeply.
        Malformed,
        /// The `type` is unknown.
        UnknownType,
        /// A field is missing or invalid.
        InvalidField,
        /// The node takes no new runs in its current mode.
        Degraded,
        /// The node is draining.
        Draining,
        /// The user has as many open runs as allowed.
        TooManyRuns,
        /// The thread has an open run, and as many messages wait as are allowed.
        QueueFull,
        /// The thread has an open run, and takes one message at a time.
        ThreadBusy,
        /// The user's breaker is open after failed runs.
        BreakerOpen,
        /// The log is behind.
        Busy,
        /// The message ran too long ago, or is a repetition and it is no longer known whether it ran.
        Forgotten,
        /// No open run of this user has that id.
        UnknownRun,
        /// The run does not wait for a reply to that pause: it never did, or another reply came first.
        NotPaused,
        /// The user has no such thread.
        UnknownThread,
        /// The log keeps no conversations.
        NotKept,
        /// The verifier could not be reached for a refresh; the credential stays as it was.
        VerifierUnavailable,
    }
}
