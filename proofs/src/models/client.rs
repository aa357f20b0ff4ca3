//! One client ([`lockstep_model::client`]), alone.
//!
//! Explores every input in every state: the user connects, leaves, sends and withdraws at any time; the gateway accepts
//! messages of any length, or only short ones; credentials answer any request, or come unrequested; past, present and
//! future sockets open, receive any frame and close with any code; any timer fires; the gateway may fall silent for
//! good at any moment. Sockets, token requests and offsets are numbered and therefore bounded. One past and one future
//! socket stand for all, because the machine only checks whether an input belongs to its newest socket.
//!
//! The gateway is honest about positions when it is ready: it does not name one before the client's in the same epoch.
//! It may skip, repeat and reset, even to a position that the client has passed.
#![expect(clippy::wildcard_enum_match_arm, reason = "one input or output is selected among all")]

mod chart;

use lockstep_model::client::{Client, Heartbeat, Input, Output, State as Stage};
use lockstep_model::close::{Advice, advice};
use lockstep_model::frame::ReadFrom;
use lockstep_model::run::{Kind, Received};
use lockstep_model::stream::{Entry, Event};
use lockstep_model::{
    Bounds, Cause, Code, ConnectionId, Control, Epoch, Frame, Handled, MessageId, Mode, Offset, Position, Refusal,
    Request, RunId, SocketId, Successor, ThreadId, Timer, TokenRequestId, UserId,
};

use crate::engine::profile::Profile;
use crate::models::harness::{Armed, checked, small};
use crate::properties::client::link::{Stage as Phase, away};
use crate::properties::client::{Effects, Observed, counts};

/// The model.
#[derive(Clone, Debug)]
pub struct Alone {
    bounds: Bounds,
    sockets: u32,
    asked: u32,
    offsets: u64,
    messages: u64,
}

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Alone {
    let (sockets, asked, offsets, messages) = match profile {
        Profile::Quick => (3, 2, 1, 1),
        Profile::Ci => (3, 2, 1, 2),
        Profile::Deep => (4, 3, 2, 2),
    };
    Alone { bounds: small(), sockets, asked, offsets, messages }
}

/// Returns the model that is charted: more sockets lead to no other transition.
pub fn charted() -> Alone {
    Alone { sockets: 2, ..model(Profile::Quick) }
}

/// Returns the model at bounds for long random walks.
pub fn long() -> Alone {
    Alone { bounds: small(), sockets: 1_000, asked: 1_000, offsets: 1_000, messages: 4 }
}

/// An action of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// An input. `true` if its socket, token request or timer is stale.
    Hear(Input<u8>, bool),
    /// The gateway falls silent for good.
    Die,
}

/// A client and its oracle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    client: Client<u8>,
    observed: Observed,
    armed: Armed,
    dead: bool,
    broken: Option<&'static str>,
}

checked![Alone, State; "CLIENT-1", "CLIENT-2", "RUN-2", "STR-1", "AUTH-3", "LIM-1", "LIVE-4"];

impl State {
    fn feed(&mut self, bounds: &Bounds, input: &Input<u8>) -> Result<Handled, Refusal> {
        let (before, place) = (self.client.clone(), self.client.position());
        if let Input::Expired(timer) = input {
            self.armed.disarm(*timer);
        }
        let expected = self.observed.feed(bounds, input);
        let mut out = Vec::new();
        let handled = self.client.step(bounds, input.clone(), &mut out);
        for output in &out {
            match output {
                Output::Arm(timer, _) => self.armed.arm(*timer),
                Output::Pause(_) => self.armed.arm(Timer::Backoff),
                Output::Disarm(timer) => self.armed.disarm(*timer),
                _ => {}
            }
        }
        if let Some(property) = expected.violated_by(input, &Effects::of(handled, &out)) {
            self.violated(property);
        }
        if handled != Ok(Handled::Done) {
            self.expect(self.client == before && out.is_empty(), counts(input));
        }
        if let (Some(old), Some(new)) = (place, self.client.position()) {
            self.expect(old.epoch != new.epoch || old.offset <= new.offset, "STR-1");
        }
        self.check();
        handled
    }

    /// Checks the client's own account against the oracle's.
    fn check(&mut self) {
        let (link, messages) = (&self.observed.link, &self.observed.messages);
        let (holds, goes) = (messages.held, link.going);
        let ready = |heartbeat, held, going| {
            let probing = (heartbeat == Heartbeat::Awaited) == link.probing;
            link.is_ready() && (holds, goes) == (held, going) && probing
        };
        let stage = match self.client.state() {
            Stage::Idle => link.stage == Phase::Idle,
            Stage::Backoff => link.stage == Phase::Pausing,
            Stage::Connecting => link.stage == Phase::Opening,
            Stage::Authenticating => link.stage == Phase::Authenticating,
            Stage::Live { heartbeat } => ready(heartbeat, false, false),
            Stage::Holding { heartbeat } => ready(heartbeat, true, false),
            Stage::Leaving { heartbeat } => ready(heartbeat, false, true),
            Stage::Stopped { .. } => link.stage == Phase::Stopped,
        };
        let numbers = self.client.socket() == link.newest()
            && self.client.asked() == link.asked()
            && self.client.tries() == link.failures
            && self.client.awaits_successor() == link.succession;
        let queue = self.client.outgoing().len() == messages.queue.len()
            && self.client.outgoing().iter().zip(&messages.queue).all(|(outgoing, queued)| {
                outgoing.message == queued.message
                    && outgoing.payload == queued.payload
                    && outgoing.size == queued.size
                    && outgoing.writes == queued.times
                    && (!link.has_socket() || (outgoing.socket == link.newest()) == queued.here)
            });
        let none_waits = !self.observed.takes_messages() || messages.queue.iter().all(|queued| queued.here);
        let sound = self.client.check().is_ok() && self.client.longest() == messages.longest;
        let position = self.client.position() == self.observed.reading.position();
        let mut due = Armed::default();
        self.observed.deadlines().into_iter().for_each(|timer| due.arm(timer));
        let timers = self.armed == due;
        self.expect(stage && numbers, "CLIENT-1");
        self.expect(queue, "RUN-2");
        self.expect(none_waits && sound, "CLIENT-2");
        self.expect(position, "STR-1");
        self.expect(timers, "LIVE-4");
    }
}

impl Alone {
    fn start(&self) -> State {
        let (client, observed) = (Client::new(ReadFrom::Latest), Observed::new(ReadFrom::Latest));
        let mut state = State { client, observed, armed: Armed::default(), dead: false, broken: None };
        let follows = |code: u16| away(code) == (advice(code) == Advice::StayAway);
        state.expect((1000..5000).all(follows), "CLIENT-1");
        state.expect(Self::keeps(&self.bounds), "LIM-1");
        state.expect(Self::lasts(&self.bounds), "LIVE-4");
        state.expect(Self::repeats(&self.bounds), "CLIENT-2");
        state.expect(Self::returns(&self.bounds), "CLIENT-1");
        state.expect(Self::tires(&self.bounds), "CLIENT-1");
        state.expect(Code::ALL.iter().all(|code| Self::heeds(&self.bounds, *code)), "RUN-2");
        state
    }

    /// A client keeps as many messages as its bound says, and no more.
    fn keeps(bounds: &Bounds) -> bool {
        let (mut client, mut out) = (Client::<u8>::new(ReadFrom::Latest), Vec::new());
        let most = lockstep_model::client::MAX_OUTGOING as u64;
        let mut send =
            |message| client.step(bounds, Input::Send { message: MessageId(message), payload: 6, size: 1 }, &mut out);
        (0..most).all(|message| send(message).is_ok()) && send(most) == Err(Refusal::Backpressure)
    }

    /// A message is written as soon as possible, in every mode of the node. The user is told once of each refusal, and
    /// of every error.
    fn heeds(bounds: &Bounds, code: Code) -> bool {
        let (mut client, mut out) = (Client::<u8>::new(ReadFrom::Latest), Vec::new());
        let (message, socket, connection) = (MessageId(1), SocketId(1), ConnectionId(1));
        let (epoch, offset, mode) = (Epoch(1), Offset(0), Mode::Emergency);
        let user = UserId(1);
        let ready = Control::Ready { user, epoch, offset, head: offset, resumed: true, mode };
        let frame = |control| Input::Frame { socket, connection, frame: Frame::Control(control) };
        let mut step = |input| {
            out.clear();
            let _ = client.step(bounds, input, &mut out);
            out.clone()
        };
        for input in [Input::Token { asked: TokenRequestId(0), token: 6 }, Input::Connect, Input::Opened { socket }] {
            step(input);
        }
        step(Input::Send { message, payload: 6, size: 1 });
        let written = step(frame(ready)).iter().filter(|output| matches!(output, Output::Write(_))).count();
        let error = step(frame(Control::Error(code))) == [Output::Error(code)];
        let expected = match code {
            // The user is not told of a message that is resent automatically.
            Code::Draining => vec![Output::Arm(Timer::Answer, bounds.answer)],
            Code::Forgotten => vec![Output::Unknown { message }, Output::Disarm(Timer::Answer)],
            _ => vec![Output::Refused { message, code }, Output::Disarm(Timer::Answer)],
        };
        let refused = step(frame(Control::Refused { message, code })) == expected;
        let kept = usize::from(code == Code::Draining);
        written == 1 && error && refused && client.outgoing().len() == kept
    }

    /// A client that connects for the first time.
    fn connecting(bounds: &Bounds) -> Client<u8> {
        let mut client = Client::new(ReadFrom::Latest);
        for input in [Input::Token { asked: TokenRequestId(0), token: 6 }, Input::Connect] {
            let _ = client.step(bounds, input, &mut Vec::new());
        }
        client
    }

    /// After any number of failures the client's pause stays at the maximum, and it comes back.
    fn lasts(bounds: &Bounds) -> bool {
        let (mut client, mut out) = (Self::connecting(bounds), Vec::new());
        (0..300).all(|tries| {
            out.clear();
            let _ = client.step(bounds, Input::Expired(Timer::Connect), &mut out);
            let longest = out.contains(&Output::Pause(bounds.backoff_most));
            let _ = client.step(bounds, Input::Expired(Timer::Backoff), &mut out);
            (longest || tries < 3) && client.state() == Stage::Connecting
        })
    }

    /// A client that has been live once, with a message, and loses each further connection in the same way.
    fn losing(bounds: &Bounds, code: u16) -> impl FnMut() -> Vec<Output<u8>> {
        let (mut client, bounds) = (Client::<u8>::new(ReadFrom::Latest), *bounds);
        let mut out = Vec::new();
        for input in [
            Input::Token { asked: TokenRequestId(0), token: 6 },
            Input::Send { message: MessageId(1), payload: 6, size: 1 },
            Input::Connect,
        ] {
            let _ = client.step(&bounds, input, &mut out);
        }
        move || {
            let (socket, connection) = (client.socket(), ConnectionId(1));
            let (epoch, offset, mode) = (Epoch(1), Offset(0), Mode::Ready);
            let user = UserId(0);
            let ready = Frame::Control(Control::Ready { user, epoch, offset, head: offset, resumed: true, mode });
            let mut out = Vec::new();
            for input in [
                Input::Opened { socket },
                Input::Frame { socket, connection, frame: ready },
                Input::Closed { socket, code },
                Input::Expired(Timer::Backoff),
            ] {
                let _ = client.step(&bounds, input, &mut out);
            }
            out
        }
    }

    /// A message that is never answered is written to as many sockets as the bound says, and is then unknown.
    fn repeats(bounds: &Bounds) -> bool {
        let mut life = Self::losing(bounds, 1011);
        let most = lockstep_model::client::MAX_WRITES;
        let wrote =
            |out: &[Output<u8>]| out.iter().any(|output| matches!(output, Output::Write(Request::Message { .. })));
        (0..most).all(|_| wrote(&life())) && {
            let out = life();
            !wrote(&out) && out.contains(&Output::Unknown { message: MessageId(1) })
        }
    }

    /// A client that awaits a successor uses short pauses, but not forever.
    fn returns(bounds: &Bounds) -> bool {
        let (mut client, mut out) = (Self::connecting(bounds), Vec::new());
        let most = u32::from(lockstep_model::client::MAX_SHORT);
        (0..=most).all(|tries| {
            out.clear();
            let code = if tries == 0 { 4000 } else { 1006 };
            let _ = client.step(bounds, Input::Closed { socket: client.socket(), code }, &mut out);
            let pause = bounds.backoff * [1, 2, 4][tries.min(2) as usize];
            let pause = if tries == most { bounds.backoff_most } else { pause };
            let right = out.contains(&Output::Pause(pause));
            let _ = client.step(bounds, Input::Expired(Timer::Backoff), &mut out);
            right
        })
    }

    /// Becoming ready resets nothing, with any close code of the gateway.
    fn tires(bounds: &Bounds) -> bool {
        let long = Output::Pause(bounds.backoff_most);
        [1000, 1006, 1011, 4000, 4001, 4004, 4499].into_iter().all(|code| {
            let mut life = Self::losing(bounds, code);
            (0..8).all(|tries| life().contains(&long) == (tries > 2))
        })
    }

    /// Returns every frame that a gateway may send to a client that has read to `place`.
    fn frames(&self, place: Option<Position>) -> Vec<Frame<u8>> {
        let ready = |epoch, offset, resumed| {
            let (epoch, offset) = (Epoch(epoch), Offset(offset));
            // In any mode, because the gateway is the one that refuses.
            let mode = if resumed { Mode::Degraded } else { Mode::Ready };
            let user = UserId(1);
            Frame::Control(Control::Ready { user, epoch, offset, head: offset, resumed, mode })
        };
        let mut frames = match place {
            None => vec![ready(1, 0, true), ready(1, 0, false)],
            Some(Position { epoch, offset }) => {
                vec![ready(epoch.0, offset.0, true), ready(epoch.0, offset.0, false), ready(3 - epoch.0, 0, false)]
            }
        };
        let at = place.map_or(0, |place| place.offset.0);
        let received =
            (1..=self.messages).map(|message| Kind::Received(Received::immediate(MessageId(message), ThreadId(0))));
        let kinds = received.chain([Kind::Thinking, Kind::Completed, Kind::Deleted]);
        for kind in kinds {
            for (offset, previous) in [(at + 1, at), (at, at.saturating_sub(1)), (at + 2, at + 1)] {
                let event = Event { run: RunId(4), thread: Some(ThreadId(0)), kind, payload: None };
                frames.push(Frame::Event(Entry { offset: Offset(offset), previous: Offset(previous), event }));
            }
        }
        for to in at.saturating_sub(1)..=at + 1 {
            frames.push(Frame::Control(Control::StreamReset { from: Offset(at), to: Offset(to) }));
        }
        for message in (1..=self.messages).map(MessageId) {
            frames.extend([
                Frame::Control(Control::Known { message, run: RunId(4), offset: Offset(at) }),
                Frame::Control(Control::Refused { message, code: Code::Busy }),
                Frame::Control(Control::Refused { message, code: Code::Draining }),
                Frame::Control(Control::Refused { message, code: Code::Forgotten }),
            ]);
        }
        let controls = [
            Control::Error(Code::Malformed),
            Control::AuthExpiring,
            Control::GoingAway(Successor::Absent),
            Control::Mode(Mode::Ready),
            Control::Mode(Mode::HandingOver),
            Control::Pong,
        ];
        frames.extend(controls.map(Frame::Control));
        frames.push(Frame::Control(Control::Notice(6)));
        frames.extend([Cause::GoingAway, Cause::CredentialExpired, Cause::Overloaded].map(Frame::Close));
        frames
    }
}
