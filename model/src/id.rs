//! Names of things. Each is a newtype, so that one cannot stand in for another.
//!
//! The gateway makes ids at its edge and passes them in: a machine never invents one. Connection and run ids are 64
//! random bits, unguessable and never reused. A user's id is the number that the gateway's store keeps for the
//! token's subject. A message's, thread's or credential's id is the first 64 bits of a SHA-256 digest, so that a name of
//! any length costs the same; among the few thousand that one session remembers, two of them collide once in 10^12 sessions.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub struct $name(pub $inner);
    };
}

id!(
    /// One socket, from accept to close.
    ConnectionId(u64)
);
id!(
    /// One user: the number that the gateway's store keeps for a subject.
    UserId(u64)
);
id!(
    /// One AI request.
    RunId(u64)
);
id!(
    /// A client's own name for a message, digested. It runs at most once (RUN-2).
    MessageId(u64)
);
id!(
    /// A client's own name for a thread of messages, digested. Messages without a thread share one.
    ThreadId(u64)
);
id!(
    /// One tool call, numbered within its run.
    ToolId(u32)
);
id!(
    /// One part of a run's answer (its text, a block of reasoning), numbered within its run.
    PartId(u32)
);
id!(
    /// One credential (a JWT's `jti`, or a digest of the token), so that it can be revoked alone.
    CredentialId(u64)
);
id!(
    /// One call of the verifier, numbered within its connection; a verdict carries it, so a stale one shows (AUTH-3).
    Attempt(u32)
);
id!(
    /// What is started later has a higher generation; what an older one still says is ignored.
    Generation(u32)
);
id!(
    /// The life of one log. A log that lost what it had begins a new epoch; offsets of two epochs do not compare.
    Epoch(u64)
);
id!(
    /// A place in one epoch of a log. Offsets increase and may have holes; zero is before the first entry.
    Offset(u64)
);

impl Attempt {
    /// The attempt after this one.
    pub(crate) const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl Generation {
    /// The generation after this one.
    pub(crate) const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// The right to write one user's log. The log grants a higher generation each time and takes appends of the newest alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Tenure {
    /// The epoch of the offsets that it is given.
    pub epoch: Epoch,
    /// The fencing token.
    pub generation: Generation,
}

/// How far a reader has come: an offset means nothing without its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Position {
    /// The epoch in which `offset` was read.
    pub epoch: Epoch,
    /// The last offset that was seen.
    pub offset: Offset,
}
