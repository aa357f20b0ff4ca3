//! Level-order search of a model by one thread: the second opinion.
//!
//! stateright explores with many threads and therefore not strictly by level,
//! and keeps the last counterexample that it met. This search visits states in
//! the order of their distance from the start, so the first violation that it
//! meets has the fewest steps that any has. It numbers the states and shows an
//! [`Observer`] every state and every step.
//!
//! A state is known by a 64-bit fingerprint. Among *n* states the odds that
//! any two share one are below n²/2⁶⁵: 3 in 10⁶ for ten million states. The
//! seeds differ from stateright's, so a collision in one search shows as a
//! different number of states in the other, and a check compares the two.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::engine::digest::digest;
use crate::engine::guard::{self, Panic};
use crate::engine::proof::Proof;
use crate::engine::settings::{Progress, Settings, Stage};

/// The number of a state, in the order in which the search met it.
pub(crate) type Node = u32;

/// Sees what the search meets.
pub(crate) trait Observer<M: Proof> {
    /// A state, for the first time. `Break` ends the search here.
    fn state(&mut self, node: Node, state: &M::State) -> ControlFlow<()>;

    /// One action of the state `from`. `after` is `None` when the model says
    /// that the action changes nothing, or when it would leave the boundary.
    fn step(&mut self, from: Node, before: &M::State, action: &M::Action, after: Option<(Node, &M::State)>);

    /// Every action of `node` was shown.
    fn expanded(&mut self, node: Node);
}

/// How a search ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Every reachable state was expanded.
    Exhausted,
    /// The observer asked for it at this state.
    Found(Node),
    /// The stop flag, the state limit or the time limit.
    Stopped,
    /// The model panicked: in a step from `node`, or in looking at it (`action` is `None`).
    Panicked {
        /// The last state.
        node: Node,
        /// The index of the action that was tried.
        action: Option<u32>,
        /// What it said.
        panic: Panic,
    },
}

/// What a search leaves behind: enough to find any state again.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: HashMap<u64, Node, BuildHasherDefault<Identity>>,
    /// The state from which each was met first; itself for an initial state.
    parent: Vec<Node>,
    /// The index of the action that led from there; of an initial state, its own index.
    via: Vec<u32>,
    /// States generated, repeats included.
    pub(crate) generated: usize,
    /// States on the longest shortest path, the initial one counted.
    pub(crate) depth: usize,
}

/// A path: a state and the steps from there.
pub(crate) type Path<M> =
    (<M as stateright::Model>::State, Vec<(<M as stateright::Model>::Action, <M as stateright::Model>::State)>);

impl Tree {
    /// The number of states met.
    pub(crate) fn len(&self) -> usize {
        self.parent.len()
    }

    /// The number of a state, if it was met.
    pub(crate) fn node<S: Hash>(&self, state: &S) -> Option<Node> {
        self.nodes.get(&fingerprint(state)).copied()
    }

    fn insert<S: Hash>(&mut self, state: &S, parent: Option<Node>, via: usize) -> (Node, bool) {
        let next = Node::try_from(self.parent.len()).expect("fewer than 2^32 states fit in memory");
        match self.nodes.entry(fingerprint(state)) {
            std::collections::hash_map::Entry::Occupied(known) => (*known.get(), false),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(next);
                self.parent.push(parent.unwrap_or(next));
                self.via.push(u32::try_from(via).expect("fewer than 2^32 actions in a state"));
                (next, true)
            }
        }
    }

    /// The shortest path to a state that was met, made again from the model.
    ///
    /// # Panics
    /// When the model is not a function of its input.
    pub(crate) fn path<M: Proof>(&self, model: &M, node: Node) -> Path<M> {
        let mut indices = Vec::new();
        let mut at = node;
        while self.parent[at as usize] != at {
            indices.push(self.via[at as usize]);
            at = self.parent[at as usize];
        }
        let start = model
            .init_states()
            .into_iter()
            .nth(self.via[at as usize] as usize)
            .expect("the initial states are the same each time");
        let mut state = start.clone();
        let mut steps = Vec::with_capacity(indices.len());
        for index in indices.into_iter().rev() {
            let action = nth_action(model, &state, index);
            state = model.next_state(&state, action.clone()).expect("a step gives the same state each time");
            steps.push((action, state.clone()));
        }
        (start, steps)
    }
}

/// The action of that index in a state.
///
/// # Panics
/// When the state has fewer: the model is not a function of its input.
pub(crate) fn nth_action<M: Proof>(model: &M, state: &M::State, index: u32) -> M::Action {
    let mut actions = Vec::new();
    model.actions(state, &mut actions);
    actions.into_iter().nth(index as usize).expect("a state has the same actions each time")
}

/// Searches `model` level by level until the observer, the settings or the
/// state space ends it. Calls `settings.on_progress` about ten times a second.
pub(crate) fn level_order<M: Proof>(
    model: &M,
    settings: &Settings,
    stage: Stage,
    observer: &mut impl Observer<M>,
) -> (Tree, End) {
    let mut tree = Tree::default();
    let mut queue: VecDeque<(Node, u32, M::State)> = VecDeque::new();
    let mut pulse = Pulse::new(model.name(), stage);

    let starts = match guard::catch(|| model.init_states()) {
        Ok(starts) => starts,
        Err(panic) => return (tree, End::Panicked { node: 0, action: None, panic }),
    };
    for (index, state) in starts.into_iter().enumerate() {
        if !model.within_boundary(&state) {
            continue;
        }
        tree.generated += 1;
        let (node, new) = tree.insert(&state, None, index);
        if !new {
            continue;
        }
        match guard::catch(|| observer.state(node, &state)) {
            Ok(ControlFlow::Continue(())) => queue.push_back((node, 1, state)),
            Ok(ControlFlow::Break(())) => return (tree, End::Found(node)),
            Err(panic) => return (tree, End::Panicked { node, action: None, panic }),
        }
    }

    let mut actions = Vec::new();
    while let Some((from, depth, before)) = queue.pop_front() {
        if pulse.stopped(settings, &tree, queue.len()) {
            return (tree, End::Stopped);
        }
        tree.depth = tree.depth.max(depth as usize);
        if let Err(panic) = guard::catch(|| model.actions(&before, &mut actions)) {
            return (tree, End::Panicked { node: from, action: None, panic });
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
                    return (tree, End::Panicked { node: from, action, panic });
                }
            };
            tree.generated += 1;
            let (node, new) = tree.insert(&after, Some(from), index);
            if new {
                match guard::catch(|| observer.state(node, &after)) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => return (tree, End::Found(node)),
                    Err(panic) => return (tree, End::Panicked { node, action: None, panic }),
                }
            }
            observer.step(from, &before, &action, Some((node, &after)));
            if new {
                queue.push_back((node, depth + 1, after));
            }
        }
        observer.expanded(from);
    }
    (tree, End::Exhausted)
}

/// Looks at the stop flag and the limits, and reports progress now and then.
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

/// The hash of a fingerprint is the fingerprint.
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
