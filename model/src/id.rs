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
    /// One pause of a run, numbered within its run.
    PauseId(u32)
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
    VerificationId(u32)
);
id!(
    /// One request of a session to acquire its user, numbered in order.
    AcquisitionId(u32)
);
id!(
    /// One request of a session to confirm that it still holds its user, numbered in order.
    ConfirmationId(u32)
);
id!(
    /// One look-up in the log, numbered within its connection.
    LookupId(u32)
);
id!(
    /// One renewal of a process's lease, numbered in order.
    RenewalId(u32)
);
id!(
    /// Identifies one of a user's sessions: a later session has a higher generation. An answer with an older generation
    /// does not reach the present session.
    Generation(u32)
);
id!(
    /// The right to write one user's log. The log grants a higher token each time, and accepts appends of the newest
    /// only.
    FencingToken(u32)
);
id!(
    /// One life of a process as a member of a cluster: random, and never used again. A process whose lease has ended
    /// comes back under a new one.
    Incarnation(u64)
);
id!(
    /// A batch of appends of one session. The number advances when a batch is refused or given up.
    BatchId(u32)
);
id!(
    /// How many revocations a process has seen: a verification that began before a revocation has a lower generation.
    RevocationGeneration(u32)
);
id!(
    /// One socket of a client, numbered in the order in which the client opened them.
    SocketId(u32)
);
id!(
    /// One request of a client for a new credential, numbered in order.
    TokenRequestId(u32)
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

macro_rules! numbered {
    ($($name:ident)*) => {
        $(impl $name {
            /// The one after this.
            pub(crate) const fn next(self) -> Self {
                Self(self.0.wrapping_add(1))
            }
        })*
    };
}

numbered![VerificationId AcquisitionId ConfirmationId LookupId RenewalId Generation BatchId RevocationGeneration SocketId TokenRequestId PauseId];

/// The right to write one user's log. The log grants a higher token each time and accepts appends of the newest
/// one only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Tenure {
    /// The epoch of the offsets that the log assigns.
    pub epoch: Epoch,
    /// The fencing token.
    pub token: FencingToken,
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
