//! Those at the other end: a client each, and what it has shown.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::client::{Client, Input, Output};
use lockstep_model::frame::{Control, From};
use lockstep_model::run::Kind;
use lockstep_model::{
    ConnectionId, Entry, Frame, Generation, Handled, MessageId, Position, Request, RunId, ThreadId, Timer, UserId,
    connection,
};

use super::world::{BOUNDS, World};
use crate::run::Grammar;
use crate::support::Tag;

pub(super) struct Person {
    pub(super) user: UserId,
    pub(super) client: Client<Tag>,
    pub(super) armed: BTreeSet<Timer>,
    /// Where the screen has come to.
    at: Option<Position>,
    messages: u64,
    accepted: BTreeMap<MessageId, RunId>,
}

impl Person {
    pub(super) fn new(user: UserId) -> Self {
        let client = Client::new(From::Earliest);
        Self { user, client, armed: BTreeSet::new(), at: None, messages: 0, accepted: BTreeMap::new() }
    }

    pub(super) fn at(&self) -> Option<Position> {
        self.at
    }
}

impl World {
    pub(super) fn give_token(&mut self, person: usize) {
        let token = self.issue(self.people[person].user);
        let asked = self.people[person].client.asked();
        self.tell(person, Input::Token { asked, token });
    }

    pub(super) fn send(&mut self, person: usize) {
        self.people[person].messages += 1;
        let message = MessageId(1000 * (person as u64 + 1) + self.people[person].messages);
        self.tell(person, Input::Send { message, payload: 0, size: 1 });
    }

    /// One input of a client, and what comes of it.
    pub(super) fn tell(&mut self, person: usize, input: Input<Tag>) {
        let who = &mut self.people[person];
        if let Input::Expired(timer) = &input {
            who.armed.remove(timer);
        }
        let mut out = Vec::new();
        let handled = who.client.step(&BOUNDS, input.clone(), &mut out);
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
        for order in out {
            self.obey(person, order);
        }
        let who = &self.people[person];
        assert_eq!(who.client.position(), who.at);
    }

    fn obey(&mut self, person: usize, order: Output<Tag>) {
        let user = self.people[person].user;
        match order {
            Output::Open { socket } => self.accept(person, socket),
            Output::Close { socket } => {
                if let Some(id) = self.socket_of(person, socket) {
                    self.sockets.get_mut(&id).unwrap().here = false;
                }
            }
            Output::Write(request) => {
                let socket = self.people[person].client.socket();
                let id = self.socket_of(person, socket).unwrap();
                let socket = self.sockets.get_mut(&id).unwrap();
                if !socket.cut {
                    socket.up.push_back(request);
                }
            }
            Output::Deliver(entry) => {
                let store = &self.stores[&user];
                let who = &mut self.people[person];
                let at = who.at.as_mut().unwrap();
                assert_eq!(at.epoch, store.log.epoch(), "STR-2");
                assert_eq!(Some(&entry), store.log.after(at.offset), "STR-1: the next entry, and no other");
                at.offset = entry.offset;
            }
            Output::Notice(_) => {}
            Output::Reset { to, .. } => {
                let at = self.people[person].at.as_mut().unwrap();
                assert!(to >= at.offset, "STR-1: a gap leads forward");
                at.offset = to;
                self.seen.insert("reset".into());
            }
            Output::Accepted { message, run } => {
                assert_eq!(self.people[person].accepted.insert(message, run), None, "answered once");
                let received = self.received(user);
                assert!(received.contains(&(message, run)), "RUN-3: accepted is in the stream");
            }
            Output::Arm(timer, _) => drop(self.people[person].armed.insert(timer)),
            Output::Pause(_) => drop(self.people[person].armed.insert(Timer::Backoff)),
            Output::Disarm(timer) => drop(self.people[person].armed.remove(&timer)),
            Output::Unknown { .. } => drop(self.seen.insert("unknown".into())),
            Output::NeedToken { .. } | Output::Refused { .. } | Output::TooLong { .. } | Output::Error(_) => {}
        }
    }

    fn socket_of(&self, person: usize, number: Generation) -> Option<ConnectionId> {
        let of = |socket: &super::world::Socket| socket.person == person && socket.number == number;
        self.sockets.iter().find(|(_, socket)| of(socket)).map(|(id, _)| *id)
    }

    /// Both ends learn that the socket is open.
    pub(super) fn open(&mut self, id: ConnectionId) {
        let socket = self.sockets.get_mut(&id).unwrap();
        if socket.opened || socket.cut || !socket.here || !socket.there {
            return;
        }
        socket.opened = true;
        let (person, number) = (socket.person, socket.number);
        self.connection(id, connection::Input::Opened);
        self.tell(person, Input::Opened { socket: number });
    }

    /// The gateway reads a request that no client wrote.
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

    /// The client reads one frame, or that the socket was closed.
    pub(super) fn down(&mut self, id: ConnectionId) {
        let socket = self.sockets.get_mut(&id).unwrap();
        if !socket.here {
            return;
        }
        let (person, number) = (socket.person, socket.number);
        if let Some(frame) = socket.down.pop_front() {
            self.tell(person, Input::Frame { socket: number, connection: id, frame });
        } else if let Some(cause) = socket.cause.filter(|_| !socket.there && !socket.cut) {
            socket.here = false;
            self.tell(person, Input::Closed { socket: number, code: cause.code() });
        }
    }

    /// The gateway's writer, which runs only when it was woken.
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

    /// What is on the way is lost; each end notices when it does.
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
            let (person, number) = (socket.person, socket.number);
            self.tell(person, Input::Closed { socket: number, code: 1006 });
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

    /// RUN-1 and RUN-2, read from the logs; `complete` when everything has come to its end.
    pub(super) fn judge_history(&self, complete: bool) {
        for (user, store) in &self.stores {
            let received = self.received(*user);
            let messages: BTreeSet<_> = received.iter().map(|(message, _)| message).collect();
            assert_eq!(messages.len(), received.len(), "RUN-2: a message ran twice: {received:?}");
            let mut runs: BTreeMap<RunId, Grammar> = BTreeMap::new();
            for entry in store.log.history() {
                let read = runs.entry(entry.event.run).or_default().read(entry.event.kind);
                assert_eq!(read, Ok(()), "RUN-1: {entry:?}");
            }
            assert!(!complete || runs.values().all(Grammar::ended), "LIVE-2: {runs:?}");
        }
        for person in &self.people {
            let received = self.received(person.user);
            let here = |(message, run): (&MessageId, &RunId)| received.contains(&(*message, *run));
            assert!(person.accepted.iter().all(here), "RUN-3: what was accepted is in the log");
        }
    }
}
