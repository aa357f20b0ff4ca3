//! Every test here is also checked by its records: the history of what its clients saw and its agents were told, as
//! `prove history` does, and the trace of its gateway's steps, in this process or in others, as `prove replay` does. A
//! test whose gateway contradicts itself, or takes a step that the model does not, fails when its [`Record`] is
//! dropped.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use lockstep::Manager;
use lockstep::agent::Agent;
use lockstep::manager::{Builder, Opening};
use lockstep::testing::{self, AnyToken, Passed, TestClient};
use lockstep::trace::{Settings, Trace};
use lockstep::transport::{Incoming, Outgoing};
use lockstep::wire::Codec;
use lockstep_model::Bounds;
use lockstep_proofs::history::{NotAHistory, check};
use lockstep_proofs::replay;
use lockstep_tests::agent::noted;
use lockstep_tests::history::History;
use serde_json::{Value, json};

/// The history and traces of one gateway and its clients, checked when dropped.
pub(crate) struct Record {
    history: History,
    /// The trace of a manager in this process.
    trace: Option<Trace>,
    /// The directory of the traces.
    directory: PathBuf,
    /// How many processes must have left a trace.
    processes: usize,
    address: Option<SocketAddr>,
}

/// The histories of the running gateways.
static SERVED: LazyLock<Mutex<HashMap<SocketAddr, History>>> = LazyLock::new(Mutex::default);

fn served() -> MutexGuard<'static, HashMap<SocketAddr, History>> {
    SERVED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The history for clients of the gateway at `address`; none if no record serves there.
pub(crate) fn history_of(address: SocketAddr) -> History {
    served().get(&address).cloned().unwrap_or_else(History::none)
}

impl Record {
    /// The record of successive processes that write their traces to `directory`, and of their clients.
    pub(crate) fn of_processes(directory: PathBuf) -> Self {
        Self { history: History::in_memory(), trace: None, directory, processes: 0, address: None }
    }

    /// The record of a manager in this process with these bounds, which must be given [`Record::trace`], and its
    /// clients' history.
    pub(crate) fn of_manager(bounds: &Bounds, history: History) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("lockstep-judged-{}-{number}", std::process::id()));
        let trace = Trace::start(&Settings::new(&directory), bounds).expect("a trace");
        Self { history, trace: Some(trace), directory, processes: 1, address: None }
    }

    /// The manager's trace.
    pub(crate) fn trace(&self) -> Trace {
        self.trace.clone().expect("the record of a manager")
    }

    /// The clients' history.
    pub(crate) fn history(&self) -> History {
        self.history.clone()
    }

    /// The gateway, perhaps in another process by now, is served at `address` and no longer at its old one.
    pub(crate) fn serves(&mut self, address: SocketAddr) {
        self.processes += usize::from(self.trace.is_none());
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
        let of_manager = self.trace.take().inspect(Trace::close).is_some();
        let gathered = replay::gather(core::slice::from_ref(&self.directory));
        let replayed: Vec<_> = gathered.iter().flat_map(|(chains, _)| chains).map(replay::replay).collect();
        if of_manager {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
        if std::thread::panicking() {
            return;
        }
        self.hold();
        // A process that never listened took no observable step.
        assert!(replayed.len() == 1 || !of_manager, "one process has one trace");
        assert!(replayed.len() >= self.processes, "{} processes left {} traces", self.processes, replayed.len());
        for mut one in replayed {
            if let Some(divergence) = &one.divergence {
                panic!("{}", divergence.text());
            }
            if !of_manager {
                // Some processes were killed, perhaps this one just now.
                one.was_killed();
            }
            assert!(one.damage.is_none(), "{:?}", one.damage);
            // A writer that falls behind drops records and counts them.
            assert!(one.counts.dropped > 0 || one.counts.unchecked == 0, "{:?}", one.counts);
            assert!(one.to_the_end || !of_manager, "{:?}", one.counts);
        }
    }
}

impl Record {
    /// Panics with the history's contradictions and their lines.
    fn hold(&self) {
        let kept = self.history.kept();
        let findings = match check(kept.as_slice()) {
            Ok(findings) => findings,
            // No client connected.
            Err(NotAHistory::Empty) => return,
            Err(error) => panic!("{error}"),
        };
        let kept = String::from_utf8(kept).expect("text");
        let lines: Vec<&str> = kept.lines().collect();
        let told = findings.contradictions.iter().map(|found| {
            let [first, second] = found.lines.map(|line| usize::try_from(line).unwrap_or_default() - 1);
            format!("{}: {}\n  {}\n  {}\n", found.property, found.why, lines[first], lines[second])
        });
        assert!(findings.contradictions.is_empty(), "{}", told.collect::<String>());
    }
}

/// A manager whose clients and agent are recorded.
pub(crate) struct Watched {
    manager: Manager,
    record: Record,
}

impl Watched {
    /// A manager with this agent that admits any user.
    pub(crate) fn of(agent: impl Agent) -> Self {
        Self::with(agent, History::in_memory(), |builder| builder)
    }

    /// The same, with further settings and a history.
    pub(crate) fn with(agent: impl Agent, history: History, more: impl FnOnce(Builder) -> Builder) -> Self {
        Self::within(&Bounds::DEFAULT, agent, history, more)
    }

    /// The same, with bounds.
    pub(crate) fn within(
        bounds: &Bounds,
        agent: impl Agent,
        history: History,
        more: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let record = Record::of_manager(bounds, history.clone());
        let builder = Manager::builder().verifier(AnyToken).agent(noted(history, Arc::new(agent))).bounds(*bounds);
        let manager = more(builder.trace(record.trace())).build().expect("a manager");
        Self { manager, record }
    }

    /// As [`TestClient::connect`].
    pub(crate) fn connect(&self) -> TestClient {
        self.open(Opening::new(Codec::V1))
    }

    /// As [`TestClient::open`].
    pub(crate) fn open(&self, opening: Opening) -> TestClient {
        let mut socket = Socket::new(self.record.history());
        socket.opened();
        let frame = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        TestClient::open(self, opening).watched(move |passed| match passed {
            Passed::Sent(Incoming::Text(text)) => socket.sent(&frame(text)),
            Passed::Received(Outgoing::Text(text)) => socket.received(&frame(text)),
            Passed::Received(Outgoing::Close(cause)) => socket.closed(cause.code()),
            Passed::Received(Outgoing::LegacyClose(cause)) => socket.closed(cause.legacy_code()),
            Passed::Gone => socket.closed(1006),
            Passed::Sent(_) | Passed::Received(_) => {}
        })
    }

    /// A ready connection and its `connection_ready`.
    pub(crate) async fn live(&self, token: &str, resume: Value) -> (TestClient, Value) {
        let mut peer = self.connect();
        peer.say(&json!({ "type": "auth", "token": token, "resume": resume }).to_string());
        let ready = peer.next().await;
        assert_eq!(ready["type"], "connection_ready", "{ready}");
        (peer, ready)
    }

    /// The directory of its trace.
    pub(crate) fn directory(&self) -> &Path {
        &self.record.directory
    }

    /// Its trace.
    pub(crate) fn trace(&self) -> Trace {
        self.record.trace()
    }
}

impl Deref for Watched {
    type Target = Manager;

    fn deref(&self) -> &Manager {
        &self.manager
    }
}

/// One socket in a history, as a client of its own. Records a cut when dropped.
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

    /// Records that the socket is open, if that is not yet recorded.
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
    let record = Record::of_processes(PathBuf::new());
    let mut socket = Socket::new(record.history());
    socket.received(&json!({ "type": "pong" }));
    let dropped = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| drop(record)));
    let said = dropped.expect_err("it is before connection_ready").downcast::<String>().expect("a message");
    assert!(said.contains("AUTH-1") && said.contains("\"pong\""), "{said}");
}

#[tokio::test(start_paused = true)]
async fn what_peers_see_is_in_the_history_and_what_the_gateway_does_in_the_trace() {
    let history = History::in_memory();
    let manager = Watched::with(testing::Echo, history.clone(), |builder| builder);
    let mut ada = manager.connect();
    ada.say(r#"{"type":"auth","token":"ada"}"#);
    ada.say(r#"{"type":"user_message","message_id":"m1","payload":{}}"#);
    ada.until("agent_completed").await;
    ada.cut();
    let findings = check(history.kept().as_slice()).expect("a history");
    // Open, two sent, ready, three events of which one was acknowledged to the agent, closed.
    assert_eq!((findings.lines, findings.sockets, findings.events), (9, 1, 3));
    manager.trace().close();
    let (chains, _) = replay::gather(&[manager.directory().to_owned()]).expect("a trace");
    let counts = replay::replay(&chains[0]).counts;
    assert!(counts.session > 5 && counts.connection > 1 && counts.node > 0, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_tells_what_passes_in_order_and_its_end_once() {
    let manager = Watched::of(testing::Echo);
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut ada = manager.connect().watched({
        let told = Arc::clone(&told);
        move |passed| {
            told.lock().expect("no panic").push(match passed {
                Passed::Sent(incoming) => format!("sent {incoming:?}"),
                Passed::Received(Outgoing::Close(cause)) => format!("closed {}", cause.code()),
                Passed::Received(outgoing) => format!("received {outgoing:?}"),
                Passed::Gone => "gone".to_owned(),
            });
        }
    });
    ada.say(r#"{"type":"auth","token":"rejected"}"#);
    ada.until("close").await;
    assert_eq!(ada.receive().await, None);
    ada.cut();
    ada.say("nobody hears this");
    let told = told.lock().expect("no panic");
    assert_eq!(
        told.iter().map(|line| line.split(' ').next().unwrap_or_default()).collect::<Vec<_>>(),
        ["sent", "closed", "gone"]
    );
    assert!(told[0].contains("rejected") && told[1] == "closed 4500", "{told:?}");
}
