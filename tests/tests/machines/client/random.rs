//! The reference for what is shown is a simple gateway's log; that for sockets, pauses, deadlines and answers are
//! counters.
#![expect(clippy::wildcard_enum_match_arm, reason = "the timers of a client are listed, others are none of its")]

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::client::{Heartbeat, Input, Output, State};
use lockstep_model::frame::{Control, ReadFrom};
use lockstep_model::run::Kind;
use lockstep_model::{
    Client, Code, ConnectionId, Frame, Handled, MessageId, Mode, Refusal, Request, RunId, SocketId, Successor, Timer,
    TokenRequestId,
};
use proptest::prelude::*;

use super::gateway::Gateway;
use crate::support::{SMALL, Tag, cases, no_trace, survives_json};

#[derive(Clone, Debug)]
enum Move {
    Connect,
    Disconnect,
    Send {
        again: bool,
        size: u32,
    },
    Withdraw,
    Limits {
        longest: u32,
    },
    Present,
    Token {
        lag: u32,
    },
    Opened,
    Ready,
    Hear,
    Answer {
        accept: bool,
    },
    /// The gateway, about to go away, sends a message back.
    SendBack,
    /// The client receives the next frame.
    Next,
    /// The client receives the next frame after the network lost one before it.
    Skip,
    /// A frame or close of an older socket.
    Late {
        choice: prop::sample::Index,
        code: u16,
    },
    /// An entry that was shown before, on the newest socket.
    Again {
        choice: prop::sample::Index,
    },
    Append {
        hole: u64,
    },
    Trim {
        keep: usize,
    },
    Epoch,
    Tell(Control<Tag>),
    Closed {
        code: u16,
    },
    Expired {
        choice: prop::sample::Index,
    },
    NotArmed(Timer),
}

fn moves() -> impl Strategy<Value = Move> {
    let index = any::<prop::sample::Index>;
    let codes = || prop::sample::select(vec![1000u16, 1006, 1006, 4000, 4500, 4501]);
    let timers = vec![Timer::Backoff, Timer::Connect, Timer::Heartbeat, Timer::Idle];
    prop_oneof![
        6 => Just(Move::Connect),
        1 => Just(Move::Disconnect),
        6 => (prop::bool::weighted(0.1), 1..4u32).prop_map(|(again, size)| Move::Send { again, size }),
        1 => Just(Move::Withdraw),
        4 => prop_oneof![3 => Just(u32::MAX), 1 => 1..4u32].prop_map(|longest| Move::Limits { longest }),
        1 => Just(Move::Present),
        4 => prop_oneof![4 => Just(0), 1 => 1..3u32].prop_map(|lag| Move::Token { lag }),
        10 => Just(Move::Opened),
        10 => Just(Move::Ready),
        6 => Just(Move::Hear),
        6 => prop::bool::weighted(0.8).prop_map(|accept| Move::Answer { accept }),
        2 => Just(Move::SendBack),
        20 => Just(Move::Next),
        1 => Just(Move::Skip),
        4 => (index(), codes()).prop_map(|(choice, code)| Move::Late { choice, code }),
        2 => index().prop_map(|choice| Move::Again { choice }),
        10 => (1..4u64).prop_map(|hole| Move::Append { hole }),
        1 => (0..6usize).prop_map(|keep| Move::Trim { keep }),
        1 => Just(Move::Epoch),
        2 => prop::sample::select(vec![
            Control::AuthExpiring, Control::GoingAway(Successor::Absent), Control::Notice(7),
            Control::Mode(Mode::HandingOver), Control::Mode(Mode::Ready),
        ])
            .prop_map(Move::Tell),
        3 => codes().prop_map(|code| Move::Closed { code }),
        8 => index().prop_map(|choice| Move::Expired { choice }),
        2 => prop::sample::select(timers).prop_map(Move::NotArmed),
    ]
}

struct World {
    client: Client<Tag>,
    gateway: Gateway,
    armed: BTreeSet<Timer>,
    /// The socket that neither side has closed.
    socket: Option<u32>,
    ready: bool,
    /// Whether the next connection attempt may be immediate because the user asked for it.
    fresh: bool,
    paused: bool,
    failures: u32,
    succession: bool,
    /// Whether this step leaves a gateway that goes away.
    leaving: bool,
    /// The client's position, in this epoch.
    at: Option<(u64, u64)>,
    messages: u64,
    /// The sockets to which each message was written, except those on which it was sent back.
    written: BTreeMap<MessageId, Vec<u32>>,
    answered: BTreeSet<MessageId>,
    history: Vec<Input<Tag>>,
}

impl World {
    fn new(begin: ReadFrom) -> Self {
        Self {
            client: Client::new(begin),
            gateway: Gateway::default(),
            armed: BTreeSet::new(),
            socket: None,
            ready: false,
            fresh: true,
            paused: false,
            failures: 0,
            succession: false,
            leaving: false,
            at: None,
            messages: 0,
            written: BTreeMap::new(),
            answered: BTreeSet::new(),
            history: Vec::new(),
        }
    }

    fn play(&mut self, step: Move) {
        let newest = self.client.socket();
        match step {
            Move::Connect => self.step(Input::Connect),
            Move::Disconnect => self.step(Input::Disconnect),
            Move::Withdraw => {
                let message = self.client.outgoing().back().map_or(MessageId(0), |outgoing| outgoing.message);
                self.step(Input::Withdraw { message });
            }
            Move::Limits { longest } => self.step(Input::Limits { socket: newest, longest }),
            Move::Present => self.step(Input::Present { token: 1 }),
            Move::Send { again, size } => {
                let repeated = self.client.outgoing().back().filter(|_| again).map(|outgoing| outgoing.message);
                self.messages += u64::from(repeated.is_none());
                let message = repeated.unwrap_or(MessageId(self.messages));
                self.step(Input::Send { message, payload: 1, size });
            }
            Move::Token { lag } => {
                let asked = TokenRequestId(self.client.asked().0.wrapping_sub(lag));
                self.step(Input::Token { asked, token: 1 });
            }
            Move::Opened if self.socket.is_some() => self.step(Input::Opened { socket: newest }),
            Move::Ready if self.socket.is_some() && !self.ready => {
                if let Some(control) = self.gateway.ready() {
                    self.frame(Frame::Control(control));
                }
            }
            Move::Hear => self.gateway.hear(),
            Move::Answer { accept } => self.gateway.answer(accept),
            Move::SendBack => self.gateway.send_back(),
            Move::Next | Move::Skip if self.ready => {
                if matches!(step, Move::Skip) {
                    self.gateway.skip();
                }
                if let Some(frame) = self.gateway.next() {
                    self.frame(frame);
                }
            }
            Move::Late { choice, code } if newest.0 > 1 && !self.history.is_empty() => {
                let old = SocketId(1 + choice.index(newest.0 as usize - 1) as u32);
                self.step(Input::Closed { socket: old, code });
                let late = choice.get(&self.history).clone();
                if !matches!(&late, Input::Frame { socket, .. } if *socket == newest) {
                    self.step(late);
                }
            }
            Move::Again { choice } if self.ready && self.at.is_some_and(|(_, at)| at > 0) => {
                let seen = |frame: &&Input<Tag>| matches!(frame, Input::Frame { socket, frame: Frame::Event(_), .. } if *socket == newest);
                let events: Vec<_> = self.history.iter().filter(seen).cloned().collect();
                if !events.is_empty() {
                    let before = self.client.position();
                    self.step(choice.get(&events).clone());
                    assert!(!self.ready || self.client.position() == before, "STR-1: shown twice");
                }
            }
            Move::Append { hole } => drop(self.gateway.append(hole, Kind::Thinking)),
            Move::Trim { keep } => self.gateway.trim(keep),
            Move::Epoch => {
                self.gateway.begin_epoch();
                self.closed(1006);
            }
            Move::Tell(control) if self.ready => self.frame(Frame::Control(control)),
            Move::Closed { code } => self.closed(code),
            Move::Expired { choice } if !self.armed.is_empty() => {
                let timer = *choice.get(&self.armed.iter().copied().collect::<Vec<_>>());
                self.step(Input::Expired(timer));
            }
            Move::NotArmed(timer) if !self.armed.contains(&timer) => {
                let before = self.client.clone();
                self.step(Input::Expired(timer));
                assert_eq!(self.client, before);
            }
            Move::Opened | Move::Ready | Move::Next | Move::Skip | Move::Tell(_) => {}
            Move::Late { .. } | Move::Again { .. } | Move::Expired { .. } | Move::NotArmed(_) => {}
        }
    }

    fn frame(&mut self, frame: Frame<Tag>) {
        let socket = self.client.socket();
        self.step(Input::Frame { socket, connection: ConnectionId(u64::from(socket.0)), frame });
    }

    fn closed(&mut self, code: u16) {
        if self.socket.is_some() {
            self.step(Input::Closed { socket: self.client.socket(), code });
        }
    }

    fn step(&mut self, input: Input<Tag>) {
        let (before, mut out) = (self.client.clone(), Vec::new());
        self.leaving = matches!((before.state(), &input), (State::Leaving { .. }, Input::Expired(Timer::Leave)));
        let handled = self.client.step(&SMALL, input.clone(), &mut out);
        self.check_handled(&before, &input, handled, &out);
        match &input {
            Input::Expired(timer) => {
                self.armed.remove(timer);
                self.paused |= matches!(timer, Timer::Backoff | Timer::Leave);
                if *timer == Timer::Stable && handled == Ok(Handled::Done) {
                    self.failures = 0;
                }
            }
            Input::Frame { socket, frame: Frame::Control(control), .. } if handled == Ok(Handled::Done) => {
                if let Control::Ready { epoch, offset, .. } = control
                    && !self.ready
                {
                    assert_eq!(Some(socket.0), self.socket);
                    (self.ready, self.succession, self.at) = (true, false, Some((epoch.0, offset.0)));
                }
                self.succession |= matches!(control, Control::GoingAway(_)) && self.ready && self.failures == 0;
                if let Control::Refused { message, code: Code::Draining } = control
                    && before.outgoing().iter().any(|outgoing| outgoing.message == *message)
                    && let Some(sockets) = self.written.get_mut(message)
                {
                    sockets.retain(|written| Some(*written) != self.socket);
                }
            }
            Input::Closed { socket, code } if Some(socket.0) == self.socket => {
                self.succession = match code {
                    4000 => self.succession || self.failures == 0,
                    1006 => self.succession,
                    _ => false,
                };
                self.dropped();
            }
            Input::Withdraw { message } if handled == Ok(Handled::Done) => drop(self.answered.insert(*message)),
            Input::Disconnect => self.fresh = true,
            Input::Connect | Input::Send { .. } | Input::Token { .. } | Input::Opened { .. } => {}
            Input::Frame { .. } | Input::Closed { .. } => {}
            Input::Withdraw { .. } | Input::Limits { .. } | Input::Present { .. } => {}
        }
        for output in &out {
            self.dispatch(output);
        }
        if matches!(input, Input::Frame { .. }) {
            self.history.push(input.clone());
        }
        self.check_properties();
        survives_json(&self.client);
        survives_json(&input);
        survives_json(&out);
    }

    fn dropped(&mut self) {
        (self.socket, self.ready) = (None, false);
    }

    /// B2 and the no-trace law: a stale or refused input changes nothing.
    fn check_handled(
        &self,
        before: &Client<Tag>,
        input: &Input<Tag>,
        handled: Result<Handled, Refusal>,
        out: &[Output<Tag>],
    ) {
        let stale = match input {
            Input::Opened { socket }
            | Input::Limits { socket, .. }
            | Input::Closed { socket, .. }
            | Input::Frame { socket, .. } => Some(socket.0) != self.socket,
            Input::Token { asked, .. } => *asked != before.asked(),
            Input::Connect | Input::Disconnect | Input::Send { .. } | Input::Expired(_) => false,
            Input::Withdraw { .. } | Input::Present { .. } => false,
        };
        assert!(!stale || handled == Ok(Handled::Ignored), "{input:?} in {before:?}");
        assert!(handled.is_ok() || matches!(input, Input::Send { .. }), "only a message is refused");
        if handled != Ok(Handled::Done) {
            no_trace(before, &self.client, out);
        }
    }

    fn dispatch(&mut self, output: &Output<Tag>) {
        match output {
            Output::Open { socket } => {
                assert_eq!(self.socket, None, "B1: one socket at a time");
                assert!(self.fresh || self.paused, "B22: a pause before every attempt but the first");
                if self.leaving {
                    self.failures += 1;
                }
                (self.fresh, self.paused, self.ready) = (false, false, false);
                self.socket = Some(socket.0);
                self.gateway.open();
            }
            Output::Close { socket } => {
                assert!(self.socket.is_none_or(|open| open == socket.0));
                self.dropped();
            }
            Output::Write(request) => self.wrote(request),
            Output::Deliver(entry) => {
                let (epoch, at) = self.at.unwrap();
                assert_eq!(epoch, self.gateway.epoch);
                assert_eq!(Some(entry), self.gateway.after(at), "STR-1: the next entry, and no other");
                self.at = Some((epoch, entry.offset.0));
            }
            Output::Notice(_) => {}
            Output::Reset { to, .. } => self.at = self.at.map(|(epoch, _)| (epoch, to.0)),
            Output::Accepted { message, .. } | Output::Unknown { message } => self.answered(*message, false),
            Output::TooLong { message } => {
                assert!(!self.may_run(message), "what was written may run");
                assert!(self.answered.insert(*message), "{message:?} is settled once");
            }
            // The gateway may still refuse a message that the client gave up on: it did not run.
            Output::Refused { message, .. } => self.answered(*message, true),
            Output::Arm(timer, after) => {
                let known: &[Duration] = match timer {
                    Timer::Connect => &[SMALL.connect],
                    Timer::Stable => &[SMALL.stable],
                    Timer::Answer => &[SMALL.answer],
                    Timer::Leave => &[SMALL.backoff],
                    Timer::Heartbeat
                        if matches!(
                            self.client.state(),
                            State::Live { heartbeat: Heartbeat::Awaited }
                                | State::Holding { heartbeat: Heartbeat::Awaited }
                                | State::Leaving { heartbeat: Heartbeat::Awaited }
                        ) =>
                    {
                        &[Duration::from_secs(8 << self.failures.min(3))]
                    }
                    Timer::Heartbeat => &[SMALL.heartbeat, Duration::from_secs(4)],
                    other => panic!("{other:?} is no timer of a client"),
                };
                assert!(known.contains(after), "{timer:?} after {after:?}");
                self.armed.insert(*timer);
            }
            Output::Pause(pause) => {
                let doubled = Duration::from_secs(2 << self.failures.min(20));
                let short = self.succession && self.failures < 32;
                let most = if short { SMALL.backoff * 4 } else { SMALL.backoff_most };
                assert_eq!(*pause, doubled.min(most), "B22: each failure doubles the pause");
                self.failures += 1;
                self.paused = false;
                self.armed.insert(Timer::Backoff);
            }
            Output::Disarm(timer) => drop(self.armed.remove(timer)),
            Output::NeedToken { asked } => assert_eq!(*asked, self.client.asked()),
            Output::Error(_) => {}
        }
    }

    fn answered(&mut self, message: MessageId, refused: bool) {
        assert!(self.may_run(&message), "no answer to what was not written");
        assert!(self.answered.insert(message) || refused, "{message:?} is answered once");
    }

    /// Whether it was written to a socket on which it may have arrived.
    fn may_run(&self, message: &MessageId) -> bool {
        self.written.get(message).is_some_and(|sockets| !sockets.is_empty())
    }

    /// RUN-2: once per socket, with the same id, and a repetition is marked as one.
    fn wrote(&mut self, request: &Request<Tag>) {
        let socket = self.socket.unwrap();
        if let Request::Message { message, run, repeat, .. } = request {
            assert!(self.ready && *run == RunId(0) && !self.answered.contains(message));
            assert_eq!(*repeat, self.may_run(message));
            let sockets = self.written.entry(*message).or_default();
            assert!(!sockets.contains(&socket), "written once to a socket, unless it was sent back");
            sockets.push(socket);
        }
        self.gateway.written(request.clone());
    }

    fn check_properties(&self) {
        let deadline = match self.client.state() {
            State::Idle | State::Stopped { .. } => None,
            State::Backoff => Some(Timer::Backoff),
            State::Connecting | State::Authenticating => Some(Timer::Connect),
            State::Live { .. } | State::Holding { .. } | State::Leaving { .. } => Some(Timer::Heartbeat),
        };
        let armed = |timer: Timer| self.armed.contains(&timer);
        let others =
            [Timer::Backoff, Timer::Connect, Timer::Heartbeat].into_iter().filter(|timer| Some(*timer) != deadline);
        assert!(deadline.is_none_or(armed) && !others.into_iter().any(armed), "LIVE-1: {:?}", self.client);
        let socket = self.client.socket();
        let waits = self.ready && self.client.outgoing().iter().any(|outgoing| outgoing.socket == socket);
        let holds = matches!(self.client.state(), State::Holding { .. }) && !self.client.outgoing().is_empty();
        assert_eq!(armed(Timer::Answer), waits || holds, "CLIENT-2: an answer is awaited, but not for ever");
        assert_eq!(armed(Timer::Leave), matches!(self.client.state(), State::Leaving { .. }));
        assert!(self.ready || !armed(Timer::Stable));
        assert_eq!(self.client.check(), Ok(()));
        assert_eq!(u32::from(self.client.tries()), self.failures);
        assert_eq!(self.client.position().map(|place| (place.epoch.0, place.offset.0)), self.place());
        let unanswered = self.client.outgoing().iter().map(|outgoing| outgoing.message).collect::<BTreeSet<_>>();
        let sent = (1..=self.messages).map(MessageId).filter(|message| !self.answered.contains(message));
        assert!(unanswered.iter().eq(sent.collect::<BTreeSet<_>>().iter()), "no message is lost");
    }

    fn place(&self) -> Option<(u64, u64)> {
        self.at
    }

    /// A user who wants to be connected, and a working gateway and network.
    fn calm_down(&mut self) {
        for _ in 0..10 * (self.gateway.log.len() + self.messages as usize + 10) {
            match self.client.state() {
                State::Idle => self.play(Move::Connect),
                State::Backoff => self.step(Input::Expired(Timer::Backoff)),
                State::Connecting => self.play(Move::Opened),
                State::Authenticating => self.play(Move::Ready),
                State::Stopped { .. } => self.play(Move::Token { lag: 0 }),
                // A client that awaits nothing needs no successor.
                State::Live { .. } if self.gateway.is_quiet() => return,
                State::Holding { .. } => self.frame(Frame::Control(Control::Mode(Mode::Ready))),
                State::Leaving { .. } => self.step(Input::Expired(Timer::Leave)),
                State::Live { .. } => {
                    self.play(Move::Hear);
                    self.play(Move::Answer { accept: true });
                    self.play(Move::Next);
                }
            }
        }
        panic!("never caught up: {:?} of {:?}", self.client, self.gateway);
    }
}

proptest! {
    #![proptest_config(cases())]

    /// STR-1, RUN-2, LIVE-1, LIVE-3, as far as the client keeps them, under every behaviour of a network and a gateway.
    #[test]
    fn a_client_shows_the_log_in_order_and_always_comes_back(
        begin in prop::sample::select(vec![ReadFrom::Latest, ReadFrom::Earliest]),
        moves in prop::collection::vec(moves(), 0..250),
    ) {
        let mut world = World::new(begin);
        world.play(Move::Token { lag: 0 });
        for step in moves {
            world.play(step);
        }
        // The client learns of a skipped entry with the next one.
        let _ = world.gateway.append(1, Kind::Thinking);
        world.calm_down();
        let at = world.client.position().map(|place| place.offset.0);
        prop_assert_eq!(at, Some(world.gateway.head()), "LIVE-3: it reaches the head");
        prop_assert!(world.client.outgoing().is_empty(), "each message is answered");
    }
}
