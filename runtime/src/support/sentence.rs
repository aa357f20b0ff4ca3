//! Errors that are a sentence for a reader: the operator, or the user of a tool.

/// Declares an error that displays one sentence and may have a cause. The sentence includes the cause's text, because
/// the reader reads one line. Two errors are equal if their sentences are. Exported, because the crate `lockstep-gateway`
/// declares its errors with it too.
#[doc(hidden)]
#[macro_export]
macro_rules! sentence {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            sentence: std::borrow::Cow<'static, str>,
            source: Option<std::sync::Arc<dyn core::error::Error + Send + Sync>>,
        }

        impl $name {
            /// Wraps the sentence.
            #[must_use]
            pub fn new(sentence: impl Into<std::borrow::Cow<'static, str>>) -> Self {
                Self { sentence: sentence.into(), source: None }
            }

            /// Wraps the sentence, which includes the text of its cause.
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

        impl From<&'static str> for $name {
            fn from(sentence: &'static str) -> Self {
                Self::new(sentence)
            }
        }
    };
}
