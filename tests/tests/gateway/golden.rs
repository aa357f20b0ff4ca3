//! The golden path over an in-memory socket and virtual time: the driver, the journal and the machines, without a
//! network.

use std::time::Duration;

use lockstep::BoxFuture;
use lockstep::agent::{Agent, Message, Run};
use lockstep::manager::Opening;
use lockstep::testing::Echo;
use lockstep::transport::{Incoming, Outgoing};
use lockstep::wire::Codec;
use lockstep_model::Bounds;
use serde_json::{Value, json};

use crate::agents::pause;
use crate::hostile::client::message;
use crate::judged::Watched;

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["type"].as_str()).collect()
}

/// Asserts that each event names the one before it, starting at `after`. Returns the last offset.
fn chained(events: &[Value], mut after: u64) -> u64 {
    for event in events.iter().filter(|event| event["offset"].is_u64() && event["previous"].is_u64()) {
        assert_eq!(event["previous"], after, "{event}");
        after = event["offset"].as_u64().expect("an offset");
    }
    after
}

/// Thinks, calls a tool, and waits for a signal before it answers.
struct Works;

impl Agent for Works {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            run.thinking("hm").await.expect("thinking");
            let seven = run.tool("seven", &json!({}), async { Ok::<_, String>(7) }).await.expect("a tool");
            let bad = run.tool("bad", &json!({}), async { Err::<u8, _>("no") }).await;
            assert!(bad.is_err());
            run.complete(json!({ "text": format!("{} {seven}", message.text().unwrap_or_default()) }))
                .await
                .expect("an end");
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_answered_event_by_event() {
    let manager = Watched::of(Works);
    let (mut ada, ready) = manager.live("ada", json!("latest")).await;
    assert_eq!((&ready["user_id"], &ready["mode"]), (&json!("ada"), &json!("ready")));
    ada.say(&message("m1", "say").to_string());
    let events = ada.until("agent_completed").await;
    let expected = [
        "message_received",
        "agent_started",
        "agent_thinking",
        "tool_executing",
        "tool_completed",
        "tool_executing",
        "tool_completed",
        "agent_completed",
    ];
    assert_eq!(kinds(&events), expected);
    chained(&events, 0);
    assert_eq!(events[7]["data"]["text"], "say 7");
    assert_eq!(events[6]["data"]["status"], "failure");
    assert!(events.iter().all(|event| event["thread_id"] == "t" && event["timestamp"].as_u64() > Some(0)));
    let run = &events[0]["run_id"];
    assert!(events.iter().all(|event| event["run_id"] == *run));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_cut_resumes_without_gap_or_repeat() {
    let manager = Watched::of(Works);
    let (mut ada, ready) = manager.live("ada", json!("latest")).await;
    ada.say(&message("m1", "say").to_string());
    let seen = ada.until("agent_thinking").await;
    let last = chained(&seen, 0);
    ada.cut();
    let resume = json!({ "epoch": ready["epoch"], "offset": last });
    let (mut again, ready) = manager.live("ada", resume).await;
    assert_eq!(ready["resumed"], true);
    let rest = again.until("agent_completed").await;
    chained(&rest, last);
    assert_eq!(kinds(&rest).first(), Some(&"tool_executing"));
}

#[tokio::test(start_paused = true)]
async fn two_tabs_see_the_same_and_another_user_sees_nothing() {
    let manager = Watched::of(Echo);
    let (mut one, _) = manager.live("ada", json!("latest")).await;
    let (mut two, _) = manager.live("ada", json!("latest")).await;
    let (mut bob, _) = manager.live("bob", json!("latest")).await;
    one.say(&message("m1", "hello").to_string());
    assert_eq!(one.until("agent_completed").await, two.until("agent_completed").await);
    bob.say(r#"{"type":"ping"}"#);
    assert_eq!(bob.next().await["type"], "pong", "nothing else came before it");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_message_runs_once() {
    let manager = Watched::of(Echo);
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    ada.say(&message("m1", "hello").to_string());
    let events = ada.until("agent_completed").await;
    ada.say(&message("m1", "hello").to_string());
    let known = ada.next().await;
    assert_eq!((&known["type"], &known["message_id"]), (&json!("message_known"), &json!("m1")));
    assert_eq!(known["run_id"], events[0]["run_id"]);
}

/// Never emits anything.
struct Silent;

impl Agent for Silent {
    fn answer(&self, _: Message, run: Run) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            run.ended().await;
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_cancels_and_a_silent_agent_is_ended() {
    let manager = Watched::of(Silent);
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    ada.say(&message("m1", "hello").to_string());
    let begun = ada.until("agent_started").await;
    ada.say(&json!({ "type": "cancel", "run_id": begun[0]["run_id"] }).to_string());
    assert_eq!(ada.until("agent_error").await.last().expect("an end")["data"]["reason"], "cancelled");
    ada.say(&message("m2", "hello").to_string());
    assert_eq!(ada.until("agent_error").await.last().expect("an end")["data"]["reason"], "silent");
}

/// Calls a slow tool and a quick one.
struct Patient;

impl Agent for Patient {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let seconds = message.text().and_then(|text| text.parse().ok()).unwrap_or_default();
            let slow = async {
                pause(Duration::from_secs(seconds)).await;
                Ok::<_, String>(seconds)
            };
            let nothing = json!({});
            let quick = run.tool("quick", &nothing, async { Ok::<_, String>(1) });
            let (slow, quick) = tokio::join!(run.tool("slow", &nothing, slow), quick);
            if slow.is_ok() && quick.is_ok() {
                let _ = run.complete(json!({ "text": "done" })).await;
            }
        })
    }
}

/// The end of the slow tool, and of the run, as the stream has them.
async fn ends(ada: &mut lockstep::testing::TestClient) -> (Value, Value) {
    let mut events = ada.until("tool_executing").await;
    while !matches!(events.last().and_then(|event| event["type"].as_str()), Some("agent_completed" | "agent_error")) {
        events.push(ada.next().await);
    }
    let of_slow = |event: &&Value| event["type"] == "tool_completed" && event["data"]["name"] == "slow";
    let tool = events.iter().find(of_slow).expect("an end of the slow tool, with its name");
    (tool["data"].clone(), events.last().expect("an end")["data"].clone())
}

/// RUN-1: a tool that its run did not wait for is named, with the reason why it has no result.
#[tokio::test(start_paused = true)]
async fn a_tool_that_was_open_at_the_end_is_named_with_the_cause() {
    let manager = Watched::of(Patient);
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    ada.say(&message("m1", "300").to_string());
    let begun = ada.until("agent_started").await;
    let _ = ada.until("tool_completed").await;
    ada.say(&json!({ "type": "cancel", "run_id": begun[0]["run_id"] }).to_string());
    let closed = ada.until("tool_completed").await;
    let data = &closed.last().expect("an end")["data"];
    let error = "the run was cancelled before the tool returned";
    assert_eq!([&data["name"], &data["status"], &data["error"]], ["slow", "abandoned", error]);
    assert_eq!(ada.until("agent_error").await[0]["data"]["reason"], "cancelled");
}

/// LIVE-2: a tool may execute for longer than an agent may be silent, and no run lives forever.
#[tokio::test(start_paused = true)]
async fn a_tool_that_executes_is_no_silence() {
    let manager = Watched::of(Patient);
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    ada.say(&message("m1", "300").to_string());
    let (tool, end) = ends(&mut ada).await;
    assert_eq!((&tool["result"], &end["text"]), (&json!(300), &json!("done")));
    ada.say(&message("m2", "10000").to_string());
    let (tool, end) = ends(&mut ada).await;
    let error = "the agent and the tool were silent for too long";
    assert_eq!((&tool["error"], &end["reason"]), (&json!(error), &json!("silent")));
}

/// Reports that it is alive, and nothing else.
struct Alive;

impl Agent for Alive {
    fn answer(&self, _: Message, run: Run) -> BoxFuture<'static, ()> {
        Box::pin(async move { run.alive_during(core::future::pending()).await })
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_alive_for_ever_is_ended_when_its_time_is_up() {
    let manager = Watched::of(Alive);
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    let began = tokio::time::Instant::now();
    ada.say(&message("m1", "hello").to_string());
    // Her credential expires before the run's deadline.
    ada.until("close").await;
    let (mut again, _) = manager.live("ada", json!("earliest")).await;
    assert_eq!(again.until("agent_error").await.last().expect("an end")["data"]["reason"], "timed_out");
    assert!(began.elapsed() >= Bounds::DEFAULT.deadline);
}

/// Drops its run handle, or panics.
struct Careless;

impl Agent for Careless {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let nothing = json!({});
            let open = run.tool("stuck", &nothing, core::future::pending::<Result<u8, String>>());
            let _ = tokio::time::timeout(Duration::from_secs(1), open).await;
            assert!(message.text().as_deref() != Some("panic"), "an agent may panic");
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_gone_leaves_no_open_tool_and_no_open_run() {
    let manager = Watched::of(Careless);
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    for (id, text) in [("m1", "drop"), ("m2", "panic")] {
        ada.say(&message(id, text).to_string());
        let events = ada.until("agent_error").await;
        let expected = ["message_received", "agent_started", "tool_executing", "tool_completed", "agent_error"];
        assert_eq!(kinds(&events), expected);
        assert_eq!(events[3]["data"]["status"], "failure");
        assert_eq!(events[4]["data"]["reason"], "abandoned");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_is_found_by_either_heartbeat() {
    let manager = Watched::of(Echo);
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    let began = tokio::time::Instant::now();
    assert_eq!(ada.receive().await, Some(Outgoing::Ping));
    ada.send(Incoming::Alive);
    assert_eq!(ada.receive().await, Some(Outgoing::Ping));
    assert_eq!(ada.next().await, json!({ "type": "close", "code": 4002 }));
    assert!(began.elapsed() >= 3 * Bounds::DEFAULT.idle);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_credential_is_closed_and_so_is_a_rejected_one() {
    let manager = Watched::of(Echo);
    let mut anonymous = manager.connect();
    assert_eq!(anonymous.next().await, json!({ "type": "close", "code": 4504 }));
    for (token, code) in [("rejected", 4500), ("unavailable", 4003)] {
        let mut stranger = manager.connect();
        stranger.say(&json!({ "type": "auth", "token": token }).to_string());
        assert_eq!(stranger.next().await, json!({ "type": "close", "code": code }));
    }
    let opening = Opening::new(Codec::V1);
    let mut binary = manager.open(opening);
    binary.send(Incoming::Binary(vec![0].into()));
    assert_eq!(binary.next().await, json!({ "type": "close", "code": 1003 }));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_user_is_closed_and_a_drain_tells_every_client_and_ends() {
    let manager = Watched::of(Echo);
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    let (mut bob, _) = manager.live("bob", json!("latest")).await;
    manager.user("ada").revoke().await.expect("revoked");
    assert_eq!(ada.next().await, json!({ "type": "close", "code": 4502 }));
    assert_eq!(manager.user("ada").connections().await, 0);
    assert_eq!(manager.user("bob").connections().await, 1);
    let drained = tokio::spawn({
        let manager = manager.clone();
        async move { manager.drain().await }
    });
    let going = bob.until("going_away").await;
    let after = going.last().and_then(|going| going["reconnect_after_ms"].as_u64());
    assert!(after > Some(0), "{going:?}");
    assert_eq!(bob.until("close").await.last().map(|close| close["code"].clone()), Some(json!(4000)));
    bob.cut();
    drained.await.expect("drained");
    let health = manager.health();
    // The gateway does not wait for a peer that has not answered the close by then.
    assert!(health.stopped && health.sessions == 0 && health.connections <= 1, "{health:?}");
}
