//! The client, its sockets and their relays.

use lockstep_model::frame::ReadFrom;
use lockstep_model::gateway::Input;
use lockstep_model::{Cause, ConnectionId, Frame, Request, Resume, Timer, client, connection};

use super::step::{TOKEN, Work, bounds};
use super::{Link, Mistake, Pair, Payload, Relay, State};
use crate::properties::stream::Reader;

impl State {
    pub(super) fn connect(&mut self, pair: &Pair, node: usize, work: &mut Work) {
        self.side.opening = false;
        self.left.sockets -= 1;
        let socket = self.side.client.socket();
        let connection = ConnectionId(u64::from(socket.0));
        self.side.link = Some(Link { node, connection, socket, reader: Reader::default() });
        self.feed(pair, node, Input::Accept { connection }, work);
        if self.side.link.is_some() {
            self.feed(pair, node, Input::Connection { connection, input: connection::Input::Opened }, work);
            self.client(client::Input::Opened { socket }, work);
        }
    }

    /// The client's socket is gone: both sides learn of it.
    pub(super) fn unlink(&mut self, cause: Cause, work: &mut Work) {
        let Some(link) = self.side.link.take() else { return };
        work.inputs.push_back((link.node, link.connection, connection::Input::Gone(Cause::Lost)));
        self.client(client::Input::Closed { socket: link.socket, code: cause.code() }, work);
    }

    /// The relaying process asks the owner's to take the connection.
    pub(super) fn open_relay(&mut self, pair: &Pair, work: &mut Work) {
        let Some(relay) = self.relay.clone() else { return };
        let owner = (0..2).find(|node| self.incarnation(*node) == relay.owner && !self.nodes[*node].stopped);
        let moved = (relay.via, relay.near, connection::Input::Close(Cause::Moved));
        let Some(node) = owner.filter(|node| *node != relay.via) else {
            self.relay = None;
            return work.inputs.push_back(moved);
        };
        let connection = ConnectionId(relay.near.0 + 64);
        self.relay = Some(Relay { far: Some((node, connection)), ..relay });
        self.feed(pair, node, Input::Accept { connection }, work);
        if self.relay.is_none() {
            return;
        }
        work.inputs.push_back((node, connection, connection::Input::OpenedByMember));
        work.inputs.push_back((relay.via, relay.near, connection::Input::RelayOpened));
        let mut auth = self.side.auth.clone();
        if pair.mistake == Some(Mistake::ForgetsPosition) {
            let resume = Resume { from: ReadFrom::Latest, ..Resume::default() };
            auth = auth.map(|_| Request::Auth { token: TOKEN, resume });
        }
        work.inputs.extend(auth.map(|auth| (node, connection, connection::Input::Received(auth))));
    }

    /// A gateway lets go of a connection.
    pub(super) fn closed(&mut self, node: usize, connection: ConnectionId, cause: Cause, work: &mut Work) {
        if let Some(relay) = self.relay.clone() {
            if relay.far == Some((node, connection)) {
                self.relay = None;
                return work.inputs.push_back((relay.via, relay.near, connection::Input::Close(cause)));
            }
            if (relay.via, relay.near) == (node, connection) {
                self.relay = None;
                work.inputs.extend(relay.far.map(|(far, id)| (far, id, connection::Input::Gone(Cause::Lost))));
            }
        }
        if let Some(link) = self.side.link.take_if(|link| (link.node, link.connection) == (node, connection)) {
            self.client(client::Input::Closed { socket: link.socket, code: cause.code() }, work);
        }
    }

    /// A gateway sends a frame, to the client or to the process that relays.
    pub(super) fn frame(&mut self, node: usize, connection: ConnectionId, frame: Frame<Payload>, work: &mut Work) {
        let relayed = self.relay.as_ref().is_some_and(|relay| relay.far == Some((node, connection)));
        let near = self.side.link.as_ref().is_some_and(|link| (link.node, link.connection) == (node, connection));
        // How the owner's process closes the relay becomes the cause of the client's close.
        if !(near || (relayed && !matches!(frame, Frame::Close(_)))) {
            return;
        }
        self.check_frame(&frame);
        self.observed.relayed |= relayed && matches!(frame, Frame::Event(_));
        let Some(link) = &self.side.link else { return };
        let (socket, connection) = (link.socket, link.connection);
        self.client(client::Input::Frame { socket, connection, frame }, work);
    }

    /// Feeds the client and dispatches its outputs.
    pub(super) fn client(&mut self, input: client::Input<Payload>, work: &mut Work) {
        let mut outputs = Vec::new();
        let _ = self.side.client.step(&bounds(), input, &mut outputs);
        for output in outputs {
            match output {
                client::Output::Open { .. } => self.side.opening = true,
                client::Output::Close { socket } => {
                    self.side.opening = false;
                    if let Some(link) = self.side.link.take_if(|link| link.socket == socket) {
                        let gone = connection::Input::Gone(Cause::PeerClosed);
                        work.inputs.push_back((link.node, link.connection, gone));
                    }
                }
                client::Output::Write(request) => work.up.push_back(request),
                client::Output::NeedToken { .. } => self.side.wants_token = true,
                client::Output::Pause(_) | client::Output::Arm(Timer::Leave, _) => self.side.pausing = true,
                client::Output::Disarm(Timer::Backoff | Timer::Leave) => self.side.pausing = false,
                client::Output::Deliver(_)
                | client::Output::Notice(_)
                | client::Output::Reset { .. }
                | client::Output::Accepted { .. }
                | client::Output::Refused { .. }
                | client::Output::TooLong { .. }
                | client::Output::Unknown { .. }
                | client::Output::Error(_)
                | client::Output::Arm(..)
                | client::Output::Disarm(_) => {}
            }
        }
    }
}
