//! What liveness must know, written down while stateright explores.
//!
//! A state is known by its fingerprint only, and is expanded by any thread. So its row is kept under the fingerprint, and
//! the rows are numbered and linked when the exploration has ended.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::{Mutex, PoisonError};

use crate::engine::fairness::{self, Links};
use crate::engine::proof::{Promise, Proof};
use crate::engine::search::{Identity, Node};

/// Keeps a row of each state in which a promise is pending: the others lie inside no component.
pub(super) struct Recorder<M: Proof> {
    promises: Vec<Promise<M>>,
    /// By the fingerprint, so that threads seldom wait for each other.
    shards: [Mutex<Rows>; 16],
}

/// Rows one after another.
#[derive(Default)]
struct Rows {
    heads: Vec<Head>,
    targets: Vec<u64>,
    classes: Vec<u8>,
}

struct Head {
    fingerprint: u64,
    /// A bit for each promise that is pending.
    pending: u32,
    /// How many steps there are.
    steps: u32,
    /// A bit for each fairness class that is enabled.
    enabled: u64,
}

/// A state that is being expanded.
pub(super) struct Row {
    fingerprint: u64,
    pending: u32,
    steps: Vec<(u64, u8)>,
}

impl Row {
    /// An action of that class leads to that state.
    pub(super) fn step(&mut self, class: u8, target: u64) {
        self.steps.push((target, class));
    }
}

impl<M: Proof> Recorder<M> {
    pub(super) fn new(model: &M) -> Self {
        Self { promises: fairness::promises(model), shards: Default::default() }
    }

    /// Begins the row of a state, if a promise is pending in it.
    pub(super) fn begin(&self, model: &M, fingerprint: u64, state: &M::State) -> Option<Row> {
        let pending = fairness::pending(model, &self.promises, state);
        (pending != 0).then(|| Row { fingerprint, pending, steps: Vec::new() })
    }

    /// Keeps a row, when all of its steps are known.
    pub(super) fn keep(&self, row: Row) {
        let Row { fingerprint, pending, steps } = row;
        let enabled = steps.iter().fold(0, |enabled, (_, class)| enabled | fairness::bit(*class));
        let shard = &self.shards[fingerprint as usize % self.shards.len()];
        let mut rows = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let count = u32::try_from(steps.len()).expect("fewer than 2^32 actions in a state");
        rows.heads.push(Head { fingerprint, pending, steps: count, enabled });
        rows.targets.extend(steps.iter().map(|(target, _)| target));
        rows.classes.extend(steps.iter().map(|(_, class)| class));
    }

    /// The rows, numbered in no particular order.
    pub(super) fn links(&self) -> Links {
        let shards: Vec<Rows> = self
            .shards
            .iter()
            .map(|shard| std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner)))
            .collect();
        let heads = || shards.iter().flat_map(|rows| &rows.heads);
        let nodes: HashMap<u64, Node, BuildHasherDefault<Identity>> =
            heads().map(|head| head.fingerprint).zip(0..).collect();
        let mut links = Links::new(heads().map(|head| head.pending).collect());
        for rows in &shards {
            let mut steps = rows.targets.iter().zip(&rows.classes);
            for head in &rows.heads {
                for (target, class) in steps.by_ref().take(head.steps as usize) {
                    if let Some(target) = nodes.get(target) {
                        links.push(*target, *class);
                    }
                }
                links.end_row(head.enabled);
            }
        }
        links
    }
}
