//! The past: readers that were away for longer than the gateway's memory reaches, and what a retention policy deletes.

use serde_json::{Value, json};

use crate::hostile::client::Client;
use crate::hostile::starts::{Folder, Process, gateway, settings};
use crate::threads::{SMALL, answered, connected, say};
use crate::wire::{V1_SERVER, conforming};

fn offset(event: &Value) -> u64 {
    event["offset"].as_u64().expect("an offset")
}

/// The events' content with an answer's pieces joined, so that it does not depend on how the answer was cut.
fn content(events: &[Value], after: u64) -> Vec<Value> {
    let mut content: Vec<Value> = Vec::new();
    for event in events.iter().filter(|event| event["offset"].as_u64().is_some_and(|offset| offset > after)) {
        let mut event = event.clone();
        let of = |event: &Value| (event["type"].clone(), event["run_id"].clone(), event["data"]["part"].clone());
        if let Some(last) = content.last_mut()
            && event["type"] == "agent_delta"
            && of(last) == of(&event)
        {
            let text = [&last["data"]["text"], &event["data"]["text"]].map(|text| text.as_str().expect("a text"));
            event["data"]["text"] = json!(text.concat());
            *last = event;
        } else {
            content.push(event);
        }
    }
    for event in &mut content {
        let event = event.as_object_mut().expect("an object");
        event.remove("previous");
        // A joined part has the timestamp of its newest piece, which depends on when it was read.
        event.remove("timestamp");
    }
    content
}

/// Reads through an offset, and asserts that each event is linked to the one before it.
async fn read(client: &mut Client, from: u64, through: u64) -> Vec<Value> {
    let (mut events, mut at) = (Vec::new(), from);
    while at < through {
        let event = conforming(&V1_SERVER, &client.next().await.to_string());
        assert_ne!(event["type"], "stream_reset", "{event}");
        if event["offset"].is_u64() && event["previous"].is_u64() {
            assert_eq!(event["previous"], at, "{event}");
            at = offset(&event);
            events.push(event);
        }
    }
    events
}

/// STR-3, black-box: from each position a reader may have, inside an answer too, from memory and after a crash.
#[tokio::test]
async fn a_reader_that_was_away_reads_all_that_it_has_missed() {
    let folder = Folder::new();
    let file = settings(&folder, "", SMALL);
    let mut process = Process::start(gateway(), &file);
    let mut address = process.address().await;
    let (mut ada, ready) = connected(address, "ada", json!("latest")).await;
    let mut seen = Vec::new();
    for turn in 0..6 {
        let thread = ["first", "second"][turn % 2];
        seen.extend(say(&mut ada, &format!("m{turn}"), thread, "how many words are in this sentence").await);
    }
    let events: Vec<Value> = seen.iter().filter(|event| event["previous"].is_u64()).cloned().collect();
    let end = offset(events.last().expect("events"));
    let places: Vec<u64> = events.iter().map(offset).step_by(7).chain([0]).collect();
    for crashed in [false, true] {
        if crashed {
            process.kill().await;
            process = Process::start(gateway(), &file);
            address = process.address().await;
        }
        for place in &places {
            let from = json!({ "epoch": ready["epoch"], "offset": place });
            let (mut back, ready) = connected(address, "ada", from).await;
            assert_eq!((&ready["resumed"], &ready["offset"]), (&json!(true), &json!(place)));
            let read = read(&mut back, *place, end).await;
            assert_eq!(content(&read, *place), content(&events, *place), "from {place}, crashed: {crashed}");
            assert!(read.len() <= events.len());
        }
    }
    process.terminate().await;
}

/// A policy deletes as the user would, and deletes no more than it must.
#[tokio::test]
async fn a_policy_deletes_the_conversations_that_were_left_longest() {
    let folder = Folder::new();
    let config = format!("{SMALL}\n[log]\nkeep_turns = 2\nkeep_look_s = 1");
    let mut process = Process::start(gateway(), &settings(&folder, "", &config));
    let address = process.address().await;
    let (mut ada, _) = connected(address, "ada", json!("latest")).await;
    for (turn, thread) in ["a", "b", "c", "d"].into_iter().enumerate() {
        say(&mut ada, &format!("m{turn}"), thread, "2+2").await;
    }
    let mut deleted: Vec<Value> = Vec::new();
    while deleted.len() < 2 {
        deleted.push(ada.until("thread_deleted").await.last().expect("an event")["thread_id"].clone());
    }
    deleted.sort_by_key(ToString::to_string);
    assert_eq!(deleted, ["a", "b"]);
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(1_500));
    ticks.tick().await;
    ticks.tick().await;
    let listed = answered(&mut ada, &json!({ "type": "list_threads", "request_id": "1" })).await;
    let left: Vec<&Value> = listed["threads"].as_array().expect("threads").iter().map(|of| &of["thread_id"]).collect();
    assert_eq!(left, ["d", "c"]);
    process.terminate().await;
}
