//! What arrives before ready, and a peer that dies: one production [`Connection`] and the two who feed it.

use lockstep_model::connection::{Input, Output, State};
use lockstep_model::{Bounds, Connection, ConnectionId, MessageId, Request, Resume, RunId, ThreadId, Timer, UserId};
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
            "what arrives on an open socket is handled at once, whether or not the connection is ready",
            ["CONN-2"],
            Door { mistake: Some(Mistake::HandleAtOnce) },
            Door { mistake: None }
        ),
        alone!(
            "A24",
            "flushed by priority",
            "what has queued up is handed over by how urgent it looks, and not as it came",
            ["CONN-2"],
            Door { mistake: Some(Mistake::UrgentFirst) },
            Door { mistake: None }
        ),
        alone!(
            "B24",
            "half open for ever",
            "a ping that something in between answers counts as a sign of life of the peer",
            ["LIVE-4"],
            Door { mistake: Some(Mistake::HearTheProxy) },
            Door { mistake: None }
        ),
        alone!(
            "X7",
            "the early queue sheds",
            "the newest of what has queued up is dropped when the connection becomes ready",
            ["CONN-2"],
            Door { mistake: Some(Mistake::Shed) },
            Door { mistake: None }
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
struct Door {
    mistake: Option<Mistake>,
}

/// A connection, and what was said on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Visit {
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
    /// The verifier finds it good.
    Verify,
    /// The stream is there.
    Ready,
    /// The client sends its next request: a message, then a cancel, and so on.
    Send,
    /// The client is gone, and the network does not say so.
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
        Request::Cancel { run }
    }
}

impl Visit {
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

impl Model for Door {
    type State = Visit;
    type Action = Step;

    fn init_states(&self) -> Vec<Visit> {
        let mut connection = Connection::accept(&setup::small(), ConnectionId(1), &mut Vec::new());
        let _ = connection.step(&setup::small(), Input::Opened, &mut Vec::new());
        vec![Visit { connection, presented: false, sent: 0, handled: 0, dead: false, broken: None }]
    }

    fn actions(&self, visit: &Visit, steps: &mut Vec<Step>) {
        let timers: &[Timer] = match visit.connection.state() {
            State::Authenticating { .. } if !visit.presented => {
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
            State::Opening | State::Draining | State::Closed { .. } => &[],
        };
        if visit.dead || visit.connection.is_closing() {
            steps.extend(timers.iter().map(|timer| Step::Expire(*timer)));
        } else {
            steps.push(Step::Die);
            if visit.sent < REQUESTS {
                steps.push(Step::Send);
            }
        }
    }

    fn next_state(&self, last: &Visit, step: Step) -> Option<Visit> {
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
            Property::always("CONN-2", |_: &Self, visit: &Visit| visit.broken != Some("CONN-2")),
            Property::sometimes(
                "CONN-2.queued",
                |_: &Self, visit: &Visit| matches!(visit.connection.state(), State::Attaching { early, .. } if early.len() > 1),
            ),
        ]
    }
}

impl Proof for Door {
    fn name(&self) -> &'static str {
        "connection"
    }

    fn about(&self) -> &'static str {
        "a connection, a client that sends early and may die"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![("requests", REQUESTS.to_string())]
    }

    fn depict(&self, _: &Visit, step: &Step, _: &Visit) -> Vec<Drawing> {
        let arrow = |from, to, label: &str| Drawing::Arrow { from, to, label: label.into(), lost: false };
        vec![match step {
            Step::Present => arrow(Lifeline::Client, Lifeline::Connection, "auth"),
            Step::Verify => arrow(Lifeline::Verifier, Lifeline::Connection, "valid"),
            Step::Ready => arrow(Lifeline::Session, Lifeline::Connection, "ready"),
            Step::Send => arrow(Lifeline::Client, Lifeline::Connection, "the next request"),
            Step::Die => Drawing::note(Lifeline::Client, "is gone, and the network does not say so".into()),
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
            pending: |_, visit| visit.dead && !matches!(visit.connection.state(), State::Closed { .. }),
        }]
    }
}
