//! A run that breaks a promise: a prefix, and a cycle that repeats forever.
//!
//! The prefix is the shortest path to the component. The cycle is a closed walk inside it that passes, for each
//! fairness class, an edge of the class or a state that disables it. The cycle is short but not always the shortest:
//! the walk always goes to the nearest missing witness.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::engine::fairness::{Graph, UNFAIR};
use crate::engine::proof::Proof;
use crate::engine::search::{Path, StateId};

/// A broken promise.
pub(crate) struct Lasso<M: Proof> {
    /// From an initial state, the prefix and then once around the cycle.
    pub(crate) path: Path<M>,
    /// The length of the prefix. If no steps follow it, the run stops there.
    pub(crate) prefix: usize,
}

/// Finds a weakly fair run that breaks promise number `promise`, if there is one.
pub(crate) fn find<M: Proof>(model: &M, graph: &Graph<M>, promise: usize) -> Option<Lasso<M>> {
    let component = graph.links.fair_component(promise)?;
    let walk = cycle(graph, &component);
    let (start, mut steps) = graph.tree.path(model, component[0]);
    let prefix = steps.len();
    let mut at = steps.last().map_or_else(|| start.clone(), |(_, state)| state.clone());
    for (target, class) in walk {
        let (action, after) = step(model, graph, &at, target, class);
        at = after.clone();
        steps.push((action, after));
    }
    Some(Lasso { path: (start, steps), prefix })
}

/// Returns the action of this class that leads from a state to `target`.
fn step<M: Proof>(model: &M, graph: &Graph<M>, before: &M::State, target: StateId, class: u8) -> (M::Action, M::State) {
    let mut actions = Vec::new();
    model.actions(before, &mut actions);
    actions
        .into_iter()
        .filter(|action| model.fairness(action).unwrap_or(UNFAIR) == class)
        .find_map(|action| {
            let after = model.next_state(before, action.clone())?;
            (graph.tree.id(&after) == Some(target)).then_some((action, after))
        })
        .expect("an edge of the graph is a step of the model")
}

/// Returns a fair closed walk from the first state of `component`. It is empty if stuttering in that state is fair.
fn cycle<M: Proof>(graph: &Graph<M>, component: &[StateId]) -> Vec<(StateId, u8)> {
    let home = component[0];
    let members: HashSet<StateId> = component.iter().copied().collect();
    if component.len() == 1 && graph.links.edges(home).all(|(target, _)| target != home) {
        return Vec::new();
    }
    // A class is settled if some state of the walk disables it. Any other class needs an edge of its own.
    let mut missing: u64 = u64::MAX;
    let mut walk: Vec<(StateId, u8)> = Vec::new();
    let mut at = home;
    missing &= graph.links.enabled(home);
    while missing != 0 {
        let leg = nearest(graph, &members, at, |id, edge| {
            let carries = edge.is_some_and(|class| class != UNFAIR && missing & (1 << class) != 0);
            carries || missing & !graph.links.enabled(id) != 0
        })
        .expect("the component disables or carries each class");
        for (id, class) in leg {
            missing &= graph.links.enabled(id);
            if class != UNFAIR {
                missing &= !(1 << class);
            }
            at = id;
            walk.push((id, class));
        }
    }
    if at != home || walk.is_empty() {
        let leg = nearest(graph, &members, at, |id, _| id == home).expect("a component is strongly connected");
        walk.extend(leg);
    }
    walk
}

/// Returns the shortest walk of at least one edge inside `members` whose last edge and state are wanted.
fn nearest<M: Proof>(
    graph: &Graph<M>,
    members: &HashSet<StateId>,
    from: StateId,
    wanted: impl Fn(StateId, Option<u8>) -> bool,
) -> Option<Vec<(StateId, u8)>> {
    let mut reached: HashMap<StateId, (StateId, u8)> = HashMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(id) = queue.pop_front() {
        for (target, class) in graph.links.edges(id) {
            if !members.contains(&target) {
                continue;
            }
            if wanted(target, Some(class)) {
                let mut walk = vec![(target, class)];
                let mut back = id;
                while back != from {
                    let (parent, class) = reached[&back];
                    walk.push((back, class));
                    back = parent;
                }
                walk.reverse();
                return Some(walk);
            }
            if target != from && !reached.contains_key(&target) {
                reached.insert(target, (id, class));
                queue.push_back(target);
            }
        }
    }
    None
}
