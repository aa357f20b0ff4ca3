//! The simulated clients: each a client machine, and what it has shown.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::client::{Client, Input, Output};
use lockstep_model::frame::{Control, ReadFrom};
use lockstep_model::run::Kind;
use lockstep_model::{
    ConnectionId, Entry, Frame, Handled, MessageId, Position, Request, RunId, SocketId, ThreadId, Timer, ToolId,
    UserId, connection,
};

use super::world::{BOUNDS, World};
use crate::properties::run::Grammar;
use crate::support::Tag;

pub(super) struct SimulatedClient {
    pub(super) user: UserId,
    pub(super) machine: Client<Tag>,
    pub(super) armed: BTreeSet<Timer>,
    /// The position of what was shown.
    at: Option<Position>,
    messages: u64,
    accepted: BTreeMap<MessageId, RunId>,
}

impl SimulatedClient {
    pub(super) fn new(user: UserId) -> Self {
        let machine = Client::new(ReadFrom::Earliest);
        Self { user, machine, armed: BTreeSet::new(), at: None, messages: 0, accepted: BTreeMap::new() }
    }

    pub(super) fn at(&self) -> Option<Position> {
        self.at
    }
}

impl World {
    pub(super) fn give_token(&mut self, client: usize) {
        let token = self.issue(self.clients[client].user);
        let asked = self.clients[client].machine.asked();
        self.tell(client, Input::Token { asked, token });
    }

    pub(super) fn send(&mut self, client: usize) {
        self.clients[client].messages += 1;
        let message = MessageId(1000 * (client as u64 + 1) + self.clients[client].messages);
        self.tell(client, Input::Send { message, payload: 0, size: 1 });
    }

    /// Steps one client and dispatches its outputs.
    pub(super) fn tell(&mut self, client: usize, input: Input<Tag>) {
        let who = &mut self.clients[client];
        if let Input::Expired(timer) = &input {
            who.armed.remove(timer);
        }
        let mut out = Vec::new();
        let handled = who.machine.step(&BOUNDS, input.clone(), &mut out);
        if let Input::Frame { frame: Frame::Control(Control::Ready { epoch, offset, resumed, .. }), .. } = input
            && handled == Ok(Handled::Done)
        {
            let place = Position { epoch, offset };
            assert!(!resumed || who.at.is_none_or(|at| at == place), "STR-1: resumed elsewhere");
            if who.at.is_some() {
                self.seen.insert(if resumed { "resumed".into() } else { "not resumed".into() });
            }
            who.at = Some(place);
        }
        for output in out {
            self.dispatch_client(client, output);
        }
        let who = &self.clients[client];
        assert_eq!(who.machine.position(), who.at);
    }

    fn dispatch_client(&mut self, client: usize, output: Output<Tag>) {
        let user = self.clients[client].user;
        match output {
            Output::Open { socket } => self.accept(client, socket),
            Output::Close { socket } => {
                if let Some(id) = self.socket_of(client, socket) {
                    self.sockets.get_mut(&id).unwrap().here = false;
                }
            }
            Output::Write(request) => {
                let socket = self.clients[client].machine.socket();
                let id = self.socket_of(client, socket).unwrap();
                let socket = self.sockets.get_mut(&id).unwrap();
                if !socket.cut {
                    socket.up.push_back(request);
                }
            }
            Output::Deliver(entry) => {
                let store = &self.stores[&user];
                let who = &mut self.clients[client];
                let at = who.at.as_mut().unwrap();
                assert_eq!(at.epoch, store.log.epoch(), "STR-2");
                assert_eq!(Some(&entry), store.log.after(at.offset), "STR-1: the next entry, and no other");
                at.offset = entry.offset;
            }
            Output::Notice(_) => {}
            Output::Reset { to, .. } => {
                let at = self.clients[client].at.as_mut().unwrap();
                assert!(to >= at.offset, "STR-1: a gap leads forward");
                at.offset = to;
                self.seen.insert("reset".into());
            }
            Output::Accepted { message, run } => {
                assert_eq!(self.clients[client].accepted.insert(message, run), None, "answered once");
                let received = self.received(user);
                assert!(received.contains(&(message, run)), "RUN-3: accepted is in the stream");
            }
            Output::Arm(timer, _) => drop(self.clients[client].armed.insert(timer)),
            Output::Pause(_) => drop(self.clients[client].armed.insert(Timer::Backoff)),
            Output::Disarm(timer) => drop(self.clients[client].armed.remove(&timer)),
            Output::Unknown { .. } => drop(self.seen.insert("unknown".into())),
            Output::NeedToken { .. } | Output::Refused { .. } | Output::TooLong { .. } | Output::Error(_) => {}
        }
    }

    fn socket_of(&self, client: usize, number: SocketId) -> Option<ConnectionId> {
        let of = |socket: &super::world::Socket| socket.client == client && socket.number == number;
        self.sockets.iter().find(|(_, socket)| of(socket)).map(|(id, _)| *id)
    }

    /// Both ends learn that the socket is open.
    pub(super) fn open(&mut self, id: ConnectionId) {
        let socket = self.sockets.get_mut(&id).unwrap();
        if socket.opened || socket.cut || !socket.here || !socket.there {
            return;
        }
        socket.opened = true;
        let (client, number) = (socket.client, socket.number);
        self.connection(id, connection::Input::Opened);
        self.tell(client, Input::Opened { socket: number });
    }

    /// The gateway reads a request that the client did not write.
    pub(super) fn receive(&mut self, id: ConnectionId, request: Request<Tag>) {
        let socket = &self.sockets[&id];
        if socket.there && socket.opened && !socket.cut {
            self.connection(id, connection::Input::Received(request));
        }
    }

    /// The gateway reads one request.
    pub(super) fn up(&mut self, id: ConnectionId) {
        let socket = self.sockets.get_mut(&id).unwrap();
        if !socket.there {
            return;
        }
        if let Some(mut request) = socket.up.pop_front() {
            if let Request::Message { message, thread, run, .. } = &mut request {
                *thread = ThreadId(message.0 % 3);
                self.runs += 1;
                *run = RunId(self.runs);
            }
            self.connection(id, connection::Input::Received(request));
        } else if !socket.here && !socket.cut {
            self.connection(id, connection::Input::Gone(lockstep_model::Cause::PeerClosed));
        }
    }

    /// The client reads one frame, or the close of the socket.
    pub(super) fn down(&mut self, id: ConnectionId) {
        let socket = self.sockets.get_mut(&id).unwrap();
        if !socket.here {
            return;
        }
        let (client, number) = (socket.client, socket.number);
        if let Some(frame) = socket.down.pop_front() {
            self.tell(client, Input::Frame { socket: number, connection: id, frame });
        } else if let Some(cause) = socket.cause.filter(|_| !socket.there && !socket.cut) {
            socket.here = false;
            self.tell(client, Input::Closed { socket: number, code: cause.code() });
        }
    }

    /// The gateway's writer, which runs only after a wake-up.
    pub(super) fn pull(&mut self, id: ConnectionId, budget: usize) {
        let socket = self.sockets.get_mut(&id).unwrap();
        if !socket.awake || !socket.there {
            return;
        }
        socket.awake = false;
        let (before, closing) = (socket.down.len(), self.gateway.user_of(id).is_none());
        let _ = self.step(lockstep_model::gateway::Input::Pull { connection: id, budget });
        let socket = self.sockets.get_mut(&id).unwrap();
        socket.awake |= !closing && (socket.down.len() - before >= budget || (socket.cut || !socket.here));
    }

    /// Everything in flight is lost; each end notices in its own time.
    pub(super) fn cut(&mut self, id: ConnectionId) {
        let socket = self.sockets.get_mut(&id).unwrap();
        socket.cut = true;
        socket.up.clear();
        socket.down.clear();
    }

    pub(super) fn notice(&mut self, id: ConnectionId, here: bool) {
        let socket = self.sockets.get_mut(&id).unwrap();
        if !socket.cut {
            return;
        }
        if here && socket.here {
            socket.here = false;
            let (client, number) = (socket.client, socket.number);
            self.tell(client, Input::Closed { socket: number, code: 1006 });
        } else if !here && socket.there {
            self.connection(id, connection::Input::Gone(lockstep_model::Cause::Lost));
        }
    }

    /// Every message of a user that any epoch of the log has.
    fn received(&self, user: UserId) -> Vec<(MessageId, RunId)> {
        let store = &self.stores[&user];
        let entries = store.lost.iter().flatten().chain(store.log.history());
        let message = |entry: &Entry<Tag>| {
            if let Kind::Received(received) = entry.event.kind {
                Some((received.message, entry.event.run))
            } else {
                None
            }
        };
        entries.filter_map(message).collect()
    }

    /// RUN-1 and RUN-2 over the logs; with `complete`, every run must have ended.
    pub(super) fn check_history(&self, complete: bool) {
        for (user, store) in &self.stores {
            let received = self.received(*user);
            let messages: BTreeSet<_> = received.iter().map(|(message, _)| message).collect();
            assert_eq!(messages.len(), received.len(), "RUN-2: a message ran twice: {received:?}");
            let mut runs: BTreeMap<RunId, Grammar<ToolId>> = BTreeMap::new();
            for entry in store.log.history() {
                let read = runs.entry(entry.event.run).or_default().take(entry.event.kind.into());
                assert_eq!(read, Ok(()), "RUN-1: {entry:?}");
            }
            assert!(!complete || runs.values().all(Grammar::has_ended), "LIVE-2: {runs:?}");
        }
        for client in &self.clients {
            let received = self.received(client.user);
            let here = |(message, run): (&MessageId, &RunId)| received.contains(&(*message, *run));
            assert!(client.accepted.iter().all(here), "RUN-3: what was accepted is in the log");
        }
    }
}
