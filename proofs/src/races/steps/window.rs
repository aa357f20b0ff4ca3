//! One session whose log trims, and a client that repeats any of its messages at any moment, even one that can no
//! longer be read. Its connection resumes where the last one ended, and the message need not be marked as a repetition.
//! The process may restart in between.
//!
//! The number of ids that a session remembers is bounded by [`MAX_PAST`](lockstep_model::session::MAX_PAST), far beyond
//! this model.

use std::collections::VecDeque;

use lockstep_model::frame::ReadFrom;
use lockstep_model::run::{self, Kind};
use lockstep_model::session::{Input, Output, Outputs};
use lockstep_model::stream::Snapshot;
use lockstep_model::{
    AcquisitionId, Bounds, Cause, Code, Connection, ConnectionId, Control, Entry, Epoch, FencingToken, Frame,
    MessageId, Mode, Offset, Position, Request, Resume, RunId, Session, Stream, Tenure, ThreadId, UserId, connection,
};
use stateright::{Model, Property};

use super::parts::restored;
use crate::engine::proof::Proof;
use crate::models::world::setup;
use crate::races::hooks::welcome;
use crate::races::{Row, alone};

pub(super) fn rows() -> Vec<Row> {
    vec![
        alone!(
            "X61",
            "forgotten with its events",
            "a message id is remembered while its run can be read, and counts as new after that",
            ["RUN-2"],
            Window { mistake: Some(Mistake::KnownWhileReadable) },
            Window { mistake: None }
        ),
        alone!(
            "X82",
            "forgotten at a restart",
            "the ids of messages that can no longer be read are kept in memory only: after a restart they count as new",
            ["RUN-2"],
            Window { mistake: Some(Mistake::ForgottenAtRestart) },
            Window { mistake: None }
        ),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    KnownWhileReadable,
    ForgottenAtRestart,
}

/// The model.
#[derive(Clone, Debug)]
struct Window {
    mistake: Option<Mistake>,
}

/// Messages that the user sends.
const MESSAGES: u64 = 3;
/// Connections, one after the other.
const CONNECTIONS: u64 = 3;
/// Restarts of the process.
const RESTARTS: u32 = 1;
/// Marks an id that is mistaken for another.
const OTHER: u64 = 8;

/// The window holds one run.
fn bounds() -> Bounds {
    Bounds { retained: 3, requests: 0, ..setup::small() }
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A connection resumes after this offset.
    Resume(u64),
    /// The connection is lost.
    Cut,
    /// The next message is sent.
    Send,
    /// A message is repeated, marked as a repetition or as if it were new.
    Again(u64, Saying),
    /// The oldest run is answered.
    Answer,
    /// The process dies, and a new one starts.
    Restart,
}

/// How a client marks a message that it resends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Saying {
    Repeated,
    New,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct WindowState {
    session: Session<u8>,
    /// The entries that the log has not trimmed, in order.
    log: VecDeque<Entry<u8>>,
    /// The messages that it has trimmed, oldest first.
    trimmed: Vec<MessageId>,
    restarts: u32,
    /// The current connection, and whether everything after the position that it named could be read.
    here: Option<(ConnectionId, bool)>,
    connections: u64,
    sent: u64,
    runs: u64,
    /// The open runs, oldest first, each with its message.
    open: Vec<(RunId, u64)>,
    /// How often an agent was launched for each message.
    launched: [u8; MESSAGES as usize],
    /// Whether a message was refused as forgotten on a connection that had resumed.
    forgotten: bool,
}

impl WindowState {
    fn feed(&mut self, input: Input<u8>) {
        let (bounds, mut outputs) = (bounds(), Outputs::new());
        let _ = self.session.step(&bounds, input, &mut outputs);
        let mut head = self.session.stream().map_or(0, |stream| stream.head().0);
        let mut answers = Vec::new();
        for output in outputs.list {
            match output {
                Output::Write { batch, event, .. } => {
                    let previous = Offset(head);
                    head += 1;
                    self.log.push_back(Entry { offset: Offset(head), previous, event });
                    answers.push(Input::Persisted { batch, offset: Offset(head), record: None });
                }
                Output::Trim { through, .. } => self.trim(through),
                Output::Wake { connection } => answers.push(Input::Pull { connection, budget: 16 }),
                Output::Launch { run, .. } => {
                    let (_, message) = self.open.iter().find(|(open, _)| *open == run).copied().unwrap_or((run, 0));
                    let index = usize::try_from(message - 1).unwrap_or_default();
                    self.launched[index] += 1;
                }
                Output::Send { frame: Frame::Control(Control::Ready { resumed, .. }), .. } => {
                    self.here = self.here.map(|(connection, _)| (connection, resumed));
                }
                Output::Send { frame: Frame::Control(Control::Refused { code: Code::Forgotten, .. }), .. } => {
                    self.forgotten |= self.here.is_some_and(|(_, resumed)| resumed);
                }
                _ => {}
            }
        }
        for answer in answers {
            self.feed(answer);
        }
    }

    fn trim(&mut self, through: Offset) {
        while let Some(entry) = self.log.pop_front_if(|entry| entry.offset <= through) {
            if let Kind::Received(received) = entry.event.kind {
                self.trimmed.push(received.message);
            }
        }
    }

    fn restart(&mut self, past: Vec<MessageId>) {
        let (bounds, head) = (bounds(), self.session.stream().map_or(Offset(0), Stream::head));
        self.restarts += 1;
        (self.here, self.open) = (None, Vec::new());
        self.session = Session::open(&bounds, UserId(0), Mode::Ready, &mut Outputs::new());
        let snapshot = Snapshot {
            trimmed: self.log.front().map_or(head, |entry| entry.previous),
            past,
            entries: self.log.iter().cloned().collect(),
            ..Snapshot::empty(Tenure { epoch: Epoch(1), token: FencingToken(1 + self.restarts) })
        };
        self.feed(Input::Restored { attempt: AcquisitionId(1), snapshot });
    }

    /// The client writes a message. Its run, if any, is new.
    fn write(&mut self, message: u64, id: MessageId, saying: Saying) {
        let Some((connection, _)) = self.here else { return };
        self.runs += 1;
        let run = RunId(self.runs);
        self.open.push((run, message));
        let request = Request::Message {
            message: id,
            thread: ThreadId(id.0),
            run,
            payload: 0,
            repeat: saying == Saying::Repeated,
            replaces: None,
        };
        self.feed(Input::Connection { connection, input: connection::Input::Received(request) });
        // The run was not begun.
        if !self.session.runs().contains_key(&run) {
            self.open.retain(|(open, _)| *open != run);
            self.runs -= 1;
        }
    }

    fn resume(&mut self, offset: u64) {
        self.connections += 1;
        let (bounds, id) = (bounds(), ConnectionId(self.connections));
        let epoch = self.session.stream().map_or(Epoch(1), Stream::epoch);
        let from = ReadFrom::After(Position { epoch, offset: Offset(offset) });
        let mut connection = Connection::accept(&bounds, id, &mut Vec::new());
        let auth = Request::Auth { token: 0, resume: Resume { from, replaces: None } };
        for input in [connection::Input::Opened, connection::Input::Received(auth)] {
            let _ = connection.step(&bounds, input, &mut Vec::new());
        }
        let verdict = welcome(UserId(0));
        let attempt = connection.auth().newest();
        let _ = connection.step(&bounds, connection::Input::Verdict { attempt, verdict }, &mut Vec::new());
        self.here = Some((id, false));
        self.feed(Input::Join { connection: Box::new(connection), mode: Mode::Ready });
        self.feed(Input::Pull { connection: id, budget: 16 });
    }
}

impl Model for Window {
    type State = WindowState;
    type Action = Step;

    fn init_states(&self) -> Vec<WindowState> {
        vec![WindowState {
            session: restored(&bounds()),
            log: VecDeque::new(),
            trimmed: Vec::new(),
            restarts: 0,
            here: None,
            connections: 0,
            sent: 0,
            runs: 0,
            open: Vec::new(),
            launched: [0; MESSAGES as usize],
            forgotten: false,
        }]
    }

    fn actions(&self, state: &WindowState, steps: &mut Vec<Step>) {
        let head = state.session.stream().map_or(0, |stream| stream.head().0);
        if state.here.is_some() {
            steps.push(Step::Cut);
            steps.extend((state.sent < MESSAGES).then_some(Step::Send));
            let again = |message| [Saying::Repeated, Saying::New].map(|saying| Step::Again(message, saying));
            steps.extend((1..=state.sent).flat_map(again));
        } else if state.connections < CONNECTIONS {
            steps.extend((0..=head).map(Step::Resume));
        }
        steps.extend((!state.open.is_empty()).then_some(Step::Answer));
        steps.extend((state.restarts < RESTARTS).then_some(Step::Restart));
    }

    fn next_state(&self, last: &WindowState, step: Step) -> Option<WindowState> {
        let mut state = last.clone();
        match step {
            Step::Resume(offset) => state.resume(offset),
            Step::Cut => {
                if let Some((connection, _)) = state.here.take() {
                    let input = connection::Input::Gone(Cause::Lost);
                    state.feed(Input::Connection { connection, input });
                }
            }
            Step::Send => {
                state.sent += 1;
                let message = state.sent;
                state.write(message, MessageId(message), Saying::New);
            }
            Step::Again(message, saying) => {
                let known = state.session.known().contains_key(&MessageId(message));
                let (id, saying) = match self.mistake {
                    Some(Mistake::KnownWhileReadable) if !known => (MessageId(message + OTHER), Saying::New),
                    Some(Mistake::KnownWhileReadable | Mistake::ForgottenAtRestart) | None => {
                        (MessageId(message), saying)
                    }
                };
                state.write(message, id, saying);
            }
            Step::Restart => match self.mistake {
                Some(Mistake::ForgottenAtRestart) => state.restart(Vec::new()),
                Some(Mistake::KnownWhileReadable) | None => state.restart(state.trimmed.clone()),
            },
            Step::Answer => {
                let (run, _) = state.open.remove(0);
                for input in [run::Input::Start, run::Input::Complete] {
                    state.feed(Input::Run { run, input, payload: Some(0) });
                }
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("RUN-2", |_: &Self, state: &WindowState| state.launched.iter().all(|times| *times <= 1)),
            Property::always("STR-1", |_: &Self, state: &WindowState| state.session.check(&bounds()).is_ok()),
            Property::sometimes("RUN-2.forgotten", |_: &Self, state: &WindowState| state.forgotten),
        ]
    }
}

impl Proof for Window {
    fn name(&self) -> &'static str {
        "window"
    }

    fn about(&self) -> &'static str {
        "messages that are repeated when their runs can no longer be read"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![
            ("messages", MESSAGES.to_string()),
            ("connections", CONNECTIONS.to_string()),
            ("restarts", RESTARTS.to_string()),
            ("retained", bounds().retained.to_string()),
        ]
    }
}
