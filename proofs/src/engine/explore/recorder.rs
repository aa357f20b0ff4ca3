//! Records what liveness needs while stateright explores.
//!
//! Any thread may expand a state, so each state's row is kept under its fingerprint. The rows are numbered and linked
//! after the exploration.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::{Mutex, PoisonError};

use crate::engine::fairness::{self, Links};
use crate::engine::proof::{Promise, Proof};
use crate::engine::search::{Identity, StateId};

/// Keeps a row for each state in which a promise is pending. Other states are part of no component.
pub(super) struct Recorder<M: Proof> {
    promises: Vec<Promise<M>>,
    /// Sharded by fingerprint, so that threads rarely contend.
    shards: [Mutex<Rows>; 16],
}

/// Concatenated rows.
#[derive(Default)]
struct Rows {
    heads: Vec<Head>,
    targets: Vec<u64>,
    classes: Vec<u8>,
}

struct Head {
    fingerprint: u64,
    /// A bit per pending promise.
    pending: u32,
    /// The number of steps.
    steps: u32,
    /// A bit per enabled fairness class.
    enabled: u64,
}

/// The row of a state that is being expanded.
pub(super) struct Row {
    fingerprint: u64,
    pending: u32,
    steps: Vec<(u64, u8)>,
}

impl Row {
    /// Adds a step: an action of this class leads to this state.
    pub(super) fn step(&mut self, class: u8, target: u64) {
        self.steps.push((target, class));
    }
}

impl<M: Proof> Recorder<M> {
    pub(super) fn new(model: &M) -> Self {
        Self { promises: fairness::promises(model), shards: Default::default() }
    }

    /// Begins a state's row, if a promise is pending in the state.
    pub(super) fn begin(&self, model: &M, fingerprint: u64, state: &M::State) -> Option<Row> {
        let pending = fairness::pending(model, &self.promises, state);
        (pending != 0).then(|| Row { fingerprint, pending, steps: Vec::new() })
    }

    /// Keeps a row once all its steps are known.
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

    /// Links the rows, which are numbered in no particular order.
    pub(super) fn links(&self) -> Links {
        let shards: Vec<Rows> = self
            .shards
            .iter()
            .map(|shard| std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner)))
            .collect();
        let heads = || shards.iter().flat_map(|rows| &rows.heads);
        let ids: HashMap<u64, StateId, BuildHasherDefault<Identity>> =
            heads().map(|head| head.fingerprint).zip(0..).collect();
        let mut links = Links::new(heads().map(|head| head.pending).collect());
        for rows in &shards {
            let mut steps = rows.targets.iter().zip(&rows.classes);
            for head in &rows.heads {
                for (target, class) in steps.by_ref().take(head.steps as usize) {
                    if let Some(target) = ids.get(target) {
                        links.push(*target, *class);
                    }
                }
                links.end_row(head.enabled);
            }
        }
        links
    }
}
