//! One [`Node`] that starts: its requirements become ready or do not, its deadline passes, and clients come.

use lockstep_model::node::{Input, Node, Output, Successor};
use lockstep_model::{Bounds, Mode};
use stateright::{Model, Property};

use super::{Row, alone};
use crate::engine::proof::{Drawing, Lifeline, Proof};
use crate::models::world::setup;

pub(super) fn rows() -> Vec<Row> {
    vec![alone!(
        "X109",
        "time-out taken for started",
        "start-up waits for what it needs only up to a deadline, and serves when that is over",
        ["NODE-1"],
        Starting { serves_late: true },
        Starting { serves_late: false }
    )]
}

/// The model.
#[derive(Clone, Debug)]
struct Starting {
    serves_late: bool,
}

/// A node's requirements: its log, its keys, its socket.
const NEEDS: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct StartingState {
    node: Node,
    ready: [bool; NEEDS],
    /// Whether the deadline of the start has passed.
    late: bool,
    clients: u8,
    /// Whether a client was admitted before everything was ready.
    early: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Something that the node needs is ready.
    Ready(usize),
    /// The deadline passes.
    Late,
    /// A client connects.
    Connect,
}

fn bounds() -> Bounds {
    setup::small()
}

impl StartingState {
    fn is_started(&self) -> bool {
        self.ready == [true; NEEDS]
    }

    fn feed(&mut self, input: Input) -> Vec<Output> {
        let mut outputs = Vec::new();
        let _ = self.node.step(&bounds(), input, &mut outputs);
        outputs
    }
}

impl Model for Starting {
    type State = StartingState;
    type Action = Step;

    fn init_states(&self) -> Vec<StartingState> {
        vec![StartingState { node: Node::new(), ready: [false; NEEDS], late: false, clients: 2, early: false }]
    }

    fn actions(&self, state: &StartingState, steps: &mut Vec<Step>) {
        steps.extend((0..NEEDS).filter(|need| !state.ready[*need] && !state.late).map(Step::Ready));
        if !state.late && !state.is_started() {
            steps.push(Step::Late);
        }
        if state.clients > 0 {
            steps.push(Step::Connect);
        }
    }

    fn next_state(&self, last: &StartingState, step: Step) -> Option<StartingState> {
        let mut state = last.clone();
        match step {
            Step::Ready(need) => {
                state.ready[need] = true;
                if state.is_started() {
                    state.feed(Input::Started);
                }
            }
            Step::Late => {
                state.late = true;
                // A node that cannot start ends, and whatever started the process may try again.
                let late =
                    if self.serves_late { Input::Started } else { Input::Drain { successor: Successor::Absent } };
                state.feed(late);
            }
            Step::Connect => {
                state.clients -= 1;
                let admitted = state.feed(Input::Accept).contains(&Output::Admit);
                state.early |= admitted && !state.is_started();
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("NODE-1", |_: &Self, state: &StartingState| !state.early),
            Property::sometimes("NODE-1.started", |_: &Self, state: &StartingState| {
                state.node.mode() == Mode::Ready && state.node.connections() > 0
            }),
            Property::sometimes("NODE-1.late", |_: &Self, state: &StartingState| state.late),
        ]
    }
}

impl Proof for Starting {
    fn name(&self) -> &'static str {
        "starting"
    }

    fn about(&self) -> &'static str {
        "a node that starts: what it needs, a deadline, clients"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![("needs", NEEDS.to_string()), ("clients", "2".into())]
    }

    fn depict(&self, before: &StartingState, step: &Step, after: &StartingState) -> Vec<Drawing> {
        let text = match step {
            Step::Ready(need) => format!("the {} is ready", ["log", "key set", "socket"][*need]),
            Step::Late => "the deadline of the start passes".to_owned(),
            Step::Connect if after.node.connections() > before.node.connections() => "a client is admitted".to_owned(),
            Step::Connect => "a client is refused".to_owned(),
        };
        vec![Drawing::note(Lifeline::Node, text)]
    }
}
