//! The exhaustive search, using stateright's multi-threaded checkers.
//!
//! A model whose runs are [short](Proof::is_short) is searched depth-first. The queue then holds one path with its
//! branches instead of a whole level, which takes a twentieth of the memory and is faster. If runs are unbounded, a
//! path can visit every state, and stateright copies the path for each state. Such a model is searched breadth-first.
//! The shortest counterexample comes from the second search, level by level.
//!
//! stateright explores a wrapper of the model. The wrapper evaluates the properties once per state, when the state is
//! expanded. It guarantees four things that stateright does not:
//!
//! * **Every state is expanded.** stateright drops a state in which each property yields a discovery, and stops once
//!   every property has one. The wrapper declares one property, which never yields a discovery.
//! * **No search is truncated silently.** A run is *complete* only if the number of expanded states equals the number
//!   of distinct states, and no stop, limit, violation or panic ended it. stateright's own `is_done` is also true after
//!   a time-out.
//! * **A panic is a verdict.** See [`crate::engine::guard`].
//! * **It is fast.** stateright looks up each property by name in every state and copies the path for each `sometimes`
//!   that holds. The wrapper does neither. stateright also copies the path for each step, even one that leads to a
//!   known state. The wrapper filters out most of those steps.
//!
//! The wrapper expands a state completely when stateright asks for its actions: an action of the wrapper is a successor
//! state of the model. So one place records everything that liveness needs about a state and its steps, and stateright
//! computes no step twice.
//!
//! The wrapper's state is the model's state, its 64-bit fingerprint, computed once, and its depth, which is not hashed.
//! The wrapper therefore distinguishes exactly the model's states. Among *n* states the probability that any two share
//! a fingerprint, so that one of them is missed, is below n²/2⁶⁵: 3 in 10⁶ for ten million states. The level-order
//! search hashes with other seeds, and the tests compare the two counts.

use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, Model, Property};

use crate::engine::digest::digest;
use crate::engine::fairness::{self, Links};
use crate::engine::guard::{self, Panic};
use crate::engine::memory::Meter;
use crate::engine::proof::Proof;
use crate::engine::settings::{Progress, Settings, Stage};

mod recorder;

use recorder::Recorder;

/// The result of one exhaustive search.
#[derive(Clone, Debug)]
pub struct Exploration {
    /// States generated, repeats included.
    pub states: usize,
    /// Distinct states.
    pub unique_states: usize,
    /// States on the longest path explored, including the initial one. May exceed the depth of the state graph, because
    /// the search is not level by level.
    pub max_depth: usize,
    /// Whether every reachable state within the bounds was expanded.
    pub complete: bool,
    /// Wall-clock time.
    pub elapsed: Duration,
    /// Growth of the resident set, in bytes; see [`crate::engine::memory`].
    pub memory: Option<u64>,
    /// The `always` properties that some state violates, in the model's order.
    pub violated: Vec<&'static str>,
    /// Each `sometimes` that some state shows, with the number of steps of the first path that reached such a state.
    pub shown: Vec<(&'static str, usize)>,
    /// The first panic of the model.
    pub panic: Option<Panic>,
}

impl Exploration {
    /// States generated per second.
    pub fn states_per_second(&self) -> f64 {
        self.states as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Bytes of memory per distinct state. `None` when the growth is unknown, or so small that it measures pages rather
    /// than states.
    pub fn bytes_per_state(&self) -> Option<f64> {
        const TELLING: u64 = 4 << 20;
        let grown = self.memory.filter(|grown| *grown >= TELLING)?;
        Some(grown as f64 / self.unique_states.max(1) as f64)
    }

    /// Whether a violation or a panic was found.
    pub fn failed(&self) -> bool {
        self.panic.is_some() || !self.violated.is_empty()
    }
}

/// Explores every reachable state of `model`.
///
/// # Panics
/// When the model declares an `eventually` property, which must be a [promise](Proof::promises) instead. When a checker
/// thread cannot be started.
pub fn explore<M: Proof>(model: &M, settings: &Settings) -> Exploration {
    run(model, settings, None).0
}

/// Explores, and records what is needed to decide the model's promises, if it makes any.
///
/// # Panics
/// As [`explore`], and when the model exceeds the limits of [`crate::engine::fairness`].
pub(crate) fn explore_links<M: Proof>(model: &M, settings: &Settings) -> (Exploration, Option<Links>) {
    let recorder = (!model.promises().is_empty()).then(|| Recorder::new(model));
    run(model, settings, recorder)
}

fn run<M: Proof>(model: &M, settings: &Settings, recorder: Option<Recorder<M>>) -> (Exploration, Option<Links>) {
    let shared = Arc::new(Shared::new(model, settings, recorder));
    let meter = Meter::start();
    let began = Instant::now();
    let watched = Watched { model: model.clone(), shared: Arc::clone(&shared) };
    if let Err(panic) = guard::catch(|| model.init_states()) {
        shared.panicked(panic);
    }
    let checker = watched.checker().threads(settings.threads.get());
    let search = Search { model, settings, shared: &shared, began, meter };
    let exploration = if model.is_short() { search.run(checker.spawn_dfs()) } else { search.run(checker.spawn_bfs()) };
    let links = shared.recorder.as_ref().filter(|_| exploration.complete).map(Recorder::links);
    (exploration, links)
}

/// One search, with either checker.
struct Search<'a, M: Proof> {
    model: &'a M,
    settings: &'a Settings,
    shared: &'a Shared<M>,
    began: Instant,
    meter: Meter,
}

impl<M: Proof> Search<'_, M> {
    fn run(self, mut checker: impl Checker<Watched<M>> + Sync) -> Exploration {
        let Self { model, settings, shared, began, meter } = self;
        let handles = checker.handles();

        thread::scope(|scope| {
            let monitor = scope.spawn(|| watch(model.name(), &checker, shared, settings, began));
            for handle in handles {
                // The wrapper lets no panic through, so this is the checker's own.
                if handle.join().is_err() {
                    shared.panicked(Panic {
                        message: "a checker thread panicked outside the model".into(),
                        place: String::new(),
                    });
                }
            }
            shared.ended.store(true, Ordering::Release);
            monitor.thread().unpark();
        });
        let elapsed = began.elapsed();

        let unique_states = checker.unique_state_count();
        let stopped = settings.interrupted() || shared.halt.load(Ordering::Relaxed);
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Exploration {
            states: checker.state_count() + shared.filtered.load(Ordering::Relaxed),
            unique_states,
            max_depth: shared.depth.load(Ordering::Relaxed) as usize,
            complete: !stopped && panic.is_none() && shared.expanded.load(Ordering::Relaxed) == unique_states,
            elapsed,
            memory: meter.growth(),
            violated: shared
                .always
                .iter()
                .filter(|watch| watch.met.load(Ordering::Relaxed) != NOT_MET)
                .map(|watch| watch.name)
                .collect(),
            shown: shared
                .sometimes
                .iter()
                .filter_map(|watch| match watch.met.load(Ordering::Relaxed) {
                    NOT_MET => None,
                    depth => Some((watch.name, depth as usize - 1)),
                })
                .collect(),
            panic,
        }
    }
}

/// Enforces the limits and reports progress until the search has ended.
fn watch<M: Proof>(
    name: &'static str,
    checker: &impl Checker<Watched<M>>,
    shared: &Shared<M>,
    settings: &Settings,
    began: Instant,
) {
    while !shared.ended.load(Ordering::Acquire) {
        let elapsed = began.elapsed();
        let unique_states = checker.unique_state_count();
        if settings.max_states.is_some_and(|limit| unique_states >= limit)
            || settings.max_time.is_some_and(|limit| elapsed >= limit)
        {
            shared.halt.store(true, Ordering::Relaxed);
        }
        (settings.on_progress)(&Progress {
            model: name,
            stage: Stage::Explore,
            states: checker.state_count() + shared.filtered.load(Ordering::Relaxed),
            unique_states,
            depth: shared.depth.load(Ordering::Relaxed) as usize,
            queue: unique_states.saturating_sub(shared.expanded.load(Ordering::Relaxed)),
            elapsed,
        });
        thread::park_timeout(INTERVAL);
    }
}

/// The time between two checks of the limits.
const INTERVAL: Duration = Duration::from_millis(100);

/// The depth of a property that no state has violated or shown.
const NOT_MET: u32 = u32::MAX;

/// A property and the smallest depth at which a state violated or showed it.
struct Watch<M: Model> {
    name: &'static str,
    condition: fn(&M, &M::State) -> bool,
    met: AtomicU32,
}

/// The state shared by the checker's threads. Any thread writes any field, and the monitor thread reads them. No
/// ordering depends on them.
struct Shared<M: Proof> {
    always: Vec<Watch<M>>,
    sometimes: Vec<Watch<M>>,
    keep_going: bool,
    /// The caller's stop flag.
    stop: Arc<AtomicBool>,
    /// Set by a limit, a violation or a panic. Once it is set, no state is expanded.
    halt: AtomicBool,
    /// Set when every checker thread has returned.
    ended: AtomicBool,
    expanded: AtomicUsize,
    /// Steps that the filter hid from stateright, and that stateright therefore does not count.
    filtered: AtomicUsize,
    filter: Filter,
    recorder: Option<Recorder<M>>,
    depth: AtomicU32,
    panic: Mutex<Option<Panic>>,
}

impl<M: Proof> Shared<M> {
    fn new(model: &M, settings: &Settings, recorder: Option<Recorder<M>>) -> Self {
        let (mut always, mut sometimes) = (Vec::new(), Vec::new());
        for Property { name, condition, expectation } in model.properties() {
            let watch = Watch { name, condition, met: AtomicU32::new(NOT_MET) };
            match expectation {
                Expectation::Always => always.push(watch),
                Expectation::Sometimes => sometimes.push(watch),
                Expectation::Eventually => {
                    panic!("`{name}` of `{}`: declare it as a promise", model.name())
                }
            }
        }
        Self {
            always,
            sometimes,
            keep_going: settings.keep_going,
            stop: Arc::clone(&settings.stop),
            halt: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            expanded: AtomicUsize::new(0),
            filtered: AtomicUsize::new(0),
            filter: Filter::new(),
            recorder,
            depth: AtomicU32::new(0),
            panic: Mutex::new(None),
        }
    }

    fn halted(&self) -> bool {
        self.halt.load(Ordering::Relaxed) || self.stop.load(Ordering::Relaxed)
    }

    fn panicked(&self, panic: Panic) {
        self.halt.store(true, Ordering::Relaxed);
        self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
    }

    /// Evaluates every property in a state that is about to be expanded.
    fn evaluate(&self, model: &M, seen: &Seen<M::State>) {
        if seen.depth > self.depth.load(Ordering::Relaxed) {
            self.depth.fetch_max(seen.depth, Ordering::Relaxed);
        }
        for watch in &self.always {
            if !(watch.condition)(model, &seen.state) {
                watch.met.fetch_min(seen.depth, Ordering::Relaxed);
                if !self.keep_going {
                    self.halt.store(true, Ordering::Relaxed);
                }
            }
        }
        for watch in &self.sometimes {
            if watch.met.load(Ordering::Relaxed) == NOT_MET && (watch.condition)(model, &seen.state) {
                watch.met.fetch_min(seen.depth, Ordering::Relaxed);
            }
        }
    }
}

/// The model as stateright sees it.
struct Watched<M: Proof> {
    model: M,
    shared: Arc<Shared<M>>,
}

/// A state, its fingerprint, and the number of states on the path to it.
#[derive(Clone)]
struct Seen<S> {
    /// Boxed, because stateright moves it several times.
    state: Box<S>,
    fingerprint: u64,
    depth: u32,
}

impl<S: Hash> Seen<S> {
    fn fingerprint(state: &S) -> u64 {
        const SEEDS: ahash::RandomState = ahash::RandomState::with_seeds(
            0xd6e8_feb8_6659_fd93,
            0xa076_1d64_78bd_642f,
            0xe703_7ed1_a0b4_28db,
            0x8ebc_6af0_9c88_c6e3,
        );
        digest(&SEEDS, state)
    }
}

impl<S> Hash for Seen<S> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.fingerprint);
    }
}

/// Recent fingerprints that were passed to stateright.
///
/// Stateright already has these states, so a step to one of them is hidden from it. Each place in the table holds the
/// latest fingerprint that maps to it. If a fingerprint was displaced, its state is shown again, and stateright finds
/// it in its own set. The filter may forget a state, but never hides one that stateright has not received.
struct Filter(Vec<AtomicU64>);

impl Filter {
    const SLOTS: usize = 1 << 18;

    fn new() -> Self {
        Self((0..Self::SLOTS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Records the state as passed on. Returns whether it already was.
    fn had(&self, fingerprint: u64) -> bool {
        // Zero marks an empty place, so a state with that fingerprint always counts as new.
        let slot = &self.0[fingerprint as usize & (Self::SLOTS - 1)];
        if slot.load(Ordering::Relaxed) == fingerprint {
            return fingerprint != 0;
        }
        slot.store(fingerprint, Ordering::Relaxed);
        false
    }
}

impl<S: PartialEq> PartialEq for Seen<S> {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state
    }
}

impl<S: Debug> Debug for Seen<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)
    }
}

impl<M: Proof> Watched<M> {
    /// Evaluates the properties in a state, and computes the successors that stateright may not have yet.
    fn expand(&self, seen: &Seen<M::State>, next: &mut Vec<Seen<M::State>>) {
        let Self { model, shared } = self;
        shared.evaluate(model, seen);
        let mut row =
            shared.recorder.as_ref().and_then(|recorder| recorder.begin(model, seen.fingerprint, &seen.state));
        let mut actions = Vec::new();
        model.actions(&seen.state, &mut actions);
        let mut filtered = 0;
        for action in actions {
            let class = row.as_ref().map(|_| fairness::class(model, &action));
            let after = model.next_state(&seen.state, action).filter(|after| model.within_boundary(after));
            let Some(after) = after else { continue };
            let fingerprint = Seen::fingerprint(&after);
            if let (Some(row), Some(class)) = (&mut row, class) {
                row.step(class, fingerprint);
            }
            if shared.filter.had(fingerprint) {
                filtered += 1;
            } else {
                next.push(Seen { state: Box::new(after), fingerprint, depth: seen.depth + 1 });
            }
        }
        if let (Some(recorder), Some(row)) = (&shared.recorder, row) {
            recorder.keep(row);
        }
        shared.filtered.fetch_add(filtered, Ordering::Relaxed);
    }
}

impl<M: Proof> Model for Watched<M> {
    type State = Seen<M::State>;
    /// A successor state of the model.
    type Action = Self::State;

    fn init_states(&self) -> Vec<Self::State> {
        guard::catch(|| self.model.init_states())
            .unwrap_or_default()
            .into_iter()
            .filter(|state| self.model.within_boundary(state))
            .map(|state| Seen { fingerprint: Seen::fingerprint(&state), state: Box::new(state), depth: 1 })
            .collect()
    }

    fn actions(&self, seen: &Self::State, next: &mut Vec<Self::Action>) {
        if self.shared.halted() {
            return;
        }
        match guard::catch(|| self.expand(seen, next)) {
            Ok(()) => {
                self.shared.expanded.fetch_add(1, Ordering::Relaxed);
            }
            Err(panic) => {
                next.clear();
                self.shared.panicked(panic);
            }
        }
    }

    fn next_state(&self, _: &Self::State, next: Self::Action) -> Option<Self::State> {
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("every state is expanded", |_, _| true)]
    }
}
