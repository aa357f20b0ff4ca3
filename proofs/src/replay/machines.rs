//! The machines of a traced process, stepped through the model.

use std::collections::HashMap;
use std::fmt;

use lockstep_model::connection::State;
use lockstep_model::session::{Input, Output};
use lockstep_model::{
    Bounds, Connection, ConnectionId, Generation, Handled, Node, Session, UserId, connection, node, session,
};

use super::format::{Outcome, Record, Tag, digest, sketch};

/// One machine of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// The node.
    Node,
    /// A connection that is unattached.
    Connection(ConnectionId),
    /// A session.
    Session(UserId, Generation),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("the node"),
            Self::Connection(id) => write!(f, "connection {:016x}", id.0),
            Self::Session(user, generation) => write!(f, "session {}/{}", user.0, generation.0),
        }
    }
}

/// The difference between a step of the gateway and the same step of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The machine.
    pub who: Who,
    /// What differs.
    pub what: &'static str,
    /// The gateway's recorded value.
    pub expected: String,
    /// The model's value.
    pub found: String,
    /// The machine after the model's step.
    pub state: String,
}

/// What was replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps of the node.
    pub node: u64,
    /// Steps of unattached connections.
    pub connection: u64,
    /// Steps of sessions.
    pub session: u64,
    /// The steps whose whole state was compared.
    pub whole: u64,
    /// States in the trace that were compared or adopted.
    pub checkpoints: u64,
    /// Steps of machines whose beginning is not in the trace.
    pub unchecked: u64,
    /// Records that the gateway's trace writer dropped.
    pub dropped: u64,
}

impl Counts {
    /// Returns the number of all replayed steps.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.node + self.connection + self.session
    }
}

/// The machines.
pub(super) struct Machines {
    bounds: Bounds,
    /// Whether every machine is known: the trace is whole from the beginning of its process.
    exact: bool,
    node: Option<Node>,
    unattached: HashMap<ConnectionId, Connection<Tag>>,
    sessions: HashMap<(UserId, Generation), Session<Tag>>,
    session_outputs: session::Outputs<Tag>,
    connection_outputs: Vec<connection::Output<Tag>>,
    node_outputs: Vec<node::Output>,
    pub(super) counts: Counts,
}

impl Machines {
    pub(super) fn new(bounds: Bounds, from_the_beginning: bool) -> Self {
        Self {
            bounds,
            exact: from_the_beginning,
            node: from_the_beginning.then(Node::new),
            unattached: HashMap::new(),
            sessions: HashMap::new(),
            session_outputs: session::Outputs::new(),
            connection_outputs: Vec::new(),
            node_outputs: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Replays the step of a record.
    pub(super) fn take(&mut self, record: Record) -> Result<(), Box<Difference>> {
        match record {
            Record::Header(_) | Record::End { .. } => Ok(()),
            Record::Node { input, outcome, .. } => self.node(input, outcome),
            Record::NodeState { node, .. } => {
                self.counts.checkpoints += 1;
                match &self.node {
                    Some(known) if *known != node => Err(differ(Who::Node, "checkpoint", &node, known)),
                    Some(_) | None => {
                        self.node = Some(node);
                        Ok(())
                    }
                }
            }
            Record::Accepted { connection, outcome, .. } => self.accepted(connection, outcome),
            Record::Connection { connection, input, outcome, .. } => self.connection(connection, input, outcome),
            Record::Pulled { connection, frames, outcome, .. } => self.pulled(connection, frames, outcome),
            Record::Opened { user, generation, mode, outcome, .. } => {
                self.session_outputs.list.clear();
                let session = Session::open(&self.bounds, user, mode, &mut self.session_outputs);
                self.sessions.insert((user, generation), session);
                self.compare_session(user, generation, None, outcome)
            }
            Record::Session { user, generation, input, outcome, .. } => self.session(user, generation, input, outcome),
            Record::SessionState { user, generation, session, .. } => {
                self.counts.checkpoints += 1;
                match self.sessions.get(&(user, generation)) {
                    Some(known) if *known != *session => {
                        Err(differ(Who::Session(user, generation), "checkpoint", &session, known))
                    }
                    Some(_) => Ok(()),
                    None => {
                        self.sessions.insert((user, generation), *session);
                        Ok(())
                    }
                }
            }
            Record::Hole { records } => {
                self.counts.dropped += records;
                self.exact = false;
                self.node = None;
                self.unattached.clear();
                self.sessions.clear();
                Ok(())
            }
            Record::Fault { user, generation, .. } => {
                let state = self.sessions.remove(&(user, generation)).map(|session| format!("{session:?}"));
                Err(Box::new(Difference {
                    who: Who::Session(user, generation),
                    what: "fault",
                    expected: "the session was abandoned: it panicked or broke an invariant".into(),
                    found: "the model goes on".into(),
                    state: state.unwrap_or_default(),
                }))
            }
        }
    }

    /// Counts or reports a step of a machine that is not known.
    fn unknown(&mut self, who: Who) -> Result<(), Box<Difference>> {
        if self.exact {
            return Err(Box::new(Difference {
                who,
                what: "existence",
                expected: "a step of this machine".into(),
                found: "it is over, or never began".into(),
                state: String::new(),
            }));
        }
        self.counts.unchecked += 1;
        Ok(())
    }

    fn node(&mut self, input: node::Input, outcome: Outcome) -> Result<(), Box<Difference>> {
        let Some(node) = &mut self.node else { return self.unknown(Who::Node) };
        self.counts.node += 1;
        self.counts.whole += 1;
        self.node_outputs.clear();
        let handled = node.step(&self.bounds, input, &mut self.node_outputs);
        let outputs = self.node_outputs.as_slice();
        compare(Who::Node, outcome, digest(&(handled, outputs)), digest(node), &(handled, outputs), node)
    }

    fn accepted(&mut self, id: ConnectionId, outcome: Outcome) -> Result<(), Box<Difference>> {
        self.connection_outputs.clear();
        let connection = Connection::accept(&self.bounds, id, &mut self.connection_outputs);
        self.unattached.insert(id, connection);
        self.compare_connection(id, None, outcome)
    }

    fn connection(
        &mut self,
        id: ConnectionId,
        input: connection::Input<Tag>,
        outcome: Outcome,
    ) -> Result<(), Box<Difference>> {
        let Some(connection) = self.unattached.get_mut(&id) else { return self.unknown(Who::Connection(id)) };
        self.connection_outputs.clear();
        let handled = connection.step(&self.bounds, input, &mut self.connection_outputs);
        self.compare_connection(id, Some(handled), outcome)
    }

    /// Compares a connection's step that was just taken.
    fn compare_connection(
        &mut self,
        id: ConnectionId,
        handled: Option<Handled>,
        outcome: Outcome,
    ) -> Result<(), Box<Difference>> {
        self.counts.connection += 1;
        self.counts.whole += 1;
        let connection = &self.unattached[&id];
        let outputs = self.connection_outputs.as_slice();
        let result = (handled, outputs);
        compare(Who::Connection(id), outcome, digest(&result), digest(connection), &result, connection)?;
        if matches!(connection.state(), State::Closed { .. }) {
            self.unattached.remove(&id);
        }
        Ok(())
    }

    fn pulled(&mut self, id: ConnectionId, frames: u32, outcome: Outcome) -> Result<(), Box<Difference>> {
        let Some(connection) = self.unattached.get_mut(&id) else { return self.unknown(Who::Connection(id)) };
        self.counts.connection += 1;
        self.counts.whole += 1;
        let frames: Vec<_> = (0..frames).map_while(|_| connection.pull()).collect();
        let outputs = digest(frames.as_slice());
        compare(Who::Connection(id), outcome, outputs, digest(connection), &frames, connection)
    }

    fn session(
        &mut self,
        user: UserId,
        generation: Generation,
        input: Input<Tag>,
        outcome: Outcome,
    ) -> Result<(), Box<Difference>> {
        let who = Who::Session(user, generation);
        let Some(session) = self.sessions.get_mut(&(user, generation)) else {
            if let Input::Join { connection, .. } = &input {
                self.unattached.remove(&connection.id());
            }
            return self.unknown(who);
        };
        if let Input::Join { connection, .. } = &input {
            match self.unattached.remove(&connection.id()) {
                Some(known) if known != **connection => {
                    return Err(differ(who, "the connection that joins", connection, &known));
                }
                None if self.exact => return self.unknown(Who::Connection(connection.id())),
                Some(_) | None => {}
            }
        }
        self.session_outputs.list.clear();
        let answer = session.step(&self.bounds, input, &mut self.session_outputs);
        self.compare_session(user, generation, Some(answer), outcome)
    }

    /// Compares a session's step that was just taken, and follows the connections that it moves.
    fn compare_session(
        &mut self,
        user: UserId,
        generation: Generation,
        answer: Option<Result<Handled, lockstep_model::Refusal>>,
        outcome: Outcome,
    ) -> Result<(), Box<Difference>> {
        self.counts.session += 1;
        let session = &self.sessions[&(user, generation)];
        let outputs = self.session_outputs.list.as_slice();
        let state = if outcome.whole {
            self.counts.whole += 1;
            digest(session)
        } else {
            sketch(session)
        };
        let result = (answer, outputs);
        compare(Who::Session(user, generation), outcome, digest(&result), state, &result, session)?;
        for output in self.session_outputs.list.drain(..) {
            match output {
                Output::Release { connection } => {
                    self.unattached.insert(connection.id(), *connection);
                }
                Output::Retire => {
                    self.sessions.remove(&(user, generation));
                }
                Output::Restore { .. }
                | Output::Confirm { .. }
                | Output::Relay { .. }
                | Output::Elsewhere { .. }
                | Output::Verify { .. }
                | Output::Send { .. }
                | Output::Wake { .. }
                | Output::Write { .. }
                | Output::Trim { .. }
                | Output::Read { .. }
                | Output::Launch { .. }
                | Output::Durable { .. }
                | Output::Halt { .. }
                | Output::Lookup { .. }
                | Output::Lose
                | Output::Relinquish { .. }
                | Output::Busy
                | Output::Quiet
                | Output::Room
                | Output::Arm(..)
                | Output::Disarm(..) => {}
            }
        }
        Ok(())
    }
}

fn compare(
    who: Who,
    expected: Outcome,
    outputs: u64,
    state: u64,
    result: &dyn fmt::Debug,
    machine: &dyn fmt::Debug,
) -> Result<(), Box<Difference>> {
    let (what, expected, found) = if expected.outputs != outputs {
        ("answer and outputs", expected.outputs, format!("{outputs:016x}: {result:?}"))
    } else if expected.state != state {
        (if expected.whole { "state" } else { "outline of the state" }, expected.state, format!("{state:016x}"))
    } else {
        return Ok(());
    };
    Err(Box::new(Difference { who, what, expected: format!("{expected:016x}"), found, state: format!("{machine:?}") }))
}

fn differ(who: Who, what: &'static str, expected: &dyn fmt::Debug, found: &dyn fmt::Debug) -> Box<Difference> {
    let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
    Box::new(Difference { who, what, expected, state: found.clone(), found })
}
