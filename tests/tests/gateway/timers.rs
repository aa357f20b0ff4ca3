//! Each timer alone, through a gateway: its effect happens at its time and not before (CONN-3, LIVE-1, LIVE-2, LIVE-4).
//! All other deadlines are a month away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lockstep::BoxFuture;
use lockstep::agent::{Agent, Message, Run};
use lockstep::log::conversations::{Page, Retention, Stale, ThreadPlace, Threads, Turns};
use lockstep::log::{Conversations, Held, Log, MemoryLog, Written};
use lockstep::manager::{Builder, Opening};
use lockstep::payload::Token;
use lockstep::testing::{AnyToken, Echo, TestClient};
use lockstep::transport::Outgoing;
use lockstep::verify::{Identity, NotRevoked, NotVerified, Revocation, Verifier};
use lockstep::wire::Codec;
use lockstep_model::{Bounds, Cause, ConnectionId, Offset, Tenure, Timer, UserId};
use lockstep_tests::history::History;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::faked::{Fake, Faked, Reply, refused};
use crate::hostile::client::message;
use crate::identity::{Slow, say_auth};
use crate::judged::Watched;

/// The delay of the timer under test.
const AFTER: Duration = Duration::from_secs(7);
/// The delay of all others.
const NEVER: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How late a timer wheel with millisecond ticks may be.
const TICK: Duration = Duration::from_millis(3);

/// Bounds with every deadline far away.
fn far() -> Bounds {
    Bounds {
        handshake: NEVER,
        idle: NEVER,
        allowance: NEVER,
        grace: NEVER,
        close: NEVER,
        verification: NEVER / 2,
        silence: NEVER,
        execution: NEVER,
        deadline: NEVER,
        pause: NEVER,
        linger: NEVER,
        restore: NEVER,
        breaker: NEVER,
        retry: NEVER,
        log_answer: NEVER,
        seek: NEVER,
        probe: NEVER,
        drain: NEVER,
        ..Bounds::DEFAULT
    }
}

/// A gateway with these bounds.
fn gateway(bounds: &Bounds, agent: impl Agent, more: impl FnOnce(Builder) -> Builder) -> Watched {
    Watched::within(bounds, agent, History::in_memory(), more)
}

async fn live(manager: &Watched) -> (TestClient, ConnectionId) {
    let (peer, ready) = manager.live("ada", json!("latest")).await;
    let id = ready["connection_id"].as_str().expect("an id");
    (peer, ConnectionId(u64::from_str_radix(id, 16).expect("hexadecimal")))
}

async fn code(peer: &mut TestClient) -> u64 {
    peer.until("close").await.last().expect("a close")["code"].as_u64().expect("a code")
}

async fn last(peer: &mut TestClient, kind: &str) -> Value {
    peer.until(kind).await.pop().filter(|frame| frame["type"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

fn say(peer: &TestClient, id: &str) {
    peer.say(&message(id, id).to_string());
}

/// Asserts that `expected` has passed since `since`.
fn passed(timer: Timer, since: Instant, expected: Duration) {
    let passed = since.elapsed();
    assert!(passed >= expected && passed <= expected + TICK, "{timer:?} at {passed:?} and not at {expected:?}");
}

/// An agent that runs a closure.
struct Does<F>(F);

impl<F, W> Agent for Does<F>
where
    F: Fn(Run) -> W + Send + Sync + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    fn answer(&self, _: Message, run: Run) -> BoxFuture<'static, ()> {
        Box::pin((self.0)(run))
    }
}

/// An agent that never emits anything.
fn silent() -> impl Agent {
    Does(async |run: Run| {
        let _run = run;
        core::future::pending::<()>().await;
    })
}

/// Admits every credential, for that long.
struct For(Duration);

impl Verifier for For {
    fn verify<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<Identity, NotVerified>> {
        Box::pin(async { Ok(Identity { lifetime: self.0, ..AnyToken.verify(token).await? }) })
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation) -> BoxFuture<'a, Result<(), NotRevoked>> {
        AnyToken.revoke(revocation)
    }
}

/// How a log handles its first request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    Refuses,
    Ignores,
}

/// A log that handles its first restore, or its first append, differently, and counts probes.
#[derive(Default)]
struct Late {
    log: MemoryLog,
    restore: Option<First>,
    append: Option<First>,
    /// Whether lookups never answer.
    mute: bool,
    asked: AtomicU32,
    probed: Notify,
}

impl Late {
    fn takes<'a, T: Send + 'static>(&'a self, first: Option<First>, reply: Reply<'a, T>) -> Reply<'a, T> {
        match first {
            Some(first) if self.asked.fetch_add(1, Ordering::SeqCst) == 0 => match first {
                First::Refuses => refused("not at first"),
                First::Ignores => Box::pin(core::future::pending()),
            },
            Some(_) | None => reply,
        }
    }
}

impl Fake for Late {
    fn log(&self) -> &MemoryLog {
        &self.log
    }

    fn restore(&self, user: UserId, tenure: Tenure) -> Reply<'_, Held> {
        self.takes(self.restore, self.log.restore(user, tenure))
    }

    fn append(&self, user: UserId, tenure: Tenure, after: Offset, batch: Vec<Written>) -> Reply<'_, Vec<Offset>> {
        if self.append.is_some() && self.asked.load(Ordering::SeqCst) == 0 {
            // An append that is not taken must not be stored.
            return self.takes(self.append, Box::pin(core::future::pending()));
        }
        self.log.append(user, tenure, after, batch)
    }

    fn conversations(&self) -> Option<&dyn Conversations> {
        if self.mute { Some(&Mute) } else { None }
    }

    fn probe(&self) -> Reply<'_, Duration> {
        self.probed.notify_one();
        self.log.probe()
    }
}

/// A verifier that never answers.
struct Mute;

impl Conversations for Mute {
    fn threads<'a>(&'a self, _: UserId, _: Option<&'a ThreadPlace>, _: usize) -> Reply<'a, Threads> {
        Box::pin(core::future::pending())
    }

    fn turns<'a>(&'a self, _: UserId, _: Option<&'a str>, _: Option<Offset>, _: usize) -> Reply<'a, Turns> {
        Box::pin(core::future::pending())
    }

    fn rename<'a>(&'a self, _: UserId, _: Option<&'a str>, _: Option<&'a str>) -> Reply<'a, bool> {
        Box::pin(core::future::pending())
    }

    fn page(&self, _: UserId, _: Offset, _: Offset, _: usize) -> Reply<'_, Page> {
        Box::pin(core::future::pending())
    }

    fn stale(&self, _: Retention, _: u64, _: usize) -> Reply<'_, Vec<Stale>> {
        Box::pin(core::future::pending())
    }
}

fn logging(bounds: &Bounds, log: Late) -> (Watched, Arc<Faked<Late>>) {
    let log = Arc::new(Faked(log));
    (gateway(bounds, Echo, |builder| builder.log(Arc::clone(&log))), log)
}

async fn handshake() {
    let bounds = Bounds { handshake: AFTER, verification: AFTER / 2, ..far() };
    let manager = gateway(&bounds, Echo, |builder| builder);
    let began = Instant::now();
    assert_eq!(code(&mut manager.connect()).await, 4504);
    passed(Timer::Handshake, began, AFTER);
}

async fn idle() {
    let bounds = Bounds { idle: AFTER, heartbeat: AFTER / 2, ..far() };
    let manager = gateway(&bounds, Echo, |builder| builder);
    let (mut ada, _) = live(&manager).await;
    let began = Instant::now();
    assert_eq!(ada.receive().await, Some(Outgoing::Ping));
    passed(Timer::Idle, began, AFTER);
    assert_eq!(ada.receive().await, Some(Outgoing::Close(Cause::HeartbeatLost)));
    passed(Timer::Idle, began, AFTER * 2);
}

async fn allowance() {
    let manager = gateway(&Bounds { allowance: AFTER, requests: 1, ..far() }, Echo, |builder| builder);
    let (mut early, mut late) = (live(&manager).await.0, live(&manager).await.0);
    let began = Instant::now();
    for peer in [&mut early, &mut late] {
        peer.say(r#"{"type":"ping"}"#);
        last(peer, "pong").await;
    }
    sleep_until(began + AFTER - TICK).await;
    early.say(r#"{"type":"ping"}"#);
    assert_eq!(code(&mut early).await, 4508);
    sleep_until(began + AFTER + TICK).await;
    late.say(r#"{"type":"ping"}"#);
    last(&mut late, "pong").await;
}

async fn grace() {
    let manager = gateway(&Bounds { grace: AFTER, ..far() }, Echo, |builder| builder);
    let (mut ada, _) = live(&manager).await;
    let began = Instant::now();
    let draining = manager.drain();
    tokio::select! {
        code = code(&mut ada) => assert_eq!(code, 4000),
        () = draining => panic!("a client is here"),
    }
    passed(Timer::Grace, began, AFTER);
}

async fn close() {
    let manager = gateway(&Bounds { close: AFTER, ..far() }, Echo, |builder| builder);
    let (mut ada, id) = live(&manager).await;
    let began = Instant::now();
    assert!(manager.close(id, Cause::Superseded));
    assert_eq!(ada.receive().await, Some(Outgoing::Close(Cause::Superseded)));
    passed(Timer::Close, began, Duration::ZERO);
    assert_eq!(ada.receive().await, None, "it has not answered");
    passed(Timer::Close, began, AFTER);
}

async fn verification() {
    let bounds = Bounds { verification: AFTER, ..far() };
    let verifier = Slow::default();
    let manager = gateway(&bounds, Echo, |builder| builder.verifier(verifier.clone()));
    let mut ada = manager.connect();
    say_auth(&ada, "ada");
    let began = Instant::now();
    assert_eq!(code(&mut ada).await, 4003);
    passed(Timer::Verification, began, AFTER);
}

async fn warning_and_credential() {
    let manager = gateway(&far(), Echo, |builder| builder.verifier(For(AFTER)));
    let (mut ada, _) = live(&manager).await;
    let began = Instant::now();
    last(&mut ada, "auth_expiring").await;
    passed(Timer::Warning, began, AFTER * 4 / 5);
    assert_eq!(code(&mut ada).await, 4501);
    passed(Timer::Credential, began, AFTER);
}

/// Asserts that the message's run ends in time, with that reason.
async fn ends(timer: Timer, manager: Watched, reason: &str) {
    let (mut ada, _) = live(&manager).await;
    let began = Instant::now();
    say(&ada, "m");
    assert_eq!(last(&mut ada, "agent_error").await["data"]["reason"], reason);
    passed(timer, began, AFTER);
}

async fn silence() {
    let bounds = Bounds { silence: AFTER, ..far() };
    ends(Timer::Silence, gateway(&bounds, silent(), |builder| builder), "silent").await;
    // A tool has more time than that.
    let bounds = Bounds { silence: AFTER / 2, execution: AFTER, ..far() };
    let agent = Does(async |run: Run| {
        let work = core::future::pending::<Result<Value, String>>();
        let _ = run.tool("waits", &json!({}), work).await;
    });
    ends(Timer::Silence, gateway(&bounds, agent, |builder| builder), "silent").await;
}

async fn deadline() {
    let bounds = Bounds { silence: AFTER / 2, execution: AFTER / 2, deadline: AFTER, ..far() };
    let agent = Does(async |run: Run| {
        while run.thinking("hm").await.is_ok() {
            sleep_until(Instant::now() + AFTER / 10).await;
        }
    });
    ends(Timer::Deadline, gateway(&bounds, agent, |builder| builder), "timed_out").await;
}

async fn linger() {
    let manager = gateway(&Bounds { linger: AFTER, ..far() }, Echo, |builder| builder);
    let (mut ada, _) = live(&manager).await;
    let began = Instant::now();
    ada.cut();
    for (at, sessions) in [(AFTER - TICK, 1), (AFTER + TICK, 0)] {
        sleep_until(began + at).await;
        assert_eq!(manager.health().sessions, sessions, "Linger after {at:?}");
    }
}

async fn restore() {
    let log = Late { restore: Some(First::Refuses), ..Late::default() };
    let (manager, _log) = logging(&Bounds { restore: AFTER, ..far() }, log);
    let began = Instant::now();
    live(&manager).await;
    passed(Timer::Restore, began, AFTER);
}

async fn breaker() {
    let bounds = Bounds { breaker: AFTER, failures: 1, ..far() };
    let agent = Does(async |run: Run| {
        let _ = run.fail("no").await;
    });
    let manager = gateway(&bounds, agent, |builder| builder);
    let (mut ada, _) = live(&manager).await;
    let began = Instant::now();
    say(&ada, "m");
    last(&mut ada, "agent_error").await;
    sleep_until(began + AFTER - TICK).await;
    say(&ada, "early");
    assert_eq!(last(&mut ada, "error").await["code"], "breaker_open");
    sleep_until(began + AFTER + TICK).await;
    say(&ada, "late");
    assert_eq!(last(&mut ada, "message_received").await["data"]["message_id"], "late");
}

/// Asserts that an append which failed at first is taken in time.
async fn appended(timer: Timer, bounds: Bounds, append: First) {
    let (manager, _log) = logging(&bounds, Late { append: Some(append), ..Late::default() });
    let (mut ada, _) = live(&manager).await;
    let began = Instant::now();
    say(&ada, "m");
    last(&mut ada, "message_received").await;
    passed(timer, began, AFTER);
}

async fn retry() {
    appended(Timer::Retry, Bounds { retry: AFTER, ..far() }, First::Refuses).await;
}

async fn log_answer() {
    // An unanswered append is retried at once.
    let again = Duration::from_millis(1);
    let bounds = Bounds { log_answer: AFTER, retry: again, restore: again, ..far() };
    appended(Timer::LogAnswer, bounds, First::Ignores).await;
    let (manager, _log) = logging(&bounds, Late { restore: Some(First::Ignores), ..Late::default() });
    let began = Instant::now();
    live(&manager).await;
    passed(Timer::LogAnswer, began, AFTER);
}

/// A query gets an error after the deadline, and a reader that waits for missed events is closed with a code that says
/// to come back.
async fn lookup() {
    let bounds = Bounds { log_answer: AFTER, retained: 16, ..far() };
    let (manager, _log) = logging(&bounds, Late { mute: true, ..Late::default() });
    let (mut ada, ready) = manager.live("ada", json!("latest")).await;
    // More than stays in memory.
    for number in 0..8 {
        say(&ada, &format!("m{number}"));
        last(&mut ada, "agent_completed").await;
    }
    let began = Instant::now();
    ada.say(r#"{"type":"list_threads","request_id":"r"}"#);
    let error = last(&mut ada, "error").await;
    assert_eq!((&error["code"], &error["request_id"]), (&json!("busy"), &json!("r")));
    passed(Timer::Lookup, began, AFTER);
    let began = Instant::now();
    let (mut back, _) = manager.live("ada", json!({ "epoch": ready["epoch"], "offset": 0 })).await;
    assert_eq!(code(&mut back).await, 4007);
    passed(Timer::Lookup, began, AFTER);
}

/// An older client that names no place is read the unread entries.
async fn seek() {
    let manager = gateway(&Bounds { seek: AFTER, ..far() }, Echo, |builder| builder);
    manager.user("ada").send(&json!({})).await.expect("sent");
    let mut opening = Opening::new(Codec::Legacy);
    opening.credential = Some(Token::new("ada"));
    let mut ada = manager.open(opening);
    last(&mut ada, "handshake_response").await;
    let began = Instant::now();
    last(&mut ada, "notice").await;
    passed(Timer::Seek, began, AFTER);
}

/// A run that asks its user is ended if there is no reply.
async fn pause() {
    let asks = Does(async |run: Run| {
        let _ = run.pause(json!({})).await;
    });
    let manager = gateway(&Bounds { pause: AFTER, ..far() }, asks, |builder| builder);
    let (mut ada, _) = live(&manager).await;
    say(&ada, "m");
    last(&mut ada, "agent_paused").await;
    let began = Instant::now();
    assert_eq!(last(&mut ada, "agent_error").await["data"]["reason"], "no_reply");
    passed(Timer::Pause, began, AFTER);
}

async fn probe() {
    let (began, (_manager, log)) = (Instant::now(), logging(&Bounds { probe: AFTER, ..far() }, Late::default()));
    for times in 1..=3 {
        log.probed.notified().await;
        passed(Timer::Probe, began, AFTER * times);
    }
}

async fn drain() {
    let manager = gateway(&Bounds { drain: AFTER, ..far() }, silent(), |builder| builder);
    let (mut ada, _) = live(&manager).await;
    say(&ada, "m");
    last(&mut ada, "agent_started").await;
    let began = Instant::now();
    let mut draining = core::pin::pin!(manager.drain());
    // The run has until then; afterwards every client is told to go.
    tokio::select! {
        _ = last(&mut ada, "going_away") => {}
        () = &mut draining => panic!("a client is here"),
    }
    passed(Timer::Drain, began, AFTER);
    ada.cut();
    draining.await;
    passed(Timer::Drain, began, AFTER);
}

#[tokio::test(start_paused = true)]
async fn each_timer_of_a_gateway_fires_at_its_time_and_not_before() {
    for timer in Timer::ALL {
        match timer {
            Timer::Handshake => handshake().await,
            Timer::Idle => idle().await,
            Timer::Allowance => allowance().await,
            Timer::Grace => grace().await,
            Timer::Close => close().await,
            Timer::Verification => verification().await,
            Timer::Warning | Timer::Credential => warning_and_credential().await,
            Timer::Silence => silence().await,
            Timer::Deadline => deadline().await,
            Timer::Pause => pause().await,
            Timer::Linger => linger().await,
            Timer::Restore => restore().await,
            Timer::Breaker => breaker().await,
            Timer::Retry => retry().await,
            Timer::LogAnswer => log_answer().await,
            Timer::Lookup => lookup().await,
            Timer::Seek => seek().await,
            Timer::Probe => probe().await,
            Timer::Drain => drain().await,
            // The client's own timers, which the client's tests cover.
            Timer::Backoff | Timer::Connect | Timer::Heartbeat | Timer::Stable | Timer::Leave | Timer::Answer => {}
        }
    }
}
