//! The session machine: one user.

mod broken;
mod deletions;
mod deliver;
mod leave;
mod lifecycle;
mod log;
mod lookup;
mod membership;
mod messages;
mod notices;
mod owning;
mod pauses;
mod position;
mod queue;

use std::collections::VecDeque;

use lockstep_model::connection::{self, Connection};
use lockstep_model::frame::{Control, ReadFrom};
use lockstep_model::run::{self, Kind, Received};
use lockstep_model::session::{Input, Output, Outputs, State};
use lockstep_model::stream::Snapshot;
use lockstep_model::timer::Owner;
use lockstep_model::{
    AcquisitionId, BatchId, Bounds, Cancel, Cause, ConnectionId, Entry, Epoch, Event, FencingToken, Frame, Grant,
    Handled, MessageId, Mode, Offset, Position, Refusal, Request, Resume, RunId, Session, Tenure, ThreadId, Timer,
    UserId, tenure,
};

use crate::support::{SMALL, Tag, attempt, grant, valid};

type Step = (Result<Handled, Refusal>, Vec<Output<Tag>>);

const USER: UserId = UserId(7);
const EPOCH: Epoch = Epoch(2);

/// A request to the log is under way, with this deadline.
const ASKED: Output<Tag> = Output::Arm(Owner::Session, Timer::LogAnswer, SMALL.log_answer);
/// No request to the log is under way.
const ANSWERED: Output<Tag> = Output::Disarm(Owner::Session, Timer::LogAnswer);

const TENURE: Tenure = Tenure { epoch: EPOCH, token: FencingToken(1) };

fn step_within(bounds: &Bounds, session: &mut Session<Tag>, input: Input<Tag>) -> Step {
    let mut outputs = Outputs::default();
    let handled = session.step(bounds, input, &mut outputs);
    assert_eq!(session.check(bounds), Ok(()));
    (handled, outputs.list)
}

fn step(session: &mut Session<Tag>, input: Input<Tag>) -> Step {
    step_within(&SMALL, session, input)
}

fn done(out: Vec<Output<Tag>>) -> Step {
    (Ok(Handled::Done), out)
}

fn then(mut session: Session<Tag>, input: Input<Tag>) -> Session<Tag> {
    assert_eq!(step(&mut session, input.clone()).0, Ok(Handled::Done), "{input:?} in {session:?}");
    session
}

/// A connection with this credential, ready to join.
fn attaching(id: u64, from: ReadFrom, replaces: Option<u64>, grant: Grant) -> Box<Connection<Tag>> {
    let mut out = Vec::new();
    let mut connection = Connection::accept(&SMALL, ConnectionId(id), &mut out);
    let resume = Resume { from, replaces: replaces.map(ConnectionId) };
    let verdict = connection::Input::Verdict { attempt: attempt(1), verdict: valid(grant, 100) };
    let presented = connection::Input::Received(Request::Auth { token: 1, resume });
    for input in [connection::Input::Opened, presented, verdict] {
        assert_eq!(connection.step(&SMALL, input, &mut out), Handled::Done);
    }
    Box::new(connection)
}

/// A user's connection joins; its credential has its number.
fn join(id: u64, from: ReadFrom) -> Input<Tag> {
    Input::Join { connection: attaching(id, from, None, grant(7, id, 0)), mode: Mode::Ready }
}

fn opened() -> Session<Tag> {
    Session::open(&SMALL, USER, Mode::Ready, &mut Outputs::new())
}

fn snapshot(trimmed: u64, entries: &[Entry<Tag>]) -> Input<Tag> {
    let snapshot = Snapshot { trimmed: Offset(trimmed), entries: entries.to_vec(), ..Snapshot::empty(TENURE) };
    Input::Restored { attempt: attempt(1), snapshot }
}

/// A session with an empty stream and no connection.
fn vacant() -> Session<Tag> {
    then(opened(), snapshot(0, &[]))
}

/// A session with one live connection, number 1, that has nothing to pull.
fn occupied() -> Session<Tag> {
    let session = then(vacant(), join(1, ReadFrom::Latest));
    then(session, pull(1, 9))
}

const fn pull(id: u64, budget: usize) -> Input<Tag> {
    Input::Pull { connection: ConnectionId(id), budget }
}

const fn on(id: u64, input: connection::Input<Tag>) -> Input<Tag> {
    Input::Connection { connection: ConnectionId(id), input }
}

/// A message whose run and payload have its number.
const fn message(from: u64, number: u64) -> Input<Tag> {
    on(from, connection::Input::Received(request(number, false)))
}

const fn request(number: u64, repeat: bool) -> Request<Tag> {
    Request::Message {
        message: MessageId(number),
        thread: ThreadId(number),
        run: RunId(number),
        payload: number as Tag,
        repeat,
        replaces: None,
    }
}

const fn emit(run: u64, input: run::Input) -> Input<Tag> {
    Input::Run { run: RunId(run), input, payload: Some(99) }
}

const fn event(run: u64, kind: Kind, payload: Option<Tag>) -> Event<Tag> {
    let thread = match kind {
        Kind::Received(received) => Some(received.thread),
        Kind::Notice => None,
        Kind::Started
        | Kind::Thinking
        | Kind::Delta(_)
        | Kind::ToolExecuting(_)
        | Kind::ToolCompleted(..)
        | Kind::Paused(_)
        | Kind::Resumed(_)
        | Kind::Completed
        | Kind::Error(_)
        | Kind::Deleted => Some(ThreadId(run)),
    };
    Event { run: RunId(run), thread, kind, payload }
}

const fn entry(previous: u64, offset: u64, event: Event<Tag>) -> Entry<Tag> {
    Entry { offset: Offset(offset), previous: Offset(previous), event }
}

const fn received(number: u64) -> Event<Tag> {
    event(number, Kind::Received(Received::immediate(MessageId(number), ThreadId(number))), Some(number as Tag))
}

/// The log takes the oldest pending event.
fn persist(session: &Session<Tag>, offset: u64) -> Input<Tag> {
    Input::Persisted { batch: session.stream().unwrap().batch(), offset: Offset(offset), record: None }
}

/// `session` after all pending events are durable, at consecutive offsets.
fn settled(mut session: Session<Tag>) -> Session<Tag> {
    while session.stream().is_some_and(|stream| !stream.pending().is_empty()) {
        let offset = session.stream().unwrap().head().0 + 1;
        let input = persist(&session, offset);
        session = then(session, input);
    }
    session
}

/// `session` with a run for this message, started and durable.
fn working(session: Session<Tag>, number: u64) -> Session<Tag> {
    let session = settled(then(session, message(1, number)));
    settled(then(session, emit(number, run::Input::Start)))
}

/// The session's state, and how far it is with acquiring its user.
fn seeking(session: &Session<Tag>) -> (State, Option<(AcquisitionId, tenure::Request)>) {
    (session.state(), session.ownership().seeking())
}

const fn owned(id: u64) -> Owner {
    Owner::Connection(ConnectionId(id))
}

const fn expired(owner: Owner, timer: Timer) -> Input<Tag> {
    Input::Expired(owner, timer)
}

const fn write(batch: BatchId, after: u64, event: Event<Tag>) -> Output<Tag> {
    Output::Write { tenure: TENURE, batch, after: Offset(after), event }
}

fn wake(id: u64) -> Output<Tag> {
    Output::Wake { connection: ConnectionId(id) }
}

/// The frames that a pull sends to a connection.
fn pulled(session: &mut Session<Tag>, id: u64) -> Vec<Frame<Tag>> {
    let (handled, out) = step(session, pull(id, 99));
    assert_eq!(handled, Ok(Handled::Done));
    let frame = |output| {
        let Output::Send { connection, frame } = output else { panic!("a pull emits {output:?}") };
        assert_eq!(connection, ConnectionId(id), "ISO-1");
        frame
    };
    out.into_iter().map(frame).collect()
}

/// The released connections, with their causes.
fn released(out: &[Output<Tag>]) -> Vec<(u64, Cause)> {
    let release = |output: &Output<Tag>| {
        let Output::Release { connection } = output else { return None };
        let connection::State::Closing { cause, frame: connection::CloseFrame::Queued } = connection.state() else {
            panic!("{connection:?} is not closing")
        };
        Some((connection.id().0, *cause))
    };
    out.iter().filter_map(release).collect()
}

/// The outputs of a connection that chooses its cause.
fn closes(id: u64) -> Vec<Output<Tag>> {
    let deadlines = [Timer::Handshake, Timer::Idle, Timer::Allowance, Timer::Grace];
    let credential = [Timer::Verification, Timer::Warning, Timer::Credential];
    let mut out: VecDeque<_> =
        deadlines.into_iter().chain(credential).map(|timer| Output::Disarm(owned(id), timer)).collect();
    out.push_back(Output::Arm(owned(id), Timer::Close, SMALL.close));
    out.into()
}

const fn after(offset: u64) -> ReadFrom {
    ReadFrom::After(Position { epoch: EPOCH, offset: Offset(offset) })
}

const fn ready(offset: u64, head: u64, resumed: bool) -> Frame<Tag> {
    let (offset, head) = (Offset(offset), Offset(head));
    Frame::Control(Control::Ready { user: USER, epoch: EPOCH, offset, head, resumed, mode: Mode::Ready })
}
