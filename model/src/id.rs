//! Identifiers. Each is a newtype, so that one cannot be used for another.
//!
//! The gateway creates ids at its edge and passes them in; a machine never creates one. Connection and run ids are 64
//! random bits, unguessable and never reused. A user's id is the number that the gateway's store assigns to the token's
//! subject. The id of a message, thread or credential is the first 64 bits of a SHA-256 digest, so a name of any length
//! costs the same. Among the few thousand that one session remembers, two collide in about one of 10^12 sessions.

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
    /// One user: the number that the gateway's store assigns to a subject.
    UserId(u64)
);
id!(
    /// One AI request.
    RunId(u64)
);
id!(
    /// The digest of a client's name for a message. A message runs at most once (RUN-2).
    MessageId(u64)
);
id!(
    /// The digest of a client's name for a thread of messages. Messages without a thread share one.
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
    /// One credential (a JWT's `jti`, or a digest of the token), so that it can be revoked individually.
    CredentialId(u64)
);
id!(
    /// One call of the verifier, numbered within its connection. A verdict carries it, which exposes a stale one
    /// (AUTH-3).
    Attempt(u32)
);
id!(
    /// A later start has a higher generation. Inputs from an older generation are ignored.
    Generation(u32)
);
id!(
    /// The lifetime of one log. A log that has lost data begins a new epoch. Offsets of different epochs do not
    /// compare.
    Epoch(u64)
);
id!(
    /// A position in one epoch of a log. Offsets increase and may have holes. Zero is before the first entry.
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

/// The right to write one user's log. The log grants a higher generation each time and accepts appends of the newest
/// one only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Tenure {
    /// The epoch of the offsets that the log assigns.
    pub epoch: Epoch,
    /// The fencing token.
    pub generation: Generation,
}

/// How far a reader has read. An offset has no meaning without its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Position {
    /// The epoch in which `offset` was read.
    pub epoch: Epoch,
    /// The last offset that was read.
    pub offset: Offset,
}
