//! RUN-5: an agent that asks the user for something goes on with the first reply, from any connection, once, in this
//! process or the next.

use std::time::Duration;

use lockstep::BoxFuture;
use lockstep::agent::{Agent, Message, Paused, Run, Step};
use lockstep::testing::TestClient;
use lockstep_model::Bounds;
use lockstep_tests::history::History;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::hostile::client::message;
use crate::hostile::starts::{Folder, Process, gateway, settings, token};
use crate::judged::Watched;
use crate::restarts::{next_process, resumes};

/// Says a word, calls a tool, and asks; with the reply, the same again. It asks as often as its message says.
struct Asks;

impl Agent for Asks {
    fn answer(&self, _: Message, run: Run) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            work(&run).await;
            let _ = run.pause(json!({ "message": "1?" })).await;
        })
    }

    fn resume(&self, paused: Paused, run: Run) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let asked = paused.turn.steps.iter().filter(|step| matches!(step, Step::Asked(_))).count();
            let times = paused.message.text().and_then(|text| text.parse().ok()).unwrap_or(1);
            work(&run).await;
            if asked < times {
                let _ = run.pause(json!({ "message": format!("{}?", asked + 1) })).await;
                return;
            }
            let said: Value = json!({
                "subject": &*paused.message.subject, "id": &*paused.message.id, "text": paused.message.text(),
                "request": paused.request, "reply": paused.reply, "steps": paused.turn.steps.len(),
            });
            let _ = run.complete(said).await;
        })
    }
}

async fn work(run: &Run) {
    let _ = run.text("Hm.").await;
    let _ = run.tool("clock", &json!({}), async { Ok::<_, String>(12) }).await;
}

fn gateway_within(bounds: &Bounds) -> Watched {
    Watched::within(bounds, Asks, History::in_memory(), |builder| builder)
}

fn reply(run: &Value, pause: u32, payload: &Value) -> String {
    json!({ "type": "reply", "run_id": run, "pause": pause, "payload": payload }).to_string()
}

async fn last(peer: &mut TestClient, kind: &str) -> Value {
    let frames = peer.until(kind).await;
    frames.last().filter(|frame| frame["type"] == kind).unwrap_or_else(|| panic!("no {kind}: {frames:?}")).clone()
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_reply_from_any_connection_resumes_the_run_once() {
    let manager = gateway_within(&Bounds::DEFAULT);
    let (mut desk, _) = manager.live("ada", json!("latest")).await;
    let (mut phone, _) = manager.live("ada", json!("latest")).await;
    let (bob, _) = manager.live("bob", json!("latest")).await;
    desk.say(&message("m", "1").to_string());
    let mut events = desk.until("agent_paused").await;
    let paused = events.last().expect("paused").clone();
    assert_eq!(paused["data"], json!({ "pause": 1, "request": { "message": "1?" } }));
    // Another user's reply names a run that this user does not have.
    let mut bob = bob;
    bob.say(&reply(&paused["run_id"], 1, &json!("mine")));
    assert_eq!(last(&mut bob, "error").await["code"], "unknown_run", "ISO-1");
    for wrong in [0, 2] {
        desk.say(&reply(&paused["run_id"], wrong, &json!("x")));
        assert_eq!(last(&mut desk, "error").await["code"], "not_paused");
    }
    phone.until("agent_paused").await;
    phone.say(&reply(&paused["run_id"], 1, &json!({ "yes": [1] })));
    let resumed = last(&mut phone, "agent_resumed").await;
    assert_eq!(resumed["data"], json!({ "pause": 1, "reply": { "yes": [1] } }));
    desk.say(&reply(&paused["run_id"], 1, &json!("too late")));
    events.extend(desk.until("agent_completed").await);
    let answer = &events.last().expect("an answer")["data"];
    assert_eq!((&answer["subject"], &answer["id"], &answer["text"]), (&json!("ada"), &json!("m"), &json!("1")));
    assert_eq!((&answer["request"], &answer["reply"]), (&json!({ "message": "1?" }), &json!({ "yes": [1] })));
    assert_eq!(answer["steps"], 3, "a text, a tool and the question");
    assert_eq!(of(&events, "agent_resumed").len(), 1);
    assert_eq!(of(&events, "agent_started").len(), 1, "it has started once");
    // The second agent counts on from the first.
    let parts: Vec<&Value> = of(&events, "agent_delta").iter().map(|event| &event["data"]["part"]).collect();
    let tools: Vec<&Value> = of(&events, "tool_executing").iter().map(|event| &event["data"]["tool_id"]).collect();
    assert_eq!((parts, tools), (vec![&json!(1), &json!(2)], vec![&json!("t1"), &json!("t2")]));
    let late = events.iter().find(|event| event["type"] == "error");
    let code = match late {
        Some(late) => late["code"].clone(),
        None => last(&mut desk, "error").await["code"].clone(),
    };
    assert!(code == "not_paused" || code == "unknown_run", "{code}");
}

#[tokio::test(start_paused = true)]
async fn a_reply_to_an_earlier_question_does_not_answer_the_next() {
    let manager = gateway_within(&Bounds::DEFAULT);
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    ada.say(&message("m", "2").to_string());
    let run = last(&mut ada, "agent_paused").await["run_id"].clone();
    ada.say(&reply(&run, 1, &json!("one")));
    let second = last(&mut ada, "agent_paused").await;
    assert_eq!(second["data"], json!({ "pause": 2, "request": { "message": "2?" } }));
    ada.say(&reply(&run, 1, &json!("one, again")));
    assert_eq!(last(&mut ada, "error").await["code"], "not_paused");
    ada.say(&reply(&run, 2, &json!("two")));
    let answer = last(&mut ada, "agent_completed").await;
    assert_eq!((&answer["data"]["reply"], &answer["data"]["steps"]), (&json!("two"), &json!(6)));
}

#[tokio::test(start_paused = true)]
async fn a_paused_run_can_be_cancelled_and_takes_no_reply_afterwards() {
    let manager = gateway_within(&Bounds::DEFAULT);
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    ada.say(&message("m", "1").to_string());
    let run = last(&mut ada, "agent_paused").await["run_id"].clone();
    ada.say(&json!({ "type": "cancel", "run_id": run }).to_string());
    ada.say(&reply(&run, 1, &json!("x")));
    let frames = ada.until("error").await;
    assert_eq!(frames.last().expect("an error")["code"], "unknown_run");
    let ended = match of(&frames, "agent_error").first() {
        Some(ended) => (*ended).clone(),
        None => last(&mut ada, "agent_error").await,
    };
    assert_eq!(ended["data"]["reason"], "cancelled");
}

/// An agent that asked is not silent, however long the user takes, and the time for the reply is its own.
#[tokio::test(start_paused = true)]
async fn a_question_waits_longer_than_any_agent_may_and_ends_without_a_reply() {
    let bounds = Bounds { pause: Duration::from_secs(3_000), failures: 1, ..Bounds::DEFAULT };
    let manager = gateway_within(&bounds);
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    ada.say(&message("m", "1").to_string());
    last(&mut ada, "agent_paused").await;
    let began = Instant::now();
    let ended = last(&mut ada, "agent_error").await;
    assert_eq!(ended["data"]["reason"], "no_reply");
    assert!(began.elapsed() >= bounds.pause, "after {:?}", began.elapsed());
    // The user's absence is no failure of the agents, so the breaker is closed.
    ada.say(&message("n", "1").to_string());
    last(&mut ada, "agent_paused").await;
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_no_replies_say_which_field_is_wrong() {
    let manager = gateway_within(&Bounds::DEFAULT);
    let (mut ada, _) = manager.live("ada", json!("latest")).await;
    for wrong in [
        json!({ "type": "reply" }),
        json!({ "type": "reply", "run_id": "0000000000000001", "pause": 1 }),
        json!({ "type": "reply", "run_id": "0000000000000001", "payload": 1 }),
        json!({ "type": "reply", "run_id": "0000000000000001", "pause": 4_294_967_296_u64, "payload": 1 }),
        json!({ "type": "reply", "run_id": "xyz", "pause": 1, "payload": 1 }),
    ] {
        ada.say(&wrong.to_string());
        assert_eq!(last(&mut ada, "error").await["code"], "invalid_field", "{wrong}");
    }
}

/// The built-in agent asks before it calculates; the process ends in between, orderly or not.
#[tokio::test]
async fn a_question_outlives_the_process_that_asked_it() {
    for killed in [false, true] {
        let folder = Folder::new();
        let file = settings(&folder, "", "[agent]\npace_ms = 0");
        let mut process = Process::start(gateway(), &file);
        let address = process.address().await;
        let ada = token("ada");
        let (mut client, ready) = resumes(address, &ada, json!("latest")).await;
        let asked = json!({ "text": "ask me, then 6 * 7" });
        client.say(&json!({ "type": "user_message", "message_id": "m", "thread_id": "t", "payload": asked })).await;
        let paused = client.until("agent_paused").await.pop().expect("a question");
        assert_eq!(paused["data"]["request"]["asks"][0]["tool"], "calculator", "{paused}");
        drop(client);
        let began = std::time::Instant::now();
        let (process, address) = next_process(process, &file, killed).await;
        assert!(began.elapsed() < Duration::from_secs(20), "the node does not wait for the user");
        let place = json!({ "epoch": ready["epoch"], "offset": paused["offset"] });
        let (mut client, ready) = resumes(address, &ada, place).await;
        assert_eq!(ready["head"], paused["offset"], "killed: {killed}: nothing has ended the run");
        let approved = json!({ "answers": { "0": { "approved": true } } });
        client.say(&json!({ "type": "reply", "run_id": paused["run_id"], "pause": 1, "payload": approved })).await;
        let events = client.until("agent_completed").await;
        assert_eq!(events[0]["type"], "agent_resumed", "{events:?}");
        let text = events.last().expect("an answer")["data"]["text"].as_str().expect("text").to_owned();
        assert!(text.contains("42"), "killed: {killed}: {text}");
        drop(client);
        process.terminate().await;
    }
}
