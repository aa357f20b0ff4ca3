//! The errors of accounts.

use core::fmt;

use lockstep_model::login::NotChanged;

use super::{MAX_NAME, MAX_PASSWORD, MIN_PASSWORD};

/// Why an account was not added, changed, found or read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccountError {
    /// A name is 1 to 64 of `a-z`, `0-9`, `.`, `_` and `-`.
    BadName,
    /// A password has 8 to 1024 bytes.
    BadPassword,
    /// The account already exists.
    Exists,
    /// There is no such account.
    Unknown,
    /// Too many passwords wait to be hashed.
    Busy,
    /// The file, or the row of a cluster's engine, cannot be read or written, or is invalid.
    File(FileError),
}

lockstep::internal::sentence! {
    /// Why the accounts cannot be used: a sentence that names the file or the engine.
    FileError
}

impl AccountError {
    pub(super) const fn of(not: NotChanged) -> Self {
        match not {
            NotChanged::Exists => Self::Exists,
            NotChanged::Unknown => Self::Unknown,
        }
    }
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName => {
                write!(f, "a name must have 1 to {MAX_NAME} characters, each one of a-z, 0-9, '.', '_' and '-'")
            }
            Self::BadPassword => write!(f, "a password must have {MIN_PASSWORD} to {MAX_PASSWORD} bytes"),
            Self::Exists => f.write_str("the account already exists"),
            Self::Unknown => f.write_str("there is no such account"),
            Self::Busy => f.write_str("too many passwords are waiting to be hashed"),
            Self::File(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for AccountError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            // Displays the same sentence, so that its cause is the next.
            Self::File(error) => error.source(),
            Self::BadName | Self::BadPassword | Self::Exists | Self::Unknown | Self::Busy => None,
        }
    }
}
