//! Runs a scenario under loom, in every interleaving, and reports the finding.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::panic;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

/// When to stop early. The default is never.
#[derive(Clone, Debug, Default)]
pub struct ExplorationLimits {
    /// Set from outside to stop.
    pub stop: Arc<AtomicBool>,
    /// The maximum time.
    pub max_time: Option<Duration>,
    /// Counts the interleavings of all explorations that share it.
    pub interleavings: Arc<AtomicUsize>,
}

/// The result of an exploration.
#[derive(Clone, Debug)]
pub struct Explored {
    /// Interleavings that were run.
    pub interleavings: usize,
    /// The time that they took.
    pub time: Duration,
    /// The finding.
    pub finding: Finding,
}

/// What an exploration found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Every interleaving was run, and none fails.
    Holds,
    /// An interleaving fails with this message: an assertion, or a deadlock.
    Fails(String),
    /// The exploration was stopped, and no interleaving has failed so far.
    Incomplete,
}

const STOPPED: &str = "stopped before the last interleaving";

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// The scenario that this thread runs, and the message of its first panic.
    static RUNNING: RefCell<(&'static str, String)> = const { RefCell::new(("", String::new())) };
}

/// The runtime's message when it must abort because of a panic during unwinding.
const TWICE: &str = "panic in a destructor during cleanup";

/// Runs `scenario` in every interleaving. loom omits only those that differ in nothing but the order of operations on
/// different locks, and the number of preemptions is not bounded.
///
/// A scenario that panics again while it unwinds would abort the process. In that case, this function prints the first
/// panic and ends the process with exit code 1: it is a counterexample.
pub fn exhaust(
    name: &'static str,
    scenario: impl Fn() + Send + Sync + 'static,
    limits: &ExplorationLimits,
) -> Explored {
    hush();
    let interleavings = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let deadline = limits.max_time.map(|time| began + time);
    let (counter, counter_of_all) = (Arc::clone(&interleavings), Arc::clone(&limits.interleavings));
    let stop = Arc::clone(&limits.stop);
    // A thread of its own, because loom cannot be reused on a thread after a failed run.
    let exploring = thread::spawn(move || {
        QUIET.set(true);
        RUNNING.set((name, String::new()));
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = None;
        builder.max_branches = 100_000;
        builder.check(move || {
            let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            assert!(!late && !stop.load(Ordering::Relaxed), "{STOPPED}");
            counter.fetch_add(1, Ordering::Relaxed);
            counter_of_all.fetch_add(1, Ordering::Relaxed);
            scenario();
        });
    });
    let finding = match exploring.join() {
        Ok(()) => Finding::Holds,
        Err(payload) => {
            let text = payload
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "a panic without a message".to_owned());
            if text == STOPPED { Finding::Incomplete } else { Finding::Fails(text) }
        }
    };
    Explored { interleavings: interleavings.load(Ordering::Relaxed), time: began.elapsed(), finding }
}

/// Suppresses the panic output of failing interleavings: they are results, and do not belong on standard error.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.try_with(Cell::get).unwrap_or(false) {
                return loud(info);
            }
            let text = info.payload_as_str().unwrap_or_default();
            RUNNING.with_borrow_mut(|(name, first)| {
                if text == TWICE {
                    let line = format!(
                        "{name} fails: {first}\nIt panics again while it unwinds, so nothing else is explored.\n"
                    );
                    let _ = std::io::stderr().write_all(line.as_bytes());
                    std::process::exit(1);
                }
                if first.is_empty() {
                    text.clone_into(first);
                }
            });
        }));
    });
}
