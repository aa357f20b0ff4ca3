//! How much to check.

/// How much to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// For every edit: at most one minute on two cores
    Quick,
    /// For every change: a few minutes, each model exhausted at its stated bounds
    Ci,
    /// At least ten times the states of `ci`, without a time limit
    Deep,
}

impl Profile {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Ci => "ci",
            Self::Deep => "deep",
        }
    }
}
