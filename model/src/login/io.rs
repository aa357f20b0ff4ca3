//! The inputs and outputs of the logins, and the records of their file.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::id::CredentialId;

/// A request that waits for its answer. The driver numbers requests and never reuses a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ask(pub u64);

/// The time of an input according to two clocks, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Now {
    /// Since the Unix epoch. It may jump, in both directions.
    pub wall: u64,
    /// Since the process began. It never goes back, and may stand still while the computer sleeps.
    pub up: u64,
}

/// A point in time, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Moment {
    /// How long gateways had run on this file. Since then, at least as much time has passed as this value has grown.
    pub age: u64,
    /// Since the Unix epoch, according to a clock that may be wrong.
    pub wall: u64,
}

/// Bounds (LIM-1) and lifetimes, the latter in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LoginLimits {
    /// How long an unused login lasts.
    pub idle: u64,
    /// How long a used login lasts.
    pub longest: u64,
    /// Logins of one subject. One more ends the least recently used one.
    pub per_subject: usize,
    /// Logins in all. One more is refused.
    pub logins: usize,
    /// Pending requests. One more is answered with [`Answer::Unavailable`].
    pub waiting: usize,
    /// How long a revocation of another issuer's tokens is remembered: at least the lifetime of such a token.
    pub retention: u64,
    /// Individually revoked credentials of one subject. One more revokes the subject.
    pub credentials: usize,
    /// Revocations in all. One more drops the oldest, and every token that was issued before those is then rejected.
    pub revocations: usize,
    /// Records that may be appended before the file is replaced; or twice the number of records in effect, if that is
    /// more.
    pub records: usize,
}

/// A login, in memory and in the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Login<S> {
    /// The login's subject.
    pub subject: S,
    /// The version of the account's password.
    pub version: u64,
    /// When the login began.
    pub began: Moment,
    /// The number of the newest cookie.
    pub turn: u64,
    /// When that cookie was created.
    pub turned: Moment,
}

/// A line of the file. Applying the lines in order restores the state ([`Logins::note`](super::Logins::note)).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Record<S> {
    /// The current state of a login.
    Login(CredentialId, Login<S>),
    /// A login and everything that was issued for it has ended.
    Ended(CredentialId),
    /// Tokens of another issuer are revoked: one credential of the subject, or all that were issued until then.
    Revoked {
        /// The subject.
        subject: S,
        /// The credential; `None` for all.
        credential: Option<CredentialId>,
        /// The time.
        at: Moment,
    },
    /// Other state that must survive a restart.
    Mark {
        /// How long gateways have run on this file.
        age: u64,
        /// The latest issue date of a valid token of another issuer.
        seen: u64,
        /// No token of another issuer that was issued until then is valid.
        floor: u64,
    },
}

/// How far a logout reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Reach {
    /// This login only.
    This,
    /// Every login of its subject.
    Everywhere,
}

/// The inputs of the logins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input<S> {
    /// A password was right: a login begins.
    LogIn {
        /// The request.
        ask: Ask,
        /// The login's id, which was never used before.
        login: CredentialId,
        /// The login's subject.
        subject: S,
        /// The version of the password that was right.
        version: u64,
        /// The time.
        now: Now,
    },
    /// A cookie of ours requests the next token.
    Refresh {
        /// The request.
        ask: Ask,
        /// The cookie's login.
        login: CredentialId,
        /// The cookie's number.
        turn: u64,
        /// The time.
        now: Now,
    },
    /// A cookie of ours ends its login.
    LogOut {
        /// The request.
        ask: Ask,
        /// The cookie's login.
        login: CredentialId,
        /// The cookie's number.
        turn: u64,
        /// The reach of the logout.
        reach: Reach,
    },
    /// The operator ends one login of a subject, or all.
    End {
        /// The request.
        ask: Ask,
        /// The subject.
        subject: S,
        /// The login; `None` for all.
        login: Option<CredentialId>,
    },
    /// Tokens of another issuer are revoked.
    Revoke {
        /// The request.
        ask: Ask,
        /// The subject.
        subject: S,
        /// The credential; `None` for all.
        credential: Option<CredentialId>,
        /// The time.
        now: Now,
    },
    /// A token of another issuer was found valid.
    Seen {
        /// When it was issued, in milliseconds since the Unix epoch.
        issued: u64,
    },
    /// The accounts were read: the password version of each subject. Failing to read them is not an input: the last
    /// ones read stay.
    Looked(BTreeMap<S, u64>),
    /// The requester no longer waits.
    GiveUp(Ask),
    /// The write in flight is done: its records are on disk.
    Written,
    /// The write in flight has failed: all, some or none of its records are on disk.
    NotWritten,
    /// The pause after [`Output::Retry`] is over.
    Retry,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer<S> {
    /// The login is valid and on disk. Its cookie now has this number.
    Admitted {
        /// The login's subject.
        subject: S,
        /// The number of the cookie.
        turn: u64,
    },
    /// Ended or revoked, permanently.
    Ended,
    /// Refused for this cookie at this time; nothing was changed.
    Refused,
    /// The request could not be written or decided. It may still take effect: retry.
    Unavailable,
}

/// Why a login has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Its user logged out.
    LoggedOut,
    /// The operator ended it.
    Revoked,
    /// Its account is gone or has another password.
    AccountChanged,
    /// A cookie was used after its successor had been used, so there are two holders of the login's cookies.
    Reused,
    /// It was unused for too long, or has lasted for too long.
    Over,
    /// Its subject has begun another login and is at the limit.
    TooMany,
    /// The requester did not wait for the login to be on disk.
    GivenUp,
}

/// The outputs of the logins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output<S> {
    /// Answer a request.
    Answer(Ask, Answer<S>),
    /// Append these lines to the file, then report [`Input::Written`] or [`Input::NotWritten`]. One write is in flight
    /// at a time.
    Append(Vec<Record<S>>),
    /// Atomically replace the file by one with these lines, then report as for `Append`.
    Replace(Vec<Record<S>>),
    /// A login is invalid from now on: close its connections.
    Ended {
        /// The login's subject.
        subject: S,
        /// The login.
        login: CredentialId,
        /// The cause.
        why: Why,
    },
    /// Report [`Input::Retry`] after a pause.
    Retry,
}
