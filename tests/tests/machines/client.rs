//! The client machine.

mod exact;
mod frames;
mod settled;

use core::time::Duration;

use lockstep_model::client::{Input, Output, State, TIMERS};
use lockstep_model::frame::{Control, ReadFrom};
use lockstep_model::run::Kind;
use lockstep_model::{
    Bounds, Cause, Client, Code, ConnectionId, Entry, Epoch, Event, Frame, Handled, MessageId, Mode, Offset, Position,
    Refusal, RunId, SocketId, Successor, Timer, TokenRequestId, UserId,
};

use crate::support::{SMALL, Tag};

type Step = (Result<Handled, Refusal>, Vec<Output<Tag>>);

const EPOCH: Epoch = Epoch(3);

fn step_within(bounds: &Bounds, client: &mut Client<Tag>, input: Input<Tag>) -> Step {
    let mut out = Vec::new();
    let handled = client.step(bounds, input, &mut out);
    (handled, out)
}

fn step(client: &mut Client<Tag>, input: Input<Tag>) -> Step {
    step_within(&SMALL, client, input)
}

fn done(out: Vec<Output<Tag>>) -> Step {
    (Ok(Handled::Done), out)
}

fn then(mut client: Client<Tag>, input: Input<Tag>) -> Client<Tag> {
    assert_eq!(step(&mut client, input.clone()).0, Ok(Handled::Done), "{input:?} in {client:?}");
    client
}

const fn position(offset: u64) -> Position {
    Position { epoch: EPOCH, offset: Offset(offset) }
}

const fn token(asked: u32, token: Tag) -> Input<Tag> {
    Input::Token { asked: TokenRequestId(asked), token }
}

const fn send(message: u64) -> Input<Tag> {
    sized(message, 1)
}

const fn sized(message: u64, size: u32) -> Input<Tag> {
    Input::Send { message: MessageId(message), payload: 0, size }
}

const fn limits(socket: u32, longest: u32) -> Input<Tag> {
    Input::Limits { socket: SocketId(socket), longest }
}

const fn opened(socket: u32) -> Input<Tag> {
    Input::Opened { socket: SocketId(socket) }
}

const fn closed(socket: u32, code: u16) -> Input<Tag> {
    Input::Closed { socket: SocketId(socket), code }
}

/// A frame on a socket; the connection's id is derived from the socket's number.
const fn on(socket: u32, frame: Frame<Tag>) -> Input<Tag> {
    Input::Frame { socket: SocketId(socket), connection: ConnectionId(100 + socket as u64), frame }
}

const fn control(socket: u32, control: Control<Tag>) -> Input<Tag> {
    on(socket, Frame::Control(control))
}

const fn ready(offset: u64, resumed: bool) -> Control<Tag> {
    Control::Ready {
        user: UserId(1),
        epoch: EPOCH,
        offset: Offset(offset),
        head: Offset(offset),
        resumed,
        mode: Mode::Ready,
    }
}

const fn entry(previous: u64, offset: u64, kind: Kind) -> Entry<Tag> {
    let event = Event { run: RunId(40 + offset), thread: None, kind, payload: None };
    Entry { offset: Offset(offset), previous: Offset(previous), event }
}

const fn thought(socket: u32, previous: u64, offset: u64) -> Input<Tag> {
    on(socket, Frame::Event(entry(previous, offset, Kind::Thinking)))
}

fn idle() -> Client<Tag> {
    then(Client::new(ReadFrom::Earliest), token(0, 1))
}

fn connecting() -> Client<Tag> {
    then(idle(), Input::Connect)
}

fn authenticating() -> Client<Tag> {
    then(connecting(), opened(1))
}

/// Live on socket 1, having read to offset 6.
fn live() -> Client<Tag> {
    then(authenticating(), control(1, ready(6, true)))
}

/// Live, with an unanswered heartbeat.
fn waiting() -> Client<Tag> {
    then(live(), Input::Expired(Timer::Heartbeat))
}

/// Live, after `going_away`.
fn leaving() -> Client<Tag> {
    then(live(), control(1, Control::GoingAway(Successor::Absent)))
}

/// Live, with message 1 sent back by the gateway.
fn holding() -> Client<Tag> {
    then(then(live(), send(1)), sent_back(1, 1))
}

/// The refusal of a message by a gateway that is about to go away.
const fn sent_back(socket: u32, message: u64) -> Input<Tag> {
    control(socket, Control::Refused { message: MessageId(message), code: Code::Draining })
}

/// The first outputs of a client that becomes live.
fn becomes_live() -> Vec<Output<Tag>> {
    vec![Output::Disarm(Timer::Connect), Output::Arm(Timer::Stable, SMALL.stable)]
}

/// Arms the next heartbeat, depending on whether an answer is awaited.
fn beat(awaited: bool) -> Output<Tag> {
    Output::Arm(Timer::Heartbeat, if awaited { SMALL.pong / 2 } else { SMALL.heartbeat })
}

/// Pausing after socket 1 was lost.
fn backoff() -> Client<Tag> {
    then(live(), closed(1, 1006))
}

fn stopped() -> Client<Tag> {
    then(live(), closed(1, Cause::CredentialExpired.code()))
}

/// `client`, which was pausing, live again on the next socket.
fn again(client: Client<Tag>, socket: u32, ready: Control<Tag>) -> Client<Tag> {
    let client = then(then(client, Input::Expired(Timer::Backoff)), opened(socket));
    then(client, control(socket, ready))
}

/// The outputs of leaving a state; `socket` is the one that is dropped.
fn drops(socket: Option<u32>) -> Vec<Output<Tag>> {
    let mut out: Vec<_> = TIMERS.map(Output::Disarm).into();
    out.extend(socket.map(|socket| Output::Close { socket: SocketId(socket) }));
    out
}

fn pauses(socket: Option<u32>, seconds: u64) -> Step {
    let mut out = drops(socket);
    out.push(Output::Pause(Duration::from_secs(seconds)));
    done(out)
}

const fn is_live(client: &Client<Tag>) -> bool {
    matches!(client.state(), State::Live { .. })
}
