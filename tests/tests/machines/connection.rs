//! The connection machine: one socket, one id, from accept to close.

mod broken;
mod credential;
mod exact;
mod live;
mod relayed;

use lockstep_model::connection::{Connection, Input, Output};
use lockstep_model::frame::{Control, ReadFrom};
use lockstep_model::{
    Bounds, Cancel, Cause, Code, ConnectionId, Epoch, Frame, Handled, MessageId, Mode, Offset, Request, Resume, RunId,
    Successor, ThreadId, Timer, UserId,
};

use crate::support::{SMALL, Tag, attempt, grant, valid};

type Step = (Handled, Vec<Output<Tag>>);

const ID: ConnectionId = ConnectionId(5);
const DRAIN: Input<Tag> = Input::Drain { successor: Successor::Absent };
const EARLIEST: Resume = Resume { from: ReadFrom::Earliest, replaces: Some(ConnectionId(4)) };
const READY: Control<Tag> = Control::Ready {
    user: UserId(1),
    epoch: Epoch(1),
    offset: Offset(6),
    head: Offset(8),
    resumed: false,
    mode: Mode::Ready,
};
const RESET: Control<Tag> = Control::StreamReset { from: Offset(2), to: Offset(6) };

fn step_within(bounds: &Bounds, connection: &mut Connection<Tag>, input: Input<Tag>) -> Step {
    let mut out = Vec::new();
    let handled = connection.step(bounds, input, &mut out);
    assert_eq!(connection.check(bounds), Ok(()));
    (handled, out)
}

fn step(connection: &mut Connection<Tag>, input: Input<Tag>) -> Step {
    step_within(&SMALL, connection, input)
}

fn done(out: Vec<Output<Tag>>) -> Step {
    (Handled::Done, out)
}

/// `connection` after one more input, which may not be stale.
fn then(mut connection: Connection<Tag>, input: Input<Tag>) -> Connection<Tag> {
    assert_eq!(step(&mut connection, input.clone()).0, Handled::Done, "{input:?} in {connection:?}");
    connection
}

fn opening() -> Connection<Tag> {
    Connection::accept(&SMALL, ID, &mut Vec::new())
}

fn authenticating() -> Connection<Tag> {
    then(opening(), Input::Opened)
}

fn verifying() -> Connection<Tag> {
    then(authenticating(), auth(1, EARLIEST))
}

fn attaching() -> Connection<Tag> {
    then(verifying(), Input::Verdict { attempt: attempt(1), verdict: valid(grant(7, 1, 0), 100) })
}

/// Live, with `connection_ready` pulled.
fn live() -> Connection<Tag> {
    let mut connection = then(attaching(), Input::Ready { ready: READY, reset: None });
    assert_eq!(pulled(&mut connection), [READY]);
    connection
}

/// Draining, with `going_away` pulled.
fn draining() -> Connection<Tag> {
    let mut connection = then(live(), DRAIN);
    assert_eq!(pulled(&mut connection), [Control::GoingAway(Successor::Absent)]);
    connection
}

fn closing() -> Connection<Tag> {
    then(live(), Input::Close(Cause::Superseded))
}

fn closed() -> Connection<Tag> {
    then(closing(), Input::Gone(Cause::PeerClosed))
}

/// A connection in each state before a cause is chosen.
fn open() -> [Connection<Tag>; 6] {
    [opening(), authenticating(), verifying(), attaching(), live(), draining()]
}

const fn auth(token: Tag, resume: Resume) -> Input<Tag> {
    Input::Received(Request::Auth { token, resume })
}

const fn message(number: u64) -> Request<Tag> {
    Request::Message {
        message: MessageId(number),
        thread: ThreadId(number),
        run: RunId(number),
        payload: 0,
        repeat: false,
        replaces: None,
    }
}

const fn cancel(number: u64) -> Request<Tag> {
    Request::Cancel { runs: Cancel::Run(RunId(number)) }
}

const INVALID: Request<Tag> = Request::Invalid { code: Code::UnknownType, message: None };

/// The waiting control frames, pulled.
fn pulled(connection: &mut Connection<Tag>) -> Vec<Control<Tag>> {
    let mut controls = Vec::new();
    while connection.has_frame() {
        match connection.pull() {
            Some(Frame::Control(control)) => controls.push(control),
            Some(frame @ (Frame::Event(_) | Frame::Close(_))) => panic!("{frame:?} is no control frame"),
            None => panic!("a frame was promised"),
        }
    }
    assert_eq!(connection.pull(), None);
    controls
}

/// The outputs of choosing a cause: every deadline is disarmed, and the peer gets as long as [`Bounds::close`].
fn closes(cause: Cause) -> Vec<Output<Tag>> {
    let deadlines = [Timer::Handshake, Timer::Idle, Timer::Allowance, Timer::Grace];
    let credential = [Timer::Verification, Timer::Warning, Timer::Credential];
    let mut out: Vec<_> = deadlines.into_iter().chain(credential).map(Output::Disarm).collect();
    out.extend([Output::Arm(Timer::Close, SMALL.close), Output::Closing(cause), Output::Wake]);
    out
}

/// The same, because the credential has ended.
fn ends(cause: Cause) -> Vec<Output<Tag>> {
    let mut out: Vec<_> = [Timer::Verification, Timer::Warning, Timer::Credential].map(Output::Disarm).into();
    out.extend(closes(cause));
    out
}
