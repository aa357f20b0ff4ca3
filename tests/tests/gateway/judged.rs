//! What the tests here leave behind is judged, whatever else they look at: what their clients saw, as `prove history`
//! does, and the steps that the gateway took in this process, as `prove replay` does. A test whose gateway contradicts
//! itself, or takes a step that is not the model's, fails when it drops its [`Record`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use lockstep::Manager;
use lockstep::manager::Opening;
use lockstep::testing;
use lockstep::trace::{Settings, Trace};
use lockstep::transport::{Incoming, Outgoing};
use lockstep::wire::Codec;
use lockstep_model::{Bounds, Resume};
use lockstep_proofs::history::{NotJudged, judge};
use lockstep_proofs::replay;
use lockstep_tests::history::History;
use serde_json::{Value, json};

/// What one gateway and its clients leave behind, judged when it is dropped.
pub(crate) struct Record {
    history: History,
    trace: Option<(Trace, PathBuf)>,
    address: Option<SocketAddr>,
}

/// The histories of the gateways that are up.
static SERVED: LazyLock<Mutex<HashMap<SocketAddr, History>>> = LazyLock::new(Mutex::default);

fn served() -> MutexGuard<'static, HashMap<SocketAddr, History>> {
    SERVED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where clients of the gateway at that address write; nowhere, if it is nobody's.
pub(crate) fn history_of(address: SocketAddr) -> History {
    served().get(&address).cloned().unwrap_or_else(History::none)
}

impl Record {
    /// Of a gateway elsewhere: its steps cannot be seen.
    pub(crate) fn of_clients() -> Self {
        Self { history: History::in_memory(), trace: None, address: None }
    }

    /// Of a manager in this process with these bounds, which is to be given [`Record::trace`], and of its clients' history.
    pub(crate) fn of_manager(bounds: &Bounds, history: History) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("lockstep-judged-{}-{number}", std::process::id()));
        let trace = Trace::start(&Settings::new(&directory), bounds).expect("a trace");
        Self { history, trace: Some((trace, directory)), address: None }
    }

    /// The manager's trace.
    pub(crate) fn trace(&self) -> Trace {
        self.trace.as_ref().expect("the record of a manager").0.clone()
    }

    /// Where what clients see is written.
    pub(crate) fn history(&self) -> History {
        self.history.clone()
    }

    /// The gateway is served there, and no longer where it was.
    pub(crate) fn serves(&mut self, address: SocketAddr) {
        if let Some(before) = self.address.replace(address) {
            served().remove(&before);
        }
        served().insert(address, self.history.clone());
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            served().remove(&address);
        }
        let Some((trace, directory)) = self.trace.take() else { return self.hold() };
        trace.close();
        let chains = replay::gather(core::slice::from_ref(&directory)).map(|(chains, _)| chains);
        let replayed: Vec<_> = chains.iter().flatten().map(replay::replay).collect();
        let _ = std::fs::remove_dir_all(&directory);
        if std::thread::panicking() {
            return;
        }
        self.hold();
        assert_eq!(replayed.len(), 1, "one process has one trace");
        for one in replayed {
            let (divergence, damage) = (one.divergence.map(|divergence| divergence.text()), one.damage);
            assert!(divergence.is_none(), "{}", divergence.unwrap_or_default());
            assert!(damage.is_none(), "{damage:?}");
            // A writer that is behind drops records, and says so.
            assert!(one.to_the_end && (one.counts.dropped > 0 || one.counts.unchecked == 0), "{:?}", one.counts);
        }
    }
}

impl Record {
    /// Panics with the contradictions of the history, and the lines that they are about.
    fn hold(&self) {
        if std::thread::panicking() {
            return;
        }
        let kept = self.history.kept();
        let judgement = match judge(kept.as_slice()) {
            Ok(judgement) => judgement,
            // No client came.
            Err(NotJudged::Empty) => return,
            Err(error) => panic!("{error}"),
        };
        let kept = String::from_utf8(kept).expect("text");
        let lines: Vec<&str> = kept.lines().collect();
        let told = judgement.contradictions.iter().map(|found| {
            let [first, second] = found.lines.map(|line| usize::try_from(line).unwrap_or_default() - 1);
            format!("{}: {}\n  {}\n  {}\n", found.property, found.why, lines[first], lines[second])
        });
        assert!(judgement.contradictions.is_empty(), "{}", told.collect::<String>());
    }
}

/// A manager whose clients are [`Peer`]s.
pub(crate) struct Watched {
    manager: Manager,
    record: Record,
}

impl Watched {
    /// Takes a manager that was built with the record's trace.
    pub(crate) const fn new(manager: Manager, record: Record) -> Self {
        Self { manager, record }
    }
}

impl Deref for Watched {
    type Target = Manager;

    fn deref(&self) -> &Manager {
        &self.manager
    }
}

/// A [`testing::Peer`] that writes down what it sends and sees.
pub(crate) struct Peer {
    peer: testing::Peer,
    socket: Socket,
}

impl Peer {
    /// As [`testing::Peer::connect`].
    pub(crate) fn connect(manager: &Watched) -> Self {
        Self::open(manager, Opening { codec: Codec::V1, credential: None, resume: Resume::default() })
    }

    /// As [`testing::Peer::open`].
    pub(crate) fn open(manager: &Watched, opening: Opening) -> Self {
        let mut socket = Socket::new(match opening.codec {
            Codec::V1 => manager.record.history(),
            Codec::Legacy => History::none(),
        });
        socket.opened();
        Self { peer: testing::Peer::open(manager, opening), socket }
    }

    /// As [`testing::Peer::say`].
    pub(crate) fn say(&self, text: &str) {
        self.socket.sent(&serde_json::from_str(text).unwrap_or_default());
        self.peer.say(text);
    }

    /// As [`testing::Peer::send`]; what it is, is not written down.
    pub(crate) fn send(&self, incoming: Incoming) {
        self.peer.send(incoming);
    }

    /// As [`testing::Peer::cut`].
    pub(crate) fn cut(&mut self) {
        self.peer.cut();
        self.socket.closed(1006);
    }

    /// As [`testing::Peer::receive`].
    pub(crate) async fn receive(&mut self) -> Option<Outgoing> {
        let received = self.peer.receive().await;
        match &received {
            Some(Outgoing::Text(text)) => self.socket.received(&serde_json::from_str(text).unwrap_or_default()),
            Some(Outgoing::Close(cause)) => self.socket.closed(cause.code()),
            Some(Outgoing::Binary(_) | Outgoing::Ping) => {}
            None => self.socket.closed(1006),
        }
        received
    }

    /// As [`testing::Peer::next`].
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            match self.receive().await {
                Some(Outgoing::Text(text)) => return serde_json::from_str(&text).unwrap_or_default(),
                Some(Outgoing::Close(cause)) => return json!({ "type": "close", "code": cause.code() }),
                Some(Outgoing::Ping) => self.send(Incoming::Alive),
                Some(Outgoing::Binary(_)) | None => return Value::Null,
            }
        }
    }

    /// As [`testing::Peer::until`].
    pub(crate) async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            let message = self.next().await;
            let last = message.is_null() || message["type"] == kind;
            seen.push(message);
            if last {
                return seen;
            }
        }
    }
}

/// One socket in a history, as a client that nobody else is. Dropped, it is cut.
pub(crate) struct Socket {
    history: History,
    name: String,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Open,
    Closed,
}

impl Socket {
    pub(crate) fn new(history: History) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
        Self { history, name, state: State::New }
    }

    /// Also for the first time, if it was seen by nobody.
    pub(crate) fn opened(&mut self) {
        if self.state == State::New {
            self.state = State::Open;
            self.note("open", json!({}));
        }
    }

    pub(crate) fn sent(&self, frame: &Value) {
        self.note("sent", json!({ "frame": frame }));
    }

    pub(crate) fn received(&mut self, frame: &Value) {
        self.opened();
        let rest = if frame["type"].is_string() { json!({ "frame": frame }) } else { json!({}) };
        self.note("received", rest);
    }

    pub(crate) fn closed(&mut self, code: u16) {
        if self.state == State::Open {
            self.state = State::Closed;
            self.note("closed", json!({ "code": code }));
        }
    }

    fn note(&self, fact: &str, rest: Value) {
        self.history.note(&self.name, None, 1, fact, rest);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.closed(1006);
    }
}

#[test]
fn a_history_that_contradicts_itself_fails_its_test() {
    let record = Record::of_clients();
    let mut socket = Socket::new(record.history());
    socket.received(&json!({ "type": "pong" }));
    let dropped = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| drop(record)));
    let said = dropped.expect_err("it is before connection_ready").downcast::<String>().expect("a message");
    assert!(said.contains("AUTH-1") && said.contains("\"pong\""), "{said}");
}

#[tokio::test(start_paused = true)]
async fn what_peers_see_is_in_the_history_and_what_the_gateway_does_in_the_trace() {
    let record = Record::of_manager(&Bounds::DEFAULT, History::in_memory());
    let (history, trace) = (record.history(), record.trace());
    let manager = Manager::builder().verifier(testing::AnyToken).agent(testing::Echo).trace(record.trace()).build();
    let manager = Watched::new(manager.expect("a manager"), record);
    let mut ada = Peer::connect(&manager);
    ada.say(r#"{"type":"auth","token":"ada"}"#);
    ada.say(r#"{"type":"user_message","message_id":"m1","payload":{}}"#);
    ada.until("agent_completed").await;
    ada.cut();
    let judgement = judge(history.kept().as_slice()).expect("a history");
    // Opened, two sent, ready, three events, closed.
    assert_eq!((judgement.lines, judgement.sockets, judgement.events), (8, 1, 3));
    trace.close();
    let directory = manager.record.trace.as_ref().expect("a trace").1.clone();
    let (chains, _) = replay::gather(&[directory]).expect("a trace");
    let counts = replay::replay(&chains[0]).counts;
    assert!(counts.session > 5 && counts.connection > 1 && counts.node > 0, "{counts:?}");
}
