//! A page: one production [`Client`], the sockets that it opens, its timers and whoever gives it tokens.

use std::collections::BTreeMap;

use lockstep_model::client::{Input, Output, State};
use lockstep_model::frame::From;
use lockstep_model::{Cause, Client, ConnectionId, Control, Frame, Generation, Request, Timer};
use stateright::{Model, Property};

use super::{READY, Row, alone};
use crate::engine::proof::{Promise, Proof};
use crate::models::world::setup;

pub(super) fn rows() -> Vec<Row> {
    vec![
        alone!(
            "A28",
            "two owners in one page",
            "a second part of the page connects as soon as the first is ready, and neither knows of the other",
            ["LIM-1", "LIVE-1"],
            Page { mistake: Some(Mistake::SecondOwner) },
            Page { mistake: None }
        ),
        alone!(
            "B1",
            "back before it has left",
            "the client reconnects without closing the socket that it gave up",
            ["LIM-1", "SES-1"],
            Page { mistake: Some(Mistake::KeepTheOld) },
            Page { mistake: None }
        ),
        alone!(
            "B3",
            "two failures meet",
            "a close that comes after a time-out calls the pending attempt to reconnect off",
            ["LIVE-1"],
            Page { mistake: Some(Mistake::CallOff) },
            Page { mistake: None }
        ),
        alone!(
            "B6",
            "an old token overwrites the new",
            "a token counts whichever asking it answers, even one from before a reconnect",
            ["AUTH-3"],
            Page { mistake: Some(Mistake::TakeAnyToken) },
            Page { mistake: None }
        ),
        alone!(
            "B22",
            "no pause",
            "the client reconnects in the moment in which it fails",
            ["CLIENT-1"],
            Page { mistake: Some(Mistake::SkipThePause) },
            Page { mistake: None }
        ),
        alone!(
            "C5",
            "the login is overtaken",
            "a token that its user presents leaves the newest asking as it is, so an older provider's answer replaces it",
            ["AUTH-3"],
            Page { mistake: Some(Mistake::PresentUnasked) },
            Page { mistake: None }
        ),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    SecondOwner,
    KeepTheOld,
    CallOff,
    TakeAnyToken,
    SkipThePause,
    PresentUnasked,
}

/// The model.
#[derive(Clone, Debug)]
struct Page {
    mistake: Option<Mistake>,
}

/// How far a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Socket {
    Opening,
    Open,
    /// It was lost, and the client has not heard of it.
    Lost,
    /// It was lost, and the client gave it up before it heard.
    Dropped,
}

/// A page and its surroundings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Browsing {
    client: Client<u8>,
    /// The sockets that the page holds.
    sockets: BTreeMap<u32, Socket>,
    /// Askings for a token that are not answered.
    asked: Vec<Generation>,
    /// The newest token that was written.
    written: u8,
    /// Whether a pause has to pass.
    paused: bool,
    /// Whether a pause has passed since the last socket was opened.
    rested: bool,
    /// Failures and warnings that may still come.
    losses: u8,
    warnings: u8,
    logins: u8,
    broken: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A socket opens.
    Open(u32),
    /// The gateway is ready for the client.
    Ready(u32),
    /// A socket is lost.
    Lose(u32),
    /// The page hears that it is.
    Hear(u32),
    /// The gateway wants a newer token.
    Warn(u32),
    /// A token is given, in answer to the asking at this place.
    Answer(u8),
    /// The user has logged in once more.
    Present,
    /// It took too long to connect.
    Late,
    /// The pause is over.
    Rested,
}

impl Browsing {
    fn feed(&mut self, mistake: Option<Mistake>, input: Input<u8>) {
        let mut orders = Vec::new();
        let _ = self.client.step(&setup::small(), input, &mut orders);
        for order in orders {
            match order {
                Output::Open { socket } => {
                    if socket.0 > 1 && !std::mem::take(&mut self.rested) {
                        self.broken.get_or_insert("CLIENT-1");
                    }
                    self.sockets.insert(socket.0, Socket::Opening);
                    if self.sockets.values().filter(|socket| **socket != Socket::Dropped).count() > 1 {
                        self.broken.get_or_insert("LIM-1");
                    }
                }
                Output::Close { .. } if matches!(mistake, Some(Mistake::KeepTheOld | Mistake::SecondOwner)) => {}
                Output::Close { socket } => {
                    if self.sockets.remove(&socket.0) == Some(Socket::Lost) {
                        self.sockets.insert(socket.0, Socket::Dropped);
                    }
                }
                Output::Write(Request::Auth { token, .. }) => {
                    if token < self.written {
                        self.broken.get_or_insert("AUTH-3");
                    }
                    self.written = token;
                }
                Output::NeedToken { asked } => self.asked.push(asked),
                Output::Pause(_) if mistake == Some(Mistake::SkipThePause) => {
                    self.feed(mistake, Input::Expired(Timer::Backoff));
                }
                Output::Pause(_) => self.paused = true,
                Output::Disarm(Timer::Backoff) => self.paused = false,
                Output::Write(_)
                | Output::Deliver(_)
                | Output::Notice(_)
                | Output::Reset { .. }
                | Output::Accepted { .. }
                | Output::Refused { .. }
                | Output::Unknown { .. }
                | Output::TooLong { .. }
                | Output::Error(_)
                | Output::Arm(..)
                | Output::Disarm(_) => {}
            }
        }
    }

    fn frame(&mut self, mistake: Option<Mistake>, socket: u32, control: Control<u8>) {
        let (connection, frame) = (ConnectionId(u64::from(socket)), Frame::Control(control));
        self.feed(mistake, Input::Frame { socket: Generation(socket), connection, frame });
    }

    fn is_connecting(&self) -> bool {
        matches!(self.client.state(), State::Connecting | State::Authenticating)
    }
}

impl Model for Page {
    type State = Browsing;
    type Action = Step;

    fn init_states(&self) -> Vec<Browsing> {
        let mut page = Browsing {
            client: Client::new(From::Latest),
            sockets: BTreeMap::new(),
            asked: Vec::new(),
            written: 0,
            paused: false,
            rested: false,
            losses: 2,
            warnings: 2,
            logins: 1,
            broken: None,
        };
        page.feed(None, Input::Token { asked: Generation(0), token: 0 });
        page.feed(None, Input::Connect);
        vec![page]
    }

    fn actions(&self, page: &Browsing, steps: &mut Vec<Step>) {
        if page.broken.is_some() {
            return;
        }
        let newest = page.client.socket().0;
        for (socket, at) in &page.sockets {
            match at {
                Socket::Opening => steps.push(Step::Open(*socket)),
                Socket::Open if *socket == newest && page.client.state() == State::Authenticating => {
                    steps.push(Step::Ready(*socket));
                }
                Socket::Open if *socket == newest && page.warnings > 0 => steps.push(Step::Warn(*socket)),
                Socket::Open => {}
                Socket::Lost | Socket::Dropped => steps.push(Step::Hear(*socket)),
            }
            if matches!(at, Socket::Opening | Socket::Open) && page.losses > 0 {
                steps.push(Step::Lose(*socket));
            }
        }
        steps.extend((0..page.asked.len()).map(|place| Step::Answer(u8::try_from(place).unwrap_or(u8::MAX))));
        if page.logins > 0 {
            steps.push(Step::Present);
        }
        if page.is_connecting() && (page.losses > 0 || page.sockets.get(&newest) == Some(&Socket::Lost)) {
            steps.push(Step::Late);
        }
        if page.paused {
            steps.push(Step::Rested);
        }
    }

    fn next_state(&self, last: &Browsing, step: Step) -> Option<Browsing> {
        let mut page = last.clone();
        match step {
            Step::Open(socket) => {
                page.sockets.insert(socket, Socket::Open);
                page.feed(self.mistake, Input::Opened { socket: Generation(socket) });
            }
            Step::Ready(socket) => {
                page.frame(self.mistake, socket, READY);
                if self.mistake == Some(Mistake::SecondOwner) {
                    page.feed(self.mistake, Input::Disconnect);
                    page.rested = true;
                    page.feed(self.mistake, Input::Connect);
                }
            }
            Step::Lose(socket) => {
                page.losses -= 1;
                page.sockets.insert(socket, Socket::Lost);
            }
            Step::Hear(socket) => {
                if self.mistake != Some(Mistake::KeepTheOld) {
                    page.sockets.remove(&socket);
                }
                if self.mistake == Some(Mistake::CallOff) && last.sockets.get(&socket) == Some(&Socket::Dropped) {
                    page.paused = false;
                }
                page.feed(self.mistake, Input::Closed { socket: Generation(socket), code: Cause::Lost.code() });
            }
            Step::Warn(socket) => {
                page.warnings -= 1;
                page.frame(self.mistake, socket, Control::AuthExpiring);
            }
            Step::Answer(place) => {
                let answered = page.asked.remove(usize::from(place));
                let newest = self.mistake == Some(Mistake::TakeAnyToken);
                let asked = if newest { page.client.asked() } else { answered };
                let token = u8::try_from(answered.0).unwrap_or(u8::MAX);
                page.feed(self.mistake, Input::Token { asked, token });
            }
            Step::Present => {
                page.logins -= 1;
                let asked = page.client.asked();
                let token = u8::try_from(asked.0 + 1).unwrap_or(u8::MAX);
                let unasked = self.mistake == Some(Mistake::PresentUnasked);
                page.feed(self.mistake, if unasked { Input::Token { asked, token } } else { Input::Present { token } });
            }
            Step::Late => {
                if page.sockets.get(&page.client.socket().0) != Some(&Socket::Lost) {
                    page.losses -= 1;
                }
                page.feed(self.mistake, Input::Expired(Timer::Connect));
            }
            Step::Rested => {
                page.paused = false;
                page.rested = true;
                page.feed(self.mistake, Input::Expired(Timer::Backoff));
            }
        }
        Some(page)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("AUTH-3", |_: &Self, page: &Browsing| page.broken != Some("AUTH-3")),
            Property::always("LIM-1", |_: &Self, page: &Browsing| page.broken != Some("LIM-1")),
            Property::always("CLIENT-1", |_: &Self, page: &Browsing| page.broken != Some("CLIENT-1")),
        ]
    }
}

impl Proof for Page {
    fn name(&self) -> &'static str {
        "client"
    }

    fn about(&self) -> &'static str {
        "one page, its sockets, pauses and tokens"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![("losses", "2".into()), ("warnings", "2".into()), ("logins", "1".into())]
    }

    fn fairness(&self, step: &Step) -> Option<u8> {
        match step {
            Step::Open(_) => Some(0),
            Step::Ready(_) => Some(1),
            Step::Hear(_) => Some(2),
            Step::Rested => Some(3),
            Step::Answer(_) => Some(4),
            Step::Lose(_) | Step::Warn(_) | Step::Present | Step::Late => None,
        }
    }

    fn promises(&self) -> Vec<Promise<Self>> {
        vec![Promise { id: "LIVE-1", pending: |_, page| page.is_connecting() || page.client.state() == State::Backoff }]
    }
}
