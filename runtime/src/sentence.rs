//! Errors that are a sentence for a reader: the operator, or the user of a tool.

/// Declares an error that displays one sentence.
macro_rules! sentence {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(std::borrow::Cow<'static, str>);

        impl $name {
            /// Wraps the sentence.
            #[must_use]
            pub fn new(sentence: impl Into<std::borrow::Cow<'static, str>>) -> Self {
                Self(sentence.into())
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl core::error::Error for $name {}

        impl From<String> for $name {
            fn from(sentence: String) -> Self {
                Self::new(sentence)
            }
        }

        impl From<&'static str> for $name {
            fn from(sentence: &'static str) -> Self {
                Self::new(sentence)
            }
        }
    };
}

pub(crate) use sentence;
