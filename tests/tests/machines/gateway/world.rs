//! A process and its environment: sockets that can be cut at either end, a verifier, a log per user, agents, an
//! operator.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lockstep_model::Session;
use lockstep_model::connection;
use lockstep_model::frame::Control;
use lockstep_model::gateway::{Input, Output, Outputs, Place, SessionOutput};
use lockstep_model::timer::Owner;
use lockstep_model::{
    Attempt, Bounds, Cause, Connection, ConnectionId, CredentialId, Entry, Frame, Gateway, Generation, Grant, Handled,
    Refusal, Request, RevocationGeneration, RunId, SocketId, Timer, UserId, node, session,
};

use super::clients::SimulatedClient;
use crate::log::Log;
use crate::support::{SMALL, Tag, lawful, survives_json};

/// Requests are not limited: a client that comes back writes all unanswered ones at once.
pub(super) const BOUNDS: Bounds = Bounds { requests: 0, outbox: 4, connections: 2, ..SMALL };

pub(super) struct Socket {
    pub(super) client: usize,
    pub(super) number: SocketId,
    /// In flight to the gateway, and from it.
    pub(super) up: VecDeque<Request<Tag>>,
    pub(super) down: VecDeque<Frame<Tag>>,
    pub(super) opened: bool,
    /// Whether the gateway's end has been woken since it last found nothing.
    pub(super) awake: bool,
    /// Whether the client, and the gateway, still hold their ends.
    pub(super) here: bool,
    pub(super) there: bool,
    pub(super) cut: bool,
    pub(super) cause: Option<Cause>,
    presented: Attempt,
    /// The credential under which frames may leave.
    credential: Option<Grant>,
    ready: bool,
}

#[derive(Default)]
pub(super) struct Store {
    pub(super) log: Log,
    /// The entries of earlier epochs.
    pub(super) lost: Vec<Vec<Entry<Tag>>>,
    pub(super) writer: Generation,
    pub(super) restoring: Option<(Generation, Attempt)>,
}

pub(super) struct World {
    pub(super) gateway: Gateway<Tag>,
    pub(super) sockets: BTreeMap<ConnectionId, Socket>,
    pub(super) clients: Vec<SimulatedClient>,
    pub(super) stores: BTreeMap<UserId, Store>,
    pub(super) verifier: Vec<(ConnectionId, Attempt, Option<Grant>)>,
    pub(super) armed: BTreeSet<(Place, Timer)>,
    pub(super) agents: BTreeMap<RunId, (UserId, Generation)>,
    /// Credentials, indexed by their token, and whether each is revoked.
    pub(super) credentials: Vec<(Grant, bool)>,
    pub(super) runs: u64,
    connections: u64,
    pub(super) stopped: bool,
    /// What has happened at least once, in words.
    pub(super) seen: BTreeSet<String>,
}

impl World {
    /// One simulated client for each of these users.
    pub(super) fn new(users: &[u64]) -> Self {
        let mut world = Self {
            gateway: Gateway::new(),
            sockets: BTreeMap::new(),
            clients: users.iter().map(|user| SimulatedClient::new(UserId(*user))).collect(),
            stores: users.iter().map(|user| (UserId(*user), Store::default())).collect(),
            verifier: Vec::new(),
            armed: BTreeSet::new(),
            agents: BTreeMap::new(),
            credentials: Vec::new(),
            runs: 0,
            connections: 0,
            stopped: false,
            seen: BTreeSet::new(),
        };
        assert_eq!(world.step(Input::Node(node::Input::Started)), Ok(Handled::Done));
        for client in 0..users.len() {
            world.give_token(client);
        }
        world
    }

    /// Issues a credential; its token is its number.
    pub(super) fn issue(&mut self, user: UserId) -> Tag {
        let token = self.credentials.len();
        // The generation is set when the gateway begins a verification.
        let generation = RevocationGeneration(0);
        self.credentials.push((Grant { user, credential: CredentialId(token as u64), generation }, false));
        Tag::try_from(token).unwrap()
    }

    pub(super) fn step(&mut self, input: Input<Tag>) -> Result<Handled, Refusal> {
        let (before, mut outputs) = (self.gateway.clone(), Outputs::new());
        let handled = self.gateway.step(&BOUNDS, input.clone(), &mut outputs);
        let opens = |user| before.slots().get(user).is_none() && self.gateway.slots().get(user).is_some();
        if matches!(&input, Input::Notice { user, .. } if opens(user)) {
            assert_eq!(handled, Err(Refusal::Backpressure), "its stream is asked for first");
        } else {
            lawful(&before, &self.gateway, handled, &outputs.list);
        }
        assert_eq!(self.gateway.check(&BOUNDS), Ok(()), "after {input:?}");
        self.check_isolation(&before, &input);
        for output in outputs.list {
            self.dispatch(output);
        }
        handled
    }

    /// ISO-1: a step that names a connection or a user leaves every other user's session unchanged, unless it is the
    /// last for which a node waits before it leaves.
    fn check_isolation(&self, before: &Gateway<Tag>, input: &Input<Tag>) {
        if before.node().busy() == 1 && self.gateway.node().busy() == 0 {
            return;
        }
        let touched = match input {
            Input::Connection { connection, .. } | Input::Pull { connection, .. } => {
                before.user_of(*connection).or_else(|| self.gateway.user_of(*connection))
            }
            Input::Session { user, .. }
            | Input::Revoke { user, .. }
            | Input::Notice { user, .. }
            | Input::Delete { user, .. } => Some(*user),
            Input::Accept { .. } => None,
            Input::Node(_) => return,
        };
        for (user, slot) in before.slots() {
            // A connection that its session sent away at once belonged to no user before and after.
            let sent_away = touched.is_none() && matches!(input, Input::Connection { .. });
            if touched != Some(*user) && !sent_away {
                let now = self.gateway.slots().get(user).map(outline);
                // A verdict may be the last for which any fence waits, and with it a session that is leaving.
                let left = now.is_none() && matches!(slot.session.state(), session::State::Leaving { .. });
                assert!(left || now == Some(outline(slot)), "ISO-1: {input:?} at {user:?}");
            }
        }
    }

    fn dispatch(&mut self, output: Output<Tag>) {
        match output {
            Output::Refused { connection, cause } => {
                let socket = self.sockets.get_mut(&connection).unwrap();
                (socket.there, socket.cause) = (false, Some(cause));
                self.seen.insert(format!("refused {cause:?}"));
            }
            Output::Verify { connection, attempt, token, generation } => {
                let (grant, revoked) = self.credentials[usize::from(token)];
                let grant = Grant { generation, ..grant };
                self.sockets.get_mut(&connection).unwrap().presented = attempt;
                self.verifier.push((connection, attempt, (!revoked).then_some(grant)));
            }
            Output::Wake { connection } => self.sockets.get_mut(&connection).unwrap().awake = true,
            Output::Send { connection, frame } => self.sent(connection, frame),
            Output::Closed { connection, cause } => {
                let socket = self.sockets.get_mut(&connection).unwrap();
                assert!(socket.there, "CONN-1: closed once");
                assert_ne!(cause, Cause::Fault, "CONN-1: 1011 is a bug");
                (socket.there, socket.cause) = (false, Some(cause));
                self.seen.insert(format!("closed {cause:?}"));
            }
            Output::Session { user, generation, output } => self.dispatched(user, generation, output),
            Output::Stopped => {
                let closing = |id: &ConnectionId| self.gateway.connection(*id).is_none_or(Connection::is_closing);
                assert!(self.sockets.keys().all(closing), "NODE-2: stopped, and sockets that do not close are left");
                assert!(self.gateway.slots().is_empty());
                self.stopped = true;
                self.seen.insert("stopped".into());
            }
            Output::Arm(place, timer, after) => {
                assert!(!after.is_zero());
                self.armed.insert((place, timer));
            }
            Output::Disarm(place, timer) => drop(self.armed.remove(&(place, timer))),
            Output::Released => assert!(self.gateway.slots().is_empty(), "NODE-2: no session writes any more"),
            Output::Probe | Output::Leaving => {}
        }
    }

    /// AUTH-1, CONN-2, ISO-1, STR-2: the frames that leave on a socket.
    fn sent(&mut self, connection: ConnectionId, frame: Frame<Tag>) {
        survives_json(&frame);
        let socket = self.sockets.get_mut(&connection).unwrap();
        let user = self.clients[socket.client].user;
        if frame.is_application() {
            let grant = socket.credential.unwrap_or_else(|| panic!("AUTH-1: {frame:?} before a verdict"));
            assert_eq!(grant.user, user, "ISO-1");
            assert!(!self.credentials[grant.credential.0 as usize].1, "AUTH-1: {frame:?} after the revocation");
            if let Frame::Control(Control::Ready { user: told, .. }) = frame {
                assert_eq!(told, user, "AUTH-2: it is told whose stream it reads");
            }
            let ready = matches!(frame, Frame::Control(Control::Ready { .. }));
            assert_ne!(ready, socket.ready, "CONN-2: ready comes first and once");
            socket.ready = true;
        }
        match &frame {
            Frame::Control(Control::Known { .. }) => drop(self.seen.insert("known".into())),
            Frame::Control(Control::Refused { code, .. }) => drop(self.seen.insert(format!("refused {code:?}"))),
            Frame::Control(_) | Frame::Event(_) | Frame::Close(_) => {}
        }
        if let Frame::Event(entry) = &frame {
            let log = self.stores[&user].log.history();
            assert!(log.contains(entry), "ISO-1, STR-2: durable, and this user's: {entry:?}");
        }
        if socket.here && !socket.cut {
            socket.down.push_back(frame);
        }
    }

    fn dispatched(&mut self, user: UserId, generation: Generation, output: SessionOutput<Tag>) {
        let store = self.stores.get_mut(&user).unwrap();
        match output {
            SessionOutput::Restore { attempt } => store.restoring = Some((generation, attempt)),
            SessionOutput::Write { batch, after, event, .. } => {
                store.writer = generation;
                store.log.write(batch, after, event);
            }
            SessionOutput::Read { .. } => {}
            SessionOutput::Trim { through, .. } => {
                store.log.trim(through);
                self.seen.insert("trimmed".into());
            }
            SessionOutput::Launch { run, .. } => {
                assert_eq!(self.agents.insert(run, (user, generation)), None, "RUN-2: launched once");
            }
            SessionOutput::Durable { run, offset, .. } => {
                let durable = |entry: &&Entry<Tag>| entry.offset == offset && entry.event.run == run;
                assert!(store.log.history().iter().any(|entry| durable(&entry)), "STR-2");
            }
            SessionOutput::Halt { run } => drop(self.agents.remove(&run)),
            SessionOutput::Lose | SessionOutput::Lookup { .. } => {}
            SessionOutput::Relinquish { .. } => store.log.disconnect(),
        }
    }

    /// A client opens a socket: the gateway accepts it or refuses it.
    pub(super) fn accept(&mut self, client: usize, number: SocketId) {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        let socket = Socket {
            client,
            number,
            up: VecDeque::new(),
            down: VecDeque::new(),
            opened: false,
            awake: false,
            here: true,
            there: true,
            cut: false,
            cause: None,
            presented: Attempt(0),
            credential: None,
            ready: false,
        };
        self.sockets.insert(connection, socket);
        assert_eq!(self.step(Input::Accept { connection }), Ok(Handled::Done));
    }

    pub(super) fn connection(&mut self, connection: ConnectionId, input: connection::Input<Tag>) {
        assert!(self.step(Input::Connection { connection, input }).is_ok(), "a peer is never refused");
    }

    /// The verifier's answer to one verification; the caller chooses whether it is available.
    pub(super) fn answer(&mut self, index: usize, available: bool) {
        let (id, attempt, grant) = self.verifier.remove(index);
        let verdict = match grant {
            _ if !available => lockstep_model::Verdict::Unavailable,
            Some(grant) => crate::support::valid(grant, 60),
            None => lockstep_model::Verdict::Rejected,
        };
        let verdict = connection::Input::Verdict { attempt, verdict };
        let handled = self.step(Input::Connection { connection: id, input: verdict });
        if let Some(socket) = self.sockets.get_mut(&id)
            && handled == Ok(Handled::Done)
            && available
        {
            assert_eq!(socket.presented, attempt, "AUTH-3: a stale verdict counted");
            socket.credential = grant;
        }
    }

    pub(super) fn expire(&mut self, place: Place, timer: Timer) {
        self.armed.remove(&(place, timer));
        if let (Place::Session(user, _), Timer::LogAnswer) = (place, timer)
            && let Some(store) = self.stores.get_mut(&user)
        {
            store.log.disconnect();
            store.restoring = None;
        }
        let input = match place {
            Place::Node => Input::Node(node::Input::Expired(timer)),
            Place::Connection(connection) => {
                if timer == Timer::Credential
                    && let Some(socket) = self.sockets.get_mut(&connection)
                {
                    socket.credential = None;
                }
                Input::Connection { connection, input: connection::Input::Expired(timer) }
            }
            Place::Session(user, generation) => {
                Input::Session { user, generation, input: session::Input::Expired(Owner::Session, timer) }
            }
            Place::Run(user, generation, run) => {
                Input::Session { user, generation, input: session::Input::Expired(Owner::Run(run), timer) }
            }
        };
        assert!(self.step(input).is_ok(), "a timer is never refused");
    }

    /// Revokes one credential, or all that were issued so far.
    pub(super) fn revoke(&mut self, user: UserId, one: Option<usize>) {
        let credential = one.map(|index| CredentialId(index as u64));
        for (grant, revoked) in &mut self.credentials {
            *revoked |= grant.user == user && credential.is_none_or(|credential| credential == grant.credential);
        }
        assert!(self.step(Input::Revoke { user, credential }).is_ok());
        for (id, socket) in &self.sockets {
            let revoked = socket.credential.is_some_and(|grant| self.credentials[grant.credential.0 as usize].1);
            let reads = self.gateway.connection(*id).is_some_and(Connection::is_reading);
            assert!(!(revoked && reads), "SH-5: live after its credential was revoked");
        }
    }

    /// The process crashes and loses what it had not written; sockets break; another process begins.
    pub(super) fn crash(&mut self) {
        for socket in self.sockets.values_mut() {
            (socket.there, socket.cut) = (false, true);
            socket.up.clear();
            socket.down.clear();
        }
        for store in self.stores.values_mut() {
            store.log.disconnect();
            store.restoring = None;
        }
        (self.gateway, self.stopped) = (Gateway::new(), false);
        (self.verifier, self.armed, self.agents) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
        assert_eq!(self.step(Input::Node(node::Input::Started)), Ok(Handled::Done));
    }

    /// Removes sockets that neither end holds.
    pub(super) fn tidy(&mut self) {
        self.sockets.retain(|_, socket| socket.here || socket.there);
    }
}

/// A session without its fence.
fn outline(slot: &lockstep_model::gateway::Slot<Session<Tag>>) -> impl PartialEq {
    let session = &slot.session;
    let connections = (session.members().clone(), session.stream().cloned(), session.read());
    let messages = (session.known().clone(), session.unsettled().clone(), session.runs().clone());
    (slot.generation, session.state(), session.mode(), connections, messages, *session.breaker())
}
