//! The messages of one production [`Client`]: one too long, one refused, one answered.

use std::collections::BTreeSet;
use std::time::Duration;

use lockstep_model::client::{Input, Output, State};
use lockstep_model::frame::ReadFrom;
use lockstep_model::{
    Cause, Client, Code, ConnectionId, Control, Frame, MessageId, Offset, Request, RunId, Timer, TokenRequestId,
};
use stateright::{Model, Property};

use super::{READY, Row, alone};
use crate::engine::proof::{Promise, Proof};
use crate::models::world::setup;

pub(super) fn rows() -> Vec<Row> {
    vec![
        alone!(
            "C1",
            "resent after a refusal",
            "a refusal does not settle the message: the client writes it to each further socket",
            ["CLIENT-2"],
            Traffic { mistake: Some(Mistake::Repeat) },
            Traffic { mistake: None }
        ),
        alone!(
            "C2",
            "anonymous refusal",
            "the gateway refuses a message without naming it, and the client waits for an answer without a deadline",
            ["CLIENT-2"],
            Traffic { mistake: Some(Mistake::Nameless) },
            Traffic { mistake: None }
        ),
        alone!(
            "C3",
            "too long for every connection",
            "the client does not know the gateway's size limit, and resends the message that closed its socket",
            ["CLIENT-2"],
            Traffic { mistake: Some(Mistake::Oversize) },
            Traffic { mistake: None }
        ),
        alone!(
            "C4",
            "ready resets the pause",
            "the pauses start over at each ready, so a gateway that closes every connection is retried without end",
            ["CLIENT-1"],
            Traffic { mistake: Some(Mistake::StartOver) },
            Traffic { mistake: None }
        ),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    Repeat,
    Nameless,
    Oversize,
    StartOver,
}

/// The message that is too long for the gateway.
const LONG: MessageId = MessageId(1);
/// The message that the gateway refuses.
const ODD: MessageId = MessageId(2);
/// The number of messages; the others are answered.
const MESSAGES: u64 = 3;

/// The model.
#[derive(Clone, Debug)]
struct Traffic {
    mistake: Option<Mistake>,
}

/// A client, and the frames in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wire {
    client: Client<u8>,
    /// Messages that were written to the newest socket and not handled.
    written: Vec<MessageId>,
    /// Messages that the gateway has refused.
    refused: BTreeSet<MessageId>,
    /// The longest pause since a connection proved stable.
    pause: Duration,
    answer: bool,
    sent: u64,
    losses: u8,
    broken: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Send,
    /// The socket opens, and the gateway is ready.
    Ready,
    /// The gateway handles the oldest written message.
    Handle,
    Lose,
    Rested,
    /// The connection proves stable.
    Lasted,
    /// The answer times out.
    Late,
}

impl Wire {
    fn feed(&mut self, mistake: Option<Mistake>, input: Input<u8>) {
        let mut outputs = Vec::new();
        let _ = self.client.step(&setup::small(), input, &mut outputs);
        for output in outputs {
            match output {
                Output::Write(Request::Message { message, .. }) => {
                    if self.refused.contains(&message) {
                        self.broken.get_or_insert("CLIENT-2");
                    }
                    self.written.push(message);
                }
                Output::Pause(pause) => {
                    if pause <= self.pause {
                        self.broken.get_or_insert("CLIENT-1");
                    }
                    self.pause = pause;
                }
                Output::Close { .. } => self.written.clear(),
                Output::Arm(Timer::Answer, _) => self.answer = mistake != Some(Mistake::Nameless),
                Output::Disarm(Timer::Answer) => self.answer = false,
                _ => {}
            }
        }
    }

    fn frame(&mut self, mistake: Option<Mistake>, control: Control<u8>) {
        let socket = self.client.socket();
        let (connection, frame) = (ConnectionId(u64::from(socket.0)), Frame::Control(control));
        self.feed(mistake, Input::Frame { socket, connection, frame });
    }

    fn close(&mut self, mistake: Option<Mistake>, cause: Cause) {
        let socket = self.client.socket();
        self.written.clear();
        self.feed(mistake, Input::Closed { socket, code: cause.code() });
    }

    fn handle(&mut self, mistake: Option<Mistake>) {
        let message = self.written.remove(0);
        match message {
            LONG => {
                self.refused.insert(message);
                let told = if mistake == Some(Mistake::Oversize) { Cause::Lost } else { Cause::TooBig };
                self.close(mistake, told);
            }
            ODD => {
                self.refused.insert(message);
                match mistake {
                    Some(Mistake::Repeat) => {}
                    Some(Mistake::Nameless) => self.frame(mistake, Control::Error(Code::InvalidField)),
                    _ => self.frame(mistake, Control::Refused { message, code: Code::InvalidField }),
                }
            }
            _ => self.frame(mistake, Control::Known { message, run: RunId(message.0), offset: Offset(0) }),
        }
    }
}

impl Model for Traffic {
    type State = Wire;
    type Action = Step;

    fn init_states(&self) -> Vec<Wire> {
        let mut wire = Wire {
            client: Client::new(ReadFrom::Latest),
            written: Vec::new(),
            refused: BTreeSet::new(),
            pause: Duration::ZERO,
            answer: false,
            sent: 0,
            losses: 2,
            broken: None,
        };
        wire.feed(None, Input::Token { asked: TokenRequestId(0), token: 0 });
        wire.feed(None, Input::Connect);
        vec![wire]
    }

    fn actions(&self, wire: &Wire, steps: &mut Vec<Step>) {
        if wire.broken.is_some() {
            return;
        }
        let ready = wire.client.is_ready();
        let possible = [
            (wire.sent < MESSAGES, Step::Send),
            (wire.client.state() == State::Connecting, Step::Ready),
            (ready && !wire.written.is_empty(), Step::Handle),
            (ready && wire.losses > 0, Step::Lose),
            (wire.client.state() == State::Backoff, Step::Rested),
            (ready && wire.client.tries() > 0, Step::Lasted),
            (ready && wire.answer, Step::Late),
        ];
        steps.extend(possible.into_iter().filter(|(possible, _)| *possible).map(|(_, step)| step));
    }

    fn next_state(&self, last: &Wire, step: Step) -> Option<Wire> {
        let (mut wire, mistake) = (last.clone(), self.mistake);
        match step {
            Step::Send => {
                wire.sent += 1;
                let message = MessageId(wire.sent);
                let size = if message == LONG { 2 } else { 1 };
                wire.feed(mistake, Input::Send { message, payload: 0, size });
            }
            Step::Ready => {
                let socket = wire.client.socket();
                wire.feed(mistake, Input::Opened { socket });
                if mistake != Some(Mistake::Oversize) {
                    wire.feed(mistake, Input::Limits { socket, longest: 1 });
                }
                wire.frame(mistake, READY);
                if mistake == Some(Mistake::StartOver) {
                    wire.feed(mistake, Input::Expired(Timer::Stable));
                }
            }
            Step::Handle => wire.handle(mistake),
            Step::Lose => {
                wire.losses -= 1;
                wire.close(mistake, Cause::Lost);
            }
            Step::Rested => wire.feed(mistake, Input::Expired(Timer::Backoff)),
            Step::Lasted => {
                wire.pause = Duration::ZERO;
                wire.feed(mistake, Input::Expired(Timer::Stable));
            }
            Step::Late => {
                wire.answer = false;
                wire.feed(mistake, Input::Expired(Timer::Answer));
            }
        }
        Some(wire)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("CLIENT-1", |_: &Self, wire: &Wire| wire.broken != Some("CLIENT-1")),
            Property::always("CLIENT-2", |_: &Self, wire: &Wire| wire.broken != Some("CLIENT-2")),
        ]
    }
}

impl Proof for Traffic {
    fn name(&self) -> &'static str {
        "client"
    }

    fn about(&self) -> &'static str {
        "one client and its messages, of which the gateway takes one"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![("messages", MESSAGES.to_string()), ("losses", "2".into())]
    }

    fn fairness(&self, step: &Step) -> Option<u8> {
        match step {
            Step::Ready => Some(0),
            Step::Handle => Some(1),
            Step::Rested => Some(2),
            Step::Late => Some(3),
            Step::Send | Step::Lose | Step::Lasted => None,
        }
    }

    fn promises(&self) -> Vec<Promise<Self>> {
        vec![Promise {
            id: "CLIENT-2",
            pending: |_, wire| wire.broken.is_none() && wire.client.is_ready() && !wire.client.outgoing().is_empty(),
        }]
    }
}
