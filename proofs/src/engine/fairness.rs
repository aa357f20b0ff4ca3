//! Decides liveness exactly: is there a weakly fair run that stays pending forever?
//!
//! # Theory
//!
//! A [`Promise`] defines which states are *pending*. A run violates it if the run is pending forever from some step on
//! and is *weakly fair*: each fairness class that stays enabled from some step on is taken infinitely often. A run may
//! also stop forever (*stutter*) in a state in which no fair class is enabled. The adversary is never forced to act.
//!
//! The state graph is finite, so the states that a run visits infinitely often lie in one strongly connected component
//! of the pending part of the graph. It therefore suffices to examine the maximal components `C` of that part,
//! including single states with a stuttering step. `C` contains a fair run that stays in it if and only if, for each
//! class,
//!
//! * the class is disabled in some state of `C`, or
//! * some edge inside `C` belongs to the class.
//!
//! *If:* the run that visits every state and edge of `C` again and again is fair. *Only if:* the states that a fair run
//! visits infinitely often form a strongly connected `S ⊆ C`. Each class is disabled somewhere in `S` or has an edge
//! inside `S`, hence in `C`. Weak fairness alone needs no nested search, because both conditions only become easier to
//! satisfy as a component grows. This is the component-based emptiness test of a generalised Büchi automaton:
//! Lichtenstein and Pnueli, *Checking that finite state concurrent programs satisfy their linear specification* (POPL
//! 1985); Baier and Katoen, *Principles of Model Checking*, sections 3.5 and 6.5.3. Components are found by Tarjan's
//! algorithm with an explicit stack.
//!
//! # Why not stateright's `eventually`
//!
//! It considers only paths that end. In `live → heartbeat → live` no path ends, so a property that never becomes true
//! is reported as holding. The tests assert both answers on the same model.
//!
//! # Bounds
//!
//! Liveness is decided for the bounded model. A step that would leave `within_boundary`, or for which `next_state` is
//! `None`, does not exist and does not enable its class.

use std::ops::ControlFlow;

use crate::engine::proof::{Promise, Proof};
use crate::engine::search::{self, End, Observer, StateId, Tree};
use crate::engine::settings::{Settings, Stage};

/// The maximum number of promises of a model.
pub const MAX_PROMISES: usize = 32;
/// The maximum number of fairness classes of a model.
pub const MAX_CLASSES: u8 = 64;

/// Tarjan: not visited yet.
const UNSEEN: u32 = u32::MAX;
/// Tarjan: in a component that is already reported.
const CLOSED: u32 = u32::MAX - 1;

/// The class of an edge whose action is in no fairness class.
pub(crate) const UNFAIR: u8 = u8::MAX;

/// The part of the state graph that liveness needs, as compressed sparse rows.
#[derive(Debug)]
pub(crate) struct Links {
    /// For each state, a bit per pending promise.
    pending: Vec<u32>,
    /// For each state, a bit per enabled fairness class.
    enabled: Vec<u64>,
    /// The start of each state's edges, and the end of the last one's.
    rows: Vec<u32>,
    /// Edges between states that have a pending promise in common. Other edges are inside no component.
    targets: Vec<StateId>,
    /// The fairness class of each edge.
    classes: Vec<u8>,
}

/// Returns which promises are pending in a state, a bit for each.
pub(crate) fn pending<M: Proof>(model: &M, promises: &[Promise<M>], state: &M::State) -> u32 {
    let bits = promises.iter().enumerate().filter(|(_, promise)| (promise.pending)(model, state));
    bits.fold(0, |bits, (index, _)| bits | 1 << index)
}

/// Returns the fairness class of an action, or [`UNFAIR`].
///
/// # Panics
/// When it is not below [`MAX_CLASSES`].
pub(crate) fn class<M: Proof>(model: &M, action: &M::Action) -> u8 {
    let class = model.fairness(action);
    assert!(class.is_none_or(|class| class < MAX_CLASSES), "fairness class {class:?} is out of range");
    class.unwrap_or(UNFAIR)
}

/// Returns the bit of a class in a mask of enabled classes.
pub(crate) const fn bit(class: u8) -> u64 {
    if class == UNFAIR { 0 } else { 1 << class }
}

/// Returns the promises of a model.
///
/// # Panics
/// When there are more than [`MAX_PROMISES`].
pub(crate) fn promises<M: Proof>(model: &M) -> Vec<Promise<M>> {
    let promises = model.promises();
    assert!(promises.len() <= MAX_PROMISES, "`{}` makes too many promises", model.name());
    promises
}

impl Links {
    /// Starts a graph whose states, in the order of their numbers, have these promises pending.
    pub(crate) fn new(pending: Vec<u32>) -> Self {
        Self { pending, enabled: Vec::new(), rows: vec![0], targets: Vec::new(), classes: Vec::new() }
    }

    /// Adds an edge to the open row.
    pub(crate) fn push(&mut self, target: StateId, class: u8) {
        if self.pending[self.enabled.len()] & self.pending[target as usize] != 0 {
            self.targets.push(target);
            self.classes.push(class);
        }
    }

    /// Ends the row of a state, and opens the next.
    pub(crate) fn end_row(&mut self, enabled: u64) {
        let end = u32::try_from(self.targets.len()).expect("fewer than 2^32 edges fit in memory");
        self.rows.push(end);
        self.enabled.push(enabled);
    }

    /// Returns the edges of a state, each with its class.
    pub(crate) fn edges(&self, id: StateId) -> impl Iterator<Item = (StateId, u8)> + '_ {
        let row = self.row(id);
        self.targets[row.clone()].iter().copied().zip(self.classes[row].iter().copied())
    }

    pub(crate) fn enabled(&self, id: StateId) -> u64 {
        self.enabled[id as usize]
    }

    fn row(&self, id: StateId) -> std::ops::Range<usize> {
        self.rows[id as usize] as usize..self.rows[id as usize + 1] as usize
    }

    fn is_pending(&self, id: StateId, promise: usize) -> bool {
        self.pending[id as usize] & (1 << promise) != 0
    }

    /// Returns a component in which a fair run can stay pending forever, if there is one: the one nearest to the start.
    /// Its states are in the order of their distance.
    pub(crate) fn fair_component(&self, promise: usize) -> Option<Vec<StateId>> {
        let mut nearest: Option<(StateId, Vec<StateId>)> = None;
        self.components(promise, |component, order| {
            let first = component.iter().copied().min().expect("a component has a state");
            let closer = nearest.as_ref().is_none_or(|(best, _)| first < *best);
            if closer && self.holds_fair_run(component, order) {
                nearest = Some((first, component.to_vec()));
            }
        });
        let (_, mut component) = nearest?;
        component.sort_unstable();
        Some(component)
    }

    /// The condition of the theory. A state belongs to the component if it is open and was discovered no earlier than
    /// the component's root.
    fn holds_fair_run(&self, component: &[StateId], order: &[u32]) -> bool {
        let root = order[component[0] as usize];
        let mut always_enabled = u64::MAX;
        let mut carried = 0;
        for id in component {
            always_enabled &= self.enabled[*id as usize];
            for (target, class) in self.edges(*id) {
                let reached = order[target as usize];
                if class != UNFAIR && root <= reached && reached < CLOSED {
                    carried |= 1 << class;
                }
            }
        }
        always_enabled & !carried == 0
    }

    /// Runs Tarjan's algorithm on the states in which `promise` is pending. Passes each component to `found` once, root
    /// first, with the discovery order of every state.
    fn components(&self, promise: usize, mut found: impl FnMut(&[StateId], &[u32])) {
        let count = self.pending.len();
        // The discovery order of open states. `low` is the smallest order reachable from the state.
        let mut order = vec![UNSEEN; count];
        let mut low = vec![0_u32; count];
        let mut next = 0_u32;
        let mut open: Vec<StateId> = Vec::new();
        let mut calls: Vec<(StateId, usize)> = Vec::new();

        for root in 0..count as StateId {
            if order[root as usize] != UNSEEN || !self.is_pending(root, promise) {
                continue;
            }
            calls.push((root, self.row(root).start));
            order[root as usize] = next;
            low[root as usize] = next;
            next += 1;
            open.push(root);
            while let Some((id, edge)) = calls.last_mut() {
                let at = *id as usize;
                if *edge < self.row(*id).end {
                    let target = self.targets[*edge];
                    *edge += 1;
                    let to = target as usize;
                    if !self.is_pending(target, promise) {
                        continue;
                    }
                    match order[to] {
                        UNSEEN => {
                            order[to] = next;
                            low[to] = next;
                            next += 1;
                            open.push(target);
                            calls.push((target, self.row(target).start));
                        }
                        CLOSED => {}
                        seen => low[at] = low[at].min(seen),
                    }
                    continue;
                }
                calls.pop();
                if let Some((caller, _)) = calls.last() {
                    let caller = *caller as usize;
                    low[caller] = low[caller].min(low[at]);
                }
                if low[at] == order[at] {
                    let start =
                        open.iter().rposition(|member| *member as usize == at).expect("a component's root is open");
                    found(&open[start..], &order);
                    for member in open.drain(start..) {
                        order[member as usize] = CLOSED;
                    }
                }
            }
        }
    }
}

/// The links of a model whose states are numbered by their distance from the start.
pub(crate) struct Graph<M: Proof> {
    pub(crate) tree: Tree,
    pub(crate) promises: Vec<Promise<M>>,
    pub(crate) links: Links,
}

impl<M: Proof> Graph<M> {
    /// Searches `model` level by level, and keeps the graph.
    ///
    /// # Errors
    /// Returns how the search ended, if it did not exhaust the states.
    ///
    /// # Panics
    /// When the model makes more than [`MAX_PROMISES`] or uses a class that is
    /// not below [`MAX_CLASSES`].
    pub(crate) fn build(model: &M, settings: &Settings) -> Result<Self, End> {
        let mut builder = Builder { model, promises: promises(model), links: Links::new(Vec::new()), enabled: 0 };
        let (tree, end) = search::level_order(model, settings, Stage::Liveness, &mut builder);
        match end {
            End::Exhausted => Ok(Self { tree, promises: builder.promises, links: builder.links }),
            End::Found(_) | End::Stopped | End::Panicked { .. } => Err(end),
        }
    }
}

/// Fills the graph while the search runs.
struct Builder<'a, M: Proof> {
    model: &'a M,
    promises: Vec<Promise<M>>,
    links: Links,
    /// The classes enabled in the state that is being expanded.
    enabled: u64,
}

impl<M: Proof> Observer<M> for Builder<'_, M> {
    fn state(&mut self, _: StateId, state: &M::State) -> ControlFlow<()> {
        self.links.pending.push(pending(self.model, &self.promises, state));
        ControlFlow::Continue(())
    }

    fn step(&mut self, _: StateId, _: &M::State, action: &M::Action, after: Option<(StateId, &M::State)>) {
        let Some((target, _)) = after else { return };
        let class = class(self.model, action);
        self.enabled |= bit(class);
        self.links.push(target, class);
    }

    fn expanded(&mut self, _: StateId) {
        self.links.end_row(std::mem::take(&mut self.enabled));
    }
}
