//! Requests before ready, and a peer that dies: one production [`Connection`], its client and its session.

use lockstep_model::connection::{Input, Output, State};
use lockstep_model::{
    Bounds, Cancel, Connection, ConnectionId, MessageId, Request, Resume, RunId, ThreadId, Timer, UserId,
};
use stateright::{Model, Property};

use super::hooks::welcome;
use super::{READY, Row, alone};
use crate::engine::phrase::phrase;
use crate::engine::proof::{Drawing, Lifeline, Promise, Proof};
use crate::models::world::setup;

pub(super) fn rows() -> Vec<Row> {
    vec![
        alone!(
            "A3",
            "accepted is not ready",
            "requests on an open socket are handled at once, whether or not the connection is ready",
            ["CONN-2"],
            SocketModel { mistake: Some(Mistake::HandleAtOnce) },
            SocketModel { mistake: None }
        ),
        alone!(
            "A24",
            "flushed by priority",
            "queued requests are handed over by urgency, and not in order",
            ["CONN-2"],
            SocketModel { mistake: Some(Mistake::UrgentFirst) },
            SocketModel { mistake: None }
        ),
        alone!(
            "B24",
            "half-open forever",
            "a ping that an intermediary answers counts as a sign of life of the peer",
            ["LIVE-4"],
            SocketModel { mistake: Some(Mistake::HearTheProxy) },
            SocketModel { mistake: None }
        ),
        alone!(
            "X7",
            "early queue drops the newest",
            "the newest queued request is dropped when the connection becomes ready",
            ["CONN-2"],
            SocketModel { mistake: Some(Mistake::Shed) },
            SocketModel { mistake: None }
        ),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    HandleAtOnce,
    UrgentFirst,
    HearTheProxy,
    Shed,
}

/// The model.
#[derive(Clone, Debug)]
struct SocketModel {
    mistake: Option<Mistake>,
}

/// A connection, and what was sent on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SocketState {
    connection: Connection<u8>,
    presented: bool,
    sent: u8,
    handled: u8,
    dead: bool,
    broken: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The client presents its credential.
    Present,
    /// The verifier accepts it.
    Verify,
    /// The stream is restored.
    Ready,
    /// The client sends its next request: a message, then a cancel, and so on.
    Send,
    /// The client is gone, and the network does not report it.
    Die,
    /// A deadline passes.
    Expire(Timer),
}

/// Requests that the client sends.
const REQUESTS: u8 = 2;

fn request(number: u8) -> Request<u8> {
    let (message, run) = (MessageId(u64::from(number)), RunId(u64::from(number)));
    if number.is_multiple_of(2) {
        Request::Message { message, thread: ThreadId(0), run, payload: number, repeat: false, replaces: None }
    } else {
        Request::Cancel { runs: Cancel::Run(run) }
    }
}

impl SocketState {
    fn feed(&mut self, bounds: &Bounds, mistake: Option<Mistake>, input: Input<u8>) {
        let ready = self.connection.is_reading() || matches!(input, Input::Ready { .. });
        let mut outputs = Vec::new();
        let _ = self.connection.step(bounds, input, &mut outputs);
        let mut handed: Vec<Request<u8>> = outputs
            .into_iter()
            .filter_map(|output| if let Output::Handle(request) = output { Some(request) } else { None })
            .collect();
        match mistake {
            Some(Mistake::UrgentFirst) => handed.sort_by_key(|request| matches!(request, Request::Message { .. })),
            Some(Mistake::Shed) if handed.len() > 1 => handed.truncate(1),
            Some(Mistake::Shed | Mistake::HandleAtOnce | Mistake::HearTheProxy) | None => {}
        }
        for handed in handed {
            self.handle(ready, &handed);
        }
        if self.connection.is_reading() && self.handled < self.sent {
            self.broken.get_or_insert("CONN-2");
        }
    }

    fn handle(&mut self, ready: bool, handed: &Request<u8>) {
        if !ready || *handed != request(self.handled) {
            self.broken.get_or_insert("CONN-2");
        }
        self.handled += 1;
    }
}

impl Model for SocketModel {
    type State = SocketState;
    type Action = Step;

    fn init_states(&self) -> Vec<SocketState> {
        let mut connection = Connection::accept(&setup::small(), ConnectionId(1), &mut Vec::new());
        let _ = connection.step(&setup::small(), Input::Opened, &mut Vec::new());
        vec![SocketState { connection, presented: false, sent: 0, handled: 0, dead: false, broken: None }]
    }

    fn actions(&self, state: &SocketState, steps: &mut Vec<Step>) {
        let timers: &[Timer] = match state.connection.state() {
            State::Authenticating { .. } if !state.presented => {
                steps.push(Step::Present);
                &[Timer::Handshake]
            }
            State::Authenticating { .. } => {
                steps.push(Step::Verify);
                &[Timer::Handshake]
            }
            State::Attaching { .. } => {
                steps.push(Step::Ready);
                &[Timer::Handshake]
            }
            State::Live { .. } => &[Timer::Idle],
            State::Closing { .. } => &[Timer::Close],
            State::Opening | State::Draining | State::Relayed { .. } | State::Closed { .. } => &[],
        };
        if state.dead || state.connection.is_closing() {
            steps.extend(timers.iter().map(|timer| Step::Expire(*timer)));
        } else {
            steps.push(Step::Die);
            if state.sent < REQUESTS {
                steps.push(Step::Send);
            }
        }
    }

    fn next_state(&self, last: &SocketState, step: Step) -> Option<SocketState> {
        let mut next = last.clone();
        let bounds = setup::small();
        match step {
            Step::Present => {
                next.presented = true;
                let auth = Request::Auth { token: 0, resume: Resume::default() };
                next.feed(&bounds, self.mistake, Input::Received(auth));
            }
            Step::Verify => {
                let attempt = next.connection.auth().newest();
                next.feed(&bounds, self.mistake, Input::Verdict { attempt, verdict: welcome(UserId(0)) });
            }
            Step::Ready => {
                next.feed(&bounds, self.mistake, Input::Ready { ready: READY, reset: None });
            }
            Step::Send => {
                let request = request(next.sent);
                next.sent += 1;
                if self.mistake == Some(Mistake::HandleAtOnce) && !next.connection.is_reading() {
                    next.handle(false, &request);
                } else {
                    next.feed(&bounds, self.mistake, Input::Received(request));
                }
            }
            Step::Die => next.dead = true,
            Step::Expire(timer) => {
                if self.mistake == Some(Mistake::HearTheProxy) && timer == Timer::Idle {
                    next.feed(&bounds, self.mistake, Input::Received(Request::Pong));
                }
                next.feed(&bounds, self.mistake, Input::Expired(timer));
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("CONN-2", |_: &Self, state: &SocketState| state.broken != Some("CONN-2")),
            Property::sometimes(
                "CONN-2.queued",
                |_: &Self, state: &SocketState| matches!(state.connection.state(), State::Attaching { early, .. } if early.len() > 1),
            ),
        ]
    }
}

impl Proof for SocketModel {
    fn name(&self) -> &'static str {
        "connection"
    }

    fn about(&self) -> &'static str {
        "a connection, a client that sends early and may die"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![("requests", REQUESTS.to_string())]
    }

    fn depict(&self, _: &SocketState, step: &Step, _: &SocketState) -> Vec<Drawing> {
        let arrow = |from, to, label: &str| Drawing::Arrow { from, to, label: label.into(), lost: false };
        vec![match step {
            Step::Present => arrow(Lifeline::Client, Lifeline::Connection, "auth"),
            Step::Verify => arrow(Lifeline::Verifier, Lifeline::Connection, "valid"),
            Step::Ready => arrow(Lifeline::Session, Lifeline::Connection, "ready"),
            Step::Send => arrow(Lifeline::Client, Lifeline::Connection, "the next request"),
            Step::Die => Drawing::note(Lifeline::Client, "is gone, and the network does not report it".into()),
            Step::Expire(timer) => Drawing::note(Lifeline::Connection, phrase(&format!("{timer:?}Expired"))),
        }]
    }

    fn fairness(&self, step: &Step) -> Option<u8> {
        match step {
            Step::Expire(_) => Some(0),
            Step::Present | Step::Verify | Step::Ready | Step::Send | Step::Die => None,
        }
    }

    fn promises(&self) -> Vec<Promise<Self>> {
        vec![Promise {
            id: "LIVE-4",
            pending: |_, state| state.dead && !matches!(state.connection.state(), State::Closed { .. }),
        }]
    }
}
