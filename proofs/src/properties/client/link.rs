//! CLIENT-1: a client's socket, the pauses between sockets, and the credential that they wait for.
//!
//! | rule | sentence |
//! | --- | --- |
//! | `opens` | a socket is opened when the user connects, after a pause, with the first credential, and when an announced departure is over |
//! | `ends` | what ends a socket, or a stay away, and whether the client comes back |
//! | `pause` | pauses grow with each failure, until a connection proves stable |
//! | `asks` | a credential is asked for before the first socket, when the old one expires, and to be allowed back |
#![expect(clippy::wildcard_enum_match_arm, reason = "some inputs are selected among all")]

use core::time::Duration;

use lockstep_model::client::{Input, MAX_SHORT, Output};
use lockstep_model::frame::ReadFrom;
use lockstep_model::{Bounds, ConnectionId, Control, Frame, Request, Resume, SocketId, Timer, TokenRequestId};

use super::Effects;
use super::reading::Heard;

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// The user does not want to be connected.
    Idle,
    Pausing,
    Opening,
    Authenticating,
    Ready,
    /// The client stays away until something changes.
    Stopped,
}

/// What was observed of a client's sockets and credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Link {
    pub(crate) stage: Stage,
    /// Whether the gateway said that it goes away.
    pub(crate) going: bool,
    /// Whether the heartbeat is unanswered.
    pub(crate) probing: bool,
    /// Whether the connection has yet to prove stable.
    pub(crate) unproven: bool,
    /// Whether the client has paused since it last opened a socket.
    paused: bool,
    /// The number of sockets so far, which is the newest.
    sockets: u32,
    /// The number of credentials that were asked for or presented.
    asked: u32,
    credential: Option<u8>,
    /// The newest connection that was ready.
    connection: Option<ConnectionId>,
    /// The attempts since a connection proved stable.
    pub(crate) failures: u8,
    /// Whether a stable gateway has left as planned, and none has been ready since.
    pub(crate) succession: bool,
}

/// Where a socket's end, or a change, leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Idle,
    Back,
    Away,
}

impl Link {
    pub(crate) const fn new() -> Self {
        Self {
            stage: Stage::Idle,
            going: false,
            probing: false,
            unproven: false,
            paused: false,
            sockets: 0,
            asked: 0,
            credential: None,
            connection: None,
            failures: 0,
            succession: false,
        }
    }

    pub(crate) const fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready)
    }

    pub(crate) const fn asked(&self) -> TokenRequestId {
        TokenRequestId(self.asked)
    }

    /// The newest socket.
    pub(crate) const fn newest(&self) -> SocketId {
        SocketId(self.sockets)
    }

    pub(crate) const fn has_socket(&self) -> bool {
        matches!(self.stage, Stage::Opening | Stage::Authenticating | Stage::Ready)
    }

    /// Whether this is the socket that neither side has closed.
    pub(crate) fn is_current(&self, socket: SocketId) -> bool {
        self.has_socket() && socket == self.newest()
    }

    /// Whether these outputs leave the socket that there was.
    pub(super) fn has_left(&self, outputs: &[Output<u8>]) -> bool {
        !self.has_socket() || outputs.iter().any(|output| matches!(output, Output::Open { .. }))
    }

    /// Takes an input that counts. `fewer` says whether it settled messages, `from` where the client goes on reading.
    pub(super) fn take(
        &mut self,
        bounds: &Bounds,
        input: &Input<u8>,
        heard: Heard,
        fewer: bool,
        from: ReadFrom,
        effects: &mut Effects,
    ) {
        self.note(input);
        let (opens, ends) = (self.opens(input), self.ends(input, heard, fewer));
        let asks = self.asks(input, opens, ends);
        let writes = self.writes(input, from);
        let out = &mut effects.link;
        let drops = self.has_socket() && (ends.is_some() || opens);
        out.extend(drops.then_some(Output::Close { socket: self.newest() }));
        if let Some(end) = ends {
            self.leave(end);
        }
        if ends == Some(End::Back) {
            out.push(Output::Pause(self.pause(bounds)));
            (self.failures, self.paused) = (self.failures.saturating_add(1), true);
        }
        if opens {
            // A departure that was announced is a failure without a pause.
            self.failures = self.failures.max(u8::from(self.going));
            self.leave(End::Away);
        }
        if opens && self.credential.is_some() {
            (self.stage, self.sockets, self.paused) = (Stage::Opening, self.sockets + 1, false);
            out.push(Output::Open { socket: self.newest() });
            effects.arms.push((Timer::Connect, bounds.connect));
        }
        if asks {
            self.asked += 1;
            out.push(Output::NeedToken { asked: self.asked() });
        }
        if let Some(request) = writes {
            if request == Request::Ping {
                let patience = bounds.pong * (1 << self.failures.min(3));
                effects.arms.push((Timer::Heartbeat, patience));
            }
            out.push(Output::Write(request));
        }
        self.enter(bounds, input, &mut effects.arms);
    }

    /// What an input says of the credential, the connection and the gateway.
    fn note(&mut self, input: &Input<u8>) {
        match input {
            Input::Token { token, .. } => self.credential = Some(*token),
            Input::Present { token } => (self.credential, self.asked) = (Some(*token), self.asked + 1),
            Input::Expired(Timer::Stable) => (self.failures, self.unproven) = (0, false),
            Input::Closed { .. } | Input::Frame { .. } => {
                self.probing = false;
                // Only a gateway that had proved stable is expected to have a successor. A lost socket implies
                // nothing, and any other end that none comes.
                let leaves = matches!(input, Input::Frame { frame: Frame::Control(Control::GoingAway(_)), .. });
                match code(input) {
                    Some(1006) => {}
                    Some(code) if code != 4000 => self.succession = false,
                    Some(_) => self.succession |= self.failures == 0,
                    None => self.succession |= leaves && self.failures == 0,
                }
            }
            Input::Connect
            | Input::Disconnect
            | Input::Send { .. }
            | Input::Withdraw { .. }
            | Input::Opened { .. }
            | Input::Limits { .. }
            | Input::Expired(_) => {}
        }
    }

    /// When the next socket is due. There is none without a credential.
    fn opens(&self, input: &Input<u8>) -> bool {
        let credential = matches!(input, Input::Token { .. } | Input::Present { .. });
        let wanted = self.stage == Stage::Idle && *input == Input::Connect;
        let rested = self.paused && *input == Input::Expired(Timer::Backoff);
        let first = self.stage == Stage::Stopped && self.sockets == 0 && credential;
        let told = self.failures == 0 && *input == Input::Expired(Timer::Leave);
        wanted || rested || first || told
    }

    /// What ends a socket. A code that advises to stay away is followed, unless the client returns without the messages
    /// that caused it. What ends a stay away: the user connects again, or there is a new credential.
    fn ends(&self, input: &Input<u8>, heard: Heard, fewer: bool) -> Option<End> {
        match input {
            Input::Disconnect => Some(End::Idle),
            Input::Closed { .. } | Input::Frame { frame: Frame::Close(_), .. } => {
                let stays = code(input).is_some_and(away) && !fewer;
                Some(if stays { End::Away } else { End::Back })
            }
            Input::Frame { .. } => (heard == Heard::Skipped).then_some(End::Back),
            Input::Expired(Timer::Connect) => Some(End::Back),
            Input::Expired(Timer::Heartbeat) => self.probing.then_some(End::Back),
            Input::Expired(Timer::Leave) => (self.failures > 0).then_some(End::Back),
            Input::Connect => (self.stage == Stage::Stopped && self.credential.is_some()).then_some(End::Back),
            Input::Token { .. } | Input::Present { .. } => {
                (self.stage == Stage::Stopped && self.sockets > 0).then_some(End::Back)
            }
            Input::Send { .. }
            | Input::Withdraw { .. }
            | Input::Opened { .. }
            | Input::Limits { .. }
            | Input::Expired(_) => None,
        }
    }

    fn asks(&self, input: &Input<u8>, opens: bool, ends: Option<End>) -> bool {
        let expires = matches!(input, Input::Frame { frame: Frame::Control(Control::AuthExpiring), .. });
        let missing = self.credential.is_none() && (opens || *input == Input::Connect);
        ends == Some(End::Away) || missing || (expires && self.is_ready())
    }

    /// The credential, and the heartbeat.
    fn writes(&self, input: &Input<u8>, from: ReadFrom) -> Option<Request<u8>> {
        let resume = match input {
            Input::Opened { .. } => Resume { from, replaces: self.connection },
            Input::Token { .. } | Input::Present { .. } if self.is_ready() => Resume::default(),
            Input::Expired(Timer::Heartbeat) => return (!self.probing).then_some(Request::Ping),
            _ => return None,
        };
        self.credential.map(|token| Request::Auth { token, resume })
    }

    /// The pause after the failures so far: it doubles up to the longest, which is lower while a successor is awaited,
    /// for a number of attempts.
    fn pause(&self, bounds: &Bounds) -> Duration {
        let short = self.succession && self.failures < MAX_SHORT;
        let most = if short { bounds.backoff_most.min(bounds.backoff * 4) } else { bounds.backoff_most };
        (0..self.failures).fold(bounds.backoff, |pause, _| (pause * 2).min(most))
    }

    const fn leave(&mut self, end: End) {
        self.stage = match end {
            End::Idle => Stage::Idle,
            End::Back => Stage::Pausing,
            End::Away => Stage::Stopped,
        };
        (self.going, self.probing, self.unproven) = (false, false, false);
    }

    /// The stages that follow from an input alone, and their deadlines.
    fn enter(&mut self, bounds: &Bounds, input: &Input<u8>, arms: &mut Vec<(Timer, Duration)>) {
        match input {
            Input::Opened { .. } => self.stage = Stage::Authenticating,
            Input::Expired(Timer::Heartbeat) if self.is_ready() => self.probing = true,
            Input::Frame { connection, frame: Frame::Control(Control::Ready { .. }), .. }
                if self.stage == Stage::Authenticating =>
            {
                (self.stage, self.unproven, self.succession) = (Stage::Ready, true, false);
                self.connection = Some(*connection);
                arms.push((Timer::Stable, bounds.stable));
            }
            Input::Frame { frame: Frame::Control(Control::GoingAway(_)), .. } => {
                self.going = true;
                arms.push((Timer::Leave, bounds.backoff));
            }
            _ => {}
        }
    }
}

/// The code with which an input closes a socket.
pub(super) const fn code(input: &Input<u8>) -> Option<u16> {
    match input {
        Input::Closed { code, .. } => Some(*code),
        Input::Frame { frame: Frame::Close(cause), .. } => Some(cause.code()),
        _ => None,
    }
}

/// 4500 and above, and codes where a retry would only fail again: stay away until something changes. All others: come
/// back.
pub(crate) const fn away(code: u16) -> bool {
    matches!(code, 1002 | 1003 | 1007 | 1008 | 1009 | 1010 | 4500..5000)
}
