//! One reader that names its position in its first request ([`lockstep_model::session`], `position`), and the stream that
//! it reads.
//!
//! The client connects without a position. At any moment it names the last entry that it has, or one of an earlier
//! epoch, or sends another request; or its time is over. A connection may be lost at any moment, with the frames in
//! flight. Meanwhile the service appends more notices than the stream retains. The log either keeps trimmed entries and
//! returns them in pages of any size, or does not keep them.
//!
//! The environment is restricted: the log confirms a write and an owner at once, and no other connection reads the
//! stream. The worlds cover both cases. A frame that arrives is handled at once.
//!
//! The oracle knows how many entries there are, which one the client has, and which one must come next on its
//! connection.

mod step;

use lockstep_model::connection::{self, Connection};
use lockstep_model::frame::ReadFrom;
use lockstep_model::run::Kind;
use lockstep_model::session::{Input, Outputs, Session};
use lockstep_model::stream::{Entry, Event, Snapshot};
use lockstep_model::{
    AcquisitionId, Bounds, ConnectionId, Epoch, FencingToken, LookupId, Mode, Offset, Request, Resume, RunId, Tenure,
    UserId, VerificationId,
};
use stateright::{Model, Property};

use crate::engine::profile::Profile;
use crate::engine::proof::{Promise, Proof};
use crate::models::auth::good;
use crate::models::harness::{checked, small};

/// A mistake: the inputs that the session gets in place of one input.
pub type Mistake = fn(&State, Input<u8>) -> Vec<Input<u8>>;

/// The model.
#[derive(Clone, Debug)]
pub struct Reading {
    bounds: Bounds,
    events: u64,
    connections: u64,
    requests: u8,
    /// A broken variant's mistake.
    pub mistake: Option<Mistake>,
}

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Reading {
    let (events, connections, requests) = match profile {
        Profile::Quick => (4, 2, 2),
        Profile::Ci => (6, 3, 2),
        Profile::Deep => (8, 3, 3),
    };
    let bounds = Bounds { retained: 2, outbox: 4, requests: 0, ..small() };
    Reading { bounds, events, connections, requests, mistake: None }
}

/// An action of the adversary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The service appends a notice.
    Append,
    /// The client connects.
    Connect,
    /// The client names its position, or, if `false`, the same offset of an earlier epoch.
    Seek(bool),
    /// The client sends another request.
    Request,
    /// The connection's time to name a position is over.
    Expire,
    /// The connection's writer pulls a frame, which arrives, or, if `false`, is lost with the connection.
    Pull(bool),
    /// The log returns a page: one entry, or, if `false`, all of them.
    Found(bool),
    /// The log fails to.
    NotFound,
    /// The gateway learns that the connection is lost.
    Leave,
}

/// A session, its reader, and what must come next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    session: Session<u8>,
    keeps: bool,
    /// The number of entries, which is also the offset of the newest.
    events: u64,
    /// The furthest entry that was sent, or reported as missing.
    sent: u64,
    /// The last entry that the client has.
    have: u64,
    connections: u64,
    reader: Option<Reader>,
    /// What the client has done so far.
    past: Past,
    broken: Option<&'static str>,
}

/// The present connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reader {
    id: ConnectionId,
    /// Whether its writer was told that there is something to pull.
    awake: bool,
    /// Whether the timer is armed.
    armed: bool,
    /// Whether the client may still name its position before anything is read.
    deferred: bool,
    /// The entry after which the next one comes.
    at: u64,
    /// Whether `connection_ready` was sent.
    ready: bool,
    /// Whether the client has named a position.
    named: bool,
    /// The end of the `stream_reset` that must follow `connection_ready`.
    owes: Option<u64>,
    /// The `stream_reset`s for positions that the client has named and that are gone.
    resets: Vec<(u64, u64)>,
    /// The lookup that the log has not answered.
    lookup: Option<(LookupId, u64, u64)>,
    /// Whether entries were sent on it.
    sends: bool,
    /// Requests that the client may still send.
    requests: u8,
    /// Whether the connection is lost, and only the client knows it.
    lost: bool,
}

/// Premises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Past {
    /// A position was named before anything was read, and entries followed.
    named: bool,
    /// A position was named when entries had been sent.
    late: bool,
    /// The named position was gone.
    reset: bool,
    /// The client named nothing in time.
    silent: bool,
}

const EPOCH: Epoch = Epoch(2);
const USER: UserId = UserId(1);

checked![
    Reading, State;
    "AUTH-1", "AUTH-2", "CONN-1", "CONN-2", "CONN-3", "STR-1", "STR-3", "RUN-3", "LIM-1", "SES-1",
];

fn entry(offset: u64) -> Entry<u8> {
    let event = Event { run: RunId(offset), thread: None, kind: Kind::Notice, payload: u8::try_from(offset).ok() };
    Entry { offset: Offset(offset), previous: Offset(offset - 1), event }
}

/// A verified connection that names its position later.
fn attaching(bounds: &Bounds, id: ConnectionId) -> Box<Connection<u8>> {
    let mut out = Vec::new();
    let mut connection = Connection::accept(bounds, id, &mut out);
    let auth = Request::Auth { token: 1, resume: Resume { from: ReadFrom::Deferred, replaces: None } };
    let verdict = connection::Input::Verdict { attempt: VerificationId(1), verdict: good(1, 50) };
    for input in [connection::Input::Opened, connection::Input::Received(auth), verdict] {
        let _ = connection.step(bounds, input, &mut out);
    }
    Box::new(connection)
}

impl State {
    fn new(model: &Reading, keeps: bool) -> Self {
        let mut outputs = Outputs::new();
        let session = Session::open(&model.bounds, USER, Mode::Ready, &mut outputs);
        let mut state = Self {
            session,
            keeps,
            events: 0,
            sent: 0,
            have: 0,
            connections: 0,
            reader: None,
            past: Past::default(),
            broken: None,
        };
        let tenure = Tenure { epoch: EPOCH, token: FencingToken(1) };
        let snapshot = Snapshot { keeps, ..Snapshot::empty(tenure) };
        state.feed(model, Input::Restored { attempt: AcquisitionId(1), snapshot });
        state
    }

    /// The offset after which the stream can be read.
    fn tail(&self, bounds: &Bounds) -> u64 {
        self.events.saturating_sub(bounds.retained as u64)
    }

    /// The position from which reading continues after this one, and the `stream_reset` before it.
    fn after(&self, bounds: &Bounds, position: u64, known: bool) -> (u64, Option<(u64, u64)>) {
        let tail = self.tail(bounds);
        if known && (self.keeps || position >= tail) { (position, None) } else { (tail, Some((position, tail))) }
    }
}

impl Model for Reading {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        [false, true].map(|keeps| State::new(self, keeps)).to_vec()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        if state.events < self.events {
            actions.push(Action::Append);
        }
        let Some(reader) = &state.reader else {
            if state.connections < self.connections {
                actions.push(Action::Connect);
            }
            return;
        };
        actions.push(Action::Leave);
        if reader.awake {
            actions.push(Action::Pull(true));
        }
        if reader.armed {
            actions.push(Action::Expire);
        }
        if reader.lookup.is_some() {
            actions.extend([Action::Found(true), Action::Found(false), Action::NotFound]);
        }
        if reader.lost {
            return;
        }
        if reader.awake {
            actions.push(Action::Pull(false));
        }
        if reader.requests > 0 {
            actions.extend([Action::Seek(true), Action::Seek(false), Action::Request]);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        next.act(self, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = unbroken();
        all.extend([
            Property::sometimes("STR-1.named", |_: &Self, state: &State| {
                state.past.named && state.reader.as_ref().is_some_and(|reader| reader.sends)
            }),
            Property::sometimes("STR-1.late", |_: &Self, state: &State| state.past.late),
            Property::sometimes("STR-1.reset", |_: &Self, state: &State| state.past.reset),
            Property::sometimes("LIVE-3.silent", |_: &Self, state: &State| {
                state.past.silent && state.have == state.events
            }),
            Property::sometimes("STR-3.kept", |_: &Self, state: &State| {
                state.keeps && state.reader.as_ref().is_some_and(|reader| reader.lookup.is_some())
            }),
        ]);
        all
    }
}

impl Proof for Reading {
    fn name(&self) -> &'static str {
        "position"
    }

    fn about(&self) -> &'static str {
        "a reader that names its position after it is connected, or never"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![
            ("entries", self.events.to_string()),
            ("connections", self.connections.to_string()),
            ("requests per connection", self.requests.to_string()),
            ("retained", self.bounds.retained.to_string()),
        ]
    }

    fn fairness(&self, action: &Action) -> Option<u8> {
        match action {
            Action::Pull(true) => Some(0),
            Action::Expire => Some(1),
            Action::Found(false) => Some(2),
            Action::Append
            | Action::Connect
            | Action::Seek(_)
            | Action::Request
            | Action::Pull(false)
            | Action::Found(true)
            | Action::NotFound
            | Action::Leave => None,
        }
    }

    fn promises(&self) -> Vec<Promise<Self>> {
        vec![Promise {
            id: "LIVE-3",
            pending: |_, state| {
                let behind = |reader: &Reader| !reader.ready || reader.at < state.events;
                state.broken.is_none() && state.reader.as_ref().is_some_and(behind)
            },
        }]
    }
}
