//! Sessions, drains and the node when the log does not answer, answers late, or has another owner for a user.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep::BoxFuture;
use lockstep::agent::{Agent, EmitError, Message, Run};
use lockstep::log::{Log, MemoryLog, Written};
use lockstep::testing::TestClient;
use lockstep_model::health::Trouble;
use lockstep_model::{Bounds, Mode, Offset, Tenure, UserId};
use lockstep_tests::history::History;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::faked::{Fake, Faked, Reply, refused};
use crate::hostile::client::{Client, message};
use crate::hostile::{Gateway, Parts};
use crate::judged::Watched;

/// How the log handles the next append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It takes the append and confirms it.
    Well,
    /// It refuses the append.
    Refuse,
    /// It takes the append, but its answer is lost.
    Take,
    /// It neither takes the append nor answers.
    Ignore,
}

/// A log that handles appends in the given ways, and all later ones in the last way.
struct Moody {
    log: MemoryLog,
    ways: Mutex<VecDeque<Way>>,
    appends: AtomicU32,
    /// One permit per append that arrived.
    came: Semaphore,
}

impl Moody {
    fn new() -> Arc<Faked<Self>> {
        let (ways, came) = (Mutex::new(VecDeque::from([Way::Well])), Semaphore::new(0));
        Arc::new(Faked(Self { log: MemoryLog::new(), ways, appends: AtomicU32::new(0), came }))
    }

    /// Sets the ways from now on.
    fn goes(&self, ways: &[Way]) {
        *self.ways.lock().expect("no panic") = ways.iter().copied().collect();
    }

    fn way(&self) -> Way {
        let mut ways = self.ways.lock().expect("no panic");
        if ways.len() > 1 { ways.pop_front() } else { ways.front().copied() }.expect("a last way")
    }

    async fn came(&self, appends: u32) {
        self.came.acquire_many(appends).await.expect("open").forget();
    }
}

impl Fake for Moody {
    fn log(&self) -> &MemoryLog {
        &self.log
    }

    fn append(&self, user: UserId, tenure: Tenure, after: Offset, batch: Vec<Written>) -> Reply<'_, Vec<Offset>> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        let way = self.way();
        self.came.add_permits(1);
        match way {
            Way::Well => self.log.append(user, tenure, after, batch),
            Way::Refuse => refused("no answer"),
            Way::Take => {
                drop(self.log.append(user, tenure, after, batch));
                refused("no answer")
            }
            Way::Ignore => Box::pin(core::future::pending()),
        }
    }

    fn probe(&self) -> Reply<'_, Duration> {
        let first = self.ways.lock().expect("no panic").front().copied();
        match first {
            Some(Way::Refuse) => refused("no answer"),
            _ => self.log.probe(),
        }
    }
}

/// Emits one word per permit, and keeps the result of the last.
struct Talker {
    permits: Arc<Semaphore>,
    said: Arc<Mutex<Vec<Result<(), EmitError>>>>,
}

impl Talker {
    #[expect(clippy::type_complexity, reason = "what the agent waits for, and what it was told")]
    fn new() -> (Self, Arc<Semaphore>, Arc<Mutex<Vec<Result<(), EmitError>>>>) {
        let (permits, said) = (Arc::new(Semaphore::new(0)), Arc::default());
        (Self { permits: Arc::clone(&permits), said: Arc::clone(&said) }, permits, said)
    }
}

impl Agent for Talker {
    fn answer(&self, _: Message, run: Run) -> BoxFuture<'static, ()> {
        let (permits, said) = (Arc::clone(&self.permits), Arc::clone(&self.said));
        Box::pin(async move {
            loop {
                permits.acquire().await.expect("open").forget();
                let answer = run.thinking("hm").await;
                let failed = answer.is_err();
                said.lock().expect("no panic").push(answer);
                if failed {
                    return;
                }
            }
        })
    }
}

fn says(id: &str) -> String {
    message(id, id).to_string()
}

/// A message in its own thread.
fn says_apart(id: &str) -> String {
    let mut message = message(id, id);
    message["thread_id"] = id.into();
    message.to_string()
}

/// LIVE-4: a drain ends within its time and that of closing, whatever the log does. An agent is told that unconfirmed
/// events are lost.
#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_a_log_that_does_not_answer() {
    for way in [Way::Ignore, Way::Refuse] {
        let (talker, permits, said) = Talker::new();
        let log = Moody::new();
        let manager = Watched::with(talker, History::in_memory(), |builder| builder.log(Arc::clone(&log)));
        let (mut ada, _) = manager.live("ada", json!("latest")).await;
        ada.say(&says("m"));
        ada.until("agent_started").await;
        log.goes(&[way]);
        log.came.forget_permits(99);
        permits.add_permits(1);
        log.came(1).await;
        let began = Instant::now();
        let most = Bounds::DEFAULT.drain + Bounds::DEFAULT.close * 2;
        timeout(most, manager.drain()).await.expect("LIVE-4: the drain ends");
        assert!(began.elapsed() >= Bounds::DEFAULT.drain, "{way:?}: it takes its time");
        assert_eq!(ada.until("close").await.last().expect("a close")["code"], 4000);
        // The agent may be dropped before it learns the result; it never learns that its word is durable.
        let said = said.lock().expect("no panic").clone();
        assert!(said.iter().all(|said| *said == Err(EmitError::Lost)), "RUN-3: {way:?}: {said:?}");
    }
}

/// A session recovers from a log that does not answer: the append is retried, and each event is in the log once.
#[tokio::test(start_paused = true)]
async fn an_append_that_is_not_answered_is_made_again() {
    let log = Moody::new();
    let manager = Watched::with(lockstep::testing::Echo, History::in_memory(), |builder| builder.log(Arc::clone(&log)));
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    let began = Instant::now();
    log.goes(&[Way::Ignore, Way::Take, Way::Ignore, Way::Well]);
    ada.say(&says("m"));
    let seen = ada.until("agent_completed").await;
    let events = seen.iter().filter(|event| event["offset"].is_u64());
    let kinds: Vec<_> = events.map(|event| event["type"].as_str().unwrap_or_default()).collect();
    assert_eq!(kinds, ["message_received", "agent_started", "agent_completed"]);
    assert!(began.elapsed() >= Bounds::DEFAULT.log_answer * 2, "two appends were not answered");
}

/// STR-2: readers see what the log has, even if the answer to its append was lost: the same time and the same thread.
#[tokio::test(start_paused = true)]
async fn what_is_written_again_is_the_same() {
    let log = Moody::new();
    let manager = Watched::with(lockstep::testing::Echo, History::in_memory(), |builder| builder.log(Arc::clone(&log)));
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    log.goes(&[Way::Take, Way::Refuse, Way::Well, Way::Take, Way::Take, Way::Refuse, Way::Well]);
    // Records use the system's clock: a retry in the same millisecond would hide a second record.
    let tick = std::time::SystemTime::now() + Duration::from_millis(2);
    ada.say(&says("m"));
    while std::time::SystemTime::now() < tick {
        tokio::task::yield_now().await;
    }
    let seen = ada.until("agent_completed").await;
    let (mut tab, _) =
        Watched::with(lockstep::testing::Echo, History::in_memory(), |builder| builder.log(Arc::clone(&log)))
            .live("ada", json!("earliest"))
            .await;
    let again = tab.until("agent_completed").await;
    assert_eq!(seen, again, "what is restored is what was shown");
    assert!(seen.iter().all(|event| event["thread_id"] == "t"), "{seen:?}");
}

/// OWN-1, LIVE-6: of two processes on one log the newer owns the user. The older learns it at its next append, closes
/// its connections with an error, and stops appending.
#[tokio::test(start_paused = true)]
async fn a_second_owner_ends_the_session_of_the_first() {
    let log = Moody::new();
    let manager = |agent| Watched::with(agent, History::in_memory(), |builder| builder.log(Arc::clone(&log)));
    let (talker, permits, said) = Talker::new();
    let one = manager(talker);
    let (mut ada, _) = one.live("ada", json!("latest")).await;
    ada.say(&says("m"));
    ada.until("agent_started").await;
    let (other, more, _) = Talker::new();
    let two = manager(other);
    let (mut tab, _) = two.live("ada", json!("earliest")).await;
    assert_eq!(tab.until("agent_error").await.last().expect("an end")["data"]["reason"], "interrupted");
    permits.add_permits(1);
    assert_eq!(ada.until("close").await.last().expect("a close")["code"], 4006);
    let said = said.lock().expect("no panic").clone();
    assert!(said.iter().all(|said| *said == Err(EmitError::Lost)), "RUN-3: {said:?}");
    assert_eq!((one.health().sessions, one.health().runs), (0, 0), "LIVE-6");
    // The old process does not retry.
    let asked = log.appends.load(Ordering::SeqCst);
    let quiet = timeout(Duration::from_secs(60), core::future::pending::<()>()).await;
    assert!(quiet.is_err());
    assert_eq!(log.appends.load(Ordering::SeqCst), asked);
    // The new owner goes on, and the old process serves the user again when it connects there.
    tab.say(&says("n"));
    tab.until("agent_started").await;
    more.add_permits(1);
    tab.until("agent_thinking").await;
    let (mut back, _) = one.live("ada", json!("earliest")).await;
    back.until("agent_error").await;
}

/// An erased user's session is fenced, and its name begins with an empty stream.
#[tokio::test(start_paused = true)]
async fn an_erased_user_is_fenced_and_comes_back_as_another() {
    let log = Moody::new();
    let (talker, permits, said) = Talker::new();
    let manager = Watched::with(talker, History::in_memory(), |builder| builder.log(Arc::clone(&log)));
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    ada.say(&says("m"));
    ada.until("agent_started").await;
    let user = log.user("ada").await.expect("a user");
    log.erase(user).await.expect("erased");
    permits.add_permits(1);
    assert_eq!(ada.until("close").await.last().expect("a close")["code"], 4006);
    let said = said.lock().expect("no panic").clone();
    assert!(said.iter().all(Result::is_err), "RUN-3: {said:?}");
    // Another user of the same name, which a history cannot tell apart.
    let mut other = TestClient::connect(&manager);
    other.say(&json!({ "type": "auth", "token": "ada", "resume": "earliest" }).to_string());
    let ready = other.next().await;
    assert_eq!((&ready["offset"], &ready["head"]), (&json!(0), &json!(0)), "RET-1: nothing is left");
    assert_ne!(log.user("ada").await.expect("a user"), user, "a number is never given twice");
}

/// A message that is refused because the log does not take the starts of earlier runs gets `busy`, not `too_many_runs`.
#[tokio::test(start_paused = true)]
async fn a_message_held_up_by_the_log_is_not_refused_as_too_many_runs() {
    let log = Moody::new();
    let (talker, ..) = Talker::new();
    let manager = Watched::with(talker, History::in_memory(), |builder| builder.log(Arc::clone(&log)));
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    log.goes(&[Way::Refuse]);
    for number in 0..Bounds::DEFAULT.runs {
        ada.say(&says_apart(&format!("m{number}")));
    }
    log.came(3).await;
    ada.say(&says_apart("one more"));
    let refused = ada.until("error").await.pop().expect("an error");
    assert_eq!((&refused["code"], &refused["message_id"]), (&json!("busy"), &json!("one more")));
    log.goes(&[Way::Well]);
    for _ in 0..Bounds::DEFAULT.runs {
        ada.until("agent_started").await;
    }
    ada.say(&says_apart("and one more"));
    assert_eq!(ada.until("error").await.pop().expect("an error")["code"], "too_many_runs");
}

/// NODE-1: a log that does not answer takes the node to degraded and then to emergency, which clients and load
/// balancers are told. The node recovers by itself once the log answers again.
#[tokio::test]
async fn a_mute_log_takes_a_gateway_into_emergency_and_out_of_it_again() {
    let log = Moody::new();
    let parts = Parts { log: Arc::clone(&log) as Arc<dyn Log>, ..Parts::default() };
    let gateway = Gateway::of(parts, |config| {
        let bounds = &mut config.bounds;
        (bounds.probe_ms, bounds.slow_log_ms, bounds.log_answer_ms, bounds.retry_ms) = (10, 20, 60, 5);
        (bounds.strikes, bounds.recovery) = (2, 2);
    })
    .await;
    let mut ada = gateway.live("ada").await;
    assert!(gateway.manager.is_ready() && gateway.manager.troubles().is_empty());
    log.goes(&[Way::Ignore]);
    ada.say(&message("m", "m")).await;
    let modes =
        [ada.until("mode").await, ada.until("mode").await].map(|seen| seen.last().expect("a mode")["mode"].clone());
    assert_eq!(modes, ["degraded", "emergency"]);
    assert!(!gateway.manager.is_ready() && gateway.manager.troubles().contains(&Trouble::LogMute));
    let mut bob = Client::upgraded(gateway.address, &[]).await;
    assert_eq!(bob.end().await, 4004, "it admits no more");
    log.goes(&[Way::Well]);
    let mut seen: Vec<Value> = Vec::new();
    while gateway.manager.health().mode != Mode::Ready {
        seen.push(ada.until("mode").await.pop().expect("a mode"));
    }
    assert!(seen.iter().any(|mode| mode["mode"] == "degraded"), "by the way of degraded: {seen:?}");
    assert!(gateway.manager.is_ready() && gateway.manager.troubles().is_empty());
    gateway.live("bob").await.exchange("n").await;
}
