//! All machines of one process, composed.

mod exact;
mod guard;
mod sessions;

use lockstep_model::connection;
use lockstep_model::frame::{Control, ReadFrom};
use lockstep_model::gateway::{Input, Output, Outputs, Place, SessionOutput};
use lockstep_model::run;
use lockstep_model::session;
use lockstep_model::stream::Snapshot;
use lockstep_model::{
    Bounds, Cause, ConnectionId, Epoch, FencingToken, Frame, Gateway, Generation, Grant, Handled, MessageId, Offset,
    Refusal, Request, Resume, RunId, Tenure, ThreadId, Timer, UserId, node,
};

use crate::support::{SMALL, Tag, attempt, grant, valid};

type Step = (Result<Handled, Refusal>, Vec<Output<Tag>>);

const TENURE: Tenure = Tenure { epoch: Epoch(0), token: FencingToken(1) };

fn step_within(bounds: &Bounds, gateway: &mut Gateway<Tag>, input: Input<Tag>) -> Step {
    let mut outputs = Outputs::default();
    let handled = gateway.step(bounds, input, &mut outputs);
    assert_eq!(gateway.check(bounds), Ok(()));
    (handled, outputs.list)
}

fn step(gateway: &mut Gateway<Tag>, input: Input<Tag>) -> Step {
    step_within(&SMALL, gateway, input)
}

fn done(out: Vec<Output<Tag>>) -> Step {
    (Ok(Handled::Done), out)
}

fn then(mut gateway: Gateway<Tag>, input: Input<Tag>) -> Gateway<Tag> {
    assert_eq!(step(&mut gateway, input.clone()).0, Ok(Handled::Done), "{input:?} in {gateway:?}");
    gateway
}

const fn accept(id: u64) -> Input<Tag> {
    Input::Accept { connection: ConnectionId(id) }
}

const fn on(id: u64, input: connection::Input<Tag>) -> Input<Tag> {
    Input::Connection { connection: ConnectionId(id), input }
}

const fn pull(id: u64, budget: usize) -> Input<Tag> {
    Input::Pull { connection: ConnectionId(id), budget }
}

const fn to(user: u64, generation: u32, input: session::Input<Tag>) -> Input<Tag> {
    Input::Session { user: UserId(user), generation: Generation(generation), input }
}

const fn ordered(user: u64, generation: u32, output: SessionOutput<Tag>) -> Output<Tag> {
    Output::Session { user: UserId(user), generation: Generation(generation), output }
}

const fn of(id: u64) -> Place {
    Place::Connection(ConnectionId(id))
}

const fn session_of(user: u64, generation: u32) -> Place {
    Place::Session(UserId(user), Generation(generation))
}

fn restored() -> session::Input<Tag> {
    let snapshot = Snapshot::empty(TENURE);
    session::Input::Restored { attempt: attempt(1), snapshot }
}

fn started() -> Gateway<Tag> {
    then(Gateway::new(), Input::Node(node::Input::Started))
}

/// `gateway` with a connection that has presented a credential.
fn presented(gateway: Gateway<Tag>, id: u64) -> Gateway<Tag> {
    let gateway = then(then(gateway, accept(id)), on(id, connection::Input::Opened));
    let resume = Resume { from: ReadFrom::Earliest, replaces: None };
    then(gateway, on(id, connection::Input::Received(Request::Auth { token: 1, resume })))
}

fn verdict(id: u64, grant: Grant) -> Input<Tag> {
    on(id, connection::Input::Verdict { attempt: attempt(1), verdict: valid(grant, 100) })
}

/// `gateway` with a connection that has joined its user's session.
fn joined(gateway: Gateway<Tag>, id: u64, user: u64) -> Gateway<Tag> {
    then(presented(gateway, id), verdict(id, grant(user, id, 0)))
}

/// One user, number 7, with connection 1, which has nothing to pull; it is the process's first session.
fn serving() -> Gateway<Tag> {
    let gateway = then(joined(started(), 1, 7), to(7, 1, restored()));
    then(gateway, pull(1, 9))
}

const fn message(id: u64, number: u64) -> Input<Tag> {
    let request = Request::Message {
        message: MessageId(number),
        thread: ThreadId(number),
        run: RunId(number),
        payload: 0,
        repeat: false,
        replaces: None,
    };
    on(id, connection::Input::Received(request))
}

const fn emit(user: u64, generation: u32, run: u64, input: run::Input) -> Input<Tag> {
    to(user, generation, session::Input::Run { run: RunId(run), input, payload: Some(9) })
}

fn gone(id: u64) -> Input<Tag> {
    on(id, connection::Input::Gone(Cause::Lost))
}

fn wake(id: u64) -> Output<Tag> {
    Output::Wake { connection: ConnectionId(id) }
}

fn closed(id: u64, cause: Cause) -> Output<Tag> {
    Output::Closed { connection: ConnectionId(id), cause }
}

/// The outputs of a connection that chooses its cause.
fn closes(id: u64) -> Vec<Output<Tag>> {
    let deadlines = [Timer::Handshake, Timer::Idle, Timer::Allowance, Timer::Grace];
    let credential = [Timer::Verification, Timer::Warning, Timer::Credential];
    let mut out: Vec<_> = deadlines.into_iter().chain(credential).map(|timer| Output::Disarm(of(id), timer)).collect();
    out.push(Output::Arm(of(id), Timer::Close, SMALL.close));
    out
}

fn frames(out: &[Output<Tag>], id: u64) -> Vec<Frame<Tag>> {
    let sent = |output: &Output<Tag>| {
        let Output::Send { connection, frame } = output else { return None };
        (*connection == ConnectionId(id)).then(|| frame.clone())
    };
    out.iter().filter_map(sent).collect()
}

const fn ready(mode: lockstep_model::Mode) -> Frame<Tag> {
    Frame::Control(Control::Ready {
        user: UserId(7),
        epoch: Epoch(0),
        offset: Offset(0),
        head: Offset(0),
        resumed: true,
        mode,
    })
}
