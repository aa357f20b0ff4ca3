//! One production [`Client`], the sockets that it opens, its timers and its source of tokens.

use std::collections::BTreeMap;

use lockstep_model::client::{Input, Output, State};
use lockstep_model::frame::ReadFrom;
use lockstep_model::{Cause, Client, ConnectionId, Control, Frame, Request, SocketId, Timer, TokenRequestId};
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
            ClientModel { mistake: Some(Mistake::SecondOwner) },
            ClientModel { mistake: None }
        ),
        alone!(
            "B1",
            "reconnect without closing",
            "the client reconnects without closing the socket that it gave up",
            ["LIM-1", "SES-1"],
            ClientModel { mistake: Some(Mistake::KeepTheOld) },
            ClientModel { mistake: None }
        ),
        alone!(
            "B3",
            "close cancels the reconnect",
            "a close that comes after a time-out cancels the pending reconnect",
            ["LIVE-1"],
            ClientModel { mistake: Some(Mistake::CallOff) },
            ClientModel { mistake: None }
        ),
        alone!(
            "B6",
            "old token replaces the new",
            "any token answer is accepted, even for a request from before a reconnect",
            ["AUTH-3"],
            ClientModel { mistake: Some(Mistake::TakeAnyToken) },
            ClientModel { mistake: None }
        ),
        alone!(
            "B22",
            "no pause",
            "the client reconnects immediately after a failure",
            ["CLIENT-1"],
            ClientModel { mistake: Some(Mistake::SkipThePause) },
            ClientModel { mistake: None }
        ),
        alone!(
            "C5",
            "late token replaces the user's",
            "a token from the user leaves the pending request open, so the provider's older answer replaces it",
            ["AUTH-3"],
            ClientModel { mistake: Some(Mistake::PresentUnasked) },
            ClientModel { mistake: None }
        ),
        alone!(
            "X108",
            "connected before there is a token",
            "a page connects as soon as it is loaded, with an empty credential, and fetches the token meanwhile",
            ["CLIENT-1"],
            ClientModel { mistake: Some(Mistake::ConnectAtOnce) },
            ClientModel { mistake: None }
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
    ConnectAtOnce,
}

/// The model.
#[derive(Clone, Debug)]
struct ClientModel {
    mistake: Option<Mistake>,
}

/// How far a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Socket {
    Opening,
    Open,
    /// It was lost, and the client has not noticed.
    Lost,
    /// It was lost, and the client gave it up before noticing.
    Dropped,
}

/// A client and its surroundings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ClientState {
    client: Client<u8>,
    /// The sockets that the client holds.
    sockets: BTreeMap<u32, Socket>,
    /// Token requests that are not answered.
    asked: Vec<TokenRequestId>,
    /// Whether a token was fetched, or came from the user.
    has_token: bool,
    /// The newest token that was written.
    written: u8,
    /// Whether a pause must pass.
    paused: bool,
    /// Whether a pause has passed since the last socket was opened.
    rested: bool,
    /// Failures and warnings that may still occur.
    losses: u8,
    warnings: u8,
    logins: u8,
    broken: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The user connects.
    Connect,
    /// A socket opens.
    Open(u32),
    /// The gateway is ready for the client.
    Ready(u32),
    /// A socket is lost.
    Lose(u32),
    /// The client notices that it is lost.
    Hear(u32),
    /// The gateway asks for a newer token.
    Warn(u32),
    /// A token answers the request at this index.
    Answer(u8),
    /// The user logs in again.
    Present,
    /// A connection attempt times out.
    Late,
    /// The pause ends.
    Rested,
}

impl ClientState {
    fn feed(&mut self, mistake: Option<Mistake>, input: Input<u8>) {
        let mut outputs = Vec::new();
        let _ = self.client.step(&setup::small(), input, &mut outputs);
        for output in outputs {
            match output {
                Output::Open { socket } => {
                    if !self.has_token {
                        self.broken.get_or_insert("CLIENT-1");
                    }
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
        self.feed(mistake, Input::Frame { socket: SocketId(socket), connection, frame });
    }

    fn is_connecting(&self) -> bool {
        matches!(self.client.state(), State::Connecting | State::Authenticating)
    }
}

impl Model for ClientModel {
    type State = ClientState;
    type Action = Step;

    fn init_states(&self) -> Vec<ClientState> {
        vec![ClientState {
            client: Client::new(ReadFrom::Latest),
            sockets: BTreeMap::new(),
            asked: Vec::new(),
            has_token: false,
            written: 0,
            paused: false,
            rested: false,
            losses: 2,
            warnings: 2,
            logins: 1,
            broken: None,
        }]
    }

    fn actions(&self, state: &ClientState, steps: &mut Vec<Step>) {
        if state.broken.is_some() {
            return;
        }
        if state.client.state() == State::Idle {
            return steps.push(Step::Connect);
        }
        let newest = state.client.socket().0;
        for (socket, at) in &state.sockets {
            match at {
                Socket::Opening => steps.push(Step::Open(*socket)),
                Socket::Open if *socket == newest && state.client.state() == State::Authenticating => {
                    steps.push(Step::Ready(*socket));
                }
                Socket::Open if *socket == newest && state.warnings > 0 => steps.push(Step::Warn(*socket)),
                Socket::Open => {}
                Socket::Lost | Socket::Dropped => steps.push(Step::Hear(*socket)),
            }
            if matches!(at, Socket::Opening | Socket::Open) && state.losses > 0 {
                steps.push(Step::Lose(*socket));
            }
        }
        steps.extend((0..state.asked.len()).map(|place| Step::Answer(u8::try_from(place).unwrap_or(u8::MAX))));
        if state.logins > 0 {
            steps.push(Step::Present);
        }
        if state.is_connecting() && (state.losses > 0 || state.sockets.get(&newest) == Some(&Socket::Lost)) {
            steps.push(Step::Late);
        }
        if state.paused {
            steps.push(Step::Rested);
        }
    }

    fn next_state(&self, last: &ClientState, step: Step) -> Option<ClientState> {
        let mut state = last.clone();
        match step {
            Step::Connect => {
                if self.mistake == Some(Mistake::ConnectAtOnce) {
                    state.feed(self.mistake, Input::Token { asked: TokenRequestId(0), token: 0 });
                }
                state.feed(self.mistake, Input::Connect);
            }
            Step::Open(socket) => {
                state.sockets.insert(socket, Socket::Open);
                state.feed(self.mistake, Input::Opened { socket: SocketId(socket) });
            }
            Step::Ready(socket) => {
                state.frame(self.mistake, socket, READY);
                if self.mistake == Some(Mistake::SecondOwner) {
                    state.feed(self.mistake, Input::Disconnect);
                    state.rested = true;
                    state.feed(self.mistake, Input::Connect);
                }
            }
            Step::Lose(socket) => {
                state.losses -= 1;
                state.sockets.insert(socket, Socket::Lost);
            }
            Step::Hear(socket) => {
                if self.mistake != Some(Mistake::KeepTheOld) {
                    state.sockets.remove(&socket);
                }
                if self.mistake == Some(Mistake::CallOff) && last.sockets.get(&socket) == Some(&Socket::Dropped) {
                    state.paused = false;
                }
                state.feed(self.mistake, Input::Closed { socket: SocketId(socket), code: Cause::Lost.code() });
            }
            Step::Warn(socket) => {
                state.warnings -= 1;
                state.frame(self.mistake, socket, Control::AuthExpiring);
            }
            Step::Answer(place) => {
                let answered = state.asked.remove(usize::from(place));
                let newest = self.mistake == Some(Mistake::TakeAnyToken);
                let asked = if newest { state.client.asked() } else { answered };
                let token = u8::try_from(answered.0).unwrap_or(u8::MAX);
                state.has_token = true;
                state.feed(self.mistake, Input::Token { asked, token });
            }
            Step::Present => {
                (state.logins, state.has_token) = (state.logins - 1, true);
                let asked = state.client.asked();
                let token = u8::try_from(asked.0 + 1).unwrap_or(u8::MAX);
                let unasked = self.mistake == Some(Mistake::PresentUnasked);
                state
                    .feed(self.mistake, if unasked { Input::Token { asked, token } } else { Input::Present { token } });
            }
            Step::Late => {
                if state.sockets.get(&state.client.socket().0) != Some(&Socket::Lost) {
                    state.losses -= 1;
                }
                state.feed(self.mistake, Input::Expired(Timer::Connect));
            }
            Step::Rested => {
                state.paused = false;
                state.rested = true;
                state.feed(self.mistake, Input::Expired(Timer::Backoff));
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("AUTH-3", |_: &Self, state: &ClientState| state.broken != Some("AUTH-3")),
            Property::always("LIM-1", |_: &Self, state: &ClientState| state.broken != Some("LIM-1")),
            Property::always("CLIENT-1", |_: &Self, state: &ClientState| state.broken != Some("CLIENT-1")),
        ]
    }
}

impl Proof for ClientModel {
    fn name(&self) -> &'static str {
        "client"
    }

    fn about(&self) -> &'static str {
        "one client, its sockets, pauses and tokens"
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
            Step::Connect | Step::Lose(_) | Step::Warn(_) | Step::Present | Step::Late => None,
        }
    }

    fn promises(&self) -> Vec<Promise<Self>> {
        vec![Promise {
            id: "LIVE-1",
            pending: |_, state| state.is_connecting() || state.client.state() == State::Backoff,
        }]
    }
}
