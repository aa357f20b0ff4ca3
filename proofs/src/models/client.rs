//! One client ([`lockstep_model::client`]), alone.
//!
//! Explores every input in every state: the user connects, leaves, sends and withdraws at any time; the gateway accepts
//! messages of any length, or only short ones; credentials answer any request, or come unrequested; past, present and
//! future sockets open, receive any frame and close with any code; any timer fires; the gateway may fall silent for
//! good at any moment. Sockets, token requests and offsets are numbered and therefore bounded. Of past and future
//! sockets the nearest stands for all, because the machine only asks whether an input is of its newest socket.
//!
//! The gateway is honest about positions when it is ready: it does not name one before the client's in the same epoch.
//! It may skip, repeat and reset, even to a position that the client has passed.
#![expect(clippy::wildcard_enum_match_arm, reason = "one input or output is selected among all")]

mod chart;
mod rules;

use lockstep_model::client::{Client, Heartbeat, Input, Output, State as Stage};
use lockstep_model::close::{Advice, advice};
use lockstep_model::frame::ReadFrom;
use lockstep_model::run::{Kind, Received};
use lockstep_model::stream::{Entry, Event};
use lockstep_model::{
    Bounds, Cause, Code, ConnectionId, Control, Epoch, Frame, Handled, MessageId, Mode, Offset, Position, Refusal,
    Request, RunId, SocketId, Successor, ThreadId, Timer, TokenRequestId, UserId,
};

use self::rules::{Phase, Rules, Settled};
use crate::engine::profile::Profile;
use crate::models::harness::{Armed, checked, small};

/// The model.
#[derive(Clone, Debug)]
pub struct Peer {
    bounds: Bounds,
    sockets: u32,
    asked: u32,
    offsets: u64,
    messages: u64,
}

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Peer {
    let (sockets, asked, offsets, messages) = match profile {
        Profile::Quick => (3, 2, 1, 1),
        Profile::Ci => (3, 2, 1, 2),
        Profile::Deep => (4, 3, 2, 2),
    };
    Peer { bounds: small(), sockets, asked, offsets, messages }
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
    rules: Rules,
    armed: Armed,
    /// Whether a pause was emitted, and no socket was opened since.
    paused: bool,
    /// The open socket, according to the outputs.
    open: Option<SocketId>,
    dead: bool,
    broken: Option<&'static str>,
}

checked![Peer, State; "CLIENT-1", "CLIENT-2", "RUN-2", "STR-1", "AUTH-3", "LIM-1", "LIVE-4"];

impl State {
    fn feed(&mut self, bounds: &Bounds, input: &Input<u8>) -> Result<Handled, Refusal> {
        let before = self.client.clone();
        let (phase, place) = (self.rules.phase, self.client.position());
        if let Input::Expired(timer) = input {
            self.armed.disarm(*timer);
        }
        let answer = self.rules.feed(bounds, input);
        let mut out = Vec::new();
        let handled = self.client.step(bounds, input.clone(), &mut out);
        if let Input::Closed { socket, .. } = input
            && self.open == Some(*socket)
        {
            self.open = None;
        }
        let outputs = self.dispatch(input, phase, out);
        self.settle(&before, input, handled, &outputs);
        let property = match input {
            Input::Send { .. } => "RUN-2",
            Input::Withdraw { .. } | Input::Limits { .. } | Input::Expired(Timer::Answer) => "CLIENT-2",
            Input::Token { .. } | Input::Present { .. } => "AUTH-3",
            Input::Frame { .. } => "STR-1",
            Input::Expired(Timer::Heartbeat) => "LIVE-4",
            Input::Connect | Input::Disconnect | Input::Opened { .. } | Input::Closed { .. } | Input::Expired(_) => {
                "CLIENT-1"
            }
        };
        match answer {
            Err(refusal) => self.expect(handled == Err(refusal) && self.client == before, property),
            Ok(None) => {
                let quiet = handled == Ok(Handled::Ignored) && outputs.is_empty() && self.client == before;
                self.expect(quiet, property);
            }
            Ok(Some(expected)) => self.expect(handled == Ok(Handled::Done) && outputs == expected, property),
        }
        if let (Some(old), Some(new)) = (place, self.client.position()) {
            self.expect(old.epoch != new.epoch || old.offset <= new.offset, "STR-1");
        }
        self.check();
        handled
    }

    /// CLIENT-2: a message that was unsettled before is settled once, kept, or withdrawn by its user.
    fn settle(
        &mut self,
        before: &Client<u8>,
        input: &Input<u8>,
        handled: Result<Handled, Refusal>,
        outputs: &[Output<u8>],
    ) {
        let sent = match input {
            Input::Send { message, .. } if handled == Ok(Handled::Done) => Some(*message),
            _ => None,
        };
        for message in before.outgoing().iter().map(|outgoing| outgoing.message).chain(sent) {
            let settled = outputs.iter().filter(|output| match output {
                Output::Accepted { message: told, .. }
                | Output::Refused { message: told, .. }
                | Output::TooLong { message: told }
                | Output::Unknown { message: told } => *told == message,
                _ => false,
            });
            let settled = settled.count();
            let withdrawn = *input == Input::Withdraw { message } && handled == Ok(Handled::Done);
            let kept = self.client.outgoing().iter().filter(|outgoing| outgoing.message == message).count();
            self.expect(settled + kept + usize::from(withdrawn) == 1, "CLIENT-2");
        }
    }

    /// Tracks the timers, and returns the other outputs.
    fn dispatch(&mut self, input: &Input<u8>, phase: Phase, out: Vec<Output<u8>>) -> Vec<Output<u8>> {
        let (mut outputs, mut deadlines) = (Vec::new(), Vec::new());
        for output in out {
            match &output {
                Output::Arm(timer, after) => {
                    deadlines.push((*timer, *after));
                    self.armed.arm(*timer);
                    continue;
                }
                Output::Disarm(timer) => {
                    self.armed.disarm(*timer);
                    continue;
                }
                Output::Pause(_) => {
                    self.armed.arm(Timer::Backoff);
                    self.paused = true;
                }
                Output::Open { socket } => {
                    let rested = self.paused && *input == Input::Expired(Timer::Backoff);
                    let told = phase == Phase::Leaving && *input == Input::Expired(Timer::Leave);
                    let wanted = phase == Phase::Idle && *input == Input::Connect;
                    self.expect((rested || told || wanted) && self.open.is_none(), "CLIENT-1");
                    self.paused = false;
                    self.open = Some(*socket);
                }
                Output::Close { socket } if self.open == Some(*socket) => self.open = None,
                Output::Close { .. }
                | Output::Write(_)
                | Output::NeedToken { .. }
                | Output::Deliver(_)
                | Output::Reset { .. }
                | Output::Accepted { .. }
                | Output::Refused { .. }
                | Output::TooLong { .. }
                | Output::Unknown { .. }
                | Output::Notice(_)
                | Output::Error(_) => {}
            }
            outputs.push(output);
        }
        let mut due = std::mem::take(&mut self.rules.deadlines);
        deadlines.sort_unstable();
        due.sort_unstable();
        self.expect(deadlines == due, "LIVE-4");
        outputs
    }

    fn check(&mut self) {
        let rules = &self.rules;
        let stage = match self.client.state() {
            Stage::Idle => rules.phase == Phase::Idle,
            Stage::Backoff => rules.phase == Phase::Backoff,
            Stage::Connecting => rules.phase == Phase::Connecting,
            Stage::Authenticating => rules.phase == Phase::Authenticating,
            Stage::Live { heartbeat } => {
                rules.phase == Phase::Live && (heartbeat == Heartbeat::Awaited) == rules.waiting
            }
            Stage::Holding { heartbeat } => {
                rules.phase == Phase::Holding && (heartbeat == Heartbeat::Awaited) == rules.waiting
            }
            Stage::Leaving { heartbeat } => {
                rules.phase == Phase::Leaving && (heartbeat == Heartbeat::Awaited) == rules.waiting
            }
            Stage::Stopped { code } => rules.phase == Phase::Stopped(code),
        };
        let numbers = self.client.socket().0 == rules.socket
            && self.client.asked().0 == rules.asked
            && self.client.tries() == rules.failures
            && self.client.awaits_successor() == rules.succession;
        let queue = self.client.outgoing().len() == rules.queue.len()
            && self.client.outgoing().iter().zip(&rules.queue).all(|(outgoing, queued)| {
                outgoing.message == queued.message
                    && outgoing.payload == queued.payload
                    && outgoing.size == queued.size
                    && outgoing.writes == queued.times
                    && (!rules.has_socket() || (outgoing.socket.0 == rules.socket) == queued.here)
            });
        let position = match rules.begin {
            ReadFrom::After(position) => Some(position),
            ReadFrom::Unread | ReadFrom::Latest | ReadFrom::Earliest | ReadFrom::Deferred => None,
        };
        let position = self.client.position() == position;
        let open = self.open == rules.has_socket().then_some(SocketId(rules.socket));
        let timers = self.armed == rules.timers();
        let none_waits = rules.phase != Phase::Live || rules.queue.iter().all(|queued| queued.here);
        let sound = self.client.check().is_ok() && self.client.longest() == rules.longest;
        self.expect(stage && numbers && open, "CLIENT-1");
        self.expect(queue, "RUN-2");
        self.expect(none_waits && sound, "CLIENT-2");
        self.expect(position, "STR-1");
        self.expect(timers, "LIVE-4");
    }
}

impl Peer {
    fn start(&self) -> State {
        let client = Client::new(ReadFrom::Latest);
        let (armed, open) = (Armed::default(), None);
        let mut state = State { client, rules: Rules::new(), armed, paused: false, open, dead: false, broken: None };
        let follows = |code: u16| rules::away(code) == (advice(code) == Advice::StayAway);
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

    /// A message is written as soon as possible, whatever the node's mode. Whatever the reason of a refusal, the user
    /// is told of it once, and of every error.
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

    /// However often the client fails, its pause stays at the maximum, and it comes back.
    fn lasts(bounds: &Bounds) -> bool {
        let (mut client, mut out) = (Client::<u8>::new(ReadFrom::Latest), Vec::new());
        let _ = client.step(bounds, Input::Connect, &mut out);
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
        let (mut client, mut out) = (Client::<u8>::new(ReadFrom::Latest), Vec::new());
        let _ = client.step(bounds, Input::Connect, &mut out);
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

    /// Becoming ready resets nothing, whatever code the gateway closes with then.
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
