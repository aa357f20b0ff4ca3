//! RUN-4: the answers in a thread are sequential under each policy, across a restart, and a queued message can be taken
//! back.

use std::sync::Arc;
use std::time::Duration;

use lockstep::BoxFuture;
use lockstep::agent::{Agent, Message, Run};
use lockstep::testing::TestClient;
use lockstep_model::{Bounds, Concurrency};
use lockstep_tests::history::History;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::agents::pause;
use crate::hostile::client::{Client, message};
use crate::hostile::starts::{Folder, Process, gateway, settings, token};
use crate::judged::Watched;

/// Answers once it has a permit, with the thread's earlier messages and the number of turns in each answer.
struct Recalls(Arc<Semaphore>);

impl Agent for Recalls {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        let permits = Arc::clone(&self.0);
        Box::pin(async move {
            permits.acquire().await.expect("open").forget();
            let before: Vec<Value> = run
                .history(100)
                .await
                .iter()
                .map(|turn| {
                    let message: Value = serde_json::from_str(turn.message.get()).expect("JSON");
                    json!([message["text"], turn.answer().is_some()])
                })
                .collect();
            let text = message.text().unwrap_or_default();
            let _ = run.complete(json!({ "text": text, "before": before })).await;
        })
    }
}

fn recalls(permits: usize) -> (Recalls, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(permits));
    (Recalls(Arc::clone(&permits)), permits)
}

fn under(concurrency: Concurrency, agent: Recalls) -> Watched {
    let bounds = Bounds { concurrency, ..Bounds::DEFAULT };
    Watched::within(&bounds, agent, History::in_memory(), |builder| builder)
}

/// A user of a gateway with this policy, whose answers wait for permits, and its `connection_ready`.
async fn ada_under(concurrency: Concurrency) -> (Watched, Arc<Semaphore>, TestClient, Value) {
    let (agent, permits) = recalls(0);
    let manager = under(concurrency, agent);
    let (ada, ready) = manager.live("ada", json!("latest")).await;
    (manager, permits, ada, ready)
}

fn say(peer: &mut TestClient, id: &str) {
    peer.say(&message(id, id).to_string());
}

/// The frames up to the `times`-th of this kind.
async fn until(peer: &mut TestClient, kind: &str, times: usize) -> Vec<Value> {
    let mut seen = Vec::new();
    for _ in 0..times {
        seen.extend(peer.until(kind).await);
    }
    seen
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

/// These events' runs, in order.
fn runs<'a>(events: &[&'a Value]) -> Vec<&'a Value> {
    events.iter().map(|event| &event["run_id"]).collect()
}

#[tokio::test(start_paused = true)]
async fn a_burst_in_one_thread_is_answered_one_after_another() {
    let (agent, _) = recalls(12);
    let manager = under(Concurrency::Queue, agent);
    let (mut ada, ready) = manager.live("ada", json!("latest")).await;
    assert_eq!((&ready["limits"]["concurrency"], &ready["limits"]["queued"]), (&json!("queue"), &json!(16)));
    let names: Vec<String> = (0..12).map(|number| format!("m{number}")).collect();
    for name in &names {
        say(&mut ada, name);
    }
    let events = until(&mut ada, "agent_completed", 12).await;
    let received = of(&events, "message_received");
    let queued: Vec<bool> = received.iter().map(|event| event["data"]["queued"] == true).collect();
    assert_eq!(queued, [&[false][..], &[true; 11]].concat());
    let begun_and_ended: Vec<&Value> =
        events.iter().filter(|event| event["type"] == "agent_started" || event["type"] == "agent_completed").collect();
    for (pair, of_message) in begun_and_ended.chunks(2).zip(&received) {
        assert_eq!(runs(pair), [&of_message["run_id"]; 2], "no run overlaps another");
        assert_eq!((&pair[0]["type"], &pair[1]["type"]), (&json!("agent_started"), &json!("agent_completed")));
    }
    for (number, answer) in of(&events, "agent_completed").into_iter().enumerate() {
        let before: Vec<Value> = names[..number].iter().map(|name| json!([name, true])).collect();
        assert_eq!((&answer["data"]["text"], &answer["data"]["before"]), (&json!(names[number]), &json!(before)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_waits_can_be_taken_back_and_was_never_said() {
    let (_manager, permits, mut ada, _) = ada_under(Concurrency::Queue).await;
    for name in ["one", "two", "three"] {
        say(&mut ada, name);
    }
    let events = until(&mut ada, "message_received", 3).await;
    let received = of(&events, "message_received");
    let [one, two, three] = runs(&received)[..] else { panic!("{received:?}") };
    ada.say(&json!({ "type": "cancel", "run_id": two }).to_string());
    let end = ada.until("agent_error").await.pop().expect("an end");
    assert_eq!((&end["run_id"], &end["data"]["reason"]), (two, &json!("cancelled")));
    permits.add_permits(3);
    let answers = until(&mut ada, "agent_completed", 2).await;
    assert!(answers.iter().all(|event| event["run_id"] != *two), "its message never runs");
    let answers = of(&answers, "agent_completed");
    assert_eq!(runs(&answers), [one, three]);
    assert_eq!(answers[1]["data"]["before"], json!([["one", true]]));
    ada.say(&json!({ "type": "cancel", "run_id": two }).to_string());
    assert_eq!(ada.until("error").await.pop().expect("an error")["code"], "unknown_run");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_refused_and_another_thread_is_free() {
    let (agent, permits) = recalls(0);
    let bounds = Bounds { queued: 1, ..Bounds::DEFAULT };
    let manager = Watched::within(&bounds, agent, History::in_memory(), |builder| builder);
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    for name in ["one", "two", "three"] {
        say(&mut ada, name);
    }
    let refused = ada.until("error").await.pop().expect("an error");
    assert_eq!((&refused["code"], &refused["message_id"]), (&json!("queue_full"), &json!("three")));
    let mut apart = message("four", "four");
    apart["thread_id"] = json!("u");
    ada.say(&apart.to_string());
    until(&mut ada, "agent_started", 2).await;
    permits.add_permits(3);
    until(&mut ada, "agent_completed", 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_rejects_takes_one_message_at_a_time() {
    let (_manager, permits, mut ada, _) = ada_under(Concurrency::Reject).await;
    say(&mut ada, "one");
    say(&mut ada, "two");
    let refused = ada.until("error").await.pop().expect("an error");
    assert_eq!((&refused["code"], &refused["message_id"]), (&json!("thread_busy"), &json!("two")));
    permits.add_permits(2);
    ada.until("agent_completed").await;
    say(&mut ada, "two");
    assert_eq!(ada.until("agent_completed").await.pop().expect("an answer")["data"]["text"], "two");
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_is_interrupted_answers_the_newest_message() {
    let (_manager, permits, mut ada, _) = ada_under(Concurrency::Interrupt).await;
    say(&mut ada, "one");
    let first = ada.until("agent_started").await;
    say(&mut ada, "two");
    let end = ada.until("agent_error").await.pop().expect("an end");
    assert_eq!((&end["run_id"], &end["data"]["reason"]), (&first[0]["run_id"], &json!("cancelled")));
    ada.until("agent_started").await;
    permits.add_permits(2);
    assert_eq!(ada.until("agent_completed").await.pop().expect("an answer")["data"]["text"], "two");
}

#[tokio::test(start_paused = true)]
async fn a_parallel_thread_answers_all_at_once() {
    let (_manager, permits, mut ada, ready) = ada_under(Concurrency::Parallel).await;
    assert_eq!(ready["limits"]["concurrency"], "parallel");
    say(&mut ada, "one");
    say(&mut ada, "two");
    let events = until(&mut ada, "agent_started", 2).await;
    assert!(of(&events, "message_received").iter().all(|event| event["data"].get("queued").is_none()));
    pause(Duration::from_secs(1)).await;
    permits.add_permits(2);
    until(&mut ada, "agent_completed", 2).await;
}

/// A killed process leaves its queue to the next one, which answers each message once, in order.
#[tokio::test]
async fn what_waits_survives_a_crash_and_runs_once() {
    let folder = Folder::new();
    let file = settings(&folder, "", "[agent]\npace_ms = 60000");
    let mut process = Process::start(gateway(), &file);
    let address = process.address().await;
    let ada = token("ada");
    let mut client = Client::upgraded(address, &[]).await;
    client.say(&json!({ "type": "auth", "token": ada, "resume": "latest" })).await;
    let ready = client.next().await;
    let names = ["one", "two", "three", "four"];
    for name in names {
        client.say(&message(name, name)).await;
    }
    let mut events = client.until("message_received").await;
    for _ in 1..names.len() {
        events.extend(client.until("message_received").await);
    }
    let received = of(&events, "message_received");
    let ids: Vec<Value> = runs(&received).into_iter().cloned().collect();
    client.say(&json!({ "type": "cancel", "run_id": ids[2] })).await;
    client.until("agent_error").await;
    drop(client);

    settings(&folder, "", "[agent]\npace_ms = 0");
    let mut process = process.replaced(gateway(), &file).await;
    let mut client = Client::upgraded(process.address().await, &[]).await;
    let origin = json!({ "epoch": ready["epoch"], "offset": 0 });
    client.say(&json!({ "type": "auth", "token": ada, "resume": origin })).await;
    let mut events = client.until("agent_completed").await;
    events.extend(client.until("agent_completed").await);
    let ends = |run: &Value| {
        let own = events.iter().filter(|event| event["run_id"] == *run);
        let told =
            own.filter(|event| ["agent_started", "agent_completed", "agent_error"].iter().any(|k| event["type"] == *k));
        told.map(|event| (event["type"].as_str().expect("a type"), event["data"]["reason"].as_str()))
            .collect::<Vec<_>>()
    };
    assert_eq!(ends(&ids[0]), [("agent_started", None), ("agent_error", Some("interrupted"))], "it was under way");
    assert_eq!(ends(&ids[1]), [("agent_started", None), ("agent_completed", None)]);
    assert_eq!(ends(&ids[2]), [("agent_error", Some("cancelled"))], "it was taken back");
    assert_eq!(ends(&ids[3]), [("agent_started", None), ("agent_completed", None)]);
    let answered = of(&events, "agent_completed");
    assert_eq!(runs(&answered), [&ids[1], &ids[3]]);
    drop(client);
    process.terminate().await;
}
