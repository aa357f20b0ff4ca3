//! The errors of the gateway: a sentence for the operator, and the error behind it where there is one.

/// Declares an error that displays one sentence and may have a cause. The sentence includes the cause's text, because
/// the operator reads one line. Two errors are equal if their sentences are.
macro_rules! caused {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            sentence: std::borrow::Cow<'static, str>,
            source: Option<std::sync::Arc<dyn core::error::Error + Send + Sync>>,
        }

        impl $name {
            /// An error without a known cause.
            #[must_use]
            pub fn new(sentence: impl Into<std::borrow::Cow<'static, str>>) -> Self {
                Self { sentence: sentence.into(), source: None }
            }

            /// An error with its cause.
            #[must_use]
            pub fn because(
                sentence: impl Into<std::borrow::Cow<'static, str>>,
                cause: impl core::error::Error + Send + Sync + 'static,
            ) -> Self {
                Self { sentence: sentence.into(), source: Some(std::sync::Arc::new(cause)) }
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.sentence == other.sentence
            }
        }

        impl Eq for $name {}

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(&self.sentence)
            }
        }

        impl core::error::Error for $name {
            fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
                self.source.as_deref().map(|source| source as &(dyn core::error::Error + 'static))
            }
        }

        impl From<String> for $name {
            fn from(sentence: String) -> Self {
                Self::new(sentence)
            }
        }
    };
}

pub(crate) use caused;

caused! {
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
