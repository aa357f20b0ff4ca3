//! The session machine ([`lockstep_model::session`]) alone, for its diagram and matrix.
//!
//! One connection at a time, one message, one run, one notice, and an environment that gives any input at any moment.
//! Nothing is proved here: the properties of a session involve its clients, its log and its agents, which the model
//! [`session`](crate::models::session) explores. The chart is within the bounds below.

use lockstep_model::connection::{self, Connection};
use lockstep_model::fence::Scope;
use lockstep_model::session::{Input, Outputs, Session, State as Stage};
use lockstep_model::stream::Snapshot;
use lockstep_model::timer::Owner;
use lockstep_model::{
    AcquisitionId, BatchId, Bounds, Cause, ConnectionId, Epoch, FencingToken, Handled, MessageId, Mode, Offset,
    Refusal, Request, Resume, RevocationGeneration, RunId, Successor, Tenure, ThreadId, Timer, UserId, VerificationId,
    run,
};
use stateright::Model;

use crate::engine::proof::{Lifecycle, Outcome, Proof};
use crate::models::auth::good;
use crate::models::harness::small;

/// The model.
#[derive(Clone, Debug)]
pub struct Alone {
    bounds: Bounds,
    offsets: u64,
}

/// Returns the model that is charted.
pub fn model() -> Alone {
    Alone { bounds: Bounds { outbox: 4, requests: 0, failures: 1, ..small() }, offsets: 2 }
}

/// A session, and how many connections have joined it and how many notices it has taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    session: Session<u8>,
    joins: u8,
    notices: u8,
}

const CONNECTION: ConnectionId = ConnectionId(1);
const RUN: RunId = RunId(1);
const USER: UserId = UserId(1);
const JOINS: u8 = 2;

impl Alone {
    fn connection(&self, id: ConnectionId) -> Box<Connection<u8>> {
        let mut out = Vec::new();
        let mut connection = Connection::accept(&self.bounds, id, &mut out);
        let auth = Request::Auth { token: 0, resume: Resume::default() };
        let verdict = connection::Input::Verdict { attempt: VerificationId(1), verdict: good(USER.0, 50) };
        for input in [connection::Input::Opened, connection::Input::Received(auth), verdict] {
            let _ = connection.step(&self.bounds, input, &mut out);
        }
        Box::new(connection)
    }

    fn step(&self, state: &mut State, input: Input<u8>) -> Result<Handled, Refusal> {
        state.joins += u8::from(matches!(input, Input::Join { .. }));
        let notice = matches!(input, Input::Notice { .. });
        let answer = state.session.step(&self.bounds, input, &mut Outputs::new());
        state.notices += u8::from(notice && answer.is_ok());
        answer
    }
}

impl Model for Alone {
    type State = State;
    type Action = Input<u8>;

    fn init_states(&self) -> Vec<State> {
        let session = Session::open(&self.bounds, USER, Mode::Ready, &mut Outputs::new());
        vec![State { session, joins: 0, notices: 0 }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Input<u8>>) {
        for attempt in [1, 2].map(AcquisitionId) {
            let snapshot = Snapshot::empty(Tenure { epoch: Epoch(1), token: FencingToken(1) });
            actions.extend([Input::Restored { attempt, snapshot }, Input::NotRestored { attempt }]);
        }
        if state.joins < JOINS {
            let connection = self.connection(CONNECTION);
            actions.push(Input::Join { connection, mode: state.session.mode() });
        }
        let message = Request::Message {
            message: MessageId(1),
            thread: ThreadId(0),
            run: RUN,
            payload: 0,
            repeat: false,
            replaces: None,
        };
        let inputs = [connection::Input::Received(message), connection::Input::Gone(Cause::Lost)];
        actions.extend(inputs.map(|input| Input::Connection { connection: CONNECTION, input }));
        actions.push(Input::Pull { connection: CONNECTION, budget: 8 });
        for input in [run::Input::Start, run::Input::Complete, run::Input::Fail] {
            actions.push(Input::Run { run: RUN, input, payload: None });
        }
        if state.notices == 0 {
            actions.push(Input::Notice { notice: RunId(2), thread: None, payload: 1 });
            actions.push(Input::Delete { thread: ThreadId(0), deletion: RunId(2), payload: 1, as_of: None });
        }
        for batch in [0, 1].map(BatchId) {
            let head = state.session.stream().map_or(0, |stream| stream.head().0);
            actions
                .extend([Input::Persisted { batch, offset: Offset(head + 1), record: None }, Input::Failed { batch }]);
        }
        actions.push(Input::Revoke(Scope::All(RevocationGeneration(1))));
        actions.extend([0, 1].map(RevocationGeneration).map(Input::Verified));
        actions.extend([Mode::Ready, Mode::Degraded, Mode::Draining].map(Input::Mode));
        actions.extend([Input::Fenced, Input::Broken]);
        if state.session.mode() == Mode::Draining {
            actions.extend([Input::Leave(Successor::Absent), Input::Stop]);
        }
        let timers = [Timer::Linger, Timer::Restore, Timer::Breaker, Timer::Retry];
        actions.extend(timers.map(|timer| Input::Expired(Owner::Session, timer)));
        let timers = [Timer::Credential, Timer::Grace];
        actions.extend(timers.map(|timer| Input::Expired(Owner::Connection(CONNECTION), timer)));
        actions.extend([Timer::Silence, Timer::Deadline].map(|timer| Input::Expired(Owner::Run(RUN), timer)));
    }

    fn next_state(&self, last: &State, input: Input<u8>) -> Option<State> {
        let mut next = last.clone();
        let _ = self.step(&mut next, input);
        Some(next)
    }

    fn within_boundary(&self, state: &State) -> bool {
        let asked = state.session.ownership().seeking().map_or(0, |(attempt, _)| attempt.0);
        let (head, batch) = state.session.stream().map_or((0, 0), |stream| (stream.head().0, stream.batch().0));
        asked <= 2 && head <= self.offsets && batch <= 1
    }
}

impl Proof for Alone {
    fn name(&self) -> &'static str {
        "session"
    }

    fn about(&self) -> &'static str {
        "one session, for its chart"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![("joins", JOINS.to_string()), ("offsets", self.offsets.to_string())]
    }
}

impl Lifecycle for Alone {
    fn phases(&self) -> &'static [&'static str] {
        &["restoring", "vacant", "occupied", "leaving", "retired"]
    }

    fn inputs(&self) -> &'static [&'static str] {
        &[
            "restored",
            "not restored",
            "join",
            "received",
            "gone",
            "pull",
            "emit",
            "notice",
            "delete",
            "persisted",
            "failed",
            "fenced",
            "broken",
            "revoke",
            "mode",
            "leave",
            "stop",
            "linger expired",
            "restore expired",
            "verified",
            "breaker expired",
            "retry expired",
            "connection's timer",
            "run's timer",
        ]
    }

    fn phase(&self, state: &State) -> &'static str {
        match state.session.state() {
            Stage::Restoring => "restoring",
            Stage::Vacant => "vacant",
            Stage::Occupied => "occupied",
            Stage::Leaving { .. } => "leaving",
            Stage::Retired => "retired",
        }
    }

    fn input(&self, action: &Input<u8>) -> Option<&'static str> {
        Some(match action {
            Input::Restored { .. } => "restored",
            Input::NotRestored { .. } => "not restored",
            Input::Join { .. } => "join",
            Input::Connection { input: connection::Input::Gone(_), .. } => "gone",
            Input::Connection { .. } => "received",
            Input::Pull { .. } => "pull",
            Input::Run { .. } => "emit",
            Input::Notice { .. } => "notice",
            Input::Delete { .. } => "delete",
            // A session alone does no lookups, which the worlds cover, and its process is the only one.
            Input::Found { .. } | Input::NotFound { .. } | Input::Elsewhere { .. } | Input::Lost => return None,
            Input::Confirmed { .. } | Input::NotConfirmed { .. } => return None,
            Input::Persisted { .. } => "persisted",
            Input::Failed { .. } => "failed",
            Input::Fenced => "fenced",
            Input::Broken => "broken",
            Input::Revoke(_) => "revoke",
            Input::Verified(_) => "verified",
            Input::Mode(_) => "mode",
            Input::Leave(_) => "leave",
            Input::Stop => "stop",
            Input::Expired(Owner::Session, Timer::Linger) => "linger expired",
            Input::Expired(Owner::Session, Timer::Restore) => "restore expired",
            Input::Expired(Owner::Session, Timer::Breaker) => "breaker expired",
            Input::Expired(Owner::Session, _) => "retry expired",
            Input::Expired(Owner::Connection(_), _) => "connection's timer",
            Input::Expired(Owner::Run(_), _) => "run's timer",
        })
    }

    fn outcome(&self, before: &State, action: &Input<u8>) -> Outcome {
        let mut after = before.clone();
        match self.step(&mut after, action.clone()) {
            Err(_) => Outcome::Refused,
            Ok(Handled::Ignored) => Outcome::Ignored,
            Ok(Handled::Done) if self.phase(before) == self.phase(&after) => Outcome::Stayed,
            Ok(Handled::Done) => Outcome::Moved,
        }
    }
}
