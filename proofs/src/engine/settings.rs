//! What a run of the checker is given: threads, limits, a way to stop it and a
//! way to watch it.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How to run. `Default` is every core, no limit, nobody watching.
#[derive(Clone)]
pub struct Settings {
    /// Threads of the exhaustive search.
    pub threads: NonZeroUsize,
    /// Set from outside (Ctrl-C) to end the run early, which makes it incomplete.
    pub stop: Arc<AtomicBool>,
    /// Stop at about so many unique states of one model.
    pub max_states: Option<usize>,
    /// Stop a search of one model after this long.
    pub max_time: Option<Duration>,
    /// Explore on after a violated `always`. Without it the first one ends the run.
    pub keep_going: bool,
    /// Told about ten times a second how far the search is.
    pub on_progress: Arc<dyn Fn(&Progress) + Send + Sync>,
}

impl Settings {
    /// Whether the stop flag is set.
    pub fn interrupted(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            stop: Arc::new(AtomicBool::new(false)),
            max_states: None,
            max_time: None,
            keep_going: false,
            on_progress: Arc::new(|_| ()),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("threads", &self.threads)
            .field("max_states", &self.max_states)
            .field("max_time", &self.max_time)
            .field("keep_going", &self.keep_going)
            .finish_non_exhaustive()
    }
}

/// How far a search is.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The model.
    pub model: &'static str,
    /// What is being done with it.
    pub stage: Stage,
    /// States generated, repeats included.
    pub states: usize,
    /// Distinct states.
    pub unique_states: usize,
    /// States on the longest path so far, the initial one counted.
    pub depth: usize,
    /// States met and not yet expanded.
    pub queue: usize,
    /// Since this search began.
    pub elapsed: Duration,
}

/// The searches that one check is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The exhaustive search by stateright.
    Explore,
    /// The search for the shortest counterexample.
    Shorten,
    /// The graph for the liveness promises.
    Liveness,
    /// The transitions for a diagram or matrix.
    Chart,
}

impl Stage {
    /// What a progress line calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Explore => "exploring",
            Self::Shorten => "shortest counterexample",
            Self::Liveness => "liveness",
            Self::Chart => "charting",
        }
    }
}
