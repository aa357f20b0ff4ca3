//! The node machine: admission and health of one process.

mod exact;

use lockstep_model::node::{Input, Output};
use lockstep_model::{Handled, Node};

use crate::support::SMALL;

fn step(node: &mut Node, input: Input) -> (Handled, Vec<Output>) {
    let mut out = Vec::new();
    let handled = node.step(&SMALL, input, &mut out);
    (handled, out)
}

/// The node after these inputs, none of which may be stale.
fn after(inputs: &[Input]) -> Node {
    let mut node = Node::new();
    for input in inputs {
        assert_eq!(step(&mut node, *input).0, Handled::Done, "{input:?} in {node:?}");
    }
    node
}
