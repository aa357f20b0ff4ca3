//! The errors of the gateway: a sentence for the operator, and its cause, if there is one.

lockstep::internal::sentence! {
    /// Why the gateway cannot start, or cannot go on.
    StartError
}

/// An error of a part is one of the start, and its cause.
macro_rules! of_start {
    ($($part:ty),* $(,)?) => {
        $(impl From<$part> for StartError {
            fn from(error: $part) -> Self {
                Self::because(error.to_string(), error)
            }
        })*
    };
}

of_start!(
    crate::accounts::AccountError,
    crate::directory::DirectoryError,
    crate::handover::TakeOverError,
    crate::login::LoginError,
    crate::operator::TokenError,
    crate::serve::BindError,
    crate::serve::CertificateError,
    crate::telemetry::NotInstalled,
    lockstep::log::NotOpened,
    lockstep::manager::NotBuilt,
    std::io::Error,
);
