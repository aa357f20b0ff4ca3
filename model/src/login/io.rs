//! What happens to the logins, and what they order.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::id::CredentialId;

/// A request that waits for its answer. The driver numbers them, and uses no number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ask(pub u64);

/// The time of an input, as two clocks tell it, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Now {
    /// Since the Unix epoch. It may jump, in both directions.
    pub wall: u64,
    /// Since the process began. It never goes back, and may stand still while the machine sleeps.
    pub up: u64,
}

/// When something was, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Moment {
    /// For how long gateways had run on this file. At least as much time has passed since as this has grown.
    pub age: u64,
    /// Since the Unix epoch, as far as the clock was right.
    pub wall: u64,
}

/// Bounds (LIM-1) and lifetimes, the latter in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// How long a login lasts that is not used.
    pub idle: u64,
    /// How long a login lasts that is used.
    pub longest: u64,
    /// Logins of one subject. One more ends the one that was used the longest ago.
    pub per_subject: usize,
    /// Logins in all. One more is refused.
    pub logins: usize,
    /// Requests that wait for an answer. One more is answered [`Answer::Unavailable`].
    pub waiting: usize,
    /// How long a revocation of another issuer's tokens is remembered: no shorter than such a token lives.
    pub retention: u64,
    /// Single revoked credentials of one subject. One more revokes the subject.
    pub credentials: usize,
    /// Revocations in all. One more drops the oldest, and with them everything that was issued before.
    pub revocations: usize,
    /// Records that are appended before the file is replaced, unless more than half as many count.
    pub records: usize,
}

/// One login, as it is and as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Login<S> {
    /// Whose it is.
    pub subject: S,
    /// The version of the account's password.
    pub version: u64,
    /// When it began.
    pub began: Moment,
    /// The number of its newest cookie.
    pub turn: u64,
    /// When that one was made.
    pub turned: Moment,
}

/// A line of the file. Reading the lines in their order gives back what they tell ([`Logins::note`](super::Logins::note)).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Record<S> {
    /// A login as it is now.
    Login(CredentialId, Login<S>),
    /// A login has ended: with this line ends all that was issued for it.
    Ended(CredentialId),
    /// Tokens of another issuer are revoked: one credential of the subject, or all that were issued until then.
    Revoked {
        /// Whose.
        subject: S,
        /// Which one; all without.
        credential: Option<CredentialId>,
        /// When.
        at: Moment,
    },
    /// What else must be remembered.
    Mark {
        /// For how long gateways have run on this file.
        age: u64,
        /// The latest date of issue of another issuer's token that was found good.
        seen: u64,
        /// Nothing of another issuer that was issued until then is good.
        floor: u64,
    },
}

/// How far a logout reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Reach {
    /// This login.
    This,
    /// Every login of its subject.
    Everywhere,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input<S> {
    /// A password was right: a login begins.
    LogIn {
        /// Who waits for the answer.
        ask: Ask,
        /// Its name, which was never used before.
        login: CredentialId,
        /// Whose it is.
        subject: S,
        /// The version of the password that was right.
        version: u64,
        /// When.
        now: Now,
    },
    /// A cookie of ours asks for the next token.
    Refresh {
        /// Who waits for the answer.
        ask: Ask,
        /// Its login.
        login: CredentialId,
        /// Its number.
        turn: u64,
        /// When.
        now: Now,
    },
    /// A cookie of ours ends its login.
    LogOut {
        /// Who waits for the answer.
        ask: Ask,
        /// Its login.
        login: CredentialId,
        /// Its number.
        turn: u64,
        /// How far it reaches.
        reach: Reach,
    },
    /// The operator ends a login, or all of a subject.
    End {
        /// Who waits for the answer.
        ask: Ask,
        /// Whose.
        subject: S,
        /// Which one; all without.
        login: Option<CredentialId>,
    },
    /// Tokens of another issuer are revoked.
    Revoke {
        /// Who waits for the answer.
        ask: Ask,
        /// Whose.
        subject: S,
        /// Which one; all without.
        credential: Option<CredentialId>,
        /// When.
        now: Now,
    },
    /// A token of another issuer was found good.
    Seen {
        /// When it was issued, in milliseconds since the Unix epoch.
        issued: u64,
    },
    /// The accounts were read: the version of each subject's password. That they cannot be read is no input: what was
    /// read last stays.
    Looked(BTreeMap<S, u64>),
    /// The one who asked does not wait any more.
    GiveUp(Ask),
    /// The write that is under way is done: it is on the disk.
    Written,
    /// The write that is under way has failed: all of it, a part, or nothing is on the disk.
    NotWritten,
    /// The time after [`Output::Retry`] is over.
    Retry,
}

/// What a request comes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer<S> {
    /// The login is good, and on the disk. Its cookie has this number now.
    Admitted {
        /// Whose it is.
        subject: S,
        /// The number of the cookie.
        turn: u64,
    },
    /// It has ended, or is revoked, for good.
    Ended,
    /// Not this time, and not for this cookie; nothing was changed.
    Refused,
    /// It could not be written, or not be found out. What was asked may happen all the same: ask again.
    Unavailable,
}

/// Why a login has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Its user logged out.
    LoggedOut,
    /// The operator ended it.
    Revoked,
    /// Its account is gone, or has another password.
    AccountChanged,
    /// A cookie was used whose successor had been used: there are two who hold cookies of it.
    Reused,
    /// It was not used for too long, or has lasted for too long.
    Over,
    /// Its subject has begun another, and may not have one more.
    TooMany,
    /// The one who asked for it did not wait until it was there.
    GivenUp,
}

/// What must be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output<S> {
    /// Answer a request.
    Answer(Ask, Answer<S>),
    /// Add these lines at the end of the file, then say [`Input::Written`] or [`Input::NotWritten`]. One write is under
    /// way at a time.
    Append(Vec<Record<S>>),
    /// Put a file of these lines in the place of the one that is there, in one step; then as with `Append`.
    Replace(Vec<Record<S>>),
    /// A login is good for nothing from now on: close what is connected with it.
    Ended {
        /// Whose it was.
        subject: S,
        /// Which one.
        login: CredentialId,
        /// Why.
        why: Why,
    },
    /// Say [`Input::Retry`] after a while.
    Retry,
}
