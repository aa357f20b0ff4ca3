//! The smallest machine that a slot can hold: members join and leave, and an empty group may end.

use std::collections::BTreeSet;

use lockstep_model::Violation;

use super::Counter;
use super::core::{Dispatch, Fault, Machine};
use super::sync::Arc;

/// A group of members.
#[derive(Debug, Default)]
pub struct Group {
    members: BTreeSet<usize>,
    over: bool,
    corrupt: bool,
}

/// An input of a group.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    /// A client joins.
    Join(usize),
    /// A client leaves.
    Leave(usize),
    /// The linger timer fires.
    Linger,
    /// A bug in our code: from now on, the group violates an invariant.
    Corrupt,
}

/// An output of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The group has opened.
    Opened,
    /// The group has ended.
    Ended,
}

impl Group {
    /// Opens a group.
    pub fn open(outputs: &mut Vec<Output>) -> Self {
        outputs.push(Output::Opened);
        Self::default()
    }

    /// Returns the members.
    #[must_use]
    pub fn members(&self) -> Vec<usize> {
        self.members.iter().copied().collect()
    }
}

impl Machine for Group {
    type Bounds = ();
    type Input = Input;
    type Output = Output;
    type Outputs = Vec<Output>;
    /// Whether the client was added or removed; for other inputs, whether the group had not ended.
    type Answer = bool;

    fn step(&mut self, (): &(), input: Input, out: &mut Vec<Output>) -> bool {
        if self.over {
            return false;
        }
        match input {
            Input::Join(client) => self.members.insert(client),
            Input::Leave(client) => self.members.remove(&client),
            Input::Linger => {
                if self.members.is_empty() {
                    self.over = true;
                    out.push(Output::Ended);
                }
                true
            }
            Input::Corrupt => {
                self.corrupt = true;
                true
            }
        }
    }

    fn outputs(out: &mut Vec<Output>) -> &mut Vec<Output> {
        out
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn check(&self, (): &()) -> Result<(), Violation> {
        if self.corrupt || (self.over && !self.members.is_empty()) { Err(Violation("SES-1")) } else { Ok(()) }
    }
}

/// Counts the live groups of one user, of which there may be one.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<Counter>);

impl Gauge {
    /// The number of live groups.
    #[must_use]
    pub fn live(&self) -> usize {
        self.0.now()
    }

    /// Counts a group's output.
    pub fn count(&self, output: Output) {
        match output {
            Output::Opened => assert_eq!(self.0.up(), 0, "SH-1: two live slots for one user"),
            Output::Ended => assert_eq!(self.0.down(), 1, "SH-1: ended twice"),
        }
    }
}

impl Dispatch<Group> for Gauge {
    fn dispatch(&mut self, (): &(), output: Output) {
        self.count(output);
    }

    fn abandon(&mut self, (): &(), fault: Fault) {
        match fault {
            Fault::Broken(_) => self.count(Output::Ended),
            // A scenario's assertion failed, and its panic is propagating.
            Fault::Panicked => {}
        }
    }
}
