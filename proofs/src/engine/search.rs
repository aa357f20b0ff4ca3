//! A single-threaded level-order search, as an independent check of stateright's.
//!
//! stateright explores with several threads and so not strictly level by level, and keeps the last counterexample that
//! it found. This search visits states in the order of their distance from the start, so its first violation has the
//! fewest possible steps. It numbers the states and shows every state and every step to an [`Observer`].
//!
//! A state is identified by a 64-bit fingerprint. Among *n* states the probability that any two collide is below
//! n²/2⁶⁵: 3 in 10⁶ for ten million states. The seeds differ from those of the exhaustive search, so a collision in one
//! search shows as a different number of states in the other, and a check compares the two.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::engine::digest::digest;
use crate::engine::guard::{self, Panic};
use crate::engine::proof::Proof;
use crate::engine::settings::{Progress, Settings, Stage};

/// The id of a state: its place in the order of discovery.
pub(crate) type StateId = u32;

/// Observes the search.
pub(crate) trait Observer<M: Proof> {
    /// A new state. `Break` ends the search here.
    fn state(&mut self, id: StateId, state: &M::State) -> ControlFlow<()>;

    /// One action of the state `from`. `after` is `None` if the model says that the action changes nothing, or if it
    /// would leave the boundary.
    fn step(&mut self, from: StateId, before: &M::State, action: &M::Action, after: Option<(StateId, &M::State)>);

    /// All actions of `id` have been shown.
    fn expanded(&mut self, id: StateId);
}

/// How a search ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Every reachable state was expanded.
    Exhausted,
    /// The observer ended it at this state.
    Found(StateId),
    /// The stop flag, the state limit or the time limit ended it.
    Stopped,
    /// The model panicked: in a step from `id`, or while `id` was observed (`action` is `None`).
    Panicked {
        /// The last state.
        id: StateId,
        /// The index of the attempted action.
        action: Option<u32>,
        /// The panic.
        panic: Panic,
    },
}

/// The search tree: enough to reconstruct any state.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    ids: HashMap<u64, StateId, BuildHasherDefault<Identity>>,
    /// The state from which each was first reached; itself for an initial state.
    parent: Vec<StateId>,
    /// The index of the action that led there; for an initial state, its own index.
    via: Vec<u32>,
    /// States generated, repeats included.
    pub(crate) generated: usize,
    /// The number of states on the shortest path to the farthest state, including the initial one.
    pub(crate) depth: usize,
}

/// A path: a state and the steps from it.
pub(crate) type Path<M> =
    (<M as stateright::Model>::State, Vec<(<M as stateright::Model>::Action, <M as stateright::Model>::State)>);

impl Tree {
    /// Returns the number of states reached.
    pub(crate) fn len(&self) -> usize {
        self.parent.len()
    }

    /// Returns the id of a state, if it was reached.
    pub(crate) fn id<S: Hash>(&self, state: &S) -> Option<StateId> {
        self.ids.get(&fingerprint(state)).copied()
    }

    fn insert<S: Hash>(&mut self, state: &S, parent: Option<StateId>, via: usize) -> (StateId, bool) {
        let next = StateId::try_from(self.parent.len()).expect("fewer than 2^32 states fit in memory");
        match self.ids.entry(fingerprint(state)) {
            std::collections::hash_map::Entry::Occupied(known) => (*known.get(), false),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(next);
                self.parent.push(parent.unwrap_or(next));
                self.via.push(u32::try_from(via).expect("fewer than 2^32 actions in a state"));
                (next, true)
            }
        }
    }

    /// Returns the shortest path to a state that was reached, recomputed from the model.
    ///
    /// # Panics
    /// When the model is not deterministic.
    pub(crate) fn path<M: Proof>(&self, model: &M, id: StateId) -> Path<M> {
        let mut indices = Vec::new();
        let mut at = id;
        while self.parent[at as usize] != at {
            indices.push(self.via[at as usize]);
            at = self.parent[at as usize];
        }
        let start = model
            .init_states()
            .into_iter()
            .nth(self.via[at as usize] as usize)
            .expect("initial states are deterministic");
        let mut state = start.clone();
        let mut steps = Vec::with_capacity(indices.len());
        for index in indices.into_iter().rev() {
            let action = nth_action(model, &state, index);
            state = model.next_state(&state, action.clone()).expect("steps are deterministic");
            steps.push((action, state.clone()));
        }
        (start, steps)
    }
}

/// Returns the action with this index in a state.
///
/// # Panics
/// When the state has fewer actions: the model is not deterministic.
pub(crate) fn nth_action<M: Proof>(model: &M, state: &M::State, index: u32) -> M::Action {
    let mut actions = Vec::new();
    model.actions(state, &mut actions);
    actions.into_iter().nth(index as usize).expect("actions are deterministic")
}

/// Searches `model` level by level until the observer or the settings stop it, or the state space is exhausted. Calls
/// `settings.on_progress` about ten times a second.
pub(crate) fn level_order<M: Proof>(
    model: &M,
    settings: &Settings,
    stage: Stage,
    observer: &mut impl Observer<M>,
) -> (Tree, End) {
    let mut tree = Tree::default();
    let mut queue: VecDeque<(StateId, u32, M::State)> = VecDeque::new();
    let mut pulse = Pulse::new(model.name(), stage);

    let starts = match guard::catch(|| model.init_states()) {
        Ok(starts) => starts,
        Err(panic) => return (tree, End::Panicked { id: 0, action: None, panic }),
    };
    for (index, state) in starts.into_iter().enumerate() {
        if !model.within_boundary(&state) {
            continue;
        }
        tree.generated += 1;
        let (id, new) = tree.insert(&state, None, index);
        if !new {
            continue;
        }
        match guard::catch(|| observer.state(id, &state)) {
            Ok(ControlFlow::Continue(())) => queue.push_back((id, 1, state)),
            Ok(ControlFlow::Break(())) => return (tree, End::Found(id)),
            Err(panic) => return (tree, End::Panicked { id, action: None, panic }),
        }
    }

    let mut actions = Vec::new();
    while let Some((from, depth, before)) = queue.pop_front() {
        if pulse.stopped(settings, &tree, queue.len()) {
            return (tree, End::Stopped);
        }
        tree.depth = tree.depth.max(depth as usize);
        if let Err(panic) = guard::catch(|| model.actions(&before, &mut actions)) {
            return (tree, End::Panicked { id: from, action: None, panic });
        }
        for (index, action) in actions.drain(..).enumerate() {
            let tried =
                guard::catch(|| model.next_state(&before, action.clone()).filter(|after| model.within_boundary(after)));
            let after = match tried {
                Ok(Some(after)) => after,
                Ok(None) => {
                    observer.step(from, &before, &action, None);
                    continue;
                }
                Err(panic) => {
                    let action = u32::try_from(index).ok();
                    return (tree, End::Panicked { id: from, action, panic });
                }
            };
            tree.generated += 1;
            let (id, new) = tree.insert(&after, Some(from), index);
            if new {
                match guard::catch(|| observer.state(id, &after)) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => return (tree, End::Found(id)),
                    Err(panic) => return (tree, End::Panicked { id, action: None, panic }),
                }
            }
            observer.step(from, &before, &action, Some((id, &after)));
            if new {
                queue.push_back((id, depth + 1, after));
            }
        }
        observer.expanded(from);
    }
    (tree, End::Exhausted)
}

/// Checks the stop flag and the limits, and reports progress periodically.
struct Pulse {
    model: &'static str,
    stage: Stage,
    began: Instant,
    reported: Instant,
    beat: u32,
}

impl Pulse {
    const BEATS: u32 = 1024;
    const INTERVAL: Duration = Duration::from_millis(100);

    fn new(model: &'static str, stage: Stage) -> Self {
        let now = Instant::now();
        Self { model, stage, began: now, reported: now, beat: 0 }
    }

    fn stopped(&mut self, settings: &Settings, tree: &Tree, queue: usize) -> bool {
        if settings.max_states.is_some_and(|limit| tree.len() >= limit) {
            return true;
        }
        self.beat += 1;
        if self.beat < Self::BEATS {
            return settings.interrupted();
        }
        self.beat = 0;
        let elapsed = self.began.elapsed();
        if self.reported.elapsed() >= Self::INTERVAL {
            self.reported = Instant::now();
            (settings.on_progress)(&Progress {
                model: self.model,
                stage: self.stage,
                states: tree.generated,
                unique_states: tree.len(),
                depth: tree.depth,
                queue,
                elapsed,
            });
        }
        settings.interrupted() || settings.max_time.is_some_and(|limit| elapsed >= limit)
    }
}

/// The 64-bit fingerprint of a state.
pub(crate) fn fingerprint<T: Hash>(value: &T) -> u64 {
    const SEEDS: ahash::RandomState = ahash::RandomState::with_seeds(
        0x9e37_79b9_7f4a_7c15,
        0xbf58_476d_1ce4_e5b9,
        0x94d0_49bb_1331_11eb,
        0x2545_f491_4f6c_dd1d,
    );
    digest(&SEEDS, value)
}

/// A hasher for fingerprints: the hash of a fingerprint is the fingerprint.
#[derive(Debug, Default)]
pub(crate) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}
