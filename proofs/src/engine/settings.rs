//! The settings of a run of the checker: threads, limits, a stop flag and a progress callback.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How to run. The default uses every core, has no limit and reports no progress.
#[derive(Clone)]
pub struct Settings {
    /// Threads of the exhaustive search.
    pub threads: NonZeroUsize,
    /// Set from outside (Ctrl-C) to end the run early, which makes it incomplete.
    pub stop: Arc<AtomicBool>,
    /// Stop at about this many distinct states of one model.
    pub max_states: Option<usize>,
    /// Stop a search of one model after this long.
    pub max_time: Option<Duration>,
    /// Continue after a violated `always`. Otherwise the first violation ends the run.
    pub keep_going: bool,
    /// Called about ten times a second with the progress of the search.
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

/// The progress of a search.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The model.
    pub model: &'static str,
    /// The current stage of its check.
    pub stage: Stage,
    /// States generated, repeats included.
    pub states: usize,
    /// Distinct states.
    pub unique_states: usize,
    /// States on the longest path so far, including the initial one.
    pub depth: usize,
    /// States that are discovered and not yet expanded.
    pub queue: usize,
    /// The time since this search began.
    pub elapsed: Duration,
}

/// The searches that make up one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The exhaustive search by stateright.
    Explore,
    /// The search for the shortest counterexample.
    Shorten,
    /// Building the graph for the liveness promises.
    Liveness,
    /// Collecting the transitions for a diagram or matrix.
    Chart,
}

impl Stage {
    /// Returns the stage's name in a progress line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Explore => "exploring",
            Self::Shorten => "shortest counterexample",
            Self::Liveness => "liveness",
            Self::Chart => "charting",
        }
    }
}
