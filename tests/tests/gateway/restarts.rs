//! What a client finds when it returns to the next process: its stream from the first event on, its threads, and
//! answers to the messages it is unsure of (STR-1, STR-2, RUN-2).

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::hostile::client::Client;
use crate::hostile::starts::{Folder, Process, gateway, settings, token};

/// Sends a message in `thread` and returns all events of its run.
async fn says(client: &mut Client, thread: &str, id: &str, text: &str) -> Vec<Value> {
    let payload = json!({ "text": text });
    client.say(&json!({ "type": "user_message", "message_id": id, "thread_id": thread, "payload": payload })).await;
    client.until("agent_completed").await
}

/// Ada's connection, which reads on from `resume`, and its `connection_ready`.
pub(crate) async fn resumes(address: SocketAddr, token: &str, resume: Value) -> (Client, Value) {
    let mut client = Client::upgraded(address, &[]).await;
    client.say(&json!({ "type": "auth", "token": token, "resume": resume })).await;
    let ready = client.next().await;
    assert_eq!(ready["type"], "connection_ready", "{ready}");
    (client, ready)
}

/// The next process on the same data, after the first was killed or terminated.
pub(crate) async fn next_process(process: Process, file: &Path, killed: bool) -> (Process, SocketAddr) {
    let mut process = if killed {
        process.replaced(gateway(), file).await
    } else {
        process.terminate().await;
        Process::start(gateway(), file)
    };
    let address = process.address().await;
    (process, address)
}

/// The events as a reader that was away gets them: consecutive pieces of a part are joined.
fn joined(events: &[Value]) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for event in events {
        let grows = |last: &&mut Value| {
            last["type"] == "agent_delta"
                && event["type"] == "agent_delta"
                && (&last["run_id"], &last["data"]["part"]) == (&event["run_id"], &event["data"]["part"])
        };
        match all.last_mut().filter(grows) {
            Some(last) => {
                let text = [&*last, event].map(|event| event["data"]["text"].as_str().expect("a text")).concat();
                let previous = last["previous"].take();
                *last = event.clone();
                (last["previous"], last["data"]["text"]) = (previous, text.into());
            }
            None => all.push(event.clone()),
        }
    }
    all
}

#[tokio::test]
async fn a_client_that_comes_back_to_the_next_process_finds_its_stream_its_threads_and_its_messages() {
    for killed in [false, true] {
        let folder = Folder::new();
        let file = settings(&folder, "", "[agent]\npace_ms = 0");
        let mut process = Process::start(gateway(), &file);
        let address = process.address().await;
        let ada = token("ada");
        let (mut client, first) = resumes(address, &ada, json!("latest")).await;
        assert_eq!((&first["offset"], &first["head"]), (&json!(0), &json!(0)), "nothing was said yet");
        let mut events = says(&mut client, "cats", "m1", "a cat").await;
        assert!(events.iter().all(|event| event["thread_id"] == "cats"), "{events:?}");
        events.extend(says(&mut client, "dogs", "m2", "a dog").await);
        drop(client);

        let (process, address) = next_process(process, &file, killed).await;
        // Offset 0 is a valid position, although no event has it.
        let origin = json!({ "epoch": first["epoch"], "offset": 0 });
        let (mut client, ready) = resumes(address, &ada, origin).await;
        assert_eq!((&ready["epoch"], &ready["resumed"]), (&first["epoch"], &json!(true)), "{ready}");
        assert_eq!((&ready["offset"], &ready["head"]), (&json!(0), &events.last().expect("an event")["offset"]));
        for event in joined(&events) {
            assert_eq!(client.next().await, event, "killed: {killed}");
        }
        // The client does not know that its first message was answered.
        let repeated = json!({ "type": "user_message", "message_id": "m1", "thread_id": "cats", "payload": {} });
        client.say(&repeated).await;
        let known = client.next().await;
        assert_eq!((&known["type"], &known["message_id"]), (&json!("message_known"), &json!("m1")));
        assert_eq!((&known["run_id"], &known["offset"]), (&events[0]["run_id"], &events[0]["offset"]), "RUN-2");
        let answer = says(&mut client, "dogs", "m3", "what did I say before?").await;
        let text = answer.last().expect("an answer")["data"]["text"].as_str().expect("text").to_owned();
        assert!(text.contains("a dog") && !text.contains("a cat"), "killed: {killed}: {text}");
        drop(client);

        // The events of both processes, once more.
        let (process, address) = next_process(process, &file, killed).await;
        let (mut client, _) = resumes(address, &ada, json!({ "epoch": first["epoch"], "offset": 0 })).await;
        events.extend(answer);
        for event in joined(&events) {
            assert_eq!(client.next().await, event, "killed: {killed}");
        }
        drop(client);
        process.terminate().await;
    }
}
