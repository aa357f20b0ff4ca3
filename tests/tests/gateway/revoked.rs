//! Revocations while the log or the verifier's disk is unavailable, and verdicts that arrive long after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use lockstep::BoxFuture;
use lockstep::Manager;
use lockstep::log::{Log, MemoryLog};
use lockstep::payload::Token;
use lockstep::testing::{AnyToken, Echo, TestClient};
use lockstep::trace::{Settings, Trace};
use lockstep::verify::{Identity, NotRevoked, NotVerified, Revocation, Verifier, credential_id};
use lockstep_model::{Bounds, UserId};
use lockstep_tests::history::History;
use serde_json::json;
use tokio::sync::watch;

use crate::faked::{Fake, Faked, Reply};
use crate::identity::{Slow, say_auth};
use crate::judged::Watched;

/// A log that does not answer lookups of users while it is unavailable.
struct Remote {
    log: MemoryLog,
    reachable: watch::Sender<bool>,
    waiting: AtomicU32,
}

impl Remote {
    fn new() -> Arc<Faked<Self>> {
        let (log, reachable) = (MemoryLog::new(), watch::Sender::new(true));
        Arc::new(Faked(Self { log, reachable, waiting: AtomicU32::new(0) }))
    }
}

impl Fake for Remote {
    fn log(&self) -> &MemoryLog {
        &self.log
    }

    fn user<'a>(&'a self, subject: &'a str) -> Reply<'a, UserId> {
        Box::pin(async move {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let _ = self.reachable.subscribe().wait_for(|reachable| *reachable).await;
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            self.log.user(subject).await
        })
    }
}

async fn code(mut peer: TestClient) -> u64 {
    peer.until("close").await.last().expect("a close")["code"].as_u64().expect("a code")
}

/// SH-5: connected users are found by name, so an unresponsive log does not delay a revocation.
#[tokio::test(start_paused = true)]
async fn a_revocation_closes_at_once_while_the_log_does_not_answer() {
    let log = Remote::new();
    let manager = Watched::with(Echo, History::in_memory(), |builder| builder.log(Arc::clone(&log)));
    let (ada, _) = manager.live("ada", json!("latest")).await;
    let (one, _) = manager.live("ada", json!("latest")).await;
    let (mut bob, _) = manager.live("bob", json!("latest")).await;
    log.reachable.send_replace(false);
    let began = tokio::time::Instant::now();
    assert_eq!(manager.revoke(&Revocation::Credential("ada".into(), credential_id("another"))).await, Ok(()));
    assert_eq!(manager.health().connections, 3, "nobody has that credential");
    assert_eq!(manager.user("ada").revoke().await, Ok(()));
    assert_eq!((code(ada).await, code(one).await), (4502, 4502));
    assert_eq!(began.elapsed(), Duration::ZERO, "nobody waited for the log");
    bob.say(r#"{"type":"ping"}"#);
    assert_eq!(bob.next().await["type"], "pong");
}

/// AUTH-3: a revocation of a user whose number is still being looked up is kept, and reaches the session before the
/// verdict does.
#[tokio::test(start_paused = true)]
async fn a_verification_that_waits_for_the_log_meets_the_revocation_that_came_meanwhile() {
    let log = Remote::new();
    let manager = Watched::with(Echo, History::in_memory(), |builder| builder.log(Arc::clone(&log)));
    log.reachable.send_replace(false);
    let [ada, mut bob] = ["ada", "bob"].map(|name| {
        let peer = manager.connect();
        say_auth(&peer, name);
        peer
    });
    while log.waiting.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(manager.user("ada").revoke().await, Ok(()));
    log.reachable.send_replace(true);
    assert_eq!(code(ada).await, 4502);
    assert_eq!(bob.next().await["type"], "connection_ready");
    let (mut again, _) = manager.live("ada", json!("latest")).await;
    again.say(r#"{"type":"ping"}"#);
    assert_eq!(again.next().await["type"], "pong", "what is verified afterwards is as good as the verifier says");
}

/// AUTH-3: a process may be stopped for hours during a verification. No deadline lowers the fence.
#[tokio::test(start_paused = true)]
async fn a_verdict_that_comes_hours_after_the_revocation_is_still_fenced() {
    let verifier = Slow::default();
    let day = Duration::from_secs(24 * 60 * 60);
    let bounds = Bounds { verification: 2 * day, handshake: 3 * day, ..Bounds::DEFAULT };
    let directory = std::env::temp_dir().join(format!("lockstep-fence-{}", std::process::id()));
    let trace = Trace::start(&Settings::new(&directory), &bounds).expect("a trace");
    let builder = Manager::builder().verifier(verifier.clone()).agent(Echo).bounds(bounds).trace(trace.clone());
    let manager = builder.build().expect("a manager");
    let [ada, mut bob] = ["ada", "bob"].map(|name| {
        let peer = TestClient::connect(&manager);
        say_auth(&peer, name);
        peer
    });
    verifier.asked("ada").await;
    verifier.asked("bob").await;
    assert_eq!(manager.user("ada").revoke().await, Ok(()));
    tokio::time::advance(day).await;
    verifier.answer("ada").await;
    verifier.answer("bob").await;
    assert_eq!(code(ada).await, 4502);
    assert_eq!(bob.next().await["type"], "connection_ready");
    trace.close();
    std::fs::remove_dir_all(directory).expect("it is ours");
}

/// A verifier whose disk is full until a test says otherwise.
#[derive(Default)]
struct Full {
    full: AtomicBool,
    records: AtomicU32,
    recorded: tokio::sync::Notify,
}

impl Full {
    fn written(&self) -> BoxFuture<'static, Result<(), NotRevoked>> {
        let full = self.full.load(Ordering::SeqCst);
        Box::pin(core::future::ready(if full { Err("no space left on device".into()) } else { Ok(()) }))
    }
}

struct OnDisk(Arc<Full>);

impl Verifier for OnDisk {
    fn verify<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<Identity, NotVerified>> {
        AnyToken.verify(token)
    }

    fn revoke<'a>(&'a self, _: &'a Revocation) -> BoxFuture<'a, Result<(), NotRevoked>> {
        self.0.written()
    }

    fn record<'a>(&'a self, _: &'a Revocation) -> BoxFuture<'a, Result<(), NotRevoked>> {
        self.0.records.fetch_add(1, Ordering::SeqCst);
        self.0.recorded.notify_one();
        self.0.written()
    }
}

/// SH-5: a revocation that cannot be stored takes effect, its caller is told, and it is stored once that is possible.
#[tokio::test(start_paused = true)]
async fn a_revocation_that_is_not_written_down_is_in_effect_and_is_repeated_until_it_is() {
    let disk = Arc::new(Full::default());
    let verifier = OnDisk(Arc::clone(&disk));
    let manager = Watched::with(Echo, History::in_memory(), |builder| builder.verifier(verifier));
    let (ada, _) = manager.live("ada", json!("latest")).await;
    disk.full.store(true, Ordering::SeqCst);
    let told = manager.user("ada").revoke().await;
    let told = told.expect_err("it is full");
    assert_eq!((told.why.to_string().as_str(), told.repeated), ("no space left on device", true));
    let said = told.to_string();
    assert!(said.contains("in effect") && said.contains("not stored") && said.contains("no space"), "{said}");
    assert_eq!(code(ada).await, 4502);
    for _ in 0..3 {
        disk.recorded.notified().await;
    }
    disk.full.store(false, Ordering::SeqCst);
    let tried = disk.records.load(Ordering::SeqCst);
    disk.recorded.notified().await;
    // Longer than the longest pause.
    let again = tokio::time::timeout(Duration::from_secs(120), disk.recorded.notified()).await;
    assert!(again.is_err(), "it is written down, and not asked again");
    assert_eq!(disk.records.load(Ordering::SeqCst), tried + 1, "it is written down, and not asked again");
}
