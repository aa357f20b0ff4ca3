//! Logs that refuse for a while, refuse for good, are slow, or are wrong.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lockstep::BoxFuture;
use lockstep::agent::{Message, Run};
use lockstep::log::{Held, Written};
use lockstep::payload::Record;
use lockstep_model::run::Kind;
use lockstep_model::{Offset, RunId, Tenure, UserId};
use serde_json::json;
use tokio::sync::Semaphore;
use tracing_subscriber::util::SubscriberInitExt;

use super::client::*;
use super::secrets::Pages;
use super::*;
use crate::faked::{Fake, Faked, Reply, refused};

const FULL: &str = "no space left on device";

/// A log on a disk that may be full.
struct Moody {
    log: MemoryLog,
    full: AtomicBool,
    /// One permit per refused append.
    refused: Semaphore,
    /// One permit per stream that it may restore.
    recalls: Semaphore,
    /// How many restores were requested.
    asked: AtomicU32,
}

impl Moody {
    fn new() -> Arc<Faked<Self>> {
        Self::recalling(Semaphore::new(1))
    }

    fn recalling(recalls: Semaphore) -> Arc<Faked<Self>> {
        let (log, full, refused) = (MemoryLog::new(), AtomicBool::new(false), Semaphore::new(0));
        Arc::new(Faked(Self { log, full, refused, recalls, asked: AtomicU32::new(0) }))
    }

    fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    fn fill(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// Returns when that many appends were refused since the last call.
    async fn refused(&self, times: u32) {
        self.refused.acquire_many(times).await.expect("open").forget();
    }
}

impl Fake for Moody {
    fn log(&self) -> &MemoryLog {
        &self.log
    }

    fn restore(&self, user: UserId, tenure: Tenure) -> Reply<'_, Held> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let _permit = self.recalls.acquire().await.expect("open");
            self.log.restore(user, tenure).await
        })
    }

    fn append(&self, user: UserId, tenure: Tenure, after: Offset, batch: Vec<Written>) -> Reply<'_, Vec<Offset>> {
        if self.is_full() {
            self.refused.add_permits(1);
            return refused(FULL);
        }
        self.log.append(user, tenure, after, batch)
    }

    fn trim(&self, user: UserId, tenure: Tenure, through: Offset) -> Reply<'_, ()> {
        if self.is_full() { refused(FULL) } else { self.log.trim(user, tenure, through) }
    }

    fn probe(&self) -> Reply<'_, Duration> {
        if self.is_full() { refused(FULL) } else { self.log.probe() }
    }
}

/// Emits a hundred thoughts at once when it has a permit.
struct Eager(Arc<Semaphore>);

impl Agent for Eager {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        let permits = Arc::clone(&self.0);
        Box::pin(async move {
            let text = message.text().unwrap_or_default();
            if text == "think" {
                let _ = permits.acquire().await.expect("open");
                futures_util::future::join_all((0..100).map(|_| run.thinking("hm"))).await;
            }
            let _ = run.complete(json!({ "text": text })).await;
        })
    }
}

async fn gateway(log: &Arc<Faked<Moody>>, permits: &Arc<Semaphore>, change: impl FnOnce(&mut Config)) -> Gateway {
    let agent = Arc::new(Eager(Arc::clone(permits)));
    let parts = Parts { agent, log: Arc::clone(log) as Arc<dyn Log>, ..Parts::default() };
    Gateway::of(parts, |config| {
        (config.bounds.retry_ms, config.bounds.probe_ms) = (20, 60_000);
        change(config);
    })
    .await
}

#[tokio::test]
async fn what_was_taken_while_the_log_refused_is_delivered_once_in_order_when_it_recovers() {
    let (log, permits) = (Moody::new(), Arc::new(Semaphore::new(0)));
    let gateway = gateway(&log, &permits, |_| {}).await;
    let (mut ada, mut tab) = (gateway.live("ada").await, gateway.live("ada").await);
    let mut bob = gateway.live("bob").await;
    ada.exchange("before").await;
    tab.until("agent_completed").await;
    log.fill(true);
    for id in ["a", "b", "c"] {
        ada.say(&message(id, id)).await;
    }
    bob.say(&message("m", "m")).await;
    log.refused(6).await;
    // Nothing is shown that is not durable, and no connection is closed.
    ada.say(&json!({ "type": "ping" })).await;
    assert_eq!(ada.next().await["type"], "pong");
    // Repeating a message that is under way does not start a second run.
    tab.say(&message("a", "a")).await;
    tab.is_live().await;
    log.fill(false);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.extend(ada.until("agent_completed").await);
    }
    assert_eq!(seen.len(), 9, "{seen:?}");
    let mut after = 3;
    for event in &seen {
        assert_eq!(event["previous"], after, "{event}");
        after = event["offset"].as_u64().expect("an offset");
    }
    let received: Vec<_> = seen.iter().filter_map(|event| event["data"]["message_id"].as_str()).collect();
    assert_eq!(received, ["a", "b", "c"]);
    let mut same = Vec::new();
    for _ in 0..3 {
        same.extend(tab.until("agent_completed").await);
    }
    assert_eq!(same, seen);
    bob.until("agent_completed").await;
}

/// A session retries several times a second. The gateway's log of it does not grow with the number of users, and over
/// time only by a line every ten seconds. Another gateway in the process does not use up that budget.
#[tokio::test]
async fn a_log_that_refuses_does_not_fill_the_log_of_the_process() {
    let (log, permits) = (Moody::new(), Arc::new(Semaphore::new(0)));
    let other = gateway(&log, &permits, |_| {}).await;
    let mut eve = other.live("eve").await;
    log.fill(true);
    eve.say(&message("m", "m")).await;
    log.refused(1).await;
    log.fill(false);
    eve.until("agent_completed").await;

    let pages = Pages::default();
    let pen = pages.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing_subscriber::filter::LevelFilter::WARN);
    // This gateway does everything on this thread.
    let reading = subscriber.with_writer(move || pen.clone()).finish().set_default();
    let (log, permits) = (Moody::new(), Arc::new(Semaphore::new(0)));
    let gateway = gateway(&log, &permits, |config| config.bounds.retry_ms = 5).await;
    let mut clients = Vec::new();
    for name in ["ada", "bob", "eve"] {
        clients.push(gateway.live(name).await);
    }
    let began = Instant::now();
    log.fill(true);
    for client in &mut clients {
        client.say(&message("m", "m")).await;
    }
    log.refused(60).await;
    drop(reading);
    let lines = pages.text().lines().filter(|line| line.contains("appends failed")).count();
    let due = 1 + usize::try_from(began.elapsed().as_secs() / 10).expect("a small number");
    assert!((1..=due).contains(&lines), "{}", pages.text());
}

#[tokio::test]
async fn when_the_log_is_full_new_messages_are_refused_as_busy_and_others_are_served() {
    let (log, permits) = (Moody::new(), Arc::new(Semaphore::new(0)));
    let gateway = gateway(&log, &permits, |config| {
        (config.bounds.runs, config.bounds.tools, config.bounds.pending) = (4, 1, 8);
        // The test is about room in the log, not places in a queue.
        (config.bounds.queued, config.bounds.concurrency) = (0, lockstep_model::Concurrency::Parallel);
    })
    .await;
    let (mut ada, mut bob) = (gateway.live("ada").await, gateway.live("bob").await);
    let mut late = gateway.live("ada").await;
    ada.say(&message("m", "think")).await;
    ada.until("agent_started").await;
    log.fill(true);
    permits.add_permits(1);
    log.refused(3).await;
    ada.say(&message("n", "n")).await;
    let refused = ada.until("error").await.pop().expect("an error");
    assert_eq!((&refused["code"], &refused["message_id"]), (&json!("busy"), &json!("n")));
    // Readers connect, read what is durable, and leave.
    late.is_live().await;
    let mut reader = Client::upgraded(gateway.address, &[]).await;
    reader.say(&json!({ "type": "auth", "token": "ada", "resume": "earliest" })).await;
    let first = reader.until("message_received").await;
    assert_eq!(first.last().expect("an event")["data"]["message_id"], "m");
    bob.is_live().await;
    log.fill(false);
    ada.until("agent_completed").await;
    ada.exchange("n").await;
    bob.exchange("m").await;
}

#[tokio::test]
async fn a_log_that_is_full_degrades_the_node_until_it_recovers() {
    let (log, permits) = (Moody::new(), Arc::new(Semaphore::new(0)));
    let gateway = gateway(&log, &permits, |config| {
        config.bounds.probe_ms = 20;
        (config.bounds.strikes, config.bounds.recovery) = (2, 2);
    })
    .await;
    let mut ada = gateway.live("ada").await;
    log.fill(true);
    assert_eq!(ada.until("mode").await.last().expect("a mode")["mode"], "degraded");
    assert_eq!(gateway.manager.health().mode, lockstep_model::Mode::Degraded);
    ada.say(&message("m", "m")).await;
    assert_eq!(ada.error().await, "degraded");
    // A client that only wants to read is admitted.
    let mut bob = Client::upgraded(gateway.address, &[]).await;
    assert_eq!(bob.authenticate("bob").await["mode"], "degraded");
    log.fill(false);
    assert_eq!(ada.until("mode").await.last().expect("a mode")["mode"], "ready");
    ada.exchange("m").await;
    bob.exchange("m").await;
}

/// LIVE-1: a log that takes many times the retry pause to answer is waited for.
#[tokio::test]
async fn a_slow_restore_is_requested_once() {
    let (log, permits) = (Moody::recalling(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let gateway = gateway(&log, &permits, |config| config.bounds.restore_ms = 5).await;
    let mut ada = Box::pin(gateway.live("ada"));
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut ada).await.is_err(), "the log has not answered");
    log.recalls.add_permits(1);
    ada.await.exchange("m").await;
    assert_eq!(log.asked.load(Ordering::SeqCst), 1);
}

/// What a log should not do.
#[derive(Clone, Copy, Debug)]
enum Trick {
    /// Panics when it is called.
    Throws,
    /// Panics while it is awaited.
    Dies,
    /// Takes the append, and answers with one offset too few, or with an entry out of order.
    Lies,
    /// Returns offsets that do not increase.
    Stutters,
}

/// A log that first plays its tricks, one per call, and then behaves.
struct Wild {
    log: MemoryLog,
    recalls: Mutex<Vec<Trick>>,
    appends: Mutex<Vec<Trick>>,
    users: Mutex<Vec<Trick>>,
}

/// A record that no agent has written.
fn strange() -> Written {
    let data = serde_json::value::to_raw_value(&json!({})).expect("JSON");
    Written { run: RunId(1), kind: Kind::Notice, record: Arc::new(Record::new(None, data)) }
}

fn next(tricks: &Mutex<Vec<Trick>>) -> Option<Trick> {
    tricks.lock().expect("not poisoned").pop()
}

impl Fake for Wild {
    fn log(&self) -> &MemoryLog {
        &self.log
    }

    fn user<'a>(&'a self, subject: &'a str) -> Reply<'a, UserId> {
        assert!(next(&self.users).is_none(), "what the test wants");
        self.log.user(subject)
    }

    fn restore(&self, user: UserId, tenure: Tenure) -> Reply<'_, Held> {
        let trick = next(&self.recalls);
        assert!(!matches!(trick, Some(Trick::Throws)), "what the test wants");
        Box::pin(async move {
            let mut held = self.log.restore(user, tenure).await?;
            match trick {
                Some(Trick::Dies) => panic!("what the test wants"),
                Some(_) => held.entries.insert(0, (held.trimmed, strange())),
                None => {}
            }
            Ok(held)
        })
    }

    fn append(&self, user: UserId, tenure: Tenure, after: Offset, batch: Vec<Written>) -> Reply<'_, Vec<Offset>> {
        let trick = next(&self.appends);
        assert!(!matches!(trick, Some(Trick::Throws)), "what the test wants");
        Box::pin(async move {
            let mut offsets = self.log.append(user, tenure, after, batch).await?;
            match trick {
                Some(Trick::Dies) => panic!("what the test wants"),
                Some(Trick::Lies) => drop(offsets.pop()),
                Some(_) => offsets.fill(after),
                None => {}
            }
            Ok(offsets)
        })
    }
}

async fn wild(recalls: &[Trick], appends: &[Trick]) -> (Arc<Faked<Wild>>, Gateway) {
    let tricks = |tricks: &[Trick]| Mutex::new(tricks.to_vec());
    let (recalls, appends, users) = (tricks(recalls), tricks(appends), tricks(&[]));
    let log = Arc::new(Faked(Wild { log: MemoryLog::new(), recalls, appends, users }));
    let parts = Parts { log: Arc::clone(&log) as Arc<dyn Log>, ..Parts::default() };
    let gateway = Gateway::of(parts, |config| (config.bounds.retry_ms, config.bounds.restore_ms) = (5, 5)).await;
    (log, gateway)
}

async fn from_the_start(gateway: &Gateway) -> Client {
    let mut client = Client::upgraded(gateway.address, &[]).await;
    client.say(&json!({ "type": "auth", "token": "ada", "resume": "earliest" })).await;
    client
}

/// LIVE-1, LIVE-2: a log may panic, but its users' queues are served all the same, and what it has stored is not
/// written twice.
#[tokio::test]
async fn a_request_to_a_log_that_panicked_is_retried() {
    use Trick::{Dies, Throws};
    let (log, gateway) = wild(&[Dies, Throws], &[Throws, Dies, Dies, Throws]).await;
    let mut ada = gateway.live("ada").await;
    let seen = ada.exchange("m").await;
    assert!(next(&log.recalls).is_none() && next(&log.appends).is_none(), "every trick was played");
    let mut tab = from_the_start(&gateway).await;
    tab.until("connection_ready").await;
    assert_eq!(tab.until("agent_completed").await, seen.0);
    // A credential is not rejected because its user cannot be looked up.
    log.users.lock().expect("not poisoned").push(Throws);
    let mut bob = Client::upgraded(gateway.address, &[]).await;
    bob.say(&json!({ "type": "auth", "token": "bob" })).await;
    assert_eq!(bob.end().await, 4003);
}

/// An answer that violates the log's contract is a fault. It ends the session, and the next one begins with what the
/// log has.
#[tokio::test]
async fn a_log_that_breaks_its_contract_ends_the_session_and_a_client_that_comes_back_is_served() {
    use Trick::{Lies, Stutters};
    for trick in [Lies, Stutters] {
        let (log, gateway) = wild(&[], &[]).await;
        let mut ada = gateway.live("ada").await;
        log.appends.lock().expect("not poisoned").push(trick);
        ada.say(&message("m", "m")).await;
        assert_eq!(ada.end().await, 1011, "{trick:?}");
        let mut again = from_the_start(&gateway).await;
        assert_eq!(again.until("message_received").await.last().expect("an event")["data"]["message_id"], "m");
        let end = again.until("agent_error").await;
        assert_eq!(end.last().expect("an event")["data"]["reason"], "interrupted");
        again.exchange("n").await;
    }
    let (_, gateway) = wild(&[Lies], &[]).await;
    let mut ada = from_the_start(&gateway).await;
    assert_eq!(ada.end().await, 1011);
    gateway.live("ada").await.exchange("m").await;
}
