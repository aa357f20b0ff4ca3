//! Two connections of one user who may have one: each checks whether there is room, then joins.

use lockstep_model::{Bounds, Mode, Session, session};
use stateright::{Model, Property};

use super::parts::{restored, verified};
use crate::engine::proof::{Drawing, Lifeline, Proof};
use crate::models::world::setup;
use crate::races::{Row, alone};

pub(super) fn rows() -> Vec<Row> {
    vec![alone!(
        "A8",
        "checked, awaited, taken",
        "whether there is room is checked in one step, and the place is taken in another",
        ["LIM-1", "SH-1"],
        Admission { split: true },
        Admission { split: false }
    )]
}

/// The model.
#[derive(Clone, Debug)]
struct Admission {
    split: bool,
}

/// How far a joining connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Newcomer {
    Waiting,
    /// There was room when it checked.
    Passed,
    Answered,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct AdmissionState {
    session: Session<u8>,
    newcomers: [Newcomer; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Checks whether there is room.
    Look(usize),
    /// Joins.
    Join(usize),
}

fn bounds() -> Bounds {
    Bounds { connections: 1, ..setup::small() }
}

impl Model for Admission {
    type State = AdmissionState;
    type Action = Step;

    fn init_states(&self) -> Vec<AdmissionState> {
        vec![AdmissionState { session: restored(&bounds()), newcomers: [Newcomer::Waiting; 2] }]
    }

    fn actions(&self, state: &AdmissionState, steps: &mut Vec<Step>) {
        for (index, newcomer) in state.newcomers.iter().enumerate() {
            match newcomer {
                Newcomer::Waiting if self.split => steps.push(Step::Look(index)),
                Newcomer::Waiting | Newcomer::Passed => steps.push(Step::Join(index)),
                Newcomer::Answered => {}
            }
        }
    }

    fn next_state(&self, last: &AdmissionState, step: Step) -> Option<AdmissionState> {
        let mut state = last.clone();
        match step {
            Step::Look(index) => {
                let room = state.session.members().len() < bounds().connections;
                state.newcomers[index] = if room { Newcomer::Passed } else { Newcomer::Answered };
            }
            Step::Join(index) => {
                // A connection that has checked does not check again.
                let connections = if self.split { usize::MAX } else { bounds().connections };
                let bounds = Bounds { connections, ..bounds() };
                let connection = verified(&bounds, index as u64 + 1);
                let join = session::Input::Join { connection, mode: Mode::Ready };
                let _ = state.session.step(&bounds, join, &mut session::Outputs::new());
                state.newcomers[index] = Newcomer::Answered;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("LIM-1", |_: &Self, state: &AdmissionState| state.session.check(&bounds()).is_ok()),
            Property::sometimes("LIM-1.full", |_: &Self, state: &AdmissionState| {
                state.session.members().len() == bounds().connections
            }),
        ]
    }
}

impl Proof for Admission {
    fn name(&self) -> &'static str {
        "admission"
    }

    fn about(&self) -> &'static str {
        "two connections and room for one"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![("connections", "1".into())]
    }

    fn depict(&self, _: &AdmissionState, step: &Step, after: &AdmissionState) -> Vec<Drawing> {
        let (index, text) = match step {
            Step::Look(index) if after.newcomers[*index] == Newcomer::Passed => (index, "finds room"),
            Step::Look(index) => (index, "finds no room"),
            Step::Join(index) => (index, "joins"),
        };
        vec![Drawing::note(Lifeline::Session, format!("connection {} {text}", index + 1))]
    }
}
