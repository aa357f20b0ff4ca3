//! Two-phase commit, the reference model of `prove bench`.
//!
//! A model of the protocol that Gray and Lamport specify in *Consensus on Transaction Commit* (ACM TODS 2006, section 3
//! and the TLA+ module `TwoPhase`): resource managers prepare or abort on their own, a transaction manager collects
//! their messages and decides, and every message ever sent stays in a set from which it may be received again. It is
//! written in the ordinary way (a vector, a vector of booleans, an ordered set of messages), so that it represents a
//! model that was not optimised.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use crate::engine::proof::Proof;

/// The protocol with a number of resource managers.
#[derive(Clone, Debug)]
pub struct TwoPhase {
    /// Resource managers. The state space grows about sixfold with each.
    pub managers: u8,
}

/// The state of a resource manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of the specification")]
pub enum Manager {
    Working,
    Prepared,
    Committed,
    Aborted,
}

/// The decision of the transaction manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of the specification")]
pub enum Decision {
    Init,
    Committed,
    Aborted,
}

/// A message. Once sent it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// This resource manager is prepared.
    Prepared(u8),
    /// Every resource manager commits.
    Commit,
    /// Every resource manager aborts.
    Abort,
}

/// A state of [`TwoPhase`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    managers: Vec<Manager>,
    decision: Decision,
    prepared: Vec<bool>,
    messages: BTreeSet<Message>,
}

/// A step of [`TwoPhase`], under the name that the specification gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the specification")]
pub enum Action {
    TmRcvPrepared(u8),
    TmCommit,
    TmAbort,
    RmPrepare(u8),
    RmChooseToAbort(u8),
    RmRcvCommitMsg(u8),
    RmRcvAbortMsg(u8),
}

impl Model for TwoPhase {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let count = usize::from(self.managers);
        vec![State {
            managers: vec![Manager::Working; count],
            decision: Decision::Init,
            prepared: vec![false; count],
            messages: BTreeSet::new(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let undecided = state.decision == Decision::Init;
        if undecided {
            actions.push(Action::TmAbort);
            if state.prepared.iter().all(|prepared| *prepared) {
                actions.push(Action::TmCommit);
            }
        }
        for manager in 0..self.managers {
            if undecided && state.messages.contains(&Message::Prepared(manager)) {
                actions.push(Action::TmRcvPrepared(manager));
            }
            if state.managers[usize::from(manager)] == Manager::Working {
                actions.push(Action::RmPrepare(manager));
                actions.push(Action::RmChooseToAbort(manager));
            }
            if state.messages.contains(&Message::Commit) {
                actions.push(Action::RmRcvCommitMsg(manager));
            }
            if state.messages.contains(&Message::Abort) {
                actions.push(Action::RmRcvAbortMsg(manager));
            }
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::TmRcvPrepared(manager) => state.prepared[usize::from(manager)] = true,
            Action::TmCommit => {
                state.decision = Decision::Committed;
                state.messages.insert(Message::Commit);
            }
            Action::TmAbort => {
                state.decision = Decision::Aborted;
                state.messages.insert(Message::Abort);
            }
            Action::RmPrepare(manager) => {
                state.managers[usize::from(manager)] = Manager::Prepared;
                state.messages.insert(Message::Prepared(manager));
            }
            Action::RmChooseToAbort(manager) | Action::RmRcvAbortMsg(manager) => {
                state.managers[usize::from(manager)] = Manager::Aborted;
            }
            Action::RmRcvCommitMsg(manager) => {
                state.managers[usize::from(manager)] = Manager::Committed;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("TCConsistent", |_, state: &State| {
                !(state.managers.contains(&Manager::Aborted) && state.managers.contains(&Manager::Committed))
            }),
            Property::sometimes("TCConsistent.committed", |_, state: &State| {
                state.managers.iter().all(|manager| *manager == Manager::Committed)
            }),
            Property::sometimes("TCConsistent.aborted", |_, state: &State| {
                state.managers.iter().all(|manager| *manager == Manager::Aborted)
            }),
        ]
    }
}

impl Proof for TwoPhase {
    fn name(&self) -> &'static str {
        "two-phase"
    }

    fn about(&self) -> &'static str {
        "two-phase commit, the reference model of the benchmark"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![("resource managers", self.managers.to_string())]
    }
}
